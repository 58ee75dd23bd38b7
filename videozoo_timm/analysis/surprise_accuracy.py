"""How well scores of surprise tell impossible films from possible ones.

Relative accuracy: how often the impossible film of a pair has the higher score, the mean over its windows; a tie counts
half. `relative_max` is the same by the highest score of any window, which finds what lasts a moment. Absolute accuracy:
films are judged singly, by their most surprising window, and the area under the ROC curve is how often an impossible
film scores higher than a possible one of whatever scene. Intervals are bootstrapped over scenes.

Sources: arXiv 2502.11831 (pairs, contexts, the filtered score; its code reports pairs by the mean and by the maximum)
and measure_accuracy.py of ADEPT.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .surprise_layouts import FilmPair, adept_class

__all__ = ['FILTERED', 'MEAN', 'Accuracy', 'accuracies', 'by_class', 'compared_with_untrained', 'filtered']

FILTERED = 'filtered'  # the context of the minimum over all contexts at each window
MEAN = 'mean'  # the property of the mean over all properties

Scores = Mapping[str, np.ndarray]  # of each film [W, K]


@dataclass(frozen=True)
class Accuracy:
    """One accuracy, with its 95% interval.

    Attributes:
        property: What is violated; `MEAN` for the mean over properties.
        context: Visible frames; `FILTERED`; '' of scores without contexts.
        measure: 'relative', 'relative_max' or 'absolute'.
        value: 0 to 1; 0.5 is chance.
        low: Lower end of the interval.
        high: Upper end of the interval.
        scenes: Number of scenes that it is of.
        pairs: Number of pairs.
        ties: Number of these whose films score the same, which count half; None of 'absolute'.
        samples: The accuracies of the bootstrap samples [R]; those of other scores of the same films are paired.
        outcomes: Of pairs, the accuracy in each scene [S].
    """

    property: str
    context: str
    measure: str
    value: float
    low: float
    high: float
    scenes: int
    pairs: int
    ties: int | None
    samples: np.ndarray
    outcomes: np.ndarray

    def above(self, other: 'Accuracy') -> tuple[float, float, float]:
        """The difference to the accuracy of other scores of the same films, with its 95% interval."""
        return self.value - other.value, *_interval(self.samples - other.samples)

    def row(self) -> dict[str, Any]:
        """As a row of a table."""
        names = ('property', 'context', 'measure', 'value', 'low', 'high', 'scenes', 'pairs', 'ties')
        return {name: getattr(self, name) for name in names}


def filtered(scores: Scores, contexts: Sequence[Any]) -> dict[str, dict[str, np.ndarray]]:
    """The scores of each context, and filtered ones where there are several: of each film [W]."""
    columns = {
        str(context): {film: values[:, k] for film, values in scores.items()} for k, context in enumerate(contexts)
    }
    if not contexts:
        columns = {'': {film: values[:, 0] for film, values in scores.items()}}
    if len(contexts) > 1:
        columns[FILTERED] = {film: values.min(axis=1) for film, values in scores.items()}
    return columns


def accuracies(
    comparisons: Sequence[FilmPair],
    scores: Scores,
    contexts: Sequence[Any] = (),
    whole: str = 'max',
    resamples: int = 2000,
    seed: int = 0,
) -> list[Accuracy]:
    """Accuracies by property and for all, of each context and filtered.

    Args:
        comparisons: The pairs.
        scores: Of each film [W, K], a row a window and a column a context.
        contexts: What the columns are called; empty if there is one without a name.
        whole: How windows become one score where films are judged singly: 'max' or 'mean'. With 'max' pairs are judged
            by it too, as `relative_max`.
        resamples: Bootstrap samples.
        seed: Random seed of these; with the same seed, samples of the same films are paired.

    Returns:
        For each context and measure the properties in their order, then their mean if there are several.

    Raises:
        KeyError: A film without scores.
        ImportError: scikit-learn is not installed.
    """
    try:
        import sklearn as sklearn
    except ImportError as error:
        raise ImportError("accuracies need scikit-learn: pip install 'videozoo-timm[probe]'") from error
    properties = dict.fromkeys(c.property for c in comparisons)
    result = []
    for context, of_films in filtered(scores, contexts).items():
        means = {film: values.mean(dtype=np.float64) for film, values in of_films.items()}
        single = means if whole == 'mean' else {film: float(values.max()) for film, values in of_films.items()}
        judged: dict[str, tuple[Callable[..., _Ratio], dict[str, float]]] = {'relative': (_relative, means)}
        if whole == 'max':
            judged['relative_max'] = _relative, single
        judged['absolute'] = _absolute, single
        for measure, (ratio, of_film) in judged.items():
            rng = np.random.default_rng(seed)
            found = []
            for what in properties:
                some = [c for c in comparisons if c.property == what]
                counts = _resampled(len({c.scene for c in some}), resamples, rng)
                found.append(_accuracy(what, context, measure, ratio(some, of_film), counts, some, of_film))
            if len(found) > 1:
                found.append(_mean_of(found))
            result += found
    return result


def by_class(comparisons: Sequence[FilmPair], scores: Scores, whole: str = 'mean', seed: int = 0) -> list[Accuracy]:
    """ADEPT's accuracies: over all violations together, and of each class of shapes.

    Args:
        comparisons: Those of the layout 'adept'.
        scores: Of each film [W, 1].
        whole: As in `accuracies`.
        seed: As in `accuracies`.
    """
    classes: dict[str, list[FilmPair]] = {'all': list(comparisons)}
    for comparison in comparisons:
        classes.setdefault(adept_class(comparison.scene), []).append(comparison)
    result = []
    for name, some in classes.items():  # a scene is then a violation with a shape
        merged = [FilmPair(name, f'{c.property} {c.scene}', c.impossible, c.possible) for c in some]
        result += accuracies(merged, scores, (), whole, seed=seed)
    return result


def compared_with_untrained(model: Accuracy, untrained: Sequence[Accuracy]) -> dict[str, Any]:
    """Whether a model's relative accuracy is above that of untrained networks.

    Welch's one-sided test and Hedges' g, of the model's accuracies in the scenes and of those of the untrained
    networks, averaged over the networks in each scene.

    Returns:
        `mean` and `std` of the untrained networks' accuracies, `t`, `p` and `hedges_g`; None where nothing varies.
    """
    from scipy.stats import ttest_ind

    values = np.array([one.value for one in untrained])
    ours, theirs = model.outcomes, np.mean([one.outcomes for one in untrained], axis=0)
    result: dict[str, Any] = dict(
        networks=len(untrained), mean=float(values.mean()), std=float(values.std(ddof=1)) if len(values) > 1 else None
    )
    number = len(ours)
    pooled = np.sqrt((ours.var(ddof=1) + theirs.var(ddof=1)) / 2) if number > 1 else 0.0
    if not pooled:
        return dict(result, t=None, p=None, hedges_g=None)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', RuntimeWarning)  # of a model that is right in every scene
        test: Any = ttest_ind(ours, theirs, equal_var=False, alternative='greater')
    correction = 1 - 3 / (4 * (2 * number - 2) - 1)
    g = correction * (ours.mean() - theirs.mean()) / pooled
    return dict(result, t=float(test.statistic), p=float(test.pvalue), hedges_g=float(g))


@dataclass(frozen=True)
class _Ratio:
    """A statistic of scenes that resampling can weight: w'Nw / w'Dw; of plain means N and D are vectors.

    `value` is that of the scenes as they are.
    """

    numerator: np.ndarray
    denominator: np.ndarray
    value: float

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """Of weights of the scenes [R, S] -> [R]; NaN where the denominator is 0."""
        values = [
            weights @ part if part.ndim == 1 else np.einsum('rs,rs->r', weights @ part, weights)
            for part in (self.numerator, self.denominator)
        ]
        with np.errstate(invalid='ignore'):
            return values[0] / values[1]


def _relative(comparisons: Sequence[FilmPair], scores: Mapping[str, float]) -> _Ratio:
    """The mean over scenes of how often an impossible film has the higher score."""
    scenes: dict[str, list[float]] = {}
    for c in comparisons:
        scenes.setdefault(c.scene, []).append(_higher(scores[c.impossible], scores[c.possible]))
    outcomes = np.array([np.mean(some) for some in scenes.values()])
    return _Ratio(outcomes, np.ones(len(outcomes)), float(outcomes.mean()))


def _absolute(comparisons: Sequence[FilmPair], scores: Mapping[str, float]) -> _Ratio:
    """The area under the ROC curve; a possible film counts once for each impossible one that it is compared with."""
    from sklearn.metrics import roc_auc_score

    scenes = list(dict.fromkeys(c.scene for c in comparisons))
    place = {scene: k for k, scene in enumerate(scenes)}
    impossible = list(dict.fromkeys((place[c.scene], c.impossible) for c in comparisons))
    possible = [(place[c.scene], c.possible) for c in comparisons]
    ours = np.array([scores[film] for _, film in impossible])
    theirs = np.array([scores[film] for _, film in possible])
    higher = (ours[:, None] > theirs) + 0.5 * (ours[:, None] == theirs)
    of_scene = [np.zeros((len(scenes), len(films))) for films in (impossible, possible)]
    for matrix, films in zip(of_scene, (impossible, possible), strict=True):
        for column, (scene, _) in enumerate(films):
            matrix[scene, column] = 1
    first, second = of_scene
    # Of the possible films by how little they surprise, which gives the digits of ADEPT's own script.
    value = roc_auc_score(np.repeat((0, 1), (len(ours), len(theirs))), -np.concatenate([ours, theirs]))
    return _Ratio(first @ higher @ second.T, np.outer(first.sum(axis=1), second.sum(axis=1)), float(value))


def _higher(ours: float, theirs: float) -> float:
    return 1.0 if ours > theirs else 0.5 if ours == theirs else 0.0


def _resampled(scenes: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each scene is in each bootstrap sample, [R, S]."""
    return rng.multinomial(scenes, np.full(scenes, 1 / scenes), size=resamples).astype(np.float64)


def _interval(samples: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(samples, (0.025, 0.975))
    return float(low), float(high)


def _accuracy(
    what: str,
    context: str,
    measure: str,
    ratio: _Ratio,
    counts: np.ndarray,
    comparisons: Sequence[FilmPair],
    scores: Mapping[str, float],
) -> Accuracy:
    samples, size = ratio(counts), (counts.shape[1], len(comparisons))
    if measure == 'absolute':
        return Accuracy(what, context, measure, ratio.value, *_interval(samples), *size, None, samples, np.empty(0))
    ties = sum(bool(scores[c.impossible] == scores[c.possible]) for c in comparisons)
    return Accuracy(what, context, measure, ratio.value, *_interval(samples), *size, ties, samples, ratio.numerator)


def _mean_of(found: Sequence[Accuracy]) -> Accuracy:
    """The mean over properties; each is resampled by itself."""
    samples = np.mean([one.samples for one in found], axis=0)
    value = float(np.mean([one.value for one in found]))
    outcomes = np.concatenate([one.outcomes for one in found])
    size = sum(one.scenes for one in found), sum(one.pairs for one in found)
    first = found[0]
    ties = None if first.ties is None else sum(one.ties or 0 for one in found)
    return Accuracy(MEAN, first.context, first.measure, value, *_interval(samples), *size, ties, samples, outcomes)
