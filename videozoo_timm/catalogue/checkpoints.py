"""The published backbones: one record each."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from . import humanlike
from .zoos import CLASSES, MOTIONS, PACKAGED, PAPERS, SAYCAM, num_params

ARCHITECTURES = {'vit': 'vit_h14_st', 'mae': 'mae_h14_st'}
SMALL_ARCHITECTURES = {'vit': 'vit_t14_st', 'mae': 'mae_t14_st'}  # of the zoo 'shapes'
IMAGE_ARCHITECTURES = {
    'vits16': 'vit_s16_im',
    'vitb16': 'vit_b16_im',
    'vitb14': 'vit_b14_im',
    'vitl16': 'vit_l16_im',
    'vits14': 'vit_s14_im',
    'vitl14': 'vit_l14_im',
    'vith14': 'vit_h14_im',
    'resnext50': 'resnext50_im',
}
SMALL_IMAGE_ARCHITECTURE, SMALL_IMAGE_MAE = 'vit_t16_im', 'mae_t16_im'  # no weights of them are published
IMAGE_MAES = tuple(name.replace('vit_', 'mae_') for name in IMAGE_ARCHITECTURES.values() if name.startswith('vit_'))
ALL_ARCHITECTURES = (
    *ARCHITECTURES.values(),
    *SMALL_ARCHITECTURES.values(),
    *IMAGE_MAES,  # before their encoders, which a file of theirs also fits
    SMALL_IMAGE_MAE,
    *IMAGE_ARCHITECTURES.values(),
    SMALL_IMAGE_ARCHITECTURE,
)
# Licenses that the pages of repositories on the Hub state. Nothing was found for the others.
LICENSES = {
    'eminorhan/dino_imagenet100_vitb14': 'mit',
    'eminorhan/dino_ego4d-200h_vitb14': 'mit',
    'eminorhan/humanlike-vits': 'mit',
}
VIDEO_MEAN, VIDEO_STD = (0.45,) * 3, (0.225,) * 3
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def takes_images(architecture: str) -> bool:
    """Whether it is an image encoder or MAE; the others take clips, and images as still clips."""
    return architecture.endswith('_im')


@dataclass(frozen=True)
class Checkpoint:
    """One published checkpoint.

    Attributes:
        name: Published name, `x_y_z`; `x_y_z_in1k` of what humanlike-vits loads with `finetuned=True`.
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
    def series(self) -> str:
        """The folder of its repository that holds it with other seeds and amounts of data; '' if it has none."""
        return self.filename.rpartition('/')[0]

    @property
    def finetuned(self) -> str | None:
        """Name of what humanlike-vits loads with `finetuned=True`; None if there is none."""
        return self.name.removesuffix(humanlike.FINETUNED) + humanlike.FINETUNED if self.series else None

    @property
    def is_image_encoder(self) -> bool:
        """Whether it is an image encoder (an image MAE included)."""
        return takes_images(self.architecture)

    @property
    def trained_on_images(self) -> bool:
        """Whether it was trained, or finetuned, on still images."""
        return self.is_image_encoder or '_imagenet-' in self.name

    @property
    def stored_architecture(self) -> str:
        """Architecture of the file's content: the MAE's file also serves the ViT that was not finetuned."""
        if self.whole is None and not self.name.endswith('_none'):
            return self.architecture
        return self.architecture.replace('vit_', 'mae_')

    @property
    def whole(self) -> 'Checkpoint | None':
        """The image MAE of the same file: this encoder with its decoder; None where no decoder was published."""
        of_images = self.zoo == 'humanlike-vits' or self.name.endswith(('_vits16', '_vitb16', '_vitl16'))
        if not of_images or not (self.series or self.name.startswith('mae_')) or self.num_classes:
            return None
        return replace(self, architecture=self.architecture.replace('vit_', 'mae_'))

    @property
    def license(self) -> str:
        """License of the weights, as their page on the Hub states it."""
        return LICENSES.get(self.repo, 'not stated by the publisher') if self.repo else 'mit'

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
        return num_params()[f'{architecture} {self.img_size} {self.num_classes}']

    def pretrained_cfg(self) -> dict[str, Any]:
        """timm's `PretrainedCfg` fields.

        Preprocessing follows the published tools: the short side goes to the input size + 32, then a center crop.
        """
        cfg = dict(
            preprocessing(self.img_size, self.trained_on_images),
            # timm builds the model in this size then; image encoders take others all the same.
            fixed_input_size=not self.is_image_encoder or self.img_size != 224,
            num_classes=self.num_classes,
            **_layers(self.architecture, bool(self.series and self.num_classes)),
            description=f'{self.name} of {self.zoo}',
        )
        if self.repo:
            paper_name, paper_id = PAPERS[self.zoo]
            cfg.update(
                hf_hub_id=self.repo,
                hf_hub_filename=self.safetensors,
                license=self.license,
                origin_url=f'https://github.com/eminorhan/{self.zoo}',
                paper_name=paper_name,
                paper_ids=f'arXiv:{paper_id}',
            )
        else:
            cfg.update(file=str(self.packaged), license=self.license)
        if self.num_classes == 1000:
            cfg.update(_imagenet_labels())
        elif self.num_classes == len(MOTIONS):
            cfg.update(label_names=MOTIONS)
        return cfg


def _layers(architecture: str, head_norm: bool) -> dict[str, Any]:
    """What timm's `PretrainedCfg` calls a model's first and last layer; `head_norm` if a batch norm is before it."""
    if architecture == 'resnext50_im':
        return dict(first_conv='conv1', classifier='fc', pool_size=(7, 7))
    # timm cannot adapt a kernel of rank 5 to other numbers of channels; given no name, it does not try.
    return dict(
        first_conv='patch_embed.proj' if architecture.endswith('_im') else (),
        classifier='head.1' if head_norm else 'head',
    )


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
    # What timm's `ImageNetInfo` says, which reads descriptions of 21,841 classes and takes longer than all else here.
    labels = json.loads((PACKAGED / 'imagenet_labels.json').read_text(encoding='utf-8'))
    return dict(label_names=tuple(labels), label_descriptions=labels)


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


def _humanlike(name: str) -> Checkpoint:
    published, is_finetuned = name.removesuffix(humanlike.FINETUNED), name.endswith(humanlike.FINETUNED)
    size, fraction, seed = published.split('_')
    architecture, _, pixels = size.partition('@')
    tag = '_'.join(filter(None, ('humanlike', pixels, fraction.replace('.', '_'), seed)))
    return Checkpoint(
        name=name,
        zoo='humanlike-vits',
        architecture=IMAGE_ARCHITECTURES[architecture],
        tag=tag + humanlike.FINETUNED * is_finetuned,
        repo='eminorhan/humanlike-vits',
        filename=humanlike.file_of(name),
        img_size=int(pixels or 224),
        num_classes=CLASSES['imagenet'] if is_finetuned else 0,
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
        name
        for data in ('hvm1', 'hvm1@448', 'kinetics')
        for name in _names(['mae'], [data], ['none']) + _names(['vit'], [data], ['none', *_SHOTS, 'imagenet-2pt'])
    ],
    'video-models': [
        name
        for data in [('say', 's', 'kinetics', 'kinetics-200h')]
        for name in _names(['mae'], data, ['none']) + _names(['vit'], data, ['none', *_SHOTS])
    ],
}
_IMAGE_ENCODERS = [
    *_names(
        ['dino'], [*SAYCAM, 'sfp', 'imagenet100', 'imagenet10', 'imagenet1', 'kinetics-200h', 'ego4d-200h'], ['vitb14']
    ),
    *_names(['dino'], [*SAYCAM, 'sfp'], ['resnext50']),
    *(name for method in ('dino', 'mugs', 'mae') for name in _names([method], SAYCAM, ['vitl16', 'vitb16', 'vits16'])),
]
CHECKPOINTS: tuple[Checkpoint, ...] = (
    *(_checkpoint(zoo, name) for zoo, names in _PUBLISHED.items() for name in names),
    *map(_image_encoder, _IMAGE_ENCODERS),
    *(_humanlike(name + ending) for ending in ('', humanlike.FINETUNED) for name in humanlike.NAMES),
    *(_shapes(name) for name in ('mae_shapes_none', 'vit_shapes_motion')),
)
# The image MAEs whole: timm names beside those of their encoders, of the same published names and files.
WHOLE = tuple(c.whole for c in CHECKPOINTS if c.whole)
