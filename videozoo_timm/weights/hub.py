"""What the Hub has, and what is on this machine already."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from .client import HubError, Watch, guarded
from .digests import hash_file, is_sha256
from .source import Source

_logger = logging.getLogger(__name__)


def cached(source: Source) -> Path | None:
    """The safetensors file of a source if it is on this machine already, own conversion or Hub download."""
    if source.file is not None:
        return source.file if source.file.is_file() else None
    return source.converted if source.converted.is_file() else in_hub_cache(source, [source.filename])


def download(
    source: Source,
    filenames: list[str],
    say: Callable[[str], None],
    patience: float | None = None,
) -> Path:
    """The first of these files that the Hub has; a file that is intact in the Hub's cache is not downloaded.

    Args:
        source: Repository, cache, known digests.
        filenames: Names in the repository, the best first.
        say: Called with progress messages.
        patience: As in `client.patience_of`.

    Raises:
        FileNotFoundError: The repository has none of them.
        ValueError: The file has another digest than the known one, or the one that the Hub announced; it is removed.
        PermissionError, ConnectionError: As in `hub_errors`.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import RemoteEntryNotFoundError

    repo, _, revision = source.repo.partition('@')
    failure = f'{" or ".join(filenames)} of {source.repo} cannot be fetched'
    advice = f'with a network, `videozoo download {source.label}` fetches it' if source.label else ''
    for filename in filenames:
        if filename != source.filename:
            _check_writable(source.converted)  # before gigabytes are downloaded
        with hub_errors(source.repo, failure, advice, say, patience) as watch:
            try:
                # Asked for its state first: the download itself would retry for 23 s before it says that the Hub is
                # away.
                state = get_hf_file_metadata(hf_hub_url(repo, filename, revision=revision or None))
                say(f'{filename} of {repo}: {(state.size or 0) / 1e9:.2f} GB')
                known, announced = source.digests.get(filename), state.etag if is_sha256(state.etag) else None
                if known and announced and known != announced:
                    raise ValueError(_differs(filename, source.repo, announced, 'this package knows', known))
                watch.limit = state.size
                # One commit from start to end, even if the publisher replaces the file meanwhile.
                fetch = partial(hf_hub_download, repo, filename, revision=state.commit_hash, cache_dir=source.cache_dir)
                path = Path(fetch())
                wanted = known or announced
                if wanted and hash_file(path) != wanted:
                    say(f'{filename} of {repo} is damaged on this machine, downloading it again')
                    path = Path(fetch(force_download=True))
                    if (digest := hash_file(path)) != wanted:
                        _discard(path)
                        who = 'this package knows' if known else 'the Hub announced'
                        raise ValueError(_differs(filename, source.repo, digest, who, wanted))
                return path
            except RemoteEntryNotFoundError:
                continue
    raise FileNotFoundError(f'{repo} has no file {" or ".join(filenames)}{_others_of_series(source)}')


def _others_of_series(source: Source) -> str:
    if not source.series:
        return ''
    sources = {name: replace(source, filename=filename) for name, filename in source.series.items()}
    here = [name for name, other in sources.items() if cached(other) or in_hub_cache(other, other.pickles)]
    return (
        ': its name is known from the code of its publisher, and whether the Hub has it could not be checked before; '
        f'of the same series {", ".join(here) or "none"} {"are" if len(here) > 1 else "is"} on this machine'
    )


def published_digests(source: Source, say: Callable[[str], None]) -> dict[str, str]:
    """The sha256 of a source's files on the Hub, by their names; a file without one on the Hub is downloaded.

    Raises:
        FileNotFoundError: The repository has none of them.
        PermissionError, ConnectionError: As in `hub_errors`.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import RemoteEntryNotFoundError

    found = {}
    for filename in (source.filename, *source.pickles):
        with hub_errors(source.repo, f'the digest of {filename} of {source.repo} cannot be asked for', say=say):
            try:
                state = get_hf_file_metadata(hf_hub_url(source.repo, filename))
                found[filename] = (
                    state.etag
                    if is_sha256(state.etag)
                    else hash_file(Path(hf_hub_download(source.repo, filename, revision=state.commit_hash)))
                )
            except RemoteEntryNotFoundError:
                continue
    if not found:
        raise FileNotFoundError(f'{source.repo} has no file {" or ".join((source.filename, *source.pickles))}')
    return found


def _differs(filename: str, repo: str, digest: str, who: str, wanted: str) -> str:
    return (
        f'{filename} of {repo} has the sha256 {digest}, {who} {wanted}: it was replaced, or what serves it '
        f'(HF_ENDPOINT) is not to be trusted; nothing of it is kept'
    )


def _discard(path: Path) -> None:
    """Remove a file of the Hub's cache, and what it links to."""
    blob = path.resolve()
    path.unlink(missing_ok=True)
    if blob.parent.name == 'blobs' and blob.parent.parent in path.absolute().parent.resolve().parents:
        blob.unlink(missing_ok=True)


@contextmanager
def hub_errors(
    repo: str,
    failure: str,
    advice: str = '',
    say: Callable[[str], None] = _logger.warning,
    patience: float | None = None,
) -> Iterator[Watch]:
    """Turn errors of the Hub's client into errors that say what to do, and check what the Hub answers.

    Args:
        repo: `organization/name`, with `@revision` appended if needed.
        failure: The first words of an error if the Hub fails or is out of reach.
        advice: What to do if it is out of reach.
        say: As in `client.guarded`.
        patience: As in `client.guarded`.

    Raises:
        PermissionError, FileNotFoundError, ConnectionError: As the names say.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HTTPError,  # pyright: ignore[reportPrivateImportUsage]  # of the HTTP library that this client has
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RevisionNotFoundError,
    )

    name, _, revision = repo.partition('@')
    try:
        with guarded(say, patience) as watch:
            yield watch
    except GatedRepoError as error:
        raise PermissionError(
            f'{name} is gated: accept its conditions on its page, then `hf auth login`, then try again'
        ) from error
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
                f'check the name, or `hf auth login`'
            ) from error
        # It contains text from the Hub, which may reach a terminal.
        text = ''.join(c if c.isprintable() or c == '\n' else '?' for c in str(error))
        raise ConnectionError(f'{failure}, the Hub failed: {text}') from error
    except HubError as error:
        raise HubError(f'{failure}: {error}') from error
    except (LocalEntryNotFoundError, HTTPError, ConnectionError, TimeoutError) as error:
        offline = any(isinstance(e, OfflineModeIsEnabled) for e in (error, error.__cause__))
        why = 'HF_HUB_OFFLINE is set' if offline else f'the Hub is out of reach ({type(error).__name__}: {error})'
        raise ConnectionError('; '.join(filter(None, (f'{failure}, {why}', advice)))) from error
    except OSError as error:
        if type(error) is not OSError or error.errno is not None:  # of the disk
            raise
        raise HubError(f'{failure}: what came is not as large as the Hub announced') from error
    except RuntimeError as error:
        if error.__cause__ is None:
            raise
        with hub_errors(repo, failure, advice):  # the client wraps what went wrong in an upload
            raise error.__cause__ from None


def in_hub_cache(source: Source, filenames: list[str]) -> Path | None:
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
            refs = folder.parent / 'refs'  # other revisions, pull requests of strangers among them, are not the newest
            others = {ref.read_text().strip() for ref in refs.rglob('*') if ref.is_file() and ref != refs / 'main'}
            older = [
                path
                for commit in folder.glob('*')
                if commit.name not in others and (path := commit / filename).is_file()
            ]
            if older:
                return max(older, key=lambda path: path.lstat().st_mtime)
    return None


def _check_writable(target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(target.parent, os.W_OK):
            raise OSError('not to be written')
    except OSError as error:
        raise OSError(
            f'{target.parent}, where conversions go: {error}; VIDEOZOO_CACHE=<folder> says another'
        ) from error
