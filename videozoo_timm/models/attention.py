"""What a ViT's tokens attend to, for video and image ViTs alike."""
import torch


class AttentionRows:
    """Beside timm's `VisionTransformer`; the class below says how pixels become tokens and rows become maps."""

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
            What the class token pays to itself is left out, so the sum over the patches is a little below 1.

        Raises:
            ValueError: The model has no class token.
            IndexError: No such block.
        """
        if self.cls_token is None:
            raise ValueError('cls_attention needs a class token; this model was made with class_token=False')
        depth = len(self.blocks)
        if not -depth <= block < depth:
            raise IndexError(f'block={block}: the model has {depth} blocks, {-depth} to {depth - 1}')
        rows = self._attention_rows(x, block % depth, 1)[:, :, 0, self.num_prefix_tokens:]  # [B, heads, patches]
        return self._maps_of(rows, x)

    def _embed(self, x: torch.Tensor) -> torch.Tensor:
        """From pixels to what enters the first block, [B, N, C]."""
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
