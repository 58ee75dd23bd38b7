"""videozoo pretrain-prior."""

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
@weights_option('this prior, or from that of this generator')
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
    import torch

    from ..training.prior import pretrain_prior as train
    from ..video import find_videos

    sizes: dict[str, Any] = dict(depth=depth, heads=heads, width=width)
    if weights is None:
        if tokenizer is None:
            raise ValueError('--tokenizer: name the file that pretrain-tokenizer has made (or a generator, --weights)')
        sizes = {name: value or _PUBLISHED[name] for name, value in sizes.items()}
        if sizes['width'] % sizes['heads']:
            raise ValueError(f'--width {sizes["width"]}: must be a multiple of --heads {sizes["heads"]}')
    keep_input(training, '--tokenizer', tokenizer)
    keep_input(training, '--weights', weights)
    accelerator = make_accelerator(place, training)
    paths, missing = files(inputs, find_videos)
    torch.manual_seed(training.seed)
    if weights is None:
        gpt, vqgan, span, about = _new(tokenizer, positions, **sizes)
    else:
        gpt, vqgan, span, about = _from_file(weights, tokenizer, positions, sizes)
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


_Parts = tuple[Any, Any, int, dict[str, Any]]  # the prior, the tokenizer, the length of clips, words for the record


def _new(tokenizer: Any, positions: str | None, *, depth: Any, heads: Any, width: Any) -> _Parts:
    """A prior with random weights."""
    import math

    import torch

    from ..models.gpt import GPT
    from ..training.prior import sine_positions

    vqgan, span = read_tokenizer('--tokenizer', tokenizer)
    gpt = GPT(vqgan.num_codes, math.prod(vqgan.grid_size), depth, heads, width)
    if positions != 'sines':
        return gpt, vqgan, span, {}
    with torch.no_grad():
        gpt.pos_emb.copy_(sine_positions(vqgan.grid_size, width))
    return gpt, vqgan, span, dict(positions=positions)


def _from_file(weights: Path, tokenizer: Path | None, positions: str | None, sizes: dict[str, int | None]) -> _Parts:
    """The prior in a file, and its tokenizer unless another file has that."""
    import math

    from ..inference.journal import checksum_of
    from ..models.generator_files import read_video_parts

    held = read_video_parts(weights)
    if 'gpt' not in held:
        raise ValueError(f'--weights {weights} holds no prior; `videozoo pretrain-prior` makes one')
    gpt = held['gpt']
    own = dict(depth=len(gpt.blocks), heads=gpt.num_heads, width=gpt.embed_dim)
    check_sizes('prior', weights, own, sizes)
    if positions is not None:
        raise ValueError(f'--positions {positions}: the prior in {weights} has its own; leave the option out')
    if tokenizer is None and 'vqgan' not in held:
        raise ValueError(f'--weights {weights} is a prior without its tokenizer: name that with --tokenizer')
    vqgan: Any = held.get('vqgan')
    span = held.get('span', PUBLISHED_SPAN)
    if tokenizer is not None:
        other, span = read_tokenizer('--tokenizer', tokenizer)
        if vqgan is not None and _weights(vqgan) != _weights(other):
            raise ValueError(
                f'--tokenizer {tokenizer}: the prior in {weights} comes with another, whose codes mean something else; '
                f'leave the option out'
            )
        vqgan = other
    length = math.prod(vqgan.grid_size)
    if (gpt.vocab_size, gpt.block_size) != (vqgan.num_codes, length):
        raise ValueError(
            f'--tokenizer {tokenizer}: clips have {length} of {vqgan.num_codes} codes, the prior in {weights} reads '
            f'{gpt.block_size} of {gpt.vocab_size}; name the tokenizer that it was trained with'
        )
    return gpt, vqgan, span, dict(from_sha256=checksum_of(gpt.state_dict().items()))


def _weights(vqgan: Any) -> str:
    """The checksum of a tokenizer without the running sums, which a whole generator does not keep."""
    from ..inference.journal import checksum_of
    from ..models.generator_files import SUMS

    return checksum_of((name, tensor) for name, tensor in vqgan.state_dict().items() if name not in SUMS)
