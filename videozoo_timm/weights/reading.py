"""Tensors and headers of local files."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from ..files import check_regular
from ..paths import as_path, not_found
from ..text import printable
from .header import LARGEST, parse_header, torch_dtypes
from .layouts import Tensors, hyper_parameters, model_tensors
from .pickles import load_inert

_DTYPES = torch_dtypes()

# Reading page by page through a mapping is slow where every page is a request to a server.
_NETWORK_FILE_SYSTEMS = (
    'nfs',
    'lustre',
    'beegfs',
    'gpfs',
    'ceph',
    'cifs',
    'smb',
    'afs',
    '9p',
    'glusterfs',
    'orangefs',
    'fuse.',
)


class Weights(NamedTuple):
    """Tensors of a file, and its header; of pickles that holds `hyper_parameters`, if they do, and nothing else."""

    tensors: Tensors
    header: dict[str, Any]


def read_weights(path: Path, mapped: bool | None = None) -> Weights:
    """Tensors of a file in either format.

    Args:
        path: `.pth` or `.safetensors`; distinguished by content.
        mapped: Map the tensors, so that only what is touched is read; None decides by the file system. Mapped
            tensors are private copies on write: training them leaves the file as it is.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It holds no model.
    """
    path = as_path(path)
    if path.is_dir():
        raise FileNotFoundError(f'{path} is a folder, not a file')
    if not path.exists():
        raise not_found(path, 'file')
    if path.suffix.lower() in ('.npy', '.npz'):
        raise ValueError(f'{path} holds NumPy arrays and no model: a checkpoint is a .pth or .safetensors file')
    check_regular(path)
    if path.stat().st_size == 0:
        raise ValueError(f'{path} is empty')
    mapped = should_map(path) if mapped is None else mapped
    if not _is_safetensors(path):
        checkpoint = load_inert(path, mapped)
        told = hyper_parameters(checkpoint)
        return Weights(model_tensors(checkpoint, str(path)), {'hyper_parameters': told} if told else {})
    header = read_header(path)
    try:
        tensors = load_file(path) if mapped else _read_sequentially(path)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # of safetensors, or of PyTorch for what it knows no dtype or shape of
        raise ValueError(f'{path} is no readable safetensors file: {printable(error, 300)}') from error
    return Weights(model_tensors(tensors, str(path)), header)


def read_header(path: Path) -> dict[str, Any]:
    """Header fields of a converted file.

    They are name, source, source_sha256, architecture, input_size, mean, std, and label_names where it was finetuned by
    this package; of video generators config, or hyper_parameters as published.
    """
    check_regular(path)
    with open(path, 'rb') as file:
        length = int.from_bytes(file.read(8), 'little')
    if LARGEST < length < os.stat(path).st_size:
        raise ValueError(f'{path}: its header has {length / 1e6:.0f} MB, more than the {LARGEST / 1e6:.0f} MB allowed')
    try:
        with safe_open(path, framework='pt') as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(
            f'{path} is no readable safetensors file ({printable(error, 300)}): delete it, or download it again'
        ) from error
    return parse_header(metadata, path)


def should_map(path: Path) -> bool:
    """Whether to map a file or to read it in one go: `VIDEOZOO_MMAP`=1 or 0, else by its file system's type."""
    choice = os.environ.get('VIDEOZOO_MMAP', '')
    if choice not in ('', '0', '1'):
        raise ValueError(f'VIDEOZOO_MMAP={choice!r}: must be 0 (read) or 1 (map)')
    return choice == '1' if choice else not file_system_of(path).startswith(_NETWORK_FILE_SYSTEMS)


def file_system_of(path: Path, mounts: str = '/proc/self/mounts') -> str:
    """Type of the file system that holds a file ('ext4', 'nfs4', ...); '' if the system does not say."""
    try:
        lines = Path(mounts).read_text().splitlines()
    except OSError:
        return ''
    path = Path(path).resolve()
    holders = []
    for line in lines:
        _, mount_point, kind = line.split()[:3]
        mount_point = mount_point.replace('\\040', ' ')
        if path.is_relative_to(mount_point):
            holders.append((len(mount_point), kind))
    # Of mounts on the same folder the last one counts.
    return max(enumerate(holders), key=lambda item: (item[1][0], item[0]))[1][1] if holders else ''


def _is_safetensors(path: Path) -> bool:
    """Whether a file begins as a safetensors file does: a length, then a JSON header."""
    with open(path, 'rb') as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b'{' and int.from_bytes(start[:8], 'little') < path.stat().st_size


def _read_sequentially(path: Path) -> Tensors:
    """Tensors in one buffer, filled by one sequential read."""
    data = bytearray(path.stat().st_size)
    with open(path, 'rb') as file:
        file.readinto(data)
    length = int.from_bytes(data[:8], 'little')
    tensors = {}
    for key, entry in json.loads(bytes(data[8 : 8 + length])).items():
        if key == '__metadata__':
            continue
        begin, end = entry['data_offsets']
        dtype = _DTYPES.get(entry['dtype'])
        if dtype is None:
            raise ValueError(f'{key!r} has the dtype {entry["dtype"]}, which this PyTorch lacks')
        count = (end - begin) // dtype.itemsize
        flat = (
            torch.frombuffer(data, dtype=dtype, count=count, offset=8 + length + begin)
            if count
            else (torch.empty(0, dtype=dtype))
        )
        tensors[key] = flat.reshape(entry['shape'])
    return tensors
