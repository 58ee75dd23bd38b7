"""The clips of files, as a video generator takes them."""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .output import report, tell_padded

if TYPE_CHECKING:
    from ..models import VideoGenerator
    from .options import ReadingOptions


def views_for_generator(generator: 'VideoGenerator', span: int | None, num_frames: int | None = None) -> Any:
    """The centered clip of a file in the generator's size, of its frames or more, as far apart as its own."""
    from dataclasses import replace

    from ..inference.pipeline import views_of
    from ..video import Sampling

    views = views_of(generator, Sampling(generator.num_frames, span or generator.span))
    if num_frames is None or num_frames == generator.num_frames:
        return views
    gap = (views.sampling.span - 1) / max(generator.num_frames - 1, 1)
    return replace(views, sampling=Sampling(num_frames, 1 + round(gap * (num_frames - 1))))


def seconds_of(views: Any) -> float:
    """How long a clip takes, each of its frames for as long as the next is away; if there is none, for 1/30 s."""
    sampling = views.sampling
    gap = (sampling.span - 1) / max(sampling.num_frames - 1, 1)
    return sampling.num_frames * (gap or 1) / 30


def jobs_at(paths: list[str], views: Any, start: float | None) -> tuple[list[Any], Any]:
    """The files as `load_views` takes them, and the views, whose clips begin at `start` unless it is None."""
    from dataclasses import replace

    from ..video import Job, Times

    if start is None:
        return [Job(index, path) for index, path in enumerate(paths)], views
    times = Times((start,), (0,), '--start', '')
    return [Job(index, path, times=times) for index, path in enumerate(paths)], replace(views, align='start')


def each_clip(
    paths: list[str],
    views: Any,
    reading: 'ReadingOptions',
    failed: list[str],
    start: float | None = None,
    losses: Callable[[str, str], Any] = lambda path, reason: None,
    update: Callable[[int], Any] = lambda number: None,
) -> Generator[tuple[int, str, Any], None, None]:
    """(index, path, view) of each file; one that cannot be read is told and goes to `failed`.

    What is missing of a file is told to `losses`, that one is done to `update`.
    """
    from ..inference.losses import loss_of_view
    from ..video import View, load_views

    padded: list[float] = []
    loaded = load_views(*jobs_at(paths, views, start), **vars(reading))
    with closing(loaded):
        for job, item in loaded:
            if isinstance(item, View):
                if reason := loss_of_view(job.path, item):
                    losses(job.path, reason)
                padded.append(item.padded)
                yield job.index, job.path, item
                continue
            if item is not None:
                report(job.path, item.reason)
                failed.append(job.path)
            update(1)
    tell_padded(padded)


def about_views(views: Any) -> dict[str, Any]:
    """What of the views decides about results, for the comment of a picture."""
    return {k: v for k, v in asdict(views).items() if k in ('size', 'interpolation', 'sampling')}
