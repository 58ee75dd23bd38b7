"""What windows of a file show, in as few passes over it as possible, and with one opening where its header serves."""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from .checks import VideoError
from .clock import IN_ORDER, Damage, TimedFrame
from .decoding import SLACK, end_of, has_index, in_words, opened, rewind, seek, step_of, timed_frames
from .extent import Extent, examine
from .sampling import GRID_RATE, TOLERANCE, Sampling
from .skipping import Odd, be_strict, may_skip, shown_frames

# How far before the window to seek, in seconds. Indexes hold decoding times, so with B-frames a seek may land a little
# late. What has landed too late is tried again from further back, at last from the beginning.
_SEEK_MARGINS = (0.25, 10.0, math.inf)
# Between windows further apart than this (seconds) seeking is cheaper than decoding on.
_SEEK_GAP = 8.0
_LONGEST_RUN = 60.0  # seconds from the first window of a pass to the last


def runs(starts: Iterator[float], sampling: Sampling) -> Iterator[list[float]]:
    """The windows in groups that are read in one pass each; none so long that `skip` would have much to read."""
    run: list[float] = []
    for start in starts:
        if run and (start > run[-1] + sampling.seconds + _SEEK_GAP or start > run[0] + _LONGEST_RUN):
            yield run
            run = []
        run.append(start)
    if run:
        yield run


class Shown(NamedTuple):
    """What a window shows.

    Attributes:
        frames: (time, frame) at each of its positions.
        behind: Number of positions behind the end of the last frame.
        damaged: Number of positions that show a damaged frame, or whose own did not decode.
    """

    frames: list[TimedFrame]
    behind: int
    damaged: int


class VideoFile:
    """A video file. What was opened for its extent shows its windows too, where nothing in the file is odd.

    Args:
        path: The file.
        num_threads: Threads of the decoder.

    Attributes:
        extent: From when to when it has pictures.
        aspect: Width of a pixel by its height.

    Raises:
        FileNotFoundError, VideoError, ImportError: As `read_clip`.
    """

    def __init__(self, path: Path, num_threads: int) -> None:
        self.path, self.num_threads = path, num_threads
        self._kept: tuple[Any, Any] | None = None  # the container and its stream, at any place
        self._open = ExitStack()
        with ExitStack() as stack:
            container, stream = stack.enter_context(opened(path, num_threads=1))
            self.aspect, self._may_skip = stream.sample_aspect_ratio, may_skip(stream)
            if not self._may_skip or not has_index(container, stream):
                self.extent, _ = examine(path, container, stream)
                return
            be_strict(stream)
            stream.codec_context.thread_count, damage = num_threads, Damage()
            with suppress(VideoError):
                self.extent, _ = examine(path, container, stream, damage)
                if not damage.is_any:
                    self._kept, self._open = (container, stream), stack.pop_all()
                    return
        with opened(path, num_threads=1) as (container, stream):
            self.extent, _ = examine(path, container, stream)

    def close(self) -> None:
        """Close what is open; where it is needed again it is opened again."""
        self._kept = None
        self._open.close()

    def show(self, starts: list[float], sampling: Sampling) -> Iterator[Shown]:
        """What each window shows.

        Args:
            starts: Of the windows of one pass (`runs`).
            sampling: Which frames of a window to take.
        """
        extent = self.extent
        wanted = [[extent.origin + max(start + k / GRID_RATE, 0) for k in sampling.positions] for start in starts]
        done = 0
        for margin in _SEEK_MARGINS:
            begin, first, damage = starts[done] - margin, done, Damage()
            sought = begin > 0
            strictly: Callable[..., Iterator[TimedFrame]] = partial(
                shown_frames, wanted=sorted(chain(*wanted[done:])), sought=sought
            )
            all_of: Callable[..., Iterator[TimedFrame]] = partial(
                timed_frames, timing=extent.timing, begin=extent.origin + begin, damage=damage, sought=sought
            )
            ways = [strictly, all_of] if self._may_skip and extent.timing == IN_ORDER else [all_of]
            for frames_of in ways:
                with self._opened(frames_of is strictly) as (container, stream):
                    if sought and not seek(container, stream, extent.origin + begin, extent.timing):
                        break
                    if not sought and self._kept and container is self._kept[0]:
                        rewind(container, stream)
                    windows = _select(
                        self.path, extent, step_of(stream), frames_of(container, stream), wanted[first:], damage
                    )
                    try:
                        for shown in islice(windows, done - first, None):
                            yield shown
                            done += 1
                        break
                    except Odd:
                        self.close()  # its decoder may have learned of what is damaged
            if done == len(wanted):
                return
        raise VideoError(f'{self.path}: no frame could be decoded')

    @contextmanager
    def _opened(self, strictly: bool) -> Iterator[tuple[Any, Any]]:
        if strictly and self._kept:
            with in_words(self.path):
                yield self._kept
            return
        with opened(self.path, self.num_threads) as (container, stream):
            if strictly:
                be_strict(stream)
            yield container, stream


def _select(
    path: Path,
    extent: Extent,
    step: float,
    frames: Iterator[TimedFrame],
    windows: list[list[float]],
    damage: Damage,
) -> Iterator[Shown]:
    """For each window the last (time, frame) not after each of its wanted times; windows come in ascending order.

    Yields nothing if the frames begin too late.

    Raises:
        VideoError: The frames end before a window starts, so that it would show nothing of its own.
    """

    def window(shown: list[TimedFrame], times: list[float], end: float = math.inf) -> Shown:
        behind = [time > end - TOLERANCE for time in times]
        return Shown(
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
