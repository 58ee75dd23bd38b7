"""How an input was made, where its own record tells it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .record import NAME, path_of, read

_LEFT_OUT = ('outputs', 'machine')  # of the record that is quoted


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
            return {name: value for name, value in told.items() if name not in _LEFT_OUT}
    return None


def _tells(record: Mapping[str, Any], where: Path, path: Path, entry: Mapping[str, Any]) -> bool:
    """Whether a record's outputs hold this input, in this state as far as it is known."""
    if path.is_dir():
        return where.parent == path and all((path / output['path']).is_file() for output in record['outputs'])
    for output in record['outputs']:
        if (where.parent / output['path']).absolute() == path.absolute():
            return output.get('bytes') == entry.get('bytes') and entry.get('sha256') in (None, output['sha256'])
    return False
