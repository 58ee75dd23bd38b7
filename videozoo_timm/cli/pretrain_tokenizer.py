"""videozoo pretrain-tokenizer."""

from pathlib import Path
from typing import Any

from .base import command, option
from .inputs import files
from .options import Inputs, ReadingOptions, input_options
from .training import (
    TrainingOptions,
    keep_input,
    keeping_of,
    make_accelerator,
    reading_of,
    schedule_of,
    steps_of,
    training_done,
    training_options,
    training_progress,
)
from .training_clips import (
    PUBLISHED_SPAN,
    ClipOptions,
    PlaceOptions,
    check_sizes,
    clip_options,
    place_options,
    read_tokenizer,
    weights_option,
)
from .types import Choice, Count, Number


@command(
    shared=True,
    results='out',
    examples="""
    videozoo pretrain-tokenizer VIDEOS --out tokenizer --dtype bfloat16
    videozoo pretrain-tokenizer drawn:1000 --img-size 64 --downsample 2 8 8 --channels 8 --num-codes 512 --code-dim 64
    videozoo pretrain-prior VIDEOS --tokenizer tokenizer/model.safetensors --out prior
""",
)
@input_options('Video files, or folders to search.')
@weights_option('this tokenizer, whose sizes are then the defaults')
@option('--num-codes', type=Count(2), metavar='N', section='Model', show_default='16384', help='Size of the codebook.')
@option('--code-dim', type=Count(), metavar='N', section='Model', show_default='256', help='Width of a code.')
@option(
    '--channels',
    type=Count(),
    metavar='N',
    section='Model',
    show_default='32',
    help='Channels at full resolution; each halving doubles them.',
)
@option(
    '--downsample',
    type=Count(),
    nargs=3,
    metavar='T H W',
    section='Model',
    show_default='2, 16, 16',
    help='Frames, rows and columns of pixels to one code, powers of two.',
)
@option('--norm', type=Choice(['batch', 'group']), section='Model', show_default='batch', help='Kind of normalization.')
@option(
    '--img-size',
    type=Count(),
    metavar='PIXELS',
    section='Model',
    show_default='256',
    help='Height and width of clips.',
)
@option(
    '--num-frames', type=Count(), metavar='N', section='Model', show_default='16', help='Number of frames of clips.'
)
@training_options(
    'tokenizer',
    lr=5e-5,
    betas=(0.5, 0.9),
    clip_grad=0.0,
    epochs=100.0,
    weight_decay=0.0,
    warmup=0.0,
    of_the_zoo=False,
)
@place_options()
@option(
    '--restart',
    type=Number(0),
    default=0.0,
    metavar='TIMES',
    section='Training',
    help='Move codes that are used less often than so many times a batch to vectors of the batch; 0 for never.',
)
@option(
    '--crop',
    type=Count(),
    nargs=3,
    metavar='T H W',
    section='Training',
    show_default='whole clips',
    help='Train on a random box of each clip, of so many frames, rows and columns: more steps in the same time.',
)
@option(
    '--image-gan',
    type=Number(0),
    default=0.0,
    metavar='WEIGHT',
    section='Training',
    help='Train against a discriminator of frames (published: 1).',
)
@option(
    '--video-gan',
    type=Number(0),
    default=0.0,
    metavar='WEIGHT',
    section='Training',
    help='Train against a discriminator of clips (published: 1).',
)
@option(
    '--feature-matching',
    type=Number(0),
    default=4.0,
    metavar='WEIGHT',
    section='Training',
    help="Weight of the difference between the discriminators' features of clips and of reconstructions.",
)
@option(
    '--gan-start',
    type=Count(0),
    default=26000,
    metavar='STEP',
    section='Training',
    help='Step from which the discriminators count, and learn.',
)
@option(
    '--perceptual',
    type=Number(0),
    default=0.0,
    metavar='WEIGHT',
    section='Training',
    help='Weight of LPIPS on a random frame of each clip (published: 4); needs lpips and the weights of VGG-16.',
)
@option(
    '--pictures-every',
    type=Count(0),
    default=1000,
    metavar='STEPS',
    section='Training',
    help='Write reconstructions of the first videos every so many steps; 0 for never.',
)
@clip_options(f'{PUBLISHED_SPAN}, or that of --weights')
def pretrain_tokenizer(
    inputs: Inputs,
    reading: ReadingOptions,
    weights: Path | None,
    num_codes: int | None,
    code_dim: int | None,
    channels: int | None,
    downsample: tuple[int, int, int] | None,
    norm: str | None,
    img_size: int | None,
    num_frames: int | None,
    training: TrainingOptions,
    place: PlaceOptions,
    restart: float,
    crop: tuple[int, int, int] | None,
    image_gan: float,
    video_gan: float,
    feature_matching: float,
    gan_start: int,
    perceptual: float,
    pictures_every: int,
    clips: ClipOptions,
) -> int:
    """Train a tokenizer: a 3-D VQGAN that turns clips into codes and back."""
    import torch

    from ..inference.journal import checksum_of
    from ..models.video_vqgan import VideoVQGAN, VideoVQGANConfig
    from ..training.tokenizer import TokenizerLoss
    from ..training.tokenizer import pretrain_tokenizer as train
    from ..video import find_videos

    keep_input(training, '--weights', weights)
    accelerator = make_accelerator(place, training)
    paths, missing = files(inputs, find_videos)
    sizes: dict[str, Any] = dict(
        num_codes=num_codes,
        embed_dim=code_dim,
        ch=channels,
        downsample=downsample,
        norm=norm,
        num_frames=num_frames,
        resolution=img_size,
    )
    sizes = {name: value for name, value in sizes.items() if value is not None}
    about, span = {}, PUBLISHED_SPAN
    torch.manual_seed(training.seed)
    if weights is None:
        vqgan = VideoVQGAN(VideoVQGANConfig(**sizes))
    else:
        vqgan, span = read_tokenizer('--weights', weights)
        check_sizes('tokenizer', weights, vars(vqgan.config), sizes)
        about = dict(from_sha256=checksum_of(vqgan.state_dict().items()))
    steps = steps_of(training, clips, accelerator, len(paths))
    with training_progress(accelerator, steps) as progress:
        path = train(
            accelerator,
            vqgan,
            paths,
            schedule_of(training, steps),
            keeping_of(training, accelerator),
            loss=TokenizerLoss(
                restart=restart,
                image_gan=image_gan,
                video_gan=video_gan,
                feature_matching=feature_matching,
                gan_start=gan_start,
                perceptual=perceptual,
            ),
            batch_size=training.batch_size,
            augmentation=clips.augmentation,
            span=clips.span or span,
            crop=crop,
            pictures_every=pictures_every,
            seed=training.seed,
            about=about,
            progress=progress,
            **reading_of(reading),
        )
    return training_done(accelerator, path, missing)
