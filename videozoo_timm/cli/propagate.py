"""videozoo propagate."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..notes import tell_placed, tell_settings
from ..text import counted, to_json
from .base import argument, command, option
from .inputs import absolute, shown, unique_stems
from .loading import load
from .options import ModelOptions, block_option, folder_option, json_option, model_options
from .output import Losses, complain, echo, exit_code, progress, report, table
from .types import FILE, PATH, Count

if TYPE_CHECKING:
    import torch

    from ..analysis.davis import DavisFolder
    from ..figures.indexed import IndexedImage

_RECORD = 'propagation.json'
_TILES, _TILE_HEIGHT = 8, 160  # frames of the contact sheet, and pixels of one

_Follow = Callable[[Iterator['torch.Tensor'], 'torch.Tensor'], Iterator['torch.Tensor']]


@command(
    results='out',
    examples="""
    videozoo propagate DAVIS --model vit_hvm1_none
    videozoo propagate DAVIS --model dino_say_vitb14 --split train --json
    videozoo propagate drawn:0/right/000003 --labels first.png --clips --out followed
""",
)
@argument(
    'path',
    metavar='PATH',
    type=PATH,
    help='The folder of DAVIS 2017, which holds JPEGImages, Annotations and ImageSets; or with --labels a video file.',
)
@option(
    '--labels',
    type=FILE,
    metavar='FILE',
    help='Indexed PNG with the labels of the first frame of a video of yours, of its size; 0 is the background.',
)
@option('--split', metavar='NAME', show_default='val', help='List of videos in ImageSets/2017.')
@option('--fps', type=Count(1, 240), metavar='N', show_default='30', help='Frames per second of a video of yours.')
@model_options()
@block_option()
@option(
    '--norm/--no-norm',
    default=None,
    show_default='as published: of image encoders, not of video models',
    help="Apply the model's final norm to the tokens.",
)
@option(
    '--clips',
    is_flag=True,
    help='Show a video model the frames around each frame, instead of each frame repeated as published.',
)
@option('--short-side', type=Count(64), default=480, metavar='PIXELS', help='Of the frames as the model sees them.')
@option('--topk', type=Count(), default=5, metavar='N', help='Patches that a patch takes its labels from.')
@option(
    '--radius',
    '--size-mask-neighborhood',
    'radius',
    type=Count(0),
    default=12,
    metavar='N',
    help='These lie at most so many patches away along each side; 0 for anywhere.',
)
@option(
    '--num-previous',
    '--n-last-frames',
    'num_previous',
    type=Count(0),
    default=7,
    metavar='N',
    help='These lie in the first frame and in so many frames before the present one.',
)
@folder_option('--out', '--output-dir', 'out', default=Path('propagated'), help='Folder for what is written.')
@json_option()
@option('--force', is_flag=True, help="Replace another run's results in DIR.")
def propagate(
    path: str,
    labels: Path | None,
    split: str | None,
    fps: int | None,
    chosen: ModelOptions,
    block: int,
    norm: bool | None,
    clips: bool,
    short_side: int,
    topk: int,
    radius: int,
    num_previous: int,
    out: Path,
    as_json: bool,
    force: bool,
) -> int:
    """Follow the labels of the first frame through videos, by the likeness of patch tokens (DAVIS 2017)."""
    from ..analysis.davis import DavisFolder
    from ..analysis.features import checked_block
    from ..analysis.propagation import check_propagation, each_labeled
    from ..figures.indexed import read_indexed
    from ..inference.provenance import versions, weights_of
    from ..outputs import Output
    from ..synthetic import is_drawn

    own = labels is not None
    if not own and (is_drawn(path) or Path(path).is_file()):
        raise ValueError(f'{path} is a video: --labels FILE names the labels of its first frame')
    if own and Path(path).is_dir():
        raise ValueError(f'{path} is a folder: --labels is for a video; a folder of DAVIS has its own annotations')
    if own and split is not None:
        raise ValueError(f'--split {split} is of a folder of DAVIS, not of a video: leave it out')
    if not own and fps is not None:
        raise ValueError(f'--fps {fps} is of a video with --labels, not of a folder of DAVIS: leave it out')
    split, fps = split or 'val', fps or 30
    folder = None if own else DavisFolder(path)
    names = [path] if folder is None else folder.videos(split)
    first = read_indexed(labels) if labels is not None else None
    out = out / unique_stems([path])[0] if own else out
    tell_placed(out)
    tell_settings(split=None if own else split)
    model, name = load(chosen)
    check_propagation(model, clips)
    options: dict[str, Any] = dict(short_side=short_side, clips=clips, block=checked_block(model, block), norm=norm)
    options |= dict(topk=topk, radius=radius, num_previous=num_previous)
    source = dict(video=absolute(path), fps=fps) if own else dict(folder=absolute(path), split=split)
    about: dict[str, Any] = dict(model=name, **weights_of(model), **source, **options)
    tell_settings(block=options['block'])
    if own:
        others = ['labels.mp4', 'labels.jpg', *sorted(path.name for path in out.glob('[0-9]' * 5 + '.png'))]
    else:
        others = ['propagation.csv', *(video for video in names if Output(out / video).exists)]
    Output(out).check_recorded(_RECORD, about, force, others)
    about |= versions()  # which updates may change
    out.mkdir(parents=True, exist_ok=True)
    _save(about, out)

    if first is not None:

        def follow_whole(frames: Iterator['torch.Tensor'], labels: 'torch.Tensor') -> Iterator['torch.Tensor']:
            return each_labeled(model, frames, labels, whole_patches=True, **options)

        losses = Losses()
        number = _follow_own(path, fps, first, follow_whole, out, name, losses)
        if as_json:
            echo(to_json(dict(about, frames=number)))
        else:
            echo(f'{out}: {counted(number, "indexed PNG")}, labels.mp4 and labels.jpg')
        return exit_code(0, 1, losses)

    assert folder is not None
    return _follow_davis(
        folder, names, lambda frames, labels: each_labeled(model, frames, labels, **options), out, about, as_json
    )


def _save(content: dict[str, Any], out: Path) -> None:
    from ..files import save_json

    save_json(content, out / _RECORD)


def _follow_davis(
    folder: 'DavisFolder', names: list[str], follow: _Follow, out: Path, about: dict[str, Any], as_json: bool
) -> int:
    """Follow the labels of each video; what cannot be followed is told."""
    from ..errors import NotFiniteError
    from ..files import WriteError, save_csv
    from ..video import VideoError

    rows: list[dict[str, Any]] = []  # of each object
    done: dict[str, int] = {}  # frames of each video
    failed: list[str] = []
    with progress(len(names), 'videos') as update:
        for name in names:
            try:
                scores, done[name] = _follow_video(folder, name, follow, out)
                rows += [dict(video=name, object=s.label, J=s.region, F=s.contour) for s in scores]
            except WriteError:
                raise
            except (OSError, ValueError, VideoError, NotFiniteError) as error:
                report(name, error)
                failed.append(name)
            update(1)
    overall = _means(rows)
    _save(dict(about, videos=len(done), objects=len(rows), **overall, failed=failed, scores=rows), out)
    if rows:
        save_csv(rows, out / 'propagation.csv')
    if as_json:
        echo(to_json(dict(about, videos=len(done), objects=len(rows), **overall, failed=failed, scores=rows)))
    elif done:
        lines = [[name, str(done[name]), *_told([row for row in rows if row['video'] == name])] for name in done]
        table(
            ['video', 'frames', 'objects', 'J', 'F', 'J&F'],
            [*lines, ['mean of objects', str(sum(done.values())), *_told(rows)]],
        )
        echo(f'{out}: indexed PNGs of {counted(len(done), "video")}, propagation.json and propagation.csv')
    return exit_code(len(failed), len(names))


def _follow_video(folder: 'DavisFolder', name: str, follow: _Follow, out: Path) -> tuple[list[Any], int]:
    """The scores of a video's objects, and its number of frames."""
    from ..analysis.segmentation import VOID, score_labels
    from ..figures.indexed import IndexedImage, save_indexed

    frames, first = folder.frames(name), folder.first_annotation(name)
    given = first.labels.masked_fill(first.labels == VOID, 0)
    annotated = 0

    def pairs() -> Iterator[tuple['torch.Tensor', 'torch.Tensor']]:
        nonlocal annotated
        for number, labels in enumerate(follow(folder.images_of(name), given), 1):
            if number == 1:
                (out / name).mkdir(exist_ok=True)
                save_indexed(out / name / f'{frames[0].stem}.png', first)
            save_indexed(out / name / f'{frames[number].stem}.png', IndexedImage(labels, first.palette))
            if number == len(frames) - 1:
                continue  # the official evaluation leaves it out, and the first one
            true = folder.annotation(name, frames[number])
            if true is not None:
                if true.labels.shape != labels.shape:
                    raise ValueError(
                        f'{name}: the annotation of {frames[number].name} has {_pixels(true.labels)}, the frame '
                        f'{_pixels(labels)}'
                    )
                annotated += 1
                yield labels, true.labels

    objects = [label for label in given.unique().tolist() if label]
    if not objects:
        raise ValueError(f'{name}: its first annotation has no object')
    scores = score_labels(pairs(), objects)
    if 0 < annotated < len(frames) - 2:
        complain(
            f'{name}: annotated between the first and the last: {annotated} of {counted(len(frames) - 2, "frame")}'
        )
    return scores, len(frames)


def _pixels(labels: 'torch.Tensor') -> str:
    return f'{labels.shape[1]} x {labels.shape[0]} pixels'


def _means(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    """J, F and their mean over objects, as the official evaluation has it."""
    if not rows:
        return dict.fromkeys(('J', 'F', 'J&F'))
    j, f = (sum(row[key] for row in rows) / len(rows) for key in 'JF')
    return {'J': j, 'F': f, 'J&F': (j + f) / 2}


def _told(rows: list[dict[str, Any]]) -> list[str]:
    return [str(len(rows)), *('-' if value is None else f'{100 * value:.1f}' for value in _means(rows).values())]


def _follow_own(
    path: str, fps: int, first: 'IndexedImage', follow: _Follow, out: Path, name: str, losses: Losses
) -> int:
    """Follow the labels of a video; the number of its frames."""
    from functools import partial
    from itertools import chain, tee

    import torch

    from ..figures import Grid
    from ..figures.indexed import IndexedImage, paint, save_indexed
    from ..video import Sampling, probe, read_clips
    from ..video.sampling import even_starts
    from ..video.writing import save_video

    info, damaged = probe(path), 0
    if first.labels.shape != (info.height, info.width):
        raise ValueError(
            f'the labels have {_pixels(first.labels)}, the frames {info.width} x {info.height} of {shown(path)}'
        )
    number = max(math.ceil((info.duration - info.lost) * fps - 1e-6), 1)
    columns = sorted({k * (number - 1) // (_TILES - 1) for k in range(_TILES)})
    tiles: list[tuple[torch.Tensor, torch.Tensor]] = []
    written = 0

    def frames() -> Iterator[torch.Tensor]:
        nonlocal damaged
        for clip in read_clips(path, partial(even_starts, stride=1 / fps), sampling=Sampling(1, 1)):
            damaged += clip.damaged > 0
            yield clip.frames[0]

    def painted() -> Iterator[Any]:
        nonlocal written
        seen, to_follow = tee(frames())
        for frame, labels in zip(seen, chain([first.labels], follow(to_follow, first.labels)), strict=True):
            image = IndexedImage(labels, first.palette)
            save_indexed(out / f'{written:05}.png', image)
            over = paint(frame, image)
            if written in columns:
                tiles.append((_tile(frame), _tile(over)))
            written += 1
            update(1)
            yield over.numpy()

    with progress(number, 'frames') as update:
        save_video(painted(), out / 'labels.mp4', fps)
    rows = [(label, torch.cat(row)) for label, row in zip(('frames', 'labels'), zip(*tiles, strict=True), strict=True)]
    times = [f'{k / fps:.2f} s' for k in columns[: len(tiles)]]
    Grid(rows, times, f'{shown(path)}, followed by {name}').save(out / 'labels.jpg')
    if info.lost or damaged:
        losses(
            path, f'{path}: {info.lost:.1f} s are missing at its end, {damaged} of {counted(written, "frame")} damaged'
        )
    return written


def _tile(frame: 'torch.Tensor') -> 'torch.Tensor':
    """uint8 [H, W, 3] -> [1, 3, h, w] in [0, 1], small enough for the contact sheet."""
    import torch.nn.functional as F

    x = frame.permute(2, 0, 1)[None] / 255
    height, width = x.shape[-2:]
    if height <= _TILE_HEIGHT:
        return x
    size = _TILE_HEIGHT, max(round(width * _TILE_HEIGHT / height), 1)
    return F.interpolate(x, size, mode='bilinear', antialias=True).clamp(0, 1)
