"""videozoo pretrain-tokenizer."""

from .base import command, option
from .inputs import files
from .options import Inputs, ReadingOptions, input_options
from .training import (
    TrainingOptions,
    keeping_of,
    make_accelerator,
    reading_of,
    schedule_of,
    steps_of,
    training_done,
    training_options,
    training_progress,
)
from .training_clips import PUBLISHED_SPAN, ClipOptions, PlaceOptions, clip_options, place_options
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
@option('--num-codes', type=Count(2), default=16384, metavar='N', section='Model', help='Size of the codebook.')
@option('--code-dim', type=Count(), default=256, metavar='N', section='Model', help='Width of a code.')
@option(
    '--channels',
    type=Count(),
    default=32,
    metavar='N',
    section='Model',
    help='Channels at full resolution; each halving doubles them.',
)
@option(
    '--downsample',
    type=Count(),
    nargs=3,
    default=(2, 16, 16),
    metavar='T H W',
    section='Model',
    help='Frames, rows and columns of pixels to one code, powers of two.',
)
@option('--norm', type=Choice(['batch', 'group']), default='batch', section='Model', help='Kind of normalization.')
@option('--img-size', type=Count(), default=256, metavar='PIXELS', section='Model', help='Height and width of clips.')
@option('--num-frames', type=Count(), default=16, metavar='N', section='Model', help='Number of frames of clips.')
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
@clip_options()
def pretrain_tokenizer(
    inputs: Inputs,
    reading: ReadingOptions,
    num_codes: int,
    code_dim: int,
    channels: int,
    downsample: tuple[int, int, int],
    norm: str,
    img_size: int,
    num_frames: int,
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

    from ..models.video_vqgan import VideoVQGAN, VideoVQGANConfig
    from ..training.tokenizer import TokenizerLoss
    from ..training.tokenizer import pretrain_tokenizer as train
    from ..video import find_videos

    accelerator = make_accelerator(place, training)
    paths, missing = files(inputs, find_videos)
    torch.manual_seed(training.seed)
    vqgan = VideoVQGAN(
        VideoVQGANConfig(
            num_codes=num_codes,
            embed_dim=code_dim,
            ch=channels,
            downsample=downsample,
            norm=norm,
            num_frames=num_frames,
            resolution=img_size,
        )
    )
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
            span=clips.span or PUBLISHED_SPAN,
            crop=crop,
            pictures_every=pictures_every,
            seed=training.seed,
            progress=progress,
            **reading_of(reading),
        )
    return training_done(accelerator, path, missing)
