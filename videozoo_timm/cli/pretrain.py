"""videozoo pretrain."""

from .base import Several, command, option
from .inputs import files
from .loading import takes_images
from .options import Inputs, ModelOptions, ReadingOptions, input_options, model_options
from .training import (
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
    training_done,
    training_options,
    training_progress,
)
from .types import Choice, Count


@command(
    shared=True,
    results='out',
    examples="""
    videozoo pretrain VIDEOS --model mae_hvm1_none --epochs 10 --out pretrained
    videozoo pretrain drawn:2000 --from-scratch --init local --steps 5000
    torchrun --nproc-per-node 4 -m videozoo_timm pretrain VIDEOS --dtype bfloat16 --resume
""",
)
@input_options('Video files (of a model of images, image files), or folders to search.')
@model_options(dtype=None)
@option(
    '--init',
    type=Choice(['published', 'local']),
    default='published',
    section='Model',
    help='How random weights are initialized: as in the published code, or so that tokens attend to their '
    'neighbors, from which small models learn much faster.',
)
@training_options('pretrained', lr=1e-4, betas=(0.9, 0.95), clip_grad=0.1, epochs=100.0)
@option(
    '--mask-type',
    cls=Several,
    type=Choice(['random', 'temporal', 'center']),
    default=['random'],
    metavar='TYPE',
    section='Training',
    help='random, temporal, center; with several, one is sampled for each batch.',
)
@option(
    '--mask-ratio',
    cls=Several,
    type=float,
    default=[],
    metavar='FRACTION',
    section='Training',
    show_default='0.9; of images 0.75',
    help='Fraction of the tokens that is masked; one for all mask types, or one for each.',
)
@option(
    '--pictures-every',
    type=Count(0),
    default=1000,
    metavar='STEPS',
    section='Training',
    help='Write pictures of completions of the first video every so many steps; 0 for never.',
)
@augmentation_options(repeat_aug=16, auto_augment='')
def pretrain(
    inputs: Inputs,
    reading: ReadingOptions,
    chosen: ModelOptions,
    init: str,
    training: TrainingOptions,
    mask_type: tuple[str, ...],
    mask_ratio: tuple[float, ...],
    pictures_every: int,
    augmentation: AugmentationOptions,
) -> int:
    """Train a masked autoencoder on videos, or one of images (mae_..._im) on images."""
    from ..analysis.completion import check_mae
    from ..inference.pipeline import sampling_of
    from ..models.video_mae import initialize_local
    from ..training.pretrain import pretrain as train
    from ..video import find_media, find_videos

    accelerator = make_accelerator(chosen, training)
    of_images = takes_images(chosen)
    paths, missing = files(inputs, find_media if of_images else find_videos, chosen)
    model, name = model_to_train(chosen, training, 'mae_shapes_none', whole=True)
    if init == 'local':
        if of_images:
            raise ValueError('--init local is for models of clips')
        if not training.from_scratch:
            raise ValueError('--init is for random weights (--from-scratch)')
        check_mae(model)
        initialize_local(model)
        name += ', local'
    steps = steps_of(training, augmentation, accelerator, len(paths))
    with training_progress(accelerator, steps) as progress:
        path = train(
            accelerator,
            model,
            paths,
            schedule_of(training, steps),
            keeping_of(training, accelerator),
            batch_size=training.batch_size,
            augmentation=augmentation_of(augmentation),
            sampling=sampling_of(model, augmentation.span),
            mask_types=list(mask_type),
            mask_ratios=list(mask_ratio) or [float(model.default_mask_ratio)],
            pictures_every=pictures_every,
            seed=training.seed,
            about=dict(model=name),
            progress=progress,
            **reading_of(reading),
        )
    return training_done(accelerator, path, missing)
