"""Times that somebody else has set, at which the rows of a video's time course stand."""

from collections.abc import Iterable, Sequence
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

    def inside(self, duration: float, *, before: float, with_end: bool, clock_offset: float) -> list[int]:
        """Which of them are times of the video, by their numbers.

        Args:
            duration: Of the video, in seconds.
            before: Seconds by which a window starts before the time of its row.
            with_end: Whether a row may stand at the end of the video.
            clock_offset: Time of the first frame on the clock of the file.
        """
        zero, slack = self.zero(clock_offset), min(0.5 / GRID_RATE, 0.9 * before)  # headers round, often to a frame

        def is_inside(time: float) -> bool:
            return time >= -1e-9 and (time <= duration + slack if with_end else time < duration)

        return [k for k, time in enumerate(self.seconds) if is_inside(time - zero)]

    def outside(self, inside: Sequence[int], duration: float, clock_offset: float) -> str:
        """Those that are no times of the video, in words, with the place where the first one is told; '' if none.

        Args:
            inside: What `inside` gives.
            duration: As there.
            clock_offset: As there.
        """
        wrong = sorted(set(range(len(self.seconds))).difference(inside))
        if not wrong:
            return ''
        zero, more = self.zero(clock_offset), f', and {len(wrong) - 1} more' if len(wrong) > 1 else ''
        lasts = f'lasts {duration:g} s' if not zero else f'goes from {zero:g} to {zero + duration:g} s'
        return f'{self.where(wrong[0])}: {self.seconds[wrong[0]]:g} s is outside of the video, which {lasts}{more}'
