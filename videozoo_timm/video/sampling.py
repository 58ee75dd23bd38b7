"""Which frames make a clip, and the random seed of what is drawn for a file.

The published models see video at 30 frames a second. Positions are those of a grid of that rate.
"""

import hashlib
import math
import os
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from ..synthetic import is_drawn
from .checks import MAX_CLIPS, limit
from .ordering import check_order

GRID_RATE = 30
# Containers round presentation times, Matroska to whole milliseconds. Without some slack, frame k of a 30 fps file
# would often come after k / 30 s and frame k - 1 be shown. Still far below a frame of a 120 fps video.
TOLERANCE = 0.002


@dataclass(frozen=True)
class Sampling:
    """Which frames make a clip: `num_frames`, spread evenly over `span` frames at 30 a second, both ends included.

    `dataclasses.replace(RECOGNITION, num_frames=4)` takes 4 frames over the same time. `frames` is the order in which a
    model is given them: '' as they come, or as a control 'shuffled' ('shuffled@7' with that random seed), 'reversed' or
    'static' (the middle one alone).
    """

    num_frames: int
    span: int
    frames: str = ''

    def __post_init__(self) -> None:
        if self.num_frames < 1 or self.span < 1:
            raise ValueError(f'num_frames and span must be at least 1, got {self.num_frames} and {self.span}')
        check_order(self.frames)

    @property
    def positions(self) -> list[int]:
        """Positions on the 30 Hz grid, from the start of the window, floor(linspace(0, span - 1, num_frames))."""
        gaps = max(self.num_frames - 1, 1)
        return [k * (self.span - 1) // gaps for k in range(self.num_frames)]

    @property
    def seconds(self) -> float:
        """Length of the window."""
        return self.span / GRID_RATE


RECOGNITION = Sampling(num_frames=16, span=128)
COMPLETION = Sampling(num_frames=16, span=65)


def centered_starts(duration: float, sampling: Sampling, num_clips: int = 1) -> list[float]:
    """Starts of clips spread evenly over a video, as published: one is centered, several reach from end to end.

    Args:
        duration: Of the video, in seconds.
        sampling: The clips' sampling.
        num_clips: Number of clips.

    Returns:
        Seconds from the first frame. Several clips start at positions `k * floor(room / (num_clips - 1))` of the 30 Hz
        grid, one clip at `floor(room / 2)`. Room is how many frames longer than a clip the video is, at 30 a second.
    """
    room = max((duration + TOLERANCE) * GRID_RATE - sampling.span, 0)
    if num_clips == 1:
        return [math.floor(room / 2) / GRID_RATE]
    return [k * math.floor(room / (num_clips - 1)) / GRID_RATE for k in range(num_clips)]


def centred_starts(duration: float, sampling: Sampling, num_clips: int = 1) -> list[float]:
    """The former name of `centered_starts`."""
    warnings.warn('centred_starts is now centered_starts', DeprecationWarning, stacklevel=2)
    return centered_starts(duration, sampling, num_clips)


@dataclass(frozen=True)
class _EvenStarts(Sequence[float]):
    number: int
    stride: float
    first: float

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, k: int) -> float:  # pyright: ignore[reportIncompatibleMethodOverride]  # no slices are taken
        return self.first + range(self.number)[k] * self.stride


def even_starts(
    duration: float, stride: float, *, offset: float = 0.0, before: float = 0.0, with_end: bool = False
) -> Sequence[float]:
    """Starts of a time course, from the first frame to the end; each is computed when it is needed.

    Args:
        duration: Of the video, in seconds.
        stride: Seconds from one to the next.
        offset: The time of the first row, in seconds from the first frame.
        before: Seconds by which a window starts before the time of its row.
        with_end: Whether there is a row whose time is the end of the video.

    Raises:
        ValueError: There would be more than `MAX_CLIPS` (`checks`), or none.
    """
    number, most = (duration - offset) / stride, limit('VIDEOZOO_MAX_CLIPS', MAX_CLIPS)
    if number > most:
        raise ValueError(
            f'{duration:g} s of video with a stride of {stride:g} s are more than the {most:,} clips that are read of '
            f'one file (the environment variable VIDEOZOO_MAX_CLIPS raises this limit)'
        )
    if offset > duration or (offset == duration and not with_end):
        raise ValueError(f'offset={offset:g}: the video ends before, it lasts {duration:g} s')
    if with_end:  # headers round, often to a frame
        number = math.floor((duration + min(0.5 / GRID_RATE, 0.9 * before) - offset) / stride + 1e-9) + 1
    else:
        number = max(math.ceil(number - 1e-9), 1)
    return _EvenStarts(number, stride, offset - before)


def seed_of(seed: int, path: str | os.PathLike) -> int:
    """The random seed of a file's mask, crop or place in a sample: of its name alone, wherever it lies or is listed.

    Args:
        seed: Of the command.
        path: Its last part counts, with the ending; of a synthetic video the whole name.

    Returns:
        0 to 2**32 - 1.
    """
    name = str(path) if is_drawn(path) else os.path.basename(os.path.abspath(path))
    text = unicodedata.normalize('NFC', f'{seed} {name}')  # in which macOS and others differ
    return int.from_bytes(hashlib.sha256(text.encode('utf-8', 'surrogateescape')).digest()[:4], 'big')
