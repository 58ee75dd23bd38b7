"""The files of a run of `surprise`: the table of the series, and the record of all that decides about them."""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files import check_regular, save_csv, save_json
from ..paths import as_path

if TYPE_CHECKING:
    from .surprise_series import Series, Surprise

__all__ = [
    'OPTIONS',
    'RECORD',
    'TABLE',
    'difference',
    'read_record',
    'read_table',
    'rows_of',
    'save_run',
    'save_table',
]

TABLE, RECORD = 'surprise.csv', 'surprise.json'
OPTIONS = (  # of `surprise`, that decide about the numbers
    'score',
    'norm_pix_loss',
    'contexts',
    'mask_type',
    'mask_ratio',
    'num_masks',
    'seed',
    'frame_step',
    'frame_rate',
    'stride',
    'offset',
    'frames',
    'batch_size',
)


def save_table(series: 'Sequence[Series]', contexts: Sequence[int], path: Path) -> None:
    """Write a row for each window and context; numbers in as many digits as tell them from all others."""
    save_csv(_table(series, contexts), path)


def _table(series: 'Sequence[Series]', contexts: Sequence[int]) -> list[dict[str, Any]]:
    return [
        dict(
            video=one.path,
            start=f'{one.starts[w]:.6g}',
            end=f'{one.ends[w]:.6g}',
            context=contexts[k] if contexts else '',
            score=_shortest(one.scores[w, k]),
            **{name: _shortest(values[w, k]) for name, values in one.baselines.items()},
        )
        for one in series
        for w in range(len(one.starts))
        for k in range(one.scores.shape[1])
    ]


def _shortest(value: Any) -> str:
    return str(np.float32(value))


def save_run(out: Path, record: Mapping[str, Any], result: 'Surprise') -> None:
    """Write record and table into a folder, the record first: no table stands without what decides about it.

    Args:
        out: The folder.
        record: Weights, versions and every option.
        result: The series.
    """
    (out / TABLE).unlink(missing_ok=True)  # of an earlier run
    told = dict(record, windows=[len(one.starts) for one in result.series], failed=result.failed, lost=result.lost)
    save_json(told, out / RECORD)
    save_table(result.series, result.contexts, out / TABLE)


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The record of a run, by its file or its folder.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is no such record.
    """
    path = as_path(path)
    path = path / RECORD if path.is_dir() else path
    check_regular(path)
    try:
        record = json.loads(path.read_bytes())
        if not isinstance(record, dict) or not isinstance(record['videos'], list) or 'checksum' not in record:
            raise ValueError
    except (ValueError, KeyError, RecursionError) as error:
        raise ValueError(f'{path} is no record of a run of surprise ({RECORD})') from error
    return record


Rows = dict[tuple[str, str, str], tuple[str, ...]]


def read_table(path: Path) -> Rows:
    """The numbers of a table by video, start and context.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is no such table.
    """
    check_regular(path)
    with open(path, newline='', encoding='utf-8', errors='surrogateescape') as file:
        try:
            header, *rows = csv.reader(file)
            if header[:5] != ['video', 'start', 'end', 'context', 'score'] or {len(row) for row in rows} != {
                len(header)
            }:
                raise ValueError
        except (ValueError, csv.Error) as error:
            raise ValueError(f'{path} is no table of surprise') from error
    return {(row[0], row[1], row[3]): tuple(row[4:]) for row in rows}


def rows_of(result: 'Surprise') -> Rows:
    """The same of series as they are computed."""
    rows = [[str(cell) for cell in row.values()] for row in _table(result.series, result.contexts)]
    return {(row[0], row[1], row[3]): tuple(row[4:]) for row in rows}


def difference(before: Rows, now: Rows) -> tuple[float, int]:
    """How two tables differ.

    Returns:
        The largest difference of a number relative to the larger one of the two, and the number of rows that only one
        of the tables has.
    """
    largest = 0.0
    for key in before.keys() & now.keys():
        for old, new in zip(before[key], now[key], strict=False):
            if old != new:
                one, other = float(old), float(new)
                largest = max(largest, abs(one - other) / max(abs(one), abs(other)))
    return largest, len(before.keys() ^ now.keys())
