"""Whether what a function is given is a model, and a clip."""

import os
from typing import Any

import torch
from torch import nn


def checked_model(model: nn.Module) -> Any:
    """The model, whose attributes are timm's and not declared by `nn.Module`.

    Raises:
        TypeError: It is a name, or something else that is no model.
    """
    if isinstance(model, (str, os.PathLike)):
        raise TypeError(f'a model is wanted, got the name {str(model)!r}; load_model({str(model)!r}) gives its model')
    if not isinstance(model, nn.Module):
        raise TypeError(f'a model is wanted, got {type(model).__name__}; load_model gives one')
    return model


def name_of(model: Any) -> str:
    """The architecture of a model, for errors."""
    config = getattr(model, 'pretrained_cfg', None) or {}
    return config.get('architecture') or type(model).__name__


def checked_clip(clip: torch.Tensor | Any) -> torch.Tensor:
    """One normalized clip [3, T, H, W] or image [3, H, W], a tensor or an array, as a tensor.

    Raises:
        ValueError: It is a batch, has time before channels, or is of whole numbers, and so not normalized.
    """
    x = torch.as_tensor(clip)
    shape = list(x.shape)
    if x.ndim not in (3, 4):
        remedy = '; without the batch dimension: x[0]' if x.ndim == 5 and len(x) == 1 else ''
        raise ValueError(f'one clip [3, T, H, W] or image [3, H, W] is wanted, got {shape}{remedy}')
    if x.ndim == 4 and x.shape[0] != 3 and x.shape[1] == 3:
        raise ValueError(f'a clip is [3, T, H, W], got {shape}, with time before channels: x.transpose(0, 1)')
    if not x.is_floating_point():
        kind = str(x.dtype).removeprefix('torch.')
        raise ValueError(f'a normalized clip is wanted, got {kind} {shape}; clip_transform(model)(frames) gives one')
    return x
