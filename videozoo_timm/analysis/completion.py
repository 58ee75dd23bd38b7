"""What a masked autoencoder fills in."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ..figures import Grid, to_bytes
from ..inference.checks import check_finite, checked_clip, checked_model, name_of
from ..inference.pipeline import evaluating, placement_of, takes_clips
from ..paths import as_path, not_found
from ..video import denormalize
from .pictured import Pictured

__all__ = ['Completion', 'box_mask', 'check_mae', 'complete', 'mask_shape', 'read_mask']


@dataclass(repr=False)
class Completion(Pictured):
    """A clip or an image, masked and completed.

    Attributes:
        original: [3, T, H, W], of an image [3, H, W], pixels in [0, 1].
        masked: The same with the masked patches in gray (the mean that the models were trained with).
        completed: The same with the model's prediction in the masked patches, clipped to [0, 1].
        mask: bool [T', H', W'], of an image [H', W'], True where a token is masked.
        mse: Mean squared error of the masked pixels, of values in [0, 1].
    """

    original: torch.Tensor
    masked: torch.Tensor
    completed: torch.Tensor
    mask: torch.Tensor
    mse: float

    def __repr__(self) -> str:
        return f'Completion(completed={list(self.completed.shape)}, psnr={self.psnr:.1f} dB)'

    @property
    def is_image(self) -> bool:
        """Whether it is of an image and not of a clip."""
        return self.original.ndim == 3

    @property
    def num_frames(self) -> int:
        """Frames of the clip; 1 of an image."""
        return 1 if self.is_image else self.original.shape[1]

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio of the masked pixels, in dB."""
        return -10 * math.log10(self.mse) if self.mse else math.inf

    def picture(self, title: str = '', captions: Sequence[str] = ()) -> Grid:
        """The original, the masked clip and the completion, one row each; a column for each frame.

        Of an image they stand beside each other, and the captions say which they are.
        """
        names = ('original', 'masked', 'completed')
        if self.is_image:
            return Grid([('', torch.stack([getattr(self, name) for name in names]))], names, title)
        return Grid([(name, getattr(self, name).transpose(0, 1)) for name in names], captions, title)

    def arrays(self) -> dict[str, np.ndarray]:
        """`original`, `completed`, `mask` and `mse`, as the attributes of these names."""
        return {name: np.asarray(getattr(self, name)) for name in ('original', 'completed', 'mask', 'mse')}

    def frames(self) -> list[Any]:
        """Each frame of the three side by side, as a `PIL.Image.Image`."""
        from PIL import Image

        side_by_side = torch.cat([self.original, self.masked, self.completed], dim=-1)  # [3, (T,) H, 3 * W]
        side_by_side = side_by_side.unsqueeze(1) if self.is_image else side_by_side
        return [Image.fromarray(frame) for frame in to_bytes(side_by_side.transpose(0, 1))]


def complete(
    model: nn.Module,
    clip: torch.Tensor,
    *,
    mask_type: str = 'random',
    mask_ratio: float | None = None,
    mask: torch.Tensor | None = None,
    seed: int = 0,
) -> Completion:
    """Mask a clip, or an image, and let the model fill it in.

    Args:
        model: A masked autoencoder of this package.
        clip: Normalized [3, T, H, W], as `clip_transform` gives it; of a model of images [3, H, W].
        mask_type: 'random', 'temporal' (the end is masked) or 'center' (the middle is), as published; of images
            'random'.
        mask_ratio: Fraction of the tokens that is masked; None is what the model was trained with, 0.9, of images
            0.75.
        mask: A mask of one's own instead of another type or ratio: [T', H', W'], of images [H', W'], True (or 1) where
            a token is masked; a tensor or an array.
        seed: Random seed of the mask.

    Raises:
        ValueError: The model is no masked autoencoder, `clip` is no such clip, or the mask is invalid.
        NotFiniteError: The completion holds NaN or infinity.
    """
    check_mae(model)
    if mask is not None and (mask_type != 'random' or mask_ratio is not None):
        given = f'mask_type={mask_type!r}' if mask_type != 'random' else f'mask_ratio={mask_ratio}'
        raise ValueError(f'mask and {given} both say what is masked: give one of them')
    mae = checked_model(model)
    placement = placement_of(mae)
    x = checked_clip(clip, mae).unsqueeze(0).to(**placement)  # [1, 3, T, H, W], or [1, 3, H, W]
    if mask_ratio is None:
        mask_ratio = mae.default_mask_ratio
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
    mask_of_tokens = masks[0].bool().cpu().unflatten(0, mae.grid_of(x))  # [T', H', W'], or [H', W']
    config, rows = mae.pretrained_cfg, comparison[0].float().cpu()  # [3, 3, T, H, W], or [3, 3, H, W]
    if rows.ndim == 4:
        original, masked, completed = denormalize(rows.unsqueeze(2), config['mean'], config['std']).squeeze(2)
    else:
        original, masked, completed = denormalize(rows, config['mean'], config['std'])
    hidden = mask_of_tokens
    for axis, size in enumerate(original.shape[1:]):
        hidden = hidden.repeat_interleave(size // mask_of_tokens.shape[axis], dim=axis)  # at last [(T,) H, W]
    error = (completed - original)[:, hidden].double().square()
    mse = error.mean().item() if error.numel() else 0.0
    return Completion(original, masked, completed, mask_of_tokens, mse)


def _own_mask(mask: torch.Tensor | Any) -> torch.Tensor:
    if isinstance(mask, (str, os.PathLike)):
        raise TypeError(f'a mask is wanted, got the path {str(mask)!r}; read_mask({str(mask)!r}, grid) reads it')
    return torch.as_tensor(mask).unsqueeze(0)


def mask_shape(model: nn.Module, img_size: int | None = None) -> tuple[int, ...]:
    """The shape of a mask, (T', H', W'), of a model of images (H', W').

    Args:
        model: A masked autoencoder of this package.
        img_size: Height and width of the images, of a model that takes any.
    """
    check_mae(model)
    embed = checked_model(model).patch_embed
    if takes_clips(model):
        return tuple(embed.video_grid_size)
    return tuple(embed.dynamic_feat_size((img_size, img_size))) if img_size else tuple(embed.grid_size)


def box_mask(model: nn.Module, box: Sequence[int], img_size: int | None = None) -> torch.Tensor:
    """A mask of every token that touches a box.

    Args:
        model: A masked autoencoder of this package.
        box: t0, t1, y0, y1, x0, x1 in frames and pixels of the model's input, the upper ends not included; of a model
            of images y0, y1, x0, x1.
        img_size: As in `mask_shape`.

    Returns:
        bool [T', H', W'], of a model of images [H', W'].

    Raises:
        ValueError: The box is empty or reaches beyond the clip or image.
    """
    mask = torch.ones(mask_shape(model, img_size), dtype=torch.bool)
    mae = checked_model(model)
    names, cells = ('y', 'x'), tuple(mae.patch_embed.patch_size)
    if takes_clips(model):
        names, cells = ('t', *names), (mae.tubelet_size, *cells)
    sizes = [number * cell for number, cell in zip(mask.shape, cells, strict=True)]
    if len(box) != 2 * len(names):
        raise ValueError(f'a box is {",".join(f"{n}0,{n}1" for n in names)}, got {len(box)} numbers')
    for axis, (name, size, cell) in enumerate(zip(names, sizes, cells, strict=True)):
        first, end = box[2 * axis : 2 * axis + 2]
        if not 0 <= first < end <= size:
            what = f'clip is {sizes[0]} frames of' if takes_clips(model) else 'image is'
            raise ValueError(
                f'{name}0,{name}1 = {first},{end}: must be ascending and within 0,{size} (the {what} {sizes[-2]} x '
                f'{sizes[-1]} pixels)'
            )
        position = torch.arange(size // cell).view([-1 if k == axis else 1 for k in range(mask.ndim)])
        mask &= (position * cell < end) & ((position + 1) * cell > first)
    return mask


def read_mask(path: str | os.PathLike[str], grid: tuple[int, ...]) -> torch.Tensor:
    """Read a mask from a file.

    Args:
        path: `.npy`, bool [T', H', W'], of images [H', W'], True where a token is masked.
        grid: The shape of it, `mask_shape` of the model.

    Returns:
        bool [T', H', W'], of images [H', W'].

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is no such array, or masks every token.
    """
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
        axes = "(T', H', W')" if len(grid) == 3 else "(H', W')"
        got = f'{mask.dtype} {mask.shape}' if isinstance(mask, np.ndarray) else 'several arrays'
        raise ValueError(
            f'{path}: a mask of this model is a boolean array {axes} = {tuple(grid)}, True where a token is '
            f'masked, and not everywhere; got {got}'
        )
    # Any byte but 0 means True, but to compare it PyTorch takes it for a number.
    return torch.from_numpy(mask.view(np.uint8) != 0)


def check_mae(model: nn.Module) -> None:
    """Raise a ValueError unless the model is a masked autoencoder."""
    if not hasattr(checked_model(model), 'forward_decoder'):
        raise ValueError(f'{name_of(model)} has no decoder: take a masked autoencoder (`mae_...`)')
