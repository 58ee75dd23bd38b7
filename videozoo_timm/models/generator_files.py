"""Files of video generators: published Lightning checkpoints of either part, and our own of one or both.

A Lightning file says its configuration in its `hyper_parameters`; ours in its header as `config`, in the words of this
package. The tensors of our whole file have the keys of both parts under `gpt.` and `vqgan.`.
"""

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..text import printable
from ..weights import Tensors, read_weights, to_timm
from ..weights.writing import save_tensors
from .building import fill
from .gpt import GPT
from .video_generator import VideoGenerator
from .video_vqgan import VideoVQGAN, VideoVQGANConfig

__all__ = ['SUMS', 'read_video_parts', 'save_video_generator']

_PUBLISHED = {  # words of the published VQGAN's configuration -> ours
    'n_codes': 'num_codes',
    'embedding_dim': 'embed_dim',
    'n_hiddens': 'ch',
    'downsample': 'downsample',
    'norm_type': 'norm',
    'padding_type': 'padding',
    'resolution': 'resolution',
    'image_channels': 'in_channels',
}
SUMS = ('codebook.N', 'codebook.z_avg')  # that only training needs; a file may lack them
_DEEPEST = 1000  # blocks


def read_video_parts(path: Path) -> dict[str, Any]:
    """The parts that a file holds: 'gpt' and 'vqgan', filled, in float32 on the CPU; and 'span' if it says it.

    The span is said by a whole generator, and by a tokenizer that this package has trained.

    Args:
        path: Published or our own.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It holds neither, or does not say its configuration, or another than its tensors have.
    """
    tensors, header = read_weights(path)
    config = header.get('config') or {}
    if any(key.startswith('vqgan.') for key in tensors):
        parts: dict[str, Any] = {}
        for kind in ('gpt', 'vqgan'):
            own = {k.removeprefix(f'{kind}.'): v for k, v in tensors.items() if k.startswith(f'{kind}.')}
            parts[kind] = _built(kind, own, _dictionary(config, kind, path), {}, path)
        return parts | _span_of(config, path)
    tensors = to_timm(tensors)
    kind = 'vqgan' if 'codebook.embeddings' in tensors else 'gpt' if 'tok_emb.weight' in tensors else ''
    if not kind:
        found = [printable(key, 80) for key in list(tensors)[:4]]
        raise ValueError(f'{path} holds no part of a video generator: its tensors are {found} and so on')
    part = _built(kind, tensors, config, header.get('hyper_parameters') or {}, path)
    return {kind: part} | (_span_of(header, path) if kind == 'vqgan' else {})


def _span_of(told: Mapping[str, Any], path: Path) -> dict[str, int]:
    value = told.get('span')
    if value is None:
        return {}
    text = str(value)  # in a header all is text
    if not (text.isascii() and text.isdigit() and 1 <= len(text) <= 6 and int(text)):
        raise ValueError(
            f'{path}: what it says of itself is invalid: span is {printable(value, 80)}, must be a whole number of '
            f'frames, at least 1'
        )
    return {'span': int(text)}


def save_video_generator(model: VideoGenerator | GPT | VideoVQGAN, path: Path, about: Mapping[str, Any]) -> None:
    """Write a generator, or a part of one, as `read_video_parts` reads it; whole or not at all.

    The running sums of the codebook, which only training needs, are left out of a whole generator.

    Args:
        model: What to write.
        path: `.safetensors`.
        about: Header fields: name, zoo, source.

    Raises:
        WriteError: The disk is full, or not to be written.
    """
    if isinstance(model, VideoGenerator):
        kind = 'video_generator'
        config: dict[str, Any] = dict(gpt=model.gpt.config, vqgan=asdict(model.vqgan.config), span=model.span)
    elif isinstance(model, GPT):
        kind, config = 'video_gpt', model.config
    else:
        kind, config = 'video_vqgan', asdict(model.config)
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    if kind == 'video_generator':
        tensors = {k: v for k, v in tensors.items() if not k.endswith(SUMS)}
    save_tensors(tensors, path, {'format': 'pt', **about, 'architecture': kind, 'config': config}, sealed=True)


def _built(kind: str, tensors: Tensors, config: dict[str, Any], published: dict[str, Any], path: Path) -> nn.Module:
    try:
        if kind == 'gpt':
            model = _gpt(tensors, config, published)
        else:
            model = VideoVQGAN(_vqgan_config(config, published), device='meta')
            vectors = tensors.get('codebook.embeddings')
            if vectors is not None and vectors.ndim == 2:
                started = dict(zip(SUMS, (torch.ones(len(vectors)), vectors.clone()), strict=True))
                tensors = started | tensors
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f'{path}: its configuration is invalid: {printable(error, 300)}') from error
    fill(model, tensors, str(path))
    return model.eval()


def _gpt(tensors: Tensors, config: dict[str, Any], published: dict[str, Any]) -> GPT:
    for word in ('n_unmasked', 'vtokens_pos'):
        if published.get(word):
            raise ValueError(f'{word}={published[word]}: GPTs that see codes out of order are not supported')
    heads = config.get('num_heads', published.get('n_head'))
    if type(heads) is not int or heads < 1:
        raise ValueError(f'the number of attention heads is {heads} (n_head in its hyper_parameters)')
    words, positions = tensors.get('tok_emb.weight'), tensors.get('pos_emb')
    if words is None or words.ndim != 2 or positions is None or positions.ndim != 3:
        raise ValueError('it lacks the embeddings of codes and positions of a GPT')
    depth = len({key.split('.')[1] for key in tensors if key.startswith('blocks.')})
    if depth > _DEEPEST:  # building them would take minutes
        raise ValueError(f'it has {depth} blocks, more than {_DEEPEST}')
    return GPT(len(words), positions.shape[1], depth, heads, words.shape[1], device='meta')


def _vqgan_config(config: dict[str, Any], published: dict[str, Any]) -> VideoVQGANConfig:
    if not config:
        if missing := sorted({'downsample', 'n_hiddens', 'n_codes', 'embedding_dim', 'norm_type'} - published.keys()):
            raise ValueError(f'it does not say {", ".join(missing)} (in its hyper_parameters)')
        config = {ours: published[theirs] for theirs, ours in _PUBLISHED.items() if theirs in published}
        length, every = published.get('sequence_length'), published.get('sample_every_n_frames') or 1
        if type(length) is int and type(every) is int:
            config['num_frames'] = length // every
    known = {field.name for field in fields(VideoVQGANConfig)}
    told: dict[str, Any] = {k: v for k, v in config.items() if k in known}
    if isinstance(told.get('downsample'), list):
        told['downsample'] = tuple(told['downsample'])
    return VideoVQGANConfig(**told)


def _dictionary(config: Mapping[str, Any], kind: str, path: Path) -> dict[str, Any]:
    value = config.get(kind)
    if not isinstance(value, dict):
        raise ValueError(f'{path} does not say the configuration of its {kind}')
    return value
