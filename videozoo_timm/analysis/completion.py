"""What a masked autoencoder fills in."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..figures import Grid, png_of, to_bytes
from ..inference.checks import check_finite, checked_clip, checked_model, name_of
from ..inference.pipeline import evaluating, placement_of
from ..paths import as_path, not_found
from ..video import denormalize

__all__ = ['Completion', 'box_mask', 'check_mae', 'complete', 'read_mask']


@dataclass(repr=False)
class Completion:
    """A clip, masked and completed.

    Attributes:
        original: [3, T, H, W], pixels in [0, 1].
        masked: The same with dropped patches in gray (the mean that the models were trained with).
        completed: The same with the model's prediction in the dropped patches, clipped to [0, 1].
        mask: bool [T', H', W'], True where a token was dropped.
        mse: Mean squared error of the dropped pixels, of values in [0, 1].
    """

    original: torch.Tensor
    masked: torch.Tensor
    completed: torch.Tensor
    mask: torch.Tensor
    mse: float

    def __repr__(self) -> str:
        return f'Completion(completed={list(self.completed.shape)}, psnr={self.psnr:.1f} dB)'

    def _repr_png_(self) -> bytes | None:
        return png_of(self.picture)

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio of the dropped pixels, in dB."""
        return -10 * math.log10(self.mse) if self.mse else math.inf

    def picture(self, title: str = '', captions: Sequence[str] = ()) -> Grid:
        """The original, the masked clip and the completion, one row each; a column for each frame."""
        rows = [(name, getattr(self, name).transpose(0, 1)) for name in ('original', 'masked', 'completed')]
        return Grid(rows, captions, title)

    def frames(self) -> list[Any]:
        """Each frame of the three side by side, as a `PIL.Image.Image`."""
        from PIL import Image

        side_by_side = torch.cat([self.original, self.masked, self.completed], dim=-1)  # [3, T, H, 3 * W]
        return [Image.fromarray(frame) for frame in to_bytes(side_by_side.transpose(0, 1))]


def complete(
    model: nn.Module,
    clip: torch.Tensor,
    *,
    mask_type: str = 'random',
    mask_ratio: float = 0.9,
    mask: torch.Tensor | None = None,
    seed: int = 0,
) -> Completion:
    """Mask a clip and let the model fill it in.

    Args:
        model: A masked autoencoder of this package.
        clip: Normalized [3, T, H, W], as `clip_transform` gives it.
        mask_type: 'random', 'temporal' (the end is masked) or 'center' (the middle is), as published.
        mask_ratio: Fraction of the tokens that is masked.
        mask: A mask of one's own instead of another type or ratio: [T', H', W'], True (or 1) where a token is masked;
            a tensor or an array.
        seed: Random seed of the mask.

    Raises:
        ValueError: The model is no masked autoencoder, `clip` is no such clip, or the mask is invalid.
        NotFiniteError: The completion holds NaN or infinity.
    """
    check_mae(model)
    if mask is not None and (mask_type, mask_ratio) != ('random', 0.9):
        given = f'mask_type={mask_type!r}' if mask_type != 'random' else f'mask_ratio={mask_ratio}'
        raise ValueError(f'mask and {given} both say what is masked: give one of them')
    mae = checked_model(model)
    placement = placement_of(mae)
    x = checked_clip(clip, mae).unsqueeze(0).to(**placement)  # [1, 3, T, H, W]
    devices = [placement['device']] if placement['device'].type == 'cuda' else []
    with evaluating(mae), torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        *_, masks, comparison = mae(
            x,
            mask_ratio=mask_ratio,
            mask_type=mask_type,
            mask=None if mask is None else _own_mask(mask),
            visualize=True,
        )
    check_finite(comparison[0], 'the completion', x, x.dtype)
    dropped_tokens = masks[0].bool().cpu().unflatten(0, mae.patch_embed.grid_of(x))  # [T', H', W']
    config = mae.pretrained_cfg
    original, masked, completed = denormalize(comparison[0].float().cpu(), config['mean'], config['std'])
    dropped = dropped_tokens
    for axis, size in enumerate(original.shape[1:]):
        dropped = dropped.repeat_interleave(size // dropped_tokens.shape[axis], dim=axis)  # at last [T, H, W]
    error = (completed - original)[:, dropped].double().square()
    mse = error.mean().item() if error.numel() else 0.0
    return Completion(original, masked, completed, dropped_tokens, mse)


def _own_mask(mask: torch.Tensor | Any) -> torch.Tensor:
    if isinstance(mask, (str, os.PathLike)):
        raise TypeError(f'a mask is wanted, got the path {str(mask)!r}; read_mask({str(mask)!r}, grid) reads it')
    return torch.as_tensor(mask).unsqueeze(0)


def box_mask(model: nn.Module, box: Sequence[int]) -> torch.Tensor:
    """A mask that drops every token that touches a box.

    Args:
        model: A masked autoencoder of this package.
        box: t0, t1, y0, y1, x0, x1 in frames and pixels of the model's input, the upper ends not included.

    Returns:
        bool [T', H', W'].

    Raises:
        ValueError: The box is empty or reaches beyond the clip.
    """
    check_mae(model)
    mae = checked_model(model)
    height, width = mae.patch_embed.img_size
    sizes = mae.num_frames, height, width
    cells = mae.tubelet_size, *mae.patch_embed.patch_size
    mask = torch.ones(mae.patch_embed.video_grid_size, dtype=torch.bool)
    if len(box) != 6:
        raise ValueError(f'a box is t0,t1,y0,y1,x0,x1, got {len(box)} numbers')
    for axis, (name, size, cell) in enumerate(zip(('t', 'y', 'x'), sizes, cells, strict=True)):
        first, end = box[2 * axis : 2 * axis + 2]
        if not 0 <= first < end <= size:
            raise ValueError(
                f'{name}0,{name}1 = {first},{end}: must be ascending and within 0,{size} (the clip is {sizes[0]} '
                f'frames of {height} x {width} pixels)'
            )
        position = torch.arange(size // cell).view([-1 if k == axis else 1 for k in range(3)])
        mask &= (position * cell < end) & ((position + 1) * cell > first)
    return mask


def read_mask(path: str | os.PathLike[str], grid: tuple[int, int, int]) -> torch.Tensor:
    """Read a mask from a file.

    Args:
        path: `.npy`, bool [T', H', W'], True where a token is dropped.
        grid: T', H', W' of the model.

    Returns:
        bool [T', H', W'].

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is no such array, or drops every token.
    """
    import numpy as np

    path = as_path(path)
    if not path.exists():
        raise not_found(path, 'file')
    if not path.is_file():  # opening a FIFO may never end
        raise ValueError(f'{path} is not a file')
    try:
        # Mapped, so that the file has to be as long as its header says; an archive is not unpacked.
        mask = np.load(path, mmap_mode='r', allow_pickle=False)
    except Exception as error:  # numpy raises whatever its parsers do
        raise ValueError(f'{path} cannot be read as a .npy array of booleans') from error
    if not isinstance(mask, np.ndarray) or mask.dtype != bool or mask.shape != tuple(grid) or mask.all():
        got = f'{mask.dtype} {mask.shape}' if isinstance(mask, np.ndarray) else 'several arrays'
        raise ValueError(
            f"{path}: a mask of this model is a boolean array (T', H', W') = {tuple(grid)}, True where a "
            f'token is masked, and not everywhere; got {got}'
        )
    # Any byte but 0 means True, but to compare it PyTorch takes it for a number.
    return torch.from_numpy(mask.view(np.uint8) != 0)


def check_mae(model: nn.Module) -> None:
    """Raise a ValueError unless the model is a masked autoencoder."""
    if not hasattr(checked_model(model), 'forward_decoder'):
        raise ValueError(f'{name_of(model)} has no decoder: take a masked autoencoder (`mae_...`)')
