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
        in_channels: Of the images.
        device: Where to make the parameters.
        dtype: Of the parameters.
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
        levels = dict(
            ch=ch, ch_mult=ch_mult, num_res_blocks=num_res_blocks, attn_resolutions=attn_resolutions,
            resolution=resolution)
        self.encoder = Encoder(in_channels, z_channels, **levels, **dd)
        self.decoder = Decoder(z_channels, in_channels, **levels, **dd)
        self.quantize = Codebook(num_codes, embed_dim, **dd)
        self.quant_conv = nn.Conv2d(z_channels, embed_dim, 1, **dd)
        self.post_quant_conv = nn.Conv2d(embed_dim, z_channels, 1, **dd)

    @property
    def num_codes(self) -> int:
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


class Codebook(nn.Module):
    def __init__(self, num_codes: int, embed_dim: int, **dd: Any) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_codes, embed_dim, **dd)
        nn.init.uniform_(self.embedding.weight, -1 / num_codes, 1 / num_codes)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """The nearest codes of [B, C, H', W'], int64 [B, H', W']."""
        book = self.embedding.weight
        flat = z.movedim(1, -1).flatten(0, -2)  # [B * H' * W', C]
        # The square of a vector itself is the same for all codes.
        nearest = [
            (book.square().sum(dim=1) - 2 * rows @ book.T).argmin(dim=1) for rows in flat.split(4096)]
        return torch.cat(nearest).view(len(z), *z.shape[2:])

    def look_up(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes [B, H', W'] -> [B, C, H', W']."""
        low, high = codes.aminmax()
        if low < 0 or high >= self.embedding.num_embeddings:
            raise ValueError(
                f'codes from {low} to {high}: this codebook has 0 to {self.embedding.num_embeddings - 1}')
        return self.embedding(codes).movedim(-1, 1)


class Encoder(nn.Module):
    def __init__(self, in_channels, z_channels, ch, ch_mult, num_res_blocks, attn_resolutions, resolution, **dd):
        super().__init__()
        self.conv_in = nn.Conv2d(in_channels, ch, 3, padding=1, **dd)
        self.down, width = nn.ModuleList(), ch
        for i, factor in enumerate(ch_mult):
            level, size = nn.Module(), resolution // 2 ** i
            level.block, level.attn = nn.ModuleList(), nn.ModuleList()
            for _ in range(num_res_blocks):
                level.block.append(ResidualBlock(width, ch * factor, **dd))
                width = ch * factor
                if size in attn_resolutions:
                    level.attn.append(SpatialAttention(width, **dd))
            if i < len(ch_mult) - 1:
                level.downsample = Downsample(width, **dd)
            self.down.append(level)
        self.mid = _middle(width, **dd)
        self.norm_out = _norm(width, **dd)
        self.conv_out = nn.Conv2d(width, z_channels, 3, padding=1, **dd)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = _through(level, x)
            if hasattr(level, 'downsample'):
                x = level.downsample(x)
        x = self.mid.block_2(self.mid.attn_1(self.mid.block_1(x)))
        return self.conv_out(F.silu(self.norm_out(x)))


class Decoder(nn.Module):
    def __init__(self, z_channels, out_channels, ch, ch_mult, num_res_blocks, attn_resolutions, resolution, **dd):
        super().__init__()
        width = ch * ch_mult[-1]
        self.conv_in = nn.Conv2d(z_channels, width, 3, padding=1, **dd)
        self.mid = _middle(width, **dd)
        levels = []
        for i, factor in reversed(list(enumerate(ch_mult))):
            level, size = nn.Module(), resolution // 2 ** i
            level.block, level.attn = nn.ModuleList(), nn.ModuleList()
            for _ in range(num_res_blocks + 1):
                level.block.append(ResidualBlock(width, ch * factor, **dd))
                width = ch * factor
                if size in attn_resolutions:
                    level.attn.append(SpatialAttention(width, **dd))
            if i:
                level.upsample = Upsample(width, **dd)
            levels.append(level)
        self.up = nn.ModuleList(reversed(levels))  # counted from fine to coarse, as in the encoder
        self.norm_out = _norm(width, **dd)
        self.conv_out = nn.Conv2d(width, out_channels, 3, padding=1, **dd)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        x = self.conv_in(z)
        x = self.mid.block_2(self.mid.attn_1(self.mid.block_1(x)))
        for level in reversed(self.up):
            x = _through(level, x)
            if hasattr(level, 'upsample'):
                x = level.upsample(x)
        return self.conv_out(F.silu(self.norm_out(x)))


def _middle(width, **dd):
    middle = nn.Module()
    middle.block_1 = ResidualBlock(width, width, **dd)
    middle.attn_1 = SpatialAttention(width, **dd)
    middle.block_2 = ResidualBlock(width, width, **dd)
    return middle


def _through(level, x):
    for i, block in enumerate(level.block):
        x = block(x)
        if len(level.attn):
            x = level.attn[i](x)
    return x


def _norm(width, **dd):
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
    """Every place attends to every other, with one head."""

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
