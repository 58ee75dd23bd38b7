"""What a video generator keeps of clips: through its codes and back, and how probable it finds them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..figures import Grid, to_bytes
from ..inference.checks import check_finite
from ..models import VideoGenerator
from .pictured import Pictured

__all__ = ['Reconstruction', 'reconstruct']


@dataclass(repr=False)
class Reconstruction(Pictured):
    """A clip, its codes, and what they decode to.

    Attributes:
        original: [3, T, H, W] in [0, 1].
        reconstructed: The same through the codebook and back.
        codes: int64 [T', H', W'].
        log_likelihood: Of each code given those before it, in nats, float32 [T', H', W'].
    """

    original: torch.Tensor
    reconstructed: torch.Tensor
    codes: torch.Tensor
    log_likelihood: torch.Tensor

    def __repr__(self) -> str:
        return f'Reconstruction({list(self.original.shape)}, psnr={self.psnr:.1f} dB, nats={self.nats:.2f})'

    @property
    def mse(self) -> float:
        """Mean squared error of the pixels."""
        return (self.original - self.reconstructed).double().square().mean().item()

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio, in dB."""
        return -10 * math.log10(self.mse) if self.mse else math.inf

    @property
    def nats(self) -> float:
        """Mean negative log-likelihood of a code, in nats."""
        return -self.log_likelihood.double().mean().item()

    def picture(self, title: str = '', captions: Sequence[str] = ()) -> Grid:
        """The original above the reconstruction; a column for each frame."""
        rows = [(name, getattr(self, name).transpose(0, 1)) for name in ('original', 'reconstructed')]
        return Grid(rows, captions, title)

    def arrays(self) -> dict[str, np.ndarray]:
        """`original`, `reconstructed`, `codes` and `log_likelihood`, as the attributes of these names."""
        names = ('original', 'reconstructed', 'codes', 'log_likelihood')
        return {name: np.asarray(getattr(self, name)) for name in names}

    def frames(self) -> list[Any]:
        """Each frame of the two side by side, as a `PIL.Image.Image`."""
        from PIL import Image

        both = torch.cat([self.original, self.reconstructed], dim=-1)  # [3, T, H, 2 * W]
        return [Image.fromarray(frame) for frame in to_bytes(both.transpose(0, 1))]


def reconstruct(generator: VideoGenerator, clip: torch.Tensor) -> Reconstruction:
    """Encode a clip and decode it.

    Args:
        generator: A video generator of this package.
        clip: [3, T, H, W] in [0, 1], of at most the model's frames; `clip_transform` gives it.

    Raises:
        ValueError: Another size or range.
        NotFiniteError: The clips that the VQGAN decodes hold NaN, or the likelihoods do.
    """
    original = clip.float().clamp(0, 1)
    codes = generator.encode(original.unsqueeze(0))
    likelihood = generator.log_likelihood_of_codes(codes)[0]
    check_finite(likelihood, 'the log-likelihoods', original, generator.gpt.head.weight.dtype)
    decoded = generator.decode(codes)[0]
    return Reconstruction(original.cpu(), decoded.cpu(), codes[0].cpu(), likelihood.cpu())
