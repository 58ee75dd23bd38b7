"""The files that a run reads, told by few numbers and digests, so that a hundred thousand of them take a second."""

import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..paths import matching
from ..synthetic import is_drawn
from ..text import counted
from ..video.finding import files_below, is_image, is_sequence, media_among, split_sequence
from ..weights.digests import hash_file
from .record import NAME, results_below

MOST_FILES, MOST_BYTES = 1_000, 1 << 26  # of one input whose contents are read unasked


def describe_inputs(given: Iterable[str], results: Path | None = None, contents: bool = False) -> list[dict[str, Any]]:
    """What tells the inputs of a run from others.

    Args:
        given: Paths of files and folders, patterns, names of synthetic videos, as they were typed.
        results: Where the run writes; files in it, and its record, are no inputs. Neither are results of other runs
            in a folder, as their records tell, unless they are its videos or, without such, its images.
        contents: Read the contents of all files. Else only of an input with at most `MOST_FILES` files and `MOST_BYTES`
            bytes; of others the names and sizes tell.

    Returns:
        Of each, once: `path` as given, `files`, how many `images` if there are no videos, `bytes`, the digest
        `names_and_sizes`, and `sha256` of the contents: of a file its own, of a folder that of the lines that
        `sha256sum` prints in it. `drawn` of synthetic videos, whose names say everything. `missing` of what is not
        there.
    """
    away = None if results is None else os.path.abspath(results)
    told = []
    for path in dict.fromkeys(given):
        try:
            told.append(_describe(path, away, contents))
        except (OSError, ValueError):  # of no form that a path has; the run tells why
            told.append(dict(path=path, missing=True))
    return told


def describe_listed(table: str, files: Iterable[str], contents: bool = False) -> dict[str, Any]:
    """What tells the files that a table lists, in its order, from others; of drawn ones their names.

    Returns:
        As `describe_inputs`, and `listed`; `path` is that of the table.
    """
    return _tell(table, list(files), list(files), contents, is_one=False) | dict(listed=True)


def _describe(given: str, away: str | None, contents: bool) -> dict[str, Any]:
    if is_drawn(given):
        return dict(path=given, drawn=True)
    base, files = _files_of(given)
    if away is not None:
        inside = away + os.sep
        own = {f'{away}.{NAME}', f'{away}.json'}  # its record, and what stands beside a table
        files = [
            f for f in files if not f'{(path := os.path.abspath(f))}{os.sep}'.startswith(inside) and path not in own
        ]
    if not files:
        return dict(path=given, missing=True) if base is None else dict(path=given, files=0, bytes=0)
    if base is not None:
        files = _without_results(files, base)
    folder = '' if base is None else os.path.join(base, '')
    names = [file.removeprefix(folder) if base else os.path.basename(file) for file in files]
    return _tell(given, files, names, contents, is_one=base is None)


def _without_results(files: list[str], base: str) -> list[str]:
    """Files without results that other runs have left in the folder, and that are neither videos nor images to read."""
    own = os.path.abspath(base)
    made = {path for path, place in results_below(files).items() if os.path.abspath(place) != own}
    read = set(map(str, media_among(list(map(Path, files))))) if made else set()
    return [file for file in files if file in read or file not in made]


def _tell(given: str, files: list[str], names: list[str], contents: bool, is_one: bool) -> dict[str, Any]:
    sizes = [_size_of(file) for file in files]
    digest = hashlib.sha256(b''.join(os.fsencode(f'{n}\0{s}\0') for n, s in zip(names, sizes, strict=True)))
    total = sum(max(size, 0) for size in sizes)
    told: dict[str, Any] = dict(path=given, files=len(files), bytes=total, names_and_sizes=digest.hexdigest())
    media = [] if is_sequence(given) else media_among(list(map(Path, files)))
    told |= {'images': len(media)} if media and is_image(media[0]) else {}
    if min(sizes) >= 0 and (contents or (len(files) <= MOST_FILES and total <= MOST_BYTES)):
        told['sha256'] = _contents_of(files, names, is_one)
    return told


def _files_of(given: str) -> tuple[str | None, list[str]]:
    """The folder from which files are named, None of a single file, and the files."""
    path = split_sequence(given)[0] if is_sequence(given) else Path(given)
    places = [path] if path.exists() else matching(path)
    if len(places) == 1 and places[0].is_file():
        return None, [str(places[0])]
    files: list[str] = []
    for place in places:
        files += map(str, files_below(place, lambda error: None)) if place.is_dir() else [str(place)]
    base = str(path) if path.is_dir() else os.curdir if places else None
    return base, files


def _size_of(path: str) -> int:
    try:
        state = os.stat(path)
    except OSError:  # a link to nothing, which the run tells of
        return -1
    return state.st_size if stat.S_ISREG(state.st_mode) else -1  # nor is a pipe read


def _contents_of(files: list[str], names: list[str], is_one: bool) -> str | None:
    """The sha256 of a file; of several that of the list of theirs; None if one cannot be read."""
    try:
        if is_one:
            return hash_file(Path(files[0]))
        digest = hashlib.sha256()
        for file, name in zip(files, names, strict=True):
            digest.update(os.fsencode(f'{hash_file(Path(file))}  {name}\n'))
        return digest.hexdigest()
    except OSError:
        return None


def changes_of_inputs(before: Iterable[dict[str, Any]], now: Iterable[dict[str, Any]]) -> list[str]:
    """What has changed in inputs since a run, in words; those that are gone are not among it."""
    told = []
    for old, new in zip(before, now, strict=True):
        if new.get('missing') or old == new:
            continue
        path, files, size = old['path'], old.get('files', 0), old.get('bytes', 0)
        path = f'what {path} lists' if old.get('listed') else path
        if files != new.get('files', 0):
            told.append(f'{path}: had {counted(files, "file")}, has {new.get("files", 0):,}')
        elif size != new.get('bytes', 0):
            told.append(f'{path}: had {counted(size, "byte")}, has {new.get("bytes", 0):,}')
        elif old.get('names_and_sizes') != new.get('names_and_sizes'):
            told.append(f'{path}: names or sizes of its files have changed')
        elif old.get('sha256') and new.get('sha256') and old['sha256'] != new['sha256']:
            told.append(f'{path}: contents have changed, though names and sizes have not')
    return told
