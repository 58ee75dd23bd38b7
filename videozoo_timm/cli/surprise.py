"""videozoo surprise."""

from dataclasses import asdict
from functools import partial
from typing import Any

from ..text import counted
from .base import command, option
from .generator_options import take_default_generator
from .inputs import absolute, files, sample, shown, unique_stems
from .loading import check_decoder, complain_of_dtype, load, pick_device, short_name, takes_images
from .options import (
    Inputs,
    ModelOptions,
    Pictures,
    ReadingOptions,
    batch_option,
    frames_option,
    input_options,
    model_options,
    picture_options,
)
from .output import Losses, complain, echo, exit_code, progress, report, table, tell_pace
from .pictures import PictureFolder, check_table
from .surprise_benchmark import BenchmarkOptions, benchmark_options, run_benchmark
from .types import Choice, Count, Integers, Number

SCORES, MASKS = ('mse', 'l1', 'nll'), ('context', 'random', 'temporal', 'center')  # of `analysis`, without its imports
CONTEXTS = (2, 4, 6, 8, 10)
_PICTURES = 'pictures.csv'


@command(
    shared=True,
    results='out',
    examples="""
    videozoo surprise FILMS --model mae_hvm1_none --out surprise
    videozoo surprise possible.mp4 impossible.mp4 --contexts 4,8 --frame-step 2 --animate gif
    videozoo surprise FILMS --score l1 --frame-rate file --frame-step 10
    videozoo surprise FILMS --mask-type random --num-masks 8
    videozoo surprise --benchmark intphys INTPHYS --model mae_hvm1_none --untrained 20
    videozoo surprise --benchmark adept --scores scores.json
""",
)
@input_options('Video files, or folders to search.')
@model_options()
@picture_options('surprise')
@option(
    '--score',
    type=Choice(SCORES),
    default='mse',
    help='Squared error of the masked pixels; absolute error of normalized pixels; or nats a code, of a generator.',
)
@option(
    '--norm-pix-loss',
    is_flag=True,
    help='Squared error of pixels normalized in each tubelet, for a model that was trained so.',
)
@option(
    '--contexts',
    type=Integers(),
    default=','.join(map(str, CONTEXTS)),
    metavar='C,C,...',
    help='Numbers of visible frames; all later frames of a window are predicted.',
)
@option(
    '--mask-type',
    type=Choice(MASKS),
    default='context',
    help='Mask what comes after the visible frames, or as in training instead.',
)
@option(
    '--mask-ratio',
    type=Number(0, 1, below=True),
    metavar='FRACTION',
    show_default='what the model was trained with',
    help='Fraction of the tokens that the masks of training hide.',
)
@option('--num-masks', type=Count(), metavar='N', default=1, help='Random masks to average over.')
@option(
    '--frame-step',
    type=Count(),
    metavar='N',
    default=4,
    help='Frames of the video from one frame of a window to the next.',
)
@option(
    '--frame-rate',
    metavar='RATE',
    default='30',
    help='Frames a second that --frame-step counts in; `file` counts the frames of each file.',
)
@option('--stride', type=Count(), metavar='N', default=2, help='Frames of a window from its start to that of the next.')
@option(
    '--offset',
    type=float,
    default=0.0,
    metavar='SECONDS',
    help='Start of the first window, from the first frame of each video.',
)
@frames_option()
@batch_option(8, 'Windows')
@option('--animate', type=Choice(['gif', 'mp4']), help='Also write each video with its curves and errors as it plays.')
@option(
    '--window',
    type=Count(0),
    metavar='N',
    show_default='the most surprising one',
    help='Window that the pictures look at closely, counted from 0.',
)
@option(
    '--no-pictures', 'with_pictures', flag_value=False, default=True, show_default=False, help='Write the table alone.'
)
@benchmark_options()
@option('--force', is_flag=True, help='Replace results of other settings, and start an unfinished run over.')
def surprise(
    inputs: Inputs,
    reading: ReadingOptions,
    chosen: ModelOptions,
    pictures: Pictures,
    score: str,
    norm_pix_loss: bool,
    contexts: tuple[int, ...],
    mask_type: str,
    mask_ratio: float | None,
    num_masks: int,
    frame_step: int,
    frame_rate: str,
    stride: int,
    offset: float,
    frames: str,
    batch_size: int,
    animate: str | None,
    window: int | None,
    with_pictures: bool,
    bench: BenchmarkOptions,
    force: bool,
) -> int:
    """Measure along videos how far what comes is from what a model expects.

    Windows slide over each video; the model sees the first frames of a window and predicts the others.
    """
    from ..analysis.surprise_series import surprise as measure
    from ..inference.pipeline import ProcessGroup
    from ..video import find_videos

    if score != 'nll' and chosen.model is not None and chosen.resolved.is_generator:
        raise ValueError(f'--score {score}: {chosen.model} is {chosen.resolved.kind}; its score is --score nll')
    options: dict[str, Any] = dict(
        score=score,
        norm_pix_loss=True if norm_pix_loss else None,
        contexts=contexts,
        mask_type=mask_type,
        mask_ratio=mask_ratio,
        num_masks=num_masks,
        seed=pictures.seed,
        frame_step=frame_step,
        frame_rate=_rate(frame_rate),
        stride=stride,
        offset=offset,
        frames=frames,
        batch_size=batch_size,
    )
    if bench.benchmark is not None:
        loader = partial(_load, chosen, score, None)
        return run_benchmark(bench, inputs, reading, chosen, pictures.out, options, force, loader)
    if bench.scores is not None or bench.untrained:
        raise ValueError('--scores and --untrained are of a benchmark: name it with --benchmark')
    if with_pictures:
        check_table(pictures.out / _PICTURES)
    paths, missing = files(inputs, find_videos, None if score == 'nll' else chosen)
    paths = sample(paths, pictures)
    team = ProcessGroup()
    model, name = _load(chosen, score, team.device)
    losses = Losses()
    with progress(len(paths), rank=team.rank, size=team.size) as update:
        result = measure(
            model,
            list(map(absolute, paths)),
            **options,
            maps=animate is not None,
            out=pictures.out,
            about=dict(model=name),
            start_over=force,
            team=team,
            progress=update,
            say=complain,
            report=report,
            lose=losses,
            pace=tell_pace,
            **vars(reading),
        )
    if result is None:
        return 0
    _tell(result)
    made = 0
    if with_pictures:
        made = _draw(result, model, name, chosen, pictures, reading, options, animate, window)
    beside = f', {counted(made, "picture")}' if made else ''
    echo(f'{pictures.out}: surprise.csv, surprise.json{beside}')
    return exit_code(len(result.failed) + missing, len(paths) + missing, losses)


def _load(chosen: ModelOptions, score: str, device: Any) -> tuple[Any, str]:
    """The masked autoencoder that the options name, or for 'nll' the generator, and what to call it."""
    if score != 'nll':
        check_decoder(chosen)
        if takes_images(chosen):
            raise ValueError(
                f'{chosen.model or chosen.weights} takes images; surprise is measured along clips (mae_..._st)'
            )
        return load(chosen, 'mae_shapes_none', device=device, whole=True)
    import torch

    from ..factory import load_generator, load_model

    device = pick_device(chosen.device) if chosen.device or device is None else device
    complain_of_dtype(chosen.dtype, device)
    where: dict[str, Any] = dict(device=device, dtype=getattr(torch, chosen.dtype or 'float32'))
    if chosen.weights is not None:
        return load_generator(chosen.weights, **where), chosen.weights.stem
    name = chosen.model or take_default_generator(chosen)
    model = load_model(name, zoo=chosen.zoo, **where)
    if not hasattr(model, 'num_frames') or not hasattr(model, 'log_likelihood_of_codes'):
        raise ValueError(f'--score nll: {name} is no generator of videos')
    return model, name


def _rate(text: str) -> float | None:
    if text == 'file':
        return None
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--frame-rate {text}: must be a number of frames a second, or 'file'") from None


def _tell(result: Any) -> None:
    """The table: of each video the mean score, where it is highest, and the same mean of the baselines."""
    names = sorted({name for one in result.series for name in one.baselines}, reverse=True)
    rows = []
    paths = [one.path for one in result.series]
    called = list(map(shown, paths))
    if len(set(called)) < len(called):
        called = unique_stems(paths)
    for label, one in zip(called, result.series, strict=True):
        mean = one.scores.mean(dim=1)
        most = int(mean.argmax())
        rows.append(
            [
                label,
                str(len(one.starts)),
                f'{mean.mean():.4f}',
                f'{mean[most]:.4f}',
                f'{one.starts[most]:.2f} to {one.ends[most]:.2f} s',
                *(f'{one.baselines[name].mean():.4f}' for name in names),
            ]
        )
    table(['video', 'windows', f'mean {result.score}', 'highest', 'from', *names], rows)


def _draw(
    result: Any,
    model: Any,
    name: str,
    chosen: ModelOptions,
    pictures: Pictures,
    reading: ReadingOptions,
    options: dict[str, Any],
    animate: str | None,
    window: int | None,
) -> int:
    """A picture of each video, and an animation of it; the number of pictures."""
    from ..figures import save_animation
    from ..inference.provenance import versions, weights_of
    from ..video import Reading

    pixels = Reading(**vars(reading)).pixels
    settings = dict(options, contexts=','.join(map(str, options['contexts'])), **asdict(pixels), **weights_of(model))
    settings |= {} if window is None else dict(window=window)
    made = PictureFolder(pictures, _PICTURES, settings, versions(), source='video')
    called = name if result.score == 'nll' else short_name(chosen, model)
    stems = unique_stems([one.path for one in result.series])
    with progress(len(stems), 'pictures') as update:
        for k, (one, stem) in enumerate(zip(result.series, stems, strict=True)):
            picture = result.picture(k, pixels=pixels, window=window)
            row = dict(model=name, windows=len(one.starts), mean=float(one.scores.mean()))
            target = made.add(picture, one.path, stem, f'{called}_{result.score}', row, f'{name}, {result.score}', [])
            if animate:
                save_animation(list(picture.frames()), target.with_suffix(f'.{animate}'), one.duration)
            update(1)
    made.tell()
    return len(made.rows)
