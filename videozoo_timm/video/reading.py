"""Reading clips out of video files, by presentation time.

The published models see video at 30 frames a second. A file with another or a varying rate is therefore sampled by
time: every position of a 30 Hz grid shows the frame that a player would have on the screen at that moment.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch

from ..paths import as_path
from ..synthetic import DURATION, RATE, SIZE, is_drawn, scene_of
from .checks import VideoError
from .decoding import (
    SLACK,
    TimedFrame,
    duration_of,
    end_of,
    first_frame,
    import_av,
    opened,
    seek,
    step_of,
    timed_frames,
)
from .images import read_image
from .pixels import AS_PLAYED, Pixels, shown_size, to_images
from .sampling import COMPLETION, GRID_RATE, RECOGNITION, TOLERANCE, Sampling, centered_starts, centred_starts
from .skipping import Odd, shown_frames

__all__ = [
    'COMPLETION',
    'RECOGNITION',
    'Clip',
    'Sampling',
    'VideoError',
    'VideoInfo',
    'centered_starts',
    'centred_starts',
    'probe',
    'read_clip',
    'read_clips',
    'read_image',
]

Starts = Sequence[float] | Callable[[float], Sequence[float]]

# How far before the window to seek, in seconds. Indexes hold decoding times, so with B-frames a seek may land a little
# late. What has landed too late is tried again from further back, at last from the beginning.
_SEEK_MARGINS = (0.25, 10.0, math.inf)
# Between windows further apart than this (seconds) seeking is cheaper than decoding on.
_SEEK_GAP = 8.0
_LONGEST_RUN = 60.0  # seconds from the first window of a pass to the last


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames sampled from a video.

    Attributes:
        frames: uint8 [T, H, W, 3], RGB, as a player shows them (`Pixels`): upright, with square pixels.
        times: float64 [T], the presentation times of the frames shown, in seconds from the video's first frame.
        start: Start of the sampled window, in seconds from the first frame.
        end: End of the sampled window; later than the video's end where the video is shorter than the window.
        duration: Of the video, in seconds.
    """

    frames: torch.Tensor
    times: torch.Tensor
    start: float
    end: float
    duration: float


@dataclass(frozen=True)
class VideoInfo:
    """Duration, frame rate and size of a video file.

    Attributes:
        duration: Seconds from the first frame to the end of the last, from the header (counted if it does not say).
        fps: Average frames per second, from the header.
        width: Pixels, as displayed: after rotation, and if pixels are not square after scaling to square ones.
        height: Pixels, as displayed.
    """

    duration: float
    fps: float
    width: int
    height: int


def probe(path: str | os.PathLike, pixels: Pixels = AS_PLAYED, **fields: Any) -> VideoInfo:
    """Read duration, frame rate and size of a video from its header and its first frame.

    Args:
        path: A video file.
        pixels: As in `read_clip`, on which the size depends.
        **fields: Fields of `pixels` to replace.

    Raises:
        FileNotFoundError: There is no such file.
        VideoError: It cannot be read as a video.
        ImportError: PyAV is not installed.
    """
    path, pixels = as_path(path), replace(pixels, **fields)
    if is_drawn(path):
        scene_of(path)
        return VideoInfo(DURATION, RATE, SIZE, SIZE)
    with opened(path, num_threads=1) as (container, stream):
        origin, frame = first_frame(path, container, stream)
        width, height = shown_size(path, frame, stream.sample_aspect_ratio, pixels)
        rate = stream.average_rate or stream.guessed_rate or GRID_RATE
        return VideoInfo(duration_of(path, container, stream, origin), float(rate), width, height)


def read_clip(
    path: str | os.PathLike,
    *,
    sampling: Sampling = RECOGNITION,
    start: float | None = None,
    num_threads: int = 2,
    pixels: Pixels = AS_PLAYED,
    **fields: Any,
) -> Clip:
    """Read one clip from a video.

    Position k of the 30 Hz grid shows the last frame whose presentation time is not after `start + k / 30`. A video
    that ends within the window repeats its last frame. One that ends before the window, though its header says
    otherwise, gives no clip. Packets that do not decode are skipped.

    Args:
        path: A video file.
        sampling: Which frames to take.
        start: Start of the window, in seconds from the first frame. None is the published center clip: it starts at
            position floor(max(30 * duration - span, 0) / 2) of the grid.
        num_threads: Threads of the decoder.
        pixels: Which colors the frames have, and what transparent parts are laid on.
        **fields: Fields of `pixels` to replace: `color`, `background`.

    Raises:
        FileNotFoundError: There is no such file.
        VideoError: It cannot be read as a video, or it ends before the window.
        ValueError: `start` is negative or not before the end of the video.
        ImportError: PyAV is not installed.
    """
    if start is not None and not 0 <= start < math.inf:
        raise ValueError(f'{path}: start must be 0 or more seconds, got {start}')
    starts = partial(centered_starts, sampling=sampling) if start is None else [start]
    return next(read_clips(path, starts, sampling=sampling, num_threads=num_threads, pixels=pixels, **fields))


def read_clips(
    path: str | os.PathLike,
    starts: Starts,
    *,
    sampling: Sampling = RECOGNITION,
    skip: int = 0,
    num_threads: int = 2,
    pixels: Pixels = AS_PLAYED,
    **fields: Any,
) -> Iterator[Clip]:
    """Read clips from a video, each as `read_clip` would, in as few passes over the file as possible.

    Args:
        path: A video file.
        starts: Starts of the windows in ascending order, in seconds from the first frame; or a function from the
            video's duration in seconds to these starts. Positions before the first frame show that frame.
        sampling: Which frames of a window to take.
        skip: Number of windows to skip, from the first. The others are read from the same places in the file as with
            `skip=0`, so that they are equal even where decoding depends on where it began.
        num_threads: Threads of the decoder.
        pixels: As in `read_clip`.
        **fields: Fields of `pixels` to replace.

    Yields:
        One clip for each start that is not skipped.

    Raises:
        FileNotFoundError, VideoError, ImportError: As `read_clip`.
        ValueError: A start is not finite or not before the end of the video, or the starts do not ascend.
    """
    path, pixels = as_path(path), replace(pixels, **fields)
    if is_drawn(path):
        yield from _synthetic_clips(path, starts, sampling, skip)
        return
    with opened(path, num_threads=1) as (container, stream):
        origin, _ = first_frame(path, container, stream)
        aspect = stream.sample_aspect_ratio
        duration = duration_of(path, container, stream, origin)
    for run in _runs(_checked(path, starts, duration), sampling):
        if skip >= len(run):
            skip -= len(run)
            continue
        wanted = [[origin + max(start + k / GRID_RATE, 0) for k in sampling.positions] for start in run]
        for start, shown in zip(run, _read_run(path, origin, run, wanted, num_threads), strict=True):
            if skip:
                skip -= 1
                continue
            times = torch.tensor([time - origin for time, _ in shown], dtype=torch.float64)
            try:
                images = to_images(path, [frame for _, frame in shown], aspect, pixels)
            except (import_av().FFmpegError, ValueError) as error:
                reason = getattr(error, 'strerror', None) or error
                raise VideoError(f'{path}: a frame cannot be converted to RGB ({reason})') from error
            yield Clip(images, times, start, start + sampling.seconds, duration)


def _synthetic_clips(path: Path, starts: Starts, sampling: Sampling, skip: int) -> Iterator[Clip]:
    """Clips as of a file at 30 frames per second: a position shows the frame that began last."""
    scene = scene_of(path)
    last = round(DURATION * RATE) - 1
    for start in islice(_checked(path, starts, DURATION), skip, None):
        shown = [min(max(math.floor((start + TOLERANCE) * RATE + k), 0), last) for k in sampling.positions]
        times = torch.tensor(shown, dtype=torch.float64) / RATE
        yield Clip(scene.render(times), times, start, start + sampling.seconds, DURATION)


def _checked(path: Path, starts: Starts, duration: float) -> Iterator[float]:
    """The starts; those of a function are checked one by one, as a file may cause any number of them."""
    if not callable(starts):
        return iter(list(_ascending(path, starts, duration)))
    return _ascending(path, starts(duration), duration)


def _ascending(path: Path, starts: Sequence[float], duration: float) -> Iterator[float]:
    before = -math.inf
    for start in starts:
        if not math.isfinite(start) or start < before:
            raise ValueError(f'{path}: starts must be ascending numbers of seconds, got {before:g} and then {start:g}')
        if start > 0 and start >= duration:
            raise ValueError(
                f'{path}: start {start:g} s is not before the end of the video, which lasts {duration:g} s'
            )
        yield start
        before = start


def _runs(starts: Iterator[float], sampling: Sampling) -> Iterator[list[float]]:
    """The windows in groups that are read in one pass each; none so long that `skip` would have much to read."""
    run: list[float] = []
    for start in starts:
        if run and (start > run[-1] + sampling.seconds + _SEEK_GAP or start > run[0] + _LONGEST_RUN):
            yield run
            run = []
        run.append(start)
    if run:
        yield run


def _read_run(
    path: Path,
    origin: float,
    starts: list[float],
    wanted: list[list[float]],
    num_threads: int,
) -> Iterator[list[TimedFrame]]:
    """For each window the (time, frame) that it shows at each of its wanted times."""
    done = 0
    for margin in _SEEK_MARGINS:
        begin, first = starts[done] - margin, done
        for frames_of in (partial(shown_frames, wanted=sorted(chain(*wanted[done:]))), timed_frames):
            with opened(path, num_threads) as (container, stream), suppress(Odd):
                sought = begin > 0
                if sought and not seek(container, stream, origin + begin):
                    break
                frames = frames_of(container, stream, sought=sought)
                for shown in islice(_select(path, origin, step_of(stream), frames, wanted[first:]), done - first, None):
                    yield shown
                    done += 1
                break
        if done == len(wanted):
            return
    raise VideoError(f'{path}: no frame could be decoded')


def _select(
    path: Path,
    origin: float,
    step: float,
    frames: Iterator[TimedFrame],
    windows: list[list[float]],
) -> Iterator[list[TimedFrame]]:
    """For each window the last (time, frame) not after each of its wanted times; windows come in ascending order.

    Yields nothing if the frames begin too late.

    Raises:
        VideoError: The frames end before a window starts, so that it would show nothing of its own.
    """
    order = sorted((time, window) for window, times in enumerate(windows) for time in times)
    shown: list[list[TimedFrame]] = [[] for _ in windows]
    latest, next_window, position = None, 0, 0
    for time, frame in frames:
        while position < len(order) and time > order[position][0] + TOLERANCE:
            if latest is None:
                return
            shown[order[position][1]].append(latest)
            position += 1
            while next_window < len(windows) and len(shown[next_window]) == len(windows[next_window]):
                yield shown[next_window]
                shown[next_window] = []  # its frames are large
                next_window += 1
        if position == len(order):
            return
        latest = time, frame
    if latest is None:
        return
    end = end_of(*latest, step)
    for times, begun in zip(windows[next_window:], shown[next_window:], strict=True):
        if times[0] > end + SLACK:
            ends, starts = f'{end - origin:.1f} s', f'{times[0] - origin:.1f} s'
            raise VideoError(f'{path}: the file ends at {ends}, the window starts at {starts}: cut off?')
        yield begun + [latest] * (len(times) - len(begun))
