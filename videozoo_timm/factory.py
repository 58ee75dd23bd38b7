"""The zoos' own call, `load_model(name)`, and the same for a local file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm
import torch
from torch import nn

from . import catalogue
from .catalogue import PackagedGenerator
from .errors import UserError
from .identity import Resolved, find_source, resolve
from .models import build_filled
from .paths import as_path
from .weights import Source, locate

if TYPE_CHECKING:  # importing them takes as long as registering all models with timm
    from .models import VideoGenerator

__all__ = ['build', 'find_source', 'get_available_models', 'load_file', 'load_generator', 'load_model']


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
    `part='gpt'` or `part='vqgan'` for one of the two alone, `device`, `dtype` and `cache_dir`. A video generator
    of this package comes as a `VideoGenerator`, with the same arguments but `cache_dir`.

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


def load_generator(
    file: str | Path | None = None,
    *,
    gpt: str | Path | None = None,
    vqgan: str | Path | None = None,
    span: int | None = None,
    device: Any = None,
    dtype: torch.dtype | None = None,
    cache_dir: str | Path | None = None,
    refresh: bool = False,
) -> 'VideoGenerator':
    """A video generator with the weights of files, in eval mode.

    Args:
        file: `.safetensors` of this package that holds both models.
        gpt: Instead, one that holds the GPT: of this package, or a published Lightning checkpoint.
        vqgan: With it, the same of the VQGAN. `hf-hub:organization/repository/FILE` names a file on the Hub.
        span: Length of a clip in frames at 30 a second; None for what the file says.
        device: Device of both models.
        dtype: Data type of the GPT; the VQGAN, whose codes would differ, stays float32.
        cache_dir: Another cache for downloads and their conversions.
        refresh: Ask the Hub first whether the publisher has replaced a file.

    Raises:
        FileNotFoundError, PermissionError, ConnectionError: A file is not there, not allowed, or out of reach.
        ValueError: A file holds something else, or the two do not belong together.
    """
    from .models import VideoGenerator
    from .models.generator_files import read_video_parts

    named = {kind: path for kind, path in (('gpt', gpt), ('vqgan', vqgan)) if path is not None}
    if (file is None) == (not named) or (file is None and len(named) < 2):
        raise ValueError("name one file that holds a video generator, or two: load_generator(gpt='...', vqgan='...')")
    parts: dict[str, Any] = {}
    for kind, path in named.items() if file is None else [('generator', file)]:
        source = _source_of_part(path, kind, cache_dir)
        held = read_video_parts(source.file if source.file is not None else locate(source, refresh=refresh))
        wanted = {'gpt', 'vqgan'} if file is not None else {kind}
        if not wanted <= held.keys():
            raise ValueError(f'{path} holds no {" and no ".join(sorted(wanted - held.keys()))} of a video generator')
        parts |= {k: v for k, v in held.items() if k in wanted or k == 'span'}
    gpt_model, vqgan_model = parts['gpt'].to(device=device, dtype=dtype), parts['vqgan'].to(device=device)
    told = span if span is not None else parts.get('span')
    return VideoGenerator(gpt_model, vqgan_model, **({} if told is None else {'span': told})).eval()


def _source_of_part(path: str | Path, kind: str, cache_dir: str | Path | None) -> Source:
    prefix, _, rest = str(path).partition('hf-hub:')
    if prefix or not rest:
        if str(path) in get_available_models() and not as_path(path).exists():
            raise FileNotFoundError(f'{path}: no such file; it is the name of a model, so load it by its name')
        return Source(file=as_path(path))
    if rest.count('/') < 2:
        raise UserError('{path}: name a file, hf-hub:organization/repository/FILE', path=path)
    organization, repo, filename = rest.split('/', 2)
    return Source(
        repo=f'{organization}/{repo}',
        filename=f'{filename.rsplit(".", 1)[0]}.safetensors',
        published=filename,
        cache_dir=cache_dir and Path(cache_dir).expanduser(),
        about=dict(name=Path(filename).stem, architecture=f'video_{kind}'),
    )


def _build_packaged(
    record: PackagedGenerator,
    pretrained: bool,
    *,
    part: str | None = None,
    device: Any = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    from .models import GPT, VideoGenerator, VideoVQGAN

    _check_part(part)
    generator = load_generator(record.packaged, device=device, dtype=dtype)
    if not pretrained:
        gpt = GPT(**generator.gpt.config, device=device, dtype=dtype)
        vqgan = VideoVQGAN(generator.vqgan.config, device=device)
        generator = VideoGenerator(gpt, vqgan, generator.span).eval()
    return getattr(generator, part) if part else generator


def _check_part(part: str | None) -> None:
    if part not in (None, 'gpt', 'vqgan'):
        raise ValueError(f"part={part!r}: must be 'gpt' or 'vqgan', or None for both")


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
    if isinstance(resolved.record, PackagedGenerator):
        return _build_packaged(resolved.record, bool(pretrained), **timm_kwargs)
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
    from .models import GPT, VQGAN, ImageGenerator

    _check_part(part)
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
