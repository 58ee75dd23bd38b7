"""The image generators of silicon-menagerie: a GPT samples a grid of codes, a VQGAN decodes it.

Paper: https://arxiv.org/abs/2305.15372.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from .code_generator import CodeGenerator
from .gpt import GPT, PUBLISHED
from .sampling import SamplingConfig
from .vqgan import VQGAN

__all__ = ['ImageGenerator']


class ImageGenerator(CodeGenerator):
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
        if gpt.vocab_size != vqgan.num_codes or gpt.block_size + 1 != vqgan.grid_size**2:
            raise ValueError(
                f'this GPT samples {gpt.block_size + 1} of {gpt.vocab_size} codes, this VQGAN has {vqgan.grid_size} x '
                f'{vqgan.grid_size} of {vqgan.num_codes}'
            )
        super().__init__(gpt, vqgan, pixel_scale=2)

    @torch.no_grad()
    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Images [N, 3, H, W] in [0, 1] -> codes [N, H', W'].

        Raises:
            ValueError: Another size or range.
        """
        self._check_images(images)
        return self._encode(images)

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
        return self._decode(codes, 'an image')

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
        return self._log_likelihood(self.encode(images).flatten(1)).mean(dim=1)

    @torch.no_grad()
    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Features for linear probes: the mean of the GPT's last hidden states over all codes but the last.

        Args:
            images: [N, 3, H, W] in [0, 1].

        Returns:
            float32 [N, C].
        """
        return self._hidden_mean(self.encode(images).flatten(1)[:, :-1])

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

        def sample(batch: torch.Tensor) -> torch.Tensor:
            per_code = len(batch) / (length - prefix.shape[1])
            codes = self._sample(batch, length, sampling, generator, use_cache, progress, per_code)
            return codes.unflatten(1, (self.vqgan.grid_size,) * 2)

        return map(sample, prefix.split(self._batches_of(len(prefix), batch_size)))

    def _check_images(self, images: torch.Tensor) -> None:
        side = self.vqgan.resolution
        if images.ndim != 4 or images.shape[1:] != (self.vqgan.in_channels, side, side):
            raise ValueError(f'images must be [N, {self.vqgan.in_channels}, {side}, {side}], got {list(images.shape)}')
        self._check_pixels(images, 'images')
