"""videozoo pretrain-prior."""

from pathlib import Path
from typing import Any

from ..errors import UserError
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
from .types import FILE, Choice, Count, Number

_PUBLISHED = dict(depth=24, heads=16, width=1024)


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
    metavar='FILE',
    section='Model',
    show_default='that of --weights',
    help='The tokenizer, which pretrain-tokenizer has made.',
)
@option(
    '--weights',
    type=FILE,
    metavar='FILE',
    section='Model',
    show_default='random ones',
    help='Go on from this prior, or from that of this generator.',
)
@option('--depth', type=Count(), metavar='N', section='Model', show_default='24', help='Number of blocks.')
@option('--heads', type=Count(), metavar='N', section='Model', show_default='16', help='Attention heads.')
@option('--width', type=Count(), metavar='N', section='Model', show_default='1024', help='Width of a token.')
@option(
    '--positions',
    type=Choice(['zeros', 'sines']),
    section='Model',
    show_default='zeros',
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
    '--encode-alone',
    type=Number(0, 1),
    default=0.0,
    metavar='PROBABILITY',
    section='Training',
    help='Encode the first frames of a clip alone so often, as when one is continued; the encoder looks ahead.',
)
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
    tokenizer: Path | None,
    weights: Path | None,
    depth: int | None,
    heads: int | None,
    width: int | None,
    positions: str | None,
    training: TrainingOptions,
    place: PlaceOptions,
    encode_alone: float,
    pictures_every: int,
    clips: ClipOptions,
) -> int:
    """Train a prior: a GPT over the codes of a tokenizer, which then generates videos."""
    from ..training.prior import pretrain_prior as train
    from ..video import find_videos

    keep_input(training, '--tokenizer', tokenizer)
    keep_input(training, '--weights', weights)
    accelerator = make_accelerator(place, training)
    paths, missing = files(inputs, find_videos)
    sizes = dict(depth=depth, heads=heads, width=width)
    gpt, vqgan, span, about = _parts(tokenizer, weights, sizes, positions, training.seed)
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
            encode_alone=encode_alone,
            pictures_every=pictures_every,
            seed=training.seed,
            about=about,
            progress=progress,
            **reading_of(reading),
        )
    return training_done(accelerator, path, missing)


def _parts(
    tokenizer: Path | None,
    weights: Path | None,
    sizes: dict[str, int | None],
    positions: str | None,
    seed: int,
) -> tuple[Any, Any, int, dict[str, Any]]:
    """The prior to begin with, the tokenizer, the length of its clips, and what the record tells of them."""
    import math

    import torch

    from ..inference.journal import checksum_of
    from ..models.generator_files import read_video_parts
    from ..models.gpt import GPT
    from ..training.prior import sine_positions

    if tokenizer is not None:
        vqgan, span = read_tokenizer('--tokenizer', tokenizer)
    elif weights is not None:
        vqgan, span = read_tokenizer('--weights', weights)
    else:
        raise ValueError('--tokenizer: name the file that pretrain-tokenizer has made, or a generator with --weights')
    torch.manual_seed(seed)
    if weights is not None:
        held = read_video_parts(weights)
        gpt = held.get('gpt')
        if gpt is None:
            raise ValueError(f'--weights {weights} holds no prior; `videozoo pretrain-prior` makes one')
        if 'vqgan' in held and not torch.equal(held['vqgan'].codebook.embeddings, vqgan.codebook.embeddings):
            raise ValueError(
                f'--tokenizer {tokenizer}: the prior in {weights} comes with another, whose codes mean something else; '
                f'leave the option out'
            )
        own = dict(depth=len(gpt.blocks), heads=gpt.num_heads, width=gpt.embed_dim)
        for name, value in sizes.items():
            if value not in (None, own[name]):
                raise UserError(
                    f'{{{name}}}: the prior in {{}} has {{}}; leave the option out', weights, own[name], **{name: value}
                )
        if positions is not None:
            raise ValueError(f'--positions {positions} is of a prior with random weights, and --weights names another')
        return gpt, vqgan, span, dict(from_sha256=checksum_of(gpt.state_dict().items()))
    depth, heads, width = (sizes[name] or default for name, default in _PUBLISHED.items())
    if width % heads:
        raise ValueError(f'--width {width}: must be a multiple of --heads {heads}')
    gpt = GPT(vqgan.num_codes, math.prod(vqgan.grid_size), depth, heads, width)
    if positions != 'sines':
        return gpt, vqgan, span, {}
    with torch.no_grad():
        gpt.pos_emb.copy_(sine_positions(vqgan.grid_size, width))
    return gpt, vqgan, span, dict(positions=positions)
