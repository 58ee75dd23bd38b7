"""The GPT that samples grids of codes: learned positions, pre-norm blocks, GELU, a head without bias.

Paper: https://arxiv.org/abs/2305.15372. The architecture is that of https://arxiv.org/abs/2012.09841's second stage.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import NotFiniteError

__all__ = ['GPT', 'Cache']


class Cache:
    """Keys and values of the codes read so far, in buffers that are allocated once.

    Args:
        gpt: The model.
        batch_size: Number of sequences.
        length: Capacity in codes; None for the model's block size.
    """

    def __init__(self, gpt: 'GPT', batch_size: int, length: int | None = None) -> None:
        length = gpt.block_size if length is None else length
        shape = (len(gpt.blocks), batch_size, gpt.num_heads, length, gpt.embed_dim // gpt.num_heads)
        like = gpt.head.weight
        self.keys = torch.empty(shape, device=like.device, dtype=like.dtype)  # [L, B, heads, N, C // heads]
        self.values = torch.empty_like(self.keys)
        self.length = 0

    def check(self, codes: torch.Tensor) -> None:
        """Raise a ValueError unless there is room for these codes."""
        batch_size, room = self.keys.shape[1], self.keys.shape[3] - self.length
        if len(codes) != batch_size or codes.shape[1] > room:
            raise ValueError(
                f'codes {list(codes.shape)} do not fit this cache: {batch_size} sequences, room for {room} more codes'
            )

    @property
    def nbytes(self) -> int:
        """Memory of the buffers, in bytes."""
        return self.keys.nbytes + self.values.nbytes


class Linear(nn.Linear):
    """PyTorch's, but for few rows on a CPU the weights come first in the product, which is up to twice as fast."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """[..., C] -> [..., C']."""
        if input.numel() > 64 * self.in_features or input.device.type != 'cpu' or input.dtype != torch.float32:
            return super().forward(input)
        columns = input.reshape(-1, self.in_features).t()
        if self.bias is None:
            result = self.weight @ columns
        else:
            result = torch.addmm(self.bias.unsqueeze(1), self.weight, columns)
        return result.t().contiguous().view(*input.shape[:-1], self.out_features)


class GPT(nn.Module):
    """A GPT over codes.

    Args:
        vocab_size: Number of different codes.
        block_size: Longest input, in codes.
        depth: Number of blocks.
        num_heads: Attention heads.
        embed_dim: Width of a token.
        device: Device of the parameters.
        dtype: Data type of the parameters.
    """

    def __init__(
        self,
        vocab_size: int,
        block_size: int,
        depth: int,
        num_heads: int,
        embed_dim: int,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        dd = {'device': device, 'dtype': dtype}
        self.num_heads, self.embed_dim = num_heads, embed_dim
        self.tok_emb = nn.Embedding(vocab_size, embed_dim, **dd)
        self.pos_emb = nn.Parameter(torch.zeros(1, block_size, embed_dim, **dd))
        self.blocks = nn.ModuleList(Block(embed_dim, num_heads, **dd) for _ in range(depth))
        self.ln_f = nn.LayerNorm(embed_dim, **dd)
        self.head = Linear(embed_dim, vocab_size, bias=False, **dd)
        self.apply(self._init_weights)

    @staticmethod
    def _init_weights(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    @property
    def vocab_size(self) -> int:
        """Number of different codes."""
        return self.tok_emb.num_embeddings

    @property
    def block_size(self) -> int:
        """Longest input, in codes."""
        return self.pos_emb.shape[1]

    def forward(self, codes: torch.Tensor, cache: Cache | None = None) -> torch.Tensor:
        """Predict the next code at every position.

        Args:
            codes: int64 [B, N]; with a cache the codes that follow those in it.
            cache: Keys and values of the codes before; those of `codes` are appended.

        Returns:
            Logits [B, N, vocab_size] of the code after each.

        Raises:
            ValueError: More codes than the block size, or codes outside of the vocabulary.
        """
        return self.head(self.forward_features(codes, cache))

    def forward_features(self, codes: torch.Tensor, cache: Cache | None = None) -> torch.Tensor:
        """The last hidden states [B, N, C], after the final norm; the arguments are those of `forward`."""
        past = cache.length if cache is not None else 0
        self.check(codes, past)
        if cache is not None:
            cache.check(codes)
        x = self.tok_emb(codes) + self.pos_emb[:, past : past + codes.shape[1]]  # [B, N, C]
        for i, block in enumerate(self.blocks):
            x = block(x, None if cache is None else (cache.keys[i], cache.values[i]), past)
        if cache is not None:
            cache.length += codes.shape[1]
        return self.ln_f(x)

    def check(self, codes: torch.Tensor, past: int = 0) -> None:
        """Raise a ValueError unless these codes can follow `past` others."""
        if past + codes.shape[1] > self.block_size:
            raise ValueError(f'{past + codes.shape[1]} codes are more than this GPT reads at once ({self.block_size})')
        if codes.numel() and not torch.compiler.is_compiling():
            low, high = codes.aminmax()
            if low < 0 or high >= self.vocab_size:
                raise ValueError(f'codes from {low} to {high}: must be in 0 to {self.vocab_size - 1}')

    @torch.no_grad()
    def sample(
        self,
        prefix: torch.Tensor,
        length: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = 128,
        top_p: float | None = None,
        generator: torch.Generator | None = None,
        use_cache: bool = True,
        progress: Callable[[int], Any] = lambda codes: None,
    ) -> torch.Tensor:
        """Continue sequences of codes.

        Args:
            prefix: int64 [B, N], N at least 1.
            length: Length of the result, the prefix included.
            temperature: Divides the logits; 0 takes the most probable code.
            top_k: Sample from this many of the most probable codes; None from all.
            top_p: Sample from the smallest set of codes that holds this fraction of the probability; None from all.
            generator: Random number generator.
            use_cache: False computes the whole prefix again for every code, for comparison.
            progress: Called with the number of codes that were just sampled in each sequence.

        Returns:
            int64 [B, length], the prefix included.

        Raises:
            ValueError: An invalid setting, an empty prefix, or more codes than the model can sample.
        """
        check_sampling(temperature, top_k, top_p)
        if prefix.shape[1] < 1:
            raise ValueError('the prefix is empty: a GPT continues at least one code')
        if length - 1 > self.block_size:
            raise ValueError(f'length={length}: this GPT samples at most {self.block_size + 1} codes')
        if prefix.shape[1] >= length:
            raise ValueError(f'a prefix of {prefix.shape[1]} codes leaves nothing to sample of {length}')
        self.check(prefix)
        codes = torch.empty(len(prefix), length, dtype=torch.int64, device=prefix.device)
        codes[:, : prefix.shape[1]] = prefix
        cache = Cache(self, len(prefix), length - 1) if use_cache else None
        done = 0
        for end in range(prefix.shape[1], length):
            x = self.forward_features(codes[:, done:end], cache)[:, -1]  # [B, C]
            codes[:, end] = sample_codes(self.head(x), temperature, top_k, top_p, generator)
            done = end if use_cache else 0
            progress(1)
        return codes


def check_sampling(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raise a ValueError unless these are valid settings of `GPT.sample`."""
    if not 0 <= temperature < math.inf:
        raise ValueError(f'temperature={temperature}: must be a number, at least 0')
    if top_k is not None and top_k < 1:
        raise ValueError(f'top_k={top_k}: must be at least 1, or None for all codes')
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f'top_p={top_p}: must be above 0 and at most 1, or None for all codes')


def sample_codes(
    logits: torch.Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Sample codes [B] from logits [B, vocab_size]; the arguments are those of `GPT.sample`.

    Raises:
        NotFiniteError: The logits hold NaN or infinity.
    """
    if not logits.isfinite().all():
        raise NotFiniteError(
            f'the logits of the GPT hold NaN or infinity, computed in {str(logits.dtype).removeprefix("torch.")}: '
            f'another data type may help (float16 overflows above 65,504), otherwise its weights are damaged'
        )
    if temperature == 0:
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


def __getattr__(name: str) -> Any:
    if name == 'draw':
        warnings.warn('draw is sample_codes now', DeprecationWarning, stacklevel=2)
        return sample_codes
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


class Block(nn.Module):
    def __init__(self, embed_dim: int, num_heads: int, **dd: Any) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(embed_dim, **dd)
        self.attn = CausalAttention(embed_dim, num_heads, **dd)
        self.ln2 = nn.LayerNorm(embed_dim, **dd)
        self.mlp = nn.Sequential(
            Linear(embed_dim, 4 * embed_dim, **dd), nn.GELU(), Linear(4 * embed_dim, embed_dim, **dd)
        )

    def forward(self, x: torch.Tensor, cached: tuple[torch.Tensor, torch.Tensor] | None, past: int) -> torch.Tensor:
        x = x + self.attn(self.ln1(x), cached, past)
        return x + self.mlp(self.ln2(x))


class CausalAttention(nn.Module):
    def __init__(self, embed_dim: int, num_heads: int, **dd: Any) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(f'embed_dim={embed_dim}: must be a multiple of num_heads={num_heads}')
        self.num_heads, self.head_dim = num_heads, embed_dim // num_heads
        self.qkv = Linear(embed_dim, 3 * embed_dim, **dd)
        self.proj = Linear(embed_dim, embed_dim, **dd)

    def forward(self, x: torch.Tensor, cached: tuple[torch.Tensor, torch.Tensor] | None, past: int) -> torch.Tensor:
        # [B, N, 3 * C] -> 3 of [B, heads, N, C // heads]
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim)).permute(2, 0, 3, 1, 4)
        number = x.shape[1]
        if cached is not None:
            keys, values = cached
            keys[:, :, past : past + number], values[:, :, past : past + number] = k, v
            k, v = keys[:, :, : past + number], values[:, :, : past + number]
        if number == 1:
            x = F.scaled_dot_product_attention(q, k, v)
        elif past == 0:
            x = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            seen = torch.ones(number, past + number, dtype=torch.bool, device=x.device).tril(past)
            x = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        return self.proj(x.transpose(1, 2).flatten(2))  # [B, heads, N, C // heads] -> [B, N, C]
