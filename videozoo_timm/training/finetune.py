"""Finetuning a video ViT on classes."""

import copy
import os
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..analysis.evaluation import check_head, check_same_classes, evaluate
from ..errors import UserError
from ..inference.pipeline import ProcessGroup, views_of
from ..inference.reporting import SILENT, Reporter, with_fields
from ..text import counted
from ..video import IN_THIS_PROCESS, RECOGNITION, Augmentation, ClassFolders, Reading, Sampling, seed_of
from ..video.transforms import RAND_AUGMENT
from .log import Log, read_log
from .loop import Hook, train
from .run_folder import BEST, MODEL, Keeping, save_model, writing
from .schedule import Schedule
from .stream import Batch

_LOGGED = ('files', 'failed', 'classes', 'top1', 'top5', 'loss')  # columns of validation.csv
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
    matched: bool = False,
    about: Mapping[str, Any] | None = None,
    reading: Reading = IN_THIS_PROCESS,
    reporter: Reporter = SILENT,
    **fields: Any,
) -> Path:
    """Train a classifier.

    Args:
        accelerator: The result of `make_accelerator`.
        model: A model with a head of as many classes as `files` has. Parameters that do not require gradients stay;
            adapters of `peft` are merged at the end.
        files: The result of `class_folders`.
        held_out: Files of the same classes for validation; None for no validation.
        schedule: The optimizer and its learning rate.
        keeping: What the run writes, where and when.
        batch_size: Views per batch, in each process.
        augmentation: Augmentation of the views.
        sampling: Time that a clip spans; the number of frames is the model's.
        mixup: Alpha of mixup; 0 for none.
        cutmix: Alpha of cutmix; 0 for none.
        smoothing: Label smoothing.
        validate_every: Steps between validations.
        seed: Random seed.
        matched: As in `Stream`.
        about: As in `train`.
        reading: How the files are read.
        reporter: As in `train`; its `progress` is called after each validation too, with `top1`.
        **fields: Fields of `reading` and `reporter` to replace.

    Returns:
        The trained model's file, `model.safetensors` in the folder. `best.safetensors` is the model of the best
        validation.

    Raises:
        ValueError: The classes of the model, `files` and `held_out` differ; and as `train`.
        FloatingPointError: The loss is not finite.
    """
    check_head(model)
    reading, reporter = with_fields(reading, reporter, fields)
    if validate_every < 1:
        raise ValueError(f'validate_every={validate_every}: must be at least 1')
    if hasattr(model, 'merge_and_unload') and accelerator.distributed_type == 'FSDP':
        raise ValueError(
            'low-rank adapters are merged at the end, which FSDP does not allow: use plain data parallelism'
        )
    if len(files.classes) != model.num_classes:
        raise ValueError(
            f'{files.folder} has {counted(len(files.classes), "class")}, the model has a head of {model.num_classes}'
        )
    if held_out is not None:
        check_same_classes(files, held_out)
    if matched:
        named = Counter((os.path.basename(path), t) for path, t in zip(files.paths, files.targets, strict=True))
        (name, target), number = named.most_common(1)[0]
        if number > 1:
            raise UserError(
                '{matched}: {} files of the class {!r} are named {!r}; one name is one scene, so each class may have '
                'it once',
                number,
                files.classes[target],
                name,
                matched=True,
            )
    views = views_of(model, sampling, augmentation=augmentation, seed=seed)
    about = dict(
        about or {},
        **augmentation.record,
        span=sampling.span,
        mixup=mixup,
        cutmix=cutmix,
        smoothing=smoothing,
        classes=files.classes,
        size=views.size,
        num_frames=views.sampling.num_frames,
    )
    criterion = _criterion(mixup, cutmix, smoothing, batch_size, len(files.classes))
    targets = torch.tensor(files.targets)

    def loss_of(model: nn.Module, batch: Batch) -> torch.Tensor:
        return criterion(model, batch.x, targets[batch.files].to(batch.x.device))

    from accelerate.utils import broadcast_object_list

    def once(tell: Callable[[str, str], Any]) -> Callable[[str, str], None]:
        told: set[str] = set()

        def tell_once(path: str, reason: str) -> None:
            if path not in told:  # each validation meets it again
                told.add(path)
                tell(path, reason)

        return tell_once

    reporter_of_validation = Reporter(report=once(reporter.report), lose=once(reporter.lose))

    def validate(step: int, model: nn.Module, held_out: ClassFolders) -> None:
        result = evaluate(
            model,
            held_out,
            views_of(model, sampling),
            batch_size=batch_size,
            team=_team(accelerator),
            reading=reading,
            reporter=reporter_of_validation,
        )
        is_best, summary = [False], result.summary()
        with writing(accelerator, keeping.folder / 'validation.csv'):
            if accelerator.is_main_process:
                with closing(Log(keeping.folder, step - 1, True, 'validation')) as log:
                    is_best = [all(result.top(1) > float(row['top1']) for row in read_log(log.path))]
                    log.add(dict(step=step, **{key: summary[key] for key in _LOGGED}))
        broadcast_object_list(is_best)
        if is_best[0]:
            save(model, BEST)
        reporter.progress(step, {'top1': result.top(1)})

    def save(model: nn.Module, name: str) -> None:
        if hasattr(model, 'merge_and_unload'):
            adapted: Any = copy.deepcopy(model)
            model = adapted.merge_and_unload()
            state_dict = model.state_dict()
        else:
            state_dict = accelerator.get_state_dict(model)
        save_model(accelerator, model, keeping.folder / name, files.classes, state_dict)

    hooks = [] if held_out is None else [Hook(validate_every, partial(validate, held_out=held_out))]
    train(
        accelerator,
        model,
        files.paths,
        views,
        loss_of,
        schedule,
        keeping,
        batch_size=batch_size,
        seed=seed,
        about=about,
        hooks=hooks,
        matched=matched,
        finish=lambda model: save(model, MODEL),
        reading=reading,
        reporter=reporter,
    )
    return keeping.folder / MODEL


def few_shots(files: ClassFolders, shots: int, seed: int = 0, matched: bool = False) -> ClassFolders:
    """A random sample of each class: of the seed and the files' names, so that another file moves one at most.

    Args:
        files: The result of `class_folders`.
        shots: Number of files per class.
        seed: Random seed.
        matched: Sample names that all classes have, and take these files of each class.

    Raises:
        ValueError: A class has fewer files.
    """
    if shots < 1:
        raise ValueError(f'shots={shots}: must be at least 1')
    if matched:
        common = matched_names(files)
        if len(common) < shots:
            raise ValueError(
                f'{files.folder} has {len(common)} names that all classes share, fewer than {shots} matched shots'
            )
        sampled = set(sorted(common, key=partial(seed_of, seed))[:shots])
        chosen = [k for k, path in enumerate(files.paths) if os.path.basename(path) in sampled]
        return files._replace(paths=[files.paths[k] for k in chosen], targets=[files.targets[k] for k in chosen])
    chosen = []
    for target, name in enumerate(files.classes):
        mine = [k for k, t in enumerate(files.targets) if t == target]
        if len(mine) < shots:
            raise ValueError(
                f'{files.folder} has {counted(len(mine), "file")} of the class {name!r}, fewer than {shots} shots'
            )
        chosen += sorted(sorted(mine, key=lambda k: seed_of(seed, files.paths[k]))[:shots])
    return files._replace(paths=[files.paths[k] for k in chosen], targets=[files.targets[k] for k in chosen])


def matched_names(files: ClassFolders) -> list[str]:
    """Names of files that every class has."""
    named = {(os.path.basename(path), target) for path, target in zip(files.paths, files.targets, strict=True)}
    return sorted(name for name, number in Counter(name for name, _ in named).items() if number == len(files.classes))


def freeze_all_but_head(model: nn.Module) -> None:
    """Freeze all parameters but those of the head and of the pooling before it."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(('head.', 'fc_norm.', 'attn_pool.')))


def add_lora(model: nn.Module, rank: int) -> nn.Module:
    """Add low-rank adapters (arXiv 2106.09685) to all linear layers of the blocks; they and the head are trained.

    Args:
        model: A ViT of this package with a head.
        rank: Rank of the adapters.

    Raises:
        ImportError: peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ImportError("low-rank adapters need peft: pip install 'videozoo-timm[lora]'") from error
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules=r'blocks\.\d+\.(attn\.(qkv|proj)|mlp\.fc[12])',
        modules_to_save=['head'],
    )
    return get_peft_model(model, config)


def _criterion(
    mixup: float,
    cutmix: float,
    smoothing: float,
    batch_size: int,
    num_classes: int,
) -> Callable[..., torch.Tensor]:
    from timm.data.mixup import Mixup
    from timm.loss.cross_entropy import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy

    if not mixup and not cutmix:
        plain = LabelSmoothingCrossEntropy(smoothing) if smoothing else nn.CrossEntropyLoss()
        return lambda model, x, targets: plain(model(x), targets)
    if batch_size % 2:
        raise UserError(
            '{batch_size}: mixup and cutmix pair clips, so it must be even, or {mixup} and {cutmix} turn them off',
            batch_size=batch_size,
            mixup=0,
            cutmix=0,
        )
    mix = Mixup(mixup_alpha=mixup, cutmix_alpha=cutmix, label_smoothing=smoothing, num_classes=num_classes)
    soft = SoftTargetCrossEntropy()

    def loss(model: nn.Module, x: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(1, -3)  # [B, C * T, H, W]: the same box is cut out of all frames
        mixed, targets = mix(flat, targets)
        return soft(model(mixed.view_as(x)), targets)

    return loss


def _team(accelerator: Any) -> ProcessGroup:
    """The processes that share a validation; where FSDP splits the model, each process validates on all files."""
    from accelerate.utils import DistributedType

    return ProcessGroup(alone=accelerator.distributed_type == DistributedType.FSDP)
