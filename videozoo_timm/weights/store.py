"""Find, download, convert once, cache.

Weights are looked for in this package's own cache, then as safetensors on the Hub; where the Hub has only the published
pickle, that is downloaded and converted once. Later loads map the converted file and need no network.
"""
import hashlib
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..files import atomic_write, check_regular, save_tensors
from .hub import download, in_hub_cache
from .layouts import to_timm
from .reading import read_header, read_weights
from .source import Source

_logger = logging.getLogger(__name__)


def cached(source: Source) -> Path | None:
    """The safetensors file of a source if it is on this machine already, own conversion or Hub download."""
    if source.file is not None:
        return source.file if source.file.is_file() else None
    return source.converted if source.converted.is_file() else in_hub_cache(source, [source.filename])


def locate(source: Source, refresh: bool = False, say: Callable[[str], None] = _logger.info) -> Path:
    """A local file with a source's weights, downloaded and converted if need be.

    Args:
        source: Where the weights are.
        refresh: Ask the Hub whether the publisher has replaced the file; if so, download and convert anew.
        say: Told what is going on.

    Returns:
        A safetensors file; for a local source the file itself, which may be a pickle.

    Raises:
        FileNotFoundError: Neither the safetensors nor the published file is there.
        PermissionError: The Hub does not allow the download (private or gated repository).
        ConnectionError: Nothing is cached and the Hub is offline or out of reach.
        ValueError: The published file holds no model.
    """
    if source.file is not None:
        return _local_file(source.file)
    before = cached(source)
    if before and not refresh:
        return before
    try:
        path = download(source, [source.filename, *source.pickles], say)
    except ConnectionError:
        path = None if refresh else in_hub_cache(source, source.pickles)  # downloaded before, not yet converted
        if path is None:
            raise
    if path.name == Path(source.filename).name:
        if before and before.resolve() != path.resolve():
            say(f'{source.filename} of {source.repo} is new on the Hub, using it from now on')
        _remember(source, path)
        return path
    with _lock(source.converted):
        digest = _sha256(path)
        if source.converted.is_file():
            made_from = _made_from(source.converted)
            if made_from == digest:  # unchanged, or another process was first
                return source.converted
            say(f'{path.name} of {source.repo} was replaced by its publisher, converting anew' if made_from else
                f'{source.converted} is damaged, converting anew')
        origin = f'{source.repo}/{path.name}'
        say(f'converting {origin} to {source.converted}')
        return convert(path, source.converted, dict(source.about, source=origin, source_sha256=digest))


def convert(
        published: Path,
        target: Path,
        about: Mapping[str, Any] | None = None,
        dtype: torch.dtype | None = None,
) -> Path:
    """Write a checkpoint of either layout as safetensors in timm's layout; only the model's tensors are read.

    The file appears whole or not at all, also when the process is killed or the disk is full.

    Args:
        published: `.pth` or `.safetensors`.
        target: File to write.
        about: Header entries: name, source, source_sha256, architecture, input_size, mean, std.
        dtype: Of the written tensors; None keeps that of each.

    Raises:
        ValueError: `published` holds no model.
        OSError: The disk is full, or not to be written.
    """
    tensors = to_timm(read_weights(published).tensors)
    about = dict(about or {})
    about.setdefault('source', str(published.resolve()))
    if 'source_sha256' not in about:
        about['source_sha256'] = _sha256(published)
    # Tensors of one storage cannot be saved together, and views of mapped files are not all contiguous.
    tensors = {k: v.to(dtype).contiguous() for k, v in tensors.items()}
    target.parent.mkdir(parents=True, exist_ok=True)
    needed = sum(v.nbytes for v in tensors.values())
    if needed > (free := shutil.disk_usage(target.parent).free):
        raise OSError(
            f'{target} needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free there; free some, or write elsewhere '
            f'(VIDEOZOO_CACHE=<folder> moves the cache)')
    save_tensors(tensors, target, {'format': 'pt', **about})
    return target


def verify(source: Source, path: Path | None = None) -> list[str]:
    """Compare a converted file with its source, tensor by tensor, and the digests.

    Args:
        source: Where the weights came from.
        path: The converted file, if it is not the cached one.

    Returns:
        What was compared, one line each.

    Raises:
        ValueError: They differ; every difference is listed.
        FileNotFoundError: The converted file or its source is not there.
    """
    path = path or cached(source)
    if path is None:
        raise FileNotFoundError(f'{source.filename} of {source.repo} is not on this machine yet')
    header = read_header(path)
    if source.file is None and (path != source.converted or path.is_symlink()):  # the Hub's own safetensors
        digest, expected = _hash_file(path), _digest_in_name(path)
        if expected is None:
            raise ValueError(f'{path}: the Hub gave no digest to compare with')
        if digest != expected:
            raise ValueError(f'{path} is damaged: its sha256 is {digest}, the Hub says {expected}')
        return [f'sha256 {digest} as the Hub says']
    published = source.file or in_hub_cache(source, source.pickles)
    if published is None:
        published = download(source, source.pickles, _logger.info)
    digest = _hash_file(published)
    problems = []
    if header.get('source_sha256') not in (None, digest):
        problems.append(f'sha256 of {published} is {digest}, {path} was made from {header["source_sha256"]}')
    ours, theirs = read_weights(path).tensors, to_timm(read_weights(published).tensors)
    problems += [f'{k} is only in {path}' for k in sorted(ours.keys() - theirs.keys())]
    problems += [f'{k} is only in {published}' for k in sorted(theirs.keys() - ours.keys())]
    problems += [f'{k} differs' for k in sorted(ours.keys() & theirs.keys()) if not torch.equal(ours[k], theirs[k])]
    if problems:
        raise ValueError(
            f'{path} is not what {published} holds; delete it and it is made anew:\n  ' + '\n  '.join(problems))
    return [f'sha256 {digest} of {published}', f'{len(ours)} tensors equal']


def _local_file(path: Path) -> Path:
    if path.is_dir():  # what timm's save_for_hf writes
        candidates = [path / 'model.safetensors', *sorted(path.glob('*.safetensors')), *sorted(path.glob('*.pth')),
                      *sorted(path.glob('*.bin'))]
        found = next((c for c in candidates if c.is_file()), None)
        if found is None:
            raise FileNotFoundError(f'no .safetensors, .pth or .bin file in {path}')
        return found
    if not path.exists():
        raise FileNotFoundError(f'no file {path}')
    check_regular(path)
    return path


def _remember(source: Source, path: Path) -> None:
    """Link a safetensors file of the Hub's cache from this package's, so that later loads take this very file."""
    try:
        source.converted.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(source.converted) as partial:
            partial.symlink_to(path.absolute())
    except OSError as error:  # no symbolic links here, or a cache that is not to be written: the Hub's cache serves
        _logger.debug('no link to %s: %s', path, error)


def _made_from(converted: Path) -> str | None:
    """The digest of what a conversion was made from; None if the file is damaged."""
    try:
        return read_header(converted).get('source_sha256')
    except ValueError:
        return None


@contextmanager
def _lock(target: Path) -> Iterator[None]:
    """One converter at a time; the operating system frees the lock of a killed process."""
    from filelock import FileLock
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f'.{target.name}.lock')):
        yield


def _digest_in_name(path: Path) -> str | None:
    """The Hub's cache names a large file's blob after its sha256."""
    name = path.resolve().name
    return name if len(name) == 64 and not set(name) - set('0123456789abcdef') else None


def _sha256(path: Path) -> str:
    """Of a downloaded file as the Hub gave it, so that nothing is read; of any other as it is."""
    return _digest_in_name(path) or _hash_file(path)


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
