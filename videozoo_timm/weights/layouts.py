"""Published key layouts -> timm's."""

import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

import torch

from ..text import printable
from .pickles import Inert

Tensors = dict[str, torch.Tensor]

_MOST_SETTINGS = 500  # of a training run
_MOST_SHARED = 16  # tensors of a model that share one storage, on average: tied layers are few

# DINO and Mugs keep the encoder beside a projection head, and all of it twice, as teacher and as student.
# Averaged weights come before those that were trained, as in timm.
_CONTAINERS = ('teacher', 'state_dict_ema', 'model_ema', 'model', 'state_dict', 'model_state_dict')
_WRAPPERS = ('backbone.', 'encoder.')
_GPT = 'transformer.'  # of the video generators, beside `first_stage_model.`, the VQGAN
_LOSSES = ('image_discriminator.', 'video_discriminator.', 'perceptual_model.')  # of their VQGAN's training
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


def hyper_parameters(checkpoint: Any) -> dict[str, Any]:
    """The configuration in a Lightning checkpoint: numbers, texts and lists of them by name; empty if there is none.

    It may stand in a dictionary, in a Namespace, or in a Namespace in a dictionary, which is not run.
    """
    held = checkpoint.get('hyper_parameters') if isinstance(checkpoint, Mapping) else None
    held = held.state if isinstance(held, Inert) else held
    if not isinstance(held, Mapping):
        return {}
    found: dict[str, Any] = {}
    for inner in (held, *(v.state for v in held.values() if isinstance(v, Inert) and isinstance(v.state, Mapping))):
        for key, value in islice(inner.items(), _MOST_SETTINGS):
            plain = value if isinstance(value, (list, tuple)) else [value]
            if isinstance(key, str) and len(plain) <= 16 and all(map(_is_plain, plain)):
                found[printable(key, 100)] = value
    return found


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) <= 1000)


def _kind_of(value: Any) -> str:
    return value.name if isinstance(value, Inert) else type(value).__name__


def to_timm(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """Convert a checkpoint to timm's layout; one that has it already stays as it is.

    Separate q, k and v become one qkv. An encoder is taken out of the module that wrapped it in training, and so is the
    GPT of a video generator, without the VQGAN beside it. The causal mask of a GPT and the discriminators and the
    perceptual model of a VQGAN are left out.

    Raises:
        ValueError: An attention layer lacks one of its three parts.
    """
    tensors = {_AROUND.sub('', k): v for k, v in tensors.items()}
    if f'{_GPT}tok_emb.weight' in tensors:
        tensors = {k.removeprefix(_GPT): v for k, v in tensors.items() if k.startswith(_GPT)}
    wrapper = next((w for w in _WRAPPERS if tensors.keys() & {f'{w}patch_embed.proj.weight', f'{w}conv1.weight'}), '')
    projection = _PROJECTION if wrapper else _PROJECTION_ALONE
    tensors = {
        k.removeprefix(wrapper): v for k, v in tensors.items() if not projection.match(k) and not _CAUSAL_MASK.match(k)
    }
    if 'quantize.embedding.weight' in tensors:
        tensors = {k: v for k, v in tensors.items() if not k.startswith('loss.')}
    if 'codebook.embeddings' in tensors:
        tensors = {k: v for k, v in tensors.items() if not k.startswith(_LOSSES)}
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
