"""A function on one batch after the other, so that the device that computes never waits for the next one.

On a GPU a batch is started before the results of the one before are fetched. Its clips go there from pinned memory
while the one before is still computed. On other devices a batch's results are there when it has been started.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..errors import UserError
from .checks import checked_model

Function = Callable[[torch.Tensor], torch.Tensor]

_FIRST_ROWS = 16  # of a buffer, which grows to the size of a batch as far as it is needed
_COMPILER = dict(darwin='clang++', win32='cl').get(sys.platform, 'g++')  # PyTorch's own choice


def check_compiler() -> None:
    """Refuse to compile where PyTorch finds no C++ compiler.

    Raises:
        ValueError: There is none.
    """
    name = os.environ.get('CXX') or _COMPILER
    if not shutil.which(name):
        raise UserError(
            '{compile}: PyTorch compiles models with a C++ compiler, and there is no {}; install it, name another in '
            'the environment variable CXX, or compile nothing',
            name,
            compile=True,
        )


@contextmanager
def compiled_blocks(model: nn.Module) -> Iterator[None]:
    """The model with its blocks compiled; of the parts of a ViT they take nearly all of the time.

    They are alike, so that one of them is compiled for all, in the time of one.

    Args:
        model: A ViT, or a ResNet, of which the stages are compiled.

    Raises:
        ValueError: There is no C++ compiler.
    """
    check_compiler()
    inner = checked_model(model)
    stages = (part for part in inner.children() if isinstance(part, nn.Sequential))
    parts: list[Any] = list(inner.blocks if hasattr(inner, 'blocks') else stages)
    before = [vars(part).get('forward') for part in parts]
    try:
        for part in parts:
            part.forward = torch.compile(part.forward, dynamic=False)
        yield
    finally:
        for part, forward in zip(parts, before, strict=True):
            vars(part).pop('forward', None)
            if forward is not None:
                part.forward = forward


def is_asynchronous(device: torch.device) -> bool:
    """Whether a device computes while this process goes on, and its results are waited for in a way that we know."""
    return device.type == 'cuda'


class Launched:
    """A batch that has been started."""

    def __init__(self, values: torch.Tensor, event: Any = None) -> None:
        self._values, self._event = values, event

    def values(self) -> torch.Tensor:
        """float32 [B, ...] on the CPU; waits for the device."""
        if self._event is None:
            return self._values
        self._event.synchronize()
        return self._values.clone()  # pinned memory is scarce


class Runner:
    """Runs a function on batches.

    Args:
        function: From a batch [B, ...] to one row for each of its items [B, ...].
        device: Of the function's input.
        dtype: Of the function's input.
        batch_size: Items of a whole batch.
        whole: Fill every batch up with zeros to `batch_size`: what is compiled would be compiled anew for another size.

    Attributes:
        is_ahead: Whether a batch is to be started before the values of the one before are asked for. That one alone may
            be outstanding: its memory is that of the next one but one.
    """

    def __init__(
        self, function: Function, device: torch.device, dtype: torch.dtype, batch_size: int, whole: bool = False
    ) -> None:
        self.function, self.device, self.dtype = function, device, dtype
        self.batch_size, self.whole = batch_size, whole
        self.is_ahead = is_asynchronous(device)
        self._copying = torch.cuda.Stream(device) if device.type == 'cuda' else None
        self._buffers: list[torch.Tensor] = []  # the next one to be filled comes last
        self._number = 0

    def add(self, x: torch.Tensor) -> torch.Tensor:
        """Add an item [...] to the next batch; gives its copy there, valid until the values of that batch are there."""
        if self._number == 0 and len(self._buffers) < 1 + self.is_ahead:
            rows = self.batch_size if self.whole else min(self.batch_size, _FIRST_ROWS)
            self._buffers.append(self._memory(rows, x.shape))
        buffer = self._buffers[-1]
        if self._number == len(buffer):
            self._buffers[-1] = self._memory(min(self.batch_size, 2 * len(buffer)), x.shape)
            self._buffers[-1][: len(buffer)] = buffer
            buffer = self._buffers[-1]
        if x.shape != buffer.shape[1:]:
            raise ValueError(f'views of {list(x.shape)} and {list(buffer.shape[1:])} do not fit into one batch')
        row = buffer[self._number]
        row.copy_(x)
        self._number += 1
        return row

    def start(self) -> Launched:
        """Start the batch of what was added."""
        number, self._number = self._number, 0
        if not number:
            return Launched(torch.empty(0))
        buffer = self._buffers[-1]
        self._buffers.insert(0, self._buffers.pop())
        rows = len(buffer) if self.whole else number
        buffer[number:rows] = 0
        x = self._to_device(buffer[:rows])  # [B, ...]
        values = self.function(x)[:number].float()
        if self._copying is None:
            values = values.cpu()
            memory = values.untyped_storage()
            # A part of the input is overwritten by the next batch. A part of anything else, as the class token of all,
            # would keep the whole of it for as long as the rows are kept.
            is_part = memory.nbytes() > values.nbytes or memory.data_ptr() == buffer.untyped_storage().data_ptr()
            return Launched(values.clone() if is_part else values)
        host = self._memory(number, values.shape[1:], torch.float32)
        host.copy_(values, non_blocking=True)
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self.device))
        return Launched(host, event)

    def _memory(self, rows: int, shape: Any, dtype: torch.dtype | None = None) -> torch.Tensor:
        return torch.empty(rows, *shape, dtype=dtype or self.dtype, pin_memory=self._copying is not None)

    def _to_device(self, x: torch.Tensor) -> torch.Tensor:
        if self._copying is None:
            return x.to(self.device)
        computing = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._copying):
            x = x.to(self.device, non_blocking=True)
        computing.wait_stream(self._copying)
        x.record_stream(computing)
        return x
