"""Which patches of a clip have features like those of one patch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..figures import Grid, heat, overlay, upsample
from ..inference.checks import checked_clip, checked_model
from ..video import denormalize
from .feature_maps import patch_tokens
from .features import checked_block
from .pictured import Pictured

__all__ = ['SimilarPatches', 'similar_patches', 'similarity_to']

_FRAME = 0.06  # of a patch's side, of the frame that marks the patch


@dataclass(repr=False)
class SimilarPatches(Pictured):
    """How similar all patches of a clip or an image are to one of them.

    Attributes:
        frames: [T, 3, H, W], pixels in [0, 1]; of an image T is 1.
        similarity: float32 [T', H', W'], the cosine of each patch token and that of the patch; of an image T' is 1.
        patch: The patch, counted from 0 along time, height and width.
        block: Index of the block, counted from 0.
    """

    frames: torch.Tensor
    similarity: torch.Tensor
    patch: tuple[int, int, int]
    block: int

    def __repr__(self) -> str:
        return (
            f'SimilarPatches(frames={list(self.frames.shape)}, similarity={list(self.similarity.shape)}, '
            f'patch={self.patch}, block={self.block})'
        )

    def maps(self) -> torch.Tensor:
        """The similarity on the frames that it belongs to, [T, H, W]; what is below 0 is 0."""
        height, width = self.frames.shape[-2:]
        return upsample(self.similarity.clamp(min=0), len(self.frames), (height, width))

    def marked(self) -> torch.Tensor:
        """The frames with a white frame around the patch, [T, 3, H, W]."""
        frames, (steps, rows, columns) = self.frames.clone(), self.similarity.shape
        duration, height, width = len(frames) // steps, frames.shape[2] // rows, frames.shape[3] // columns
        step, row, column = self.patch
        top, left, line = row * height, column * width, max(1, round(_FRAME * height))
        ring = torch.ones(height, width, dtype=torch.bool)
        ring[line:-line, line:-line] = False
        frames[step * duration : (step + 1) * duration, :, top : top + height, left : left + width][:, :, ring] = 1.0
        return frames

    def picture(self, title: str = '', captions: Sequence[str] = ()) -> Grid:
        """The frames with the patch marked, the similarity, and the two on each other; a column for each frame.

        The darkest color is a cosine of 0 or less, the brightest is 1.
        """
        maps = self.maps()
        what = 'image' if len(self.frames) == 1 else 'frames'
        rows = [(what, self.marked()), ('similarity', heat(maps, 1.0)), ('overlay', overlay(self.frames, maps, 1.0))]
        return Grid(rows, captions, title, scales={1: 1.0})

    def arrays(self) -> dict[str, np.ndarray]:
        """`frames`, `similarity`, `patch` and `block`, as the attributes of these names."""
        return {name: np.asarray(getattr(self, name)) for name in ('frames', 'similarity', 'patch', 'block')}


def similar_patches(
    model: nn.Module,
    x: torch.Tensor,
    patch: Sequence[int],
    *,
    block: int = -1,
    tokens: torch.Tensor | None = None,
) -> SimilarPatches:
    """How similar the features of all patches are to those of one patch.

    Args:
        model: A model of this package.
        x: Normalized clip [3, T, H, W] or image [3, H, W].
        patch: Which patch: its place among the tokens along time, height and width, counted from 0; of an image along
            height and width.
        block: Index of the block; negative ones count from the end.
        tokens: What `patch_tokens` gave for these, so that it is not computed again.

    Raises:
        IndexError, TypeError: No such block.
        ValueError: `x` is no such clip, or has no such patch.
        NotFiniteError: The tokens hold NaN or infinity.
    """
    timm_model = checked_model(model)
    x, block = checked_clip(x, timm_model), checked_block(timm_model, block)
    if tokens is None:
        tokens = patch_tokens(timm_model, x, block=block)
    place = _checked_place(patch, tuple(tokens.shape[:3]), x.ndim == 3)
    config = timm_model.pretrained_cfg
    frames = denormalize(x if x.ndim == 4 else x.unsqueeze(1), config['mean'], config['std']).transpose(0, 1)
    return SimilarPatches(frames, similarity_to(tokens, place), place, block)


def similarity_to(tokens: torch.Tensor, patch: tuple[int, int, int]) -> torch.Tensor:
    """The cosine of each token and one of them.

    Args:
        tokens: [T', H', W', C].
        patch: Which token, along the first three dimensions.

    Returns:
        float32 [T', H', W'].
    """
    directions = F.normalize(tokens.float(), dim=-1)
    return directions @ directions[patch]


def _checked_place(patch: Sequence[int], grid: tuple[int, ...], is_image: bool) -> tuple[int, int, int]:
    given, own = tuple(int(index) for index in patch), grid[1:] if is_image else grid
    if len(given) != len(own) or not all(0 <= index < size for index, size in zip(given, own, strict=True)):
        axes = 'height and width' if is_image else 'time, height and width'
        raise ValueError(
            f'patch={",".join(map(str, given))}: there are {" x ".join(map(str, own))} patches along {axes}, counted '
            f'from 0'
        )
    step, row, column = (0, *given) if is_image else given
    return step, row, column
