"""The image encoders of silicon-menagerie and humanlike-vits on timm's `VisionTransformer` and `ResNet`.

What differs from timm's own is how position embeddings follow the size of the image, the finetuned head of
humanlike-vits, and what the published code returns besides the output: the attention of the last block and the
normalized tokens of several.

Papers: https://arxiv.org/abs/2305.15372 and https://arxiv.org/abs/2308.03712 (the models);
https://arxiv.org/abs/2104.14294 (DINO), https://arxiv.org/abs/2203.14415 (Mugs), https://arxiv.org/abs/2111.06377
(MAE), how they were trained.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from timm.layers.helpers import to_2tuple
from timm.models import (
    ResNet,
    VisionTransformer,
    adapt_input_conv,
    generate_default_cfgs,
    register_model,
    resolve_pretrained_cfg,
)
from timm.models.resnet import Bottleneck
from torch import nn

from .._compat import update_model_args, update_model_input_size
from ..catalogue import CHECKPOINTS, SMALL_IMAGE_ARCHITECTURE, preprocessing
from .attention import AttentionRows, TokenAttention
from .building import PublishedLayout, build_model, stored_grid

__all__ = ['BatchNormHead', 'ImageResNet', 'ImageVisionTransformer']

BATCH_NORM_HEAD = 'head.1'  # its linear layer, by which timm's configurations name a classifier


class BatchNormHead(nn.Sequential):
    """A linear layer behind a batch norm without scale and shift, as the MAE's published code classifies.

    Args:
        linear: From features to classes.
    """

    def __init__(self, linear: nn.Linear) -> None:
        dd: dict[str, Any] = dict(device=linear.weight.device, dtype=linear.weight.dtype)
        super().__init__(nn.BatchNorm1d(linear.in_features, eps=1e-6, affine=False, **dd), linear)
        self.in_features, self.out_features = linear.in_features, linear.out_features

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """[..., C] -> [..., classes]."""
        x = self[0](x.reshape(-1, self.in_features)).reshape(x.shape)
        return self[1](x)


class ImageVisionTransformer(PublishedLayout, AttentionRows, VisionTransformer):
    """Image ViT as DINO, Mugs and the image MAE have it.

    All of timm's `VisionTransformer` interface works. Images may have any size whose sides are multiples of the
    patch size; position embeddings are resampled as published.

    Args:
        dynamic_img_size: False accepts images of `img_size` only.
        head_norm: Whether a head has a batch norm before its linear layer, as the finetuned models of humanlike-vits.
        weight_init: As in timm; `'skip'` leaves the weights as allocated.
        **kwargs: Everything else that timm's `VisionTransformer` takes.
    """

    position_names = ('pos_embed',)  # parameters that follow the input's size
    _no_split_modules = ('Block',)  # what Accelerate shards by

    def __init__(
        self,
        *,
        dynamic_img_size: bool = True,
        weight_init: str = '',
        num_classes: int = 0,
        head_norm: bool = False,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault('attn_layer', TokenAttention)
        super().__init__(dynamic_img_size=dynamic_img_size, weight_init=weight_init, num_classes=num_classes, **kwargs)
        self.head_norm = head_norm
        self._add_head_norm()

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new head for another number of classes, with a batch norm if the present one has it; 0 for none."""
        super().reset_classifier(num_classes, global_pool)
        self._add_head_norm()

    def _add_head_norm(self) -> None:
        if self.head_norm and isinstance(self.head, nn.Linear):
            self.head = BatchNormHead(self.head)

    def set_input_size(
        self,
        img_size: int | tuple[int, int] | None = None,
        patch_size: int | tuple[int, int] | None = None,
    ) -> None:
        """Resample the position embedding once, as published, for images of another size.

        Args:
            img_size: Height and width in pixels; None keeps the present ones.
            patch_size: Must be None or the present one.

        Raises:
            ValueError: Another patch size, or a size that is no multiple of it.
        """
        patch = self.patch_embed.patch_size
        if patch_size is not None and to_2tuple(patch_size) != patch:
            raise ValueError(f'patch_size={patch_size}: the patch size stays {patch}')
        old, (height, width) = self.patch_embed.grid_size, to_2tuple(img_size or self.patch_embed.img_size)
        if height % patch[0] or width % patch[1]:
            raise ValueError(f'img_size={img_size}: must be multiples of the patch size {patch}')
        self.patch_embed.set_input_size(img_size=(height, width))
        for name in self.position_names if self.pos_embed is not None else ():
            positions = getattr(self, name)
            resampled = resample_as_published(
                positions.detach(), list(old), list(self.patch_embed.grid_size), self._num_prefix_positions
            )
            setattr(self, name, nn.Parameter(resampled, positions.requires_grad))
        update_model_input_size(self, self.patch_embed.img_size)

    @property
    def _num_prefix_positions(self) -> int:
        return 0 if self.no_embed_class else self.num_prefix_tokens

    def _pos_embed(self, x: torch.Tensor) -> torch.Tensor:
        # x: [B, H', W', C] with dynamic sizes, else [B, N, C] -> [B, prefix + N, C]
        positions = self.pos_embed
        if self.dynamic_img_size:
            if positions is not None:
                positions = resample_for(positions, x, self.patch_embed.grid_size, self._num_prefix_positions)
            x = x.flatten(1, 2)
        if positions is not None and self.no_embed_class:
            x = x + positions
        prefix = []
        if self.cls_token is not None:
            prefix.append(self.cls_token.expand(x.shape[0], -1, -1))
        if self.reg_token is not None:
            prefix.append(self.reg_token.expand(x.shape[0], -1, -1))
        if prefix:
            x = torch.cat(prefix + [x], dim=1)
        if positions is not None and not self.no_embed_class:
            x = x + positions
        return self.pos_drop(x)

    def get_published_intermediate_layers(self, x: torch.Tensor, n: int = 1) -> list[torch.Tensor]:
        """Tokens of the last blocks, as the published `get_intermediate_layers`.

        timm's own method of that name leaves the class token and the norm out.

        Args:
            x: Images [B, C, H, W].
            n: How many of the last blocks.

        Returns:
            [B, 1 + H' * W', C] of each block, normalized, the class token first.

        Raises:
            ValueError: The model has fewer blocks.
        """
        if not 1 <= n <= len(self.blocks):
            raise ValueError(f'n={n}: the model has {len(self.blocks)} blocks')
        x, first = self._embed(x), len(self.blocks) - n
        layers = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i >= first:
                layers.append(self.norm(x))
        return layers

    def _maps_of(self, rows: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return rows.unflatten(-1, self.patch_embed.dynamic_feat_size(x.shape[-2:]))  # [B, heads, H', W']


class ImageResNet(PublishedLayout, ResNet):
    """ResNeXt as DINO trained it; timm's ResNet that takes files of the published layout."""

    def __init__(self, *, weight_init: str = '', num_classes: int = 0, **kwargs: Any) -> None:
        # timm's ResNet initializes in any case; on the meta device that costs nothing.
        super().__init__(num_classes=num_classes, **kwargs)


# These branch on the shape of their input. Marked as leaves, they let torch.fx trace the model. What they are written
# in is what TorchScript reads.


@torch.fx.wrap
def resample_for(positions: torch.Tensor, x: torch.Tensor, old: tuple[int, int], num_prefix: int) -> torch.Tensor:
    """The position embedding for patches [B, H', W', C]."""
    return resample_as_published(positions, [old[0], old[1]], [x.shape[1], x.shape[2]], num_prefix)


def resample_as_published(
    positions: torch.Tensor,
    old: list[int],
    new: list[int],
    num_prefix: int = 1,
) -> torch.Tensor:
    """A position embedding for another grid, in the arithmetic of the published code.

    It scales by a factor that is a tenth of a patch too large (so that rounding never loses a row), without antialias;
    the coordinates follow that factor.

    Args:
        positions: [1, prefix + H0 * W0, C].
        old: H0, W0.
        new: H, W.
        num_prefix: Positions of prefix tokens, which stay.

    Returns:
        [1, prefix + H * W, C].
    """
    symbolic = _is_symbolic(new)
    if not symbolic and old[0] == new[0] and old[1] == new[1]:
        return positions
    prefix, maps = positions[:, :num_prefix], positions[:, num_prefix:]
    maps = maps.float().unflatten(1, old).permute(0, 3, 1, 2)  # [1, C, H0, W0]
    if symbolic:
        maps = _resample_symbolic(maps, new)
    else:
        factors = [(new[0] + 0.1) / old[0], (new[1] + 0.1) / old[1]]
        maps = F.interpolate(maps, scale_factor=factors, mode='bicubic', recompute_scale_factor=False)
    return torch.cat([prefix, maps.flatten(2).transpose(1, 2).to(positions.dtype)], dim=1)


def _is_symbolic(sizes: list[int]) -> bool:
    """Whether sizes are not known yet: in a traced model, and in one that is exported for dynamic sizes."""
    if torch.jit.is_scripting():  # pyright: ignore[reportPrivateImportUsage]  # torch documents this name
        return False
    else:  # TorchScript would read what follows a return
        return any([isinstance(size, (torch.Tensor, torch.SymInt)) for size in sizes])  # as older compilers read it


def _resample_symbolic(maps: torch.Tensor, new: list[int]) -> torch.Tensor:
    """Maps [1, C, H0, W0] -> [1, C, H, W] as above, for sizes that are known only when the model runs.

    A scale factor would be fixed to the size at export; coordinates follow the size of each input.
    """
    rows, columns = [torch.arange(size, device=maps.device) for size in new]
    height, width = rows[-1] + 1, columns[-1] + 1
    slack = 0.1 * ((height != maps.shape[2]) | (width != maps.shape[3]))  # the same grid stays as it is
    y, x = (2 * rows + 1) / (height + slack) - 1, (2 * columns + 1) / (width + slack) - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing='xy'), dim=-1).to(maps)  # [H, W, 2], pixels' centers in [-1, 1]
    return F.grid_sample(maps, grid.unsqueeze(0), mode='bicubic', padding_mode='border', align_corners=False)


def adapt_checkpoint(
    tensors: dict[str, torch.Tensor],
    model: ImageVisionTransformer | ImageResNet,
) -> dict[str, torch.Tensor]:
    """Fit a checkpoint in timm's layout to a model of another size or number of input channels.

    Raises:
        ValueError: The checkpoint's grid is unknown: neither that of its configuration nor a square.
    """
    tensors = dict(tensors)
    if isinstance(model, ResNet):
        first, in_chans = 'conv1.weight', cast('nn.Conv2d', model.conv1).in_channels
    else:
        first, in_chans = 'patch_embed.proj.weight', model.patch_embed.proj.in_channels
    kernel = tensors.get(first)
    if kernel is not None and kernel.ndim == 4 and kernel.shape[1] != in_chans:
        tensors[first] = adapt_input_conv(in_chans, kernel, base_chans=kernel.shape[1])
    if not isinstance(model, ImageVisionTransformer) or model.pos_embed is None:
        return tensors
    for name in model.position_names:
        positions = tensors.get(name)
        if positions is None or positions.ndim != 3 or positions.shape[::2] != getattr(model, name).shape[::2]:
            continue  # of another model, which `fill` says: before something is made of them
        num_prefix = model._num_prefix_positions
        old = stored_grid(positions.shape[1] - num_prefix, model)
        tensors[name] = resample_as_published(positions, list(old), list(model.patch_embed.grid_size), num_prefix)
    return tensors


default_cfgs = generate_default_cfgs(
    {
        **{c.timm_name: c.pretrained_cfg() for c in CHECKPOINTS if c.is_image_encoder},
        f'{SMALL_IMAGE_ARCHITECTURE}.untrained': dict(
            preprocessing(224, of_images=True), num_classes=0, classifier='head', first_conv='patch_embed.proj'
        ),
    }
)


TINY = dict(patch_size=16, embed_dim=192, depth=12, num_heads=3)
SMALL = dict(patch_size=16, embed_dim=384, depth=12, num_heads=6)
SMALL_14 = dict(SMALL, patch_size=14)
BASE = dict(patch_size=16, embed_dim=768, depth=12, num_heads=12)
BASE_14 = dict(BASE, patch_size=14)
LARGE = dict(patch_size=16, embed_dim=1024, depth=24, num_heads=16)
LARGE_14 = dict(LARGE, patch_size=14)
HUGE_14 = dict(patch_size=14, embed_dim=1280, depth=32, num_heads=16)


def _vit(variant: str, pretrained: bool, model_args: dict[str, Any]) -> ImageVisionTransformer:
    overlay = model_args.get('pretrained_cfg_overlay') or {}
    configured = resolve_pretrained_cfg(variant, pretrained_cfg=model_args.get('pretrained_cfg'))
    if overlay.get('classifier', configured.classifier) == BATCH_NORM_HEAD:  # the file's head has a norm
        model_args = dict(head_norm=True) | model_args
    model = build_model(ImageVisionTransformer, variant, pretrained, adapt_checkpoint, **model_args)
    if model_args.get('head_norm'):
        update_model_args(model, head_norm=True)
    return model


@register_model
def vit_t16_im(pretrained: bool = False, **kwargs: Any) -> ImageVisionTransformer:
    """ViT-Ti/16, 5.5M parameters; no weights are published."""
    return _vit('vit_t16_im', pretrained, dict(TINY, **kwargs))


@register_model
def vit_s16_im(pretrained: bool = False, **kwargs: Any) -> ImageVisionTransformer:
    """ViT-S/16, 22M parameters."""
    return _vit('vit_s16_im', pretrained, dict(SMALL, **kwargs))


@register_model
def vit_s14_im(pretrained: bool = False, **kwargs: Any) -> ImageVisionTransformer:
    """ViT-S/14, 22M parameters."""
    return _vit('vit_s14_im', pretrained, dict(SMALL_14, **kwargs))


@register_model
def vit_b16_im(pretrained: bool = False, **kwargs: Any) -> ImageVisionTransformer:
    """ViT-B/16, 86M parameters."""
    return _vit('vit_b16_im', pretrained, dict(BASE, **kwargs))


@register_model
def vit_b14_im(pretrained: bool = False, **kwargs: Any) -> ImageVisionTransformer:
    """ViT-B/14, 86M parameters."""
    return _vit('vit_b14_im', pretrained, dict(BASE_14, **kwargs))


@register_model
def vit_l16_im(pretrained: bool = False, **kwargs: Any) -> ImageVisionTransformer:
    """ViT-L/16, 303M parameters."""
    return _vit('vit_l16_im', pretrained, dict(LARGE, **kwargs))


@register_model
def vit_l14_im(pretrained: bool = False, **kwargs: Any) -> ImageVisionTransformer:
    """ViT-L/14, 303M parameters."""
    return _vit('vit_l14_im', pretrained, dict(LARGE_14, **kwargs))


@register_model
def vit_h14_im(pretrained: bool = False, **kwargs: Any) -> ImageVisionTransformer:
    """ViT-H/14, 631M parameters."""
    return _vit('vit_h14_im', pretrained, dict(HUGE_14, **kwargs))


@register_model
def resnext50_im(pretrained: bool = False, **kwargs: Any) -> ImageResNet:
    """ResNeXt-50 32x4d, 23M parameters."""
    model_args: dict[str, Any] = dict(block=Bottleneck, layers=(3, 4, 6, 3), cardinality=32, base_width=4)
    features = dict(out_indices=kwargs.pop('out_indices', (0, 1, 2, 3, 4)), feature_cls='list')
    return build_model(
        ImageResNet, 'resnext50_im', pretrained, adapt_checkpoint, feature_cfg=features, **dict(model_args, **kwargs)
    )
