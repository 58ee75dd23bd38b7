"""How a timm model is built and filled.

A pretrained model is never initialized twice. It is built on the meta device, and the tensors of the file are assigned
memory-mapped. Only what the caller asked to be new (a head of another size, a pooling norm, layer scale) is
initialized, as timm initializes it.
"""

import logging
import math
import re
from collections.abc import Callable
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from timm.models import (
    VisionTransformer,
    build_model_with_cfg,
    get_pretrained_cfg,
    named_apply,
    resolve_pretrained_cfg,
)
from timm.models.vision_transformer import get_init_weights_vit
from torch import nn

from .._compat import guard_timm_downloads
from ..contents import Contents
from ..identity import source_of
from ..text import printable
from ..weights import Source, Tensors, guarded, locate, read_weights, to_timm
from ..weights.header import check_fields

_logger = logging.getLogger(__name__)

# timm downloads the configuration of an `hf-hub:` name before it knows whose model that is. What the Hub answers is
# checked there too; nothing else in timm or in the Hub's client is changed.
guard_timm_downloads(guarded())

# Modules that the published models lack and that timm's arguments add (layer scale, pooling), and the head.
_MAY_BE_NEW = re.compile(r'(head|fc|fc_norm|attn_pool)\.|blocks\.\d+\.(ls1|ls2)\.')
_HEADS = ('head.', 'fc.')
# Parts of a file that a model may ignore: an MAE's decoder in a ViT, the norm that average pooling replaces.
MAY_BE_LEFT = re.compile(
    r'(decoder_(blocks\.\d+|embed|norm|pred)|norm)\.|(decoder_(cls_token|pos_embed(_(class|spatial|temporal))?)|mask_token)$'
)


class PublishedLayout(nn.Module):
    """Beside a timm model: what is loaded into it may have a published layout.

    For timm's `checkpoint_path`, `load_checkpoint` and plain `load_state_dict`, inside wrappers too. What an MAE's or a
    finetuned file has beyond this model is dropped.
    """

    if TYPE_CHECKING:  # TorchScript would take annotations of a class for all that there are, timm's own included
        weight_init_mode: str  # how timm initializes what is new
        checkpoint_sizes: list[tuple[int, int]]  # input sizes that the weights may have been trained at

        def get_classifier(self, *args: Any, **kwargs: Any) -> Any:
            """The head, as the timm model beside this class has it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_load_state_dict_pre_hook(_to_own_layout)


ModelT = TypeVar('ModelT', bound=PublishedLayout)
AnyModuleT = TypeVar('AnyModuleT', bound=nn.Module)


def _to_own_layout(model: PublishedLayout, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Convert the entries under this prefix in place to the layout of the model itself."""
    mine = {k[len(prefix) :]: state_dict.pop(k) for k in list(state_dict) if k.startswith(prefix)}
    mine = mine.get('teacher', mine)
    has_head = any(True for _ in model.get_classifier().parameters())
    for key, value in to_timm(mine).items():
        is_decoder = key.startswith(('decoder_', 'mask_token')) and not hasattr(model, 'mask_token')
        if not is_decoder and (has_head or not key.startswith(_HEADS)):
            state_dict[prefix + key] = value


def build_model(
    model_cls: type[ModelT],
    variant: str,
    pretrained: bool,
    adapt: Callable[[Tensors, ModelT], Tensors],
    *,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: dict[str, Any] | None = None,
    pretrained_strict: bool = True,
    cache_dir: str | Path | None = None,
    feature_cfg: dict[str, Any] | None = None,
    **kwargs: Any,
) -> ModelT:
    """Build a registered model, as timm's `build_model_with_cfg` does, and fill it from the store.

    Args:
        model_cls: Model class.
        variant: Registered architecture.
        pretrained: Load the weights that the configuration names.
        adapt: Adapts tensors in timm's layout to the built model (other sizes, other input channels).
        pretrained_cfg: Configuration, or a tag.
        pretrained_cfg_overlay: Entries that replace those of the configuration; `num_classes` -1 ignores the file's
            head, whatever its size, as timm's own training script asks. This package's loaders add `contents`, what
            `file` holds, and `refresh`, to ask the Hub first: timm would keep other arguments with the model.
        pretrained_strict: False initializes missing tensors and ignores unexpected ones, as in timm.
        cache_dir: Another cache for Hub downloads and their conversions.
        feature_cfg: As in timm; None is that of a ViT.
        **kwargs: Arguments of the model class, `features_only` and the like.
    """
    if pretrained is not None and not isinstance(pretrained, (bool, int)):
        raise TypeError(
            f'pretrained={str(pretrained)!r}: must be True or False; pretrained_cfg_overlay=dict(file=...) names a file'
        )
    if kwargs.pop('use_naflex', None):
        raise ValueError(
            f'use_naflex=True: {variant} has no NaFlex variant; dynamic_img_size=True takes any image size'
        )
    pretrained_cfg = _of_its_own(pretrained_cfg)
    overlay = dict(pretrained_cfg_overlay or {})
    state_dict = overlay.pop('state_dict', None)  # timm would copy it twice
    contents: Contents | None = overlay.pop('contents', None)
    refresh = overlay.pop('refresh', False)
    leave_head = overlay.get('num_classes') == -1
    if leave_head:
        overlay['num_classes'] = resolve_pretrained_cfg(variant, pretrained_cfg=pretrained_cfg).num_classes
    cfg = resolve_pretrained_cfg(variant, pretrained_cfg=pretrained_cfg, pretrained_cfg_overlay=overlay)
    if overlay.get('file'):
        path = Path(overlay['file']).expanduser()
        if contents is None and path.is_file() and (pretrained or path.suffix == '.safetensors'):
            contents = Contents(path)
        cfg = replace(cfg, **_labels_of(overlay, cfg, contents))
    elif cfg.file and overlay.keys() & {'hf_hub_id', 'url'}:  # other weights than the packaged ones
        cfg = replace(cfg, file=None, label_names=overlay.get('label_names'))
    check_fields(cfg.to_dict(), cfg.file or cfg.hf_hub_id or variant)
    if cfg.state_dict is not None:
        state_dict, cfg = cfg.state_dict, replace(cfg, state_dict=None)

    make: Callable[..., ModelT] = model_cls
    num_classes = kwargs.get('num_classes', cfg.num_classes)
    # A head is new, or ignored, if the caller asks for another number of classes than the checkpoint is known to have.
    other_head = 'num_classes' in kwargs or bool(kwargs.get('features_only'))
    new_head = leave_head or num_classes != cfg.num_classes
    if new_head and cfg.label_names:  # those of the old one
        cfg = replace(cfg, label_names=None, label_descriptions=None)
    if pretrained:
        sizes = [(cfg.input_size[-2], cfg.input_size[-1])]
        saved_size = (kwargs.get('pretrained_model_args') or {}).get('img_size')
        if saved_size:
            sizes.insert(0, (saved_size, saved_size) if isinstance(saved_size, int) else tuple(saved_size))

        def make_filled(device: Any = None, dtype: torch.dtype | None = None, **model_args: Any) -> ModelT:
            if state_dict is not None:
                tensors, origin = {k: v.clone() for k, v in state_dict.items()}, 'state_dict'
            elif contents is not None:
                tensors, origin = contents.take(), str(contents.path)
            else:
                path = locate(source_of(cfg.to_dict(), cache_dir), refresh=refresh)
                tensors, origin = read_weights(path).tensors, str(path)
            mode = model_args.pop('weight_init', '')
            if pretrained_strict:
                model = model_cls(**model_args, weight_init='skip', device='meta')
                model.weight_init_mode = '' if mode == 'skip' else mode
            else:  # any part may be missing
                model = model_cls(**model_args, weight_init=mode)
            model.checkpoint_sizes = sizes
            tensors = to_timm(tensors)
            if leave_head:
                tensors = {k: v for k, v in tensors.items() if not k.startswith(_HEADS)}
            fill(model, adapt(tensors, model), origin, other_head, new_head, pretrained_strict)
            return model.to(device=device, dtype=dtype)

        make = make_filled

    return build_model_with_cfg(
        make,
        variant,
        pretrained=False,
        pretrained_cfg=cfg.to_dict(),
        feature_cfg=feature_cfg or dict(out_indices=kwargs.pop('out_indices', 3), feature_cls='getter'),
        **kwargs,
    )


def build_filled(
    model_cls: Callable[..., AnyModuleT],
    model_args: dict[str, Any],
    source: Source | None,
    device: Any = None,
    dtype: torch.dtype | None = None,
    refresh: bool = False,
) -> AnyModuleT:
    """A model that is not timm's, filled from the store, or with random weights if there is no source."""
    if source is None:
        return model_cls(**model_args, device=device, dtype=dtype)
    path = locate(source, refresh=refresh)
    tensors = to_timm(read_weights(path).tensors)
    model = model_cls(**model_args, device='meta')
    fill(model, tensors, str(path))
    return model.to(device=device, dtype=dtype)


def _of_its_own(pretrained_cfg: Any) -> Any:
    """The configuration of a Hub repository without entries that name weights outside of that repository."""
    cfg = (
        asdict(pretrained_cfg)
        if is_dataclass(pretrained_cfg) and not isinstance(pretrained_cfg, type)
        else (pretrained_cfg)
    )
    if not isinstance(cfg, dict) or cfg.get('source') != 'hf-hub':
        return pretrained_cfg
    repo = cfg.get('hf_hub_id', '')
    foreign = [name for name in ('file', 'url', 'state_dict') if cfg.get(name)]
    try:
        Source(repo=repo, filename=cfg.get('hf_hub_filename') or '')
    except ValueError:
        foreign.append('hf_hub_filename')
    for name in foreign:
        _logger.warning(
            '%s on the Hub names %s=%.80r for its weights, which is refused: the weights in its own repository are '
            'used (pretrained_cfg_overlay=dict(file=...) loads a local file)',
            repo,
            name,
            str(cfg.get(name)),
        )
    return {k: v for k, v in cfg.items() if k not in foreign}


def _labels_of(overlay: dict[str, Any], cfg: Any, contents: Contents | None) -> dict[str, Any]:
    """Number and names of the classes, from the header of a file that this package finetuned."""
    names = contents.header.get('label_names') if contents else None
    if names:
        labels = dict(num_classes=len(names), label_names=tuple(names), label_descriptions=None)
    elif getattr(get_pretrained_cfg('.'.join(filter(None, (cfg.architecture, cfg.tag)))), 'file', None):
        labels = dict(label_names=None, label_descriptions=None)  # those of the packaged file are not those of another
    else:
        labels = {}
    return {k: v for k, v in labels.items() if k not in overlay}


def fill(
    model: nn.Module,
    tensors: Tensors,
    origin: str,
    other_head: bool = False,
    new_head: bool = False,
    strict: bool = True,
) -> None:
    """Assign a file's tensors to a model on the meta device.

    Args:
        model: Model, all its tensors on the meta device.
        tensors: Tensors in timm's layout.
        origin: Where they are from, for errors.
        other_head: Ignore a head that does not fit the model, since the caller asked for another.
        new_head: Initialize a head that the file lacks, for the same reason.
        strict: False takes an initialized model, and loads only what both the file and the model have.

    Raises:
        ValueError: Missing or unexpected keys, or shapes that differ, all listed.
    """
    own = model.state_dict()
    if other_head:
        tensors = {k: v for k, v in tensors.items() if not (k.startswith(_HEADS) and _differs(own.get(k), v))}
    missing, surplus = own.keys() - tensors.keys(), tensors.keys() - own.keys()
    if strict:
        new = {k for k in missing if _MAY_BE_NEW.match(k) and (new_head or not k.startswith(_HEADS))}
        left = {k for k in surplus if MAY_BE_LEFT.match(k) and not _has_parameters(model, k)}
    else:
        new, left = missing, surplus
        if new or left:
            ignored = [printable(k, 200) for k in sorted(left)]
            _logger.warning('%s: initialized %s; ignored %s', origin, sorted(new), ignored)
    problems = [f'{printable(k, 200)} is missing' for k in sorted(missing - new)]
    problems += [
        f'{printable(k, 200)} {list(tensors[k].shape)} has no place in the model' for k in sorted(surplus - left)
    ]
    problems += [
        f'{printable(k, 200)} is {list(tensors[k].shape)}, the model has {list(own[k].shape)}'
        for k in sorted(own.keys() & tensors.keys())
        if _differs(own[k], tensors[k])
    ]
    if problems:
        shown = problems[:100] + ([f'and {len(problems) - 100} more'] if len(problems) > 100 else [])
        raise ValueError(f'{origin} does not fit {type(model).__name__}: ' + '; '.join(shown))

    model.load_state_dict(
        {k: v.to(own[k].dtype) for k, v in tensors.items() if k not in left}, strict=False, assign=True
    )
    if strict:
        _initialize(model, new)
    unfilled = [k for k, v in model.state_dict(keep_vars=True).items() if v.is_meta]
    unfilled += [k for k, v in model.named_buffers() if v.is_meta]
    if unfilled:
        raise RuntimeError(f'{type(model).__name__} has tensors without values: {unfilled}')


def stored_grid(num_tokens: int, model: VisionTransformer) -> tuple[int, int]:
    """Height and width, in patches, of the inputs of a checkpoint, from its number of spatial positions.

    Raises:
        ValueError: The number fits neither an input size of the configuration nor a square.
    """
    side = math.isqrt(num_tokens)
    candidates = [model.patch_embed.dynamic_feat_size(size) for size in getattr(model, 'checkpoint_sizes', ())]
    candidates += [(side, side), model.patch_embed.grid_size]
    for grid in candidates:
        if math.prod(grid) == num_tokens:
            return tuple(grid)
    raise ValueError(
        f'the checkpoint has {num_tokens} spatial positions, which is no square: make the model with the img_size it '
        f'was trained at, load it there, then call set_input_size'
    )


def _differs(own: torch.Tensor | None, given: torch.Tensor) -> bool:
    return own is None or own.shape != given.shape


def _has_parameters(model: nn.Module, key: str) -> bool:
    """Whether the model has parameters where this key belongs, so that ignoring the key would hide a mistake."""
    return any(name.split('.')[0] == key.split('.')[0] for name, _ in model.named_parameters())


def _initialize(model: nn.Module, keys: set[str]) -> None:
    """Initialize the modules that own these keys, as timm does."""
    if not keys:
        return
    _logger.info('initialized: %s', ', '.join(sorted(keys)))
    roots = {k.split('.')[0] if k.startswith('attn_pool.') else k.rpartition('.')[0] for k in keys}
    init = get_init_weights_vit(getattr(model, 'weight_init_mode', ''), needs_reset=True)
    for root in sorted(roots):
        module: Any = model.get_submodule(root)
        module.to_empty(device='cpu')
        if isinstance(model, VisionTransformer):
            named_apply(init, module, name=root, include_root=True)
        else:
            module.reset_parameters()
