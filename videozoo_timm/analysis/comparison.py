"""Representations compared with each other and with behavior: which models, and which of their blocks, are alike."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..figures.saving import save_figure
from ..figures.similarity import heat_map_figure, lines_figure, mds_figure
from ..files import save_csv, save_json
from ..text import counted
from .behavior import DissimilarityMatrix, Triplets, TripletScore, score_triplets
from .feature_files import Embeddings
from .feature_reading import FeatureFile, open_features
from .items import BEHAVIOR, Items, checked_features
from .matching import match_rows, told_rows
from .similarity import RSA, Similarity, centered_gram, cka, dissimilarities, procrustes, rsa, shape_of

__all__ = ['MEASURES', 'Comparison', 'Representation', 'Sources', 'compare', 'open_sources', 'told_left_out']

MEASURES = (*RSA, 'cka', 'procrustes')
FEWEST_PLACED = 3  # representations in a picture of their places

Sources = Mapping[str, str | os.PathLike[str] | Embeddings] | Iterable[str | os.PathLike[str]]


class Representation(NamedTuple):
    """Features of one block in one file.

    Attributes:
        name: Of the file.
        block: Counted from 0; None for the model's output, and for behavior.
        model: As the file has it, or ''.
    """

    name: str
    block: int | None = None
    model: str = ''

    def __str__(self) -> str:
        return self.name if self.block is None else f'{self.name}, block {self.block}'


@dataclass(repr=False)
class Comparison:
    """How alike representations of the same stimuli are.

    Attributes:
        representations: The K blocks of all files, in their order.
        stimuli: The stimulus of each of the N rows that all files have; of several clips it stands several times.
        times: float64 [N], their times in seconds.
        measures: Similarities by the name of the measure; [K, K], or [K + 1, K + 1] with a dissimilarity matrix of
            behavior, which comes last, in those of `RSA`.
        triplets: How well each representation predicts odd-one-out answers; None without them.
        left_out: For each file that has further stimuli, its name and those that another one lacks.
        settings: What was asked for.
    """

    representations: list[Representation]
    stimuli: list[str]
    times: np.ndarray
    measures: dict[str, Similarity]
    triplets: TripletScore | None = None
    left_out: list[tuple[str, list[str]]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        parts = [f'{len(self.representations)} representations of {told_rows(self.stimuli)}', *self.measures]
        return f'Comparison({", ".join(parts)}{", triplets" if self.triplets else ""})'

    def names(self, measure: str) -> list[Representation]:
        """What the rows and columns of a measure are."""
        more = len(self.measures[measure].values) - len(self.representations)
        return [*self.representations, *[Representation(BEHAVIOR)] * more]

    def pairs(self, measure: str) -> list[dict[str, Any]]:
        """All pairs, each once, with the ends of the 95% interval if there is a bootstrap."""
        names, similarity = self.names(measure), self.measures[measure]
        interval = similarity.interval()
        rows = []
        for j, k in zip(*np.triu_indices(len(names), 1), strict=True):
            a, b = names[j], names[k]
            row: dict[str, Any] = dict(measure=measure, a=a.name, block_a=a.block, b=b.name, block_b=b.block)
            row['value'] = float(similarity.values[j, k])
            if interval:
                row |= dict(low=float(interval[0][j, k]), high=float(interval[1][j, k]))
            rows.append(row)
        return rows

    def difference(
        self,
        a: tuple[str, int | None],
        b: tuple[str, int | None],
        reference: tuple[str, int | None] = (BEHAVIOR, None),
        measure: str = 'spearman',
    ) -> tuple[float, float, float]:
        """By how much `a` is more like the reference than `b` is, and the ends of the 95% interval.

        Both have seen the same bootstrap samples, so what these have in common does not widen the interval.

        Args:
            a: Name and block, as in `representations`.
            b: The same.
            reference: The same; behavior unless given.
            measure: One of `RSA`.

        Raises:
            ValueError: There is no such representation, or no bootstrap.
        """
        similarity = self.measures[measure]
        if similarity.samples is None:
            raise ValueError(f'{measure} has no bootstrap, so nothing tells how certain a difference is')
        names = [tuple(name[:2]) for name in self.names(measure)]
        try:
            j, k, r = (names.index(tuple(one)) for one in (a, b, reference))
        except ValueError as error:
            raise ValueError(f'{error}: there are {", ".join(map(str, self.names(measure)))}') from error
        gains = similarity.samples[:, j, r] - similarity.samples[:, k, r]
        low, high = np.nanquantile(gains, [0.025, 0.975])
        return float(similarity.values[j, r] - similarity.values[k, r]), float(low), float(high)

    def behavior_rows(self) -> list[dict[str, Any]]:
        """How well each representation agrees with behavior, by each measure of it."""
        rows = []
        for measure in self.measures:
            if len(self.names(measure)) > len(self.representations):
                rows += [row for row in self.pairs(measure) if row['b'] == BEHAVIOR]
        rows = [
            {'measure': row.pop('measure'), 'name': row.pop('a'), 'block': row.pop('block_a'), **row} for row in rows
        ]
        for row in rows:
            del row['b'], row['block_b']
        if self.triplets:
            interval = self.triplets.interval()
            for k, one in enumerate(self.representations):
                row: dict[str, Any] = dict(measure='triplets', name=one.name, block=one.block)
                row['value'] = float(self.triplets.accuracy[k])
                if interval:
                    row |= dict(low=float(interval[0][k]), high=float(interval[1][k]))
                rows.append(row)
        return rows

    def summary(self) -> dict[str, Any]:
        """All results, as they go into JSON."""
        content: dict[str, Any] = dict(
            self.settings,
            stimuli=self.stimuli,
            representations=[one._asdict() for one in self.representations],
            pairs=[row for measure in self.measures for row in self.pairs(measure)],
            left_out=[dict(name=name, stimuli=stimuli) for name, stimuli in self.left_out],
        )
        if rows := self.behavior_rows():
            content['behavior'] = rows
        if self.triplets:
            ceiling = self.triplets.ceiling and dict(zip(('lower', 'upper'), self.triplets.ceiling, strict=True))
            counts = dict(triplets=self.triplets.triplets, answers=self.triplets.answers)
            content['triplets'] = dict(counts, noise_ceiling=ceiling)
        return content

    def heat_map(self, measure: str = 'spearman') -> Any:
        """Similarities of all pairs in color, a `matplotlib.figure.Figure`."""
        return heat_map_figure(self.measures[measure].values, *self.axis(measure), label=_LABELS[measure])

    def mds(self, measure: str = 'spearman') -> Any:
        """Representations in the plane, near to each other if they are alike, a `matplotlib.figure.Figure`."""
        return mds_figure(self.measures[measure].values, *self.axis(measure), label=_LABELS[measure])

    def behavior_figure(self, measure: str | None = None) -> Any:
        """Agreement with behavior by block, with 95% intervals, a `matplotlib.figure.Figure`.

        Args:
            measure: One of `RSA`, or 'triplets'; None for the first that there is.

        Raises:
            ValueError: There is no behavior.
        """
        rows = self.behavior_rows()
        if not rows:
            raise ValueError('the comparison has no behavior')
        measure = measure or str(rows[0]['measure'])
        lines: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            if row['measure'] == measure:
                lines.setdefault(row['name'], []).append(row)
        if measure != 'triplets':
            return lines_figure(lines, f'{_LABELS[measure]} with behavior', level=0.0)
        ceiling = self.triplets.ceiling if self.triplets else None
        return lines_figure(lines, 'accuracy, odd one out', level=1 / 3, ceiling=ceiling)

    def axis(self, measure: str) -> tuple[list[str], list[int | None]]:
        """Files and blocks of the rows of a measure, as `videozoo_timm.figures.similarity` takes them."""
        names = self.names(measure)
        return [one.name for one in names], [one.block for one in names]

    def save(self, folder: str | os.PathLike[str], format: str = 'pdf') -> None:
        """Write `comparison.json`, `pairs.csv`, `behavior.csv` and the pictures `heat_map_MEASURE`, `mds_MEASURE`.

        There is no `mds_MEASURE` of fewer than `FEWEST_PLACED` representations, as two are always on a line.

        Args:
            folder: Is made.
            format: Of the pictures: 'pdf', 'svg' or 'png'.

        Raises:
            OSError: The disk is full, or not to be written.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_json(self.summary(), folder / 'comparison.json')
        if rows := [row for measure in self.measures for row in self.pairs(measure)]:
            columns = dict.fromkeys(key for row in rows for key in row)
            save_csv([{key: row.get(key) for key in columns} for row in rows], folder / 'pairs.csv')
        for measure in self.measures:
            if len(self.names(measure)) > 1:
                save_figure(self.heat_map(measure), folder / f'heat_map_{measure}.{format}')
            if len(self.names(measure)) >= FEWEST_PLACED:
                save_figure(self.mds(measure), folder / f'mds_{measure}.{format}')
        if rows := self.behavior_rows():
            save_csv(rows, folder / 'behavior.csv')
            for measure in dict.fromkeys(row['measure'] for row in rows):
                save_figure(self.behavior_figure(measure), folder / f'behavior_{measure}.{format}')


_LABELS = dict(
    spearman="Spearman's ρ",
    kendall="Kendall's τ",
    cosine='cosine similarity',
    cka='CKA, debiased',
    procrustes='Procrustes',
)


def open_sources(sources: Sources) -> list[FeatureFile]:
    """The files of a comparison: by the names of a mapping, or by their stems where these differ.

    Raises:
        ValueError: One of them holds no features.
        FileNotFoundError: There is no such file.
    """
    named: list[tuple[str, Any]]
    if isinstance(sources, Mapping):
        named = [(str(name), source) for name, source in sources.items()]
    else:
        paths: list[Any] = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
        stems = Counter(Path(path).stem for path in paths)
        named = [(Path(path).stem if stems[Path(path).stem] == 1 else os.fspath(path), path) for path in paths]
        if len({name for name, _ in named}) < len(named):
            raise ValueError(f'{Counter(name for name, _ in named).most_common(1)[0][0]} is named twice')
    files = [
        FeatureFile.of(name, source) if isinstance(source, Embeddings) else open_features(source, name)
        for name, source in named
    ]
    if not files:
        raise ValueError('no features to compare')
    if any(file.name == BEHAVIOR for file in files):
        raise ValueError(f'a file cannot be called {BEHAVIOR!r} here: rename it, or give it another name')
    return files


def told_left_out(left_out: Sequence[tuple[str, list[str]]]) -> list[str]:
    """What no other file has, in a line for each file."""
    return [
        f'{name}: {counted(len(stimuli), "row")} left out, which another file lacks: '
        + ', '.join(stimuli[:3])
        + (', ...' if len(stimuli) > 3 else '')
        for name, stimuli in left_out
    ]


def compare(
    sources: Sources,
    *,
    measures: Sequence[str] = ('spearman', 'cka'),
    dissimilarity: str = 'correlation',
    behavior: DissimilarityMatrix | Triplets | None = None,
    bootstraps: int = 1000,
    seed: int = 0,
    progress: Callable[[str, int, int], Any] = lambda what, number, total: None,
    say: Callable[[str], Any] = lambda text: None,
) -> Comparison:
    """Compare features of the same stimuli: of several models, of the blocks of one, or with what people said.

    Rows are matched by stimulus and, where a stimulus has several, by time. What only some have is left out, and
    stands in `left_out`.

    Args:
        sources: Files of `embed`, or a mapping from names to such files or to results of `embed`.
        measures: Of `MEASURES`: representational similarity ('spearman', 'kendall', 'cosine', of dissimilarities),
            'cka' and 'procrustes' (of features).
        dissimilarity: One of `DISSIMILARITIES`; for 'crossnobis' the rows of a stimulus are its repeats.
        behavior: What `read_behavior` gives.
        bootstraps: Samples of the stimuli for the intervals of representational similarity, and of the triplets.
        seed: Random seed.
        progress: Called with what is being done, how many steps of it are, and of how many.
        say: Called before the work, for each file of which something is left out, with a text that tells what.

    Raises:
        ValueError: Files that have fewer than four rows in common, features that are NaN or the same for all
            stimuli, or another option that they do not allow, in words.
        ImportError: rsatoolbox or scikit-learn is not installed.
    """
    if wrong := [measure for measure in measures if measure not in MEASURES]:
        raise ValueError(f'measures={wrong[0]!r}: must be of {list(MEASURES)}')
    files = open_sources(sources)
    items = Items(files, match_rows(files), dissimilarity == 'crossnobis', behavior)
    for line in told_left_out(items.left_out):
        say(line)
    is_rsa, names = [measure in RSA for measure in measures], []
    rdms: list[np.ndarray] = []
    grams: list[np.ndarray] = []
    shapes: list[np.ndarray] = []
    for place, file in enumerate(files):
        features = file.features()
        for k, block in enumerate(file.blocks or [None]):
            rows = checked_features(features[:, k], file, block, items.rows[place], dissimilarity)
            names.append(Representation(file.name, block, file.model))
            if any(is_rsa) or isinstance(behavior, Triplets):
                rdms.append(dissimilarities(rows, dissimilarity, items.repeats))
            if 'cka' in measures:
                grams.append(centered_gram(rows))
            if 'procrustes' in measures:
                shapes.append(shape_of(rows))
        progress('features', 1, len(files))
    if len(names) < 2 and behavior is None:
        raise ValueError(f'{names[0]} alone has nothing to be compared with: name another file, blocks or behavior')
    found = {}
    for measure in dict.fromkeys(measures):
        if measure in RSA:
            vectors = [*rdms, items.behavior_vector] if items.behavior_vector is not None else rdms
            if len(vectors) > 1:
                advance = _step(progress, f'bootstrap, {measure}', bootstraps)
                found[measure] = rsa(vectors, measure, bootstraps=bootstraps, seed=seed, progress=advance)
        elif len(names) > 1:
            advance = _step(progress, measure, len(names) * (len(names) - 1) // 2)
            found[measure] = cka(grams) if measure == 'cka' else procrustes(shapes, advance)
    score = None
    if isinstance(behavior, Triplets):
        score = score_triplets([_square(rdm) for rdm in rdms], items.answers, bootstraps=bootstraps, seed=seed)
    settings = dict(dissimilarity=dissimilarity, bootstraps=bootstraps, seed=seed, measures=list(measures))
    return Comparison(names, items.stimuli, items.times, found, score, items.left_out, settings)


def _step(progress: Callable[[str, int, int], Any], what: str, total: int) -> Callable[[int], Any]:
    return lambda number: progress(what, number, total)


def _square(vector: np.ndarray) -> np.ndarray:
    from scipy.spatial.distance import squareform

    return squareform(vector, checks=False)
