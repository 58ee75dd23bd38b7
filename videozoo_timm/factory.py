"""The zoos' own call, `load_model(name)`, and the same for a local file."""
import math
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg, is_model, model_entrypoint
from torch import nn

from . import catalogue
from .models import source_of
from .weights import Source, Weights, locate, read_weights, to_timm

ARCHITECTURES = ('vit_h14_st', 'mae_h14_st', 'vit_t14_st', 'mae_t14_st')


def get_available_models(zoo: str | None = None) -> list[str]:
    """Distinct published names, in published order.

    Args:
        zoo: Only those of `'hvm-1'` or of `'video-models'`.

    Raises:
        ValueError: No such zoo.
    """
    return catalogue.available_models(zoo)


def load_model(
        name: str,
        *,
        zoo: str | None = None,
        pretrained: bool = True,
        refresh: bool = False,
        **timm_kwargs: Any,
) -> nn.Module:
    """A published model, in eval mode.

    Args:
        name: Published name (`'vit_hvm1@448_none'`) or timm name (`'vit_h14_st.hvm1_448'`).
        zoo: `'hvm-1'` or `'video-models'`, for the six names that stand in both; a bare one means video-models.
        pretrained: Load the published weights.
        refresh: Ask the Hub first whether the publisher has replaced the file.
        **timm_kwargs: What `timm.create_model` takes: `num_classes`, `img_size`, `num_frames`, `features_only`,
            `dtype`, `pretrained_cfg_overlay=dict(file=...)`, `cache_dir` and the rest.

    Raises:
        ValueError: No such model, with the nearest names.
        FileNotFoundError, PermissionError, ConnectionError: The weights are not there, not allowed, or out of reach.
    """
    timm_name = timm_name_of(name, zoo)
    if pretrained and refresh:
        locate(find_source(timm_name, cache_dir=timm_kwargs.get('cache_dir')), refresh=True)
    return timm.create_model(timm_name, pretrained=pretrained, **timm_kwargs).eval()


def load_file(path: str | Path, name: str | None = None, *, zoo: str | None = None, **timm_kwargs: Any) -> nn.Module:
    """A model with the weights of a local file, published or converted layout, in eval mode.

    Args:
        path: `.pth` or `.safetensors`.
        name: Which model it is; None takes what the file's header says.
        zoo: As in `load_model`.
        **timm_kwargs: What `timm.create_model` takes.

    Raises:
        FileNotFoundError: No such file.
        ValueError: The file is of another model than `name`, or does not say which it is.
    """
    weights = read_weights(Path(path))
    if name is None:
        name, zoo = weights.header.get('name') or weights.header.get('architecture'), weights.header.get('zoo', zoo)
        if not name:
            raise ValueError(f'{path} does not say which model it is: name it (--model NAME)')
    timm_name = timm_name_of(name, zoo)
    check_weights(weights, str(path), timm_name, any_size='img_size' in timm_kwargs)
    overlay = dict(timm_kwargs.pop('pretrained_cfg_overlay', None) or {}, file=str(path))
    return timm.create_model(timm_name, pretrained=True, pretrained_cfg_overlay=overlay, **timm_kwargs).eval()


def timm_name_of(name: str, zoo: str | None = None) -> str:
    """The timm name of a published name, of a timm name, or of an architecture of this package.

    Raises:
        ValueError: No such model.
    """
    if is_model(name) and model_entrypoint(name).__module__.startswith(__package__):
        return name
    return catalogue.find(name, zoo).timm_name


def find_source(name: str, zoo: str | None = None, cache_dir: str | Path | None = None) -> Source:
    """Where a model's published weights are.

    Raises:
        ValueError: No such model, or none is published for this architecture.
    """
    return source_of(get_pretrained_cfg(timm_name_of(name, zoo)), cache_dir)


def check_weights(weights: Weights, origin: str, timm_name: str, any_size: bool = False) -> None:
    """Refuse a file that contradicts the model it shall be.

    Raises:
        ValueError: Every contradiction, listed.
    """
    cfg, header = get_pretrained_cfg(timm_name), weights.header
    problems = []
    stored = header.get('architecture')
    if stored and stored not in (cfg.architecture, cfg.architecture.replace('vit_', 'mae_', 1)):
        problems.append(f'architecture {stored}, the model is {cfg.architecture}')
    if header.get('name') and '.' in timm_name and header['name'] in catalogue.available_models():
        theirs = catalogue.find(header['name'], header.get('zoo'))
        if (theirs.repo, theirs.safetensors) != (cfg.hf_hub_id, cfg.hf_hub_filename):
            problems.append(f'name {theirs.name} of {theirs.zoo}, the model is {timm_name}')
    size = header.get('input_size') or input_size_of(weights.tensors)
    if size and tuple(size) != tuple(cfg.input_size) and not any_size:
        problems.append(f'input size {list(size)}, the model takes {list(cfg.input_size)}')
    for field in ('mean', 'std'):
        if field in header and tuple(header[field]) != tuple(getattr(cfg, field)):
            problems.append(f'{field} {list(header[field])}, the model has {list(getattr(cfg, field))}')
    if problems:
        raise ValueError(f'{origin} is not {timm_name}: ' + '; '.join(problems))


def input_size_of(tensors: dict[str, torch.Tensor]) -> tuple[int, int, int] | None:
    """Channels, height and width that a video checkpoint was made for, from the shapes of its tensors."""
    kernel, spatial = tensors.get('patch_embed.proj.weight'), tensors.get('pos_embed_spatial')
    if kernel is None or spatial is None or kernel.ndim != 5:
        return None
    side = math.isqrt(spatial.shape[1])
    return (kernel.shape[1], side * kernel.shape[3], side * kernel.shape[4]) if side ** 2 == spatial.shape[1] else None


def recognise(tensors: dict[str, torch.Tensor]) -> str | None:
    """The architecture of this package that a checkpoint belongs to, by the names and shapes of its tensors."""
    shapes = {k: v.shape for k, v in to_timm(tensors).items()}
    for architecture in ARCHITECTURES:
        model = timm.create_model(architecture, device='meta', weight_init='skip')
        expected = {k: v.shape for k, v in model.state_dict().items()}
        fixed = [k for k in expected if 'pos_embed' not in k]  # these follow the input's size
        if all(shapes.get(k) == expected[k] for k in fixed) and (
                set(shapes) - set(expected) <= {'head.weight', 'head.bias'}):
            return architecture
    return None
