"""Find, download, convert once, cache.

Weights are looked for in this package's own cache, then as safetensors on the Hub; where the Hub has only the published
pickle, that is downloaded and converted once. Later loads map the converted file and need no network.
"""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from ..files import atomic_write, check_regular
from ..paths import not_found
from .digests import digest_in_name, hash_file, sha256_of
from .hub import cached, download, in_hub_cache
from .layouts import to_timm
from .reading import read_header, read_weights
from .source import Source
from .writing import content_digest, save_tensors

_logger = logging.getLogger(__name__)


def locate(
    source: Source,
    refresh: bool = False,
    say: Callable[[str], None] = _logger.info,
    patience: float | None = None,
) -> Path:
    """A local file with a source's weights, downloaded and converted if needed.

    Args:
        source: Where the weights are.
        refresh: Ask the Hub whether the publisher has replaced the file, and compare digests; if so, or if the file is
            damaged, download and convert it again.
        say: Called with progress messages.
        patience: Seconds to wait for a Hub that makes no progress; None is `VIDEOZOO_PATIENCE`, by default 60.

    Returns:
        A safetensors file; for a local source the file itself, which may be a pickle.

    Raises:
        FileNotFoundError: Neither the safetensors nor the published file is there.
        PermissionError: The Hub does not allow the download (private or gated repository).
        ConnectionError: Nothing is cached and the Hub is offline, out of reach, too slow or not to be believed.
        ValueError: The published file holds no model, or is not the one whose digest is known.
    """
    if source.file is not None:
        return _local_file(source.file)
    before = cached(source)
    if before and not refresh:
        return before
    try:
        path = download(source, [source.filename, *source.pickles], say, patience)
    except ConnectionError:
        path = None if refresh else in_hub_cache(source, source.pickles)  # downloaded before, not yet converted
        if path is None:
            raise
        if digest_in_name(path) not in (None, hash_file(path)):  # which a download would have compared
            raise ValueError(f'{path} is damaged: with a network, `videozoo download` downloads it again') from None
    if path.name == Path(source.filename).name:
        if before and before.resolve() != path.resolve():
            say(f'{source.filename} of {source.repo} is new on the Hub, using it from now on')
        _remember(source, path)
        return path
    with _lock(source.converted):
        digest = sha256_of(path)
        # In full, since files of several folders have one name.
        published = next((name for name in source.pickles if Path(name).name == path.name), '')
        known = source.digests.get(published, digest)
        if known != digest:
            raise ValueError(
                f'{path} has the sha256 {digest}, this package knows {known}: delete it, and download it again'
            )
        if source.converted.is_file():
            made_from, problems = _made_from(source.converted), []
            if made_from == digest:  # unchanged, or another process was first
                problems = _problems(source.converted, path) if refresh else []
                if not problems:
                    return source.converted
            say(
                f'{source.converted} is damaged, converting it again'
                if problems or not made_from
                else f'{path.name} of {source.repo} was replaced by its publisher, converting it again'
            )
        origin = f'{source.repo}/{path.name}'
        say(f'converting {origin} to {source.converted}')
        return convert(path, source.converted, dict(source.about, source=origin, source_sha256=digest))


def convert(
    published: Path,
    target: Path,
    about: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    sealed: bool = False,
) -> Path:
    """Write a checkpoint of either layout as safetensors in timm's layout; only the model's tensors are read.

    The file appears whole or not at all, also when the process is killed or the disk is full.

    Args:
        published: `.pth` or `.safetensors`.
        target: File to write.
        about: Header entries: name, source, source_sha256, architecture, input_size, mean, std. The default
            source is the bare file name, since the file may be passed on.
        dtype: Of the written tensors; None keeps that of each.
        sealed: Put a digest of the content into the header, for a file that leaves its source; it doubles the time.

    Raises:
        ValueError: `published` holds no model.
        OSError: The disk is full, or not to be written.
    """
    tensors, header = read_weights(published)
    tensors = to_timm(tensors)
    about = {k: header[k] for k in ('config', 'hyper_parameters') if k in header} | dict(about or {})
    about.setdefault('source', published.name)
    if 'source_sha256' not in about:
        about['source_sha256'] = sha256_of(published)
    # Tensors of one storage cannot be saved together, and views of mapped files are not all contiguous.
    tensors = {k: v.to(dtype).contiguous() for k, v in tensors.items()}
    target.parent.mkdir(parents=True, exist_ok=True)
    needed = sum(v.nbytes for v in tensors.values())
    if needed > (free := shutil.disk_usage(target.parent).free):
        raise OSError(
            f'{target} needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free there; free some, or write elsewhere '
            f'(VIDEOZOO_CACHE=<folder> moves the cache)'
        )
    save_tensors(tensors, target, {'format': 'pt', **about}, sealed=sealed)
    return target


def verify(source: Source | None, path: Path | None = None) -> list[str]:
    """Compare a converted file with its source, tensor by tensor, and the digests.

    Args:
        source: Where the weights came from; None compares the file with the digest in its own header alone.
        path: The converted file, if it is not the cached one.

    Returns:
        What was compared, one line each.

    Raises:
        ValueError: They differ; every difference is listed, and what to do.
        FileNotFoundError: The converted file or its source is not there.
    """
    path = path or (source and cached(source))
    if path is None:
        if source is None:
            raise ValueError('nothing to compare: name a source, a converted file (path=...), or both')
        raise FileNotFoundError(f'{source.filename} of {source.repo} is not on this machine yet')
    header = read_header(path)
    if source is None:
        if 'content_sha256' not in header:
            raise ValueError(f'{path} holds no digest of its content; name what it was made from')
        if problems := _own_problems(path):
            raise ValueError(f'{path} is damaged: {problems[0]}; convert it again, or download it again')
        return [f'content sha256 {header["content_sha256"]} as it was written']
    name = source.label or 'NAME'
    if source.file is None and (path != source.converted or path.is_symlink()):  # the Hub's own safetensors
        digest, expected = hash_file(path), source.digests.get(source.filename) or digest_in_name(path)
        if expected is None:
            raise ValueError(f'{path}: the Hub gave no digest to compare with')
        if digest != expected:
            raise ValueError(
                f'{path} is damaged: its sha256 is {digest}, the Hub says {expected}; `videozoo download {name}` '
                f'fetches it again (in Python refresh=True)'
            )
        return [f'sha256 {digest} as the Hub says']
    published = source.file or in_hub_cache(source, source.pickles)
    if published is None:
        published = download(source, source.pickles, _logger.info)
    digest = hash_file(published)
    if source.file is None and (announced := digest_in_name(published)) not in (None, digest):
        raise ValueError(
            f'{published} is damaged: its sha256 is {digest}, the Hub says {announced}; `videozoo download {name}` '
            f'fetches it again'
        )
    problems = _problems(path, published)
    if header.get('source_sha256') not in (None, digest):
        problems.insert(0, f'sha256 of {published} is {digest}, {path} was made from {header["source_sha256"]}')
    if problems:
        advice = 'convert it again' if source.file else f'`videozoo download {name}` makes it again'
        raise ValueError(f'{path} is not what {published} holds; {advice}:\n  ' + '\n  '.join(problems))
    return [f'sha256 {digest} of {published}', f'{len(read_weights(path).tensors)} tensors equal']


def _problems(path: Path, published: Path) -> list[str]:
    """How a converted file differs from itself as it was written, and from what it was made of."""
    try:
        ours, problems = read_weights(path).tensors, _own_problems(path)
    except ValueError as error:
        return [str(error)]
    theirs = to_timm(read_weights(published).tensors)
    problems += [f'{k} is only in {path}' for k in sorted(ours.keys() - theirs.keys())]
    problems += [f'{k} is only in {published}' for k in sorted(theirs.keys() - ours.keys())]
    return problems + [
        f'{k} differs' for k in sorted(ours.keys() & theirs.keys()) if not torch.equal(ours[k], theirs[k])
    ]


def _own_problems(path: Path) -> list[str]:
    """Whether a converted file is as it was written; of version 0.1.0's nothing is known."""
    with safe_open(path, framework='pt') as file:
        header = file.metadata() or {}
    written, digest = header.get('content_sha256'), content_digest(load_file(path), header)
    return [] if written in (None, digest) else [f'sha256 of its content is {digest}, it was written with {written}']


def _local_file(path: Path) -> Path:
    if path.is_dir():  # what timm's save_for_hf writes
        candidates = [
            path / 'model.safetensors',
            *sorted(path.glob('*.safetensors')),
            *sorted(path.glob('*.pth')),
            *sorted(path.glob('*.bin')),
        ]
        found = next((c for c in candidates if c.is_file()), None)
        if found is None:
            raise FileNotFoundError(f'no .safetensors, .pth or .bin file in {path}')
        return found
    if not path.exists():
        raise not_found(path, 'file')
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
