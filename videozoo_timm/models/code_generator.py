"""What the generators of images and of videos share: a GPT samples codes, a VQGAN turns pixels into codes and back."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import NotFiniteError
from .gpt import GPT
from .sampling import SamplingConfig

__all__ = ['CodeGenerator', 'free_memory']

_LOGITS = 2**25  # that likelihoods are computed from at once, 128 MB


class CodeGenerator(nn.Module):
    """A GPT and the VQGAN whose codes it samples. `gpt, vqgan = generator` takes it apart.

    Args:
        gpt: Samples codes.
        vqgan: Encodes and decodes them; its pixels lie evenly around 0.
        pixel_scale: Width of the interval in which its pixels are.
    """

    def __init__(self, gpt: GPT, vqgan: Any, pixel_scale: float) -> None:
        super().__init__()
        self.gpt, self.vqgan, self._pixel_scale = gpt, vqgan, pixel_scale

    def __iter__(self) -> Iterator[nn.Module]:
        return iter((self.gpt, self.vqgan))

    def fitting(self, wanted: int) -> int:
        """As many of the wanted samples at a time as half of the free memory has room for, at most 64."""
        size = self.gpt.head.weight.element_size()
        each = 2 * len(self.gpt.blocks) * self.gpt.block_size * self.gpt.embed_dim * size + 16 * self.gpt.vocab_size
        return max(1, min(wanted, 64, free_memory(self._code_device) // 2 // each))

    def _batches_of(self, number: int, batch_size: int | None) -> int:
        """The batch size, or how many fit.

        Raises:
            ValueError: It is less than 1.
        """
        batch_size = self.fitting(number) if batch_size is None else batch_size
        if batch_size < 1:
            raise ValueError(f'batch_size={batch_size}: must be at least 1')
        return batch_size

    def _sample(
        self,
        codes: torch.Tensor,
        length: int,
        sampling: SamplingConfig,
        generator: torch.Generator,
        use_cache: bool,
        progress: Callable[[float], Any],
        per_code: float,
    ) -> torch.Tensor:
        """`GPT.sample` with `progress` in samples, of which each code that is sampled counts `per_code`."""
        told = {'progress': lambda number: progress(per_code * number)}
        return self.gpt.sample(codes, length, sampling=sampling, generator=generator, use_cache=use_cache, **told)

    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Codes of pixels [N, 3, ...] in [0, 1]."""
        return torch.cat(
            [
                self.vqgan.encode((self._pixel_scale * (batch - 0.5)).to(self._pixel_like))
                for batch in pixels.split(self._at_once)
            ]
        )

    def _decode(self, codes: torch.Tensor, what: str) -> torch.Tensor:
        """Pixels [N, 3, ...] in [0, 1] of codes.

        Raises:
            ValueError: They are no whole numbers, there are none, or one is not in the codebook.
            NotFiniteError: The pixels hold NaN.
        """
        if codes.is_floating_point() or not len(codes):
            raise ValueError(f'codes must be whole numbers of {what} or more, got {codes.dtype} {list(codes.shape)}')
        pixels = torch.cat(
            [
                (self.vqgan.decode(batch.to(self._pixel_like.device)).float() / self._pixel_scale + 0.5).clamp_(0, 1)
                for batch in codes.split(self._at_once)
            ]
        )
        if not pixels.isfinite().all():
            raise NotFiniteError('what the VQGAN decodes holds NaN: its weights are damaged or too large')
        return pixels

    def _log_likelihood(self, codes: torch.Tensor) -> torch.Tensor:
        """Log-likelihood of each of the codes [N, L] but the first, given those before: float32 [N, L - 1], nats."""
        codes = codes.to(self._code_device)
        self.gpt.check(codes[:, 1:])  # the last is looked up in no embedding

        def of(batch: torch.Tensor) -> torch.Tensor:
            logits = self.gpt(batch[:, :-1]).float()
            return -F.cross_entropy(logits.transpose(1, 2), batch[:, 1:], reduction='none')

        at_once = max(1, _LOGITS // (codes.shape[1] * self.gpt.vocab_size))
        return torch.cat([of(batch) for batch in codes.split(at_once)])

    def _hidden_mean(self, codes: torch.Tensor, first: int = 0) -> torch.Tensor:
        """The mean of the GPT's last hidden states over the codes [N, L], from `first` on: float32 [N, C]."""
        codes = codes.to(self._code_device)
        return torch.cat([self.gpt.forward_features(batch)[:, first:].float().mean(dim=1) for batch in codes.split(4)])

    def _check_pixels(self, pixels: torch.Tensor, what: str) -> None:
        """Raise a ValueError unless these are float pixels in [0, 1], and there are some."""
        if not pixels.is_floating_point():
            raise ValueError(f'{what} must be float in [0, 1], got {pixels.dtype}')
        if not len(pixels):
            raise ValueError(f'there are no {what}')
        low, high = (value.item() for value in pixels.aminmax())
        if not (low >= 0 and high <= 1):
            raise ValueError(f'{what} must be in [0, 1], got values from {low:.3g} to {high:.3g}')

    @property
    def _at_once(self) -> int:
        """Batch size of the VQGAN, whose activations are large; larger batches gain nothing on a CPU."""
        return 1 if self._pixel_like.device.type == 'cpu' else 8

    @property
    def _pixel_like(self) -> torch.Tensor:
        return next(self.vqgan.parameters())

    @property
    def _code_device(self) -> torch.device:
        return self.gpt.head.weight.device


def free_memory(device: torch.device) -> int:
    """Bytes that can be allocated there."""
    if device.type == 'cuda':
        return torch.cuda.mem_get_info(device)[0]
    with suppress(OSError), open('/proc/meminfo') as file:
        for line in file:
            if line.startswith('MemAvailable'):
                return 1024 * int(line.split()[1])
    return 4 << 30
