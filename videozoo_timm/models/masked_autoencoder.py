"""What the masked autoencoders of clips and of images share: the decoder, the loss, the initialization.

The encoder sees the tokens that the mask leaves, the decoder predicts the pixels of all. Without a mask the encoder is
the ViT, which is what `forward_features` and `features_only` run.

Papers: https://arxiv.org/abs/2111.06377 (images), https://arxiv.org/abs/2205.09113 (clips).
"""

import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from timm.models import VisionTransformer, checkpoint_seq
from timm.models.vision_transformer import Block
from torch import nn

from .._compat import forward_hooks
from .attention import TokenAttention
from .masking import order_of, published_order

__all__ = ['MaskedAutoencoder']

_logger = logging.getLogger(__name__)


class MaskedAutoencoder(VisionTransformer):
    """A ViT of this package with a decoder; a class of it stands before the ViT's own among the bases.

    Attributes:
        default_mask_ratio: Fraction of the tokens that is masked unless the caller says another.
        norm_pix_loss: Whether the loss is of pixels that are normalized within each token.
    """

    default_mask_ratio: float
    vit_name: str  # whose name a user takes for features
    _has_warned_of_hooks = False
    if TYPE_CHECKING:  # TorchScript would take annotations of a class for all that there are, timm's own included
        cls_token: nn.Parameter  # pyright: ignore[reportIncompatibleVariableOverride]  # never None here
        norm_pix_loss: bool
        blocks: Any
        grad_checkpointing: bool

        def forward_decoder(self, latent: torch.Tensor, ids_restore: torch.Tensor, grid: Any = None) -> torch.Tensor:
            """The predicted pixels of every token."""
            ...

        def forward_encoder(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, ...]:
            """The encoded tokens that the mask leaves, the mask, and the order of the decoder's."""
            ...

        def grid_of(self, x: torch.Tensor) -> Any:
            """Tokens of an input along each of its axes."""
            ...

        def patchify(self, x: torch.Tensor, /) -> torch.Tensor:
            """Pixels of each token."""
            ...

        def unpatchify(self, x: torch.Tensor, grid: Any = None) -> torch.Tensor:
            """The inverse of `patchify`."""
            ...

        def _init_positions(self) -> None: ...

    def _check_encoder(self) -> None:
        if self.cls_token is None or self.reg_token is not None:
            raise ValueError('the MAE has a class token and no register tokens; leave class_token and reg_tokens out')

    def _add_decoder(
        self,
        dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float,
        num_pixels: int,
        tokens: Mapping[str, int],
        device: Any,
        dtype: torch.dtype | None,
    ) -> None:
        """Make the decoder, without values.

        Args:
            dim: Width.
            depth: Blocks.
            num_heads: Attention heads.
            mlp_ratio: Hidden width of the MLPs over their width.
            num_pixels: Values that a token predicts.
            tokens: Number of tokens of each of its other parameters, the class token and the positions.
            device: Of its tensors.
            dtype: Of its tensors.
        """
        dd: dict[str, Any] = dict(device=device, dtype=dtype)
        norm_layer = type(self.blocks[0].norm1)
        self.decoder_embed = nn.Linear(self.embed_dim, dim, **dd)
        self.mask_token = nn.Parameter(torch.empty(1, 1, dim, **dd))
        for name, number in tokens.items():
            self.register_parameter(name, nn.Parameter(torch.empty(1, number, dim, **dd)))
        self.decoder_blocks = nn.Sequential(
            *[
                Block(
                    dim,
                    num_heads,
                    mlp_ratio=mlp_ratio,
                    qkv_bias=True,
                    norm_layer=norm_layer,
                    attn_layer=TokenAttention,
                    **dd,
                )
                for _ in range(depth)
            ]
        )
        self.decoder_norm = norm_layer(dim, **dd)
        self.decoder_pred = nn.Linear(dim, num_pixels, **dd)

    def init_weights(self, mode: str = '', needs_reset: bool = True) -> None:
        """Initialize as the published code does: matrices Xavier uniform, biases 0, tokens std 0.02.

        Another `mode` than the default is timm's.
        """
        super().init_weights(mode, needs_reset)
        self._init_positions()
        nn.init.normal_(self.mask_token, std=0.02)
        if not (mode or self.weight_init_mode):
            nn.init.xavier_uniform_(self.patch_embed.proj.weight.data.flatten(1))
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    nn.init.xavier_uniform_(module.weight)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)

    @torch.jit.ignore()
    def no_weight_decay(self) -> set[str]:
        """Names of parameters that weight decay leaves out."""
        decoder = {name for name, _ in self.named_parameters(recurse=False) if name.startswith('decoder_')}
        return super().no_weight_decay() | decoder | {'mask_token'}

    @torch.jit.ignore()
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Layers for layer-wise learning rates; the decoder is above the last block."""
        groups = super().group_matcher(coarse)
        return dict(groups, blocks=[*groups['blocks'], (r'^decoder_|^mask_token', (99999,))])

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Change the pooling; an MAE has no classes."""
        self._check_classes(num_classes)
        super().reset_classifier(0, global_pool)

    @classmethod
    def _check_classes(cls, num_classes: int) -> None:
        if num_classes:
            raise ValueError(
                f'num_classes={num_classes}: the MAE has no classification head; use {cls.vit_name} instead'
            )

    def _forward(self, x: torch.Tensor, visualize: bool, *masking: Any) -> tuple[torch.Tensor, ...]:
        """Mask, encode, predict; `masking` is what `forward_encoder` takes besides."""
        if not torch.compiler.is_compiling() and not self._has_warned_of_hooks:
            self._warn_of_hooks()
        latent, mask, ids_restore = self.forward_encoder(x, *masking)
        grid = self.grid_of(x)
        pred = self.forward_decoder(latent, ids_restore, grid)
        target = self.patchify(x)
        loss = self.forward_loss(target, pred, mask)
        if not visualize:
            return loss, pred, mask
        masked = mask.unsqueeze(-1)
        pixels = pred
        if self.norm_pix_loss:  # the prediction is of normalized pixels
            mean, std = patch_statistics(target)
            pixels = pred * std + mean
        rows = (target, target * (1 - masked), pixels * masked + target * (1 - masked))
        return loss, pred, mask, torch.stack([self.unpatchify(row, grid) for row in rows], dim=1)

    def _order(
        self,
        x: torch.Tensor,
        mask_ratio: float,
        mask_type: str,
        mask: torch.Tensor | None,
        noise: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Which tokens are kept [B, K], which are masked [B, N] as 0 and 1, and where each of all is [B, N]."""
        grid = self.grid_of(x)
        if mask is None:
            order, num_kept = published_order(x.shape[0], math.prod(grid), mask_ratio, mask_type, x.device, noise)
        else:
            order, num_kept = order_of(mask, (x.shape[0], *grid), x.device)
        ids_restore = order.argsort(dim=1)
        return order[:, :num_kept], (ids_restore >= num_kept).to(torch.float32), ids_restore

    def _with_mask_tokens(self, x: torch.Tensor, ids_restore: torch.Tensor) -> torch.Tensor:
        """Kept tokens [B, K, D] and mask tokens for the others, [B, N, D] in the order of the input."""
        num_batch, num_tokens = ids_restore.shape
        mask_tokens = self.mask_token.expand(num_batch, num_tokens - x.shape[1], -1)
        x = torch.cat([x, mask_tokens], dim=1)  # kept first, then masked
        return x.gather(1, ids_restore.unsqueeze(-1).expand(-1, -1, x.shape[-1]))

    def forward_loss(self, target: torch.Tensor, pred: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Mean squared error over the masked tokens: target and pred [B, N, P], mask [B, N] -> scalar."""
        if self.norm_pix_loss:
            mean, std = patch_statistics(target)
            target = (target - mean) / std
        error = F.mse_loss(pred, target, reduction='none').mean(dim=-1)
        return (error * mask).sum() / mask.sum().clamp(min=1)

    def _warn_of_hooks(self) -> None:
        """A caller's hook on a block is meant for features; torch's own hooks (of FSDP) are not."""
        encoder = nn.ModuleList([self.patch_embed, self.norm_pre, self.blocks, self.norm])
        hooks = (hook for module in encoder.modules() for hook in forward_hooks(module))
        if any(not getattr(hook, '__module__', '').startswith('torch.') for hook in hooks):
            self._has_warned_of_hooks = True
            _logger.warning(
                'a forward hook on the encoder of an MAE sees only the tokens that the mask keeps, by default a random '
                "%s; for features take the ViT's name (%s, it reads the same file), or call forward_features()",
                'tenth' if self.default_mask_ratio == 0.9 else 'quarter',
                self.vit_name,
            )

    def _run(self, blocks: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
        return checkpoint_seq(blocks, x) if self.grad_checkpointing else blocks(x)


def patch_statistics(target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each token's pixels, [B, N, P] -> [B, N, 1] both."""
    return target.mean(dim=-1, keepdim=True), (target.var(dim=-1, keepdim=True) + 1e-6) ** 0.5
