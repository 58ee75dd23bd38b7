"""videozoo finetune."""

import os

from .base import command, option
from .inputs import tell_shared, telling
from .options import ModelOptions, ReadingOptions, folder_option, model_options, reading_options
from .output import Losses, complain
from .training import (
    RAND_AUGMENT,
    AugmentationOptions,
    TrainingOptions,
    augmentation_of,
    augmentation_options,
    keeping_of,
    make_accelerator,
    model_to_train,
    reading_of,
    schedule_of,
    steps_of,
    steps_per_epoch,
    training_done,
    training_options,
    training_progress,
)
from .types import PATH, Count, Number


@command(
    shared=True,
    results='out',
    examples="""
    videozoo finetune --train VIDEOS/train --val VIDEOS/val --model vit_hvm1_none --out finetuned
    videozoo finetune --train VIDEOS/train --weights pretrained/model.safetensors --shots 10 --freeze
    videozoo classify clip.mp4 --weights finetuned/best.safetensors
""",
)
@folder_option(
    '--train',
    required=True,
    type=PATH,
    section='Videos or images',
    help='Folder with one subfolder per class, to train on.',
)
@folder_option('--val', type=PATH, section='Videos or images', help='The same classes, to validate on.')
@option(
    '--shots',
    type=Count(),
    metavar='N',
    section='Videos or images',
    help='Train on a random sample of this many files per class.',
)
@reading_options('Videos or images')
@model_options(dtype=None)
@training_options('finetuned', lr=5e-4, betas=(0.9, 0.999), clip_grad=1.0, epochs=30.0)
@option(
    '--layer-decay',
    type=Number(0, 1),
    default=0.75,
    metavar='FACTOR',
    section='Training',
    help='Layer-wise learning rate decay, from each block to the one before it; 1 disables it.',
)
@option('--mixup', type=Number(0), default=0.8, metavar='ALPHA', section='Training', help='Mixup alpha; 0 disables it.')
@option(
    '--cutmix', type=Number(0), default=1.0, metavar='ALPHA', section='Training', help='CutMix alpha; 0 disables it.'
)
@option(
    '--smoothing',
    type=Number(0, 1, below=True),
    default=0.1,
    metavar='FRACTION',
    section='Training',
    help='Label smoothing.',
)
@option(
    '--drop-path',
    type=Number(0, 1, below=True),
    default=0.1,
    metavar='RATE',
    section='Training',
    help='Stochastic depth rate.',
)
@option(
    '--drop',
    type=Number(0, 1, below=True),
    default=0.3,
    metavar='RATE',
    section='Training',
    help='Dropout rate before the head.',
)
@option(
    '--patch-drop',
    type=Number(0, 1, below=True),
    default=0.0,
    metavar='RATE',
    section='Training',
    help='Fraction of the tokens that is dropped from each training clip, for speed.',
)
@option(
    '--matched',
    is_flag=True,
    section='Training',
    help='Files with the same name in several classes show the same scene: put them into the same batch under '
    'the same augmentation, so that they differ in nothing but the class. No scene is split between batches '
    'if --batch-size is a multiple of the number of classes times --repeat-aug.',
)
@option(
    '--validate-every',
    type=Count(),
    metavar='STEPS',
    section='Training',
    show_default='once per epoch',
    help='Validate every so many steps.',
)
@option('--freeze', is_flag=True, section='Training', instead_of='--lora', help='Train only the head.')
@option(
    '--lora',
    type=Count(),
    metavar='RANK',
    section='Training',
    help='Train low-rank adapters and the head (requires peft).',
)
@augmentation_options(repeat_aug=1, auto_augment=RAND_AUGMENT)
def finetune(
    train: str,
    val: str | None,
    shots: int | None,
    reading: ReadingOptions,
    chosen: ModelOptions,
    training: TrainingOptions,
    layer_decay: float,
    mixup: float,
    cutmix: float,
    smoothing: float,
    drop_path: float,
    drop: float,
    patch_drop: float,
    matched: bool,
    validate_every: int | None,
    freeze: bool,
    lora: int | None,
    augmentation: AugmentationOptions,
) -> int:
    """Train a video ViT to classify."""
    import torch

    from ..inference.pipeline import sampling_of
    from ..training.finetune import add_lora, few_shots, freeze_all_but_head, matched_names
    from ..training.finetune import finetune as fit
    from ..video import class_folders

    accelerator = make_accelerator(chosen, training)
    unreadable: list[OSError] = []
    fitted = class_folders(train, telling(unreadable))
    if shots is not None:
        fitted = few_shots(fitted, shots, training.seed, matched)
    held_out = None if val is None else class_folders(val, telling(unreadable))
    if held_out and accelerator.is_main_process:
        tell_shared(fitted.paths, held_out.paths)
    if chosen.model is None and chosen.contents is not None:  # what `pretrain` results in is finetuned as a ViT
        chosen.model = _vit_of(chosen.contents.recognized)
    num_classes = len(fitted.classes)
    if matched and accelerator.is_main_process:
        names, common = {os.path.basename(path) for path in fitted.paths}, matched_names(fitted)
        if len(common) < len(names):
            complain(
                f'--matched: of {len(names)} names {len(common)} are in all {num_classes} classes; the files of '
                f'the others come with fewer classes in a batch'
            )
        if training.batch_size % (views := num_classes * augmentation.repeat_aug):
            complain(
                f'--matched: --batch-size {training.batch_size} is no multiple of the {views} views of a scene, '
                f'so scenes are split between batches'
            )
    model, name = model_to_train(
        chosen,
        training,
        'vit_shapes_motion',
        num_classes=num_classes,
        drop_rate=drop,
        drop_path_rate=0.0 if freeze else drop_path,
        patch_drop_rate=patch_drop,
    )
    model.reset_classifier(num_classes)  # a new one, also where the number of classes is that of the old
    # Of zeros: a random one could be the very one that the model was finetuned from, with the same seed.
    torch.nn.init.zeros_(model.head.weight)
    torch.nn.init.zeros_(model.head.bias)
    if freeze:
        freeze_all_but_head(model)
    if lora is not None:
        model = add_lora(model, lora)
    steps = steps_of(training, augmentation, accelerator, len(fitted.paths))
    decay = None if freeze or lora or layer_decay == 1 else layer_decay
    every = validate_every or max(1, round(steps_per_epoch(training, augmentation, accelerator, len(fitted.paths))))
    losses = Losses()
    with training_progress(accelerator, steps) as progress:
        path = fit(
            accelerator,
            model,
            fitted,
            held_out,
            schedule_of(training, steps, decay),
            keeping_of(training, accelerator),
            batch_size=training.batch_size,
            augmentation=augmentation_of(augmentation),
            sampling=sampling_of(model, augmentation.span),
            mixup=mixup,
            cutmix=cutmix,
            smoothing=smoothing,
            validate_every=every,
            matched=matched,
            seed=training.seed,
            about=dict(model=name, drop=drop, drop_path=drop_path, patch_drop=patch_drop, freeze=freeze, lora=lora),
            progress=progress,
            lose=losses,
            **reading_of(reading),
        )
    return training_done(accelerator, path, len(unreadable) + losses.number)


def _vit_of(architecture: str | None) -> str | None:
    return 'vit_' + architecture.removeprefix('mae_') if architecture and architecture.startswith('mae_') else None
