"""videozoo pretrain-prior."""

from pathlib import Path

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
from .training_clips import ClipOptions, PlaceOptions, clip_options, place_options, read_tokenizer
from .types import FILE, Choice, Count


@command(
    shared=True,
    results='out',
    examples="""
    videozoo pretrain-prior VIDEOS --tokenizer tokenizer/model.safetensors --out prior --dtype bfloat16
    videozoo pretrain-prior drawn:1000 --tokenizer tokenizer/model.safetensors --depth 4 --heads 4 --width 192
""",
)
@input_options('Video files, or folders to search.')
@option(
    '--tokenizer',
    type=FILE,
    required=True,
    metavar='FILE',
    section='Model',
    help='The tokenizer, which pretrain-tokenizer has made.',
)
@option('--depth', type=Count(), default=24, metavar='N', section='Model', help='Number of blocks.')
@option('--heads', type=Count(), default=16, metavar='N', section='Model', help='Attention heads.')
@option('--width', type=Count(), default=1024, metavar='N', section='Model', help='Width of a token.')
@option(
    '--positions',
    type=Choice(['zeros', 'sines']),
    default='zeros',
    section='Model',
    help='What position embeddings are before training: zeros, as published; or sines of time, row and column, with '
    'which it learns sooner.',
)
@training_options(
    'prior',
    lr=3e-4,
    betas=(0.9, 0.95),
    clip_grad=1.0,
    epochs=100.0,
    weight_decay=0.01,
    of_the_zoo=False,
)
@place_options()
@option(
    '--pictures-every',
    type=Count(0),
    default=1000,
    metavar='STEPS',
    section='Training',
    help='Write samples every so many steps; 0 for never.',
)
@clip_options("the tokenizer's")
def pretrain_prior(
    inputs: Inputs,
    reading: ReadingOptions,
    tokenizer: Path,
    depth: int,
    heads: int,
    width: int,
    positions: str,
    training: TrainingOptions,
    place: PlaceOptions,
    pictures_every: int,
    clips: ClipOptions,
) -> int:
    """Train a prior: a GPT over the codes of a tokenizer, which then generates videos."""
    import math

    import torch

    from ..models.gpt import GPT
    from ..training.prior import pretrain_prior as train
    from ..training.prior import sine_positions
    from ..video import find_videos

    if width % heads:
        raise ValueError(f'--width {width}: must be a multiple of --heads {heads}')
    keep_input(training, '--tokenizer', tokenizer)
    accelerator = make_accelerator(place, training)
    paths, missing = files(inputs, find_videos)
    vqgan, span = read_tokenizer('--tokenizer', tokenizer)
    torch.manual_seed(training.seed)
    gpt = GPT(vqgan.num_codes, math.prod(vqgan.grid_size), depth, heads, width)
    about = {}
    if positions == 'sines':
        about = dict(positions=positions)
        with torch.no_grad():
            gpt.pos_emb.copy_(sine_positions(vqgan.grid_size, width))
    steps = steps_of(training, clips, accelerator, len(paths))
    with training_progress(accelerator, steps) as progress:
        path = train(
            accelerator,
            gpt,
            vqgan,
            paths,
            schedule_of(training, steps),
            keeping_of(training, accelerator),
            batch_size=training.batch_size,
            augmentation=clips.augmentation,
            span=clips.span or span,
            pictures_every=pictures_every,
            seed=training.seed,
            about=about,
            progress=progress,
            **reading_of(reading),
        )
    return training_done(accelerator, path, missing)
