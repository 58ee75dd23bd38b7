"""Whether what a function is given is a model."""
import os
from typing import Any

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
