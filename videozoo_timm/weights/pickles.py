"""Tensors out of a pickle without running it.

A PyTorch checkpoint is a pickle, and a pickle is a program. This loader lets it rebuild tensors and ordered
dictionaries; every other name that it asks for becomes an inert placeholder class that accepts whatever a pickle does
to an object and does nothing. So an `argparse.Namespace`, a Lightning callback or an attack are equally harmless.
"""
import collections
import io
import pickle
import tarfile
import types
import zipfile
from pathlib import Path
from typing import Any

import torch

# Functions are wrapped, so that a pickle cannot set attributes on PyTorch's own.
_TENSOR_BUILDERS = {
    ('torch._utils', name): getattr(torch._utils, name)
    for name in ('_rebuild_tensor', '_rebuild_tensor_v2', '_rebuild_parameter', '_rebuild_parameter_with_state')
}


class Inert:
    """What a checkpoint names that is no tensor; `Inert.__name__` of its class says what it was."""

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


def load_inert(path: Path) -> Any:
    """What a PyTorch checkpoint holds, tensors mapped where the file allows it, everything else inert.

    Args:
        path: File of `torch.save`, in the zip format or that of PyTorch before 1.6.

    Raises:
        ValueError: The file is no such checkpoint, or is damaged.
    """
    is_zip = zipfile.is_zipfile(path)
    try:
        if is_zip:
            with zipfile.ZipFile(path) as archive:
                # torch.load hands TorchScript archives to torch.jit.load, which is another program altogether.
                if any(name.endswith('constants.pkl') for name in archive.namelist()):
                    raise ValueError('a TorchScript archive, not a checkpoint')
        elif tarfile.is_tarfile(path):
            raise ValueError('a tar archive; torch.load would unpack it to disk')
        return torch.load(path, map_location='cpu', mmap=is_zip, weights_only=False, pickle_module=_inert_pickle)
    except (FileNotFoundError, PermissionError, MemoryError):
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f'{path} is no readable PyTorch checkpoint: {reason}') from error
