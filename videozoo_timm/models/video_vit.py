"""The spatiotemporal Vision Transformer of HVM-1 and video-models, on timm's `VisionTransformer`.

A clip is cut into tubelets (2 frames x 14 x 14 pixels), each tubelet becomes a token, and every token attends to every
other. What differs from an image ViT is here: the tubelet embedding, the separable position embedding, and shapes that
follow the input's rank: a clip [B, 3, T, H, W] gives maps [B, C, T', H', W'], an image [B, 3, H, W] is a still clip and
gives maps [B, C, H', W'], averaged over time. Blocks, heads, pooling and the rest are timm's.

Papers: https://arxiv.org/abs/2407.18067 (HVM-1), https://arxiv.org/abs/2402.00300 (video-models),
https://arxiv.org/abs/2205.09113 (the architecture and its pretraining).
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from timm.layers.helpers import to_2tuple
from timm.layers.weight_init import trunc_normal_
from timm.models import VisionTransformer, adapt_input_conv, checkpoint, generate_default_cfgs, register_model
from torch import nn

from .._compat import feature_take_indices, update_model_input_size
from ..catalogue import CHECKPOINTS
from .attention import AttentionRows, TokenAttention
from .building import PublishedLayout, build_model, stored_grid
from .tubelets import Grid, TubeletEmbed, add_positions, resample_spatial, resample_temporal, to_maps

__all__ = ['VideoVisionTransformer']

torch.fx.wrap('add_positions')  # the name is looked up in this module, and a leaf only where it is declared


class VideoVisionTransformer(PublishedLayout, AttentionRows, VisionTransformer):
    """Spatiotemporal ViT.

    All of timm's `VisionTransformer` interface works, with clips and with images.

    Args:
        img_size: Height and width of the input in pixels, multiples of `patch_size`.
        patch_size: Height and width of a tubelet in pixels.
        num_frames: Frames of a clip, a multiple of `tubelet_size`.
        tubelet_size: Frames of a tubelet.
        dynamic_img_size: Accept clips of any size and length; position embeddings are resampled for each input.
        weight_init: As in timm; `'skip'` leaves the weights as allocated.
        **kwargs: Everything else that timm's `VisionTransformer` takes.
    """

    position_prefixes = ('',)  # of the position embeddings that follow the input's size
    _no_split_modules = ('Block',)  # what Accelerate shards by
    if TYPE_CHECKING:  # TorchScript would take annotations of a class for all that there are, timm's own included
        patch_embed: TubeletEmbed

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int | tuple[int, int] = 14,
        in_chans: int = 3,
        num_classes: int = 0,
        num_frames: int = 16,
        tubelet_size: int = 2,
        embed_dim: int = 768,
        dynamic_img_size: bool = False,
        weight_init: str = '',
        device: Any = None,
        dtype: torch.dtype | None = None,
        **kwargs: Any,
    ) -> None:
        for name in ('pos_embed', 'no_embed_class', 'embed_layer'):
            if name in kwargs:
                raise ValueError(f'{name}={kwargs[name]!r}: a video ViT has its own embedding, leave this argument out')
        kwargs.setdefault('attn_layer', TokenAttention)
        super().__init__(
            img_size=img_size,
            patch_size=patch_size,
            in_chans=in_chans,
            num_classes=num_classes,
            embed_dim=embed_dim,
            pos_embed='none',
            dynamic_img_size=dynamic_img_size,
            embed_layer=partial(TubeletEmbed, num_frames=num_frames, tubelet_size=tubelet_size),
            weight_init='skip',
            device=device,
            dtype=dtype,
            **kwargs,
        )
        dd = {'device': device, 'dtype': dtype}
        steps, height, width = self.patch_embed.video_grid_size
        self.pos_embed_class = nn.Parameter(torch.empty(1, 1, embed_dim, **dd)) if self.has_class_token else None
        self.pos_embed_spatial = nn.Parameter(torch.empty(1, height * width, embed_dim, **dd))
        self.pos_embed_temporal = nn.Parameter(torch.empty(1, steps, embed_dim, **dd))
        if weight_init != 'skip':
            self.weight_init_mode = weight_init
            self.init_weights(needs_reset=False)

    def init_weights(self, mode: str = '', needs_reset: bool = True) -> None:
        """Initialize as timm does, class token and position embeddings as the published code does (std 0.02)."""
        super().init_weights(mode, needs_reset)
        for parameter in (self.cls_token, self.pos_embed_class, self.pos_embed_spatial, self.pos_embed_temporal):
            if parameter is not None:
                trunc_normal_(parameter, std=0.02)

    @property
    def num_frames(self) -> int:
        """Frames of a clip."""
        return self.patch_embed.num_frames

    @property
    def tubelet_size(self) -> int:
        """Frames of a tubelet."""
        return self.patch_embed.tubelet_size

    @torch.jit.ignore()
    def no_weight_decay(self) -> set[str]:
        """Names of parameters that weight decay leaves out."""
        return super().no_weight_decay() | {'pos_embed_class', 'pos_embed_spatial', 'pos_embed_temporal'}

    def set_input_size(
        self,
        img_size: int | tuple[int, int] | None = None,
        patch_size: int | tuple[int, int] | None = None,
        num_frames: int | None = None,
    ) -> None:
        """Resize the model for clips of another size or length; position embeddings are resampled once.

        Args:
            img_size: New height and width in pixels; None keeps the present ones.
            patch_size: Must be None or the present one: the tubelet's kernel is not resampled.
            num_frames: New number of frames; None keeps the present one.

        Raises:
            ValueError: A size that is no multiple of the patch, a frame count that is no multiple of the tubelet, or
                another patch size.
        """
        if patch_size is not None and to_2tuple(patch_size) != self.patch_embed.patch_size:
            raise ValueError(f'patch_size={patch_size}: the patch size stays {self.patch_embed.patch_size}')
        old = self.patch_embed.video_grid_size
        self.patch_embed.set_input_size(img_size=img_size, num_frames=num_frames)
        self._resample_position_embeddings(old, self.patch_embed.video_grid_size)
        update_model_input_size(self, self.patch_embed.img_size, num_frames=self.num_frames)

    def _resample_position_embeddings(self, old: Grid, new: Grid) -> None:
        for prefix in self.position_prefixes:
            for axis, resample in (('spatial', resample_spatial), ('temporal', resample_temporal)):
                name = f'{prefix}pos_embed_{axis}'
                parameter = getattr(self, name)
                resampled = resample(parameter.detach(), list(old), list(new))
                setattr(self, name, nn.Parameter(resampled, parameter.requires_grad))

    def _pos_embed(self, x: torch.Tensor) -> torch.Tensor:
        # x: [B, T', H', W', C] -> [B, prefix + T' * H' * W', C]
        x = add_positions(
            x, self.pos_embed_spatial, self.pos_embed_temporal, self.patch_embed.video_grid_size, self.dynamic_img_size
        )
        prefix = []
        if self.cls_token is not None and self.pos_embed_class is not None:
            prefix.append((self.cls_token + self.pos_embed_class).expand(x.shape[0], -1, -1))
        if self.reg_token is not None:
            prefix.append(self.reg_token.expand(x.shape[0], -1, -1))
        if prefix:
            x = torch.cat(prefix + [x], dim=1)
        return self.pos_drop(x)

    def forward_intermediates(
        self,
        x: torch.Tensor,
        indices: int | Sequence[int] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = 'NCHW',
        intermediates_only: bool = False,
        output_dict: bool = False,
        attn_mask: torch.Tensor | None = None,
        is_causal: bool = False,
    ) -> Any:
        """Features of chosen blocks, as timm's method of this name.

        Args:
            x: Clip [B, C, T, H, W] or image [B, C, H, W].
            indices: The last n blocks if an int, these blocks if a sequence, all if None.
            return_prefix_tokens: Also return the class (and register) tokens of each block.
            norm: Apply the final norm to every intermediate.
            stop_early: Skip the blocks after the last requested one.
            output_fmt: `'NCHW'` for maps ([B, C, T', H', W'] of a clip, [B, C, H', W'] of an image), `'NLC'` for the
                same as tokens.
            intermediates_only: Leave out the final features.
            output_dict: Return a dict with `image_intermediates`, `image_intermediates_prefix`, `image_features`.
            attn_mask: Attention mask, passed to every block.
            is_causal: Causal attention, passed to every block.

        Returns:
            Final tokens [B, N, C] (normalized) and the list of intermediates, or what the options above select.
        """
        if output_fmt not in ('NCHW', 'NLC'):
            raise ValueError(f"output_fmt={output_fmt!r}: must be 'NCHW' or 'NLC'")
        take_indices, max_index = feature_take_indices(
            len(self.blocks), list(indices) if isinstance(indices, Sequence) else indices
        )
        grid, still = self.patch_embed.grid_of(x), x.ndim == 4
        extra: dict[str, Any] = {} if attn_mask is None else {'attn_mask': attn_mask}
        if is_causal:
            extra['is_causal'] = True

        x = self._embed(x)
        intermediates = []
        for i, block in enumerate(self.blocks[: max_index + 1] if stop_early else self.blocks):
            if self.grad_checkpointing and not extra:
                x = checkpoint(block, x)
            else:
                x = block(x, **extra)
            if i in take_indices:
                intermediates.append(self.norm(x) if norm else x)

        prefix = [y[:, : self.num_prefix_tokens] for y in intermediates]
        patches = [y[:, self.num_prefix_tokens :] for y in intermediates]
        intermediates = [to_maps(y, grid, still, channels_last=output_fmt == 'NLC') for y in patches]
        with_prefix = return_prefix_tokens and self.num_prefix_tokens > 0
        if output_dict:
            result = {'image_intermediates': intermediates}
            if with_prefix:
                result['image_intermediates_prefix'] = prefix
            if not intermediates_only:
                result['image_features'] = self.norm(x)
            return result
        if with_prefix:
            intermediates = list(zip(intermediates, prefix, strict=True))
        return intermediates if intermediates_only else (self.norm(x), intermediates)

    def _maps_of(self, rows: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """[B, heads, T' * H' * W'] -> [B, heads, T', H', W'], or [B, heads, H', W'] of a still."""
        return to_maps(rows.transpose(1, 2), self.patch_embed.grid_of(x), x.ndim == 4)


def adapt_checkpoint(tensors: dict[str, torch.Tensor], model: VideoVisionTransformer) -> dict[str, torch.Tensor]:
    """Fit a checkpoint in timm's layout to a model of another size, length or number of input channels.

    Raises:
        ValueError: The checkpoint's grid is unknown: neither that of its configuration nor a square.
    """
    tensors = dict(tensors)
    kernel = tensors.get('patch_embed.proj.weight')
    in_chans = model.patch_embed.in_chans
    if kernel is not None and kernel.ndim == 5 and kernel.shape[1] != in_chans:
        flat = adapt_input_conv(in_chans, kernel.flatten(2, 3), base_chans=kernel.shape[1])  # timm adapts 2-D kernels
        tensors['patch_embed.proj.weight'] = flat.unflatten(2, kernel.shape[2:4])
    new = list(model.patch_embed.video_grid_size)
    for prefix in model.position_prefixes:
        spatial, temporal = (tensors.get(f'{prefix}pos_embed_{axis}') for axis in ('spatial', 'temporal'))
        width = getattr(model, f'{prefix}pos_embed_spatial').shape[-1]
        if spatial is None or temporal is None or not (spatial.ndim == temporal.ndim == 3):
            continue
        if any(x.shape[0] != 1 or x.shape[2] != width for x in (spatial, temporal)):
            continue  # of another model, which `fill` says: before something is made of them
        old = [temporal.shape[1], *stored_grid(spatial.shape[1], model)]
        tensors[f'{prefix}pos_embed_spatial'] = resample_spatial(spatial, old, new)
        tensors[f'{prefix}pos_embed_temporal'] = resample_temporal(temporal, old, new)
    return tensors


HUGE: dict[str, Any] = dict(patch_size=14, embed_dim=1280, depth=32, num_heads=16)
TINY: dict[str, Any] = dict(patch_size=14, embed_dim=128, depth=5, num_heads=4)

default_cfgs = generate_default_cfgs(
    {c.timm_name: c.pretrained_cfg() for c in CHECKPOINTS if c.architecture in ('vit_h14_st', 'vit_t14_st')}
)


@register_model
def vit_h14_st(pretrained: bool = False, **kwargs: Any) -> VideoVisionTransformer:
    """ViT-H/14 over 16 frames in tubelets of 2, 632M parameters."""
    return build_model(VideoVisionTransformer, 'vit_h14_st', pretrained, adapt_checkpoint, **dict(HUGE, **kwargs))


@register_model
def vit_t14_st(pretrained: bool = False, **kwargs: Any) -> VideoVisionTransformer:
    """The same architecture with 1.2M parameters at 112 px, for trying things out; `shapes_motion` knows motions."""
    return build_model(VideoVisionTransformer, 'vit_t14_st', pretrained, adapt_checkpoint, **dict(TINY, **kwargs))
