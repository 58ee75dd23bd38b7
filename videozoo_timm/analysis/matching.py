"""Which rows of several files are of the same stimulus and time."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from ..errors import UserError
from ..text import counted
from .feature_reading import FeatureFile

__all__ = ['FEWEST', 'TOLERANCE', 'Matched', 'match_listed', 'match_names', 'match_rows', 'told_rows']

TOLERANCE = 0.01  # seconds between the times of two rows that are the same
FEWEST = 4  # rows; of fewer, debiased CKA is not defined, and three dissimilarities are no pattern


@dataclass
class Matched:
    """The rows that files have in common, in the order of the first file.

    Attributes:
        rows: int64 [N] for each file, which of its rows they are.
        paths: The N rows' stimuli, as the first file has them.
        ids: Their identifiers in somebody else's list, as the first file that has such has them; None without.
        times: float64 [N], their times in seconds, as the first file has them.
        left_out: For each file that has further rows, its name and the stimuli (with times) that another file lacks.
    """

    rows: list[np.ndarray]
    paths: list[str]
    ids: list[str] | None
    times: np.ndarray
    left_out: list[tuple[str, list[str]]]

    @property
    def stimuli(self) -> list[str]:
        """Names of the N rows' stimuli, which tell them apart."""
        return self.paths if self.ids is None else self.ids


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


def told_rows(stimuli: Sequence[str]) -> str:
    """How many rows there are, and of how many stimuli where these have several, in words."""
    told = counted(len(set(stimuli)), 'stimulus')
    return told if len(set(stimuli)) == len(stimuli) else f'{counted(len(stimuli), "row")} of {told}'


def match_listed(paths: Sequence[str], ids: Sequence[str] | None, listed: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names by which the stimuli of features are those of a list.

    Args:
        paths: Of the features.
        ids: Their identifiers, if they have such; these count if any of them stands in the list.
        listed: Names or identifiers.

    Returns:
        Names of the features and of the list that can be compared, as of `match_names`.
    """
    if ids is not None and not set(ids).isdisjoint(listed):
        return list(ids), list(listed)
    ours, theirs = match_names([paths, listed])
    return ours, theirs


def match_rows(files: Sequence[FeatureFile]) -> Matched:
    """The rows of the same stimulus and, where a stimulus has several rows, of the same time within `TOLERANCE`.

    Two files that both have identifiers, of which some are the same, are matched by these; others by the names of the
    stimuli (`match_names`).

    Raises:
        ValueError: They have fewer than `FEWEST` rows in common, or a file has two rows of one stimulus and time.
    """
    known, numbers = [set(file.ids or ()) for file in files], range(len(files))

    def share(j: int, k: int) -> bool:
        return not known[j].isdisjoint(known[k])

    sharing = [j for j in numbers if any(share(j, k) for k in numbers if k != j)]
    main = next(iter(sharing or filter(known.__getitem__, numbers)), 0)  # whose rows are looked for
    by_ids = [share(main, k) for k in numbers]
    named = [k for k in numbers if k == main or not by_ids[k]]
    names = dict(zip(named, match_names([files[k].paths for k in named]), strict=True))
    keys = [(files[k].ids if by_ids[k] else None) or names[k] for k in numbers]
    sought = [(files[main].ids if by_ids[k] else None) or names[main] for k in numbers]  # of the main file, in file k
    rows_of = [_rows_of(file, own) for file, own in zip(files, keys, strict=True)]
    single = [_single(own) & _single(other) for own, other in zip(keys, sought, strict=True)]
    times, found = [file.time for file in files], []
    for row in sorted(row for rows in rows_of[main].values() for row in rows.tolist()):
        time, alone = float(times[main][row]), all(sought[k][row] in single[k] for k in numbers)
        place = [_row_at(rows_of[k].get(sought[k][row]), times[k], time, alone) for k in numbers]
        place[main] = row
        if None not in place:
            found.append(place)
    if len(found) < FEWEST:
        have = '; '.join(f'{file.name} has {len(file.paths)}, such as {_told(file, 0)}' for file in files if file.paths)
        raise ValueError(
            f'{counted(len(found), "row")} in all of the files, at least {FEWEST} are needed ({have}): rows are '
            f'matched by {"identifier" if all(by_ids) else "stimulus"} and time'
        )
    chosen = np.array(sorted(found), np.int64).T  # [files, N]
    left_out = []
    for k, file in enumerate(files):
        if missing := sorted({row for rows in rows_of[k].values() for row in rows}.difference(chosen[k].tolist())):
            left_out.append((file.name, [f'{_told(file, row)} at {file.time[row]:.2f} s' for row in missing]))
    ids = files[main].ids
    return Matched(
        list(chosen),
        [files[0].paths[row] for row in chosen[0]],
        None if ids is None else [ids[row] for row in chosen[main]],
        times[0][chosen[0]],
        left_out,
    )


def _told(file: FeatureFile, row: int) -> str:
    path = file.paths[row]
    return path if file.ids is None or file.ids[row] == path else f'{file.ids[row]} ({path})'


def _single(names: Sequence[str]) -> set[str]:
    return {name for name, number in Counter(names).items() if number == 1}


def _rows_of(file: FeatureFile, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The rows of each stimulus, in the order of their times; of a stimulus that is listed twice, once."""
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    places = {name: np.array(sorted(found, key=lambda row: file.time[row])) for name, found in rows.items()}
    for name, found in places.items():
        if len(found) > 1 and (np.diff(file.time[found]) <= TOLERANCE).any():
            if file.ids is not None:
                once = {(file.paths[row], file.time[row]): row for row in reversed(found.tolist())}
                places[name] = found = np.array(sorted(once.values(), key=lambda row: file.time[row]))
            near = np.flatnonzero(np.diff(file.time[found]) <= TOLERANCE)
            if len(near):
                row = int(found[near[0]])
                raise UserError('{}: two rows are of {} at {:.2f} s', file.name, _told(file, row), file.time[row])
    return places


def _row_at(rows: np.ndarray | None, times: np.ndarray, time: float, alone: bool) -> int | None:
    if rows is None:
        return None
    if alone:
        return int(rows[0])
    nearest = rows[np.argmin(np.abs(times[rows] - time))]
    return int(nearest) if abs(times[nearest] - time) <= TOLERANCE else None
