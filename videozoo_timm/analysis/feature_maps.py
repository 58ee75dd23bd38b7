"""Patch tokens as colors: one PCA over all frames of all clips."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..errors import NotFiniteError
from ..figures import Grid
from ..inference.checks import check_finite, checked_clip, checked_model
from ..inference.pipeline import evaluating, placement_of
from ..video import denormalize
from .features import checked_block
from .pictured import Pictured

__all__ = ['ColorMaps', 'color_frames', 'patch_tokens', 'pca', 'pca_colors']


@dataclass(repr=False)
class ColorMaps(Pictured):
    """The patch tokens of a clip or an image as colors.

    Attributes:
        frames: [T, 3, H, W], pixels in [0, 1]; of an image T is 1.
        colors: [T', 3, H', W'] in [0, 1], the first three principal components; of an image T' is 1.
        block: Index of the block, counted from 0.
    """

    frames: torch.Tensor
    colors: torch.Tensor
    block: int

    def __repr__(self) -> str:
        return f'ColorMaps(frames={list(self.frames.shape)}, colors={list(self.colors.shape)}, block={self.block})'

    def picture(self, title: str = '', captions: Sequence[str] = ()) -> Grid:
        """The frames and their colors, one row each; a column for each frame."""
        height, width = self.frames.shape[-2:]
        colors = color_frames(self.colors, len(self.frames), (height, width))
        what = 'image' if len(self.frames) == 1 else 'frames'
        return Grid([(what, self.frames), ('features', colors)], captions, title)

    def arrays(self) -> dict[str, np.ndarray]:
        """`frames`, `colors` and `block`, as the attributes of these names."""
        return {name: np.asarray(getattr(self, name)) for name in ('frames', 'colors', 'block')}


def pca(
    model: nn.Module,
    clips: torch.Tensor | Sequence[torch.Tensor],
    *,
    block: int = -1,
    foreground: float | None = None,
    invert: bool = False,
) -> list[ColorMaps]:
    """Color the patch tokens of clips or images by one PCA over all of them.

    Args:
        model: A model of this package.
        clips: Normalized clips [3, T, H, W] or images [3, H, W], as `clip_transform` gives them; a list or a batch, or
            one.
        block: Index of the block; negative ones count from the end.
        foreground: As in `pca_colors`.
        invert: As in `pca_colors`.

    Raises:
        IndexError, TypeError: No such block.
        ValueError: As `pca_colors`; or there are no clips.
    """
    given: Any = clips
    if not isinstance(given, (list, tuple)):
        is_batch = getattr(given, 'ndim', 0) == 5
        given = list(given) if is_batch or isinstance(given, Iterator) else [given]
    if not given:
        raise ValueError('no clips: a PCA needs at least one')
    timm_model = checked_model(model)
    clips, block = [checked_clip(x, timm_model) for x in given], checked_block(timm_model, block)
    tokens = [patch_tokens(model, x, block=block) for x in clips]
    config = timm_model.pretrained_cfg
    maps = []
    for x, colors in zip(clips, pca_colors(tokens, foreground=foreground, invert=invert), strict=True):
        frames = denormalize(x if x.ndim == 4 else x.unsqueeze(1), config['mean'], config['std']).transpose(0, 1)
        maps.append(ColorMaps(frames, colors, block))
    return maps


def patch_tokens(model: nn.Module, x: torch.Tensor, *, block: int = -1) -> torch.Tensor:
    """The patch tokens of a block, after the model's final norm.

    Args:
        model: A model of this package.
        x: Normalized clip [3, T, H, W] or image [3, H, W].
        block: Index of the block; negative ones count from the end.

    Returns:
        float32 [T', H', W', C] on the CPU; of an image T' is 1.

    Raises:
        IndexError, TypeError: No such block.
        ValueError: `x` is no such clip.
        NotFiniteError: The tokens hold NaN or infinity.
    """
    timm_model = checked_model(model)
    x, block, placement = checked_clip(x, timm_model), checked_block(timm_model, block), placement_of(timm_model)
    with evaluating(timm_model):
        maps = (
            timm_model.forward_intermediates(
                x.unsqueeze(0).to(**placement),
                indices=[block],
                norm=True,
                intermediates_only=True,
                stop_early=True,
            )[0][0]
            .float()
            .cpu()
        )
    check_finite(maps, f'the patch tokens of block {block}', x, placement['dtype'])
    maps = maps.unsqueeze(1) if x.ndim == 3 else maps
    return maps.movedim(0, -1)  # [C, T', H', W'] -> [T', H', W', C]


def pca_colors(
    tokens: Sequence[torch.Tensor],
    *,
    foreground: float | None = None,
    invert: bool = False,
) -> list[torch.Tensor]:
    """The first three principal components of all tokens together, as red, green and blue.

    The components are exact (eigenvectors of the covariance in float64), so there is nothing random; each one's sign is
    the one that makes its largest loading positive. Colors reach from each component's 1st to its 99th percentile.

    Args:
        tokens: Of each file, [T', H', W', C].
        foreground: Show only the patches whose first component, scaled to [0, 1], is above this, and fit the colors to
            them alone; the others are black. The end of the component that the pictures' borders have less of counts
            as the foreground.
        invert: Take the other end as the foreground.

    Returns:
        Of each file, [T', 3, H', W'] in [0, 1].

    Raises:
        ValueError: There are no tokens, the threshold leaves nothing, or there are fewer than three components.
        NotFiniteError: The tokens hold NaN or infinity.
    """
    tokens = [torch.as_tensor(t) for t in ([tokens] if hasattr(tokens, 'ndim') else tokens)]
    if not tokens:
        raise ValueError('no tokens: a PCA needs those of at least one file')
    for k, x in enumerate(tokens):
        if not x.isfinite().all():
            raise NotFiniteError(f'tokens[{k}] holds NaN or infinity, which has no principal components')
    if tokens[0].shape[-1] < 3:
        raise ValueError(f'tokens of width {tokens[0].shape[-1]} have no three components')
    flat = torch.cat([t.flatten(0, 2) for t in tokens])  # [N, C]
    kept = torch.ones(len(flat), dtype=torch.bool)
    if foreground is not None:
        first = _rescaled(_project(flat, _components(flat, 1)))[:, 0]
        border = torch.cat([_border(t.shape[:3]) for t in tokens])
        if (first[border].mean() > first[~border].mean()) != invert:
            first = 1 - first
        kept = first > foreground
        if kept.sum() < 4:
            raise ValueError(f'foreground={foreground} leaves {int(kept.sum())} of {len(flat)} patches; take less')
    colors = torch.zeros(len(flat), 3, dtype=torch.float32)
    colors[kept] = _rescaled(_project(flat[kept], _components(flat[kept], 3)))
    pieces = colors.split([t.shape[:3].numel() for t in tokens])
    return [piece.unflatten(0, t.shape[:3]).movedim(-1, 1) for piece, t in zip(pieces, tokens, strict=True)]


def color_frames(colors: torch.Tensor, num_frames: int, size: tuple[int, int]) -> torch.Tensor:
    """Colors [T', 3, H', W'] on the frames that they belong to, [num_frames, 3, H, W], each patch one even square."""
    colors = torch.as_tensor(colors)
    colors = colors.repeat_interleave(num_frames // len(colors), dim=0)
    return F.interpolate(colors, size, mode='nearest-exact')


def _components(x, number):
    """Mean [C] and leading eigenvectors [C, number] of the covariance, in float64."""
    total, products = torch.zeros(x.shape[1], dtype=torch.float64), 0
    for chunk in x.split(1 << 16):  # in float64, one part at a time
        total += chunk.double().sum(dim=0)
    mean = total / len(x)
    for chunk in x.split(1 << 16):
        centered = chunk.double() - mean
        products = products + centered.T @ centered
    vectors = torch.linalg.eigh(products).eigenvectors.flip(1)[:, :number]  # eigenvalues ascend
    largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
    return mean, vectors * largest.sign()


def _project(x, components):
    mean, vectors = components
    return torch.cat([(chunk.double() - mean) @ vectors for chunk in x.split(1 << 16)])  # [N, number]


def _rescaled(x):
    low, high = (_percentile(x, fraction) for fraction in (0.01, 0.99))
    return ((x - low) / (high - low).clamp(min=1e-12)).clamp(0, 1).float()


def _percentile(x, fraction):
    return x.sort(dim=0).values[round(fraction * (len(x) - 1))]  # torch.quantile takes 16 million values at most


def _border(grid):
    border = torch.ones(grid, dtype=torch.bool)
    border[:, 1:-1, 1:-1] = False
    return border.flatten()
