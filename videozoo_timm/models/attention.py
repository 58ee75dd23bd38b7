"""Attention of video and image ViTs alike: how it is computed, and what the tokens attend to."""

import platform
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from timm.layers.attention import Attention, maybe_add_mask, resolve_self_attn_mask
from timm.models import VisionTransformer

from .._compat import arm_has_bfloat16, cpu_has_bfloat16
from ..text import counted

# Shorter sequences are left to PyTorch's fused attention: the products are too small to pay for a loop.
_MIN_TOKENS = 512
_CHUNK = 512  # queries at a time, so that their scores stay in the cache


class TokenAttention(Attention):
    """timm's attention, and on CPUs in bfloat16 the same head by head (see `attention`)."""

    def forward(
        self,
        x: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        is_causal: bool = False,
    ) -> torch.Tensor:
        """Tokens [B, N, C] -> [B, N, C], as timm's (not by its method: TorchScript knows no `super()`)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim))  # [B, N, 3, heads, C // heads]
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # [B, heads, N, C // heads]
        q, k = self.q_norm(q), self.k_norm(k)
        if self.fused_attn:
            y = attention(q, k, v, self.attn_drop.p if self.training else 0.0, attn_mask, is_causal)
        else:
            scores = q * self.scale @ k.transpose(-2, -1)  # [B, heads, N, N]
            scores = maybe_add_mask(scores, resolve_self_attn_mask(x.shape[1], scores, attn_mask, is_causal))
            y = self.attn_drop(scores.softmax(dim=-1)) @ v
        y = self.norm(y.transpose(1, 2).flatten(2))
        if self.gate is not None:
            y = y * self.gate(x).sigmoid()
        return self.proj_drop(self.proj(y))


@lru_cache
def fast_in_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16; without them it is many times slower than float32."""
    if device.type == 'cuda':
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == 'cpu' and platform.machine().lower() in ('aarch64', 'arm64'):
        return arm_has_bfloat16()
    return device.type == 'cpu' and cpu_has_bfloat16()


@torch.fx.wrap
def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    dropout_p: float = 0.0,
    attn_mask: torch.Tensor | None = None,
    is_causal: bool = False,
) -> torch.Tensor:
    """Scaled dot-product attention, [B, heads, N, C // heads] each.

    PyTorch's, but for long sequences in bfloat16 on a CPU that has instructions for it, where plain matrix products of
    one head are several times as fast as its fused kernel. Their scores are rounded to bfloat16, as everything between
    two layers is. With gradients or a mask, in a compiled, scripted or exported model, and on other devices it is
    PyTorch's, flash attention included.
    """
    if not torch.jit.is_scripting():  # pyright: ignore[reportPrivateImportUsage]  # torch documents this name
        if (
            not torch.compiler.is_compiling()
            and q.dtype == torch.bfloat16
            and q.device.type == 'cpu'
            and q.shape[-2] >= _MIN_TOKENS
            and not dropout_p
            and attn_mask is None
            and not is_causal
            and not (torch.is_grad_enabled() and q.requires_grad)
            and fast_in_bfloat16(q.device)
        ):
            return _attention_by_heads(q, k, v)
    return F.scaled_dot_product_attention(q, k, v, attn_mask, dropout_p, is_causal)


def _attention_by_heads(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    batch, heads, num_tokens, dim = q.shape
    result = q.new_empty(batch, num_tokens, heads, dim)  # as what follows wants it
    scale = dim**-0.5
    for i in range(batch):
        for j in range(heads):
            keys, values, queries = k[i, j].t().contiguous(), v[i, j].contiguous(), q[i, j] * scale
            for start in range(0, num_tokens, _CHUNK):
                weights = (queries[start : start + _CHUNK] @ keys).softmax(dim=-1)  # [chunk, N]
                result[i, start : start + _CHUNK, j] = weights @ values
    return result.transpose(1, 2)


class AttentionRows(VisionTransformer):
    """timm's ViT that shows its attention; the classes below say how pixels become tokens and rows become maps."""

    if TYPE_CHECKING:  # TorchScript would take annotations of a class for all that there are, timm's own included
        blocks: Any  # a Sequential of timm's `Block`, whose items torch knows as modules only

    def get_last_selfattention(self, x: torch.Tensor) -> torch.Tensor:
        """Attention of the last block, after the softmax, as the published method of this name.

        The matrix grows with the square of the number of tokens (4 GB for a clip at 448 px and 16 frames, 5 GB for an
        image of 1400 px); `cls_attention` gives its first row without it.

        Args:
            x: Clip [B, C, T, H, W] (video models) or image [B, C, H, W].

        Returns:
            [B, heads, N, N], the class token first, then the patches.
        """
        return self._attention_rows(x, len(self.blocks) - 1, None)

    def cls_attention(self, x: torch.Tensor, block: int = -1) -> torch.Tensor:
        """Attention of the class token to the patches in one block; memory stays linear in the number of tokens.

        Args:
            x: Clip [B, C, T, H, W] (video models) or image [B, C, H, W].
            block: Index of the block; negative ones count from the end.

        Returns:
            [B, heads, T', H', W'] for a clip, [B, heads, H', W'] for an image (of a video model the mean over time).
            The attention of the class token to itself is left out, so the sum over the patches is a little below 1.

        Raises:
            ValueError: The model has no class token.
            IndexError: No such block.
        """
        if self.cls_token is None:
            raise ValueError('cls_attention needs a class token; this model was made with class_token=False')
        depth = len(self.blocks)
        if not -depth <= block < depth:
            raise IndexError(f'block={block}: the model has {counted(depth, "block")}, {-depth} to {depth - 1}')
        rows = self._attention_rows(x, block % depth, 1)[:, :, 0, self.num_prefix_tokens :]  # [B, heads, patches]
        return self._maps_of(rows, x)

    def _maps_of(self, rows: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Rows [B, heads, patches] as maps of the input's rank."""
        raise NotImplementedError

    def _embed(self, x: torch.Tensor) -> torch.Tensor:
        """From pixels to the input of the first block, [B, N, C]."""
        x = self.patch_embed(x)
        x = self._pos_embed(x)
        x = self.patch_drop(x)
        return self.norm_pre(x)

    def _attention_rows(self, x: torch.Tensor, block: int, num_rows: int | None) -> torch.Tensor:
        """Softmaxed attention of the first tokens (all if None) in a block, [B, heads, rows, N]."""
        x = self._embed(x)
        x = self.blocks[:block](x)
        attn = self.blocks[block].attn
        x = self.blocks[block].norm1(x)
        qkv = attn.qkv(x).unflatten(-1, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)  # [3, B, heads, N, C // heads]
        q, k = attn.q_norm(qkv[0]), attn.k_norm(qkv[1])
        return (q[:, :, :num_rows] * attn.scale @ k.transpose(-2, -1)).softmax(dim=-1)
