"""The VQGAN that turns images into grids of codes and back.

Paper: https://arxiv.org/abs/2012.09841. Parameters keep their published names.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ['VQGAN']


class VQGAN(nn.Module):
    """Encoder, codebook, decoder. Pixels are in [-1, 1].

    Args:
        num_codes: Size of the codebook.
        embed_dim: Width of a code.
        z_channels: Channels between the encoder (decoder) and the codebook.
        resolution: Height and width of the images, in pixels.
        ch: Channels of the finest level.
        ch_mult: Channels of each level, in units of `ch`, from fine to coarse; each level halves the resolution.
        num_res_blocks: Residual blocks of a level; the decoder has one more.
        attn_resolutions: Resolutions whose blocks are followed by attention.
        in_channels: Channels of the images.
        device: Device of the parameters.
        dtype: Data type of the parameters.
    """

    def __init__(
        self,
        num_codes: int,
        embed_dim: int = 256,
        z_channels: int = 256,
        resolution: int = 256,
        ch: int = 128,
        ch_mult: Sequence[int] = (1, 1, 2, 4),
        num_res_blocks: int = 2,
        attn_resolutions: Sequence[int] = (32,),
        in_channels: int = 3,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        dd = {'device': device, 'dtype': dtype}
        self.resolution, self.in_channels = resolution, in_channels
        self.grid_size = resolution // 2 ** (len(ch_mult) - 1)
        levels: dict[str, Any] = dict(
            ch=ch,
            ch_mult=ch_mult,
            num_res_blocks=num_res_blocks,
            attn_resolutions=attn_resolutions,
            resolution=resolution,
        )
        self.encoder = Encoder(in_channels, z_channels, **levels, **dd)
        self.decoder = Decoder(z_channels, in_channels, **levels, **dd)
        self.quantize = Codebook(num_codes, embed_dim, **dd)
        self.quant_conv = nn.Conv2d(z_channels, embed_dim, 1, **dd)
        self.post_quant_conv = nn.Conv2d(embed_dim, z_channels, 1, **dd)

    @property
    def num_codes(self) -> int:
        """Size of the codebook."""
        return self.quantize.embedding.num_embeddings

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Images [B, 3, H, W] -> codes int64 [B, H', W']."""
        return self.quantize(self.quant_conv(self.encoder(x)))

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes [B, H', W'] -> images [B, 3, H, W], about in [-1, 1].

        Raises:
            ValueError: A code that is not in the codebook.
        """
        return self.decoder(self.post_quant_conv(self.quantize.look_up(codes)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [B, 3, H, W] through the codebook and back."""
        return self.decode(self.encode(x))


def nearest_codes(z: torch.Tensor, book: torch.Tensor) -> torch.Tensor:
    """The rows of a book [N, C] that are nearest to [B, C, ...], int64 [B, ...]."""
    flat = z.movedim(1, -1).flatten(0, -2)  # [B * ..., C]
    # The squared norm of a vector itself is the same for all codes.
    nearest = [(book.square().sum(dim=1) - 2 * rows @ book.T).argmin(dim=1) for rows in flat.split(4096)]
    return torch.cat(nearest).view(len(z), *z.shape[2:])


def look_up_codes(codes: torch.Tensor, book: torch.Tensor) -> torch.Tensor:
    """Codes [B, ...] -> their rows in a book [N, C], as [B, C, ...].

    Raises:
        ValueError: A code that is not in the book.
    """
    low, high = codes.aminmax()
    if low < 0 or high >= len(book):
        raise ValueError(f'codes from {low} to {high}: this codebook has 0 to {len(book) - 1}')
    return F.embedding(codes, book).movedim(-1, 1)


class Codebook(nn.Module):
    def __init__(self, num_codes: int, embed_dim: int, **dd: Any) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_codes, embed_dim, **dd)
        nn.init.uniform_(self.embedding.weight, -1 / num_codes, 1 / num_codes)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """The nearest codes of [B, C, H', W'], int64 [B, H', W']."""
        return nearest_codes(z, self.embedding.weight)

    def look_up(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes [B, H', W'] -> [B, C, H', W']."""
        return look_up_codes(codes, self.embedding.weight)


class Encoder(nn.Module):
    def __init__(
        self,
        in_channels: int,
        z_channels: int,
        ch: int,
        ch_mult: Sequence[int],
        num_res_blocks: int,
        attn_resolutions: Sequence[int],
        resolution: int,
        **dd: Any,
    ) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(in_channels, ch, 3, padding=1, **dd)
        self.down, width = nn.ModuleList(), ch
        for i, factor in enumerate(ch_mult):
            has_attention, is_last = resolution // 2**i in attn_resolutions, i == len(ch_mult) - 1
            self.down.append(Level(width, ch * factor, num_res_blocks, has_attention, down=not is_last, **dd))
            width = ch * factor
        self.mid = Middle(width, **dd)
        self.norm_out = _norm(width, **dd)
        self.conv_out = nn.Conv2d(width, z_channels, 3, padding=1, **dd)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [B, 3, H, W] -> [B, z_channels, H', W']."""
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    def __init__(
        self,
        z_channels: int,
        out_channels: int,
        ch: int,
        ch_mult: Sequence[int],
        num_res_blocks: int,
        attn_resolutions: Sequence[int],
        resolution: int,
        **dd: Any,
    ) -> None:
        super().__init__()
        width = ch * ch_mult[-1]
        self.conv_in = nn.Conv2d(z_channels, width, 3, padding=1, **dd)
        self.mid = Middle(width, **dd)
        levels = []
        for i, factor in reversed(list(enumerate(ch_mult))):
            has_attention = resolution // 2**i in attn_resolutions
            levels.append(Level(width, ch * factor, num_res_blocks + 1, has_attention, up=i > 0, **dd))
            width = ch * factor
        self.up = nn.ModuleList(reversed(levels))  # counted from fine to coarse, as in the encoder
        self.norm_out = _norm(width, **dd)
        self.conv_out = nn.Conv2d(width, out_channels, 3, padding=1, **dd)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """[B, z_channels, H', W'] -> images [B, 3, H, W]."""
        x = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Level(nn.Module):
    """The blocks of one resolution, and the step to the next."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_blocks: int,
        has_attention: bool,
        down: bool = False,
        up: bool = False,
        **dd: Any,
    ) -> None:
        super().__init__()
        self.block, self.attn = nn.ModuleList(), nn.ModuleList()
        for i in range(num_blocks):
            self.block.append(ResidualBlock(out_channels if i else in_channels, out_channels, **dd))
            if has_attention:
                self.attn.append(SpatialAttention(out_channels, **dd))
        if down:
            self.downsample = Downsample(out_channels, **dd)
        if up:
            self.upsample = Upsample(out_channels, **dd)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for i, block in enumerate(self.block):
            x = block(x)
            if len(self.attn):
                x = self.attn[i](x)
        if hasattr(self, 'downsample'):
            return self.downsample(x)
        return self.upsample(x) if hasattr(self, 'upsample') else x


class Middle(nn.Module):
    """The blocks of the coarsest resolution."""

    def __init__(self, width: int, **dd: Any) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(width, width, **dd)
        self.attn_1 = SpatialAttention(width, **dd)
        self.block_2 = ResidualBlock(width, width, **dd)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


def _norm(width: int, **dd: Any) -> nn.GroupNorm:
    return nn.GroupNorm(32, width, eps=1e-6, **dd)


class ResidualBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, **dd: Any) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(in_channels, **dd), nn.Conv2d(in_channels, out_channels, 3, padding=1, **dd)
        self.norm2, self.conv2 = _norm(out_channels, **dd), nn.Conv2d(out_channels, out_channels, 3, padding=1, **dd)
        if in_channels != out_channels:
            self.nin_shortcut = nn.Conv2d(in_channels, out_channels, 1, **dd)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        residual = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return residual + (self.nin_shortcut(x) if hasattr(self, 'nin_shortcut') else x)


class SpatialAttention(nn.Module):
    """Every position attends to every other, with one head."""

    def __init__(self, width: int, **dd: Any) -> None:
        super().__init__()
        self.norm = _norm(width, **dd)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1, **dd) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        # [B, C, H, W] -> [B, 1, H * W, C]
        q, k, v = (part(y).flatten(2).transpose(1, 2).unsqueeze(1) for part in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v).squeeze(1).transpose(1, 2).reshape(x.shape)
        return x + self.proj_out(y)


class Downsample(nn.Module):
    def __init__(self, width: int, **dd: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2, **dd)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))  # at the right and at the bottom alone, as published


class Upsample(nn.Module):
    def __init__(self, width: int, **dd: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, **dd)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode='nearest'))
