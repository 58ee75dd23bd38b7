"""The benchmarks of videozoo surprise: their options, and the table of accuracies."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..notes import tell_settings
from ..text import counted
from .base import family, option
from .inputs import absolute
from .loading import load
from .options import Inputs, ModelOptions, ReadingOptions
from .output import Losses, complain, echo, exit_code, progress, report, table, tell_pace
from .types import FILE, Choice, Count

if TYPE_CHECKING:
    from ..analysis.surprise_accuracy import Accuracy
    from ..analysis.surprise_benchmark import BenchmarkResult

LAYOUTS = ('pairs', 'intphys', 'grasp', 'inflevel', 'intphys2', 'adept')  # of `analysis`, without its imports
_MEASURES = dict(relative='relative accuracy', relative_max='by highest window', absolute='absolute accuracy')
_MOST_TOLD = 5  # films and pairs that are left out, one by one


@dataclass
class BenchmarkOptions:
    """Which benchmark, and what the model is compared with."""

    benchmark: str | None
    scores: Path | None
    untrained: int


def benchmark_options() -> Callable[[Any], Any]:
    """--benchmark, --scores, --untrained."""
    in_section = partial(option, section='Benchmarks')
    return family(
        'bench',
        BenchmarkOptions,
        in_section(
            '--benchmark',
            type=Choice(LAYOUTS),
            metavar='LAYOUT',
            help=f'PATH is a benchmark of this layout: {", ".join(LAYOUTS)} (`pairs` are folders PROPERTY/NAME with '
            'possible.mp4 and impossible.mp4). Prints how often impossible films score higher than possible ones. '
            'Frame step, frame rate, contexts and mask are as published unless they are given.',
        ),
        in_section(
            '--scores',
            type=FILE,
            metavar='FILE',
            help='Take the scores from this JSON instead of a model: of each film, by its path in the benchmark '
            'without ending, a number, a list of numbers (one a window), or an object of such lists by context.',
        ),
        in_section(
            '--untrained',
            type=Count(0),
            default=0,
            metavar='N',
            help='Compare with N networks of the same architecture with random weights (published: 20).',
        ),
    )


def run_benchmark(
    bench: BenchmarkOptions,
    inputs: Inputs,
    reading: ReadingOptions,
    chosen: ModelOptions,
    out: Path,
    options: dict[str, Any],
    force: bool,
    load_model: Callable[[], tuple[Any, str]],
) -> int:
    """Measure a model on a benchmark, or somebody's scores; write and print the accuracies.

    Args:
        bench: Which.
        inputs: Its folder.
        reading: How films are read.
        chosen: The model.
        out: Folder for the results.
        options: Of `analysis.surprise`; those that are not given on the command line give way to the layout's.
        force: Replace results of other settings.
        load_model: The model that `chosen` names, and what to call it.
    """
    from ..analysis.surprise_benchmark import SUMMARY, measure, measure_scores
    from ..analysis.surprise_layouts import LAYOUTS as known
    from ..analysis.surprise_layouts import read_benchmark
    from ..inference.provenance import versions, weights_of
    from ..outputs import Output

    assert bench.benchmark is not None
    if len(inputs.given) > 1 or (bench.scores is None and not inputs.given):
        raise ValueError(f'name the folder of the benchmark, and no other: --benchmark {bench.benchmark} DIR')
    folder = inputs.given[0] if inputs.given else None
    benchmark = read_benchmark(bench.benchmark, folder) if folder else None
    about: dict[str, Any] = dict(benchmark=bench.benchmark, folder=folder and absolute(folder))
    seed, losses = options.pop('seed'), Losses()
    if bench.scores is not None:
        about |= dict(scores=absolute(str(bench.scores)))
        Output(out).check_recorded(SUMMARY, about, force)
        result, name = measure_scores(bench.benchmark, bench.scores, benchmark, seed), str(bench.scores)
    else:
        assert benchmark is not None
        model, name = load_model()
        used = {
            key: value for key, value in options.items() if key not in known[bench.benchmark].settings or _given(key)
        }
        if options['score'] != 'mse':
            used['norm_pix_loss'] = None  # of this score alone
        if bench.untrained and options['score'] == 'nll':
            raise ValueError(f'--untrained {bench.untrained}: networks with random weights are masked autoencoders')
        bare = replace(chosen, weights=None, zoo=None)
        bare.model = model.pretrained_cfg['architecture'] if bench.untrained else None
        untrained = [lambda k=k: load(bare, untrained=k, whole=True)[0] for k in range(bench.untrained)]
        about |= dict(model=name, **weights_of(model), **known[bench.benchmark].settings, seed=seed) | used
        about['untrained_networks'] = bench.untrained
        tell_settings(**{key: value for key, value in about.items() if key in options})
        Output(out).check_recorded(SUMMARY, about, force)
        number = len({name for c in benchmark.comparisons for name in (c.possible, c.impossible)})
        with progress(number * (1 + bench.untrained)) as update:
            result = measure(
                model,
                benchmark,
                untrained=untrained,
                out=out,
                seed=seed,
                about=dict(model=name),
                start_over=force,
                progress=update,
                say=complain,
                report=report,
                lose=losses,
                pace=tell_pace,
                **used,
                **vars(reading),
            )
        if result is None:
            return 0
    result.save(out, dict(about, versions=versions()))
    _tell(result)
    _warn(result)
    echo(f'{name}, {bench.benchmark}: {result.benchmark}; all results in {out}')
    if result.left_out:
        complain(f'left out: {counted(len(result.left_out), "film")} or pairs; {out / SUMMARY} names all')
    return exit_code(result.failed, len(result.benchmark.films) or result.failed + 1, losses) or int(
        bool(result.left_out)
    )


def _given(name: str) -> bool:
    """Whether an option is on the command line."""
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


def _tell(result: 'BenchmarkResult') -> None:
    """A table for each measure: of each property the model and what it is compared with, a column a context."""
    for measure in dict.fromkeys(a.measure for a in result.accuracies['model']):
        found = {who: [a for a in some if a.measure == measure] for who, some in result.accuracies.items()}
        contexts = list(dict.fromkeys(a.context for a in found['model']))
        header = [_MEASURES[measure], 'pairs', 'scores', *map(_context, contexts)]
        shown = [who for who in found if not who.startswith('untrained')]
        rows = []
        for what in dict.fromkeys(a.property for a in found['model']):
            for who in shown:
                of_property = [a for a in found[who] if a.property == what]
                cells = [_cell(a) for a in of_property]
                first = who == 'model'
                rows.append([what if first else '', str(of_property[0].pairs) if first else '', who, *cells])
            if measure != 'absolute' and result.untrained:
                rows.append(['', '', 'untrained', *(_untrained(result.untrained[measure, what, c]) for c in contexts)])
        table(header, rows)
        echo()
    if result.classes:
        by_class = [(a.property, a.measure, f'{a.value!r}') for a in result.classes['model']]
        table(['class', 'measure', 'accuracy'], [list(row) for row in by_class])
        echo()


def _cell(one: 'Accuracy') -> str:
    ties = f', {counted(one.ties, "tie")}' if one.ties else ''
    return f'{100 * one.value:.1f}% ({100 * one.low:.0f} to {100 * one.high:.0f}{ties})'


def _context(context: str) -> str:
    return f'C = {context}' if context.isdigit() else context or 'all windows'


def _untrained(row: dict[str, Any]) -> str:
    spread = '' if row['std'] is None else f' ± {100 * row["std"]:.1f}'
    test = '' if row['p'] is None else f', p = {row["p"]:.2g}, g = {row["hedges_g"]:.2f}'
    return f'{100 * row["mean"]:.1f}%{spread}{test}'


def _warn(result: 'BenchmarkResult') -> None:
    for reason in result.left_out[:_MOST_TOLD]:
        complain(reason)
    for baseline, prediction in (('zero', 'predicts zeros'), ('copy', 'expects the last visible frame to stay')):
        if short := result.not_above(baseline):
            complain(
                f'what {prediction} does as well as the model in: {", ".join(short)} (the 95% interval of the '
                f'difference, in every context, is not above 0)'
            )
