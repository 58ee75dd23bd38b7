"""Writing files so that they appear whole or not at all."""
import csv
import ctypes
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file


@contextmanager
def written(target: Path) -> Iterator[Path]:
    """A temporary file (or folder, if the caller makes one) that becomes `target` at the end, or vanishes on an error.

    Files that something may have mapped are never written in place: truncating a mapped file kills its readers. The
    temporary file has a folder of its own beside `target`, so that whatever a killed process left of it is known, and
    the next writer removes it.

    Raises:
        OSError: The disk is full, or not to be written.
    """
    host = socket.gethostname()
    _remove_stale(target, host)
    folder = target.with_name(f'.{target.name}.{host}.{os.getpid()}.partial')
    try:
        folder.mkdir(exist_ok=True)
        partial = folder / target.name
        yield partial
        if partial.is_dir() and target.is_dir():  # no folder is replaced that is not empty
            os.replace(target, folder / 'replaced')
        if not partial.is_symlink() and not partial.is_dir():
            umask = os.umask(0)
            os.umask(umask)
            partial.chmod(0o666 & ~umask)  # safetensors writes for the owner alone
        os.replace(partial, target)
    except OSError as error:
        raise OSError(f'{target} could not be written: {error.strerror or error}') from error
    except SafetensorError as error:
        raise OSError(f'{target} could not be written: {error}') from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def save_tensors(
        tensors: Mapping[str, torch.Tensor],
        target: Path,
        header: Mapping[str, Any],
        sealed: bool = False,
) -> None:
    """Write a safetensors file, whole or not at all; what is no text in the header becomes JSON, None is left out.

    Args:
        tensors: Contiguous, on the CPU.
        target: File to write.
        header: Its entries.
        sealed: Put `content_digest` into the header, as `content_sha256`.

    Raises:
        OSError: The disk is full, or not to be written.
    """
    metadata = {k: v if isinstance(v, str) else json.dumps(v) for k, v in header.items() if v is not None}
    with written(target) as partial, ThreadPoolExecutor(1) as pool:  # hashed while it is written: both let Python go on
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
    """Give equal files equal bytes, and so equal digests: safetensors writes metadata in an order of chance.

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


def _remove_stale(target: Path, host: str) -> None:
    """Remove what killed processes of this machine have left."""
    if os.name == 'nt':  # no question, but a signal, is what os.kill sends there
        return
    for folder in target.parent.glob(f'.{target.name}.{host}.*.partial'):
        try:
            os.kill(int(folder.name.split('.')[-2]), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (PermissionError, ValueError):
            pass  # alive, or none of ours


def save_csv(rows: Sequence[Mapping[str, Any]], target: Path) -> None:
    """Write a table, whole or not at all; the keys of the first row are its header.

    Raises:
        OSError: The disk is full, or not to be written.
    """
    with written(target) as partial, open(
            partial, 'w', newline='', encoding='utf-8', errors='surrogateescape') as file:  # as file names may need it
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
