"""What the commands are made of: commands, options, and the families of options that travel together.

A family is a decorator; the command gets its options as one record.
"""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import catalogue
from .base import argument, family, option
from .completion import complete_folder, complete_model
from .types import FILE, PATH, Choice, Count, Number

if TYPE_CHECKING:
    from ..contents import Contents
    from ..identity import Resolved

RECOGNITION_SPAN, COMPLETION_SPAN = 128, 65  # of `video.RECOGNITION` and `video.COMPLETION`, without their imports
_WORKER_MEMORY = 1 << 30  # bytes that a process that decodes is allowed for: PyTorch, frames, views
COLORS = ('file', 'published')  # of `video.pixels`, without its imports
DTYPES = ('float32', 'bfloat16', 'float16')


# Families


def zoo_option(
    help: str = 'Zoo to take the model from; needed for names that two zoos share.',
    section: str = 'Options',
) -> Callable[[Any], Any]:
    return option('--zoo', type=Choice(catalogue.ZOOS), section=section, help=help)


def folder_option(*flags: str, type: click.ParamType = FILE, **settings: Any) -> Callable[[Any], Any]:
    return option(*flags, type=type, metavar='DIR', shell_complete=complete_folder, **settings)


def device_option(devices: str = 'cpu, cuda, cuda:1 or mps', section: str = 'Options') -> Callable[[Any], Any]:
    return option(
        '--device', section=section, metavar='DEVICE', show_default='the fastest available', help=f'{devices}.'
    )


@dataclass
class ModelOptions:
    """Which model, and how it runs."""

    model: str | None
    zoo: str | None
    weights: Path | None
    img_size: int | None
    num_frames: int | None
    device: str | None
    dtype: str | None

    @property
    def sizes(self) -> dict[str, int]:
        """The input size, as far as it is given."""
        return {name: value for name in ('img_size', 'num_frames') if (value := getattr(self, name)) is not None}

    @functools.cached_property
    def contents(self) -> 'Contents | None':
        """What --weights holds, opened once."""
        if self.weights is None:
            return None
        from .. import models  # noqa: F401 - by these files are recognized
        from ..contents import Contents

        return Contents(self.weights)

    @functools.cached_property
    def resolved(self) -> 'Resolved':
        """What --model and --weights name, asked once; not before one of them is there to stay."""
        from ..identity import resolve

        return resolve(self.model, self.contents, self.zoo)


def model_options(dtype: str | None = 'float32') -> Callable[[Any], Any]:
    """--model, --zoo, --weights, --img-size, --num-frames, --device, --dtype."""
    in_model = functools.partial(option, section='Model')
    return family(
        'chosen',
        ModelOptions,
        in_model(
            '--model',
            '--model-name',
            'model',
            metavar='NAME',
            shell_complete=complete_model,
            show_default='a small model that comes with this package; with --weights, what the file says',
            help='Published name or timm name.',
        ),
        zoo_option(section='Model'),
        in_model('--weights', type=FILE, metavar='FILE', help='Local checkpoint, .pth or .safetensors.'),
        in_model('--img-size', type=Count(), metavar='PIXELS', help="Input size other than the model's own."),
        in_model('--num-frames', type=Count(), metavar='N', help="Number of frames other than the model's own."),
        device_option(section='Model'),
        in_model(
            '--dtype',
            type=Choice(DTYPES),
            default=dtype,
            show_default=True if dtype else "float32, or as accelerate's configuration says",
            help='Data type of the model and its input.'
            if dtype
            else 'Data type of the computation; the weights stay float32.',
        ),
    )


@dataclass
class ReadingOptions:
    """How files are read."""

    num_workers: int
    time_limit: float
    color: str
    background: str


def usable_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def default_workers() -> int:
    """The share of this process of the machine's cores, and not more than its memory has room for."""
    number = usable_cores()
    if hasattr(os, 'sysconf'):
        number = min(number, os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // _WORKER_MEMORY)
    return max(1, number // int(os.environ.get('LOCAL_WORLD_SIZE', '1')))


def reading_options(section: str = 'Reading files') -> Callable[[Any], Any]:
    """--num-workers, --time-limit, --color, --background."""
    return family(
        'reading',
        ReadingOptions,
        option(
            '--num-workers',
            type=Count(0),
            metavar='N',
            default=lambda: default_workers(),
            section=section,
            show_default='number of cores',
            help='Processes that decode ahead of the model; 0 decodes in this process, without a time limit.',
        ),
        option(
            '--time-limit',
            type=float,
            metavar='SECONDS',
            default=60.0,
            section=section,
            help='Skip a file that yields no clip, or no further clip, for this long.',
        ),
        option(
            '--color',
            type=Choice(COLORS),
            default=COLORS[0],
            section=section,
            help='Colors as the file says and a player shows them; or as the published pipeline decoded them, all '
            'videos with the matrix of BT.601, pixels that are not square as they are, and transparency left out.',
        ),
        option(
            '--background',
            metavar='COLOR',
            default='black',
            section=section,
            help='What transparent parts are laid on: black, gray, white, or a color such as #8040ff.',
        ),
    )


@dataclass
class Inputs:
    """The files to read."""

    paths: tuple[str, ...]
    folders: tuple[str, ...]

    @property
    def given(self) -> list[str]:
        return [*self.paths, *self.folders]


def input_options(what: str, folder_flag: str = '--video-dir') -> Callable[[Any], Any]:
    """PATH..., and how files are read."""
    paths = family(
        'inputs',
        Inputs,
        argument(
            'paths',
            nargs=-1,
            metavar='[PATH]...',
            type=PATH,
            help=f'{what} drawn:100@7 stands for the synthetic videos that `videozoo draw -n 100 --seed 7` writes, '
            'FOLDER:frames@15 for numbered images as frames of a video, 15 a second.',
        ),
        folder_option(
            folder_flag, 'folders', type=PATH, multiple=True, section='Reading files', help='The same as PATH.'
        ),
    )
    return lambda function: paths(reading_options()(function))


def span_option(default: int | str, section: str = 'Options') -> Callable[[Any], Any]:
    """--span; a default in words is one that the command finds out."""
    shown: dict[str, Any] = dict(show_default=default) if isinstance(default, str) else dict(default=default)
    return option(
        '--span',
        type=Count(),
        metavar='N',
        section=section,
        help='Length of a clip: its frames are spread evenly over N frames at 30 frames per second.',
        **shown,
    )


def start_option(
    section: str = 'Options', help: str = 'Start of the clip, from the first frame of each video.'
) -> Callable[[Any], Any]:
    return option(
        '--start',
        type=Number(0),
        metavar='SECONDS',
        section=section,
        show_default='that of the centered clip',
        help=help,
    )


def frames_option() -> Callable[[Any], Any]:
    return option(
        '--frames',
        metavar='ORDER',
        default='',
        show_default='as they come',
        help='A control for what is taken from time: the frames of each clip shuffled (shuffled@7 with a random seed '
        'other than 0), reversed, or static (the middle one alone).',
    )


def batch_option(default: int, what: str) -> Callable[[Any], Any]:
    return option('--batch-size', type=Count(), metavar='N', default=default, help=f'{what} per batch.')


def compile_option(
    help: str = 'Compile the model by torch.compile: faster on GPUs and for many files; needs a C++ compiler.',
    section: str = 'Model',
) -> Callable[[Any], Any]:
    return option('--compile', is_flag=True, section=section, help=help)


def block_option() -> Callable[[Any], Any]:
    return option(
        '--block',
        type=int,
        default=-1,
        metavar='B',
        show_default='the last block',
        help='Block to show, counted from 0 or, if negative, from the end.',
    )


def json_option(help: str = 'Print the results as JSON.') -> Callable[[Any], Any]:
    return option('--json', 'as_json', is_flag=True, help=help)


@dataclass
class Pictures:
    """Of which files pictures are made, how they look, and where they go."""

    num_vids: int | None
    seed: int
    out: Path
    format: str
    dpi: int
    title: bool
    save_arrays: bool


def picture_options(out: str) -> Callable[[Any], Any]:
    """--num-vids, --seed, --out, --format, --dpi, --no-title, --save-arrays."""
    of_pictures = functools.partial(option, section='Pictures')
    return family(
        'pictures',
        Pictures,
        option(
            '--num-vids',
            type=Count(),
            metavar='N',
            show_default='all',
            help='Use a random sample of this many of the files.',
        ),
        option('--seed', type=int, default=0, metavar='N', help='Random seed.'),
        folder_option(
            '--out', default=Path(out), section='Pictures', help='Folder for the pictures, and for a table of them.'
        ),
        of_pictures(
            '--format',
            type=Choice(['jpg', 'png', 'pdf', 'svg']),
            default='jpg',
            help='Format of the pictures. The text of a PDF stays text, that of an SVG becomes outlines.',
        ),
        of_pictures(
            '--dpi',
            type=Count(10, 1200),
            default=100,
            metavar='N',
            help='Dots per inch of JPEG and PNG: at 100 a frame has the pixels that the model receives, at 300 three '
            'times as many along each side.',
        ),
        of_pictures(
            '--no-title', 'title', flag_value=False, default=True, show_default=False, help='Leave the title out.'
        ),
        of_pictures(
            '--save-arrays',
            is_flag=True,
            help='Also write what each picture shows as numbers, with all settings, in a .npz of its name.',
        ),
    )


@dataclass
class ViewOptions:
    """Which views of each file a prediction is averaged over."""

    views: str | None
    batch_size: int
    span: int
    frames: str


def view_options() -> Callable[[Any], Any]:
    """--views, --batch-size, --span, --frames."""
    return family(
        'view',
        ViewOptions,
        option(
            '--views',
            metavar='CxK',
            show_default='1x1',
            help="Average over C clips times K crops of each video, for instance 5x3; 'random' takes one random "
            'clip and crop, as the published script does.',
        ),
        batch_option(4, 'Views'),
        span_option(RECOGNITION_SPAN),
        frames_option(),
    )
