"""The zoos' own call, `load_model(name)`, and the same for a local file."""
import math
from itertools import islice
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg
from torch import nn

from . import catalogue
from .models import GPT, VQGAN, ImageGenerator, build_filled, source_of
from .text import printable
from .weights import Source, Tensors, Weights, locate, read_weights, to_timm


def get_available_models(zoo: str | None = None) -> list[str]:
    """Distinct published names, in published order.

    Args:
        zoo: Only those of `'hvm-1'`, `'video-models'`, `'silicon-menagerie'` or `'shapes'` (the small ones that come
            with this package).

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

    An image generator (`'say_gimel'`) comes as an `ImageGenerator`, which `gpt, vqgan = ...` takes apart. It takes
    `part='gpt'` or `part='vqgan'` for one of the two alone, `device`, `dtype` and `cache_dir`.

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
    generator = catalogue.find_generator(name, zoo)
    if generator:
        return _load_generator(generator, pretrained, refresh, **timm_kwargs)
    timm_name = timm_name_of(name, zoo)
    if pretrained and refresh:
        locate(find_source(timm_name, cache_dir=timm_kwargs.get('cache_dir')), refresh=True)
    return timm.create_model(timm_name, pretrained=pretrained, **timm_kwargs).eval()


def _load_generator(
        record: catalogue.Generator,
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
    parts = {}
    for kind in ('gpt', 'vqgan'):
        if part in (None, kind):
            source = None
            if pretrained:
                source = generator_source(record, kind, cache_dir, (files or {}).get(kind))
                if refresh:
                    locate(source, refresh=True)
            model_cls, args = GPT if kind == 'gpt' else VQGAN, _parts_of(record)[kind]
            # The codebook is looked up by rounding differences away, so the VQGAN stays exact.
            parts[kind] = build_filled(model_cls, args, source, device, dtype if kind == 'gpt' else None)
    return (parts[part] if part else ImageGenerator(**parts)).eval()


def generator_source(
        record: catalogue.Generator,
        kind: str,
        cache_dir: str | Path | None = None,
        file: str | Path | None = None,
) -> Source:
    """Where the GPT or the VQGAN of a generator is; `file` names a local one instead."""
    published = record.gpt_filename if kind == 'gpt' else record.vqgan_filename
    name = record.name if kind == 'gpt' else record.vqgan
    about = dict(name=name, zoo=record.zoo, architecture=kind)
    if file is not None:
        return Source(file=Path(file).expanduser(), about=about)
    return Source(
        repo=record.repo, filename=published.rsplit('.', 1)[0] + '.safetensors', published=published,
        cache_dir=cache_dir and Path(cache_dir).expanduser(), label=record.name, about=about,
        digests=catalogue.digests_of(record.repo))


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
    weights = read_weights(Path(path), mapped=True)  # its header and shapes; no tensor is read here
    header = weights.header
    if name is None:
        name, stored_in = header.get('name') or header.get('architecture'), header.get('zoo')
        if not name:
            raise ValueError(f'{path} does not say which model it is: name it (--model NAME)')
        if zoo and stored_in and zoo != stored_in:
            raise ValueError(f'{path} is {name} of the zoo {stored_in!r}, not of {zoo!r}')
        zoo = stored_in or zoo
    timm_name = timm_name_of(name, zoo)
    check_weights(weights, str(path), timm_name, any_size='img_size' in timm_kwargs or '.' not in timm_name)
    overlay = dict(timm_kwargs.pop('pretrained_cfg_overlay', None) or {}, file=str(path))
    if '.' not in timm_name:  # nothing is known of it but what it says itself
        tensors = _without_values(weights.tensors)
        head, size = _head_of(tensors), header.get('input_size') or input_size_of(tensors)
        steps, kernel = _ranked(tensors, 'pos_embed_temporal', 3), _ranked(tensors, 'patch_embed.proj.weight', 5)
        overlay.setdefault('num_classes', 0 if head is None else head.shape[0])
        timm_kwargs.setdefault('num_classes', overlay['num_classes'])
        if size:
            overlay.setdefault('input_size', size)
            if 'patch_embed.proj.weight' in tensors:  # a ResNet has no size of its own
                timm_kwargs.setdefault('img_size', tuple(size[1:]))
        if steps is not None and kernel is not None:
            timm_kwargs.setdefault('num_frames', steps.shape[1] * kernel.shape[2])
        overlay |= {k: header[k] for k in ('mean', 'std', 'interpolation') if k in header}
    return timm.create_model(timm_name, pretrained=True, pretrained_cfg_overlay=overlay, **timm_kwargs).eval()


def timm_name_of(name: str, zoo: str | None = None) -> str:
    """The timm name of a published name, of a timm name, or of an architecture of this package.

    Raises:
        ValueError: No such model, or not in this zoo.
    """
    if name in catalogue.ALL_ARCHITECTURES and zoo is None:
        return name
    return catalogue.find(name, zoo).timm_name


def find_source(name: str, zoo: str | None = None, cache_dir: str | Path | None = None) -> Source:
    """Where a model's published weights are.

    Raises:
        ValueError: No such model, or none is published for this architecture.
    """
    return source_of(get_pretrained_cfg(timm_name_of(name, zoo)), cache_dir)


def find_sources(name: str, zoo: str | None = None, cache_dir: str | Path | None = None) -> list[Source]:
    """As `find_source`, but also of generators, which have two files."""
    generator = catalogue.find_generator(name, zoo)
    if generator:
        return [generator_source(generator, kind, cache_dir) for kind in ('gpt', 'vqgan')]
    return [find_source(name, zoo, cache_dir)]


def part_in(record: catalogue.Generator, weights: Weights, origin: str) -> str:
    """Which part of a generator a file holds, 'gpt' or 'vqgan'.

    Raises:
        ValueError: Neither.
    """
    shapes = {k: v.shape for k, v in _without_values(weights.tensors).items()}
    for kind, args in _parts_of(record).items():
        if _KEYS_OF_GENERATORS[kind] in shapes and shapes == _shapes_of(kind, args):
            return kind
    raise ValueError(f'{origin} is neither the GPT nor the VQGAN of {record.name}')


_KEYS_OF_GENERATORS = {'gpt': 'tok_emb.weight', 'vqgan': 'quantize.embedding.weight'}  # by which they are told apart


def _parts_of(record):
    return dict(gpt=record.gpt_args, vqgan=record.vqgan_args)


def _shapes_of(kind, args):
    model = (GPT if kind == 'gpt' else VQGAN)(**args, device='meta')
    return {k: v.shape for k, v in model.state_dict().items()}


def serves(stored: str | None, architecture: str) -> bool:
    """Whether a file of one architecture holds the weights of another: an MAE's file holds its encoder, a ViT."""
    return stored in (architecture, architecture.replace('vit_', 'mae_', 1))


def check_weights(weights: Weights, origin: str, timm_name: str, any_size: bool = False) -> None:
    """Refuse a file that contradicts the model it shall be.

    Raises:
        ValueError: Every contradiction, listed.
    """
    cfg, header, tagged = get_pretrained_cfg(timm_name), weights.header, '.' in timm_name
    tensors = _without_values(weights.tensors)
    found = f'its tensors are {[printable(key, 80) for key in islice(weights.tensors, 4)]} and so on'
    if cfg.architecture.endswith('_st') and _ranked(tensors, 'patch_embed.proj.weight', 5) is None:
        raise ValueError(f'{origin} is no video model: {found}')
    problems = [f'{printable(key, 80)} {list(v.shape)} is empty' for key, v in tensors.items() if not v.numel()][:4]
    stored = header.get('architecture') or recognise(weights.tensors)
    first = 'conv1.weight' if cfg.architecture.startswith('resne') else 'patch_embed.proj.weight'
    if catalogue.takes_images(cfg.architecture) and (not stored or _ranked(tensors, first, 4) is None):
        raise ValueError(f'{origin} is no {cfg.architecture}: {found}')
    if stored and not serves(stored, cfg.architecture):
        problems.append(f'architecture {stored}, the model is {cfg.architecture}')
    if tagged and header.get('name') in catalogue.available_models():
        theirs, ours = catalogue.find(header['name'], header.get('zoo')), catalogue.find(timm_name)
        if (theirs.repo, theirs.safetensors) != (ours.repo, ours.safetensors):
            problems.append(f'name {theirs.name} of {theirs.zoo}, the model is {timm_name}')
    head = _head_of(tensors)
    num_classes = 0 if head is None else head.shape[0]
    if tagged and num_classes != cfg.num_classes:
        problems.append(f'{num_classes} classes, the model has {cfg.num_classes}')
    told, size = header.get('input_size'), input_size_of(tensors)
    if told and size and told[1] * told[2] != size[1] * size[2]:  # of one that is not square the area is known
        problems.append(f'its header says input size {list(told)}, its tensors are for {list(size)}')
    size = told or size
    if size and tuple(size) != tuple(cfg.input_size) and not any_size:
        problems.append(f'input size {list(size)}, the model takes {list(cfg.input_size)}')
    for field in ('mean', 'std') if tagged else ():
        if field in header and tuple(header[field]) != tuple(getattr(cfg, field)):
            problems.append(f'{field} {list(header[field])}, the model has {list(getattr(cfg, field))}')
    if problems:
        raise ValueError(f'{origin} is not {timm_name}: ' + '; '.join(problems))


def input_size_of(tensors: Tensors) -> tuple[int, int, int] | None:
    """Channels, height and width that a checkpoint was made for, from the shapes of its tensors; None if unknown."""
    kernel = _ranked(tensors, 'patch_embed.proj.weight', 4, 5)
    spatial, positions = _ranked(tensors, 'pos_embed_spatial', 3), _ranked(tensors, 'pos_embed', 3)
    if kernel is None or (spatial is None and positions is None):
        return None
    number = positions.shape[1] - 1 if spatial is None else spatial.shape[1]
    side = math.isqrt(number)
    return (kernel.shape[1], side * kernel.shape[-2], side * kernel.shape[-1]) if side ** 2 == number else None


def _without_values(tensors: Tensors) -> Tensors:
    """Names and shapes in timm's layout, without reading the file."""
    return to_timm({k: torch.empty(v.shape, device='meta') for k, v in tensors.items()})


def _head_of(tensors: Tensors) -> torch.Tensor | None:
    head = _ranked(tensors, 'head.weight', 2)
    return _ranked(tensors, 'fc.weight', 2) if head is None else head


def _ranked(tensors: Tensors, key: str, *ranks: int) -> torch.Tensor | None:
    """A tensor, if it is there, has values and one of these numbers of dimensions."""
    tensor = tensors.get(key)
    return tensor if tensor is not None and tensor.ndim in ranks and tensor.numel() else None


def recognise(tensors: Tensors) -> str | None:
    """The architecture of this package that a checkpoint belongs to, by the names and shapes of its tensors; 'gpt' or
    'vqgan' of a generator's."""
    shapes = {k: v.shape for k, v in _without_values(tensors).items()}
    for kind, key in _KEYS_OF_GENERATORS.items():
        if key in shapes:
            every = {repr(args): args for g in catalogue.GENERATORS for args in (_parts_of(g)[kind],)}
            return kind if any(shapes == _shapes_of(kind, args) for args in every.values()) else None
    for architecture in catalogue.ALL_ARCHITECTURES:
        model = timm.create_model(architecture, num_classes=0, device='meta', weight_init='skip')
        # Position embeddings follow the input's size, the head the classes.
        fixed = {k: v.shape for k, v in model.state_dict().items() if 'pos_embed' not in k}
        rest = {k for k in shapes if k not in fixed and 'pos_embed' not in k}
        if catalogue.takes_images(architecture):  # an image MAE's file holds a decoder, which is not in this package
            rest = {k for k in rest if not k.startswith(('decoder_', 'mask_token'))}
        heads = {'head.weight', 'head.bias', 'fc.weight', 'fc.bias'}
        if all(shapes.get(k) == shape for k, shape in fixed.items()) and rest <= heads:
            return architecture
    return None
