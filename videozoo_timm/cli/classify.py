"""videozoo classify."""

from pathlib import Path

from ..text import printable, to_json
from .base import command, option
from .inputs import files
from .loading import load, views_for
from .options import (
    Inputs,
    ModelOptions,
    ReadingOptions,
    ViewOptions,
    input_options,
    json_option,
    model_options,
    view_options,
)
from .output import Losses, complain, echo, exit_code, progress, report, tell_pace
from .types import FILE


@command(
    examples="""
    videozoo classify VIDEOS --model vit_hvm1_ssv2-50shot
    videozoo classify clip.mp4 --weights finetuned/best.safetensors --views 5x3 --json
"""
)
@input_options('Video files (or image files), or folders to search.')
@model_options()
@view_options()
@option(
    '--labels',
    type=FILE,
    metavar='DIR|FILE',
    show_default='as the model names them, if it does',
    help='Names of the classes: a folder with one subfolder per class, a text file with one name per line, or a '
    'JSON file.',
)
@json_option()
def classify(
    inputs: Inputs,
    reading: ReadingOptions,
    chosen: ModelOptions,
    view: ViewOptions,
    labels: Path | None,
    as_json: bool,
) -> int:
    """Print the five most probable classes of each video or image."""
    from ..analysis.evaluation import check_head, parse_views, predict
    from ..analysis.labels import known_labels, read_labels
    from ..video import find_media

    paths, missing = files(inputs, find_media, chosen)
    model, name = load(chosen)
    check_head(model)
    names = read_labels(labels, model.num_classes) if labels else known_labels(model)
    if names is None:
        complain(f'{name} does not name its {model.num_classes} classes: they are numbered from 0; --labels names them')
        names = [f'class {k}' for k in range(model.num_classes)]
    views = parse_views(view.views or '1x1', views_for(chosen, model, view.span, view.frames))
    losses = Losses()
    with progress(len(paths)) as update:
        answers, failed = predict(
            model,
            paths,
            views,
            batch_size=view.batch_size,
            progress=update,
            report=report,
            lose=losses,
            pace=tell_pace,
            **vars(reading),
        )
    results = []
    for file, row in sorted(answers.items()):
        probabilities, best = row.exp().topk(min(5, len(names)))
        results.append(
            dict(
                path=paths[file],
                predictions=[
                    dict(index=index, label=names[index], probability=probability)
                    for index, probability in zip(best.tolist(), probabilities.tolist(), strict=True)
                ],
            )
        )
    if as_json:
        echo(to_json(results))
    else:
        for result in results:
            echo(printable(result['path']))
            for prediction in result['predictions']:
                echo(f'  {100 * prediction["probability"]:5.1f}%  {printable(prediction["label"])}')
    return exit_code(len(failed) + missing, len(paths) + missing, losses)
