"""videozoo compare."""

import functools
import statistics
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..notes import tell_settings
from ..text import counted, to_json
from .base import Several, argument, command, family, option
from .inputs import absolute
from .options import folder_option, json_option
from .output import complain, echo, progress, table
from .types import FILE, PATH, Choice, Count

if TYPE_CHECKING:
    from ..analysis.brain import BrainComparison
    from ..analysis.comparison import Comparison

# Of `analysis.similarity` and `analysis.comparison`, without their imports.
DISSIMILARITIES = ('correlation', 'cosine', 'euclidean', 'crossnobis')
MEASURES = ('spearman', 'kendall', 'cosine', 'cka', 'procrustes')
_MOST_ROWS = 30  # of a table; of more, the most similar blocks of each two files are shown


@dataclass
class BrainOptions:
    """Responses to predict, and how."""

    brain: Path | None
    mask: Path | None
    noise_ceiling: Path | None
    folds: int
    projection: int | None
    permutations: int


def brain_options() -> Any:
    """--brain, --mask, --noise-ceiling, --folds, --projection, --permutations."""
    of_brain = functools.partial(option, section='Brain')
    return family(
        'predicted',
        BrainOptions,
        of_brain(
            '--brain',
            type=FILE,
            metavar='FILE',
            instead_of='--behavior',
            help='Predict these responses by ridge regression from each block: .npy [rows, channels], a .csv whose '
            'first column names the stimulus (a column time: the seconds), or a NIfTI image [x, y, z, rows].',
        ),
        of_brain('--mask', type=FILE, metavar='FILE', help='NIfTI image of the voxels to take.'),
        of_brain(
            '--noise-ceiling',
            type=FILE,
            metavar='FILE',
            help='The highest correlation that a model can reach in each voxel or channel: .npy, .csv or NIfTI.',
        ),
        of_brain('--folds', type=Count(2), default=5, metavar='N', help='Folds of the cross-validation.'),
        of_brain(
            '--projection',
            type=Count(),
            metavar='N',
            help='Project the features of a block to N dimensions at random first, if it has more.',
        ),
        of_brain(
            '--permutations', type=Count(0), default=1000, metavar='N', help='Of the permutation test; 0 for none.'
        ),
    )


@command(
    results='out',
    examples="""
    videozoo compare hvm1.npz kinetics.npz dino.npz --out comparison
    videozoo compare hvm1.npz kinetics.npz --behavior ratings.csv --measures spearman
    videozoo compare hvm1.npz kinetics.npz --behavior triplets.csv --dissimilarity cosine
    videozoo compare hvm1.npz kinetics.npz --brain responses.nii.gz --stimuli stimuli.txt --noise-ceiling ceiling.nii.gz
""",
)
@argument('features', nargs=-1, required=True, metavar='FEATURES...', type=PATH, help='Files of `videozoo embed`.')
@option(
    '--measures',
    cls=Several,
    type=Choice(MEASURES),
    metavar='MEASURE',
    default=('spearman', 'cka'),
    show_default='spearman cka',
    help=f'{", ".join(MEASURES)}: the first three correlate dissimilarities (RSA), the others compare features.',
)
@option(
    '--dissimilarity',
    type=Choice(DISSIMILARITIES),
    default='correlation',
    help='Between two stimuli; for crossnobis the clips of a stimulus are its repeats.',
)
@option(
    '--bootstraps',
    type=Count(0),
    default=1000,
    metavar='N',
    help='Samples of the stimuli for the 95% intervals of RSA; 0 for none.',
)
@option('--seed', type=int, default=0, metavar='N', help='Random seed.')
@option(
    '--behavior',
    type=FILE,
    metavar='FILE',
    help='What people said: a dissimilarity matrix (.csv with the names of the stimuli in its first row and column, or '
    '.npy), or a .csv of triplets, of which the last stimulus, or the one in a column odd, is the odd one.',
)
@option(
    '--stimuli',
    type=FILE,
    metavar='FILE',
    help='Names of the rows of an .npy or a NIfTI image: one a line, or the first column of a .csv.',
)
@brain_options()
@folder_option('--out', default=Path('comparison'), help='Folder for the results, the tables and the pictures.')
@option('--format', type=Choice(['pdf', 'svg', 'png']), default='pdf', help='Format of the pictures.')
@json_option()
@option('--force', is_flag=True, help='Replace other results in DIR.')
def compare(
    features: tuple[str, ...],
    measures: tuple[str, ...],
    dissimilarity: str,
    bootstraps: int,
    seed: int,
    behavior: Path | None,
    stimuli: Path | None,
    predicted: BrainOptions,
    out: Path,
    format: str,
    as_json: bool,
    force: bool,
) -> int:
    """Compare features with each other, with behavior or with responses of brains."""
    from ..analysis.behavior import read_behavior, read_names
    from ..analysis.brain import predict_responses
    from ..analysis.comparison import compare as measure_all
    from ..figures import check_pictures
    from ..outputs import Output

    names = read_names(stimuli) if stimuli else []
    about: dict[str, Any] = dict(files=[absolute(path) for path in features], seed=seed)
    about['stimuli_file'] = stimuli and absolute(str(stimuli))
    if predicted.brain:
        files = (predicted.brain, predicted.mask, predicted.noise_ceiling)
        about |= dict(
            zip(('responses', 'mask', 'noise_ceiling'), (path and absolute(str(path)) for path in files), strict=True)
        )
        about |= dict(folds=predicted.folds, projection=predicted.projection, permutations=predicted.permutations)
    else:
        if wrong := [name for name in ('mask', 'noise_ceiling') if getattr(predicted, name)]:
            raise ValueError(f'--{wrong[0].replace("_", "-")} belongs to --brain')
        about |= dict(measures=list(measures), dissimilarity=dissimilarity, bootstraps=bootstraps)
        about['behavior_file'] = behavior and absolute(str(behavior))
    record, *others = _files(features, measures, predicted.brain is not None, format)
    Output(out).check_recorded(record, about, force, others)
    check_pictures()  # now, rather than after the work
    with _Stages() as stages:
        if predicted.brain:
            result: Any = predict_responses(
                features,
                predicted.brain,
                stimuli=names,
                mask=predicted.mask,
                ceiling=predicted.noise_ceiling,
                folds=predicted.folds,
                projection=predicted.projection,
                permutations=predicted.permutations,
                seed=seed,
                progress=stages,
                say=complain,
            )
        else:
            result = measure_all(
                features,
                measures=measures,
                dissimilarity=dissimilarity,
                behavior=read_behavior(behavior, names) if behavior else None,
                bootstraps=bootstraps,
                seed=seed,
                progress=stages,
                say=complain,
            )
    result.settings |= about
    result.save(out, format)
    tell_settings(**(_told_brain(result) if predicted.brain else _told(result)))
    if as_json:
        echo(to_json(result.summary()))
    elif predicted.brain:
        _tell_brain(result, out)
    else:
        _tell(result, out)
    return 1 if result.left_out else 0


def _files(features: tuple[str, ...], measures: tuple[str, ...], brain: bool, format: str) -> list[str]:
    """What may be written; the record first."""
    if brain:
        maps = [f'r_{Path(file).stem}.nii.gz' for file in features]
        return ['brain.json', 'brain.csv', 'channels.csv', f'brain.{format}', *maps]
    pictures = [f'{kind}_{measure}.{format}' for kind in ('heat_map', 'mds', 'behavior') for measure in measures]
    return ['comparison.json', 'pairs.csv', 'behavior.csv', *pictures, f'behavior_triplets.{format}']


class _Stages(ExitStack):
    """A progress bar for each of several things that are done one after the other."""

    what, advance = '', staticmethod(lambda number: None)

    def __call__(self, what: str, number: float, total: int) -> None:
        if what != self.what:
            self.close()
            self.what, self.advance = what, self.enter_context(progress(total, what))
        self.advance(number)


def _tell(result: 'Comparison', out: Path) -> None:
    from ..analysis.comparison import FEWEST_PLACED
    from ..analysis.matching import told_rows

    if rows := result.behavior_rows():
        table(
            ['measure', 'features', 'block', 'with behavior', '95% interval'],
            [
                [row['measure'], row['name'], _block(row['block']), f'{row["value"]:.3f}', _interval(row)]
                for row in rows
            ],
        )
        if result.triplets and result.triplets.ceiling:
            low, high = result.triplets.ceiling
            echo(f'noise ceiling {low:.3f} to {high:.3f}, chance 0.333')
        echo()
    pairs = [row for measure in result.measures for row in result.pairs(measure) if row['b'] != 'behavior']
    shown = pairs if len(pairs) <= _MOST_ROWS else _closest(pairs)
    if shown:
        table(
            ['measure', 'features', 'block', 'features', 'block', 'similarity', '95% interval'],
            [
                [
                    *(row['measure'], row['a'], _block(row['block_a']), row['b'], _block(row['block_b'])),
                    *(f'{row["value"]:.3f}', _interval(row)),
                ]
                for row in shown
            ],
        )
    if len(shown) < len(pairs):
        echo(f'the most similar blocks of each two files; all {len(pairs)} pairs are in pairs.csv')
    few = [measure for measure in result.measures if len(result.names(measure)) < FEWEST_PLACED]
    if few:
        echo(f'no picture of places (mds_{few[0]}): it takes at least {FEWEST_PLACED} representations')
    number = counted(len(result.representations), 'representation')
    echo(f'{number} of {told_rows(result.stimuli)}; all results in {out}')


def _told_rows(result: 'Comparison | BrainComparison') -> dict[str, Any]:
    return dict(rows=len(result.stimuli), stimuli=len(set(result.stimuli)))


def _told(result: 'Comparison') -> dict[str, Any]:
    """What a methods section says of results."""
    told = _told_rows(result)
    if result.triplets:
        told |= dict(triplets=result.triplets.triplets, answers=result.triplets.answers)
        told['noise_ceiling'] = result.triplets.ceiling
    return told


def _told_brain(result: 'BrainComparison') -> dict[str, Any]:
    from ..analysis.brain import THRESHOLD

    told = _told_rows(result)
    told |= dict(channels=len(result.responses.channels), solver=result.settings['solver'])
    if result.settings['permutations']:
        predicted = {row['name']: row['significant'] for row in result.rows() if row['block'] == 'chosen'}
        told |= dict(q_below=THRESHOLD, channels_below={name: predicted[name] for name in result.encodings})
    if result.ceiling is not None:
        told['median_noise_ceiling'] = statistics.median(map(float, result.ceiling))
    return told


def _closest(pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    best: dict[Any, dict[str, Any]] = {}
    for row in pairs:
        key = row['measure'], row['a'], row['b']
        if row['a'] != row['b'] and (key not in best or row['value'] > best[key]['value']):
            best[key] = row
    return list(best.values())


def _tell_brain(result: 'BrainComparison', out: Path) -> None:
    from ..analysis.matching import told_rows

    has_ceiling = result.ceiling is not None
    table(
        ['features', 'block', 'mean r', 'median r', *['median of r / ceiling'] * has_ceiling, 'q < 0.05'],
        [
            [
                *(row['name'], _block(row['block']), f'{row["mean"]:.3f}', f'{row["median"]:.3f}'),
                *[f'{row.get("normalized", 0):.3f}'] * has_ceiling,
                str(row.get('significant', '')),
            ]
            for row in result.rows()
        ],
    )
    echo(
        f'{told_rows(result.stimuli)}, {counted(len(result.responses.channels), "channel")}, ridge regression by '
        f'{result.settings["solver"]}; all results in {out}'
    )


def _block(block: Any) -> str:
    return 'output' if block is None else str(block)


def _interval(row: dict[str, Any]) -> str:
    return f'{row["low"]:.3f} to {row["high"]:.3f}' if 'low' in row else ''
