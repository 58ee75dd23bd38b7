"""What is published: one record per checkpoint.

Everything that lists, names or locates a model is made from these records: timm's default configs, the entrypoints of
`hubconf.py`, `get_available_models()`, the commands and the README's table.

A published name reads `x_y_z`: for a video model its type, pretraining data and finetuning data, for an image encoder
its training method, training data and architecture. Its timm name is `architecture.tag`.
"""
import difflib
import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

_logger = logging.getLogger(__name__)

ZOOS = ('hvm-1', 'video-models', 'silicon-menagerie', 'shapes')
DEFAULT_ZOO = 'video-models'  # the zoo of a bare name that is in two

ARCHITECTURES = {'vit': 'vit_h14_st', 'mae': 'mae_h14_st'}
SMALL_ARCHITECTURES = {'vit': 'vit_t14_st', 'mae': 'mae_t14_st'}  # of the zoo 'shapes'
IMAGE_ARCHITECTURES = {
    'vits16': 'vit_s16_im', 'vitb16': 'vit_b16_im', 'vitb14': 'vit_b14_im', 'vitl16': 'vit_l16_im',
    'resnext50': 'resnext50_im'}
SMALL_IMAGE_ARCHITECTURE = 'vit_t16_im'  # no weights of it are published
ALL_ARCHITECTURES = (
    *ARCHITECTURES.values(), *SMALL_ARCHITECTURES.values(), *IMAGE_ARCHITECTURES.values(), SMALL_IMAGE_ARCHITECTURE)
CLASSES = {'none': 0, 'ssv2': 174, 'kinetics': 700, 'imagenet': 1000, 'motion': 8}
CLASS_NAMES = {0: '', 174: 'SSV2', 700: 'Kinetics-700', 1000: 'ImageNet-1k', 8: 'motions'}
PACKAGED = Path(__file__).parent / 'data'  # weights that come with this package
_DIGESTS = PACKAGED / 'digests.json'  # {repository: {file: sha256}}; `videozoo pin` fills it

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

PAPERS = {
    'hvm-1': (
        'HVM-1: Large-scale video models pretrained with nearly 5000 hours of human-like video data', '2407.18067'),
    'video-models': (
        "Self-supervised learning of video representations from a child's perspective", '2402.00300'),
    'silicon-menagerie': (
        "Learning high-level visual representations from a child's perspective without strong inductive biases",
        '2305.15372'),
}

# Classes of the synthetic videos, in the order of their folders.
MOTIONS = ('down', 'grow', 'left', 'right', 'rotate', 'shrink', 'still', 'up')

VIDEO_MEAN, VIDEO_STD = (0.45,) * 3, (0.225,) * 3
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

def takes_images(architecture: str) -> bool:
    """Whether it is an image encoder; the others take clips, and images as still clips."""
    return architecture.endswith('_im')


@dataclass(frozen=True)
class Checkpoint:
    """One published checkpoint.

    Attributes:
        name: Published name, `x_y_z`.
        zoo: The zoo that published it; 'shapes' is this package's own.
        architecture: timm architecture.
        tag: timm tag; `architecture.tag` is the timm name.
        repo: Hub repository; '' of a file that comes with this package.
        filename: Published file in that repository, or in `PACKAGED`.
        img_size: Input height and width in pixels.
        num_classes: Size of the classification head, 0 without one.
    """
    name: str
    zoo: str
    architecture: str
    tag: str
    repo: str
    filename: str
    img_size: int
    num_classes: int

    @property
    def timm_name(self) -> str:
        """Name for `timm.create_model`."""
        return f'{self.architecture}.{self.tag}'

    @property
    def safetensors(self) -> str:
        """Converted file, beside the published one on the Hub and in the local cache."""
        return self.filename.rsplit('.', 1)[0] + '.safetensors'

    @property
    def is_image_encoder(self) -> bool:
        """Whether it is an image encoder."""
        return takes_images(self.architecture)

    @property
    def trained_on_images(self) -> bool:
        """Whether it was trained, or finetuned, on still images."""
        return self.is_image_encoder or '_imagenet-' in self.name

    @property
    def stored_architecture(self) -> str:
        """Architecture of the file's content: the MAE's file also serves the ViT that was not finetuned."""
        return self.architecture.replace('vit_', 'mae_') if self.name.endswith('_none') else self.architecture

    @property
    def license(self) -> str:
        """License of the weights."""
        return 'not stated by the publisher' if self.repo else 'mit'

    @property
    def num_params(self) -> int:
        """Number of parameters, the classification head included."""
        return self._num_params(self.architecture)

    @property
    def num_bytes(self) -> int:
        """Size of the converted file's tensors (float32; those of this package are float16)."""
        return (4 if self.repo else 2) * self._num_params(self.stored_architecture)

    @property
    def packaged(self) -> Path | None:
        """The file, if it comes with this package."""
        return None if self.repo else PACKAGED / self.filename

    def _num_params(self, architecture: str) -> int:
        return _num_params()[f'{architecture} {self.img_size} {self.num_classes}']

    def pretrained_cfg(self) -> dict[str, Any]:
        """timm's `PretrainedCfg` fields.

        Preprocessing follows the published tools: the short side goes to the input size + 32, then a center crop.
        """
        cfg = dict(
            preprocessing(self.img_size, self.trained_on_images),
            fixed_input_size=not self.is_image_encoder,
            num_classes=self.num_classes,
            **_layers(self.architecture),
            description=f'{self.name} of {self.zoo}',
        )
        if self.repo:
            paper_name, paper_id = PAPERS[self.zoo]
            cfg.update(
                hf_hub_id=self.repo, hf_hub_filename=self.safetensors, license=self.license,
                origin_url=f'https://github.com/eminorhan/{self.zoo}', paper_name=paper_name,
                paper_ids=f'arXiv:{paper_id}')
        else:
            cfg.update(file=str(self.packaged), license=self.license)
        if self.num_classes == 1000:
            cfg.update(_imagenet_labels())
        elif self.num_classes == len(MOTIONS):
            cfg.update(label_names=MOTIONS)
        return cfg


@lru_cache(maxsize=1)
def _num_params() -> dict[str, int]:
    """What `tests/count_parameters.py` has counted, so that a list of models needs none of them."""
    return json.loads((PACKAGED / 'num_params.json').read_text())


def _layers(architecture: str) -> dict[str, Any]:
    """What timm's `PretrainedCfg` calls a model's first and last layer."""
    if architecture == 'resnext50_im':
        return dict(first_conv='conv1', classifier='fc', pool_size=(7, 7))
    # timm cannot adapt a kernel of rank 5 to other numbers of channels; given no name, it does not try.
    return dict(first_conv='patch_embed.proj' if architecture.endswith('_im') else (), classifier='head')


def preprocessing(img_size: int, of_images: bool) -> dict[str, Any]:
    """The fields of timm's `PretrainedCfg` that say how pixels are prepared."""
    return dict(
        input_size=(3, img_size, img_size),
        interpolation='bicubic' if of_images else 'bilinear',
        crop_pct=img_size / (img_size + 32),
        mean=IMAGENET_MEAN if of_images else VIDEO_MEAN,
        std=IMAGENET_STD if of_images else VIDEO_STD,
    )


@lru_cache(maxsize=1)
def _imagenet_labels() -> dict[str, Any]:
    from timm.data.imagenet_info import ImageNetInfo
    info = ImageNetInfo('imagenet-1k')
    names = tuple(info.label_names())
    return dict(label_names=names, label_descriptions={n: info.label_name_to_description(n) for n in names})


def _checkpoint(zoo: str, name: str) -> Checkpoint:
    kind, pretrained_on, finetuned_on = name.split('_')
    # Both zoos publish models pretrained on Kinetics; hvm-1's carry its name in their tag.
    data = 'kinetics_hvm1' if zoo == 'hvm-1' and pretrained_on == 'kinetics' else pretrained_on
    tag = data if finetuned_on == 'none' else f'{data}_{finetuned_on}'
    return Checkpoint(
        name=name,
        zoo=zoo,
        architecture=ARCHITECTURES[kind],
        tag=tag.replace('@', '_').replace('-', '_'),
        repo=f'eminorhan/{zoo}',
        filename=f'{pretrained_on}_{finetuned_on}.pth',
        img_size=448 if pretrained_on.endswith('@448') else 224,
        num_classes=CLASSES[finetuned_on.split('-')[0]],
    )


def _image_encoder(name: str) -> Checkpoint:
    method, data, architecture = name.split('_')
    return Checkpoint(
        name=name,
        zoo='silicon-menagerie',
        architecture=IMAGE_ARCHITECTURES[architecture],
        tag=f'{method}_{data}'.replace('-', '_'),
        repo=f'eminorhan/{name}',
        filename=f'{name}.pth',
        img_size=224,
        num_classes=0,
    )


def _shapes(name: str) -> Checkpoint:
    kind, _, finetuned_on = name.split('_')
    return Checkpoint(
        name=name,
        zoo='shapes',
        architecture=SMALL_ARCHITECTURES[kind],
        tag='shapes' if finetuned_on == 'none' else f'shapes_{finetuned_on}',
        repo='',
        filename=f'{name}.safetensors',
        img_size=112,
        num_classes=CLASSES[finetuned_on],
    )


def _names(models: Iterable[str], pretrained_on: Iterable[str], finetuned_on: Iterable[str]) -> list[str]:
    return [f'{x}_{y}_{z}' for x in models for z in finetuned_on for y in pretrained_on]


_SHOTS = ('ssv2-50shot', 'ssv2-10shot', 'kinetics-50shot', 'kinetics-10shot')
_PUBLISHED = {
    'hvm-1': [
        name for data in ('hvm1', 'hvm1@448', 'kinetics')
        for name in _names(['mae'], [data], ['none']) + _names(['vit'], [data], ['none', *_SHOTS, 'imagenet-2pt'])
    ],
    'video-models': [
        name for data in [('say', 's', 'kinetics', 'kinetics-200h')]
        for name in _names(['mae'], data, ['none']) + _names(['vit'], data, ['none', *_SHOTS])
    ],
}
_SAYCAM = ('say', 's', 'a', 'y')  # all three children, and each alone
_IMAGE_ENCODERS = [
    *_names(['dino'], [*_SAYCAM, 'sfp', 'imagenet100', 'imagenet10', 'imagenet1', 'kinetics-200h', 'ego4d-200h'],
            ['vitb14']),
    *_names(['dino'], [*_SAYCAM, 'sfp'], ['resnext50']),
    *(name for method in ('dino', 'mugs', 'mae') for name in _names([method], _SAYCAM, ['vitl16', 'vitb16', 'vits16'])),
]
_OLD_SPELLING = re.compile(r'imagenet_(100|10|1)(?=[_+]|$)')  # of fractions of ImageNet

CHECKPOINTS: tuple[Checkpoint, ...] = (
    *(_checkpoint(zoo, name) for zoo, names in _PUBLISHED.items() for name in names),
    *map(_image_encoder, _IMAGE_ENCODERS),
    *(_shapes(name) for name in ('mae_shapes_none', 'vit_shapes_motion')),
)


def available_models(zoo: str | None = None) -> list[str]:
    """Distinct published names, in published order."""
    if zoo is not None:
        _check_zoo(zoo)
    published = (*(c for c in CHECKPOINTS if c.repo), *GENERATORS, *(c for c in CHECKPOINTS if not c.repo))
    return list(dict.fromkeys(c.name for c in published if zoo in (None, c.zoo)))


def find(name: str, zoo: str | None = None, warn: Callable[[str], None] = _logger.warning) -> Checkpoint:
    """The record of a published name or of a timm name.

    Args:
        name: `x_y_z`, or `architecture.tag`; a bare architecture means its default tag. `imagenet_10`, as
            `imagenet10` was first spelled, is understood.
        zoo: The zoo that is meant; needed only for the six names that are in two zoos.
        warn: Called with a message if a name is in two zoos and `zoo` does not say which.

    Raises:
        ValueError: No such model, with the nearest names; or no such zoo; or a zoo that does not have the model.
    """
    if zoo is not None:
        _check_zoo(zoo)
    name = _OLD_SPELLING.sub(r'imagenet\1', name)
    matches = [c for c in CHECKPOINTS if name in (c.name, c.timm_name)]
    if not matches:
        matches = [c for c in CHECKPOINTS if c.architecture == name][:1]
    if not matches and find_generator(name):
        raise ValueError(f'{name!r} is an image generator, no backbone: load_model({name!r}), `videozoo generate`')
    if not matches:
        raise ValueError(_unknown(name))
    if zoo is not None:
        chosen = [c for c in matches if c.zoo == zoo]
        if not chosen:
            raise ValueError(f'{name!r} is not in the zoo {zoo!r}, it is in {matches[0].zoo!r}')
        return chosen[0]
    if len(matches) > 1:
        chosen = next(c for c in matches if c.zoo == DEFAULT_ZOO)
        others = ', '.join(f'{c.zoo!r} ({c.timm_name})' for c in matches)
        warn(f'{name!r} stands in two zoos with different weights: {others}; taking {chosen.zoo!r}. '
             'Naming a zoo chooses, and silences this.')
        return chosen
    return matches[0]


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
            GPT_SIZES[self.name.rsplit('_', 1)[1]], vocab_size=self.vqgan_args['num_codes'],
            block_size=self.grid_size ** 2 - 1)

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
        return _num_params()[f'vqgan {self.vqgan_args["num_codes"]}']

    @property
    def num_params(self) -> int:
        """Of the GPT."""
        return _num_params()[f'gpt {self.name.rsplit("_", 1)[1]} {self.vqgan_args["num_codes"]}']

def _generator(name: str) -> Generator:
    data = name.rsplit('_', 1)[0].split('+')[0]
    if data.startswith('imagenet'):
        return Generator(name, 'imagenet_16x16_16384')
    return Generator(name, f'{"say" if data.startswith("konkle") else data}_32x32_8192')


_KONKLE = {'konkleiid': ('imagenet100', 'imagenet10', 'imagenet1', *_SAYCAM),
           'konklenonvehicle': (*_SAYCAM, 'imagenet100', 'imagenet10', 'imagenet1')}
GENERATORS: tuple[Generator, ...] = tuple(map(_generator, (
    *(f'{data}_gimel' for data in (*_SAYCAM, 'imagenet100', 'imagenet10', 'imagenet1')),
    *(f'imagenet100_{size}' for size in ('alef', 'bet', 'dalet')),
    *(f'{data}+{finetuned_on}_gimel' for finetuned_on, every in _KONKLE.items() for data in every),
    *(f'{data}_gimel' for data in _KONKLE),
)))


def find_generator(name: str, zoo: str | None = None) -> Generator | None:
    """The record of a generator's name; None if no generator has this name.

    Raises:
        ValueError: The generator is in another zoo.
    """
    name = _OLD_SPELLING.sub(r'imagenet\1', name)
    found = next((g for g in GENERATORS if g.name == name), None)
    if found and zoo not in (None, found.zoo):
        raise ValueError(f'{name!r} is not in the zoo {zoo!r}, it is in {found.zoo!r}')
    return found


def packaged_as(file: str | None) -> Checkpoint | None:
    """The record of a file that comes with this package."""
    return next((c for c in CHECKPOINTS if c.packaged and str(c.packaged) == file), None)


def stored_in(repo: str, filename: str) -> Checkpoint | None:
    """The record that describes the content of a file; the MAE, if a ViT shares its file."""
    sharing = [c for c in CHECKPOINTS if c.repo and c.repo == repo and filename in (c.filename, c.safetensors)]
    return next((c for c in sharing if c.architecture == c.stored_architecture), None)


@lru_cache(maxsize=1)
def _pinned() -> dict[str, dict[str, str]]:
    return json.loads(_DIGESTS.read_text())


def digests_of(repo: str | None) -> dict[str, str]:
    """The known sha256 of published files of a Hub repository, by their names; none are known of other revisions."""
    return dict(_pinned().get(repo, {})) if repo else {}


def pin(repo: str, digests: Mapping[str, str]) -> None:
    """Record the sha256 of published files in this package's own data.

    Raises:
        OSError: The data cannot be written.
    """
    from .files import atomic_write  # here, as nothing else in this module needs it
    known = json.loads(_DIGESTS.read_text())
    known.setdefault(repo, {}).update(digests)
    with atomic_write(_DIGESTS) as partial:
        partial.write_text(json.dumps(known, indent=2, sort_keys=True) + '\n')
    _pinned.cache_clear()


def _check_zoo(zoo: str) -> None:
    if zoo not in ZOOS:
        near = difflib.get_close_matches(zoo, ZOOS, n=1)
        hint = f'did you mean {near[0]!r}? ' if near else ''
        raise ValueError(f'no zoo {zoo!r}; {hint}there are {list(ZOOS)}')


def _unknown(name: str) -> str:
    published = available_models()
    parts = name.split('_')
    if parts[0] == 'mae' and len(parts) == 3 and parts[2] != 'none' and f'vit_{parts[1]}_{parts[2]}' in published:
        return (f'no model {name!r}: the MAE is published without finetuning only; '
                f'did you mean \'vit_{parts[1]}_{parts[2]}\' or \'mae_{parts[1]}_none\'?')
    if re.search(r'imagenet_?3(?=[_+]|$)', name):
        return (f'no model {name!r}: models of imagenet_3 were announced but never published; there are imagenet100, '
                f'imagenet10 and imagenet1')
    known = published + [c.timm_name for c in CHECKPOINTS] + list(ALL_ARCHITECTURES)
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.6)
    hint = f'did you mean {" or ".join(map(repr, near))}? ' if near else ''
    return f'no model {name!r}; {hint}get_available_models() (`videozoo list`) lists them all'
