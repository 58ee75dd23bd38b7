"""videozoo probe."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..text import counted, to_json
from .base import Several, command, option
from .inputs import absolute, tell_shared, telling
from .loading import load, views_for
from .options import (
    RECOGNITION_SPAN,
    ModelOptions,
    ReadingOptions,
    batch_option,
    compile_option,
    folder_option,
    frames_option,
    json_option,
    model_options,
    reading_options,
    span_option,
)
from .output import Losses, bar_class, echo, progress, report, table, tell_pace, with_interval
from .types import PATH, Choice, Count

PROBES = ('linear', 'neighbours', 'attentive')


@command(
    results='out',
    examples="""
    videozoo probe --train IMAGES/train --val IMAGES/val --model dino_say_vitb14
    videozoo probe --train VIDEOS/train --val VIDEOS/val --model vit_hvm1_none --probes linear neighbours
""",
)
@folder_option(
    '--train',
    required=True,
    type=PATH,
    section='Videos or images',
    help='Folder with one subfolder per class, to fit the probes on.',
)
@folder_option('--val', required=True, type=PATH, section='Videos or images', help='The same classes, held out.')
@reading_options('Videos or images')
@model_options()
@compile_option()
@option(
    '--probes',
    cls=Several,
    type=Choice(PROBES),
    metavar='PROBE',
    default=PROBES,
    show_default='all',
    help=f'{", ".join(PROBES)}; the attentive one keeps all patch tokens in memory.',
)
@option('--epochs', type=Count(), default=30, metavar='N', help='Training epochs of the attentive probe.')
@option('--seed', type=int, default=0, metavar='N', help='Random seed.')
@batch_option(4, 'Files')
@span_option(RECOGNITION_SPAN)
@frames_option()
@folder_option('--out', default=Path('probe'), help='Folder for the tables.')
@json_option()
@option('--force', is_flag=True, help="Replace other probes' results in DIR.")
def probe(
    train: str,
    val: str,
    reading: ReadingOptions,
    chosen: ModelOptions,
    compile: bool,
    probes: tuple[str, ...],
    epochs: int,
    seed: int,
    batch_size: int,
    span: int,
    frames: str,
    out: Path,
    as_json: bool,
    force: bool,
) -> int:
    """Measure accuracy of linear, nearest-neighbor and attentive probes on frozen features."""
    tqdm = bar_class()

    from ..analysis.evaluation import TABLES
    from ..analysis.probing import SUMMARY, check_classes, check_folder, check_linear, frozen_features, save_probes
    from ..analysis.probing import probe as fit
    from ..figures import check_pictures
    from ..inference.provenance import compiled, versions, weights_of
    from ..outputs import Output
    from ..video import Reading, class_folders

    unreadable: list[OSError] = []
    fitted, held_out = (class_folders(folder, telling(unreadable)) for folder in (train, val))
    check_classes(fitted, held_out)
    tell_shared(fitted.paths, held_out.paths)
    names = list(dict.fromkeys(probes))
    check_pictures()  # now, rather than after hours
    if 'linear' in names:
        check_linear(fitted)
    model, name = load(chosen)
    views = views_for(chosen, model, span, frames)
    about = dict(
        model=name,
        **weights_of(model),
        train=absolute(train),
        val=absolute(val),
        size=views.size,
        num_frames=views.sampling.num_frames,
        span=span,
        frames=frames or None,
        epochs=epochs,
        seed=seed,
        names=names,
        **asdict(Reading(**vars(reading)).pixels),
        **compiled(compile),
    )
    Output(out).check_recorded(SUMMARY, about, force, [f'{kind}/{table}' for kind in PROBES for table in TABLES])
    about |= versions()  # which updates may change
    check_folder(out)
    frozen: list[Any] = []
    losses = Losses()
    for folders in (fitted, held_out):
        with progress(len(folders.paths)) as update:
            frozen.append(
                frozen_features(
                    model,
                    folders,
                    views,
                    tokens='attentive' in names,
                    batch_size=batch_size,
                    compile=compile,
                    progress=update,
                    report=report,
                    lose=losses,
                    pace=tell_pace,
                    **vars(reading),
                )
            )
    probed: list[Any] = []
    for kind in names:
        with tqdm(total=epochs, unit=' epochs', disable=kind != 'attentive') as bar:
            probed.append(
                fit(
                    kind, *frozen, epochs=epochs, seed=seed, device=next(model.parameters()).device, progress=bar.update
                )
            )
        save_probes(probed, out, about)  # kept, whatever becomes of the next
    summaries = [one.summary() for one in probed]
    if as_json:
        echo(to_json(dict(about, probes=summaries)))
    else:
        table(
            ['probe', 'top-1', '95% interval', 'top-5', '95% interval', 'chosen'],
            [
                [
                    row['probe'],
                    *(text for k in (1, 5) for text in with_interval(row, f'top{k}')),
                    ', '.join(f'{key}={value:g}' for key, value in one.settings.items()),
                ]
                for row, one in zip(summaries, probed, strict=True)
            ],
        )
        echo(
            f'{counted(len(frozen[0].features), "file")} to fit, {len(frozen[1].features)} held out, '
            f'{counted(len(fitted.classes), "class")}, {name}; all results in {out}'
        )
    return 1 if frozen[0].failed or frozen[1].failed or unreadable or losses.number else 0
