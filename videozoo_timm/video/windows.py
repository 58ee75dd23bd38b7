"""Windows that slide over a video: frames a fixed time apart, every window some frames after the one before."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from .sampling import GRID_RATE, TOLERANCE, Sampling, even_starts
from .times import Times
from .views import Views

__all__ = ['Steps', 'Windows', 'sliding']


@dataclass(frozen=True)
class Steps(Sampling):
    """Which frames make a clip: `num_frames`, each `seconds_between` after the one before.

    The fields of `Sampling` are as there, but `span` says nothing.

    Attributes:
        seconds_between: From one frame to the next.
    """

    seconds_between: float = 1 / GRID_RATE

    @property
    def positions(self) -> list[float]:  # pyright: ignore[reportIncompatibleMethodOverride]  # between those of the grid
        """Positions on the 30 Hz grid, from the start of the window, fractions too."""
        return [k * self.seconds_between * GRID_RATE for k in range(self.num_frames)]

    @property
    def seconds(self) -> float:
        """Length of the window; its last frame is shown as long as the others."""
        return self.num_frames * self.seconds_between


@dataclass(frozen=True)
class Windows(Views):
    """The windows of `Steps` that fit into a video, from `offset` on, `stride` seconds apart.

    A video's frames are counted from `offset`, `seconds_between` apart. As published (arXiv 2502.11831), where 100
    frames with a step of 2 give 17 windows, one that would end with the very last of them is left out, unless it is the
    only one.
    """

    @property
    def step(self) -> float:
        """Seconds from one frame of a window to the next."""
        if not isinstance(self.sampling, Steps):
            raise TypeError(f'sampling={self.sampling!r}: windows have Steps')
        return self.sampling.seconds_between

    def starts(self, duration: float, times: Times | None = None, clock_offset: float = 0.0) -> Sequence[float]:
        """Starts of the windows, in seconds from the first frame; nobody else sets their times.

        Raises:
            ValueError: The video is shorter than one window.
        """
        step, length = self.step, self.sampling.num_frames
        number = math.ceil((duration - self.offset - TOLERANCE) / step)  # of its frames
        if number < length:
            behind = f' from {self.offset:g} s on' if self.offset else ''
            raise ValueError(
                f'lasts {max(duration - self.offset, 0):.2f} s{behind}, which is shorter than a window of {length} '
                f'frames {step:.3g} s apart ({self.sampling.seconds:.2f} s)'
            )
        room = max(number - length, 1) * step  # in which windows start
        return even_starts(self.offset + room - step / 2, self.stride or step, offset=self.offset)


def sliding(views: Views, step: float, stride: int, offset: float = 0.0, frames: str = '') -> Windows:
    """The windows that slide over a video.

    Args:
        views: Size and preprocessing, and the number of frames.
        step: Seconds from one frame to the next.
        stride: Frames from the start of one window to that of the next.
        offset: Start of the first window, in seconds from the first frame.
        frames: Their order, as in `Sampling`.

    Raises:
        ValueError: `step` or `stride` is not above 0, or as `Views` and `Sampling`.
    """
    if not 0 < step < math.inf:
        raise ValueError(f'step={step}: must be more than 0 seconds')
    if stride < 1:
        raise ValueError(f'stride={stride}: must be at least 1 frame')
    number = views.sampling.num_frames
    values = {field.name: getattr(views, field.name) for field in fields(Views)}
    sampling = Steps(number, max(1, round(number * step * GRID_RATE)), frames, step)
    return Windows(**dict(values, sampling=sampling, stride=stride * step, align='start', offset=offset))
