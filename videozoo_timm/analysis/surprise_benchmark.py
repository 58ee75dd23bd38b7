"""A model on a benchmark of surprise: scores of all films, accuracies beside those of the baselines, files."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ..files import check_regular, save_csv, save_json
from ..inference.journal import remove_journal
from ..inference.reporting import SILENT
from ..paths import as_path
from .surprise_accuracy import Accuracy, accuracies, by_class, compared_with_untrained
from .surprise_files import TABLE
from .surprise_layouts import LAYOUTS, Benchmark, FilmPair, compare_names
from .surprise_series import Surprise, surprise

__all__ = ['ACCURACIES', 'SUMMARY', 'BenchmarkResult', 'measure', 'measure_scores']

ACCURACIES, SUMMARY = 'accuracy.csv', 'benchmark.json'
UNTRAINED = 'untrained'
MODEL = 'model'


@dataclass
class BenchmarkResult:
    """Accuracies on a benchmark.

    Attributes:
        benchmark: What was compared.
        accuracies: By whose scores they are: 'model', the baselines 'zero' and 'copy', and of each untrained network
            'untrained 0' and so on.
        classes: ADEPT's accuracies by class of shapes, likewise.
        untrained: By measure of pairs, property and context, how the model compares with the untrained networks.
        left_out: Films and pairs without numbers, in words.
        failed: Number of films that could not be scored.
    """

    benchmark: Benchmark
    accuracies: dict[str, list[Accuracy]]
    classes: dict[str, list[Accuracy]]
    untrained: dict[tuple[str, str, str], dict[str, Any]]
    left_out: list[str]
    failed: int = 0

    def find(self, scores: str, measure: str, what: str, context: str) -> Accuracy:
        """One of the accuracies."""
        wanted = (measure, what, context)
        return next(a for a in self.accuracies[scores] if (a.measure, a.property, a.context) == wanted)

    def rows(self) -> list[dict[str, Any]]:
        """All accuracies as rows of a table; of baselines with the difference from the model to them, and interval."""
        result = []
        for kind in (self.accuracies, self.classes):
            for scores, found in kind.items():
                for ours, one in zip(kind[MODEL], found, strict=True):
                    above = dict.fromkeys(('above', 'above_low', 'above_high'))
                    if scores != MODEL:
                        above = dict(zip(above, ours.above(one), strict=True))
                    result.append({'scores': scores, **one.row(), **above})
        return result

    def not_above(self, baseline: str) -> list[str]:
        """The properties in which the model's relative accuracy is in no context above that of a baseline.

        It is above if the interval of the difference is.
        """
        if baseline not in self.accuracies:
            return []
        best: dict[str, float] = {}
        for ours, theirs in zip(self.accuracies[MODEL], self.accuracies[baseline], strict=True):
            if ours.measure == 'relative':
                best[ours.property] = max(best.get(ours.property, -1.0), ours.above(theirs)[1])
        return [what for what, low in best.items() if low <= 0]

    def save(self, out: Path, about: Mapping[str, Any]) -> None:
        """Write `accuracy.csv`, and `benchmark.json` with all that was run, into a folder."""
        out.mkdir(parents=True, exist_ok=True)
        (out / ACCURACIES).unlink(missing_ok=True)  # no table stands without its settings
        told = dict(
            about,
            layout=self.benchmark.layout,
            comparisons=[vars(comparison) for comparison in self.benchmark.comparisons],
            accuracies=self.rows(),
            untrained=[
                dict(measure=measure, property=what, context=context, **row)
                for (measure, what, context), row in self.untrained.items()
            ],
            left_out=self.left_out,
        )
        save_json(told, out / SUMMARY)
        save_csv(self.rows(), out / ACCURACIES)


@dataclass
class _Scored:
    """Scores of films by whose they are: of each film [W, K]."""

    by: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    contexts: Sequence[Any] = ()


def measure(
    model: nn.Module,
    benchmark: Benchmark,
    *,
    untrained: Sequence[Callable[[], nn.Module]] = (),
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    **options: Any,
) -> BenchmarkResult | None:
    """Score the films of a benchmark and compare them, beside the baselines.

    Args:
        model: As in `surprise`.
        benchmark: `read_benchmark` reads one.
        untrained: Makes networks as the model is, with random weights: the control for what training adds.
        out: As in `surprise`; the series of the untrained networks go into folders in it.
        seed: Random seed of the bootstrap, and of random masks.
        **options: As in `surprise`; those of the layout are as published unless they are given. `offset` is one
            number, and added to where the films of a layout begin.

    Returns:
        The accuracies. None in all processes of a team but the first.

    Raises:
        VideoError, NotFiniteError, ValueError: As in `surprise`; or no pair is left.
    """
    layout = LAYOUTS[benchmark.layout]
    options = {**layout.settings, **options, 'seed': seed}
    later = options.pop('offset', 0.0)
    used = dict.fromkeys(name for c in benchmark.comparisons for name in (c.possible, c.impossible))
    films = [benchmark.films[name] for name in used]
    paths = [film.path for film in films]
    starts = [film.start + later for film in films]

    def scored(network: nn.Module, folder: Path | None, **changes: Any) -> Surprise | None:
        whole = {**options, **changes, 'keep_journal': folder is not None and bool(untrained)}
        return surprise(network, paths, offset=starts, out=folder, **whole)

    folder = None if out is None else as_path(out)
    places = [folder and folder / UNTRAINED / f'{number:02}' for number in range(len(untrained))]
    result = scored(model, folder)
    others = [  # what is wrong with the films was told before
        scored(make(), place, report=SILENT.report, lose=SILENT.lose, pace=SILENT.pace)
        for make, place in zip(untrained, places, strict=True)
    ]
    if result is None:
        return None
    for place in filter(None, (folder, *places)):  # all is done, and none of it is done again
        remove_journal(place / TABLE)
    names = dict(zip(zip(paths, starts, strict=True), used, strict=True))
    by = _named(result, names)
    for number, other in enumerate(others):
        if other is not None:
            by[f'{UNTRAINED} {number}'] = _named(other, names)[MODEL]
    done = set.intersection(*(set(scores) for scores in by.values()))
    missing = [name for name in used if name not in done]
    left_out = [*benchmark.left_out, *(reason for _, reason in result.failed)]
    return _compare(benchmark, _Scored(by, result.contexts), missing, left_out, seed)


def measure_scores(
    layout: str, file: str | os.PathLike[str], benchmark: Benchmark | None = None, seed: int = 0
) -> BenchmarkResult:
    """Accuracies of scores that somebody else made.

    Args:
        layout: One of `LAYOUTS`.
        file: JSON: of each film, by its name (the path below the folder without ending), a number; a list of numbers,
            one a window; or an object of such lists by context.
        benchmark: Which films are compared; None where their names tell it (pairs, grasp, adept).
        seed: Random seed of the bootstrap.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is no such JSON, or nothing in it can be compared.
    """
    file = as_path(file)
    check_regular(file)
    try:
        given = json.loads(file.read_bytes())
        scored = _read_scores(given)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f'{file}: scores are a JSON object with a number, a list of numbers (one a window), or an object of such '
            f'lists by context, of each film by its name; {error}'
        ) from error
    films = scored.by[MODEL]
    benchmark = benchmark or compare_names(layout, films)
    if benchmark is None:
        raise ValueError(f'layout={layout!r}: names of films do not tell which are compared; name the folder too')
    wanted = dict.fromkeys(name for c in benchmark.comparisons for name in (c.possible, c.impossible))
    missing = [name for name in wanted if name not in films]
    left_out = [*benchmark.left_out, *(f'{name}: has no score in {file}' for name in missing)]
    return _compare(benchmark, scored, missing, left_out, seed)


def _read_scores(given: Mapping[str, Any]) -> _Scored:
    contexts: dict[str, None] = {}
    films: dict[str, np.ndarray] = {}
    for name, value in given.items():
        columns = value if isinstance(value, dict) else {'': value if isinstance(value, list) else [value]}
        contexts = contexts or dict.fromkeys(columns)
        if list(columns) != list(contexts):
            raise ValueError(f'{name} has the contexts {list(columns)}, others have {list(contexts)}')
        values = np.array(list(columns.values()), dtype=np.float64).T  # [W, K]
        if values.ndim != 2 or not values.size or not np.isfinite(values).all():
            raise ValueError(f'{name}: {str(value)[:60]} are no finite numbers, as many of each context')
        films[name] = values
    if not films:
        raise ValueError('there is none in it')
    return _Scored({MODEL: films}, [] if list(contexts) == [''] else list(contexts))


def _named(result: Surprise, names: Mapping[tuple[str, float], str]) -> dict[str, dict[str, np.ndarray]]:
    """The scores of the model and of its baselines, by names of films."""
    near = {(path, round(start, 6)): name for (path, start), name in names.items()}
    by: dict[str, dict[str, np.ndarray]] = {MODEL: {}}
    for one in result.series:
        name = near[one.path, round(one.starts[0], 6)]
        for scores, values in dict({MODEL: one.scores}, **one.baselines).items():
            by.setdefault(scores, {})[name] = np.asarray(values)
    return by


def _compare(
    benchmark: Benchmark, scored: _Scored, missing: Sequence[str], left_out: list[str], seed: int
) -> BenchmarkResult:
    gone = set(missing)
    comparisons: list[FilmPair] = []
    for comparison in benchmark.comparisons:
        without = {comparison.possible, comparison.impossible} & gone
        if not without:
            comparisons.append(comparison)
        elif len(without) == 1:
            partner = ({comparison.possible, comparison.impossible} - without).pop()
            left_out.append(f'{partner}: its partner {without.pop()} has no score')
    if not comparisons:
        raise ValueError('nothing can be compared: ' + ('; '.join(left_out[:3]) or 'no pair of films has scores'))
    whole = LAYOUTS[benchmark.layout].whole
    found = {
        who: accuracies(comparisons, scores, scored.contexts, whole, seed=seed) for who, scores in scored.by.items()
    }
    classes = {}
    if benchmark.layout == 'adept' and len(scored.contexts) < 2:
        classes = {who: by_class(comparisons, scores, whole, seed=seed) for who, scores in scored.by.items()}
    networks = [found[who] for who in found if who.startswith(UNTRAINED)]
    against = {
        (ours.measure, ours.property, ours.context): compared_with_untrained(ours, [network[k] for network in networks])
        for k, ours in enumerate(found[MODEL])
        if networks and ours.measure != 'absolute'
    }
    kept = Benchmark(benchmark.layout, benchmark.films, comparisons, left_out)
    return BenchmarkResult(kept, found, classes, against, left_out, len(gone))
