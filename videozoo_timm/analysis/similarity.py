"""How alike representations of the same stimuli are: dissimilarities, RSA with a bootstrap, CKA, Procrustes.

Shapes: N stimuli, P = N (N - 1) / 2 pairs of them in the order of `numpy.triu_indices(N, 1)`, K representations.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

__all__ = [
    'DISSIMILARITIES',
    'RSA',
    'Similarity',
    'centered_gram',
    'cka',
    'dissimilarities',
    'library',
    'procrustes',
    'rsa',
    'shape_of',
]

DISSIMILARITIES = ('correlation', 'cosine', 'euclidean', 'crossnobis')
RSA = ('spearman', 'kendall', 'cosine')
# Of ranks in bootstrap samples; more distinct values share one, which changes a rank correlation by less than 1e-5.
# Counts of so many stay in the fastest memory of a processor.
_LEVELS = 1 << 12
_FEWEST = 3  # different stimuli in a bootstrap sample, as rsatoolbox has it


@dataclass
class Similarity:
    """Similarities of all pairs of representations.

    Attributes:
        values: float64 [K, K].
        samples: float32 [B, K, K], the same in each bootstrap sample of the stimuli; None without a bootstrap.
    """

    values: np.ndarray
    samples: np.ndarray | None = None

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray] | None:
        """Lower and upper ends [K, K] of the percentile intervals; None without a bootstrap."""
        if self.samples is None:
            return None
        low, high = np.nanquantile(self.samples, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return low, high


def library(module: str) -> Any:
    """A module of rsatoolbox, scikit-learn or SciPy.

    Raises:
        ImportError: It is not installed, in words.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f"comparisons need {module.split('.')[0]}: pip install 'videozoo-timm[compare]'") from error


def dissimilarities(
    features: np.ndarray, metric: str = 'correlation', repeats: tuple[Sequence[int], Sequence[int]] | None = None
) -> np.ndarray:
    """Dissimilarities of all pairs of stimuli.

    Args:
        features: [R, C], a row a stimulus; for 'crossnobis' a row a repeat.
        metric: 'correlation' (1 - Pearson's r), 'cosine', 'euclidean' (squared, divided by C, as rsatoolbox has it) or
            'crossnobis' (the same, cross-validated over repeats: zero on average where only noise differs, and below
            it at times).
        repeats: For 'crossnobis', the stimulus and the repeat of each row, counted from 0.

    Returns:
        float32 [P].

    Raises:
        ValueError: Another metric; or 'crossnobis' without `repeats`.
        ImportError: rsatoolbox is not installed.
    """
    if metric not in DISSIMILARITIES:
        raise ValueError(f'metric={metric!r}: must be one of {list(DISSIMILARITIES)}')
    features = np.asarray(features, np.float64)
    if metric in ('correlation', 'cosine'):  # rsatoolbox lacks the one, and takes twenty times as long for the other
        centered = features - features.mean(axis=1, keepdims=True) if metric == 'correlation' else features
        distances = library('sklearn.metrics.pairwise').cosine_distances(centered)
        return distances[np.triu_indices(len(distances), 1)].astype(np.float32)
    described: dict[str, Any] = {}
    if metric == 'crossnobis':
        if repeats is None:
            raise ValueError("metric='crossnobis' needs repeats: which stimulus and which repeat of it a row is")
        described = dict(obs_descriptors=dict(stimulus=np.array(repeats[0]), repeat=np.array(repeats[1])))
    dataset = library('rsatoolbox.data').Dataset(features, **described)
    options = dict(descriptor='stimulus', cv_descriptor='repeat') if described else {}
    rdm = library('rsatoolbox.rdm').calc_rdm(dataset, method=metric, **options)
    return rdm.get_vectors()[0].astype(np.float32)


def rsa(
    rdms: Sequence[np.ndarray],
    method: str = 'spearman',
    *,
    bootstraps: int = 0,
    seed: int = 0,
    progress: Callable[[int], Any] = lambda number: None,
) -> Similarity:
    """Correlations of dissimilarities (Kriegeskorte et al., Frontiers in Systems Neuroscience 2, 2008).

    The bootstrap over stimuli is that of rsatoolbox (`eval_bootstrap_pattern`): N stimuli are sampled with replacement,
    and pairs of a stimulus with itself are left out. A pair that is there several times counts by a weight instead, so
    what takes rsatoolbox days takes minutes.

    Args:
        rdms: K vectors [P].
        method: 'spearman', 'kendall' (tau-b; slow) or 'cosine'.
        bootstraps: Number of bootstrap samples, 0 for none.
        seed: Random seed of the samples.
        progress: Called with a number of samples that are done.

    Raises:
        ValueError: Another method.
        ImportError: SciPy is not installed (for 'kendall').
    """
    if method not in RSA:
        raise ValueError(f'method={method!r}: must be one of {list(RSA)}')
    number = _number_of_stimuli(len(rdms[0]))
    first, second = np.triu_indices(number, 1)
    correlate: Callable[[np.ndarray, np.ndarray], np.ndarray]
    correlate = dict(spearman=_Spearman, kendall=_Kendall, cosine=_Cosine)[method](rdms)
    values = correlate(np.arange(len(first)), np.ones(len(first)))
    if not bootstraps:
        return Similarity(values)
    if method == 'spearman':
        del correlate  # and its memory
        correlate = _Spearman(rdms, _LEVELS)
    random = np.random.default_rng(seed)
    samples: Any = np.full((bootstraps, *values.shape), np.nan, np.float32)
    for sample in samples:
        times = np.bincount(random.integers(number, size=number), minlength=number)
        if np.count_nonzero(times) >= _FEWEST:
            weights = times[first] * times[second]
            pairs = np.flatnonzero(weights)
            sample[:] = correlate(pairs, weights[pairs])
        progress(1)
    return Similarity(values, samples)


class _Spearman:
    """Correlations of ranks, which are counted anew in each sample; ties have the mean of their ranks.

    Args:
        rdms: As in `rsa`.
        most: Of the levels, as `_levels_of` has it, which are then kept for many samples; all of them, to be used
            once, if None.
    """

    def __init__(self, rdms: Sequence[np.ndarray], most: int | None = None) -> None:
        self.rdms, self.space = rdms, np.empty(0, np.float32)
        self.levels = None if most is None else [_levels_of(rdm, most) for rdm in rdms]

    def __call__(self, pairs: np.ndarray, weights: np.ndarray) -> np.ndarray:
        weights = weights.astype(np.float64)
        roots, total = np.sqrt(weights).astype(np.float32), weights.sum()
        number = len(self.rdms) * len(pairs)
        if number > self.space.size:  # otherwise that of another sample, as new memory takes time
            self.space = np.empty(number, np.float32)
        rows, taken = self.space[:number].reshape(-1, len(pairs)), np.empty(len(pairs), np.intp)
        for row, levels in zip(rows, self.levels or (_levels_of(rdm, None) for rdm in self.rdms), strict=True):
            taken[:] = levels.take(pairs, mode='clip')  # other modes copy
            counts = np.bincount(taken, weights)
            ranks = np.cumsum(counts) - counts / 2 - total / 2  # their mean is 0
            norm = np.sqrt(np.dot(counts, ranks**2))
            (ranks / norm if norm else ranks * np.nan).astype(np.float32).take(taken, out=row, mode='clip')
            row *= roots
        return _products(rows)


class _Cosine:
    def __init__(self, rdms: Sequence[np.ndarray]) -> None:
        self.rdms = rdms

    def __call__(self, pairs: np.ndarray, weights: np.ndarray) -> np.ndarray:
        roots = np.sqrt(weights).astype(np.float32)
        rows = np.stack([rdm[pairs].astype(np.float32) * roots for rdm in self.rdms])
        norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
        return _products((rows / np.where(norms > 0, norms, np.nan)).astype(np.float32))


class _Kendall:
    def __init__(self, rdms: Sequence[np.ndarray]) -> None:
        self.rdms = np.stack(rdms)

    def __call__(self, pairs: np.ndarray, weights: np.ndarray) -> np.ndarray:
        # rsatoolbox takes vectors of the length of an RDM alone, so the tau is SciPy's, as its own is
        kendalltau = library('scipy.stats').kendalltau

        rows = np.repeat(self.rdms[:, pairs], weights.astype(int), axis=1)
        values = np.eye(len(rows))
        for j in range(len(rows)):
            for k in range(j):
                values[j, k] = values[k, j] = kendalltau(rows[j], rows[k]).statistic
        return values


def _levels_of(rdm: np.ndarray, most: int | None) -> np.ndarray:
    """The rank of each value among the distinct ones, [P]; at most `most` ranks, of which neighbors share one."""
    distinct, levels = np.unique(rdm, return_inverse=True)
    if most is None or len(distinct) <= most:
        return levels.astype(np.uint32)
    return (levels * most // len(distinct)).astype(np.uint16)


def _products(rows: np.ndarray) -> np.ndarray:
    values = (rows @ rows.T).astype(np.float64)
    np.fill_diagonal(values, np.where(np.isfinite(np.diag(values)), 1.0, np.nan))
    return values


def _number_of_stimuli(pairs: int) -> int:
    return round((1 + np.sqrt(1 + 8 * pairs)) / 2)


def centered_gram(features: np.ndarray) -> np.ndarray:
    """What `cka` compares: inner products of all pairs of stimuli, U-centered (Song et al., JMLR 13, 2012).

    Args:
        features: [N, C], N at least 4.

    Returns:
        float32 [P].
    """
    features = np.asarray(features, np.float64)
    features = features - features.mean(axis=0)  # changes nothing but the rounding
    gram, number = features @ features.T, len(features)
    np.fill_diagonal(gram, 0)
    sums = gram.sum(axis=1) / (number - 2)
    gram += sums.sum() / (number - 1) - sums - sums[:, None]
    return (gram / np.linalg.norm(gram))[np.triu_indices(number, 1)].astype(np.float32)


def cka(grams: Sequence[np.ndarray]) -> Similarity:
    """Linear centered kernel alignment (Kornblith et al., ICML 2019), debiased: about 0 of unrelated features.

    Without the debiasing it grows with the number of features for each stimulus, and thousands of random features seem
    alike.

    Args:
        grams: K vectors [P] of `centered_gram`.
    """
    rows = np.stack(grams).astype(np.float32)
    norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return Similarity(_products((rows / norms).astype(np.float32)))


def shape_of(features: np.ndarray) -> np.ndarray:
    """What `procrustes` compares: features [N, C], centered and scaled to norm 1, with at most N columns."""
    features = np.asarray(features, np.float64)
    features = features - features.mean(axis=0)
    features /= np.linalg.norm(features)
    if features.shape[1] <= len(features):
        return features
    qr = library('scipy.linalg').qr
    (triangle,) = qr(features.T, mode='r')  # a rotation of the features, which changes no comparison
    return triangle[: len(features)].T


def procrustes(shapes: Sequence[np.ndarray], progress: Callable[[int], Any] = lambda number: None) -> Similarity:
    """1 - the disparity of `scipy.spatial.procrustes`: 1 of features that a rotation and one scale make the same.

    Args:
        shapes: K arrays of `shape_of`, of any widths.
        progress: Called with a number of pairs that are done.
    """
    svdvals = library('scipy.linalg').svdvals
    values = np.eye(len(shapes))
    for j in range(len(shapes)):
        for k in range(j):
            values[j, k] = values[k, j] = min(svdvals(shapes[j].T @ shapes[k]).sum() ** 2, 1.0)
            progress(1)
    return Similarity(values)
