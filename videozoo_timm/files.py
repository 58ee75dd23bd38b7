"""Writing files so that they appear whole or not at all."""
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file


@contextmanager
def written(target: Path) -> Iterator[Path]:
    """A temporary name beside `target` that becomes it at the end, or vanishes on an error.

    Files that something may have mapped are never written in place: truncating a mapped file kills its readers.
    """
    partial = target.with_name(f'.{target.name}.{os.getpid()}.partial')
    try:
        yield partial
        if not partial.is_symlink():
            umask = os.umask(0)
            os.umask(umask)
            partial.chmod(0o666 & ~umask)  # safetensors writes for the owner alone
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def save_tensors(tensors: Mapping[str, torch.Tensor], target: Path, header: Mapping[str, str]) -> None:
    """Write a safetensors file, whole or not at all.

    Raises:
        OSError: The disk is full, or not to be written.
    """
    with written(target) as partial:
        try:
            save_file(dict(tensors), partial, metadata=dict(header))
        except SafetensorError as error:
            raise OSError(f'{target} could not be written: {error}') from error
