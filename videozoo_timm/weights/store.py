"""Find, download, convert once, cache.

Weights are looked for in this package's own cache, then as safetensors on the Hub; where the Hub has only the published
pickle, that is downloaded and converted once. Later loads map the converted file and need no network.
"""
from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

    from .layouts import Tensors

_logger = logging.getLogger(__name__)

# Reading page by page through a mapping is slow where every page is a request to a server.
_NETWORK_FILE_SYSTEMS = (
    'nfs', 'lustre', 'beegfs', 'gpfs', 'ceph', 'cifs', 'smb', 'afs', '9p', 'glusterfs', 'orangefs', 'fuse.')


@dataclass(frozen=True)
class Source:
    """Where weights are: a local file, or a file of a Hub repository.

    Attributes:
        file: Local file, published or converted layout, or a folder that holds one; `repo` is ignored then.
        repo: Hub repository, `organisation/name`, with `@revision` behind it if need be.
        filename: The safetensors file in it; the published pickle beside it has the same stem.
        cache_dir: Another cache for downloads and conversions.
        published: The published pickle in it, if its name has another ending than `.pth`.
        label: What the user calls it, for messages.
        about: What a converted file's header shall say: name, architecture, input_size, mean, std.
    """
    file: Path | None = None
    repo: str = ''
    filename: str = ''
    cache_dir: str | Path | None = None
    published: str = ''
    label: str = ''
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def converted(self) -> Path:
        """Where this package keeps its own conversion of the published file."""
        return cache_root(self.cache_dir) / self.repo.replace('/', '--') / self.filename

    @property
    def pickles(self) -> list[str]:
        """What the published pickle may be called."""
        if self.published:
            return [self.published]
        stem = self.filename.rsplit('.', 1)[0]
        return ['pytorch_model.bin', 'model.pth'] if self.filename == 'model.safetensors' else [f'{stem}.pth']


class Weights(NamedTuple):
    """Tensors of a file, and its header (empty for pickles)."""
    tensors: Tensors
    header: dict[str, Any]


def cache_root(cache_dir: str | Path | None = None) -> Path:
    """The package's own cache: `VIDEOZOO_CACHE`, by default `videozoo` inside `HF_HOME`."""
    from huggingface_hub.constants import HF_HOME
    if cache_dir is not None:
        return Path(cache_dir) / 'videozoo'
    return Path(os.environ.get('VIDEOZOO_CACHE') or Path(HF_HOME) / 'videozoo').expanduser()


def cached(source: Source) -> Path | None:
    """The safetensors file of a source if it is on this machine already, own conversion or Hub download."""
    if source.file is not None:
        return source.file if source.file.is_file() else None
    return source.converted if source.converted.is_file() else _in_hub_cache(source, [source.filename])


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
        path = _download(source, [source.filename, *source.pickles], say)
    except ConnectionError:
        path = None if refresh else _in_hub_cache(source, source.pickles)  # downloaded before, not yet converted
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
    from ..files import save_tensors
    from .layouts import to_timm
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


def read_weights(path: Path, mapped: bool | None = None) -> Weights:
    """Tensors of a file in either format.

    Args:
        path: `.pth` or `.safetensors`; told apart by content.
        mapped: Map the tensors, so that only what is touched is read; None decides by where the file lies. Mapped
            tensors are private copies on write: training them leaves the file as it is.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It holds no model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from .layouts import model_tensors
    from .pickles import load_inert
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path} is a folder, not a file' if path.is_dir() else f'no file {path}')
    if path.stat().st_size == 0:
        raise ValueError(f'{path} is empty')
    mapped = should_map(path) if mapped is None else mapped
    if not _is_safetensors(path):
        return Weights(model_tensors(load_inert(path, mapped), str(path)), {})
    header = read_header(path)
    try:
        tensors = load_file(path) if mapped else _read_sequentially(path)
    except SafetensorError as error:
        raise ValueError(f'{path} is no readable safetensors file: {error}') from error
    return Weights(model_tensors(tensors, str(path)), header)


def read_header(path: Path) -> dict[str, Any]:
    """What a converted file says of itself: name, source, source_sha256, architecture, input_size, mean, std, and
    label_names where it was finetuned by this package."""
    from safetensors import SafetensorError, safe_open
    try:
        with safe_open(path, framework='pt') as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f'{path} is no readable safetensors file ({error}): delete it, or fetch it anew') from error
    header = dict(metadata)
    for key in ('input_size', 'mean', 'std', 'label_names'):
        if key in header:
            header[key] = tuple(json.loads(header[key]))
    return header


def should_map(path: Path) -> bool:
    """Whether to map a file or to read it in one go: `VIDEOZOO_MMAP`=1 or 0, else by its file system's type."""
    choice = os.environ.get('VIDEOZOO_MMAP', '')
    if choice not in ('', '0', '1'):
        raise ValueError(f'VIDEOZOO_MMAP={choice!r}: must be 0 (read) or 1 (map)')
    return choice == '1' if choice else not file_system_of(path).startswith(_NETWORK_FILE_SYSTEMS)


def file_system_of(path: Path, mounts: str = '/proc/self/mounts') -> str:
    """Type of the file system that holds a file ('ext4', 'nfs4', ...); '' where the system does not tell."""
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
    import torch

    from .layouts import to_timm
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
    published = source.file or _in_hub_cache(source, source.pickles)
    if published is None:
        published = _download(source, source.pickles, _logger.info)
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
    if not path.is_file():
        raise FileNotFoundError(f'no file {path}')
    return path


def _download(source: Source, filenames: list[str], say: Callable[[str], None]) -> Path:
    """The first of these files that the Hub has; nothing is downloaded that is in the Hub's cache already."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import RemoteEntryNotFoundError
    repo, _, revision = source.repo.partition('@')
    failure = f'{" or ".join(filenames)} of {source.repo} cannot be fetched'
    advice = f'with a network, `videozoo download {source.label}` fetches it' if source.label else ''
    for filename in filenames:
        if filename != source.filename:
            _check_writable(source.converted)  # before gigabytes are downloaded
        with hub_errors(source.repo, failure, advice):
            try:
                # Asked for its state first: the download itself would retry for 23 s before it says that the Hub is
                # away.
                state = get_hf_file_metadata(hf_hub_url(repo, filename, revision=revision or None))
                say(f'{filename} of {repo}: {(state.size or 0) / 1e9:.2f} GB')
                # One commit from start to end, also when the publisher replaces the file meanwhile.
                return Path(hf_hub_download(repo, filename, revision=state.commit_hash, cache_dir=source.cache_dir))
            except RemoteEntryNotFoundError:
                continue
    raise FileNotFoundError(f'{repo} has no file {" or ".join(filenames)}')


@contextmanager
def hub_errors(repo: str, failure: str, advice: str = '') -> Iterator[None]:
    """Errors of the Hub's client as errors that say what to do.

    Args:
        repo: `organisation/name`, with `@revision` behind it if need be.
        failure: What is told first if the Hub fails or is out of reach.
        advice: What to do if it is out of reach.

    Raises:
        PermissionError, FileNotFoundError, ConnectionError: As the names say.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RevisionNotFoundError,
    )
    name, _, revision = repo.partition('@')
    try:
        yield
    except GatedRepoError as error:
        raise PermissionError(
            f'{name} is gated: accept its conditions on its page, then `hf auth login`, then try again') from error
    except RevisionNotFoundError as error:
        raise FileNotFoundError(f'{name} has no revision {revision!r}') from error
    except HfHubHTTPError as error:
        status = getattr(error.response, 'status_code', None)
        if status == 404:
            raise FileNotFoundError(f'there is no repository {name} on the Hub') from error
        if status in (401, 403):
            whose = 'the token in use' if get_token() else 'somebody who is not logged in'
            raise PermissionError(
                f'the Hub refuses {name} to {whose} ({status}): it is not there, private or not to be written to; '
                f'check the name, or `hf auth login`') from error
        raise ConnectionError(f'{failure}, the Hub failed: {error}') from error
    except (LocalEntryNotFoundError, HTTPError, ConnectionError, TimeoutError) as error:
        offline = any(isinstance(e, OfflineModeIsEnabled) for e in (error, error.__cause__))
        why = 'HF_HUB_OFFLINE is set' if offline else f'the Hub is out of reach ({type(error).__name__}: {error})'
        raise ConnectionError('; '.join(filter(None, (f'{failure}, {why}', advice)))) from error
    except RuntimeError as error:
        if error.__cause__ is None:
            raise
        with hub_errors(repo, failure, advice):  # the client wraps what went wrong in an upload
            raise error.__cause__ from None


def _in_hub_cache(source: Source, filenames: list[str]) -> Path | None:
    """The first of these files that the Hub's client has downloaded before."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.constants import HF_HUB_CACHE
    repo, _, revision = source.repo.partition('@')
    for filename in filenames:
        path = try_to_load_from_cache(repo, filename, cache_dir=source.cache_dir, revision=revision or None)
        if isinstance(path, str):
            return Path(path)
        if not revision:
            # The client looks into the newest commit that it has seen alone, and would forget a file as soon as
            # another one of its repository is downloaded from a later commit.
            folder = Path(source.cache_dir or HF_HUB_CACHE) / f'models--{repo.replace("/", "--")}' / 'snapshots'
            older = [path for commit in folder.glob('*') if (path := commit / filename).is_file()]
            if older:
                return max(older, key=lambda path: path.lstat().st_mtime)
    return None


def _remember(source: Source, path: Path) -> None:
    """Link a safetensors file of the Hub's cache from this package's, so that later loads take this very file."""
    from ..files import written
    try:
        source.converted.parent.mkdir(parents=True, exist_ok=True)
        with written(source.converted) as partial:
            partial.symlink_to(path.absolute())
    except OSError as error:  # no symbolic links here, or a cache that is not to be written: the Hub's cache serves
        _logger.debug('no link to %s: %s', path, error)


def _made_from(converted: Path) -> str | None:
    """The digest of what a conversion was made from; None if the file is damaged."""
    try:
        return read_header(converted).get('source_sha256')
    except ValueError:
        return None


def _check_writable(target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(target.parent, os.W_OK):
            raise OSError('not to be written')
    except OSError as error:
        raise OSError(
            f'{target.parent}, where conversions go: {error}; VIDEOZOO_CACHE=<folder> says another') from error


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


def _is_safetensors(path: Path) -> bool:
    """By content: a length, then a JSON header."""
    with open(path, 'rb') as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b'{' and int.from_bytes(start[:8], 'little') < path.stat().st_size


def _read_sequentially(path: Path) -> Tensors:
    """Tensors in one buffer, filled by one sequential read."""
    import torch
    data = bytearray(path.stat().st_size)
    with open(path, 'rb') as file:
        file.readinto(data)
    length = int.from_bytes(data[:8], 'little')
    tensors = {}
    for key, entry in json.loads(bytes(data[8:8 + length])).items():
        if key == '__metadata__':
            continue
        begin, end = entry['data_offsets']
        dtype = getattr(torch, _DTYPES[entry['dtype']])
        count = (end - begin) // dtype.itemsize
        flat = torch.frombuffer(data, dtype=dtype, count=count, offset=8 + length + begin) if count else (
            torch.empty(0, dtype=dtype))
        tensors[key] = flat.reshape(entry['shape'])
    return tensors


_DTYPES = {
    'F64': 'float64', 'F32': 'float32', 'F16': 'float16', 'BF16': 'bfloat16', 'I64': 'int64', 'I32': 'int32',
    'I16': 'int16', 'I8': 'int8', 'U8': 'uint8', 'BOOL': 'bool',
}
