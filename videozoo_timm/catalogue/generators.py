"""The generators of images and of videos: one record each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .zoos import OLD_SPELLING, PACKAGED, SAYCAM, num_params

GPT_SIZES = {
    'alef': dict(depth=12, num_heads=12, embed_dim=768),
    'bet': dict(depth=24, num_heads=16, embed_dim=1024),
    'gimel': dict(depth=36, num_heads=20, embed_dim=1280),
    'dalet': dict(depth=48, num_heads=25, embed_dim=1600),
}
VQGAN_SIZES = {
    '32x32_8192': dict(num_codes=8192, ch_mult=(1, 1, 2, 4), attn_resolutions=(32,)),
    '16x16_16384': dict(num_codes=16384, ch_mult=(1, 1, 2, 2, 4), attn_resolutions=(16,)),
}


@dataclass(frozen=True)
class Generator:
    """One published image generator: a GPT, and the VQGAN that it shares with others.

    Attributes:
        name: Published name, `data_size`.
        vqgan: Its VQGAN, `data_grid_codes`.
    """

    name: str
    vqgan: str
    repo: str = 'eminorhan/gpt_saycam'
    zoo: str = 'silicon-menagerie'

    @property
    def gpt_filename(self) -> str:
        """Published file of the GPT."""
        return f'gpt_pretrained_models/{self.name}.pt'

    @property
    def vqgan_filename(self) -> str:
        """Published file of the VQGAN."""
        return f'vqgan_pretrained_models/{self.vqgan}.ckpt'

    @property
    def vqgan_args(self) -> dict[str, Any]:
        """Arguments of the VQGAN that differ from its defaults."""
        return VQGAN_SIZES[self.vqgan.split('_', 1)[1]]

    @property
    def grid_size(self) -> int:
        """Codes along the height and the width of an image."""
        return 256 // 2 ** (len(self.vqgan_args['ch_mult']) - 1)

    @property
    def gpt_args(self) -> dict[str, Any]:
        """Arguments of the GPT."""
        return dict(
            GPT_SIZES[self.name.rsplit('_', 1)[1]],
            vocab_size=self.vqgan_args['num_codes'],
            block_size=self.grid_size**2 - 1,
        )

    @property
    def part_args(self) -> dict[str, dict[str, Any]]:
        """Arguments of its two models."""
        return dict(gpt=self.gpt_args, vqgan=self.vqgan_args)

    @property
    def num_bytes(self) -> int:
        """Size of both converted files (float32); several GPTs share a VQGAN."""
        return 4 * (self.num_params + self.vqgan_params)

    @property
    def vqgan_params(self) -> int:
        """Number of parameters of the VQGAN."""
        return num_params()[f'vqgan {self.vqgan_args["num_codes"]}']

    @property
    def num_params(self) -> int:
        """Of the GPT."""
        return num_params()[f'gpt {self.name.rsplit("_", 1)[1]} {self.vqgan_args["num_codes"]}']


@dataclass(frozen=True)
class PackagedGenerator:
    """One generator of videos that comes with this package, both models in one file.

    Attributes:
        name: What it is called.
        num_frames: Frames of a clip.
        img_size: Height and width, in pixels.
        grid_size: Codes along time, height and width of a clip.
        num_codes: Size of the codebook.
    """

    name: str
    num_frames: int
    img_size: int
    grid_size: tuple[int, int, int]
    num_codes: int
    zoo: str = 'shapes'
    repo: str = ''

    @property
    def packaged(self) -> Path:
        """Its file."""
        return PACKAGED / f'{self.name}.safetensors'

    @property
    def num_bytes(self) -> int:
        """Size of its file."""
        return self.packaged.stat().st_size

    @property
    def num_params(self) -> int:
        """Of both models."""
        return num_params()[self.name]


def _generator(name: str) -> Generator:
    data = name.rsplit('_', 1)[0].split('+')[0]
    if data.startswith('imagenet'):
        return Generator(name, 'imagenet_16x16_16384')
    return Generator(name, f'{"say" if data.startswith("konkle") else data}_32x32_8192')


_KONKLE = {
    'konkleiid': ('imagenet100', 'imagenet10', 'imagenet1', *SAYCAM),
    'konklenonvehicle': (*SAYCAM, 'imagenet100', 'imagenet10', 'imagenet1'),
}
GENERATORS: tuple[Generator, ...] = tuple(
    map(
        _generator,
        (
            *(f'{data}_gimel' for data in (*SAYCAM, 'imagenet100', 'imagenet10', 'imagenet1')),
            *(f'imagenet100_{size}' for size in ('alef', 'bet', 'dalet')),
            *(f'{data}+{finetuned_on}_gimel' for finetuned_on, every in _KONKLE.items() for data in every),
            *(f'{data}_gimel' for data in _KONKLE),
        ),
    )
)


# A model that is trained anew is a row here, its file in `data`, and its number of parameters.
_VIDEO_GENERATORS: tuple[PackagedGenerator, ...] = (PackagedGenerator('gen_shapes_64', 16, 64, (8, 8, 8), 512),)


def video_generators() -> tuple[PackagedGenerator, ...]:
    """The generators of videos."""
    return _VIDEO_GENERATORS


def find_video_generator(name: str, zoo: str | None = None) -> PackagedGenerator | None:
    """The record of a video generator's name; None if no video generator has this name.

    Raises:
        ValueError: The generator is in another zoo.
    """
    found = next((g for g in video_generators() if g.name == name), None)
    if found and zoo not in (None, found.zoo):
        raise ValueError(f'{name!r} is not in the zoo {zoo!r}, it is in {found.zoo!r}')
    return found


def find_generator(name: str, zoo: str | None = None) -> Generator | None:
    """The record of a generator's name; None if no generator has this name.

    Raises:
        ValueError: The generator is in another zoo.
    """
    name = OLD_SPELLING.sub(r'imagenet\1', name)
    found = next((g for g in GENERATORS if g.name == name), None)
    if found and zoo not in (None, found.zoo):
        raise ValueError(f'{name!r} is not in the zoo {zoo!r}, it is in {found.zoo!r}')
    return found
