"""How well features predict responses: ridge regression, cross-validated within cross-validation."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from .similarity import library

__all__ = ['ALPHAS', 'Encoding', 'encode']

ALPHAS = tuple(10.0 ** (k / 2) for k in range(-2, 13))  # of standardized features
_INNER = 4  # folds in which alpha and block are chosen
_AT_ONCE = 1 << 27  # bytes that the permutation test holds of its orders, and about what it computes on


@dataclass
class Encoding:
    """How well the blocks of a model predict V voxels or channels.

    Attributes:
        r: float64 [K, V], of each block Pearson's r of held-out predictions, mean over the folds.
        chosen_r: float64 [V], the same of the block that is chosen for each channel on the training rows alone.
        chosen: int64 [F, V], that block's place among the K in each of F folds.
        p: float64 [V], of the permutation test: whether r is above 0. 1 without permutations.
        solver: 'himalaya' or 'sklearn'.
    """

    r: np.ndarray
    chosen_r: np.ndarray
    chosen: np.ndarray
    p: np.ndarray
    solver: str

    @property
    def q(self) -> np.ndarray:
        """p [V] corrected for the number of channels: the false discovery rate (Benjamini and Hochberg, 1995)."""
        from scipy.stats import false_discovery_control

        known, q = np.isfinite(self.p), np.full(self.p.shape, np.nan)
        q[known] = false_discovery_control(self.p[known]) if known.any() else []
        return q

    @property
    def block(self) -> np.ndarray:
        """int64 [V], the place among the K of the block that is chosen in most folds, the first of several."""
        counts = np.stack([(self.chosen == k).sum(axis=0) for k in range(len(self.r))])
        return counts.argmax(axis=0)


def encode(
    features: np.ndarray,
    responses: np.ndarray,
    groups: Sequence[Any] | None = None,
    *,
    folds: int = 5,
    alphas: Sequence[float] = ALPHAS,
    projection: int | None = None,
    permutations: int = 1000,
    seed: int = 0,
    solver: str | None = None,
    progress: Callable[[float], Any] = lambda number: None,
) -> Encoding:
    """Predict responses from features by ridge regression, and tell how well on rows that were held out.

    In each fold the features are standardized, alpha is chosen for each channel, and for each channel the block, all on
    the training rows. Rows of one group are never on both sides. himalaya (Dupré la Tour et al., NeuroImage 264, 2022)
    chooses in four inner folds, which keep groups together too; scikit-learn, where himalaya is not installed, by
    leaving one row out.

    The permutation test compares the order of the responses with random ones, for each of which alpha and block are
    chosen again and the regressions fitted. As that is to be affordable, generalized cross-validation chooses, in the
    recorded order too: all orders are treated alike, so that p is exact for independent rows. Where groups have several
    rows (time courses), an order is a shift in a circle, as neighbors in time are alike; R rows have R - 1 others, so p
    is at least 1 / R.

    Args:
        features: [R, K, C] of K blocks.
        responses: [R, V].
        groups: The stimulus of each row; each row its own if None.
        folds: Number of folds.
        alphas: To choose from.
        projection: Number of dimensions of a sparse random projection of each block (Li et al., KDD 2006), if it has
            more; None for none.
        permutations: Of the test, at most; 0 for none.
        seed: Random seed of folds, projection and permutations.
        solver: 'himalaya' or 'sklearn'; None for the first one that is installed.
        progress: Called with a number of fits (of a block in a fold) that are done, or a fraction of them: with its
            permutations a fit counts half.

    Raises:
        ValueError: Too few rows, or another solver.
        ImportError: scikit-learn is not installed.
    """
    number, num_blocks = features.shape[:2]
    if folds < 2 or number < 3 * folds or number - -(-number // folds) < _INNER:
        fewest, way = max(3 * folds, 2 * _INNER), '' if folds <= 2 else f'; 2 folds take {2 * _INNER}'
        raise ValueError(f'{number} rows are too few for {folds} folds, which take {fewest}{way}')
    solver = solver or ('himalaya' if find_spec('himalaya') else 'sklearn')
    if solver not in ('himalaya', 'sklearn'):
        raise ValueError(f"solver={solver!r}: must be 'himalaya' or 'sklearn'")
    library('sklearn')
    numbers = np.unique(np.arange(number) if groups is None else np.asarray(groups), return_inverse=True)[1].reshape(-1)
    assigned = _folds(numbers, folds, seed)
    blocks = [_projected(features[:, k], projection, seed) for k in range(num_blocks)]
    num_channels, orders = responses.shape[1], _orders(numbers, permutations, seed)
    r, chosen = np.zeros((folds, num_blocks, num_channels)), np.zeros((folds, num_channels), np.int64)
    chosen_r = np.zeros((folds, num_channels))
    for fold in range(folds):
        train, test = np.flatnonzero(assigned != fold), np.flatnonzero(assigned == fold)
        inner = _folds(numbers[train], _INNER, seed)
        best = np.full(num_channels, -np.inf)
        for k, block in enumerate(blocks):
            x, held_out = _standardized_by(block, train, test)
            scores, predicted = _fit(solver, x, responses[train], held_out, inner, alphas)
            r[fold, k] = _correlations(predicted, responses[test])
            better = scores > best
            best[better], chosen[fold, better], chosen_r[fold, better] = scores[better], k, r[fold, k, better]
            progress(0.5 if permutations else 1)
    observed, p = chosen_r.mean(axis=0), np.ones(num_channels)
    if permutations:
        p = _p_values(blocks, responses, assigned, orders, np.asarray(alphas), progress)
    return Encoding(r.mean(axis=0), observed, chosen, np.where(np.isnan(observed), np.nan, p), solver)


def _p_values(
    blocks: Sequence[np.ndarray],
    responses: np.ndarray,
    assigned: np.ndarray,
    orders: Sequence[np.ndarray],
    alphas: np.ndarray,
    progress: Callable[[float], Any],
) -> np.ndarray:
    """p [V]: in which fraction of the orders, of which the first is the recorded one, r is as high as in that one.

    Some channels come after the other, so that memory does not grow with their number.
    """
    num_channels, folds, p = responses.shape[1], int(assigned.max()) + 1, []
    pieces = _pieces(num_channels, 8 * len(orders))
    for piece in pieces:
        given = responses[:, piece]
        tested = np.zeros((len(orders), given.shape[1]))
        parts = _pieces(given.shape[1], 8 * 6 * len(given))  # of which there are about six arrays at a time
        for fold in range(folds):
            train, test = np.flatnonzero(assigned != fold), np.flatnonzero(assigned == fold)
            refits = [_Refit(*_standardized_by(block, train, test), alphas) for block in blocks]
            for row, order in zip(tested, orders, strict=True):
                for part in parts:
                    row[part] += _correlations(_best(refits, given[order[train], part]), given[order[test], part])
            progress(len(blocks) / 2 / len(pieces))
        # A random order in which a channel does not vary in some fold has no r, as the right order had none then.
        p.append((tested >= tested[0] - 1e-12).sum(axis=0) / np.maximum(np.isfinite(tested).sum(axis=0), 1))
    return np.concatenate(p)


def _pieces(number: int, size: int) -> list[slice]:
    """Channels in pieces of about equal width, of which `size` bytes each are held in `_AT_ONCE`."""
    ends = np.linspace(0, number, min(math.ceil(number * size / _AT_ONCE), number) + 1).astype(int)
    return [slice(start, end) for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)]


def _orders(groups: np.ndarray, permutations: int, seed: int) -> list[np.ndarray]:
    """The order of the rows, and random ones; of rows in groups, shifts in a circle, each once."""
    random, rows = np.random.default_rng(seed), np.arange(len(groups))
    if len(np.unique(groups)) == len(rows):
        return [rows, *(random.permutation(rows) for _ in range(permutations))]
    shifts = random.permutation(rows[1:])[:permutations]
    return [rows, *(np.roll(rows, shift) for shift in shifts)]


class _Refit:
    """Ridge regressions of the same features on any responses, each with the alpha that predicts them best.

    Alphas are chosen by generalized cross-validation (Golub, Heath and Wahba, Technometrics 21, 1979), which takes no
    regression for each.
    """

    def __init__(self, x: np.ndarray, held_out: np.ndarray, alphas: np.ndarray) -> None:
        u, s, vt = np.linalg.svd(x, full_matrices=False)
        self.ut, self.held_out, number = u.T, held_out @ vt.T, len(x)
        self.shrunk = s[:, None] / (s[:, None] ** 2 + alphas)  # [C, A]
        self.lost = (alphas / (s[:, None] ** 2 + alphas)).T  # [A, C], fraction of the responses that is not fitted
        self.spans = len(s) == number  # all responses
        self.freedom = number - 1 - len(s) + self.lost.sum(axis=1)  # [A], of the residuals

    def fit(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The error [V] in predicting rows from others, and weights [C, V], of centered responses [R, V]."""
        along = self.ut @ y
        squares = along**2
        rest = 0.0 if self.spans else np.maximum((y**2).sum(axis=0) - squares.sum(axis=0), 0)
        errors = (self.lost**2 @ squares + rest) / self.freedom[:, None] ** 2  # [A, V]
        best = errors.argmin(axis=0)
        return errors[best, np.arange(len(best))], self.shrunk[:, best] * along


def _best(refits: Sequence[_Refit], y: np.ndarray) -> np.ndarray:
    """Predictions of the held-out rows by the block that predicts the training rows best, channel by channel."""
    y = y - y.mean(axis=0)
    least, predicted = np.full(y.shape[1], np.inf), np.zeros((len(refits[0].held_out), y.shape[1]))
    for refit in refits:
        errors, weights = refit.fit(y)
        better = errors < least
        least[better], predicted[:, better] = errors[better], refit.held_out @ weights[:, better]
    return predicted


def _folds(groups: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold of each row: at random; whole groups where they have several rows; pieces in time of a few groups."""
    from sklearn.model_selection import GroupKFold, KFold

    kinds = len(np.unique(groups))
    if kinds == len(groups):
        splitter: Any = KFold(folds, shuffle=True, random_state=seed)
    else:
        splitter = GroupKFold(folds) if kinds >= folds else KFold(folds)
    assigned, options = np.empty(len(groups), np.int64), dict(groups=groups) if isinstance(splitter, GroupKFold) else {}
    for fold, (_, test) in enumerate(splitter.split(groups, **options)):
        assigned[test] = fold
    return assigned


def _projected(features: np.ndarray, projection: int | None, seed: int) -> np.ndarray:
    features = np.asarray(features, np.float64)
    if projection is None or features.shape[1] <= projection:
        return features
    from sklearn.random_projection import SparseRandomProjection

    options: dict[str, Any] = dict(n_components=projection, dense_output=True, random_state=seed)
    return np.asarray(SparseRandomProjection(**options).fit_transform(features))


def _standardized_by(block: np.ndarray, train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(block[train])
    return np.asarray(scaler.transform(block[train])), np.asarray(scaler.transform(block[test]))


def _fit(
    solver: str, x: np.ndarray, y: np.ndarray, held_out: np.ndarray, inner: np.ndarray, alphas: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Score in cross-validation [V] (higher is better); predictions of `held_out` [R, V]."""
    if solver == 'himalaya':
        from himalaya.kernel_ridge import KernelRidgeCV
        from sklearn.model_selection import PredefinedSplit

        options: dict[str, Any] = dict(fit_intercept=True, cv=PredefinedSplit(inner), warn=False)
        kernel = KernelRidgeCV(np.asarray(alphas), **options).fit(x, y)
        return np.asarray(kernel.cv_scores_), np.asarray(kernel.predict(held_out))
    from sklearn.linear_model import RidgeCV

    ridge: Any = RidgeCV(np.asarray(alphas, np.float64), alpha_per_target=True).fit(x, y)
    return np.broadcast_to(ridge.best_score_, y.shape[1]), ridge.predict(held_out).reshape(len(held_out), -1)


def _standardized(values: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and norm 1; NaN where they do not vary."""
    values = values - values.mean(axis=0)
    norms = np.linalg.norm(values, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', RuntimeWarning)
        return values / np.where(norms > 0, norms, np.nan)


def _correlations(predicted: np.ndarray, responses: np.ndarray) -> np.ndarray:
    """Pearson's r [V]; 0 where a prediction does not vary, NaN where a response does not."""
    given, real = _standardized(predicted), _standardized(responses)
    return np.einsum('rv,rv->v', np.nan_to_num(given), real)
