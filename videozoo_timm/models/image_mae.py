"""The image masked autoencoders of silicon-menagerie and humanlike-vits whole: the image ViT followed by its decoder.

What it shares with that of clips is in `masked_autoencoder.py`. Here the positions of the decoder are one parameter, as
those of the encoder, and the class token passes through the decoder.

Papers: https://arxiv.org/abs/2111.06377 (method), https://arxiv.org/abs/2305.15372 and
https://arxiv.org/abs/2308.03712 (published models).
"""

from typing import Any

import torch
from timm.models import generate_default_cfgs, register_model
from torch import nn

from ..catalogue import SMALL_IMAGE_MAE, WHOLE, preprocessing
from .building import build_model
from .image_encoders import (
    BASE,
    BASE_14,
    HUGE_14,
    LARGE,
    LARGE_14,
    SMALL,
    SMALL_14,
    TINY,
    ImageVisionTransformer,
    adapt_checkpoint,
    resample_for,
)
from .masked_autoencoder import MaskedAutoencoder

__all__ = ['ImageMaskedAutoencoder']


class ImageMaskedAutoencoder(MaskedAutoencoder, ImageVisionTransformer):
    """Image MAE.

    For features take the encoder's name (it reads the same file), `features_only=True`, `forward_features` or
    `forward_intermediates`. Images may have any size whose sides are multiples of the patch size.

    Args:
        decoder_embed_dim: Width of the decoder.
        decoder_depth: Blocks of the decoder.
        decoder_num_heads: Attention heads of the decoder.
        norm_pix_loss: Normalize the target pixels of each patch in the loss.
        mlp_ratio: Hidden width of the MLPs over their width, in the encoder and the decoder.
        weight_init: As in timm; the default is the published initialization (Xavier uniform, positions sines and
            cosines).
        **kwargs: As `ImageVisionTransformer`; `num_classes` must be 0.
    """

    position_names = ('pos_embed', 'decoder_pos_embed')
    default_mask_ratio = 0.75
    vit_name = 'vit_..._im'

    def __init__(
        self,
        decoder_embed_dim: int = 512,
        decoder_depth: int = 8,
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
        if self.pos_embed is None or self.no_embed_class:
            raise ValueError('the MAE has a position for each patch and the class token; leave pos_embed out')
        self.norm_pix_loss = norm_pix_loss
        tokens = dict(decoder_pos_embed=1 + self.patch_embed.num_patches)
        num_pixels = self.patch_embed.proj.weight[0].numel()
        self._add_decoder(
            decoder_embed_dim, decoder_depth, decoder_num_heads, mlp_ratio, num_pixels, tokens, device, dtype
        )
        if weight_init != 'skip':
            self.weight_init_mode = weight_init
            self.init_weights(needs_reset=False)

    @torch.no_grad()
    def _init_positions(self) -> None:
        nn.init.normal_(self.cls_token, std=0.02)
        height, width = self.patch_embed.grid_size
        for name in self.position_names:
            positions = getattr(self, name)
            sines = _sines_of_grid(height, width, positions.shape[-1])
            positions.copy_(torch.cat([torch.zeros(1, positions.shape[-1]), sines]).unsqueeze(0))

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  # the published signature of an MAE
        self,
        images: torch.Tensor,
        mask_ratio: float = 0.75,
        visualize: bool = False,
        mask_type: str = 'random',
        mask: torch.Tensor | None = None,
        noise: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """Mask, encode, predict.

        Args:
            images: [B, C, H, W].
            mask_ratio: Fraction of the tokens that is masked.
            visualize: Also return the comparison.
            mask_type: `'random'`, the only one of images.
            mask: A mask to use instead, [B, H', W'], True (or 1) where a token is masked; as many in every sample.
            noise: Random numbers [B, H' * W'] that decide a random mask instead of `torch.rand`: the tokens with the
                smallest are kept.

        Returns:
            `(loss, pred, mask)`, with `visualize` also the comparison:

            - `loss`: Mean squared error of the masked tokens' (normalized) pixels, scalar.
            - `pred`: Predicted pixels [B, H' * W', patch * patch * C]; see `unpatchify`.
            - `mask`: [B, H' * W'], 1 where a token is masked.
            - comparison: [B, 3, C, H, W]: the image, the image with masked tokens at 0, and the image with the
              predictions in their place.

        Raises:
            ValueError: An invalid mask, mask ratio or mask type.
        """
        return self._forward(images, visualize, mask_ratio, mask_type, mask, noise)

    def grid_of(self, x: torch.Tensor) -> tuple[int, int]:
        """Tokens of an image along height and width."""
        return self.patch_embed.dynamic_feat_size((x.shape[-2], x.shape[-1]))

    def forward_encoder(
        self,
        images: torch.Tensor,
        mask_ratio: float = 0.75,
        mask_type: str = 'random',
        mask: torch.Tensor | None = None,
        noise: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Encode the tokens that the mask leaves; no block is run on the others.

        Returns:
            `(latent, mask, ids_restore)`:

            - `latent`: Normalized tokens [B, 1 + K, C], the class token and the K kept patches.
            - `mask`: [B, N], 1 where a token is masked.
            - `ids_restore`: [B, N], for `forward_decoder`.
        """
        if mask is None and mask_type != 'random':
            raise ValueError(f'mask_type={mask_type!r}: an image is masked at random, or by a mask of your own')
        x = self.patch_embed(images)
        kept, masked, ids_restore = self._order(images, mask_ratio, mask_type, mask, noise)
        positions = self._positions_for('pos_embed', self.grid_of(images))
        x = (x.flatten(1, 2) if x.ndim == 4 else x) + positions[:, 1:]
        x = x.gather(1, kept.unsqueeze(-1).expand(-1, -1, x.shape[-1]))  # [B, K, C]
        cls_token = (self.cls_token + positions[:, :1]).expand(x.shape[0], -1, -1)
        x = self.norm_pre(self.pos_drop(torch.cat([cls_token, x], dim=1)))
        return self.norm(self._run(self.blocks, x)), masked, ids_restore

    def forward_decoder(
        self,
        latent: torch.Tensor,
        ids_restore: torch.Tensor,
        grid: tuple[int, int] | None = None,
    ) -> torch.Tensor:
        """Predict the pixels of every token.

        Args:
            latent: Encoded tokens [B, 1 + K, C], the class token first.
            ids_restore: [B, N] of `forward_encoder`.
            grid: Tokens along height and width, if not the model's own.

        Returns:
            [B, N, patch * patch * C].
        """
        x = self.decoder_embed(latent)
        x = torch.cat([x[:, :1], self._with_mask_tokens(x[:, 1:], ids_restore)], dim=1)
        x = x + self._positions_for('decoder_pos_embed', grid or self.patch_embed.grid_size)
        x = self._run(self.decoder_blocks, x)
        return self.decoder_pred(self.decoder_norm(x))[:, 1:]

    def patchify(self, images: torch.Tensor) -> torch.Tensor:
        """Pixels of each token, [B, C, H, W] -> [B, N, patch * patch * C], in the published order."""
        (height, width), (rows, columns) = self.grid_of(images), self.patch_embed.patch_size
        x = images.unflatten(3, (width, columns)).unflatten(2, (height, rows))  # [B, C, H', h, W', w]
        return x.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)

    def unpatchify(self, x: torch.Tensor, grid: tuple[int, int] | None = None) -> torch.Tensor:
        """The inverse of `patchify`, [B, N, patch * patch * C] -> [B, C, H, W].

        Args:
            x: Pixels of each token.
            grid: Tokens along height and width, if not the model's own.
        """
        x = x.unflatten(1, grid or self.patch_embed.grid_size).unflatten(3, (*self.patch_embed.patch_size, -1))
        return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)  # [B, C, H', h, W', w] -> [B, C, H, W]

    def _positions_for(self, name: str, grid: tuple[int, int]) -> torch.Tensor:
        """A position embedding [1, 1 + N, C] for a grid of tokens."""
        like = self.mask_token.new_empty(()).expand(1, *grid, 1)
        return resample_for(getattr(self, name), like, self.patch_embed.grid_size, 1)


def _sines_of_grid(height: int, width: int, dim: int) -> torch.Tensor:
    """Sines and cosines of columns, then of rows, as published, [height * width, dim]."""
    frequencies = 10000 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    angles = [axis.flatten().unsqueeze(1) * frequencies for axis in (columns, rows)]
    sines = torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)
    return nn.functional.pad(sines, (0, dim - sines.shape[1])).float()


def _create(variant: str, pretrained: bool, model_args: dict[str, Any]) -> ImageVisionTransformer:
    cls: type[ImageVisionTransformer] = ImageMaskedAutoencoder
    if model_args.get('features_only'):
        # As a feature extractor the MAE is its encoder: timm's hook and fx extractors run forward().
        cls = ImageVisionTransformer
        model_args = {k: v for k, v in model_args.items() if not k.startswith('decoder_') and k != 'norm_pix_loss'}
    return build_model(cls, variant, pretrained, adapt_checkpoint, **model_args)


default_cfgs = generate_default_cfgs(
    {
        **{c.timm_name: c.pretrained_cfg() for c in WHOLE},
        f'{SMALL_IMAGE_MAE}.untrained': dict(
            preprocessing(224, of_images=True), num_classes=0, classifier='head', first_conv='patch_embed.proj'
        ),
    }
)


@register_model
def mae_t16_im(pretrained: bool = False, **kwargs: Any) -> ImageVisionTransformer:
    """MAE with a ViT-Ti/16 encoder and a decoder of 2 blocks, for trying things out; no weights are published."""
    model_args = dict(TINY, decoder_embed_dim=96, decoder_depth=2, decoder_num_heads=3)
    return _create('mae_t16_im', pretrained, dict(model_args, **kwargs))


@register_model
def mae_s16_im(pretrained: bool = False, **kwargs: Any) -> ImageVisionTransformer:
    """MAE with a ViT-S/16 encoder and a decoder of 8 blocks, 48M parameters."""
    return _create('mae_s16_im', pretrained, dict(SMALL, **kwargs))


@register_model
def mae_s14_im(pretrained: bool = False, **kwargs: Any) -> ImageVisionTransformer:
    """MAE with a ViT-S/14 encoder, 48M parameters."""
    return _create('mae_s14_im', pretrained, dict(SMALL_14, **kwargs))


@register_model
def mae_b16_im(pretrained: bool = False, **kwargs: Any) -> ImageVisionTransformer:
    """MAE with a ViT-B/16 encoder, 112M parameters."""
    return _create('mae_b16_im', pretrained, dict(BASE, **kwargs))


@register_model
def mae_b14_im(pretrained: bool = False, **kwargs: Any) -> ImageVisionTransformer:
    """MAE with a ViT-B/14 encoder, 112M parameters."""
    return _create('mae_b14_im', pretrained, dict(BASE_14, **kwargs))


@register_model
def mae_l16_im(pretrained: bool = False, **kwargs: Any) -> ImageVisionTransformer:
    """MAE with a ViT-L/16 encoder, 330M parameters."""
    return _create('mae_l16_im', pretrained, dict(LARGE, **kwargs))


@register_model
def mae_l14_im(pretrained: bool = False, **kwargs: Any) -> ImageVisionTransformer:
    """MAE with a ViT-L/14 encoder, 330M parameters."""
    return _create('mae_l14_im', pretrained, dict(LARGE_14, **kwargs))


@register_model
def mae_h14_im(pretrained: bool = False, **kwargs: Any) -> ImageVisionTransformer:
    """MAE with a ViT-H/14 encoder, 657M parameters."""
    return _create('mae_h14_im', pretrained, dict(HUGE_14, **kwargs))
