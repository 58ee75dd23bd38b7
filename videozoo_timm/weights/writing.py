"""Safetensors files that say what they hold, equal to the byte where they hold the same."""

import ctypes
import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ..files import MAKE_ROOM, atomic_write


def save_tensors(
    tensors: Mapping[str, torch.Tensor],
    target: Path,
    header: Mapping[str, Any],
    remedy: str = MAKE_ROOM,
    durable: bool = False,
    sealed: bool = False,
) -> None:
    """Write a safetensors file, whole or not at all; what is no text in the header becomes JSON, None is left out.

    Args:
        tensors: Contiguous, on the CPU.
        target: File to write.
        header: Its entries.
        remedy: As in `explain_write_errors`.
        durable: As in `atomic_write`.
        sealed: Put `content_digest` into the header, as `content_sha256`.

    Raises:
        WriteError: The disk is full, or not to be written.
    """
    metadata = {k: v if isinstance(v, str) else json.dumps(v) for k, v in header.items() if v is not None}
    needed = sum(tensor.nbytes for tensor in tensors.values())
    # Hashed while it is written: both let Python go on.
    with atomic_write(target, needed, remedy, durable) as partial, ThreadPoolExecutor(1) as pool:
        digest = pool.submit(content_digest, tensors, metadata) if sealed else None
        save_file(dict(tensors), partial, metadata=metadata | ({'content_sha256': '0' * 64} if sealed else {}))
        _sort_header(partial, {'content_sha256': digest.result()} if digest else {})


def content_digest(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> str:
    """The sha256 of names, types, shapes and values of tensors, and of a header but for its `content_sha256`."""
    rows = []
    for key, value in sorted(tensors.items()):
        value = value.contiguous()
        data = (ctypes.c_char * value.nbytes).from_address(value.data_ptr()) if value.nbytes else b''
        rows.append([key, str(value.dtype), list(value.shape), hashlib.sha256(data).hexdigest()])
    told = sorted((k, v) for k, v in metadata.items() if k != 'content_sha256')
    return hashlib.sha256(json.dumps([rows, told]).encode()).hexdigest()


def _sort_header(path: Path, late: Mapping[str, str]) -> None:
    """Give equal files equal bytes, and so equal digests: safetensors writes metadata in random order.

    `late` are entries that are known now; those that were written in their place are as long.
    """
    with open(path, 'r+b') as file:
        size = int.from_bytes(file.read(8), 'little')
        header = json.loads(file.read(size))
        header['__metadata__'] = dict(sorted((header.get('__metadata__', {}) | late).items()))
        text = json.dumps(header, separators=(',', ':'), ensure_ascii=False).encode().ljust(size)  # as it was padded
        if len(text) == size:
            file.seek(8)
            file.write(text)
