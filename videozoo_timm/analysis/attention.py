"""Where the class token looks."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ..figures import Grid, heat, overlay, upsample
from ..inference.checks import check_finite, checked_clip, checked_model, name_of
from ..inference.pipeline import evaluating, placement_of
from ..video import denormalize
from .features import checked_block
from .pictured import Pictured

__all__ = ['AttentionMaps', 'attend', 'check_attention', 'keep_fraction', 'strongest_head']


@dataclass(repr=False)
class AttentionMaps(Pictured):
    """The class token's attention to the patches of a clip or an image, in one block.

    A picture of a clip has rows over time; one of an image has what the heads attend to side by side.

    Attributes:
        frames: [T, 3, H, W], pixels in [0, 1]; of an image T is 1.
        weights: [heads, T', H', W'], after the softmax; of an image T' is 1 and the weights are the mean over time.
            What the class token pays to itself is not among them.
        block: Index of the block, counted from 0.
    """

    frames: torch.Tensor
    weights: torch.Tensor
    block: int

    def __repr__(self) -> str:
        return (
            f'AttentionMaps(frames={list(self.frames.shape)}, weights={list(self.weights.shape)}, block={self.block})'
        )

    def maps(self, heads: bool = False, threshold: float | None = None) -> torch.Tensor:
        """The attention on the frames that it belongs to, upsampled as published (nearest-exact).

        Args:
            heads: Each head apart instead of their mean.
            threshold: Keep the smallest set of patches that holds this fraction of the attention, of each head (or of
                their mean) over the whole clip; zero elsewhere.

        Returns:
            [T, H, W], with `heads` [heads, T, H, W].

        Raises:
            ValueError: The threshold is no fraction.
        """
        weights = self._shown(heads, threshold)
        height, width = self.frames.shape[-2:]
        maps = upsample(weights, len(self.frames), (height, width))
        return maps if heads else maps[0]

    def arrays(self, heads: bool = False, threshold: float | None = None) -> dict[str, np.ndarray]:
        """`frames`, `weights` and `block` as the attributes of these names, and what a picture shows of the weights.

        That is `maps` [T', H', W'], with `heads` [heads, T', H', W'], and `highest`, the value (of each head) that has
        the brightest color.
        """
        maps = self._shown(heads, threshold)
        highest = self._highest(heads)
        return dict(
            frames=self.frames.numpy(),
            weights=self.weights.numpy(),
            block=np.array(self.block),
            maps=(maps if heads else maps[0]).numpy(),
            highest=np.array(highest if heads else highest[0]),
        )

    def _shown(self, heads: bool, threshold: float | None) -> torch.Tensor:
        """[heads, T', H', W'], or their mean [1, T', H', W']."""
        weights = self.weights if heads else self.weights.mean(dim=0, keepdim=True)
        return weights if threshold is None else keep_fraction(weights, threshold)

    def _highest(self, heads: bool) -> list[float]:
        """The value that has the brightest color, of each head or of their mean."""
        return [_brightest(weights) for weights in (self.weights if heads else [self.weights.mean(dim=0)])]

    def picture(
        self,
        title: str = '',
        captions: Sequence[str] = (),
        heads: bool = False,
        threshold: float | None = None,
    ) -> Grid:
        """Rows of frames, heat maps and overlays; with `heads`, of frames and one heat map for each head.

        Of an image: the image, the mean of the heads, the two on each other, and `strongest_head` with a legend; with
        `heads` a mosaic of the heads.

        A map's darkest color is 0 and its brightest the 99.5th percentile over the whole clip (before the threshold),
        so that frames can be compared, and one patch that attracts everything leaves the others visible. A scale beside
        the map tells the value, a fraction of the attention that the class token pays.
        """
        maps, highest = self.maps(heads, threshold), self._highest(heads)
        if len(self.frames) == 1:
            return self._picture_of_image(maps, highest, title, captions, heads, threshold)
        rows = [('frames', self.frames)]
        if heads:
            rows += [(f'head {head}', heat(maps[head], highest[head])) for head in range(len(maps))]
            return Grid(rows, captions, title, scales=dict(enumerate(highest, 1)))
        rows += [('attention', heat(maps, highest[0])), ('overlay', overlay(self.frames, maps, highest[0]))]
        return Grid(rows, captions, title, scales={1: highest[0]})

    def _picture_of_image(self, maps, highest, title, captions, heads, threshold):
        if heads:
            tiles = torch.cat([heat(map, value) for map, value in zip(maps, highest, strict=True)])
            names = [f'head {head}: ≥ {value:.2g}' for head, value in enumerate(highest)]
            columns = math.ceil(math.sqrt(len(tiles)))
            starts = range(0, len(tiles), columns)
            return Grid(
                [('', tiles[i : i + columns]) for i in starts],
                title=title,
                scales=dict.fromkeys(range(len(starts)), 'as below'),
                notes=[names[i : i + columns] for i in starts],
            )
        strongest = strongest_head(self.maps(heads=True, threshold=threshold)[:, 0]).unsqueeze(0)
        tiles = torch.cat([self.frames, heat(maps, highest[0]), overlay(self.frames, maps, highest[0]), strongest])
        names = [', '.join(('image', *captions)), 'mean of the heads', 'overlay', 'strongest head']
        legend = [(f'head {head}', color) for head, color in enumerate(_hues(len(self.weights)).tolist())]
        if tiles.shape[-1] > 2 * tiles.shape[-2]:  # panoramas one below the other
            rows = [(name, tile[None]) for name, tile in zip(names, tiles, strict=True)]
            return Grid(rows, (), title, scales={1: highest[0]}, legend=legend)
        return Grid([('', tiles)], names, title, scales={0: highest[0]}, scale_of='of the mean', legend=legend)


def strongest_head(maps: torch.Tensor) -> torch.Tensor:
    """Each pixel in the color of the head that attends to it most, the brighter the more it does.

    Heads have hues of even distance. The brightness is the head's attention over the 99.5th percentile of what the
    strongest heads have.

    Args:
        maps: [heads, H, W], not negative.

    Returns:
        [3, H, W] in [0, 1].
    """
    strength, head = torch.as_tensor(maps).max(dim=0)  # [H, W] both
    brightness = (strength / max(_brightest(strength), 1e-30)).clamp(0, 1)
    return _hues(len(maps))[head].permute(2, 0, 1) * brightness


def _hues(number: int) -> torch.Tensor:
    """A color for each head, [heads, 3] in [0, 1]."""
    angles = torch.arange(number).float() / number * 2 * math.pi
    shifts = angles.new_tensor([0.0, -2 * math.pi / 3, 2 * math.pi / 3])
    return (0.5 + torch.cos(angles.unsqueeze(1) + shifts)).clamp(0, 1)


def check_attention(model: nn.Module) -> None:
    """Raise a ValueError unless the model has a class token whose attention can be shown."""
    model = checked_model(model)
    if getattr(model, 'cls_token', None) is None or not hasattr(model, 'cls_attention'):
        raise ValueError(
            f'this {name_of(model)} has no class token whose attention can be shown; take a ViT of this package '
            f'(`videozoo list`)'
        )


def _brightest(weights: torch.Tensor) -> float:
    return weights.flatten().quantile(0.995).item()


def attend(model: nn.Module, x: torch.Tensor, *, block: int = -1) -> AttentionMaps:
    """The class token's attention in a block; memory stays linear in the number of tokens.

    Args:
        model: A ViT of this package.
        x: Normalized clip [3, T, H, W] or image [3, H, W].
        block: Index of the block; negative ones count from the end.

    Raises:
        ValueError: The model has no class token, or `x` is no such clip.
        IndexError, TypeError: No such block.
        NotFiniteError: The attention holds NaN.
    """
    check_attention(model)
    vit = checked_model(model)
    x, block, placement = checked_clip(x, vit), checked_block(vit, block), placement_of(vit)
    with evaluating(vit):
        weights = vit.cls_attention(x.unsqueeze(0).to(**placement), block)[0].float().cpu()
    check_finite(weights, f'the attention in block {block}', x, placement['dtype'])
    config = vit.pretrained_cfg
    if x.ndim == 3:
        x, weights = x.unsqueeze(1), weights.unsqueeze(1)  # [3, 1, H, W], [heads, 1, H', W']
    frames = denormalize(x, config['mean'], config['std']).transpose(0, 1)
    return AttentionMaps(frames, weights, block)


def keep_fraction(weights: torch.Tensor, fraction: float) -> torch.Tensor:
    """Zero all but the smallest set of patches that holds a fraction of each map's sum.

    Args:
        weights: [heads, T', H', W'], not negative.
        fraction: In (0, 1].

    Raises:
        ValueError: `fraction` is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f'threshold={fraction}: must be a fraction of the attention, above 0 and at most 1')
    weights = torch.as_tensor(weights)
    flat = weights.flatten(1)
    ordered, order = flat.sort(dim=1, descending=True, stable=True)
    before = ordered.double().cumsum(dim=1) - ordered  # what larger patches hold already
    kept = before < fraction * ordered.double().sum(dim=1, keepdim=True)
    return torch.zeros_like(flat).scatter(1, order, ordered * kept).view_as(weights)


def __getattr__(name: str) -> Any:
    """The names of version 0.1.0."""
    renamed = {'Attention': 'AttentionMaps', 'keep_share': 'keep_fraction'}
    if name not in renamed:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    warnings.warn(f'{__name__}.{name} is now {renamed[name]}', DeprecationWarning, stacklevel=2)
    return globals()[renamed[name]]
