"""How codes are sampled from what a GPT predicts."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..errors import NotFiniteError, UserError

__all__ = ['SamplingConfig', 'sample_codes']


@dataclass(frozen=True)
class SamplingConfig:
    """How codes are sampled; the defaults are the published ones.

    Attributes:
        temperature: Divides the logits; 0 takes the most probable code.
        top_k: Sample from this many of the most probable codes; None from all.
        top_p: Sample from the smallest set of codes that holds this fraction of the probability; None from all.
        seed: Random seed; None samples other codes each time.

    Raises:
        ValueError: An invalid setting.
    """

    temperature: float = 1.0
    top_k: int | None = 128
    top_p: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise UserError('{temperature}: must be a number, at least 0', temperature=self.temperature)
        if self.top_k is not None and self.top_k < 1:
            raise UserError('{top_k}: must be at least 1', top_k=self.top_k)
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UserError('{top_p}: must be above 0 and at most 1', top_p=self.top_p)
        if self.seed is not None and not -(2**63) <= self.seed < 2**64:
            raise UserError('{seed}: must fit into 64 bits', seed=self.seed)

    def with_fields(self, fields: dict[str, Any]) -> 'SamplingConfig':
        """The same with some fields replaced."""
        return replace(self, **fields) if fields else self

    def generator(self, device: torch.device) -> torch.Generator:
        """A random number generator that starts from the seed."""
        generator = torch.Generator(device)
        if self.seed is None:
            generator.seed()
        else:
            generator.manual_seed(self.seed)
        return generator


def sample_codes(
    logits: torch.Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Sample codes [B] from logits [B, vocab_size]; the arguments are those of `SamplingConfig`.

    Raises:
        NotFiniteError: The logits hold NaN or infinity.
    """
    if not logits.isfinite().all():
        raise NotFiniteError(
            f'the logits of the GPT hold NaN or infinity, computed in {str(logits.dtype).removeprefix("torch.")}: '
            f'another data type may help (float16 overflows above 65,504), otherwise its weights are damaged'
        )
    if temperature < 1e-30:  # logits divided by less overflow, and sample the most probable code anyway
        return logits.argmax(dim=-1)
    logits = logits.float() / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        # Codes as probable as the last of these stay, as in the published sampling.
        lowest = logits.topk(top_k).values[:, -1:]
        logits = logits.masked_fill(logits < lowest, -float('inf'))
    probabilities = logits.softmax(dim=-1)
    if top_p is not None and top_p < 1:
        ordered, order = probabilities.sort(dim=-1, descending=True)
        ordered = ordered.masked_fill(ordered.cumsum(dim=-1) - ordered >= top_p, 0)
        probabilities = torch.zeros_like(probabilities).scatter(1, order, ordered)
    return torch.multinomial(probabilities, 1, generator=generator).squeeze(1)
