"""What pretrain-tokenizer and pretrain-prior share: how clips are taken from videos, and where they run."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from .base import family, option
from .options import DTYPES, device_option, span_option
from .types import FILE, Choice, Count, Number

PUBLISHED_SPAN = 57  # of `training.tokenizer`, without its imports


@dataclass
class PlaceOptions:
    """Where a model is trained, as in `ModelOptions`."""

    device: str | None
    dtype: str | None


def place_options() -> Callable[[Any], Any]:
    return family(
        'place',
        PlaceOptions,
        device_option(section='Training'),
        option(
            '--dtype',
            type=Choice(DTYPES),
            section='Training',
            show_default="float32, or as accelerate's configuration says",
            help='Data type of the computation; the weights stay float32.',
        ),
    )


@dataclass
class ClipOptions:
    """How clips are taken from videos."""

    span: int | None
    latest_start: float
    crop_scale: tuple[float, float]
    hflip: float
    repeat_aug: int

    @property
    def augmentation(self) -> Any:
        from ..video import Augmentation

        ratio = (1.0, 1.0) if self.crop_scale[0] == 1 else (3 / 4, 4 / 3)
        return Augmentation(
            scale=self.crop_scale,
            ratio=ratio,
            hflip=self.hflip,
            repeats=self.repeat_aug,
            latest_start=self.latest_start,
        )


def read_tokenizer(option: str, path: Path) -> tuple[Any, int]:
    """The tokenizer in a file, and the length of its clips."""
    from ..models.generator_files import read_video_parts

    held = read_video_parts(path)
    if 'vqgan' not in held:
        raise ValueError(f'{option} {path} holds no tokenizer; `videozoo pretrain-tokenizer` makes one')
    return held['vqgan'], held.get('span', PUBLISHED_SPAN)


def weights_option(what: str) -> Callable[[Any], Any]:
    """What a training goes on from."""
    return option(
        '--weights', type=FILE, metavar='FILE', section='Model', show_default='random ones', help=f'Go on from {what}.'
    )


def check_sizes(what: str, weights: Path, own: Mapping[str, Any], sizes: Mapping[str, Any]) -> None:
    """Refuse sizes that are given beside weights of other ones."""
    for name, value in sizes.items():
        if value not in (None, own[name]):
            told = f'{{{name}}}: the {what} in {{}} has {{}}; leave the option out'
            raise UserError(told, weights, own[name], **{name: value})


def clip_options(span: str) -> Callable[[Any], Any]:
    """How clips are taken; `span` says what their length is by default."""
    in_clips = functools.partial(option, section='Clips')
    return family(
        'clips',
        ClipOptions,
        span_option(span, section='Clips'),
        in_clips(
            '--latest-start',
            type=Number(0, 1),
            default=1.0,
            metavar='FRACTION',
            help='Latest random start of a clip, as a fraction of the latest possible; 0 takes the first frames.',
        ),
        in_clips(
            '--crop-scale',
            type=float,
            nargs=2,
            default=(1.0, 1.0),
            metavar='MIN MAX',
            help="Area of the random crop, as a fraction of the frame's; 1 1 takes the center crop.",
        ),
        in_clips('--hflip', type=Number(0, 1), default=0.0, metavar='PROBABILITY', help='Probability of a flip.'),
        in_clips('--repeat-aug', type=Count(), default=1, metavar='N', help='Augmented views of each decoded clip.'),
    )
