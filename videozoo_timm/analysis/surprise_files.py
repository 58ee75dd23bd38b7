"""The files of a run of `surprise`: the table of the series, and the record of all that decides about them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files import save_csv, save_json

if TYPE_CHECKING:
    from .surprise_series import Series, Surprise

__all__ = ['RECORD', 'TABLE', 'save_run', 'save_table']

TABLE, RECORD = 'surprise.csv', 'surprise.json'


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
