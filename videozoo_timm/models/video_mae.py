"""The spatiotemporal masked autoencoder of HVM-1 and video-models: the video ViT followed by a small decoder.

What it shares with that of images is in `masked_autoencoder.py`.

Papers: https://arxiv.org/abs/2205.09113 (method), https://arxiv.org/abs/2407.18067 and
https://arxiv.org/abs/2402.00300 (published models, `temporal` and `center` masks).
"""

import math
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

import torch
from timm.layers.weight_init import trunc_normal_
from timm.models import generate_default_cfgs, register_model
from timm.models.vision_transformer import Block
from torch import nn

from ..catalogue import CHECKPOINTS
from .attention import TokenAttention
from .building import build_model
from .masked_autoencoder import MaskedAutoencoder
from .tubelets import Grid, add_positions
from .video_vit import HUGE, TINY, VideoVisionTransformer, adapt_checkpoint

__all__ = ['VideoMaskedAutoencoder', 'initialize_local']


class VideoMaskedAutoencoder(MaskedAutoencoder, VideoVisionTransformer):
    """Spatiotemporal MAE.

    For features take the ViT's name (`vit_h14_st`, `vit_t14_st`: it reads the same file), `features_only=True`,
    `forward_features` or `forward_intermediates`. A hook on a block sees, through `forward`, only the tokens that the
    mask keeps, a random tenth.

    Args:
        decoder_embed_dim: Width of the decoder.
        decoder_depth: Blocks of the decoder.
        decoder_num_heads: Attention heads of the decoder.
        norm_pix_loss: Normalize the target pixels of each tubelet in the loss.
        mlp_ratio: Hidden width of the MLPs over their width, in the encoder and the decoder.
        weight_init: As in timm; the default is the published initialization (Xavier uniform).
        **kwargs: As `VideoVisionTransformer`; `num_classes` must be 0.
    """

    position_prefixes = ('', 'decoder_')
    default_mask_ratio = 0.9
    vit_name = 'vit_h14_st or vit_t14_st'
    if TYPE_CHECKING:  # never None here
        pos_embed_class: nn.Parameter
        decoder_cls_token: nn.Parameter
        decoder_pos_embed_class: nn.Parameter
        decoder_pos_embed_spatial: nn.Parameter
        decoder_pos_embed_temporal: nn.Parameter

    def __init__(
        self,
        decoder_embed_dim: int = 512,
        decoder_depth: int = 4,
        decoder_num_heads: int = 16,
        norm_pix_loss: bool = False,
        mlp_ratio: float = 4.0,
        num_classes: int = 0,
        weight_init: str = '',
        device: Any = None,
        dtype: torch.dtype | None = None,
        **kwargs: Any,
    ) -> None:
        self._check_classes(num_classes)
        super().__init__(mlp_ratio=mlp_ratio, weight_init='skip', device=device, dtype=dtype, **kwargs)
        self._check_encoder()
        steps, height, width = self.patch_embed.video_grid_size
        self.norm_pix_loss = norm_pix_loss
        tokens = dict(
            decoder_cls_token=1,
            decoder_pos_embed_class=1,
            decoder_pos_embed_spatial=height * width,
            decoder_pos_embed_temporal=steps,
        )
        num_pixels = self.patch_embed.proj.weight[0].numel()
        self._add_decoder(
            decoder_embed_dim, decoder_depth, decoder_num_heads, mlp_ratio, num_pixels, tokens, device, dtype
        )
        if weight_init != 'skip':
            self.weight_init_mode = weight_init
            self.init_weights(needs_reset=False)

    def _init_positions(self) -> None:
        for name in ('class', 'spatial', 'temporal'):
            trunc_normal_(getattr(self, f'decoder_pos_embed_{name}'), std=0.02)
        nn.init.zeros_(self.decoder_cls_token)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  # the published signature of an MAE
        self,
        clips: torch.Tensor,
        mask_ratio: float = 0.9,
        visualize: bool = False,
        mask_type: str = 'random',
        mask: torch.Tensor | None = None,
        noise: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """Mask, encode, predict.

        Args:
            clips: [B, C, T, H, W]; images [B, C, H, W] are still clips.
            mask_ratio: Fraction of the tokens that is masked.
            visualize: Also return the comparison.
            mask_type: `'random'`; `'temporal'` masks the last tokens in time; `'center'` the middle ones.
            mask: A mask to use instead, [B, T', H', W'], True (or 1) where a token is masked; as many in every sample.
            noise: Random numbers [B, T' * H' * W'] that decide a random mask instead of `torch.rand`: the tokens with
                the smallest are kept.

        Returns:
            `(loss, pred, mask)`, with `visualize` also the comparison:

            - `loss`: Mean squared error of the masked tokens' (normalized) pixels, scalar.
            - `pred`: Predicted pixels [B, T' * H' * W', tubelet * patch * patch * C]; see `unpatchify`.
            - `mask`: [B, T' * H' * W'], 1 where a token is masked.
            - comparison: [B, 3, C, T, H, W]: the clip, the clip with masked tokens at 0, and the clip with the
              predictions in their place.

        Raises:
            ValueError: An invalid mask, mask ratio or mask type.
        """
        return self._forward(clips, visualize, mask_ratio, mask_type, mask, noise)

    def grid_of(self, x: torch.Tensor) -> Grid:
        """Tokens of a clip (or a still) along time, height and width."""
        return self.patch_embed.grid_of(x)

    def forward_encoder(
        self,
        clips: torch.Tensor,
        mask_ratio: float = 0.9,
        mask_type: str = 'random',
        mask: torch.Tensor | None = None,
        noise: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Encode the tokens that the mask leaves; no work is spent on the others.

        Returns:
            `(latent, mask, ids_restore)`:

            - `latent`: Normalized tokens [B, K, C] of the K kept patches, without the class token.
            - `mask`: [B, N], 1 where a token is masked.
            - `ids_restore`: [B, N], for `forward_decoder`.
        """
        kept, masked, ids_restore = self._order(clips, mask_ratio, mask_type, mask, noise)
        grid = self.grid_of(clips)
        view = self.patch_embed.tubelets(clips)  # [B, T' (1 of a still), H', W', C, t, h, w]
        step, row, column = kept // (grid[1] * grid[2]), kept // grid[2] % grid[1], kept % grid[2]
        sample = torch.arange(view.shape[0], device=clips.device).unsqueeze(1)
        visible = view[sample, step if clips.ndim == 5 else torch.zeros_like(step), row, column]  # [B, K, C, t, h, w]
        x = self.patch_embed.proj(visible.flatten(2))  # [B, K, D]

        positions = self._positions(grid)
        x = x + positions[0][kept]
        cls_token = (self.cls_token + self.pos_embed_class).expand(x.shape[0], -1, -1)
        x = self.norm_pre(self.pos_drop(torch.cat([cls_token, x], dim=1)))
        x = self.norm(self._run(self.blocks, x))
        return x[:, 1:], masked, ids_restore

    def forward_decoder(
        self,
        latent: torch.Tensor,
        ids_restore: torch.Tensor,
        grid: Grid | None = None,
    ) -> torch.Tensor:
        """Predict the pixels of every token.

        Args:
            latent: Encoded tokens [B, K, C].
            ids_restore: [B, N] of `forward_encoder`.
            grid: Tokens along time, height and width, if not the model's own.

        Returns:
            [B, N, tubelet * patch * patch * C].
        """
        x = self.decoder_embed(latent)
        x = self._with_mask_tokens(x, ids_restore)  # [B, N, D]
        x = x.unflatten(1, grid or self.patch_embed.video_grid_size)
        x = add_positions(
            x,
            self.decoder_pos_embed_spatial,
            self.decoder_pos_embed_temporal,
            self.patch_embed.video_grid_size,
            self.dynamic_img_size,
        )
        cls_token = (self.decoder_cls_token + self.decoder_pos_embed_class).expand(x.shape[0], -1, -1)
        x = self._run(self.decoder_blocks, torch.cat([cls_token, x], dim=1))
        return self.decoder_pred(self.decoder_norm(x))[:, 1:]

    def patchify(self, clips: torch.Tensor) -> torch.Tensor:
        """Pixels of each token, [B, C, T, H, W] -> [B, N, tubelet * patch * patch * C], in the published order."""
        x = self.patch_embed.tubelets(clips)  # [B, T', H', W', C, t, h, w]
        x = x.expand(-1, self.patch_embed.grid_of(clips)[0], -1, -1, -1, -1, -1, -1)
        return x.permute(0, 1, 2, 3, 5, 6, 7, 4).flatten(4).flatten(1, 3)

    def unpatchify(self, x: torch.Tensor, grid: Grid | None = None) -> torch.Tensor:
        """The inverse of `patchify`, [B, N, tubelet * patch * patch * C] -> [B, C, T, H, W].

        Args:
            x: Pixels of each token.
            grid: Tokens along time, height and width, if not the model's own.
        """
        embed = self.patch_embed
        x = x.unflatten(1, grid or embed.video_grid_size).unflatten(4, (embed.tubelet_size, *embed.patch_size, -1))
        x = x.permute(0, 7, 1, 4, 2, 5, 3, 6)  # [B, T', H', W', t, h, w, C] -> [B, C, T', t, H', h, W', w]
        return x.flatten(6, 7).flatten(4, 5).flatten(2, 3)

    def _positions(self, grid: Grid) -> torch.Tensor:
        """Position embedding of every patch, [1, N, C]."""
        nothing = self.pos_embed_spatial.new_zeros(()).expand(1, *grid, 1)
        return add_positions(
            nothing,
            self.pos_embed_spatial,
            self.pos_embed_temporal,
            self.patch_embed.video_grid_size,
            self.dynamic_img_size,
        )


@torch.no_grad()
def initialize_local(model: VideoMaskedAutoencoder, sharpness: float = 1.3) -> None:
    """Initialize a masked autoencoder so that tokens attend to their neighbors from the start.

    Positions are sines and cosines, and each head's keys equal its queries, so that attention falls with distance. With
    the published initialization a small model first learns the mean color, and stays there for long. With this one it
    learns to attend to nearby tokens within some hundred steps. After "Mimetic initialization of self-attention layers"
    (https://arxiv.org/abs/2305.09828).

    Args:
        model: Model with random weights, changed in place.
        sharpness: Scale of queries and keys.
    """
    steps, height, width = model.patch_embed.video_grid_size
    for prefix, blocks in (('', model.blocks), ('decoder_', model.decoder_blocks)):
        spatial, temporal = (getattr(model, f'{prefix}pos_embed_{axis}') for axis in ('spatial', 'temporal'))
        dim = spatial.shape[-1]
        rows, columns = _sines(height, dim // 2), _sines(width, dim - dim // 2)
        grid = torch.cat([rows.unsqueeze(1).expand(-1, width, -1), columns.unsqueeze(0).expand(height, -1, -1)], dim=-1)
        # Randomly rotated, so that space and time are not encoded in the same channels.
        spatial.copy_(grid.flatten(0, 1) @ nn.init.orthogonal_(torch.empty(dim, dim)))
        temporal.copy_(_sines(steps, dim) @ nn.init.orthogonal_(torch.empty(dim, dim)))
        for block in cast('Iterable[Block]', blocks):
            attn = cast('TokenAttention', block.attn)
            queries, keys, _ = attn.qkv.weight.unflatten(0, (3, attn.num_heads, -1))  # 3 of [heads, C', C]
            for query, key in zip(queries, keys, strict=True):
                key.copy_(nn.init.orthogonal_(query, gain=sharpness))


def _sines(num: int, dim: int) -> torch.Tensor:
    """Sines and cosines of 0 to num - 1, [num, dim]; wavelengths from 2 * num down to 2."""
    waves = math.pi / num * num ** torch.linspace(0, 1, (dim + 1) // 2)
    angles = torch.arange(num).unsqueeze(1) * waves
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :dim]


def __getattr__(name: str) -> Any:
    if name == 'initialise_local':
        warnings.warn('initialise_local is initialize_local now', DeprecationWarning, stacklevel=2)
        return initialize_local
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def _create(variant: str, pretrained: bool, kwargs: dict[str, Any]) -> VideoVisionTransformer:
    cls: type[VideoVisionTransformer] = VideoMaskedAutoencoder
    if kwargs.get('features_only'):
        # As a feature extractor the MAE is its encoder: timm's hook and fx extractors run forward().
        cls = VideoVisionTransformer
        kwargs = {k: v for k, v in kwargs.items() if not k.startswith('decoder_') and k != 'norm_pix_loss'}
    return build_model(cls, variant, pretrained, adapt_checkpoint, **kwargs)


default_cfgs = generate_default_cfgs(
    {c.timm_name: c.pretrained_cfg() for c in CHECKPOINTS if c.architecture in ('mae_h14_st', 'mae_t14_st')}
)


@register_model
def mae_h14_st(pretrained: bool = False, **kwargs: Any) -> VideoVisionTransformer:
    """MAE with a ViT-H/14 encoder and a decoder of 4 blocks, 645M parameters."""
    model_args = dict(HUGE, decoder_embed_dim=512, decoder_depth=4, decoder_num_heads=16)
    return _create('mae_h14_st', pretrained, dict(model_args, **kwargs))


@register_model
def mae_t14_st(pretrained: bool = False, **kwargs: Any) -> VideoVisionTransformer:
    """The same architecture with 1.4M parameters at 112 px, for trying things out; `shapes` knows synthetic videos."""
    model_args = dict(TINY, decoder_embed_dim=64, decoder_depth=4, decoder_num_heads=2)
    return _create('mae_t14_st', pretrained, dict(model_args, **kwargs))
