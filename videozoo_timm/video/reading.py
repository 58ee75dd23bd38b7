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
from typing import Any, NamedTuple

import torch

from ..paths import as_path
from ..synthetic import DURATION, RATE, SIZE, is_drawn, scene_of
from .checks import VideoError
from .clock import IN_ORDER, Damage, TimedFrame
from .decoding import (
    SLACK,
    end_of,
    import_av,
    opened,
    seek,
    step_of,
    timed_frames,
)
from .extent import Extent, examine
from .finding import is_sequence
from .images import read_image
from .pixels import AS_PLAYED, Pixels, shown_size, to_images
from .sampling import COMPLETION, GRID_RATE, RECOGNITION, TOLERANCE, Sampling, centered_starts, centred_starts
from .sequences import ImageSequence
from .skipping import Odd, may_skip, shown_frames

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
        duration: Of the video, in seconds; of a file that is cut off, of what is there.
        padded: Fraction of the frames that only repeat the video's first or last one, as the window goes beyond it.
        damaged: Fraction of the frames that are damaged, or stand for others that did not decode, or may be predicted
            from these, as all up to the next key frame may.
        clock_offset: Presentation time of the first frame on the file's own clock, in seconds. Added to the times
            above it gives those of other streams and programs.
        lost: Seconds at the end of the video that the file's header states and the file lacks.
    """

    frames: torch.Tensor
    times: torch.Tensor
    start: float
    end: float
    duration: float
    padded: float = 0.0
    damaged: float = 0.0
    clock_offset: float = 0.0
    lost: float = 0.0


@dataclass(frozen=True)
class VideoInfo:
    """Duration, frame rate and size of a video file.

    Attributes:
        duration: Seconds from the first frame to the end of the last; of a file that is cut off, as the header says.
        fps: Average frames per second, from the header.
        width: Pixels, as displayed: after rotation, and if pixels are not square after scaling to square ones.
        height: Pixels, as displayed.
        clock_offset: Presentation time of the first frame on the file's own clock, in seconds.
        lost: Seconds of the duration, at its end, that the file lacks.
    """

    duration: float
    fps: float
    width: int
    height: int
    clock_offset: float = 0.0
    lost: float = 0.0


def probe(path: str | os.PathLike, pixels: Pixels = AS_PLAYED, **fields: Any) -> VideoInfo:
    """Read duration, frame rate and size of a video from its header, its first frame and the end of the file.

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
    if is_sequence(path):
        sequence = ImageSequence(path, pixels)
        _, height, width, _ = sequence.images([0]).shape
        return VideoInfo(sequence.duration, sequence.rate, width, height)
    with opened(path, num_threads=1) as (container, stream):
        extent, frame = examine(path, container, stream)
        width, height = shown_size(path, frame, stream.sample_aspect_ratio, pixels)
        rate = stream.average_rate or stream.guessed_rate or GRID_RATE
        whole = extent.duration + extent.lost
        return VideoInfo(whole, float(rate), width, height, extent.origin, extent.lost)


def read_clip(
    path: str | os.PathLike,
    *,
    sampling: Sampling = RECOGNITION,
    start: float | None = None,
    num_threads: int = 1,
    pixels: Pixels = AS_PLAYED,
    **fields: Any,
) -> Clip:
    """Read one clip from a video.

    Position k of the 30 Hz grid shows the last frame whose presentation time is not after `start + k / 30`. A video
    that ends within the window repeats its last frame. Of a file that is cut off, what is there is the video. Packets
    that do not decode are skipped. `Clip.padded`, `Clip.lost` and `Clip.damaged` tell of these.

    Args:
        path: A video file.
        sampling: Which frames to take.
        start: Start of the window, in seconds from the first frame. None is the published center clip: it starts at
            position floor(max(30 * duration - span, 0) / 2) of the grid.
        num_threads: Threads of the decoder. Several are faster, but decode damaged frames, and those before a cut, in a
            way that differs from time to time.
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
    num_threads: int = 1,
    pixels: Pixels = AS_PLAYED,
    **fields: Any,
) -> Iterator[Clip]:
    """Read clips from a video, each as `read_clip` would, in as few passes over the file as possible.

    Args:
        path: A video file; a synthetic video; a folder of numbered images (`FOLDER:frames@RATE`).
        starts: Starts of the windows in ascending order, in seconds from the first frame; or a function from the
            video's duration in seconds to these starts. Positions before the first frame show that frame.
        sampling: Which frames of a window to take.
        skip: Number of windows to skip, from the first. The others are read from the same places in the file as with
            `skip=0`, so that they are equal even where decoding depends on where it began.
        num_threads: Threads of the decoder. Several are faster, but decode damaged frames, and those before a cut, in a
            way that differs from time to time.
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
        scene = scene_of(path)
        extent, rate, images = Extent(0.0, DURATION), RATE, lambda shown: scene.render([k / RATE for k in shown])
        yield from _numbered_clips(path, starts, sampling, skip, extent, rate, images)
        return
    if is_sequence(path):
        folder = ImageSequence(path, pixels)
        extent = Extent(0.0, folder.duration)
        yield from _numbered_clips(path, starts, sampling, skip, extent, folder.rate, folder.images)
        return
    with opened(path, num_threads=1) as (container, stream):
        extent, _ = examine(path, container, stream)
        aspect = stream.sample_aspect_ratio
    for run in _runs(_checked(path, starts, extent), sampling):
        if skip >= len(run):
            skip -= len(run)
            continue
        before = None
        for start, shown in zip(run, _read_run(path, extent, run, sampling, num_threads), strict=True):
            if skip:
                skip -= 1
                continue
            times = torch.tensor([time - extent.origin for time, _ in shown.frames], dtype=torch.float64)
            frames = [frame for _, frame in shown.frames]
            try:
                images = to_images(path, frames, aspect, pixels, before)
            except (import_av().FFmpegError, ValueError) as error:
                reason = getattr(error, 'strerror', None) or error
                raise VideoError(f'{path}: a frame cannot be converted to RGB ({reason})') from error
            before = frames, images  # of which windows that overlap share some
            ahead = sum(start + k / GRID_RATE < -TOLERANCE for k in sampling.positions)
            yield Clip(
                images,
                times,
                start,
                start + sampling.seconds,
                extent.duration,
                (ahead + shown.behind) / sampling.num_frames,
                shown.damaged / sampling.num_frames,
                extent.origin,
                extent.lost,
            )


def _numbered_clips(
    path: Path, starts: Starts, sampling: Sampling, skip: int, extent: Extent, rate: float, images: Any
) -> Iterator[Clip]:
    """Clips of frames that can be had by their numbers: a position shows the frame that began last."""
    last = round(extent.duration * rate) - 1
    for start in islice(_checked(path, starts, extent), skip, None):
        asked = [math.floor((start + TOLERANCE + k / GRID_RATE) * rate) for k in sampling.positions]
        shown = [min(max(k, 0), last) for k in asked]
        times = torch.tensor(shown, dtype=torch.float64) / rate
        padded = sum(k != there for k, there in zip(asked, shown, strict=True)) / len(asked)
        yield Clip(images(shown), times, start, start + sampling.seconds, extent.duration, padded)


def _checked(path: Path, starts: Starts, extent: Extent) -> Iterator[float]:
    """The starts; those of a function are checked one by one, as a file may cause any number of them."""
    if not callable(starts):
        return iter(list(_ascending(path, starts, extent.duration + extent.lost)))
    return _ascending(path, starts(extent.duration), extent.duration)


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


class _Shown(NamedTuple):
    """What a window shows.

    Attributes:
        frames: (time, frame) at each of its positions.
        behind: Number of positions behind the end of the last frame.
        damaged: Number of positions that show a damaged frame, or whose own did not decode.
    """

    frames: list[TimedFrame]
    behind: int
    damaged: int


def _read_run(
    path: Path, extent: Extent, starts: list[float], sampling: Sampling, num_threads: int
) -> Iterator[_Shown]:
    """What each window shows."""
    wanted = [[extent.origin + max(start + k / GRID_RATE, 0) for k in sampling.positions] for start in starts]
    done = 0
    for margin in _SEEK_MARGINS:
        begin, first, damage = starts[done] - margin, done, Damage()
        sought = begin > 0
        ways: list[Callable[..., Iterator[TimedFrame]]] = [
            partial(shown_frames, wanted=sorted(chain(*wanted[done:]))),
            partial(timed_frames, timing=extent.timing, begin=extent.origin + begin, damage=damage),
        ]
        for frames_of in ways if extent.timing == IN_ORDER else ways[1:]:
            with opened(path, num_threads) as (container, stream), suppress(Odd):
                if sought and not seek(container, stream, extent.origin + begin, extent.timing):
                    break
                frames = (frames_of if may_skip(stream) else ways[-1])(container, stream, sought=sought)
                windows = _select(path, extent, step_of(stream), frames, wanted[first:], damage)
                for shown in islice(windows, done - first, None):
                    yield shown
                    done += 1
                break
        if done == len(wanted):
            return
    raise VideoError(f'{path}: no frame could be decoded')


def _select(
    path: Path,
    extent: Extent,
    step: float,
    frames: Iterator[TimedFrame],
    windows: list[list[float]],
    damage: Damage,
) -> Iterator[_Shown]:
    """For each window the last (time, frame) not after each of its wanted times; windows come in ascending order.

    Yields nothing if the frames begin too late.

    Raises:
        VideoError: The frames end before a window starts, so that it would show nothing of its own.
    """

    def window(shown: list[TimedFrame], times: list[float], end: float = math.inf) -> _Shown:
        behind = [time > end - TOLERANCE for time in times]
        return _Shown(
            shown,
            sum(behind),
            sum(
                damage.between(time, wanted + TOLERANCE) or (is_behind and wanted < missing_until)
                for (time, _), wanted, is_behind in zip(shown, times, behind, strict=True)
            ),
        )

    missing_until = -math.inf  # until when pictures should be there that are not
    order = sorted((time, number) for number, times in enumerate(windows) for time in times)
    shown: list[list[TimedFrame]] = [[] for _ in windows]
    latest, next_window, position = None, 0, 0
    for time, frame in frames:
        while position < len(order) and time > order[position][0] + TOLERANCE:
            if latest is None:
                return
            shown[order[position][1]].append(latest)
            position += 1
            while next_window < len(windows) and len(shown[next_window]) == len(windows[next_window]):
                yield window(shown[next_window], windows[next_window])
                shown[next_window] = []  # its frames are large
                next_window += 1
        if position == len(order):
            return
        latest = time, frame
    if latest is None:
        return
    end = end_of(*latest, step)
    if extent.origin + extent.duration > end + SLACK:
        missing_until = extent.origin + extent.duration
    for times, begun in zip(windows[next_window:], shown[next_window:], strict=True):
        if times[0] > end + SLACK:
            ends, starts = f'{end - extent.origin:.1f} s', f'{times[0] - extent.origin:.1f} s'
            raise VideoError(f'{path}: the file ends at {ends}, the window starts at {starts}: cut off?')
        yield window(begun + [latest] * (len(times) - len(begun)), times, end)
