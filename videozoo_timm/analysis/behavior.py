"""What people found alike: dissimilarity matrices and odd-one-out triplets, and how well features predict them."""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..files import check_regular
from ..paths import as_path, not_found
from ..text import counted

__all__ = ['DissimilarityMatrix', 'TripletScore', 'Triplets', 'read_behavior', 'read_names', 'score_triplets']


@dataclass(repr=False)
class DissimilarityMatrix:
    """Dissimilarities that people gave.

    Attributes:
        stimuli: Names of the N stimuli.
        values: float64 [N, N].
    """

    stimuli: list[str]
    values: np.ndarray

    def __repr__(self) -> str:
        return f'DissimilarityMatrix({counted(len(self.stimuli), "stimulus")})'


@dataclass(repr=False)
class Triplets:
    """Answers to the question which of three stimuli is the odd one.

    Attributes:
        stimuli: Names of the stimuli.
        answers: int64 [T, 3], three stimuli each; the last one is the one that was called odd.
    """

    stimuli: list[str]
    answers: np.ndarray

    def __repr__(self) -> str:
        return f'Triplets({counted(len(self.answers), "answer")} about {counted(len(self.stimuli), "stimulus")})'


@dataclass
class TripletScore:
    """How often representations find the same stimulus odd as people do.

    Attributes:
        accuracy: float64 [K]; 1/3 is chance.
        samples: float64 [B, K], the same in bootstrap samples of the triplets.
        ceiling: What people reach in answering for others, by the triplets that were asked more than once: the others'
            majority (lower bound), and the majority with the answer itself (upper bound); None without repeats.
        triplets: Number of different triplets.
        answers: Number of answers.
    """

    accuracy: np.ndarray
    samples: np.ndarray
    ceiling: tuple[float, float] | None
    triplets: int
    answers: int

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray] | None:
        """Lower and upper ends [K] of the percentile intervals; None without a bootstrap."""
        if not len(self.samples):
            return None
        low, high = np.quantile(self.samples, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return low, high


def read_names(path: str | os.PathLike[str]) -> list[str]:
    """Names of stimuli: the lines of a text file, or the first column of a `.csv` under its header.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is no text.
    """
    source = _file(path)
    if source.suffix == '.csv':
        return [row[0] for row in _table(source)[1:]]
    try:
        return [line for line in source.read_text(encoding='utf-8').splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f'{source} is no list of names, one a line: {error}') from error


def read_behavior(path: str | os.PathLike[str], stimuli: Sequence[str] = ()) -> DissimilarityMatrix | Triplets:
    """What people said about stimuli.

    Args:
        path: A dissimilarity matrix, `.csv` with the names of the stimuli in its first row and column, or `.npy` of the
            shape [N, N]; or a `.csv` of triplets with a header, a row an answer: three columns of stimuli, of which the
            last is the odd one, or these in any order and a column `odd` with its name.
        stimuli: Names of the rows of an `.npy`.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is neither, or is not complete.
    """
    source = _file(path)
    if source.suffix == '.npy':
        try:
            values = np.load(source)
        except ValueError as error:
            raise ValueError(f'{source} cannot be read: {error}') from error
        if not stimuli:
            raise UserError('{} holds no names: {stimuli} names a file with that of each row', source, stimuli=None)
        return _matrix(source, list(stimuli), values)
    if source.suffix != '.csv':
        raise ValueError(f'{source}: what people said is read from .csv or .npy')
    header, *rows = _table(source)
    names = [row[0] for row in rows]
    if header[1:] == names:
        try:
            values = np.array([row[1:] for row in rows], np.float64)
        except ValueError as error:
            raise ValueError(f'{source}: {error}') from error
        return _matrix(source, names, values)
    return _triplets(source, header, rows)


def _file(path: str | os.PathLike[str]) -> Path:
    source = as_path(path)
    if not source.exists():
        raise not_found(source, 'file')
    check_regular(source)
    return source


def _table(source: Path) -> list[list[str]]:
    with open(source, newline='', encoding='utf-8-sig') as file:
        try:
            rows = [row for row in csv.reader(file) if row]
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f'{source} is no table: {error}') from error
    if len(rows) < 2 or any(len(row) != len(rows[0]) for row in rows):
        raise ValueError(f'{source} is no table with a header and rows of the same number of cells')
    return rows


def _matrix(source: Path, stimuli: list[str], values: np.ndarray) -> DissimilarityMatrix:
    number = len(stimuli)
    if values.shape != (number, number):
        raise ValueError(
            f'{source}: a matrix of the shape {values.shape} has no row and column for {counted(number, "stimulus")}'
        )
    if len(set(stimuli)) < number:
        raise ValueError(f'{source} names a stimulus twice')
    values = values.astype(np.float64)
    off = values[~np.eye(number, dtype=bool)]
    if not np.isfinite(off).all():
        raise ValueError(f'{source}: {np.count_nonzero(~np.isfinite(off)) // 2 or 1} dissimilarities are missing (NaN)')
    if not np.allclose(values, values.T, equal_nan=True):
        raise ValueError(f'{source}: the matrix is not symmetric')
    if np.ptp(off) == 0:
        raise ValueError(f'{source}: all dissimilarities are {off[0]:g}, so nothing correlates with them')
    if np.nanmax(np.diag(values)) > off.min():
        raise ValueError(
            f'{source}: its diagonal is larger than other values, so these are similarities: subtract them'
        )
    return DissimilarityMatrix(stimuli, values)


def _triplets(source: Path, header: list[str], rows: list[list[str]]) -> Triplets:
    if 'odd' in header:
        odd = header.index('odd')
        columns = [k for k in range(len(header)) if k != odd][:3]
        if len(columns) < 3:
            raise ValueError(f'{source}: beside the column odd, three columns of stimuli are needed')
    elif len(header) == 3:
        odd, columns = 2, [0, 1, 2]
    else:
        raise ValueError(
            f'{source} is neither a dissimilarity matrix, with the same names in its first row and column, nor a table '
            f'of triplets, with three columns of which the last is the odd one, or with a column odd'
        )
    numbers: dict[str, int] = {}
    answers = []
    for line, row in enumerate(rows, 2):
        three = [row[k] for k in columns]
        if len(set(three)) < 3 or row[odd] not in three:
            raise ValueError(f'{source}, row {line}: {row[odd]!r} is not one of three stimuli ({", ".join(three)})')
        ordered = [*(name for name in three if name != row[odd]), row[odd]]
        answers.append([numbers.setdefault(name, len(numbers)) for name in ordered])
    return Triplets(list(numbers), np.array(answers))


def score_triplets(
    rdms: Sequence[np.ndarray], answers: np.ndarray, *, bootstraps: int = 1000, seed: int = 0
) -> TripletScore:
    """How often the two stimuli that a representation holds for most alike are those that people left together.

    Args:
        rdms: K dissimilarity matrices [N, N].
        answers: int [T, 3] as in `Triplets`, with numbers of their rows.
        bootstraps: Number of bootstrap samples of the triplets.
        seed: Their random seed.
    """
    sets, which = np.unique(np.sort(answers, axis=1), axis=0, return_inverse=True)
    which = which.reshape(-1)
    a, b, odd = answers.T
    hits = np.empty((len(rdms), len(answers)))
    for row, rdm in zip(hits, rdms, strict=True):
        kept, others = rdm[a, b], np.stack([rdm[a, odd], rdm[b, odd]])
        equal = (others == kept).sum(axis=0)
        row[:] = np.where((others < kept).any(axis=0), 0.0, 1 / (1 + equal))  # of equal ones, one is guessed
    asked = np.bincount(which, minlength=len(sets))
    by_set = np.stack([np.bincount(which, row, len(sets)) for row in hits], axis=1)  # [sets, K]
    random, samples = np.random.default_rng(seed), np.empty((bootstraps, len(rdms)))
    for sample in samples:
        times = np.bincount(random.integers(len(sets), size=len(sets)), minlength=len(sets))
        sample[:] = times @ by_set / (times @ asked)
    return TripletScore(hits.mean(axis=1), samples, _ceiling(sets, which, odd), len(sets), len(answers))


def _ceiling(sets: np.ndarray, which: np.ndarray, odd: np.ndarray) -> tuple[float, float] | None:
    """How often the majority gives the answer of one person, without and with that person's own answer."""
    chosen = np.argmax(sets[which] == odd[:, None], axis=1)
    votes: Any = np.zeros((len(sets), 3))
    np.add.at(votes, (which, chosen), 1)
    repeated = votes.sum(axis=1)[which] > 1
    if not repeated.any():
        return None
    which, chosen = which[repeated], chosen[repeated]
    others = votes[which].copy()
    others[np.arange(len(which)), chosen] -= 1
    return float(np.mean(_agreement(others, chosen))), float(np.mean(_agreement(votes[which], chosen)))


def _agreement(votes: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """1 where the majority [A, 3] is the answer [A], less where it is one of several that have as many votes."""
    most = votes == votes.max(axis=1, keepdims=True)
    return most[np.arange(len(chosen)), chosen] / most.sum(axis=1)
