"""Times that somebody else has set, at which the rows of a video's time course stand."""

from collections.abc import Iterable
from dataclasses import dataclass

from .sampling import GRID_RATE


@dataclass(frozen=True)
class Times:
    """When the rows of a video's time course stand, in ascending order.

    Attributes:
        seconds: From the video's first frame, or on the clock of its file.
        places: Where each is told in `source`: the line of a file.
        source: What tells them, for errors.
        place: What a place is called, for errors; '' of a single time, of which `source` says all.
        on_file_clock: Whether they are on the clock of the file.
    """

    seconds: tuple[float, ...]
    places: tuple[int, ...]
    source: str
    place: str = 'line'
    on_file_clock: bool = False

    @classmethod
    def of(cls, told: Iterable[tuple[float, int]], source: str, place: str) -> 'Times':
        """From pairs of seconds and place, in any order.

        Raises:
            ValueError: A time is told twice.
        """
        told = sorted(told)
        times = cls(tuple(time for time, _ in told), tuple(number for _, number in told), source, place)
        for k in range(1, len(told)):
            if told[k][0] == told[k - 1][0]:
                raise ValueError(f'{times.where(k)}: {told[k][0]:g} s stands in {times.place} {told[k - 1][1]} already')
        return times

    def where(self, k: int) -> str:
        """Where the k-th time is told, for errors."""
        return f'{self.source}, {self.place} {self.places[k]}' if self.place else self.source

    def zero(self, clock_offset: float) -> float:
        """The time of the first frame on the clock of these times."""
        return clock_offset if self.on_file_clock else 0.0

    def starts(self, duration: float, *, before: float, with_end: bool, clock_offset: float) -> list[float]:
        """Starts of the windows, in seconds from the first frame.

        Args:
            duration: Of the video, in seconds.
            before: Seconds by which a window starts before the time of its row.
            with_end: Whether a row may stand at the end of the video.
            clock_offset: Time of the first frame on the clock of the file.

        Raises:
            ValueError: A time outside of the video; it says where that is told.
        """
        zero = self.zero(clock_offset)
        slack = min(0.5 / GRID_RATE, 0.9 * before)  # headers round, often to a frame
        for k in (0, len(self.seconds) - 1):
            time = self.seconds[k] - zero
            if time < -1e-9 or not (time <= duration + slack if with_end else time < duration):
                lasts = f'lasts {duration:g} s' if not zero else f'goes from {zero:g} to {zero + duration:g} s'
                raise ValueError(f'{self.where(k)}: {self.seconds[k]:g} s is outside of the video, which {lasts}')
        return [time - zero - before for time in self.seconds]
