"""Files of generators of videos: a tokenizer (3-D VQGAN), or a tokenizer and its prior (GPT) in one.

A file is safetensors. The tensors are named `vqgan.` and `gpt.` with their names in the models; the header has what
each is built from as JSON, under `vqgan` and `gpt`, and the time that a clip spans, under `span`.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import UserError
from ..models.gpt import GPT
from ..models.video_vqgan import VideoVQGAN, VideoVQGANConfig
from ..weights.reading import read_header, read_weights
from ..weights.writing import save_tensors
from .run_folder import writing


def gpt_config(gpt: GPT) -> dict[str, int]:
    """What a GPT is built from."""
    return dict(
        vocab_size=gpt.vocab_size,
        block_size=gpt.block_size,
        depth=len(gpt.blocks),
        num_heads=gpt.num_heads,
        embed_dim=gpt.embed_dim,
    )


def save_generator(
    accelerator: Any, path: Path, model: nn.Module, *, span: int, vqgan: VideoVQGAN, gpt: GPT | None = None
) -> None:
    """Write a tokenizer, or a tokenizer and its prior.

    Args:
        accelerator: All of its processes must call this; the first writes.
        path: `.safetensors`.
        model: What was trained, with `vqgan` or `gpt` as a part.
        span: Time that a clip spans, in frames at 30 a second.
        vqgan: The tokenizer.
        gpt: The prior over its codes.

    Raises:
        OSError: The disk is full, or the folder cannot be written.
    """
    trained = {k: v for k, v in accelerator.get_state_dict(model).items() if k.startswith(('vqgan.', 'gpt.'))}
    tensors = {f'vqgan.{key}': value for key, value in vqgan.state_dict().items()} | trained
    header: dict[str, Any] = dict(format='pt', span=span, vqgan=asdict(vqgan.config))
    header |= dict(gpt=gpt_config(gpt)) if gpt else {}
    with writing(accelerator, path, sum(tensor.nbytes for tensor in tensors.values())):
        if accelerator.is_main_process:
            save_tensors({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, path, header)


def load_tokenizer(path: Path) -> tuple[VideoVQGAN, int]:
    """The tokenizer of a file, in float32 on the CPU, and the time that its clips span.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It holds no tokenizer that this package has written.
    """
    header = read_header(path)
    try:
        told: Mapping[str, Any] = json.loads(header['vqgan'])
        vqgan = VideoVQGAN(VideoVQGANConfig(**told))
        span = int(header['span'])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            '{} holds no tokenizer ({}); the command pretrain-tokenizer makes one', path, str(error) or 'no header'
        ) from error
    tensors = read_weights(path).tensors
    state = {key.removeprefix('vqgan.'): value.float() for key, value in tensors.items() if key.startswith('vqgan.')}
    vqgan.load_state_dict(state)
    return vqgan, span
