"""Read tensors from a pickle without running it, within limits of memory and time.

A PyTorch checkpoint is a pickle, and a pickle is a program. `pickle_child.py` unpickles it in a process of its own with
limits of memory and time, and reports where in the file each tensor is. Here every one of these numbers is checked, and
the tensors are mapped. Every name that a pickle asks for becomes an inert placeholder. So an `argparse.Namespace`, a
Lightning callback or an attack are equally harmless, and equally cheap.
"""

import json
import math
import mmap
import os
import signal
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import torch

from ..files import check_regular
from ..text import printable
from .header import torch_dtypes

ENDINGS = ('.pth', '.pt', '.ckpt', '.bin')  # of files of weights that are pickles

# What reading a pickle may take; the tensors are not counted, since they are not in it. That of `mae_h14` with its
# optimizer (7.6 GB) takes 20 MB and 0.1 s.
MEMORY = 1024  # MB; the variable VIDEOZOO_PICKLE_MEMORY says another number
SECONDS = 3  # of computing; VIDEOZOO_PICKLE_SECONDS
PATIENCE = 20  # times that by the clock: disks may be slow, and the machine busy
# How much larger than its file a checkpoint may be whose tensors are compressed (PyTorch itself compresses none), and
# what any may take.
UNPACKED_RATIO, UNPACKED = 20, 64 << 20

_CHILD = Path(__file__).with_name('pickle_child.py')
_STORED, _DEFLATED = 0, 8  # compression methods of zip
_DTYPES = {str(dtype).removeprefix('torch.'): dtype for dtype in torch_dtypes().values()}


class Inert:
    """Anything in a checkpoint that is not a tensor.

    Attributes:
        name: What it was, `'argparse.Namespace'` for instance.
        state: Its pickled state, mostly a dictionary of its attributes; None without one.
    """

    __slots__ = ('name', 'state')

    def __init__(self, name: str) -> None:
        self.name, self.state = printable(name, 100), None

    def __repr__(self) -> str:
        return f'<{self.name}>'


def load_inert(path: Path, mapped: bool = True) -> Any:
    """Load a PyTorch checkpoint with everything but tensors inert.

    Args:
        path: File of `torch.save`, in the zip format or that of PyTorch before 1.6.
        mapped: Map the tensors from the file, where they lie in it as they are; private copies on write.

    Returns:
        Dictionaries, lists (tuples and sets too), text, numbers and tensors as they are, all else as `Inert`.

    Raises:
        ValueError: The file is no such checkpoint, is damaged, or takes more memory or time than is allowed.
        OSError: It cannot be read, or no process can be started.
    """
    check_regular(path)
    # What comes in the place of the file now is not waited for either.
    with open(path, 'rb', opener=lambda p, flags: os.open(p, flags | getattr(os, 'O_NONBLOCK', 0))) as file:
        try:
            return _Table(file, mapped).build(_ask_child(file))
        except _Unreadable as error:
            raise ValueError(f'{path} is no readable PyTorch checkpoint: {error}') from error


class _Unreadable(ValueError):
    """Why a file is not read."""


def _ask_child(file: BufferedReader) -> list[list[Any]]:
    """The lines of `pickle_child.py`."""
    megabytes, seconds = _limit('VIDEOZOO_PICKLE_MEMORY', MEMORY), _limit('VIDEOZOO_PICKLE_SECONDS', SECONDS)
    if not sys.executable or getattr(sys, 'frozen', False):
        raise OSError(
            'pickles are read in a process of their own, and this Python does not know its own program (sys.executable '
            'is empty); convert the file elsewhere with `videozoo convert`, .safetensors need no such process'
        )
    too_much = f'more than {megabytes} MB to unpickle; if you trust it, VIDEOZOO_PICKLE_MEMORY=<MB> allows more'
    too_long = f'more than {seconds} s to unpickle; if you trust it, VIDEOZOO_PICKLE_SECONDS=<SECONDS> allows more'
    late = threading.Event()
    try:
        child = subprocess.Popen(
            [sys.executable, '-I', '-S', str(_CHILD), str(megabytes), str(seconds)],
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError as error:
        raise OSError(f'no process to read a pickle in: {sys.executable} cannot be started ({error})') from error
    with child:
        timer = threading.Timer(min(PATIENCE * seconds, threading.TIMEOUT_MAX), lambda: (late.set(), child.kill()))
        timer.daemon = True
        timer.start()
        try:
            pipe = cast('IO[bytes]', child.stdout)
            answer = b''.join(islice(iter(lambda: pipe.read(1 << 20), b''), megabytes))
            code = child.wait()
        finally:
            timer.cancel()
            child.kill()
    if late.is_set() or code == -getattr(signal, 'SIGXCPU', math.inf):
        raise _Unreadable(f'it takes {too_long}')
    if code < 0:
        raise _Unreadable(
            f'it ends its reader ({signal.Signals(-code).name}): nested too deeply, or it takes {too_much}'
        )
    try:
        lines = [json.loads(line) for line in answer.splitlines()]
    except ValueError:
        lines = []
    if code or not lines:
        raise OSError(f'the process that reads pickles ended with exit code {code} ({sys.executable} {_CHILD})')
    if isinstance(lines[0], dict):
        raise _Unreadable(printable(lines[0].get('error') or f'it takes {too_much}', 500))
    return lines


def _limit(variable: str, default: int) -> int:
    text = os.environ.get(variable, '')
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:9]) == int(text[:10]):
        raise ValueError(f'{variable}={text!r}: must be a whole number above 0')
    return int(text)


class _Table:
    """The tensors of a file, from the positions that `pickle_child.py` reports."""

    def __init__(self, file: BufferedReader, mapped: bool) -> None:
        self._file, self._size = file, os.fstat(file.fileno()).st_size
        self._map = None
        if mapped:
            private = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            self._map = torch.frombuffer(private, dtype=torch.uint8).untyped_storage()
        self._storages, self._places = {}, []

    def build(self, lines: list[list[Any]]) -> Any:
        """Build the checkpoint from lines, whose format `pickle_child.py` documents."""
        self._places = [line[1:] for line in lines if line[0] == 'storage']
        self._check_places()
        lines = lines[len(self._places) :]
        makers: dict[str, Callable[..., Any]] = dict(
            dict=lambda *_: {}, list=lambda *_: [], inert=lambda name, _: Inert(name), tensor=self._tensor
        )
        objects = [makers[kind](*parts) for kind, *parts in lines]

        def meant(value: Any) -> Any:
            return objects[value[0]] if isinstance(value, list) else value

        for made, (kind, *parts) in zip(objects, lines, strict=True):
            if kind == 'dict':
                made.update(zip(map(meant, parts[::2]), map(meant, parts[1::2]), strict=True))
            elif kind == 'list':
                made.extend(map(meant, parts))
            elif kind == 'inert':
                made.state = meant(parts[1])
        return objects[0]

    def _check_places(self) -> None:
        end = unpacked = 0
        for start, length, method, nbytes in sorted(self._places):
            if min(start, length, nbytes) < 0 or start + length > self._size or method not in (_STORED, _DEFLATED):
                raise _Unreadable('a storage lies outside of the file')
            if method == _STORED and nbytes != length:
                raise _Unreadable('a storage is longer than what is stored of it')
            if start < end:
                raise _Unreadable('its storages lie upon each other')
            end = start + length
            unpacked += nbytes if method == _DEFLATED else 0
        if unpacked > max(UNPACKED_RATIO * self._size, UNPACKED):
            raise _Unreadable(
                f'{unpacked / 1e6:.0f} MB of tensors are compressed to {self._size / 1e6:.1f} MB, more than '
                f'{UNPACKED_RATIO} to 1; if you trust it, write it again with torch.save, which compresses nothing'
            )

    def _tensor(self, name: str, row: int, offset: int, shape: list[int], stride: list[int]) -> Any:
        dtype = _DTYPES.get(name)
        if dtype is None:
            return Inert(f'torch.{name}')
        if (
            len(shape) > 64
            or min([offset, *shape, *stride]) < 0
            or (math.prod(n or 1 for n in shape) * dtype.itemsize >= 1 << 63)
        ):
            raise _Unreadable('a tensor in it has sizes or strides that no tensor has')
        last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
        end = last + 1 if math.prod(shape) else 0
        nbytes = self._places[row][3]
        if end * dtype.itemsize > nbytes:
            raise _Unreadable(f'a tensor {shape} in it is to lie outside of its storage of {nbytes} bytes')
        if not math.prod(shape):
            return torch.empty(shape, dtype=dtype)
        return torch.empty(0, dtype=dtype).set_(self._storage(row), offset, shape, stride)

    def _storage(self, row: int) -> torch.UntypedStorage:
        if row not in self._storages:
            start, length, method, _ = self._places[row]
            if self._map is not None and method == _STORED and start % 8 == 0:  # as wide as an element is
                self._storages[row] = self._map[start : start + length]
            else:
                self._storages[row] = torch.frombuffer(self._read(row), dtype=torch.uint8).untyped_storage()
        return self._storages[row]

    def _read(self, row: int) -> bytearray:
        start, length, method, nbytes = self._places[row]
        data = bytearray(nbytes)
        self._file.seek(start)
        if method == _STORED:
            filled = self._file.readinto(data)
        else:
            unpacker, filled = zlib.decompressobj(-zlib.MAX_WBITS), 0
            while length > 0 and filled < nbytes and (block := self._file.read(min(length, 1 << 20))):
                length -= len(block)
                while block and filled < nbytes:
                    part = unpacker.decompress(block, min(nbytes - filled, 1 << 24))
                    data[filled : filled + len(part)] = part
                    filled, block = filled + len(part), unpacker.unconsumed_tail
        if filled != nbytes:
            raise _Unreadable('a storage is shorter than its table of contents says')
        return data
