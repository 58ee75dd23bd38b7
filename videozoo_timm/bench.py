"""How fast a model runs on this machine, against what the machine can do and against a plain implementation."""

import contextlib
import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from .inference.pipeline import takes_clips
from .models.attention import fast_in_bfloat16

__all__ = ['PlainViT', 'Speed', 'check_plain', 'count_flops', 'matrix_product_rate', 'measure']


def __dir__() -> list[str]:
    return list(__all__)


@dataclass(frozen=True)
class Speed:
    """What was measured of a model.

    Attributes:
        latency: Seconds per batch, the median of the runs.
        fastest: Of the runs.
        slowest: Of the runs; far from the median if the machine has other work.
        rate: Clips (of an image model images) a second.
        peak_memory: Bytes: allocated on a GPU, resident of the whole process on a CPU; None where it cannot be told.
        flops: Floating-point operations of a batch, of its matrix products.
        share: The fraction that this is of the rate at which the machine multiplies large matrices of this type.
    """

    latency: float
    fastest: float
    slowest: float
    rate: float
    peak_memory: int | None
    flops: int
    share: float


def measure(model: nn.Module, x: torch.Tensor, product_rate: float, runs: int = 5, warm_up: int = 2) -> Speed:
    """Run a model and measure it.

    Args:
        model: Model, in eval mode, perhaps compiled.
        x: Clips [B, C, T, H, W] or images [B, C, H, W], of the model's type and on its device.
        product_rate: Of `matrix_product_rate`.
        runs: Timed runs.
        warm_up: Runs before them.
    """
    with torch.inference_mode():
        for _ in range(max(1, warm_up)):
            model(x)
        _forget_peak_memory(x.device)
        seconds = _time(lambda: model(x), x.device, runs)
        peak = _peak_memory(x.device)
    flops = count_flops(model, x)
    latency = statistics.median(seconds)
    return Speed(latency, min(seconds), max(seconds), len(x) / latency, peak, flops, flops / latency / product_rate)


def matrix_product_rate(device: torch.device, dtype: torch.dtype, runs: int = 5) -> float:
    """Floating-point operations a second of a large square matrix product, the median of the runs."""
    size = 8192 if device.type == 'cuda' else 2048
    if device.type == 'cpu' and dtype != torch.float32 and not fast_in_bfloat16(device):
        size = 512  # without instructions for it a larger product takes minutes
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    with torch.inference_mode():
        a @ b
        seconds = _time(lambda: a @ b, device, runs)
    return 2 * size**3 / statistics.median(seconds)


def count_flops(model: nn.Module, x: torch.Tensor) -> int:
    """Floating-point operations of the matrix products of one call; nothing is computed."""
    original = getattr(model, '_orig_mod', model)  # of a compiled one
    memo = {id(b): torch.empty_like(b, device='meta') for b in original.buffers()}
    memo |= {id(p): nn.Parameter(torch.empty_like(p, device='meta'), False) for p in original.parameters()}
    shadow = copy.deepcopy(original, memo)  # without values
    for module in shadow.modules():
        vars(module).pop('forward', None)  # of compiled blocks, it is that of the original
    with FlopCounterMode(display=False) as counter, torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
        shadow(torch.empty_like(x, device='meta'))
    return counter.get_total_flops()


class PlainViT(nn.Module):
    """A ViT of this package as it is most plainly written: a convolution, separate q, k and v, the N x N matrix.

    Args:
        model: A video ViT or an image ViT; its weights are copied to float32.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        vit: Any = model  # its attributes are timm's and not declared by `nn.Module`
        self.weights = nn.ParameterDict(
            {
                k.replace('.', '/'): nn.Parameter(v.detach().float().clone(), requires_grad=False)
                for k, v in model.state_dict().items()
                if 'attn.qkv' not in k
            }
        )
        self.num_heads, self.depth = vit.blocks[0].attn.num_heads, len(vit.blocks)
        self.steps = vit.patch_embed.video_grid_size[0] if takes_clips(model) else 0
        self.frames = vit.num_frames if takes_clips(model) else 0
        self.eps = vit.norm.eps
        for i, block in enumerate(vit.blocks):
            for kind in ('weight', 'bias'):
                parts = getattr(block.attn.qkv, kind).detach().float().chunk(3)
                for name, part in zip('qkv', parts, strict=True):
                    self.weights[f'blocks/{i}/attn/{name}/{kind}'] = nn.Parameter(part.clone(), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Clips [B, C, T, H, W] or images [B, C, H, W] -> logits or class tokens."""
        w = self.weights
        kernel, bias = w['patch_embed/proj/weight'], w['patch_embed/proj/bias']
        if self.steps:
            if x.ndim == 4:
                x = x.unsqueeze(2).expand(-1, -1, self.frames, -1, -1)
            x = F.conv3d(x, kernel, bias, stride=kernel.shape[2:]).flatten(2).transpose(1, 2)  # [B, N, D]
            spatial, temporal = w['pos_embed_spatial'], w['pos_embed_temporal']
            x = x + (spatial.unsqueeze(1) + temporal.unsqueeze(2)).flatten(1, 2)
            x = torch.cat([(w['cls_token'] + w['pos_embed_class']).expand(len(x), -1, -1), x], dim=1)
        else:
            x = F.conv2d(x, kernel, bias, stride=kernel.shape[2:]).flatten(2).transpose(1, 2)
            x = torch.cat([w['cls_token'].expand(len(x), -1, -1), x], dim=1) + w['pos_embed']
        for i in range(self.depth):
            block = f'blocks/{i}/'
            y = self._norm(x, f'{block}norm1')
            q, k, v = (
                self._linear(y, f'{block}attn/{name}').unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
                for name in 'qkv'
            )  # [B, heads, N, D // heads]
            y = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1) @ v
            x = x + self._linear(y.transpose(1, 2).flatten(2), f'{block}attn/proj')
            y = F.gelu(self._linear(self._norm(x, f'{block}norm2'), f'{block}mlp/fc1'))
            x = x + self._linear(y, f'{block}mlp/fc2')
        x = self._norm(x, 'norm')[:, 0]
        return self._linear(x, 'head') if 'head/weight' in w else x

    def _linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, self.weights[f'{name}/weight'], self.weights[f'{name}/bias'])

    def _norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weights[f'{name}/weight'], self.weights[f'{name}/bias'], self.eps)


def check_plain(model: nn.Module) -> None:
    """Raise a ValueError if `PlainViT` cannot be made of a model."""
    is_vit = hasattr(model, 'blocks') and hasattr(model, 'cls_token') and not hasattr(model, 'mask_token')
    if not is_vit:
        raise ValueError(f'the plain implementation is that of the ViTs, not of {type(model).__name__}')


def _forget_peak_memory(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
    elif Path('/proc/self/clear_refs').exists():
        with contextlib.suppress(OSError):  # not everybody may
            Path('/proc/self/clear_refs').write_text('5')  # Linux: the peak starts anew


def _peak_memory(device: torch.device) -> int | None:
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device)
    status = Path('/proc/self/status')
    if device.type != 'cpu' or not status.exists():
        return None
    return 1024 * int(next(line for line in status.read_text().splitlines() if line.startswith('VmHWM')).split()[1])


def _time(run: Callable[[], Any], device: torch.device, runs: int) -> list[float]:
    seconds = []
    for _ in range(runs):
        _wait(device)
        start = time.perf_counter()
        run()
        _wait(device)
        seconds.append(time.perf_counter() - start)
    return seconds


def _wait(device: torch.device) -> None:
    if device.type != 'cpu':
        torch.accelerator.synchronize(device)
