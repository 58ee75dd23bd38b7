"""Tubelets: from the pixels of a clip to tokens, their positions, and from tokens back to maps.

Papers: https://arxiv.org/abs/2205.09113 (tubelets, separable positions), https://arxiv.org/abs/2407.18067 (sizes).
"""

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from timm.layers.helpers import is_exporting, to_2tuple
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import nn

from .._compat import AnyMemoryFormat

Grid = tuple[int, int, int]  # tokens along time, height and width: (T', H', W')


class TubeletEmbed(nn.Module):
    """Tokens of the tubelets of a clip.

    The arguments are those of `VideoVisionTransformer`; `strict_img_size=False` accepts other sizes and lengths,
    `dynamic_img_pad` pads height and width with zeros to multiples of the patch.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int],
        patch_size: int | tuple[int, int],
        in_chans: int,
        embed_dim: int,
        num_frames: int,
        tubelet_size: int,
        bias: bool = True,
        strict_img_size: bool = True,
        dynamic_img_pad: bool = False,
        output_fmt: str | None = None,  # timm asks for 'NHWC' with dynamic sizes; the grid is always kept here
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.patch_size = _pair(patch_size)
        self.tubelet_size = tubelet_size
        self.in_chans = in_chans
        self.strict_img_size = strict_img_size
        self.dynamic_img_pad = dynamic_img_pad
        self.img_size, self.num_frames = _pair(img_size), num_frames
        self.set_input_size()
        self.proj = TubeletProjection(
            in_chans, embed_dim, (tubelet_size, *self.patch_size), bias=bias, device=device, dtype=dtype
        )

    def set_input_size(
        self,
        img_size: int | tuple[int, int] | None = None,
        patch_size: int | None = None,  # timm's signature; the patch stays
        num_frames: int | None = None,
    ) -> None:
        """Change the size and the length of the clips; None keeps the present one."""
        size = self.img_size if img_size is None else _pair(img_size)
        num_frames = self.num_frames if num_frames is None else num_frames
        pad = self.dynamic_img_pad
        if any(s <= 0 or (s % p and not pad) for s, p in zip(size, self.patch_size, strict=True)):
            raise ValueError(f'img_size={size}: must be multiples of the patch size {self.patch_size}')
        if num_frames <= 0 or num_frames % self.tubelet_size:
            raise ValueError(f'num_frames={num_frames}: must be a multiple of the tubelet size {self.tubelet_size}')
        self.img_size, self.num_frames = size, num_frames
        self.video_grid_size = (num_frames // self.tubelet_size, *self.dynamic_feat_size(size))
        self.grid_size = self.video_grid_size[1:]
        self.num_patches = math.prod(self.video_grid_size)

    def feat_ratio(self, as_scalar: bool = True) -> int | tuple[int, int]:
        """Pixels of a patch, as timm's method of this name."""
        return max(self.patch_size) if as_scalar else self.patch_size

    def dynamic_feat_size(self, img_size: tuple[int, int]) -> tuple[int, int]:
        """Patches along height and width of an image of this size."""
        (height, width), (patch_height, patch_width) = img_size, self.patch_size
        if self.dynamic_img_pad:
            return -(-height // patch_height), -(-width // patch_width)
        return height // patch_height, width // patch_width

    def grid_of(self, x: torch.Tensor) -> Grid:
        """Tokens along time, height and width of an input; a still has those of a whole clip."""
        steps = self.video_grid_size[0] if x.ndim == 4 else x.shape[2] // self.tubelet_size
        return (steps, *self.dynamic_feat_size((x.shape[-2], x.shape[-1])))

    def tubelets(self, x: torch.Tensor) -> torch.Tensor:
        """A view of the clip as tubelets, without a copy.

        Args:
            x: Clip [B, C, T, H, W] or image [B, C, H, W].

        Returns:
            [B, T', H', W', C, tubelet, patch, patch]; T' = 1 for an image, which repeats one tubelet over time.
        """
        return cut_tubelets(
            x,
            self.in_chans,
            self.num_frames,
            self.img_size,
            self.tubelet_size,
            self.patch_size,
            self.strict_img_size,
            self.dynamic_img_pad,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Clip [B, C, T, H, W] or image [B, C, H, W] -> tokens [B, T', H', W', D]."""
        tokens = self.proj(self.tubelets(x).flatten(4))
        return repeat_still(tokens, x, self.video_grid_size[0])


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return cast('tuple[int, int]', to_2tuple(value))


class TubeletProjection(AnyMemoryFormat):
    """The published 3-D convolution, whose stride is its kernel, as the matrix product that it is.

    3-D convolutions are slow in bfloat16 on some devices and missing on others.
    """

    def __init__(
        self,
        in_chans: int,
        embed_dim: int,
        kernel_size: tuple[int, int, int],
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(embed_dim, in_chans, *kernel_size, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(embed_dim, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's default for a convolution."""
        bound = self.weight[0].numel() ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, tubelets: torch.Tensor) -> torch.Tensor:
        """Tubelets [..., C * tubelet * patch * patch] -> tokens [..., D]."""
        return F.linear(tubelets, self.weight.flatten(1), self.bias)


# These branch on the shape of their input. Marked as leaves, they let torch.fx trace the model for clips and images.
# What they are written in is what TorchScript reads.


@torch.fx.wrap
def cut_tubelets(
    x: torch.Tensor,
    in_chans: int,
    num_frames: int,
    img_size: tuple[int, int],
    tubelet_size: int,
    patch_size: tuple[int, int],
    strict: bool,
    pad: bool,
) -> torch.Tensor:
    """Cut a clip or an image into tubelets; see `TubeletEmbed.tubelets`."""
    is_clip = x.ndim == 5
    if not (is_clip or x.ndim == 4) or x.shape[1] != in_chans:
        way_out = ''
        if is_clip and x.shape[2] == in_chans:
            way_out = '; the channels come before the frames: x.transpose(1, 2)'
        raise ValueError(f'{_unexpected(x, in_chans, num_frames, img_size)}{way_out}')
    if strict and (x.shape[-2] != img_size[0] or x.shape[-1] != img_size[1] or (is_clip and x.shape[2] != num_frames)):
        raise ValueError(
            f'{_unexpected(x, in_chans, num_frames, img_size)}; for other sizes and lengths make the model with '
            'dynamic_img_size=True or call set_input_size(img_size=..., num_frames=...)'
        )
    if is_clip and x.shape[2] % tubelet_size != 0:
        raise ValueError(f'{x.shape[2]} frames: the number must be a multiple of the tubelet size {tubelet_size}')
    height, width = patch_size
    if pad:
        x = F.pad(x, [0, -x.shape[-1] % width, 0, -x.shape[-2] % height])
    elif x.shape[-2] % height != 0 or x.shape[-1] % width != 0:
        raise ValueError(f'{x.shape[-2]} x {x.shape[-1]} pixels: must be multiples of the patch size {patch_size}')
    if not is_clip:
        x = x.unsqueeze(2).expand(-1, -1, tubelet_size, -1, -1)  # [B, C, H, W] -> [B, C, tubelet, H, W]
    x = x.unflatten(4, (-1, width)).unflatten(3, (-1, height)).unflatten(2, (-1, tubelet_size))
    return x.permute(0, 2, 4, 6, 1, 3, 5, 7)  # [B, C, T', t, H', h, W', w] -> [B, T', H', W', C, t, h, w]


def _unexpected(x: torch.Tensor, in_chans: int, num_frames: int, img_size: tuple[int, int]) -> str:
    height, width = img_size
    return (
        f'expected a clip [B, {in_chans}, {num_frames}, {height}, {width}] or an image [B, {in_chans}, {height}, '
        f'{width}], got {list(x.shape)}'
    )


@torch.fx.wrap
def repeat_still(tokens: torch.Tensor, x: torch.Tensor, steps: int) -> torch.Tensor:
    """Repeat the tokens of an image x over time; those of a clip stay."""
    return tokens.expand(-1, steps, -1, -1, -1) if x.ndim == 4 else tokens


@torch.fx.wrap
def add_positions(
    x: torch.Tensor,
    spatial: torch.Tensor,
    temporal: torch.Tensor,
    stored: Grid,
    dynamic: bool,
) -> torch.Tensor:
    """Add the separable position embedding: [B, T', H', W', C] -> [B, T' * H' * W', C]."""
    old, new = [stored[0], stored[1], stored[2]], [x.shape[1], x.shape[2], x.shape[3]]
    spatial = resample_spatial(spatial, old, new, dynamic)
    temporal = resample_temporal(temporal, old, new, dynamic)
    positions = spatial.unsqueeze(1) + temporal.unsqueeze(2)  # [1, 1, H' * W', C] + [1, T', 1, C]
    return x.flatten(1, 3) + positions.flatten(1, 2)


def resample_spatial(embedding: torch.Tensor, old: list[int], new: list[int], dynamic: bool = False) -> torch.Tensor:
    """[1, H' * W', C] to another grid, bicubic as timm resamples its own.

    `dynamic`: an exported model keeps this step, whatever the size that it was exported at.
    """
    if not (dynamic and is_exporting()) and old[1] == new[1] and old[2] == new[2]:
        return embedding
    return resample_abs_pos_embed(embedding, new_size=new[1:], old_size=old[1:], num_prefix_tokens=0)


def resample_temporal(embedding: torch.Tensor, old: list[int], new: list[int], dynamic: bool = False) -> torch.Tensor:
    """[1, T', C] to another number of steps, linear; `dynamic` as above."""
    if not (dynamic and is_exporting()) and old[0] == new[0]:
        return embedding
    resampled = F.interpolate(embedding.float().transpose(1, 2), size=[new[0]], mode='linear', align_corners=False)
    return resampled.transpose(1, 2).contiguous().to(embedding.dtype)


def to_maps(tokens: torch.Tensor, grid: Grid, still: bool, channels_last: bool = False) -> torch.Tensor:
    """[B, T' * H' * W', C] -> [B, C, T', H', W'], or [B, C, H', W'] of a still; channels_last: [B, N, C] of these."""
    if still:
        tokens = tokens.unflatten(1, (grid[0], -1)).mean(dim=1)  # [B, T', H' * W', C] -> [B, H' * W', C]
    if channels_last:
        return tokens
    return tokens.unflatten(1, grid[1:] if still else grid).movedim(-1, 1).contiguous()
