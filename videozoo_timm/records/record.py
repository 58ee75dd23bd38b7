"""The record of a run, a JSON file beside its results: where it is, how it is written, read and checked."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from glob import escape
from pathlib import Path
from typing import Any

from ..files import check_regular, save_json
from ..paths import as_path, not_found
from ..weights.digests import hash_file

NAME = 'run.json'
KEY, FORMAT = 'videozoo_record', 1  # what tells a record from other JSON, and its layout
NESTED = 'record'  # key of the record in the run.json of a training, which holds its settings
_MOST_BYTES, _DEEPEST = 1 << 28, 50  # of a record, and of the records that it quotes

_DATED = re.compile(r'(?:(.+)\.)?run_[0-9T]+(?:_[0-9]+)?\.json')  # where `NAME` is somebody else's, or a later run's
_SECRETS = re.compile(r'hf_[A-Za-z0-9]{16,}|(?<=://)[^/@\s]+(?=@)')  # tokens of the Hub; user and password of a URL


def path_of(results: Path) -> Path:
    """Where the record of results is: `run.json` in their folder, or `NAME.run.json` beside their file."""
    return results / NAME if results.is_dir() else results.with_name(f'{results.name}.{NAME}')


def results_of(record: Path) -> Path:
    """The folder or the file of results whose record this is."""
    if record.name == NAME:
        return record.parent
    if dated := _DATED.fullmatch(record.name):
        return record.with_name(dated[1]) if dated[1] else record.parent
    return record.with_name(record.name.removesuffix(f'.{NAME}'))


def now() -> str:
    """The time, with the offset of its zone."""
    return datetime.now().astimezone().isoformat(timespec='milliseconds')


def without_secrets(told: Any) -> Any:
    """Text, or all text in lists and dictionaries, without what nobody should read."""
    if isinstance(told, dict):
        return {name: without_secrets(value) for name, value in told.items()}
    if isinstance(told, list):
        return [without_secrets(value) for value in told]
    return _SECRETS.sub('***', told) if isinstance(told, str) else told


def describe_outputs(written: Iterable[Path], results: Path) -> list[dict[str, Any]]:
    """Paths, from the record's folder, sizes and sha256 of the files that were written as these results, sorted.

    Args:
        written: All that was written, caches for instance included.
        results: A folder, of which everything counts; or a file, with what was written into its folder beside it.
    """
    own, base = path_of(results), path_of(results).parent.absolute()
    files: dict[str, Path] = {}
    for path in written:
        inside = path.is_relative_to(base) if results.is_dir() else path.parent == base
        for file in sorted(path.rglob('*')) if path.is_dir() else [path]:
            if inside and file.name != own.name and file.is_file():
                files[file.relative_to(base).as_posix()] = file
    return [dict(path=name, bytes=file.stat().st_size, sha256=hash_file(file)) for name, file in sorted(files.items())]


def save(record: Mapping[str, Any], results: Path) -> Path:
    """Write a record beside its results.

    In a folder of the pictures of many runs, the record of an earlier run of which some are left is kept under its
    date (`run_20261127T230301.json`). A `run.json` or `NAME.run.json` of somebody else's is never replaced: then this
    one has its date (`NAME.run_20261127T230301.json`).

    Returns:
        Where it is.

    Raises:
        WriteError: The disk is full, or the folder cannot be written.
    """
    target = path_of(results)
    new = {output['path'] for output in record['outputs']}
    for path in [*([target] if target.name == NAME else []), *_dated_beside(target)]:
        before = _read_or_none(path)
        if before is None or before.get(KEY) != FORMAT:
            continue
        if not any((target.parent / name).is_file() for name in _names(before) - new):
            path.unlink()
        elif path == target:
            os.replace(path, _dated(target, before))
    content = _read_or_none(target) if os.path.lexists(target) else {}
    if content and _is_training(content):
        save_json(dict(content, **{NESTED: dict(record)}), target)
        return target
    if content is None or (content and content.get(KEY) is None):
        target = _dated(target, record)
    save_json(record, target)
    return target


def forget(results: Path, written: Iterable[Path]) -> None:
    """Remove the record of results that a run has replaced, which came to no end of its own."""
    written, folder = set(written), path_of(results).parent.absolute()
    for path in [path_of(results), *_dated_beside(path_of(results))]:
        before = _read_or_none(path)
        if before is not None and before.get(KEY) == FORMAT:
            there = {folder / name for name in _names(before)}
            if there.intersection(written) or folder in written:
                path.unlink()


def results_below(files: Iterable[str]) -> dict[str, Path]:
    """The records among these files and the files that they list as results, by path; each with the place of these."""
    found: dict[str, Path] = {}
    for file in files:
        name = os.path.basename(file)
        if name == NAME or name.endswith(f'.{NAME}') or _DATED.fullmatch(name):
            content = _read_or_none(Path(file)) or {}
            record = content.get(NESTED, content)
            if isinstance(record, dict) and record.get(KEY) == FORMAT:
                place = results_of(Path(file))
                names = [name, *_names(record)]
                found |= dict.fromkeys((os.path.join(os.path.dirname(file), one) for one in names), place)
    return found


def _names(record: Mapping[str, Any]) -> set[str]:
    return {str(output['path']) for output in record.get('outputs', ()) if isinstance(output, dict)}


def _dated(path: Path, record: Mapping[str, Any]) -> Path:
    date = re.sub(r'[^0-9T]', '', str(record.get('end'))[:19])
    begin = f'{path.name.removesuffix(NAME)}run_{date}'
    names = (f'{begin}{end}.json' for end in ('', *(f'_{k}' for k in range(2, 10_000))))
    return next(place for name in names if not os.path.lexists(place := path.with_name(name)))


def _dated_beside(path: Path) -> list[Path]:
    """Records that have their dates in their names instead of this one, the latest last."""
    return sorted(path.parent.glob(f'{escape(path.name.removesuffix(NAME))}run_*.json'))


def _is_training(content: Mapping[str, Any]) -> bool:
    return KEY not in content and {'id', 'files_sha256', 'steps'} <= content.keys()


def _read_or_none(path: Path) -> dict[str, Any] | None:
    """A JSON object; None of anything else."""
    with suppress(OSError, ValueError, RecursionError):
        check_regular(path)
        if path.stat().st_size <= _MOST_BYTES and isinstance(content := json.loads(path.read_bytes()), dict):
            return content
    return None


def find(path: str | os.PathLike[str]) -> Path:
    """The record that is meant by its own path, by that of its results, or of their folder.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is no regular file.
    """
    path = as_path(path)
    if not path.exists():
        raise not_found(path, 'record')
    beside = path_of(path)
    if beside.is_file():
        content = _read_or_none(beside) or {}
        is_ours = KEY in content or _is_training(content)
        dated = [] if is_ours else [other for other in _dated_beside(beside) if KEY in (_read_or_none(other) or {})]
        return dated[-1] if dated else beside
    if path.is_dir() or path.suffix != '.json':
        if not path.is_dir() and (of_several := _that_names(path)):
            return of_several
        where = 'in it' if path.is_dir() else 'beside it'
        if deeper := next(iter(sorted(path.glob(f'*/{NAME}'))), None) if path.is_dir() else None:
            raise FileNotFoundError(f'{path}: there is no {beside.name} in it; {deeper.parent} has one: name that')
        raise FileNotFoundError(
            f'{path}: there is no {beside.name} {where}; commands that give results write one, since version 0.2.0'
        )
    check_regular(path)
    return path


def _that_names(path: Path) -> Path | None:
    """The record of a run that wrote this file with others; None if there is none beside it."""
    folder = path.absolute().parent
    for file in [
        folder / NAME,
        *_dated_beside(folder / NAME),
        *sorted(folder.glob(f'*.{NAME}')),
        *sorted(folder.glob('*.run_*.json')),
    ]:
        content = _read_or_none(file) or {}
        record = content.get(NESTED, content)
        if isinstance(record, dict) and KEY in record and not _problem(record) and path.name in _names(record):
            return path.with_name(file.name)
    return None


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], Path]:
    """A record, and where it is.

    Args:
        path: Of the record, or of its results.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is no record, damaged, or of a newer version.
    """
    path = find(path)
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f'{path} has {path.stat().st_size:,} bytes, which is too large for a record')
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path} is no record of a run: it is damaged, or no JSON ({error})') from error
    if isinstance(content, dict) and _is_training(content):
        if not isinstance(content.get(NESTED), dict):
            raise ValueError(f'{path} is of a training that has not ended, or was run by version 0.1')
        content = content[NESTED]
    if not isinstance(content, dict) or not isinstance(content.get(KEY), int):
        raise ValueError(f'{path} is no record of a run (it has no {KEY})')
    if content[KEY] > FORMAT:
        by = content.get('versions', {}) if isinstance(content.get('versions'), dict) else {}
        raise ValueError(
            f'{path} was written by a newer version ({by.get("videozoo-timm", "?")}, layout {content[KEY]}; this one '
            f'reads layout {FORMAT}): update videozoo-timm'
        )
    if problem := _problem(content):
        raise ValueError(f'{path} is a damaged record: {problem}')
    return content, path


_FIELDS: dict[str, type] = dict(
    command=list, folder=str, options=dict, given=list, models=list, settings=dict, inputs=list, outputs=list
)
_FIELDS |= dict(versions=dict, machine=dict, parts=list)


def _problem(record: Mapping[str, Any], depth: int = 0) -> str:
    """What is wrong with the fields of a record; '' if nothing."""
    for name, kind in _FIELDS.items():
        if not isinstance(record.get(name), kind):
            return f'{name} is missing, or no {kind.__name__}'
    command = record['command']
    if len(command) < 2 or command[0] != 'videozoo' or not all(isinstance(word, str) for word in command):
        return 'command is none of videozoo'
    for name in ('models', 'inputs', 'outputs', 'parts'):
        if not all(isinstance(entry, dict) for entry in record[name]):
            return f'{name} holds something else than objects'
    for entry in record['outputs']:
        path, digest = entry.get('path'), entry.get('sha256')
        if (
            not isinstance(path, str)
            or not isinstance(digest, str)
            or Path(path).is_absolute()
            or '..' in Path(path).parts
        ):
            return 'outputs holds something else than paths in its folder with digests'
    if not record['outputs']:
        return 'outputs is empty'
    if not all(isinstance(entry.get('path'), str) for entry in record['inputs']):
        return 'inputs holds something else than paths'
    for entry in record['inputs']:
        if (origin := entry.get('made_by')) is not None:
            if not isinstance(origin, dict) or depth > _DEEPEST:
                return 'made_by is no object' if depth <= _DEEPEST else 'made_by is nested too deeply'
            if problem := _problem(dict(origin, outputs=record['outputs'], machine={}), depth + 1):
                return f'made_by: {problem}'
    return ''
