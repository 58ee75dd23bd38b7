"""videozoo evaluate."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..text import counted, to_json
from .base import command, option
from .inputs import absolute, telling
from .loading import load, views_for
from .options import (
    Inputs,
    ModelOptions,
    ReadingOptions,
    ViewOptions,
    compile_option,
    folder_option,
    input_options,
    json_option,
    model_options,
    view_options,
)
from .output import Losses, echo, exit_code, progress, report, table, tell_pace, with_interval


@command(
    shared=True,
    results='out',
    examples="""
    videozoo evaluate VAL --model vit_hvm1_imagenet-2pt --batch-size 8
    videozoo evaluate VAL --model vit_hvm1_ssv2-50shot --views 5x3 --out evaluation
    videozoo evaluate drawn:100@9 --model vit_shapes_motion --json
""",
)
@input_options('The folder, with one subfolder of videos (or images) for each class.', '--val-dir')
@model_options()
@compile_option()
@view_options()
@option(
    '--train-jitter-scales',
    type=int,
    nargs=2,
    metavar='MIN MAX',
    help="Sample the short side in pixels from this range; implies '--views random'.",
)
@option('--seed', type=int, metavar='N', show_default='0', help="Random seed of '--views random'.")
@option('--allow-empty', is_flag=True, help='Take class folders without files too.')
@folder_option('--out', '--out-dir', 'out', default=Path('evaluation'), help='Folder for the tables and the picture.')
@json_option()
@option('--force', is_flag=True, help="Replace another evaluation's results in DIR.")
def evaluate(
    inputs: Inputs,
    reading: ReadingOptions,
    chosen: ModelOptions,
    compile: bool,
    view: ViewOptions,
    train_jitter_scales: tuple[int, int] | None,
    seed: int | None,
    allow_empty: bool,
    out: Path,
    as_json: bool,
    force: bool,
) -> int:
    """Measure accuracy on a folder with one subfolder per class."""
    from ..analysis.evaluation import SUMMARY, TABLES, NothingEvaluatedError, parse_views
    from ..analysis.evaluation import evaluate as measure
    from ..figures import check_pictures
    from ..inference.pipeline import ProcessGroup
    from ..inference.provenance import compiled, versions, weights_of
    from ..outputs import Output
    from ..video import Reading, class_folders
    from ..video.class_folders import EmptyClassError

    if len(inputs.given) != 1:
        raise ValueError('name one folder, with one subfolder for each class')
    if train_jitter_scales and view.views not in (None, 'random'):
        raise ValueError(f"--train-jitter-scales belongs to '--views random', not to --views {view.views}")
    protocol = view.views or ('random' if train_jitter_scales else '1x1')
    if seed is not None and protocol != 'random':
        raise ValueError(f"--seed {seed} is that of '--views random': views {protocol} are not random")
    seed = seed or 0
    team = ProcessGroup()
    model, name = load(chosen, device=team.device)
    views = parse_views(protocol, views_for(chosen, model, view.span, view.frames), train_jitter_scales, seed)
    about: dict[str, Any] = dict(
        model=name,
        **weights_of(model),
        folder=absolute(inputs.given[0]),
        views=protocol,
        size=views.size,
        num_frames=views.sampling.num_frames,
        span=view.span,
        frames=view.frames or None,
        **asdict(Reading(**vars(reading)).pixels),
        **compiled(compile),
    )
    if protocol == 'random':
        about |= dict(seed=seed, jitter=views.jitter)
    Output(out).check_recorded(SUMMARY, about, force, TABLES)
    about |= versions()  # which updates may change
    check_pictures()  # now, rather than after hours
    unreadable: list[OSError] = []
    try:
        folders = class_folders(inputs.given[0], telling(unreadable), allow_empty=allow_empty)
    except EmptyClassError as error:
        raise ValueError(f'{error}, or measure the other classes with --allow-empty') from error
    losses = Losses()
    try:
        with progress(len(folders.paths), rank=team.rank, size=team.size) as update:
            result = measure(
                model,
                folders,
                views,
                batch_size=view.batch_size,
                compile=compile,
                team=team,
                progress=update,
                report=report,
                lose=losses,
                pace=tell_pace,
                **vars(reading),
            )
    except NothingEvaluatedError as error:
        if as_json and team.is_main:  # who reads JSON gets it
            nothing = dict.fromkeys(('top1', 'top5', 'loss'))
            counts = dict(files=0, failed=len(error.failed), classes=len(folders.classes))
            echo(to_json({**about, **counts, **nothing, 'per_class': [], 'failed_files': error.failed}))
        raise
    if not team.is_main:
        return 0
    result.save(out, about)
    summary = result.summary()
    if as_json:
        echo(to_json({**about, **summary, 'per_class': result.per_class(), 'failed_files': result.failed}))
    else:
        hardest = sorted((row for row in result.per_class() if row['files']), key=lambda row: row['top1'])
        if len(hardest) > 12:
            hardest = hardest[:5]
        table(
            ['class', 'files', 'top-1', '95% interval', 'top-5', '95% interval'],
            [
                [row['class'], str(row['files']), *with_interval(row, 'top1'), *with_interval(row, 'top5')]
                for row in [*hardest, {**summary, 'class': f'all {summary["classes"]}'}]
            ],
        )
        echo(
            f'top-1 {100 * summary["top1"]:.2f}%, top-5 {100 * summary["top5"]:.2f}%, loss {summary["loss"]:.4f} '
            f'({counted(summary["files"], "file")}, views {protocol}, {name}); all results in {out}'
        )
    left_out = len(result.failed) + len(unreadable)
    return exit_code(left_out, left_out + len(result.paths), losses)
