"""Whether what a function is given is a model, and a clip; and whether what a model gives are numbers."""

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..errors import NotFiniteError
from ..video import Clip

NOT_FINITE = 'NaN or infinite'  # in every reason that is about numbers


def checked_model(model: Any) -> Any:
    """The model, whose attributes are timm's and not declared by `nn.Module`; of a compiled or parallel one that in it.

    Raises:
        TypeError: It is a name, or something else that is no model for images or clips.
    """
    if isinstance(model, (str, os.PathLike)):
        raise TypeError(f'a model is wanted, got the name {str(model)!r}; load_model({str(model)!r}) gives its model')
    if not isinstance(model, nn.Module):
        raise TypeError(f'a model is wanted, got {type(model).__name__}; load_model gives one')
    inner: Any = model
    while isinstance(inner, (nn.DataParallel, nn.parallel.DistributedDataParallel)) or hasattr(inner, '_orig_mod'):
        inner = inner._orig_mod if hasattr(inner, '_orig_mod') else inner.module
    if not hasattr(inner, 'pretrained_cfg'):
        raise TypeError(f'a timm model is wanted, got {type(inner).__name__}; load_model gives one')
    return inner


def name_of(model: Any) -> str:
    """The architecture of a model, for errors."""
    config = getattr(model, 'pretrained_cfg', None) or {}
    return config.get('architecture') or type(model).__name__


def checked_clip(clip: torch.Tensor | Any, model: nn.Module) -> torch.Tensor:
    """One normalized clip [3, T, H, W] or image [3, H, W] for a model, a tensor or an array, as a tensor.

    Raises:
        TypeError: It is no array of numbers.
        ValueError: It is a batch, has time or colors in another place, is of whole numbers, and so not normalized, or
            is a clip for a model that takes images.
    """
    transform = 'clip_transform(model)'
    if isinstance(clip, (str, os.PathLike)):
        raise TypeError(f'a clip is wanted, got the path {str(clip)!r}; {transform}.read({str(clip)!r}) gives its clip')
    try:
        x = torch.as_tensor(clip)
    except (TypeError, ValueError, RuntimeError) as error:
        remedy = f'; {transform}(clip) prepares it' if isinstance(clip, Clip) or hasattr(clip, 'convert') else ''
        kind = type(clip).__name__
        raise TypeError(f'a clip [3, T, H, W] or image [3, H, W] is wanted, got {kind}{remedy}') from error
    shape, kind = list(x.shape), str(x.dtype).removeprefix('torch.')
    if x.ndim not in (3, 4):
        remedy = '; without the batch dimension: x[0]' if x.ndim == 5 and len(x) == 1 else ''
        raise ValueError(f'one clip [3, T, H, W] or image [3, H, W] is wanted, got {shape}{remedy}')
    if not x.is_floating_point():
        raise ValueError(f'a normalized clip is wanted, got {kind} {shape}; {transform}(frames) gives one')
    if x.ndim == 4 and x.shape[0] != 3 and x.shape[1] == 3:
        raise ValueError(f'a clip is [3, T, H, W], got {shape}, with time before channels: x.transpose(0, 1)')
    if x.shape[0] != 3 and x.shape[-1] == 3:
        remedy = 'x.permute(3, 0, 1, 2)' if x.ndim == 4 else 'x.permute(2, 0, 1)'
        raise ValueError(f'a clip is [3, T, H, W], an image [3, H, W], got {shape}, with colors last: {remedy}')
    if x.ndim == 4 and not hasattr(model, 'num_frames'):
        raise ValueError(f'this {name_of(model)} takes images [3, H, W], got the clip {shape}; take a frame: x[:, t]')
    return x


def fault_of_values(
    values: torch.Tensor, what: str | Sequence[str], x: torch.Tensor, dtype: torch.dtype, where: str = ''
) -> str | None:
    """What is wrong with what a model gives for a clip, in words; None if all of it is finite.

    Args:
        values: What it gives.
        what: What that is: 'features'; or a name for each entry of the first dimension.
        x: The clip.
        dtype: In which the model computes.
        where: Which clip of the file.
    """
    finite = values.isfinite()
    if finite.all():
        return None
    if not isinstance(what, str):
        what = next(name for name, part in zip(what, finite, strict=True) if not part.all())
    number, total = int((~finite).sum()), finite.numel()
    fault = f'{what}{where}: {number:,} of {total:,} values are {NOT_FINITE}'
    if not x.isfinite().all():
        return f'{fault}; the clip itself is not finite'
    if dtype == torch.float16:
        return f'{fault}; float16 overflows above 65,504, bfloat16 and float32 do not'
    kind = str(dtype).removeprefix('torch.')
    return f'{fault}; the model computes in {kind}, so its weights are damaged or far too large'


def check_finite(values: torch.Tensor, what: str, x: torch.Tensor, dtype: torch.dtype) -> None:
    """Raise a NotFiniteError if what a model gives for a clip is not finite; the arguments of `fault_of_values`."""
    if fault := fault_of_values(values, what, x, dtype):
        raise NotFiniteError(fault)
