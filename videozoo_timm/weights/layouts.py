"""Published key layouts -> timm's."""

import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

import torch

from ..text import printable
from .pickles import Inert

Tensors = dict[str, torch.Tensor]

_MOST_SHARED = 16  # tensors of a model that share one storage, on average: tied layers are few

# DINO and Mugs keep the encoder beside a projection head, and all of it twice, as teacher and as student.
# Averaged weights come before those that were trained, as in timm.
_CONTAINERS = ('teacher', 'state_dict_ema', 'model_ema', 'model', 'state_dict', 'model_state_dict')
_WRAPPERS = ('backbone.', 'encoder.')
# What DistributedDataParallel, torch.compile, FSDP and activation checkpointing put into keys, around all or a part.
_AROUND = re.compile(r'^(module\.|_orig_mod\.)+|(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.')
_PROJECTION = re.compile(r'(\w+_)?head\.')
_PROJECTION_ALONE = re.compile(r'head\.(mlp|last_layer)\.')
_SEPARATE = re.compile(r'(?P<attention>(?:.*\.)?attn)\.(?P<part>[qkv]|query|key|value)\.(?P<kind>weight|bias)$')
_CAUSAL_MASK = re.compile(r'blocks\.\d+\.attn\.mask$')


def model_tensors(checkpoint: Any, origin: str) -> Tensors:
    """The model's tensors in what a checkpoint holds.

    Args:
        checkpoint: `{'model': {key: tensor}, ...}` as the MAEs are published, `{'teacher': {key: tensor}, ...}` as
            DINO and Mugs are, or `{key: tensor}` itself, or a dictionary that has it as `state_dict` (VQGAN) or
            `model_state_dict` (GPT); of a training run with averaged weights those (`state_dict_ema`).
        origin: Where it is from, for errors.

    Raises:
        ValueError: It holds no model, or something in its model is not a tensor.
    """
    held = checkpoint
    if isinstance(held, Mapping):
        held = next((held[key] for key in _CONTAINERS if isinstance(held.get(key), Mapping)), held)
    if not isinstance(held, Mapping) or not any(isinstance(v, torch.Tensor) for v in held.values()):
        found = (
            f'its keys are {[printable(k, 80) for k in islice(checkpoint, 8)]}'
            if (isinstance(checkpoint, Mapping))
            else f'it holds a {_kind_of(checkpoint)}'
        )
        raise ValueError(f"{origin} holds no model: {found}, a checkpoint has its tensors under 'model' or 'teacher'")
    for key, value in held.items():
        called = f"{origin}: '{printable(key, 200)}'"
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise ValueError(f'{called} in its model is no tensor but {_kind_of(value)}')
        if value.nbytes > value.untyped_storage().nbytes():
            raise ValueError(f'{called} {list(value.shape)} is larger than what is stored of it')
    stored = {v.untyped_storage().data_ptr(): v.untyped_storage().nbytes() for v in held.values()}
    if sum(v.nbytes for v in held.values()) > _MOST_SHARED * sum(stored.values()):
        raise ValueError(f'{origin}: its tensors lie upon each other, more than {_MOST_SHARED} in the same place')
    return {key.removeprefix('module.'): value.detach() for key, value in held.items()}


def _kind_of(value: Any) -> str:
    return value.name if isinstance(value, Inert) else type(value).__name__


def to_timm(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """Convert a checkpoint to timm's layout; one that has it already stays as it is.

    Separate q, k and v become one qkv. An encoder is taken out of the module that wrapped it in training. The causal
    mask of a GPT and the discriminator of a VQGAN are left out.

    Raises:
        ValueError: An attention layer lacks one of its three parts.
    """
    tensors = {_AROUND.sub('', k): v for k, v in tensors.items()}
    wrapper = next((w for w in _WRAPPERS if tensors.keys() & {f'{w}patch_embed.proj.weight', f'{w}conv1.weight'}), '')
    projection = _PROJECTION if wrapper else _PROJECTION_ALONE
    tensors = {
        k.removeprefix(wrapper): v for k, v in tensors.items() if not projection.match(k) and not _CAUSAL_MASK.match(k)
    }
    if 'quantize.embedding.weight' in tensors:
        tensors = {k: v for k, v in tensors.items() if not k.startswith('loss.')}
    converted = {}
    for key, value in tensors.items():
        match = _SEPARATE.match(key)
        if not match:
            converted[key] = value
            continue
        attention, kind = match['attention'], match['kind']
        names = 'qkv' if match['part'] in 'qkv' else ('query', 'key', 'value')
        parts = [f'{attention}.{part}.{kind}' for part in names]
        absent = [part for part in parts if part not in tensors]
        if absent:
            raise ValueError(f'the checkpoint has {printable(key, 200)} but lacks {printable(", ".join(absent), 600)}')
        if match['part'] == names[0]:
            converted[f'{attention}.qkv.{kind}'] = torch.cat([tensors[part] for part in parts])
    return converted
