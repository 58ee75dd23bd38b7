"""How well features predict responses: ridge regression, cross-validated within cross-validation."""

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


@dataclass
class Encoding:
    """How well the blocks of a model predict V voxels or channels.

    Attributes:
        r: float64 [K, V], of each block Pearson's r of held-out predictions, mean over the folds.
        chosen_r: float64 [V], the same of the block that is chosen for each channel on the training rows alone.
        chosen: int64 [F, V], that block's place among the K in each of F folds.
        p: float64 [V], of the permutation test: whether `chosen_r` is above 0. 1 without permutations.
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
    progress: Callable[[int], Any] = lambda number: None,
) -> Encoding:
    """Predict responses from features by ridge regression, and tell how well on rows that were held out.

    In each fold the features are standardized, alpha is chosen for each channel, and for each channel the block, all on
    the training rows. Rows of one group are never on both sides. himalaya (Dupré la Tour et al., NeuroImage 264, 2022)
    chooses in four inner folds, which keep groups together too; scikit-learn, where himalaya is not installed, by
    leaving one row out.

    In the permutation test the responses get another order, and the regressions are fitted again: with the alphas that
    were chosen, but with a block that is chosen anew, as a choice made on the right order would favor it. Where groups
    have several rows (time courses), the order is a shift in a circle, as neighbors in time are alike.

    Args:
        features: [R, K, C] of K blocks.
        responses: [R, V].
        groups: The stimulus of each row; each row its own if None.
        folds: Number of folds.
        alphas: To choose from.
        projection: Number of dimensions of a sparse random projection of each block (Li et al., KDD 2006), if it has
            more; None for none.
        permutations: Of the test; 0 for none.
        seed: Random seed of folds, projection and permutations.
        solver: 'himalaya' or 'sklearn'; None for the first one that is installed.
        progress: Called with a number of fits (of a block in a fold) that are done.

    Raises:
        ValueError: Too few rows, or another solver.
        ImportError: scikit-learn is not installed.
    """
    number, num_blocks = features.shape[:2]
    if folds < 2 or number < 3 * folds:
        raise ValueError(f'{number} rows are too few for {folds} folds of at least 3')
    solver = solver or ('himalaya' if find_spec('himalaya') else 'sklearn')
    if solver not in ('himalaya', 'sklearn'):
        raise ValueError(f"solver={solver!r}: must be 'himalaya' or 'sklearn'")
    library('sklearn')
    numbers = np.unique(np.arange(number) if groups is None else np.asarray(groups), return_inverse=True)[1].reshape(-1)
    assigned = _folds(numbers, folds, seed)
    blocks = [_projected(features[:, k], projection, seed) for k in range(num_blocks)]
    num_channels, orders = responses.shape[1], _orders(numbers, permutations, seed)
    r, chosen = np.zeros((folds, num_blocks, num_channels)), np.zeros((folds, num_channels), np.int64)
    chosen_r, random_r = np.zeros((folds, num_channels)), np.zeros((len(orders), num_channels))
    for fold in range(folds):
        train, test = np.flatnonzero(assigned != fold), np.flatnonzero(assigned == fold)
        inner = _folds(numbers[train], _INNER, seed)
        best, again = np.full(num_channels, -np.inf), []
        for k, block in enumerate(blocks):
            x, held_out = _standardized_by(block, train, test)
            scores, own_alphas, predicted = _fit(solver, x, responses[train], held_out, inner, alphas)
            r[fold, k] = _correlations(predicted, responses[test])
            better = scores > best
            best[better], chosen[fold, better], chosen_r[fold, better] = scores[better], k, r[fold, k, better]
            again += [_Refit(x, held_out, own_alphas)] if permutations else []
            progress(1)
        for row, order in zip(random_r, orders, strict=True):
            shuffled = responses[order]
            row += _correlations(_best(again, shuffled[train]), shuffled[test])
    observed = chosen_r.mean(axis=0)
    p = (1 + (random_r / folds >= observed - 1e-12).sum(axis=0)) / (1 + len(orders))
    return Encoding(r.mean(axis=0), observed, chosen, np.where(np.isnan(observed), np.nan, p), solver)


def _orders(groups: np.ndarray, permutations: int, seed: int) -> list[np.ndarray]:
    """Random orders of the rows; of rows in groups, shifts in a circle."""
    random, number = np.random.default_rng(seed), len(groups)
    if len(np.unique(groups)) == number:
        return [random.permutation(number) for _ in range(permutations)]
    return [np.roll(np.arange(number), random.integers(1, number)) for _ in range(permutations)]


class _Refit:
    """Ridge regressions of the same features, with an alpha for each channel, on other responses."""

    def __init__(self, x: np.ndarray, held_out: np.ndarray, alphas: np.ndarray) -> None:
        self.u, s, vt = np.linalg.svd(x, full_matrices=False)
        self.s, self.held_out = s[:, None], held_out @ vt.T
        self.shrunk = self.s / (self.s**2 + alphas)
        self.leverage = 1 / len(x) + self.u**2 @ (self.s * self.shrunk)  # [R, V]

    def predict(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The error in predicting each row [R, V] from all others, [V], and predictions of the held-out rows."""
        y = y - y.mean(axis=0)
        weights = self.shrunk * (self.u.T @ y)
        left_out = (y - self.u @ (self.s * weights)) / (1 - self.leverage)
        return np.einsum('rv,rv->v', left_out, left_out), self.held_out @ weights


def _best(refits: Sequence[_Refit], y: np.ndarray) -> np.ndarray:
    """Predictions of the held-out rows by the block that predicts the training rows best, channel by channel."""
    errors, predicted = zip(*(refit.predict(y) for refit in refits), strict=True)
    best = np.argmin(errors, axis=0)
    return np.stack(predicted)[best, :, np.arange(len(best))].T


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
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score in cross-validation (higher is better) and best alpha [V]; predictions of `held_out` [R, V]."""
    if solver == 'himalaya':
        from himalaya.kernel_ridge import KernelRidgeCV
        from sklearn.model_selection import PredefinedSplit

        options: dict[str, Any] = dict(fit_intercept=True, cv=PredefinedSplit(inner), warn=False)
        kernel = KernelRidgeCV(np.asarray(alphas), **options).fit(x, y)
        return np.asarray(kernel.cv_scores_), np.asarray(kernel.best_alphas_), np.asarray(kernel.predict(held_out))
    from sklearn.linear_model import RidgeCV

    ridge: Any = RidgeCV(np.asarray(alphas, np.float64), alpha_per_target=True).fit(x, y)
    scores, best = (np.broadcast_to(part, y.shape[1]) for part in (ridge.best_score_, ridge.alpha_))
    return scores, best, ridge.predict(held_out).reshape(len(held_out), -1)


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
