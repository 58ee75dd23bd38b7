"""Which rows of several files are of the same stimulus and time."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from ..errors import UserError
from .feature_reading import FeatureFile

__all__ = ['FEWEST', 'TOLERANCE', 'Matched', 'match_names', 'match_rows']

TOLERANCE = 0.01  # seconds between the times of two rows that are the same
FEWEST = 4  # stimuli; of fewer, debiased CKA is not defined, and three dissimilarities are no pattern


@dataclass
class Matched:
    """The rows that files have in common, in the order of the first file.

    Attributes:
        rows: int64 [N] for each file, which of its rows they are.
        stimuli: Names of the N rows' stimuli, as the first file has them.
        times: float64 [N], their times in seconds, as the first file has them.
        left_out: For each file that has further rows, its name and the stimuli (with times) that another file lacks.
    """

    rows: list[np.ndarray]
    stimuli: list[str]
    times: np.ndarray
    left_out: list[tuple[str, list[str]]]


def _levels(paths: Sequence[str]) -> list[list[str]]:
    """Names of stimuli from the whole path down to the stem."""
    parts = [PurePosixPath(path.replace(os.sep, '/')) for path in paths]
    return [
        list(map(str, parts)),
        [f'{path.parent.name}/{path.name}' for path in parts],
        [path.name for path in parts],
        [f'{path.parent.name}/{path.stem}' for path in parts],
        [path.stem for path in parts],
    ]


def match_names(lists: Sequence[Sequence[str]]) -> list[list[str]]:
    """Names by which the stimuli of several lists are the same ones.

    Paths are compared as they are or, as folders may have other places, by the last folder and the name, by the name,
    or without its ending: whichever gives the most matches while it tells the stimuli of each list apart.

    Args:
        lists: Names, with repeats.

    Returns:
        For each list, names of the same length that can be compared.
    """
    candidates = [_levels(names) for names in lists]
    best, most = 0, -1
    for level in range(len(candidates[0])):
        keys = [candidate[level] for candidate in candidates]
        ambiguous = any(len(set(named)) < len(set(paths)) for named, paths in zip(keys, lists, strict=True))
        common = len(set.intersection(*map(set, keys)))
        if common > most and (level == 0 or not ambiguous):
            best, most = level, common
    return [candidate[best] for candidate in candidates]


def match_rows(files: Sequence[FeatureFile]) -> Matched:
    """The rows of the same stimulus and, where a stimulus has several rows, of the same time within `TOLERANCE`.

    Raises:
        ValueError: They have fewer than `FEWEST` rows in common, or a file has two rows of one stimulus and time.
    """
    keys = match_names([file.paths for file in files])
    single = [{name for name, number in Counter(names).items() if number == 1} for names in keys]
    times = [file.time for file in files]
    places = [_places(file, names) for file, names in zip(files, keys, strict=True)]
    rows: list[list[int]] = [[] for _ in files]
    for row, name in enumerate(keys[0]):
        alone = all(name in names for names in single)
        found = [
            _row_at(place.get(name), time, times[0][row], alone) for place, time in zip(places, times, strict=True)
        ]
        if None not in found:
            for chosen, one in zip(rows, found, strict=True):
                chosen.append(one)  # pyright: ignore[reportArgumentType]
    if len(rows[0]) < FEWEST:
        have = '; '.join(f'{file.name} has {len(file.paths)}, such as {file.paths[0]}' for file in files if file.paths)
        raise ValueError(
            f'{len(rows[0])} stimuli are in all of the files, at least {FEWEST} are needed ({have}): rows are matched '
            f'by stimulus and time'
        )
    left_out = []
    for file, chosen in zip(files, rows, strict=True):
        if missing := sorted(set(range(len(file.paths))) - set(chosen)):
            left_out.append((file.name, [f'{file.paths[row]} at {file.time[row]:.2f} s' for row in missing]))
    chosen = rows[0]
    return Matched([np.array(r) for r in rows], [files[0].paths[row] for row in chosen], times[0][chosen], left_out)


def _places(file: FeatureFile, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The rows of each stimulus, in the order of their times."""
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    places = {name: np.array(sorted(found, key=lambda row: file.time[row])) for name, found in rows.items()}
    for found in places.values():
        if len(found) > 1 and (np.diff(file.time[found]) <= TOLERANCE).any():
            row = found[np.argmin(np.diff(file.time[found]))]
            raise UserError('{}: two rows are of {} at {:.2f} s', file.name, file.paths[row], file.time[row])
    return places


def _row_at(rows: np.ndarray | None, times: np.ndarray, time: float, alone: bool) -> int | None:
    if rows is None:
        return None
    if alone:
        return int(rows[0])
    nearest = rows[np.argmin(np.abs(times[rows] - time))]
    return int(nearest) if abs(times[nearest] - time) <= TOLERANCE else None
