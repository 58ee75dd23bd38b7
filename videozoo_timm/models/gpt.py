"""The GPT that samples grids of codes: learned positions, pre-norm blocks, GELU, a head without bias.

Paper: https://arxiv.org/abs/2305.15372. The architecture is that of https://arxiv.org/abs/2012.09841's second stage.
The GPT of https://arxiv.org/abs/2204.03638, for videos, is the same, and reads a start token before the codes.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .sampling import SamplingConfig, sample_codes

__all__ = ['GPT', 'Cache']

PUBLISHED = SamplingConfig()


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

    @property
    def config(self) -> dict[str, int]:
        """Arguments that build it."""
        return dict(
            vocab_size=self.vocab_size,
            block_size=self.block_size,
            depth=len(self.blocks),
            num_heads=self.num_heads,
            embed_dim=self.embed_dim,
        )

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
        sampling: SamplingConfig = PUBLISHED,
        generator: torch.Generator | None = None,
        use_cache: bool = True,
        progress: Callable[[int], Any] = lambda codes: None,
        **fields: Any,
    ) -> torch.Tensor:
        """Continue sequences of codes.

        Args:
            prefix: int64 [B, N], N at least 1.
            length: Length of the result, the prefix included.
            sampling: How codes are sampled.
            generator: Random number generator, instead of one that starts from the seed.
            use_cache: False computes the whole prefix again for every code, for comparison.
            progress: Called with the number of codes that were just sampled in each sequence.
            **fields: Fields of `sampling` to replace: `temperature=0.9`.

        Returns:
            int64 [B, length], the prefix included.

        Raises:
            ValueError: An invalid setting, an empty prefix, or more codes than the model can sample.
        """
        sampling = sampling.with_fields(fields)
        if generator is None and sampling.seed is not None:  # without either PyTorch's own
            generator = sampling.generator(prefix.device)
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
            codes[:, end] = sample_codes(self.head(x), sampling.temperature, sampling.top_k, sampling.top_p, generator)
            done = end if use_cache else 0
            progress(1)
        return codes


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
