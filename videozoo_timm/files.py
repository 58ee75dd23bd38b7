"""Writing files so that they appear whole or not at all."""
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written(target: Path) -> Iterator[Path]:
    """A temporary name beside `target` that becomes it at the end, or vanishes on an error.

    Files that something may have mapped are never written in place: truncating a mapped file kills its readers.
    """
    partial = target.with_name(f'.{target.name}.{os.getpid()}.partial')
    try:
        yield partial
        umask = os.umask(0)
        os.umask(umask)
        partial.chmod(0o666 & ~umask)  # safetensors writes for the owner alone
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
