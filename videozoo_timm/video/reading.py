"""Reading clips out of video files, by presentation time.

The published models see video at 30 frames a second. A file with another or a varying rate is therefore sampled by
time: every position of a 30 Hz grid shows the frame that a player would have on the screen at that moment.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from ..paths import as_path
from ..synthetic import DURATION, RATE, SIZE, is_drawn, scene_of
from .checks import VideoError
from .decoding import import_av, opened
from .extent import Extent, examine
from .finding import is_sequence
from .images import read_image
from .passes import VideoFile, runs
from .pixels import AS_PLAYED, Pixels, shown_size, to_images
from .sampling import COMPLETION, GRID_RATE, RECOGNITION, TOLERANCE, Sampling, centered_starts, centred_starts
from .sequences import ImageSequence

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
    with closing(VideoFile(path, num_threads)) as video:
        extent = video.extent
        for run in runs(_checked(path, starts, extent), sampling):
            if skip >= len(run):
                skip -= len(run)
                continue
            before = None
            for start, shown in zip(run, video.show(run, sampling), strict=True):
                if skip:
                    skip -= 1
                    continue
                times = torch.tensor([time - extent.origin for time, _ in shown.frames], dtype=torch.float64)
                frames = [frame for _, frame in shown.frames]
                try:
                    images = to_images(path, frames, video.aspect, pixels, before)
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
