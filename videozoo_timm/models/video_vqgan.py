"""The 3-D VQGAN that turns clips into grids of codes and back.

Paper: https://arxiv.org/abs/2204.03638 (TATS), whose layout https://github.com/eminorhan/vqgan-gpt-video keeps.
Parameters keep their published names.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import UserError
from .vqgan import look_up_codes, nearest_codes

__all__ = ['VideoVQGAN', 'VideoVQGANConfig']

Stride = tuple[int, int, int]
NORMS, PADDINGS = ('batch', 'group'), ('replicate', 'constant', 'reflect', 'circular')
_GROUPS = 32  # of the group norm
_STEPS = tuple(2**k for k in range(9))
_LARGEST = 2**20  # of any number in a configuration, which may come from a file


@dataclass(frozen=True)
class VideoVQGANConfig:
    """What a `VideoVQGAN` is built from; the defaults are those of the published 8 x 16 x 16 configuration.

    Attributes:
        num_codes: Size of the codebook.
        embed_dim: Width of a code.
        ch: Channels of the finest level; each halving of the resolution doubles them.
        downsample: Frames, rows and columns of pixels to one code, powers of two.
        norm: `'batch'` or `'group'`.
        padding: How the encoder pads clips: `'replicate'`, `'constant'` (zeros), `'reflect'` or `'circular'`.
            Residual blocks and decoder replicate, whatever this says, as published.
        num_frames: Frames of the clips that it was made for.
        resolution: Height and width of these clips, in pixels.
        in_channels: Channels of these clips.

    Raises:
        ValueError: An invalid setting.
    """

    num_codes: int = 16384
    embed_dim: int = 256
    ch: int = 32
    downsample: tuple[int, int, int] = (2, 16, 16)
    norm: str = 'batch'
    padding: str = 'replicate'
    num_frames: int = 16
    resolution: int = 256
    in_channels: int = 3

    def __post_init__(self) -> None:
        for name in ('num_codes', 'embed_dim', 'ch', 'num_frames', 'resolution', 'in_channels'):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= _LARGEST:
                raise UserError(f'{{{name}}}: must be a whole number from 1 to {_LARGEST}', **{name: value})
        steps = tuple(self.downsample) if isinstance(self.downsample, (tuple, list)) else ()
        if len(steps) != 3 or any(type(n) is not int or n not in _STEPS for n in steps) or max(steps) < 2:
            raise UserError(
                '{downsample}: must be three powers of two up to 256 (frames, rows, columns), one of them above 1',
                downsample=self.downsample,
            )
        object.__setattr__(self, 'downsample', steps)
        if self.norm not in NORMS:
            raise UserError('{norm}: must be ' + ' or '.join(NORMS), norm=self.norm)
        if self.padding not in PADDINGS:
            raise UserError('{padding}: must be one of ' + ', '.join(PADDINGS), padding=self.padding)
        if self.norm == 'group' and 2 * self.ch % _GROUPS:
            raise UserError(f'{{ch}}: must be a multiple of {_GROUPS // 2} with group norm', ch=self.ch)
        for name, size, step in zip(('num_frames', 'resolution', 'resolution'), self.clip_size, steps, strict=True):
            if size % step:
                raise UserError(f'{{{name}}}: must be a multiple of the {step} that become one code', **{name: size})

    @property
    def clip_size(self) -> tuple[int, int, int]:
        """Frames, height and width of a clip, in pixels."""
        return self.num_frames, self.resolution, self.resolution

    @property
    def grid_size(self) -> tuple[int, int, int]:
        """Codes along time, height and width of a clip."""
        frames, rows, columns = (size // step for size, step in zip(self.clip_size, self.downsample, strict=True))
        return frames, rows, columns

    @property
    def strides(self) -> list[Stride]:
        """Strides in time, height and width of the levels, from fine to coarse."""
        halvings = [int(math.log2(step)) for step in self.downsample]
        times, rows, columns = ([2 if level < n else 1 for level in range(max(halvings))] for n in halvings)
        return list(zip(times, rows, columns, strict=True))


class VideoVQGAN(nn.Module):
    """Encoder, codebook, decoder. Pixels are in [-0.5, 0.5].

    It takes clips of other sizes than those of its configuration too, multiples of `downsample`. The codebook is not
    a parameter: it is updated from running sums, in training only, by whoever trains it.

    Args:
        config: What it is built from.
        device: Device of the parameters.
        dtype: Data type of the parameters.
    """

    def __init__(self, config: VideoVQGANConfig, *, device: Any = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        dd = {'device': device, 'dtype': dtype}
        self.config = config
        self.encoder = VideoEncoder(config, **dd)
        self.decoder = VideoDecoder(config, **dd)
        width = self.encoder.out_channels
        self.pre_vq_conv = PaddedConv3d(width, config.embed_dim, 1, padding=config.padding, **dd)
        self.post_vq_conv = PaddedConv3d(config.embed_dim, width, 1, **dd)
        self.codebook = VideoCodebook(config.num_codes, config.embed_dim, **dd)

    @property
    def num_codes(self) -> int:
        """Size of the codebook."""
        return self.config.num_codes

    @property
    def grid_size(self) -> tuple[int, int, int]:
        """Codes along time, height and width of a clip."""
        return self.config.grid_size

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Clips [B, 3, T, H, W] -> codes int64 [B, T', H', W'].

        Raises:
            ValueError: Frames, rows or columns that are no multiple of `downsample`.
        """
        return self.quantize(self.pre_quantized(x))

    def pre_quantized(self, x: torch.Tensor) -> torch.Tensor:
        """Clips [B, 3, T, H, W] -> what is rounded to codes, [B, embed_dim, T', H', W'].

        Raises:
            ValueError: As in `encode`.
        """
        steps = self.config.downsample
        if x.ndim != 5 or any(size % step or not size for size, step in zip(x.shape[2:], steps, strict=True)):
            raise ValueError(
                f'clips must be [B, {self.config.in_channels}, T, H, W], T, H and W multiples of {steps}, got '
                f'{list(x.shape)}'
            )
        return self.pre_vq_conv(self.encoder(x))

    def quantize(self, z: torch.Tensor) -> torch.Tensor:
        """The nearest codes of [B, embed_dim, T', H', W'], int64 [B, T', H', W']."""
        return self.codebook(z)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes [B, T', H', W'] -> clips [B, 3, T, H, W], about in [-0.5, 0.5].

        Raises:
            ValueError: A code that is not in the codebook.
        """
        return self.decode_embedded(self.codebook.look_up(codes))

    def decode_embedded(self, z: torch.Tensor) -> torch.Tensor:
        """Embedded codes [B, embed_dim, T', H', W'] -> clips [B, 3, T, H, W], about in [-0.5, 0.5]."""
        return self.decoder(self.post_vq_conv(z))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Clips [B, 3, T, H, W] through the codebook and back."""
        return self.decode(self.encode(x))


class VideoCodebook(nn.Module):
    """The codes, and the running sums from which training updates them: counts `N` and sums of vectors `z_avg`."""

    embeddings: torch.Tensor
    N: torch.Tensor
    z_avg: torch.Tensor

    def __init__(self, num_codes: int, embed_dim: int, **dd: Any) -> None:
        super().__init__()
        self.register_buffer('embeddings', torch.randn(num_codes, embed_dim, **dd))
        self.register_buffer('N', torch.zeros(num_codes, **dd))
        self.register_buffer('z_avg', self.embeddings.clone())

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """The nearest codes of [B, C, T', H', W'], int64 [B, T', H', W']."""
        return nearest_codes(z, self.embeddings)

    def look_up(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes [B, T', H', W'] -> [B, C, T', H', W'].

        Raises:
            ValueError: A code that is not in the codebook.
        """
        return look_up_codes(codes, self.embeddings)


class VideoEncoder(nn.Module):
    """Clips [B, 3, T, H, W] -> [B, out_channels, T', H', W']."""

    def __init__(self, config: VideoVQGANConfig, **dd: Any) -> None:
        super().__init__()
        width = config.ch
        self.conv_first = PaddedConv3d(config.in_channels, width, 3, padding=config.padding, **dd)
        self.conv_blocks = nn.ModuleList()
        for stride in config.strides:
            self.conv_blocks.append(DownBlock(width, 2 * width, stride, config, **dd))
            width *= 2
        self.final_block = _norm_and_silu(width, config.norm, **dd)
        self.out_channels = width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv_first(x)
        for block in self.conv_blocks:
            x = block(x)
        return self.final_block(x)


class VideoDecoder(nn.Module):
    """[B, C, T', H', W'] -> clips [B, 3, T, H, W]."""

    def __init__(self, config: VideoVQGANConfig, **dd: Any) -> None:
        super().__init__()
        width = config.ch * 2 ** len(config.strides)
        self.final_block = _norm_and_silu(width, config.norm, **dd)  # comes first, in spite of its name
        self.conv_blocks = nn.ModuleList()
        # As published, the strides are in the encoder's order, not reversed: of 2 x 16 x 16 the finest level of the
        # encoder halves the frames, and the coarsest of the decoder doubles them. The first level halves no channels.
        for i, stride in enumerate(config.strides):
            out_width = config.ch * 2 ** (len(config.strides) - i)
            self.conv_blocks.append(UpBlock(width, out_width, stride, config, **dd))
            width = out_width
        self.conv_last = PaddedConv3d(width, config.in_channels, 3, **dd)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        x = self.final_block(z)
        for block in self.conv_blocks:
            x = block(x)
        return self.conv_last(x)


class DownBlock(nn.Module):
    """One level of the encoder."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: Stride, config: VideoVQGANConfig, **dd: Any
    ) -> None:
        super().__init__()
        self.down = PaddedConv3d(in_channels, out_channels, 4, stride, config.padding, **dd)
        self.res = VideoResidualBlock(out_channels, config.norm, **dd)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.res(self.down(x))


class UpBlock(nn.Module):
    """One level of the decoder."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: Stride, config: VideoVQGANConfig, **dd: Any
    ) -> None:
        super().__init__()
        self.up = PaddedConvTranspose3d(in_channels, out_channels, 4, stride, **dd)
        self.res1 = VideoResidualBlock(out_channels, config.norm, **dd)
        self.res2 = VideoResidualBlock(out_channels, config.norm, **dd)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.res2(self.res1(self.up(x)))


class VideoResidualBlock(nn.Module):
    def __init__(self, width: int, norm: str, **dd: Any) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(width, norm, **dd), PaddedConv3d(width, width, 3, **dd)
        self.norm2, self.conv2 = _norm(width, norm, **dd), PaddedConv3d(width, width, 3, **dd)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))


def _norm(width: int, kind: str, **dd: Any) -> nn.Module:
    return nn.GroupNorm(_GROUPS, width, eps=1e-6, **dd) if kind == 'group' else nn.BatchNorm3d(width, **dd)


def _norm_and_silu(width: int, kind: str, **dd: Any) -> nn.Sequential:
    return nn.Sequential(_norm(width, kind, **dd), nn.SiLU())


def _same_padding(kernel_size: int, stride: Stride) -> tuple[int, ...]:
    """Padding of `F.pad` (last dimension first) with which the output has as many steps as the input has strides.

    Of an odd number the larger half comes first, as published.
    """
    totals = [kernel_size - step for step in reversed(stride)]
    return tuple(part for total in totals for part in (total - total // 2, total // 2))


class PaddedConv3d(nn.Module):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: Stride = (1, 1, 1),
        padding: str = 'replicate',
        **dd: Any,
    ) -> None:
        super().__init__()
        self.pad, self.padding = _same_padding(kernel_size, stride), padding
        self.conv = nn.Conv3d(in_channels, out_channels, kernel_size, stride, **dd)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.pad(x, self.pad, mode=self.padding) if any(self.pad) else x)


class PaddedConvTranspose3d(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: Stride, **dd: Any) -> None:
        super().__init__()
        self.pad = _same_padding(kernel_size, stride)
        self.convt = nn.ConvTranspose3d(in_channels, out_channels, kernel_size, stride, padding=kernel_size - 1, **dd)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.pad(x, self.pad, mode='replicate')
        return self._by_phases(x) if self.training and x.device.type == 'cpu' else self.convt(x)

    def _by_phases(self, x: torch.Tensor) -> torch.Tensor:
        """The same as one convolution without strides, whose gradient takes a CPU far less time.

        It makes the 2 x 2 x 2 pixels (1 where there is no stride) that come of one position as channels.
        """
        kernel = F.pad(self.convt.weight, (0, 1, 0, 1, 0, 1))  # [C, C', 5, 5, 5], the last tap of each axis is 0
        phases = self.convt.stride
        for axis, stride in enumerate(phases):
            taps = torch.tensor([[3, 1, 4], [4, 2, 0]] if stride == 2 else [[3, 2, 1, 0]])
            kernel = kernel.index_select(2 + 2 * axis, taps.flatten()).unflatten(2 + 2 * axis, taps.shape)
        # [C, C', p_t, k_t, p_h, k_h, p_w, k_w] -> [p_t * p_h * p_w * C', C, k_t, k_h, k_w]
        kernel = kernel.permute(2, 4, 6, 1, 0, 3, 5, 7).flatten(0, 3)
        bias = self.convt.bias
        x = F.conv3d(x, kernel, None if bias is None else bias.repeat(math.prod(phases)))
        x = x.unflatten(1, (*phases, -1)).permute(0, 5, 1, 6, 2, 7, 3, 4)  # [B, T, p_t, H, p_h, W, p_w, C']
        x = x.flatten(5, 6).flatten(3, 4).flatten(1, 2)
        return x.movedim(-1, 1)  # [B, C', T * p_t, H * p_h, W * p_w]
