"""The model that a command's options name."""

import os
import re
from typing import TYPE_CHECKING, Any

from ..text import printable
from .options import ModelOptions
from .output import complain

if TYPE_CHECKING:
    import torch
    from torch import nn


def load(
    chosen: ModelOptions,
    default: str = 'vit_shapes_motion',
    device: 'torch.device | None' = None,
    pretrained: bool = True,
    untrained: int | None = None,
    whole: bool = False,
) -> tuple[Any, str]:
    """The model that the options name, the default if they name none, and what to call it.

    Without `pretrained` it comes with random weights, unless --weights names a file; with `untrained` it does in any
    case: those of `load_model(name, pretrained=False)` on the CPU after `torch.manual_seed(untrained)`. `whole` takes
    an image MAE with its decoder where the name means its encoder.
    """
    import torch

    refuse_generator(chosen)
    _check_num_frames(chosen)
    options: dict[str, Any] = dict(chosen.sizes)
    if options and takes_images(chosen):
        options = {}  # such a model takes images of any size: --img-size is that of the views (`view_size`)
    if not pretrained and chosen.weights is None:
        options['pretrained'] = False
    if chosen.device or device is None:
        device = pick_device(chosen.device)
    complain_of_dtype(chosen.dtype, device)
    dtype = getattr(torch, chosen.dtype or 'float32')
    if untrained is not None:
        if chosen.weights is not None:
            raise ValueError('--from-scratch and --weights contradict each other')
        torch.manual_seed(untrained)
        model, _ = _load(chosen, default, whole, **dict(options, pretrained=False))
        return model.to(device, dtype), f'{model.pretrained_cfg["architecture"]} from scratch, seed {untrained}'
    return _load(chosen, default, whole, device=device, dtype=dtype, **options)


def load_trainable(chosen: ModelOptions, default: str, whole: bool = False, **options: Any) -> tuple[Any, str]:
    """As `load`, but on the CPU in float32, with more arguments of `timm.create_model`."""
    return _load(chosen, default, whole, **options, **chosen.sizes)


def _load(chosen: ModelOptions, default: str, whole: bool = False, **options: Any) -> tuple[Any, str]:
    from ..factory import build

    if chosen.model is None and chosen.weights is None:
        take_default(chosen, default)
    resolved = chosen.resolved.whole if whole else chosen.resolved
    if resolved.is_guess:
        raise ValueError(f'{chosen.weights} does not say which model it is: name it (--model NAME)')
    if resolved.published is None and resolved.contents is None and options.get('pretrained', True):
        raise ValueError(f'no weights are published for {chosen.model}: name a file with --weights')
    model: Any = build(resolved, **options)
    cfg = model.pretrained_cfg
    if resolved.contents is not None and not (chosen.model and resolved.tag):
        told = resolved.contents.header.get('name')
        return model, printable(told or f'{cfg["architecture"]} of {chosen.weights}', 200)
    return model, f'{cfg["architecture"]}.{cfg["tag"]}'


def check_decoder(chosen: ModelOptions) -> None:
    """Raise a ValueError, before anything is downloaded, if the model that is named has no decoder."""
    from ..catalogue import whole_of

    if chosen.model is None or chosen.weights is not None:
        return
    refuse_generator(chosen)
    if not chosen.resolved.whole.is_mae:
        if chosen.resolved.record is None:
            raise ValueError(f'{chosen.model} has no decoder: take {chosen.model.replace("vit_", "mae_", 1)}')
        whole_of(chosen.model, chosen.zoo)


def refuse_generator(chosen: ModelOptions) -> None:
    if chosen.model is not None and chosen.resolved.is_generator:
        raise ValueError(f'{chosen.model} is {chosen.resolved.kind}: `videozoo generate`, in Python load_model')


def check_trainable(chosen: ModelOptions, whole: bool = False) -> None:
    """Raise a ValueError if the model that the options name is no video model, nor (`whole`) an image MAE."""
    if chosen.model is not None and chosen.resolved.is_generator:
        raise ValueError(f'{chosen.model} is {chosen.resolved.kind}; what is trained here are video models')
    maes = ' and masked autoencoders of images (mae_..._im)' if whole else ''
    if takes_images(chosen) and not (whole and chosen.resolved.whole.is_mae):
        raise ValueError(
            f'{chosen.model or chosen.weights} is an image encoder; what is trained here are video models{maes}. '
            f'`videozoo probe` trains on its frozen features, timm.create_model gives it to any training script for '
            f'images'
        )
    _check_num_frames(chosen)


def _check_num_frames(chosen: ModelOptions) -> None:
    if chosen.num_frames is not None and takes_images(chosen):
        raise ValueError(
            f'--num-frames {chosen.num_frames}: {chosen.model or chosen.weights} takes images; leave it out'
        )


def takes_images(chosen: ModelOptions) -> bool:
    """Whether the options name a model that takes images."""
    return (chosen.model is not None or chosen.weights is not None) and chosen.resolved.takes_images


def short_name(chosen: ModelOptions, model: Any) -> str:
    """The model's name as a part of file names: as it was typed, or its architecture."""
    told = chosen.contents.header.get('name') if chosen.contents else None
    return re.sub(r'[^\w@+.=-]', '_', chosen.model or told or model.pretrained_cfg['architecture'])[:100]


def view_size(chosen: ModelOptions, model: 'nn.Module') -> dict[str, Any]:
    """Fields of `Views` that --img-size asks for: of a model that takes images, the size of the views."""
    from ..inference.pipeline import takes_clips

    return {} if chosen.img_size is None or takes_clips(model) else dict(size=chosen.img_size)


def views_for(chosen: ModelOptions, model: 'nn.Module', span: int, frames: str = '', **changes: Any) -> Any:
    """The view of a file that the options ask for; `frames` is the order of the frames."""
    from ..inference.pipeline import sampling_of, views_of

    return views_of(model, sampling_of(model, span, frames), **view_size(chosen, model), **changes)


def take_default(chosen: Any, default: str) -> None:
    """The model of a command that names none, which says so."""
    if chosen.zoo not in (None, 'shapes'):
        raise ValueError(f'name a model of the zoo {chosen.zoo!r} with --model (`videozoo list` shows them)')
    chosen.model = default
    if os.environ.get('RANK', '0') == '0':
        complain(f'no --model, so the small one that comes with this package is taken: {default}')


def complain_of_dtype(name: str | None, device: 'torch.device') -> None:
    """Say where `--dtype` makes a device far slower, once for all processes."""
    from ..models.attention import fast_in_bfloat16

    if name != 'bfloat16' or device.type not in ('cpu', 'cuda') or fast_in_bfloat16(device):
        return
    if os.environ.get('RANK', '0') == '0':
        complain(f'--dtype bfloat16: this {device} seems to have no instructions for it; float32 may be far faster')


def pick_device(name: str | None) -> 'torch.device':
    """The device that `--device` names, the fastest available if it names none."""
    import torch

    if name is None:
        name = 'cuda' if torch.cuda.is_available() else 'mps' if torch.backends.mps.is_available() else 'cpu'
    try:
        device = torch.device(name)
    except RuntimeError as error:
        if name.lower() != name:
            return pick_device(name.lower())
        near = 'cuda' if name in ('gpu', 'nvidia') else re.sub(r'^(cuda|gpu)?:?(?=\d+$)', 'cuda:', name)
        hint = '' if near == name else f'; did you mean {near}?'
        raise ValueError(f'--device {name}: must be cpu, cuda, cuda:1, mps or another of PyTorch{hint}') from error
    try:
        torch.empty(0, device=device)
    except Exception as error:
        raise ValueError(f'--device {name}: {str(error).splitlines()[0]}') from error
    return device
