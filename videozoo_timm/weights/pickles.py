"""Tensors out of a pickle without running it.

A PyTorch checkpoint is a pickle, and a pickle is a program. This loader lets it rebuild tensors and ordered
dictionaries; every other name that it asks for becomes an inert placeholder class that accepts whatever a pickle does
to an object and does nothing. So an `argparse.Namespace`, a Lightning callback or an attack are equally harmless.
"""
import collections
import io
import os
import pickle
import tarfile
import types
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

# Functions are wrapped, so that a pickle cannot set attributes on PyTorch's own.
_TENSOR_BUILDERS = {
    ('torch._utils', name): getattr(torch._utils, name)
    for name in ('_rebuild_tensor', '_rebuild_tensor_v2', '_rebuild_parameter', '_rebuild_parameter_with_state')
}


class Inert:
    """What a checkpoint names that is no tensor; `__name__` of its class says what it was."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __new__(cls, *args: Any, **kwargs: Any) -> 'Inert':
        return object.__new__(cls)

    def __call__(self, *args: Any, **kwargs: Any) -> 'Inert':
        return self

    def __setstate__(self, *state: Any) -> None:
        pass

    def __setitem__(self, *item: Any) -> None:
        pass

    append = extend = add = update = __setitem__


class _Builder:
    __slots__ = ('_build',)

    def __init__(self, build: Any) -> None:
        object.__setattr__(self, '_build', build)

    def __call__(self, *args: Any) -> Any:
        return self._build(*args)

    def __setattr__(self, *item: Any) -> None:
        pass

    def __setstate__(self, *state: Any) -> None:
        pass


class _Unpickler(pickle.Unpickler):

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _TENSOR_BUILDERS:
            return _Builder(_TENSOR_BUILDERS[module, name])
        if (module, name) == ('collections', 'OrderedDict'):
            return collections.OrderedDict
        if module == 'torch' and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        return type(f'{module}.{name}', (Inert,), {})


def _load(file: Any, **kwargs: Any) -> Any:
    return _Unpickler(file, **kwargs).load()


_inert_pickle = types.ModuleType('inert_pickle')
_inert_pickle.Unpickler = _Unpickler
_inert_pickle.load = _load
_inert_pickle.loads = lambda data, **kwargs: _load(io.BytesIO(data), **kwargs)


def load_inert(path: Path, mapped: bool = True) -> Any:
    """What a PyTorch checkpoint holds, everything but tensors inert.

    Args:
        path: File of `torch.save`, in the zip format or that of PyTorch before 1.6.
        mapped: Map the tensors from the file, where its format allows it.

    Raises:
        ValueError: The file is no such checkpoint, or is damaged.
    """
    try:
        with open(path, 'rb') as file:
            is_zip = torch.serialization._is_zipfile(file)
        _refuse_programs(path, is_zip)
        with _own_rules():
            return torch.load(
                path, map_location='cpu', mmap=mapped and is_zip and _is_stored(path), weights_only=False,
                pickle_module=_inert_pickle)
    except (FileNotFoundError, PermissionError, MemoryError):
        raise
    except pickle.UnpicklingError as error:
        raise ValueError(f'{path} is no readable PyTorch checkpoint: another kind of file, or a damaged one') from error
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f'{path} is no readable PyTorch checkpoint: {reason}') from error


def _refuse_programs(path: Path, is_zip: bool) -> None:
    """Keep from torch.load what it hands to other readers than the unpickler that it is given."""
    # PyTorch's own reader is asked: Python's can be shown another table of contents by the same file.
    if is_zip and 'constants.pkl' in torch._C.PyTorchFileReader(str(path)).get_all_records():
        raise ValueError('a TorchScript archive, not a checkpoint')
    if not is_zip and tarfile.is_tarfile(path):
        raise ValueError('a tar archive; torch.load would unpack it to disk')


def _is_stored(path: Path) -> bool:
    """Whether no record is compressed, so that its bytes in the file are the tensor's."""
    try:
        with zipfile.ZipFile(path) as archive:
            return all(record.compress_type == zipfile.ZIP_STORED for record in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError):
        return False


@contextmanager
def _own_rules() -> Iterator[None]:
    """Set aside the variable that forces torch.load's own rules and so forbids another unpickler."""
    forced = os.environ.pop('TORCH_FORCE_WEIGHTS_ONLY_LOAD', None)
    try:
        yield
    finally:
        if forced is not None:
            os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = forced
