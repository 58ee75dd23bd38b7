"""The zoos' own call, `load_model(name)`, and the same for a local file."""

from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from . import catalogue
from .identity import Resolved, find_source, resolve
from .models import GPT, VQGAN, ImageGenerator, build_filled

__all__ = ['build', 'find_source', 'get_available_models', 'load_file', 'load_model']


def get_available_models(zoo: str | None = None) -> list[str]:
    """Distinct published names, in published order.

    Args:
        zoo: Only those of `'hvm-1'`, `'video-models'`, `'silicon-menagerie'`, `'humanlike-vits'` or `'shapes'` (the
            small ones that come with this package).

    Raises:
        ValueError: No such zoo.
    """
    return catalogue.available_models(zoo)


def load_model(
    name: str,
    *,
    zoo: str | None = None,
    pretrained: bool = True,
    finetuned: bool = False,
    whole: bool = False,
    refresh: bool = False,
    **timm_kwargs: Any,
) -> nn.Module:
    """A published model, in eval mode.

    An image generator (`'say_gimel'`) comes as an `ImageGenerator`, which `gpt, vqgan = ...` takes apart. It takes
    `part='gpt'` or `part='vqgan'` for one of the two alone, `device`, `dtype` and `cache_dir`.

    Args:
        name: Published name (`'vit_hvm1@448_none'`) or timm name (`'vit_h14_st.hvm1_448'`).
        zoo: `'hvm-1'` or `'video-models'`, for the six names that stand in both; a bare one means video-models.
        pretrained: Load the published weights.
        finetuned: Of a model of humanlike-vits the one that was finetuned on ImageNet, whose own name ends with
            `_in1k`.
        whole: Of an image MAE the encoder with its decoder (`mae_..._im`); its published name means the encoder.
        refresh: Ask the Hub first whether the publisher has replaced the file.
        **timm_kwargs: What `timm.create_model` takes: `num_classes`, `img_size`, `num_frames`, `features_only`,
            `dtype`, `pretrained_cfg_overlay=dict(file=...)`, `cache_dir` and the rest.

    Raises:
        TypeError: `name` is no string, or `pretrained` is a file.
        ValueError: No such model, with the nearest names.
        FileNotFoundError, PermissionError, ConnectionError: The weights are not there, not allowed, or out of reach.
    """
    if name is None:
        raise ValueError("name a model, for instance 'vit_hvm1_none'; get_available_models() lists them all")
    if finetuned:
        name = catalogue.finetuned_of(name, zoo)
    if whole:
        name, zoo = catalogue.whole_of(name, zoo).timm_name, None
    return build(resolve(name, zoo=zoo), pretrained=pretrained, refresh=refresh, **timm_kwargs)


def load_file(path: str | Path, name: str | None = None, *, zoo: str | None = None, **timm_kwargs: Any) -> nn.Module:
    """A model with the weights of a local file, published or converted layout, in eval mode.

    Args:
        path: `.pth` or `.safetensors`.
        name: Which model it is; None takes what the file's header says. Of a bare architecture the file says the number
            and the names of the classes, the size and the number of frames.
        zoo: As in `load_model`.
        **timm_kwargs: What `timm.create_model` takes.

    Raises:
        FileNotFoundError: No such file.
        ValueError: The file is of another model than `name`, or does not say which it is.
    """
    return build(resolve(name, path, zoo), **timm_kwargs)


def build(
    resolved: Resolved,
    *,
    pretrained: bool = True,
    refresh: bool = False,
    **timm_kwargs: Any,
) -> nn.Module:
    """The model that a name or a file was resolved to, in eval mode.

    Args:
        resolved: Answer of `identity.resolve`; of a file the weights are always loaded.
        pretrained: Load the published weights.
        refresh: Ask the Hub first whether the publisher has replaced the file.
        **timm_kwargs: As in `load_model`.

    Raises:
        ValueError: The file is of another model, or does not say which it is.
        FileNotFoundError, PermissionError, ConnectionError: The weights are not there, not allowed, or out of reach.
    """
    if pretrained is not None and not isinstance(pretrained, (bool, int)):
        raise TypeError(f'pretrained={str(pretrained)!r}: must be True or False; load_file(path, name) takes a file')
    if resolved.is_generator:
        return _build_generator(resolved, pretrained, refresh, **timm_kwargs)
    if refresh:
        overlay = timm_kwargs.pop('pretrained_cfg_overlay', None) or {}
        timm_kwargs['pretrained_cfg_overlay'] = dict(overlay, refresh=True)
    if resolved.contents is not None:
        pretrained, timm_kwargs = True, resolved.timm_args(timm_kwargs)
    return timm.create_model(resolved.timm_name, pretrained=pretrained, **timm_kwargs).eval()


def _build_generator(
    resolved: Resolved,
    pretrained: bool,
    refresh: bool,
    *,
    part: str | None = None,
    device: Any = None,
    dtype: torch.dtype | None = None,
    cache_dir: str | Path | None = None,
    files: dict[str, str | Path] | None = None,
) -> nn.Module:
    if part not in (None, 'gpt', 'vqgan'):
        raise ValueError(f"part={part!r}: must be 'gpt' or 'vqgan', or None for both")
    parts: dict[str, Any] = {}
    for kind, (args, source) in resolved.parts(cache_dir, files).items():
        if part in (None, kind):
            # The codebook is looked up by rounding differences away, so the VQGAN stays exact.
            parts[kind] = build_filled(
                GPT if kind == 'gpt' else VQGAN,
                args,
                source if pretrained else None,
                device,
                dtype if kind == 'gpt' else None,
                refresh,
            )
    return (parts[part] if part else ImageGenerator(**parts)).eval()
