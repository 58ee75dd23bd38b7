"""Which features of a model: of which tokens, of which blocks."""

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..inference.checks import checked_model
from ..text import counted

__all__ = ['Features', 'checked_block', 'num_blocks']

TOKENS = ('class', 'mean', 'all')


@dataclass(frozen=True)
class Features:
    """Which features of a model.

    Attributes:
        tokens: 'class' (the class token; without `blocks` what the model's head would get: of the published ViTs the
            class token after the final norm), 'mean' (of the patch tokens) or 'all' (the patch tokens as a map).
        blocks: Of which blocks, negative ones counted from the end; None for the model's end, after its final norm.
        norm: Apply the final norm to the tokens of every block.
    """

    tokens: str = 'class'
    blocks: tuple[int, ...] | None = None
    norm: bool = False

    def __post_init__(self):
        if self.tokens not in TOKENS:
            raise ValueError(f'tokens must be one of {list(TOKENS)}, got {self.tokens!r}')
        if self.blocks is not None:
            given: Any = self.blocks  # as people write them
            blocks = given if isinstance(given, Iterable) else [given]
            object.__setattr__(self, 'blocks', tuple(_index('blocks', block) for block in blocks))

    def resolved(self, model: nn.Module) -> list[int] | None:
        """The blocks counted from 0, in the order of the request.

        Raises:
            ValueError: No such block in the model, or one named twice; or no class token.
        """
        if self.blocks is None:
            return None
        depth, asked = num_blocks(model), list(self.blocks if isinstance(self.blocks, Iterable) else [self.blocks])
        if not asked or not all(-depth <= block < depth for block in asked):
            raise ValueError(f'blocks={asked}: the model has blocks 0 to {depth - 1}, or -{depth} to -1')
        blocks = [block % depth for block in asked]
        if len(set(blocks)) < len(blocks):
            raise ValueError(f'blocks={asked} names a block twice')
        if len(blocks) > 1 and not hasattr(model, 'blocks'):
            raise ValueError(f"blocks={blocks}: a ResNet's stages differ in width and size, take one at a time")
        if self.tokens == 'class' and not getattr(model, 'num_prefix_tokens', 0):
            raise ValueError("the model has no class token: take tokens='mean'")
        return blocks

    def compute(self, model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """Features of clips [B, C, T, H, W] or images [B, C, H, W]: [B, ...] as `Embeddings.features`."""
        blocks, timm_model = self.resolved(model), checked_model(model)
        if blocks is None and self.tokens == 'class':
            return timm_model.forward_head(timm_model.forward_features(x), pre_logits=True)
        wanted = [num_blocks(model) - 1] if blocks is None else blocks
        ascending = sorted(wanted)  # the order in which timm gives them
        with_prefix = dict(return_prefix_tokens=True) if hasattr(model, 'blocks') else {}
        outputs = timm_model.forward_intermediates(
            x,
            indices=ascending,
            norm=self.norm or blocks is None,
            intermediates_only=True,
            stop_early=True,
            **with_prefix,
        )
        rows = []
        for block in wanted:
            output = outputs[ascending.index(block)]
            maps = output[0] if isinstance(output, tuple) else output  # [B, C, (T',) H', W']
            if self.tokens == 'class':
                rows.append(output[1][:, 0])  # [B, P, C]
            elif self.tokens == 'mean':
                rows.append(maps.flatten(2).mean(dim=2))
            else:
                rows.append(maps.movedim(1, -1))
        return rows[0] if blocks is None else torch.stack(rows, dim=1)


def checked_block(model: nn.Module, block: int) -> int:
    """A block counted from 0.

    Raises:
        IndexError: No such block.
        TypeError: It is no whole number.
    """
    index, depth = _index('block', block), num_blocks(model)
    if not -depth <= index < depth:
        raise IndexError(f'block={block}: the model has {counted(depth, "block")}, {-depth} to {depth - 1}')
    return index % depth


def _index(name: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError as error:
        raise TypeError(f'{name}={value!r}: blocks are whole numbers') from error


def num_blocks(model: nn.Module) -> int:
    """Blocks of a ViT; the stem and the stages of a ResNet."""
    timm_model = checked_model(model)
    return len(timm_model.blocks if hasattr(timm_model, 'blocks') else timm_model.feature_info)
