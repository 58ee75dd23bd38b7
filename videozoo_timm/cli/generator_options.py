"""The generator that a command's options name, and the sampling of its codes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..notes import tell_settings
from .base import family, option
from .completion import complete_generator
from .loading import complain_of_dtype, pick_device, take_default
from .options import device_option, zoo_option
from .types import FILE, Choice

if TYPE_CHECKING:
    import torch

    from ..models import VideoGenerator


DEFAULT = 'gen_shapes_64'


@dataclass
class GeneratorOptions:
    """Which generator, and how it runs."""

    model: str | None
    zoo: str | None
    weights: Path | None
    gpt: Path | None
    vqgan: Path | None
    device: str | None
    dtype: str | None

    @property
    def files(self) -> dict[str, Path]:
        """The local files of its parts."""
        return {kind: file for kind, file in (('gpt', self.gpt), ('vqgan', self.vqgan)) if file is not None}

    @property
    def of_files(self) -> bool:
        """Whether it is a video generator that files alone name."""
        return self.model is None and (self.weights is not None or len(self.files) == 2)

    @property
    def name(self) -> str:
        """What to call it."""
        if self.model is not None:
            return self.model
        return ' and '.join(path.name for path in (self.weights, self.gpt, self.vqgan) if path is not None)


def generator_options() -> Callable[[Any], Any]:
    """--model, --zoo, --weights, --gpt, --vqgan, --device, --dtype."""
    return family(
        'chosen',
        GeneratorOptions,
        option(
            '--model',
            '--model-name',
            'model',
            metavar='NAME',
            shell_complete=complete_generator,
            show_default=f'{DEFAULT}, which comes with this package',
            help='Published name, for instance say_gimel.',
        ),
        zoo_option(),
        option('--weights', type=FILE, metavar='FILE', help='Local file that holds a whole video generator.'),
        option(
            '--gpt',
            type=FILE,
            metavar='FILE',
            help="Local file of the model's GPT, .pt, .ckpt or .safetensors; without --model, of a video generator.",
        ),
        option('--vqgan', type=FILE, metavar='FILE', help="Local file of the model's VQGAN, .ckpt or .safetensors."),
        device_option(),
        option(
            '--dtype',
            type=Choice(['float32', 'bfloat16']),
            show_default='bfloat16 where the device is fast at it',
            help='Data type of the GPT.',
        ),
    )


def check_named(chosen: GeneratorOptions, of_images: bool = False) -> bool:
    """Whether the options name a video generator and not one of images; nothing is loaded.

    Where they name none it is the one of videos that comes with the package, unless only one of images will do.

    Raises:
        ValueError: They name what is no generator, or a part of one.
    """
    from ..identity import resolve

    if chosen.of_files:
        if chosen.weights is not None and chosen.files:
            raise ValueError('--weights holds both models: leave out --gpt and --vqgan')
        return True
    if chosen.model is None and chosen.files:
        missing = '--gpt' if chosen.gpt is None else '--vqgan'
        raise ValueError(f'a video generator has two models: name the file of the other one with {missing}')
    if chosen.model is None and of_images:
        raise ValueError('name a generator of images with --model (`videozoo list --zoo silicon-menagerie` shows them)')
    if chosen.model is None:
        take_default_generator(chosen)
        return True
    resolved = resolve(chosen.model, zoo=chosen.zoo)
    if not resolved.is_generator:
        raise ValueError(
            f'{chosen.model} is no image generator, and no video generator; take say_gimel or another of '
            f'`videozoo list`'
        )
    if chosen.weights is not None or (resolved.is_video_generator and chosen.files):
        raise ValueError(f'{chosen.model} and files contradict each other: leave --model out')
    return resolved.is_video_generator


def take_default_generator(chosen: Any) -> str:
    """The generator of a command that names none, which says so, and notes it in its record."""
    take_default(chosen, DEFAULT)
    tell_settings(model=DEFAULT)
    return DEFAULT


def placement(chosen: GeneratorOptions) -> 'tuple[torch.device, torch.dtype]':
    """Device of the models, and data type of the GPT."""
    import torch

    from ..models.attention import fast_in_bfloat16

    place = pick_device(chosen.device)
    complain_of_dtype(chosen.dtype, place)
    return place, getattr(torch, chosen.dtype or ('bfloat16' if fast_in_bfloat16(place) else 'float32'))


def load_video_generator(chosen: GeneratorOptions) -> 'VideoGenerator':
    """The video generator that the options name; `check_named` was asked before."""
    from ..factory import load_generator, load_model

    device, dtype = placement(chosen)
    if chosen.model is not None:
        model: Any = load_model(chosen.model, zoo=chosen.zoo, device=device, dtype=dtype)
        return model
    return load_generator(chosen.weights, gpt=chosen.gpt, vqgan=chosen.vqgan, device=device, dtype=dtype)
