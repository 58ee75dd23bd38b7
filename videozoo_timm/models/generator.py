"""The image generators of silicon-menagerie: a GPT samples a grid of codes, a VQGAN decodes it.

Paper: https://arxiv.org/abs/2305.15372.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import NotFiniteError
from .gpt import GPT, PUBLISHED
from .sampling import SamplingConfig
from .vqgan import VQGAN

__all__ = ['ImageGenerator']


class ImageGenerator(nn.Module):
    """A GPT and the VQGAN whose codes it samples. `gpt, vqgan = generator` takes it apart.

    Images are float in [0, 1], [N, 3, 256, 256] for the published models. Codes are int64 [N, H', W'], in the order in
    which they are sampled: rows from top to bottom, each from left to right. The first code is sampled uniformly, since
    the GPT does not predict it.

    Args:
        gpt: GPT with the vocabulary size of the codebook.
        vqgan: VQGAN with a grid of as many codes as the GPT samples.

    Raises:
        ValueError: The two do not belong together.
    """

    def __init__(self, gpt: GPT, vqgan: VQGAN) -> None:
        super().__init__()
        if gpt.vocab_size != vqgan.num_codes or gpt.block_size + 1 != vqgan.grid_size**2:
            raise ValueError(
                f'this GPT samples {gpt.block_size + 1} of {gpt.vocab_size} codes, this VQGAN has {vqgan.grid_size} x '
                f'{vqgan.grid_size} of {vqgan.num_codes}'
            )
        self.gpt, self.vqgan = gpt, vqgan

    def __iter__(self) -> Iterator[nn.Module]:
        return iter((self.gpt, self.vqgan))

    @torch.no_grad()
    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Images [N, 3, H, W] in [0, 1] -> codes [N, H', W'].

        Raises:
            ValueError: Another size or range.
        """
        self._check_images(images)
        return torch.cat(
            [self.vqgan.encode((2 * batch - 1).to(self._pixel_like)) for batch in images.split(self._at_once)]
        )

    @torch.no_grad()
    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes [N, H', W'] -> images [N, 3, H, W] in [0, 1].

        Raises:
            ValueError: A code that is not in the codebook, or another grid.
            NotFiniteError: The images hold NaN.
        """
        grid = self.vqgan.grid_size
        if codes.ndim != 3 or codes.shape[1:] != (grid, grid):
            raise ValueError(f'codes must be [N, {grid}, {grid}], got {list(codes.shape)}')
        if codes.is_floating_point() or not len(codes):
            raise ValueError(f'codes must be whole numbers of an image or more, got {codes.dtype} {list(codes.shape)}')
        images = torch.cat(
            [
                ((self.vqgan.decode(batch.to(self._pixel_like.device)).float() + 1) / 2).clamp_(0, 1)
                for batch in codes.split(self._at_once)
            ]
        )
        if not images.isfinite().all():
            raise NotFiniteError('the images that the VQGAN decodes hold NaN: its weights are damaged or too large')
        return images

    def generate(
        self,
        num_images: int,
        *,
        sampling: SamplingConfig = PUBLISHED,
        batch_size: int | None = None,
        use_cache: bool = True,
        progress: Callable[[float], Any] = lambda images: None,
        **fields: Any,
    ) -> torch.Tensor:
        """Sample images.

        Args:
            num_images: How many.
            sampling: How codes are sampled.
            batch_size: Images at a time; None for as many as fit the free memory. The same seed gives the same images
                only in the same batches.
            use_cache: As in `GPT.sample`.
            progress: Called with how many more images were sampled, a fraction at a time.
            **fields: Fields of `sampling` to replace: `generate(4, seed=0, temperature=0.9)`.

        Returns:
            [N, 3, H, W] in [0, 1].

        Raises:
            ValueError: An invalid setting.
        """
        options: dict[str, Any] = dict(batch_size=batch_size, use_cache=use_cache, progress=progress)
        return torch.cat(list(self.batches(num_images, sampling=sampling.with_fields(fields), **options)))

    def batches(
        self,
        num_images: int,
        *,
        sampling: SamplingConfig = PUBLISHED,
        batch_size: int | None = None,
        use_cache: bool = True,
        progress: Callable[[float], Any] = lambda images: None,
        **fields: Any,
    ) -> Iterator[torch.Tensor]:
        """As `generate`, which has the arguments too, but batch by batch, for more images than memory holds."""
        if num_images < 1:
            raise ValueError(f'num_images={num_images}: must be at least 1')
        sampling = sampling.with_fields(fields)
        generator = sampling.generator(self._code_device)
        first = torch.randint(self.gpt.vocab_size, (num_images, 1), generator=generator, device=self._code_device)
        grids = self._continue(first, sampling, generator, batch_size, progress, use_cache)
        return map(self.decode, grids)

    def complete(
        self,
        images: torch.Tensor,
        *,
        keep: float = 0.5,
        samples: int = 2,
        sampling: SamplingConfig = PUBLISHED,
        batch_size: int | None = None,
        use_cache: bool = True,
        progress: Callable[[float], Any] = lambda images: None,
        **fields: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sample the rest of images whose upper part is given.

        Args:
            images: [N, 3, H, W] in [0, 1].
            keep: Fraction of the rows of codes that is given, from the top; rounded to whole rows, at least one, and
                at least one is sampled.
            samples: Completions of each image.
            sampling: As in `generate`.
            batch_size: As in `generate`.
            use_cache: As in `generate`.
            progress: As in `generate`.
            **fields: As in `generate`.

        Returns:
            The originals [N, 3, H, W] and the samples [N, samples, 3, H, W]. The given part of a sample has gone
            through the codebook too.

        Raises:
            ValueError: Another size or range of the images, or an invalid setting.
        """
        if samples < 1:
            raise ValueError(f'samples={samples}: must be at least 1')
        sampling, rows = sampling.with_fields(fields), self.rows_kept(keep)
        given = self.encode(images)[:, :rows].flatten(1).to(self._code_device)  # [N, rows * W']
        grids = self._continue(
            given.repeat_interleave(samples, dim=0),
            sampling,
            sampling.generator(self._code_device),
            batch_size,
            progress,
            use_cache,
        )
        return images, self.decode(torch.cat(list(grids))).unflatten(0, (len(images), samples))

    def rows_kept(self, keep: float) -> int:
        """Rows of codes that `complete` keeps."""
        if not 0 < keep < 1:
            raise ValueError(f'keep={keep}: must be above 0 and below 1')
        grid = self.vqgan.grid_size
        return min(max(round(keep * grid), 1), grid - 1)

    @torch.no_grad()
    def log_likelihood(self, images: torch.Tensor) -> torch.Tensor:
        """Log-likelihood of images under the GPT.

        Args:
            images: [N, 3, H, W] in [0, 1].

        Returns:
            float32 [N], in nats per code, the mean over all codes but the first.
        """

        def of(codes: torch.Tensor) -> torch.Tensor:
            logits = self.gpt(codes[:, :-1]).float()
            return -F.cross_entropy(logits.transpose(1, 2), codes[:, 1:], reduction='none').mean(dim=1)

        return self._of_codes(images, of)

    @torch.no_grad()
    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Features for linear probes: the mean of the GPT's last hidden states over all codes but the last.

        Args:
            images: [N, 3, H, W] in [0, 1].

        Returns:
            float32 [N, C].
        """
        return self._of_codes(images, lambda codes: self.gpt.forward_features(codes[:, :-1]).float().mean(dim=1))

    def _of_codes(self, images: torch.Tensor, function: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        codes = self.encode(images).flatten(1).to(self._code_device)
        return torch.cat([function(batch) for batch in codes.split(4)])

    def _continue(
        self,
        prefix: torch.Tensor,
        sampling: SamplingConfig,
        generator: torch.Generator,
        batch_size: int | None,
        progress: Callable[[float], Any],
        use_cache: bool,
    ) -> Iterable[torch.Tensor]:
        """Grids of codes [B, H', W'], batch by batch."""
        length = self.gpt.block_size + 1
        batch_size = self.fitting(len(prefix)) if batch_size is None else batch_size
        if batch_size < 1:
            raise ValueError(f'batch_size={batch_size}: must be at least 1')

        def sample(batch: torch.Tensor) -> torch.Tensor:
            images_per_code = len(batch) / (length - prefix.shape[1])
            codes = self.gpt.sample(
                batch,
                length,
                sampling=sampling,
                generator=generator,
                use_cache=use_cache,
                progress=lambda codes: progress(images_per_code * codes),
            )
            return codes.unflatten(1, (self.vqgan.grid_size,) * 2)

        return map(sample, prefix.split(batch_size))

    def fitting(self, wanted: int) -> int:
        """As many of the wanted images at a time as half of the free memory has room for, at most 64."""
        size = self.gpt.head.weight.element_size()
        each = 2 * len(self.gpt.blocks) * self.gpt.block_size * self.gpt.embed_dim * size + 16 * self.gpt.vocab_size
        return max(1, min(wanted, 64, free_memory(self._code_device) // 2 // each))

    def _check_images(self, images: torch.Tensor) -> None:
        side = self.vqgan.resolution
        if images.ndim != 4 or images.shape[1:] != (self.vqgan.in_channels, side, side):
            raise ValueError(f'images must be [N, {self.vqgan.in_channels}, {side}, {side}], got {list(images.shape)}')
        if not images.is_floating_point():
            raise ValueError(f'images must be float in [0, 1], got {images.dtype}')
        if not len(images):
            raise ValueError('there are no images')
        low, high = (value.item() for value in images.aminmax())
        if not (low >= 0 and high <= 1):
            raise ValueError(f'images must be in [0, 1], got values from {low:.3g} to {high:.3g}')

    @property
    def _at_once(self) -> int:
        """Batch size of the VQGAN, whose activations are large; larger batches gain nothing on a CPU."""
        return 1 if self._pixel_like.device.type == 'cpu' else 8

    @property
    def _pixel_like(self) -> torch.Tensor:
        return self.vqgan.quant_conv.weight

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
