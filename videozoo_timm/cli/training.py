"""What pretrain and finetune share: their options, the model to train, progress and the last words."""

import functools
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..text import counted
from .base import family, option
from .loading import check_trainable, complain_of_dtype, load_trainable, pick_device
from .options import RECOGNITION_SPAN, ModelOptions, ReadingOptions, folder_option, span_option
from .output import bar_class, complain, echo, hidden, report
from .types import Choice, Count, Number

RAND_AUGMENT = 'rand-m7-n4-mstd0.5-inc1'  # `video.transforms.RAND_AUGMENT`, without its imports


@dataclass
class TrainingOptions:
    """How a model is trained, and what is kept of the run."""

    out: Path
    resume: bool
    force: bool
    epochs: float
    steps: int | None
    batch_size: int
    accumulate: int
    lr: float
    min_lr: float
    warmup: float
    weight_decay: float
    opt: str
    betas: tuple[float, float]
    clip_grad: float
    seed: int
    checkpoint_every: int
    keep: int
    log_every: int
    max_failed: float
    from_scratch: bool = False
    grad_checkpointing: bool = False


def training_options(
    out: str,
    lr: float,
    betas: tuple[float, float],
    clip_grad: float,
    epochs: float,
    weight_decay: float = 0.05,
    warmup: float = 0.05,
    of_the_zoo: bool = True,
) -> Callable[[Any], Any]:
    """How a model is trained; one of the zoo (`of_the_zoo`) from its weights, unless --from-scratch."""
    in_training = functools.partial(option, section='Training')
    scratch = option('--from-scratch', is_flag=True, section='Model', help='Start from random weights.')
    return family(
        'training',
        TrainingOptions,
        *([scratch] if of_the_zoo else []),
        folder_option(
            '--out', default=Path(out), section='Training', help='Folder for the model, checkpoints and logs.'
        ),
        in_training(
            '--resume',
            is_flag=True,
            instead_of='--force',
            help='Continue from the last checkpoint in DIR, if there is one.',
        ),
        in_training('--force', is_flag=True, help='Start over, even if DIR holds another run.'),
        in_training(
            '--epochs',
            type=float,
            default=epochs,
            metavar='N',
            instead_of='--steps',
            help='Passes over the training files.',
        ),
        in_training('--steps', type=Count(), metavar='N', help='Optimizer steps, instead of --epochs.'),
        in_training('--batch-size', type=Count(), default=16, metavar='N', help='Clips per batch, in each process.'),
        in_training('--accumulate', type=Count(), default=1, metavar='N', help='Batches per optimizer step.'),
        in_training('--lr', type=Number(0), default=lr, metavar='LR', help='Learning rate.'),
        in_training(
            '--min-lr',
            type=Number(0),
            default=0.0,
            metavar='LR',
            help='Learning rate at the end of its cosine schedule.',
        ),
        in_training(
            '--warmup',
            type=Number(0, 1),
            default=warmup,
            metavar='FRACTION',
            help='Fraction of the steps over which the learning rate warms up.',
        ),
        in_training(
            '--weight-decay',
            type=Number(0),
            default=weight_decay,
            metavar='WD',
            help='Weight decay; not applied to biases, norms, tokens and position embeddings.',
        ),
        in_training(
            '--opt',
            type=Choice(['adamw', 'muon']),
            default='adamw',
            help='Optimizer: AdamW; or Muon, beside AdamW at half its learning rate for embeddings, heads, biases and '
            'norms. Muon takes learning rates of about 0.01.',
        ),
        in_training(
            '--betas', type=Number(0, 1, below=True), nargs=2, default=betas, metavar='B1 B2', help='Betas of AdamW.'
        ),
        in_training(
            '--clip-grad',
            type=Number(0),
            default=clip_grad,
            metavar='NORM',
            help='Clip the gradient norm to this value; 0 disables clipping.',
        ),
        *(
            [in_training('--grad-checkpointing', is_flag=True, help='Recompute activations: less memory, more time.')]
            if of_the_zoo
            else []
        ),
        in_training('--seed', type=int, default=0, metavar='N', help='Random seed.'),
        in_training(
            '--checkpoint-every',
            type=Count(),
            default=500,
            metavar='STEPS',
            help='Save a checkpoint every so many steps.',
        ),
        in_training('--keep', type=Count(), default=2, metavar='N', help='Number of checkpoints to keep.'),
        in_training(
            '--log-every', type=Count(), default=10, metavar='STEPS', help='Write a row of log.csv every so many steps.'
        ),
        in_training(
            '--max-failed',
            type=Number(0, 1),
            default=0.1,
            metavar='FRACTION',
            help='Stop if more than this fraction of the files cannot be read.',
        ),
    )


@dataclass
class AugmentationOptions:
    """How clips are augmented."""

    span: int
    repeat_aug: int
    crop_scale: tuple[float, float]
    hflip: float
    aa: str


def augmentation_options(repeat_aug: int, auto_augment: str) -> Callable[[Any], Any]:
    section = 'Augmentation, the same for all frames of a clip'
    return family(
        'augmentation',
        AugmentationOptions,
        span_option(RECOGNITION_SPAN, section=section),
        option(
            '--repeat-aug',
            type=Count(),
            default=repeat_aug,
            metavar='N',
            section=section,
            help='Augmented views of each decoded clip.',
        ),
        option(
            '--crop-scale',
            type=float,
            nargs=2,
            default=(0.5, 1.0),
            metavar='MIN MAX',
            section=section,
            help="Area of the random crop, as a fraction of the frame's.",
        ),
        option(
            '--hflip',
            type=Number(0, 1),
            default=0.5,
            metavar='PROBABILITY',
            section=section,
            help='Probability of a horizontal flip; 0 where left and right matter.',
        ),
        option(
            '--aa',
            default=auto_augment,
            metavar='CONFIG',
            section=section,
            show_default=auto_augment or 'none',
            help="timm's AutoAugment or RandAugment configuration; '' for none.",
        ),
    )


def make_accelerator(chosen: Any, training: TrainingOptions) -> Any:
    """The accelerator for options with a device and a dtype."""
    from ..training.loop import make_accelerator

    if chosen.device is not None:
        pick_device(chosen.device)  # refused in the words of the command line
    accelerator = make_accelerator(chosen.device, chosen.dtype, training.accumulate)
    complain_of_dtype(chosen.dtype, accelerator.device)
    return accelerator


def keep_input(training: TrainingOptions, option: str, path: Path | None) -> None:
    """Refuse to start over in a folder that holds what the run begins from."""
    if training.force and path is not None and training.out.resolve() in path.resolve().parents:
        raise ValueError(f'--force would remove {option} {path}: name another --out')


def model_to_train(
    chosen: ModelOptions, training: TrainingOptions, default: str, whole: bool = False, **kwargs: Any
) -> tuple[Any, str]:
    """The model to train, on the CPU in float32, with the same new weights in all processes; `whole` as in `load`."""
    import torch

    from ..factory import build
    from ..inference.provenance import weights_of

    check_trainable(chosen, whole)
    torch.manual_seed(training.seed)
    keep_input(training, '--weights', chosen.weights)
    if training.from_scratch:
        if chosen.weights is not None:
            raise ValueError('--from-scratch and --weights contradict each other')
        chosen.model = chosen.model or default
        resolved = chosen.resolved.whole if whole else chosen.resolved
        model: Any = build(resolved, pretrained=False, **chosen.sizes, **kwargs).train()
        name = f'{resolved.architecture} from scratch'
    else:
        model, name = load_trainable(chosen, default, whole=whole, **kwargs)
    weights_of(model)  # tells which they are to the record of the run
    if training.grad_checkpointing:
        model.set_grad_checkpointing()
    return model, name


def steps_per_epoch(training: TrainingOptions, augmentation: Any, accelerator: Any, num_files: int) -> float:
    batch = training.batch_size * accelerator.num_processes * training.accumulate
    return num_files * augmentation.repeat_aug / batch


def steps_of(training: TrainingOptions, augmentation: Any, accelerator: Any, num_files: int) -> int:
    """How many steps the run takes; `augmentation` has a `repeat_aug`."""
    if training.steps is not None:
        return training.steps
    if not 0 < training.epochs < math.inf:
        raise ValueError(f'--epochs {training.epochs:g}: must be a number above 0')
    return max(1, round(training.epochs * steps_per_epoch(training, augmentation, accelerator, num_files)))


def schedule_of(training: TrainingOptions, steps: int, layer_decay: float | None = None) -> Any:
    from ..training.schedule import Schedule

    return Schedule(
        steps=steps,
        lr=training.lr,
        min_lr=training.min_lr,
        warmup=training.warmup,
        weight_decay=training.weight_decay,
        optimizer=training.opt,
        betas=training.betas,
        layer_decay=layer_decay,
        clip_grad=training.clip_grad,
        accumulate=training.accumulate,
    )


def keeping_of(training: TrainingOptions, accelerator: Any) -> Any:
    from ..outputs import Output
    from ..training.run_folder import Keeping, last_checkpoint

    Output(training.out).check_folder()
    keeping = Keeping(
        folder=training.out,
        every=training.checkpoint_every,
        last=training.keep,
        log_every=training.log_every,
        resume=training.resume,
        force=training.force,
        max_failed=training.max_failed,
    )
    if training.resume and accelerator.is_main_process and last_checkpoint(keeping) is None:
        complain(f'--resume: there is no checkpoint in {training.out}; the run starts at its beginning')
    return keeping


def augmentation_of(options: AugmentationOptions) -> Any:
    from ..video import Augmentation

    return Augmentation(
        scale=options.crop_scale, hflip=options.hflip, auto_augment=options.aa, repeats=options.repeat_aug
    )


def reading_of(reading: ReadingOptions) -> dict[str, Any]:
    return dict(vars(reading), report=report, say=complain)


@contextmanager
def training_progress(accelerator: Any, steps: int) -> Iterator[Any]:
    """A bar of the steps with the latest figures; in a log, a line every half minute."""
    tqdm = bar_class()

    from ..training.signals import Stopped

    interval = 0.1 if sys.stderr.isatty() else 30
    with tqdm(total=steps, unit=' steps', mininterval=interval, **hidden(not accelerator.is_main_process)) as bar:
        shown: dict[str, str] = {}

        def update(step: int, row: dict[str, float]) -> None:
            shown.update({key: f'{value:.4g}' for key, value in row.items() if key in ('loss', 'lr', 'top1')})
            bar.set_postfix(shown, refresh=False)
            if bar.n == 0 and step > 1:
                bar.initial = step - 1  # resumed
            bar.update(step - bar.n)

        try:
            yield update
        except Stopped:
            if accelerator.is_main_process:
                complain(f'stopped after step {bar.n}, which is in a checkpoint: the same with --resume goes on')
            raise


def training_done(accelerator: Any, path: Path, skipped: int) -> int:
    """Tell what a run has come to; its exit code."""
    if accelerator.is_main_process:
        from ..training.log import read_log

        rows = read_log(path.parent / 'log.csv')
        if rows:
            skipped += int(rows[-1]['failed'])
            echo(
                f'{path}: {counted(int(rows[-1]["step"]), "step")}, loss {float(rows[-1]["loss"]):.4f}, '
                f'{counted(int(rows[-1]["failed"]), "file")} could not be read'
            )
        rows = read_log(path.parent / 'validation.csv')
        if rows:
            skipped += int(rows[-1]['failed'])
            best = max(rows, key=lambda row: float(row['top1']))
            echo(
                f'top-1 {100 * float(rows[-1]["top1"]):.2f}% at the end, {100 * float(best["top1"]):.2f}% at step '
                f'{best["step"]} (best.safetensors)'
            )
    return 1 if skipped else 0
