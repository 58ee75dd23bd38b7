"""How an input was made, where its own record tells it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .record import NAME, path_of, read

_LEFT_OUT = ('outputs', 'machine')  # of the record that is quoted
_DEEPEST = 8  # runs, each of which has made an input of the next


def origin_of(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of the run that has written an input, without its outputs.

    Args:
        entry: Of `describe_inputs`; a single file, or a folder with a record in it.

    Returns:
        None where there is no record of it, or where the file is another than the record tells.
    """
    path = Path(entry['path'])
    for record in (path_of(path), path.parent / NAME):
        if not os.path.isfile(record):
            continue
        try:
            told, where = read(record)
        except (OSError, ValueError):
            continue
        if _tells(told, where, path, entry):
            return _quoted(told, _DEEPEST)
    return None


def _quoted(record: Mapping[str, Any], depth: int) -> dict[str, Any]:
    inputs = [dict(entry) for entry in record['inputs']]
    for entry in inputs:
        if (origin := entry.pop('made_by', None)) is not None and depth:
            entry['made_by'] = _quoted(origin, depth - 1)
    return {name: value for name, value in record.items() if name not in _LEFT_OUT} | dict(inputs=inputs)


def _is_as_told(folder: Path, output: Mapping[str, Any]) -> bool:
    file = folder / output['path']
    return file.is_file() and file.stat().st_size == output.get('bytes')


def _tells(record: Mapping[str, Any], where: Path, path: Path, entry: Mapping[str, Any]) -> bool:
    """Whether a record's outputs hold this input, in this state as far as it is known."""
    if path.is_dir():
        return where.parent == path and all(_is_as_told(path, output) for output in record['outputs'])
    for output in record['outputs']:
        if (where.parent / output['path']).absolute() == path.absolute():
            return output.get('bytes') == entry.get('bytes') and entry.get('sha256') in (None, output['sha256'])
    return False
