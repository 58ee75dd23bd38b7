"""Every private name of timm and torch that this package needs, each with the reason.

Such names may move in any release; here is the one place to mend.
"""

from collections.abc import Callable
from typing import Any

import torch
from huggingface_hub.utils import _http as hub_http  # the client's factory: setting another closes clients in use
from timm.models import _hub as timm_hub  # it downloads the configuration of an `hf-hub:` name
from timm.models._features import feature_take_indices  # which blocks `forward_intermediates` is asked for
from timm.models._hub import (
    download_cached_file,  # weights of a configuration's `url`, in timm's own cache
    save_config_for_hf,  # `config.json` of an exported folder; the public call writes weights too
)
from timm.models._input import (
    update_model_args,  # without it a model is saved without what its tag, not its caller, asked for
    update_model_input_size,  # without it a resized model is saved with its former size
)
from torch import nn
from torch.cpu import _is_amx_tile_supported, _is_avx512_bf16_supported  # torch has no public word for a CPU's bfloat16

__all__ = [
    'AnyMemoryFormat',
    'arm_has_bfloat16',
    'cpu_has_bfloat16',
    'download_cached_file',
    'feature_take_indices',
    'forward_hooks',
    'guard_timm_downloads',
    'hub_http',
    'save_config_for_hf',
    'update_model_args',
    'update_model_input_size',
]


class AnyMemoryFormat(nn.Module):
    """A module whose parameters have no memory format to be changed.

    `model.to(memory_format=torch.channels_last)` is for kernels of rank 4 and fails on those of rank 5. Only `_apply`,
    which torch's own recurrent layers override too, is asked of a module inside another one.
    """

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], *args: Any, **kwargs: Any) -> nn.Module:
        def apply(tensor: torch.Tensor) -> torch.Tensor:
            try:
                return fn(tensor)
            except RuntimeError:
                if tensor.ndim < 5:
                    raise
            return fn(tensor.flatten(1)).unflatten(1, tensor.shape[1:])  # a matrix has no such format

        return super()._apply(apply, *args, **kwargs)


def cpu_has_bfloat16() -> bool:
    """Whether an x86 CPU has instructions for bfloat16."""
    return _is_avx512_bf16_supported() or _is_amx_tile_supported()


def arm_has_bfloat16() -> bool:
    """Whether an ARM CPU has them, and this build of torch uses them."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def guard_timm_downloads(guard: Callable[[Callable[..., str]], Callable[..., str]]) -> None:
    """Have timm fetch what an `hf-hub:` name means through a function that wraps its own."""
    timm_hub.hf_hub_download = guard(timm_hub.hf_hub_download)  # pyright: ignore[reportPrivateImportUsage]  # no hook


def forward_hooks(module: nn.Module) -> list[Callable[..., Any]]:
    """The forward hooks of a module; torch lists those of all modules together only."""
    return list(module._forward_hooks.values())
