"""What is compared: the stimuli that all files, and behavior, have, and the features of them."""

from collections.abc import Sequence

import numpy as np

from ..errors import UserError
from ..text import counted
from .behavior import DissimilarityMatrix, Triplets
from .feature_reading import FeatureFile
from .matching import FEWEST, Matched, match_listed

__all__ = ['BEHAVIOR', 'Items', 'checked_features']

BEHAVIOR = 'behavior'  # what it is called among the representations


class Items:
    """What a row and a column of a dissimilarity matrix are: the stimuli that all files, and behavior, have.

    Attributes:
        rows: For each file, its rows.
        repeats: For crossnobis, stimulus and repeat of each row; else None.
        stimuli, times: Of each item.
        behavior_vector: Dissimilarities by behavior, [P], of these items; None of triplets, or without behavior.
        answers: int [T, 3] of triplets of these items.
        left_out: What is not among them.
    """

    def __init__(
        self,
        files: Sequence[FeatureFile],
        matched: Matched,
        repeated: bool,
        behavior: DissimilarityMatrix | Triplets | None,
    ) -> None:
        self.left_out = list(matched.left_out)
        where: dict[str, list[int]] = {}
        for row, stimulus in enumerate(matched.stimuli):
            where.setdefault(stimulus, []).append(row)
        if repeated:
            counts = set(map(len, where.values()))
            if len(counts) > 1 or min(counts) < 2:
                raise UserError(
                    'crossnobis needs the same number of repeats, at least 2, of every stimulus; they have {}: its '
                    'repeats are clips of it, as {num_clips} gives them',
                    ' or '.join(map(str, sorted(counts))),
                    num_clips=2,
                )
            items = list(where.values())
        else:
            if behavior is not None and len(where) < len(matched.stimuli):
                raise ValueError(
                    f'{len(matched.stimuli)} rows are of {counted(len(where), "stimulus")}, behavior has one of each: '
                    f'take one clip of each, or crossnobis'
                )
            items = [[row] for row in range(len(matched.stimuli))]
        self.behavior_vector, self.answers, order = None, np.empty((0, 3), np.int64), list(range(len(items)))
        if behavior is not None:
            ids = None if matched.ids is None else [matched.ids[item[0]] for item in items]
            paths = [matched.paths[item[0]] for item in items]
            order = self._with_behavior(paths, ids, files[0].name, behavior)
        items = [items[k] for k in order]
        self.stimuli = [matched.stimuli[item[0]] for item in items]
        self.times = np.array([matched.times[item[0]] for item in items])
        flat = [row for item in items for row in item]
        self.rows = [rows[flat] for rows in matched.rows]
        self.repeats = None
        if repeated:
            places = [(k, j) for k, item in enumerate(items) for j in range(len(item))]
            self.repeats = [k for k, _ in places], [j for _, j in places]

    def _with_behavior(
        self, paths: list[str], ids: list[str] | None, name: str, behavior: DissimilarityMatrix | Triplets
    ) -> list[int]:
        """The items that behavior has too, in its order."""
        ours, theirs = match_listed(paths, ids, behavior.stimuli)
        stimuli = paths if ids is None else ids
        place = {stimulus: k for k, stimulus in enumerate(ours)}
        both = [j for j, stimulus in enumerate(theirs) if stimulus in place]
        if len(both) < FEWEST:
            raise ValueError(
                f'{counted(len(both), "stimulus")} in both {name} and behavior, at least {FEWEST} are needed: {name} '
                f'has {stimuli[0]}, behavior has {behavior.stimuli[0]}'
            )
        if rest := [stimuli[k] for k in sorted(set(range(len(stimuli))) - {place[theirs[j]] for j in both})]:
            self.left_out.append((name, rest))
        if rest := [behavior.stimuli[j] for j in sorted(set(range(len(theirs))) - set(both))]:
            self.left_out.append((BEHAVIOR, rest))
        if isinstance(behavior, DissimilarityMatrix):
            values = behavior.values[np.ix_(both, both)]
            self.behavior_vector = values[np.triu_indices(len(both), 1)].astype(np.float32)
        else:
            number = np.full(len(theirs), -1)
            number[both] = np.arange(len(both))
            answers = number[behavior.answers]
            self.answers = answers[(answers >= 0).all(axis=1)]
            if not len(self.answers):
                raise ValueError(f'of no triplet all three stimuli are in {name}')
        return [place[theirs[j]] for j in both]


def checked_features(
    features: np.ndarray, file: FeatureFile, block: int | None, rows: np.ndarray, dissimilarity: str
) -> np.ndarray:
    """The features of a block [N, C] in these rows.

    Raises:
        ValueError: They hold NaN, or are the same for all stimuli; or the dissimilarity is not defined for a row.
    """
    features = np.asarray(features[rows], np.float64)
    what = f'{file.name}{"" if block is None else f", block {block}"}'
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        first = file.paths[rows[int(np.argmin(finite))]]
        raise ValueError(
            f'{what}: features are NaN or infinite in {counted(np.count_nonzero(~finite), "row")}, such as {first}'
        )
    if not np.ptp(features, axis=0).any():
        raise ValueError(f'{what}: the features are the same for all stimuli, so none are more alike than others')
    spread = np.ptp(features, axis=1) if dissimilarity == 'correlation' else np.abs(features).max(axis=1)
    if dissimilarity in ('correlation', 'cosine') and not spread.all():
        first = file.paths[rows[int(np.argmin(spread))]]
        raise UserError(
            '{}: all features of {} are equal, so that it correlates with nothing: take {dissimilarity}',
            what,
            first,
            dissimilarity='euclidean',
        )
    return features
