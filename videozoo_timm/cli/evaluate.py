"""videozoo evaluate."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .base import command, option
from .loading import load, views_for
from .options import (
    Inputs,
    ModelOptions,
    ReadingOptions,
    ViewOptions,
    folder_option,
    input_options,
    json_option,
    model_options,
    view_options,
)
from .output import Losses, echo, exit_code, progress, report, table, tell_pace


@command(
    shared=True,
    examples="""
    videozoo evaluate VAL --model vit_hvm1_imagenet-2pt --batch-size 8
    videozoo evaluate VAL --model vit_hvm1_ssv2-50shot --views 5x3 --out evaluation
    videozoo evaluate drawn:100@9 --model vit_shapes_motion --json
""",
)
@input_options('The folder, with one subfolder of videos (or images) for each class.', '--val-dir')
@model_options()
@view_options()
@option(
    '--train-jitter-scales',
    type=int,
    nargs=2,
    metavar='MIN MAX',
    help="Sample the short side in pixels from this range; implies '--views random'.",
)
@option('--seed', type=int, default=0, metavar='N', help="Random seed of '--views random'.")
@folder_option('--out', '--out-dir', 'out', default=Path('evaluation'), help='Folder for the tables and the picture.')
@json_option()
@option('--force', is_flag=True, help="Replace another evaluation's results in DIR.")
def evaluate(
    inputs: Inputs,
    reading: ReadingOptions,
    chosen: ModelOptions,
    view: ViewOptions,
    train_jitter_scales: tuple[int, int] | None,
    seed: int,
    out: Path,
    as_json: bool,
    force: bool,
) -> int:
    """Measure accuracy on a folder with one subfolder per class."""
    from ..analysis.evaluation import evaluate as measure
    from ..analysis.evaluation import parse_views
    from ..figures import check_pictures
    from ..inference.pipeline import ProcessGroup
    from ..outputs import Output
    from ..video import Reading, class_folders, pyav_version

    if len(inputs.given) != 1:
        raise ValueError('name one folder, with one subfolder for each class')
    if train_jitter_scales and view.views not in (None, 'random'):
        raise ValueError(f"--train-jitter-scales belongs to '--views random', not to --views {view.views}")
    protocol = view.views or ('random' if train_jitter_scales else '1x1')
    team = ProcessGroup()
    model, name = load(chosen, device=team.device)
    views = parse_views(protocol, views_for(chosen, model, view.span), train_jitter_scales, seed)
    about: dict[str, Any] = dict(model=name, folder=inputs.given[0], views=protocol, dtype=chosen.dtype)
    about |= asdict(Reading(**vars(reading)).pixels)
    if protocol == 'random':
        about |= dict(seed=seed, jitter=views.jitter)
    Output(out).check_recorded('summary.json', about, force)
    check_pictures()  # now, rather than after hours
    folders = class_folders(inputs.given[0])
    losses = Losses()
    with progress(len(folders.paths), rank=team.rank, size=team.size) as update:
        result = measure(
            model,
            folders,
            views,
            batch_size=view.batch_size,
            team=team,
            progress=update,
            report=report,
            lose=losses,
            pace=tell_pace,
            **vars(reading),
        )
    if not team.is_main:
        return 0
    about['pyav'] = pyav_version()  # which an update of PyAV may change
    result.save(out, about)
    summary = result.summary()
    if as_json:
        echo(json.dumps({**about, **summary, 'per_class': result.per_class(), 'failed_files': result.failed}, indent=2))
    else:
        hardest = sorted((row for row in result.per_class() if row['files']), key=lambda row: row['top1'])
        if len(hardest) > 12:
            hardest = hardest[:5]
        table(
            ['class', 'files', 'top-1', 'top-5'],
            [
                [row['class'], str(row['files']), f'{100 * row["top1"]:.1f}%', f'{100 * row["top5"]:.1f}%']
                for row in [*hardest, {**summary, 'class': f'all {summary["classes"]}'}]
            ],
        )
        echo(
            f'top-1 {100 * summary["top1"]:.2f}%, top-5 {100 * summary["top5"]:.2f}%, loss {summary["loss"]:.4f} '
            f'({summary["files"]} files, views {protocol}, {name}); all results in {out}'
        )
    return exit_code(len(result.failed), len(result.failed) + len(result.paths), losses)
