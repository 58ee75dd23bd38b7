"""What a checkpoint file holds: what it says of itself, and what its tensors are."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import catalogue
from .catalogue import Checkpoint, Generator
from .text import printable

if TYPE_CHECKING:
    import torch

    from .weights import Tensors, Weights

# Model classes outside timm's registry, needed to recognize their files; `models` adds them.
builders: dict[str, Callable[..., Any]] = {}
HEADS = ('head', 'head.1', 'fc')  # linear layers that classify: of a ViT, of one with a batch norm, of a ResNet
_KEYS_OF_PARTS = {'gpt': 'tok_emb.weight', 'vqgan': 'quantize.embedding.weight'}  # by which they are told apart


@dataclass(frozen=True)
class Contents:
    """Contents of a local checkpoint. The file is opened on first access, and only once.

    Attributes:
        path: `.pth` or `.safetensors`.
        mapped: As in `read_weights`.
    """

    path: Path
    mapped: bool | None = None

    @cached_property
    def weights(self) -> 'Weights':
        from .weights import read_weights

        return read_weights(self.path, self.mapped)

    @cached_property
    def header(self) -> dict[str, Any]:
        """What the file says of itself; empty of pickles."""
        return self.weights.header

    @cached_property
    def shapes(self) -> 'Tensors':
        """Its tensors in timm's layout, without their values (on the meta device)."""
        import torch

        from .weights import to_timm

        return to_timm({k: torch.empty(v.shape, device='meta') for k, v in self.weights.tensors.items()})

    @cached_property
    def recognized(self) -> str | None:
        """The architecture of this package that its tensors belong to, or 'gpt' or 'vqgan'; needs `models` imported."""
        return recognize({k: tuple(v.shape) for k, v in self.shapes.items()})

    @property
    def architecture(self) -> str | None:
        """What its header says, or else what its tensors are."""
        return self.header.get('architecture') or self.recognized

    @property
    def record(self) -> Checkpoint | None:
        """The published checkpoint that its header names."""
        name = self.header.get('name')
        is_published = any(name == c.name for c in catalogue.CHECKPOINTS)
        return catalogue.find(name, self.header.get('zoo')) if name and is_published else None

    @property
    def num_classes(self) -> int:
        """Rows of its head, 0 without one."""
        heads = (self._ranked(f'{name}.weight', 2) for name in HEADS)
        return next((head.shape[0] for head in heads if head is not None), 0)

    @property
    def input_size(self) -> tuple[int, int, int] | None:
        """Channels, height and width that its tensors were made for; None if unknown."""
        kernel = self._ranked('patch_embed.proj.weight', 4, 5)
        spatial, positions = self._ranked('pos_embed_spatial', 3), self._ranked('pos_embed', 3)
        if kernel is None:
            return None
        if spatial is not None:
            number = spatial.shape[1]
        elif positions is not None:
            number = positions.shape[1] - 1
        else:
            return None
        side = math.isqrt(number)
        return (kernel.shape[1], side * kernel.shape[-2], side * kernel.shape[-1]) if side**2 == number else None

    @property
    def num_frames(self) -> int | None:
        """Frames of a clip that its tensors were made for; None if it is no video model."""
        steps, kernel = self._ranked('pos_embed_temporal', 3), self._ranked('patch_embed.proj.weight', 5)
        return None if steps is None or kernel is None else steps.shape[1] * kernel.shape[2]

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """The fields of timm's `PretrainedCfg` that it tells."""
        told = {k: self.header[k] for k in ('mean', 'std', 'interpolation', 'label_names') if k in self.header}
        size = self.header.get('input_size') or self.input_size
        if self._ranked('head.1.weight', 2) is not None:
            told['classifier'] = 'head.1'
        return told | dict(num_classes=self.num_classes) | (dict(input_size=size) if size else {})

    def take(self) -> 'Tensors':
        """The tensors, which are no longer kept here afterwards; header and shapes are."""
        _ = self.header, self.shapes
        return self.__dict__.pop('weights').tensors

    def check(self, architecture: str) -> None:
        """Raise a ValueError if its tensors cannot be of an architecture."""
        first = 'conv1.weight' if architecture.startswith('resne') else 'patch_embed.proj.weight'
        is_video = architecture.endswith('_st')
        kind = 'video model' if is_video else architecture
        fits = self._ranked(first, 5 if is_video else 4) is not None
        if catalogue.takes_images(architecture):
            fits = fits and bool(self.architecture)
        if not fits:
            found = [printable(key, 80) for key in islice(self.shapes, 4)]
            raise ValueError(f'{self.path} is no {kind}: its tensors are {found} and so on')

    def part_of(self, record: Generator) -> str:
        """Which part of a generator it is, 'gpt' or 'vqgan'.

        Raises:
            ValueError: Neither.
        """
        shapes = {k: tuple(v.shape) for k, v in self.shapes.items()}
        for kind, args in record.part_args.items():
            if _KEYS_OF_PARTS[kind] in shapes and shapes == _shapes_of(kind, args):
                return kind
        raise ValueError(f'{self.path} is neither the GPT nor the VQGAN of {record.name}')

    def _ranked(self, key: str, *ranks: int) -> 'torch.Tensor | None':
        """A tensor, if it is there, has values and one of these numbers of dimensions."""
        tensor = self.shapes.get(key)
        return tensor if tensor is not None and tensor.ndim in ranks and tensor.numel() else None


def serves(stored: str | None, architecture: str) -> bool:
    """Whether a file of one architecture holds the weights of another: an MAE's file holds its encoder, a ViT."""
    return stored in (architecture, architecture.replace('vit_', 'mae_', 1))


def recognize(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """The architecture of this package, or 'gpt' or 'vqgan' of a generator, whose tensors have these names and shapes.

    It is found by building each on the meta device, so `models` must have been imported.
    """
    for kind, key in _KEYS_OF_PARTS.items():
        if key in shapes:
            every = {repr(args): args for g in catalogue.GENERATORS for args in (g.part_args[kind],)}
            return kind if any(shapes == _shapes_of(kind, args) for args in every.values()) else None
    for architecture in catalogue.ALL_ARCHITECTURES:
        if architecture.startswith('mae_') and 'decoder_pred.weight' not in shapes:
            continue
        fixed = _fixed_shapes(architecture)
        rest = {k for k in shapes if k not in fixed and 'pos_embed' not in k}
        if catalogue.takes_images(architecture):  # a decoder of another size than the published
            rest = {k for k in rest if not k.startswith(('decoder_', 'mask_token'))}
        heads = {f'{name}.{part}' for name in HEADS for part in ('weight', 'bias')}
        heads |= {f'head.0.{part}' for part in ('running_mean', 'running_var', 'num_batches_tracked')}
        if all(shapes.get(k) == shape for k, shape in fixed.items()) and rest <= heads:
            return architecture
    return None


@cache
def _fixed_shapes(architecture: str) -> dict[str, tuple[int, ...]]:
    """Its tensors but the position embeddings, which follow the input's size, and the head, which does the classes."""
    from timm import create_model

    model = create_model(architecture, num_classes=0, device='meta', weight_init='skip')
    return {k: tuple(v.shape) for k, v in model.state_dict().items() if 'pos_embed' not in k}


def _shapes_of(kind: str, args: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {k: tuple(v.shape) for k, v in builders[kind](**args, device='meta').state_dict().items()}
