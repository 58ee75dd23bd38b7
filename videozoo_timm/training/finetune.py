"""Finetuning a video ViT on classes."""
import copy
import os
import random
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..analysis.evaluation import ClassFolders, check_head, check_same_classes, evaluate
from ..inference.pipeline import ProcessGroup, views_of
from ..video import RECOGNITION, Augmentation, Sampling
from ..video.transforms import RAND_AUGMENT
from .log import Log, read_log
from .loop import Hook, train
from .run_folder import BEST, MODEL, Keeping, save_model, writing
from .schedule import Schedule
from .stream import Batch

FIELD = Augmentation(auto_augment=RAND_AUGMENT)


def finetune(
        accelerator: Any,
        model: nn.Module,
        files: ClassFolders,
        held_out: ClassFolders | None,
        schedule: Schedule,
        keeping: Keeping,
        *,
        batch_size: int = 16,
        augmentation: Augmentation = FIELD,
        sampling: Sampling = RECOGNITION,
        mixup: float = 0.8,
        cutmix: float = 1.0,
        smoothing: float = 0.1,
        validate_every: int = 1000,
        seed: int = 0,
        **options: Any,
) -> Path:
    """Train a classifier.

    Args:
        accelerator: Of `make_accelerator`.
        model: A model with a head of as many classes as `files` has; parameters that do not require gradients stay, and
            adapters of `peft` are merged in the end.
        files: What `class_folders` finds.
        held_out: The same classes to validate on; None leaves validation out.
        schedule: How the weights change.
        keeping: What is written, and when.
        batch_size: Views a batch, in each process.
        augmentation: Of the views.
        sampling: Time between the frames; their number is the model's.
        mixup: Alpha of mixup; 0 for none.
        cutmix: Alpha of cutmix; 0 for none.
        smoothing: Of the labels.
        validate_every: Steps between validations.
        seed: Of everything that is random.
        **options: `about`, `matched`, `num_workers`, `time_limit`, `progress`, `report`, `say` of `train`.

    Returns:
        The trained model's file, `model.safetensors` in the folder; `best.safetensors` is that of the best validation.

    Raises:
        ValueError: Classes that do not fit; and as `train`.
        FloatingPointError: The loss is not finite.
    """
    check_head(model)
    if validate_every < 1:
        raise ValueError(f'validate_every={validate_every}: must be at least 1')
    if hasattr(model, 'merge_and_unload') and accelerator.distributed_type == 'FSDP':
        raise ValueError('adapters (--lora) are merged in the end, which a model in pieces (FSDP) cannot be: train '
                         'them with plain data parallelism')
    if len(files.classes) != model.num_classes:
        raise ValueError(
            f'{files.folder} has {len(files.classes)} classes, the model has a head of {model.num_classes}')
    if held_out is not None:
        check_same_classes(files, held_out)
    if options.get('matched'):
        named = Counter((os.path.basename(path), t) for path, t in zip(files.paths, files.targets, strict=True))
        (name, target), number = named.most_common(1)[0]
        if number > 1:
            raise ValueError(
                f'matched=True (--matched): {number} files of the class {files.classes[target]!r} are named {name!r}; '
                f'one name is one scene, so each class may have it once')
    views = views_of(model, sampling, augmentation=augmentation, seed=seed)
    about = dict(
        options.pop('about', {}), **vars(augmentation), span=sampling.span, mixup=mixup, cutmix=cutmix,
        smoothing=smoothing, classes=files.classes, size=views.size, num_frames=views.sampling.num_frames)
    criterion = _criterion(mixup, cutmix, smoothing, batch_size, len(files.classes))
    targets = torch.tensor(files.targets)

    def loss_of(model: nn.Module, batch: Batch) -> torch.Tensor:
        return criterion(model, batch.x, targets[batch.files].to(batch.x.device))

    from accelerate.utils import broadcast_object_list

    def report(path: str, reason: str) -> None:
        if path not in told:  # each validation meets it again
            told.add(path)
            options.get('report', lambda path, reason: None)(path, reason)

    told: set[str] = set()

    def validate(step: int, model: nn.Module) -> None:
        result = evaluate(
            model, held_out, views_of(model, sampling), batch_size=batch_size,
            team=_team(accelerator), num_workers=options.get('num_workers', 0),
            time_limit=options.get('time_limit', 60.0), report=report)
        is_best = [False]
        with writing(accelerator, keeping.folder / 'validation.csv'):
            if accelerator.is_main_process:
                with closing(Log(keeping.folder, step - 1, True, 'validation')) as log:
                    is_best = [all(result.top(1) > float(row['top1']) for row in read_log(log.path))]
                    log.add(dict(step=step, **result.summary()))
        broadcast_object_list(is_best)
        if is_best[0]:
            save(model, BEST)
        progress(step, {'top1': result.top(1)})

    def save(model: nn.Module, name: str) -> None:
        if hasattr(model, 'merge_and_unload'):
            model = copy.deepcopy(model).merge_and_unload()
            state_dict = model.state_dict()
        else:
            state_dict = accelerator.get_state_dict(model)
        save_model(accelerator, model, keeping.folder / name, files.classes, state_dict)

    progress: Callable[[int, dict[str, float]], Any] = options.get('progress', lambda step, row: None)
    hooks = [Hook(validate_every, validate)] if held_out is not None else []
    train(
        accelerator, model, files.paths, views, loss_of, schedule, keeping, batch_size=batch_size, seed=seed,
        about=about, hooks=hooks, finish=lambda model: save(model, MODEL), **options)
    return keeping.folder / MODEL


def few_shots(files: ClassFolders, shots: int, seed: int = 0, matched: bool = False) -> ClassFolders:
    """So many files of each class, drawn at random; with `matched` of the same names, which all classes have.

    Raises:
        ValueError: A class has fewer.
    """
    if shots < 1:
        raise ValueError(f'shots={shots}: must be at least 1')
    if matched:
        common = matched_names(files)
        if len(common) < shots:
            raise ValueError(
                f'{files.folder} has {len(common)} names that all classes share, fewer than {shots} matched shots')
        drawn = set(random.Random(f'{seed}').sample(common, shots))
        chosen = [k for k, path in enumerate(files.paths) if os.path.basename(path) in drawn]
        return files._replace(paths=[files.paths[k] for k in chosen], targets=[files.targets[k] for k in chosen])
    chosen = []
    for target, name in enumerate(files.classes):
        mine = [k for k, t in enumerate(files.targets) if t == target]
        if len(mine) < shots:
            raise ValueError(f'{files.folder} has {len(mine)} files of the class {name!r}, fewer than {shots} shots')
        chosen += sorted(random.Random(f'{seed} {name}').sample(mine, shots))
    return files._replace(paths=[files.paths[k] for k in chosen], targets=[files.targets[k] for k in chosen])


def matched_names(files: ClassFolders) -> list[str]:
    """Names of files that every class has."""
    named = {(os.path.basename(path), target) for path, target in zip(files.paths, files.targets, strict=True)}
    return sorted(name for name, number in Counter(name for name, _ in named).items() if number == len(files.classes))


def freeze_all_but_head(model: nn.Module) -> None:
    """Leave the head (and a pooling norm before it) to be trained, and nothing else."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(('head.', 'fc_norm.', 'attn_pool.')))


def add_lora(model: nn.Module, rank: int) -> nn.Module:
    """Low-rank adapters on all linear layers of the blocks, which are trained beside the head (arXiv 2106.09685).

    Raises:
        ImportError: peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ImportError("--lora needs peft: pip install 'videozoo-timm[lora]'") from error
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=r'blocks\.\d+\.(attn\.(qkv|proj)|mlp\.fc[12])',
        modules_to_save=['head'])
    return get_peft_model(model, config)


def _criterion(mixup, cutmix, smoothing, batch_size, num_classes) -> Callable[..., torch.Tensor]:
    from timm.data import Mixup
    from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
    if not mixup and not cutmix:
        plain = LabelSmoothingCrossEntropy(smoothing) if smoothing else nn.CrossEntropyLoss()
        return lambda model, x, targets: plain(model(x), targets)
    if batch_size % 2:
        raise ValueError(f'batch_size={batch_size}: mixup and cutmix pair clips, so it must be even (--mixup 0 '
                         f'--cutmix 0 leave them out)')
    mix = Mixup(mixup_alpha=mixup, cutmix_alpha=cutmix, label_smoothing=smoothing, num_classes=num_classes)
    soft = SoftTargetCrossEntropy()

    def loss(model: nn.Module, x: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(1, -3)  # [B, C * T, H, W]: what is cut out is cut out of all frames
        mixed, targets = mix(flat, targets)
        return soft(model(mixed.view_as(x)), targets)

    return loss


def _team(accelerator) -> ProcessGroup:
    """The processes that share a validation; where the model is in pieces all take part in all of it."""
    from accelerate.utils import DistributedType
    return ProcessGroup(alone=accelerator.distributed_type == DistributedType.FSDP)
