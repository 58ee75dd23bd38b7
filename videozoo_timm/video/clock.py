"""The times of frames: in the order of presentation, never going back, counted on where recordings are joined."""

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice, pairwise
from typing import Any, NamedTuple

TimedFrame = tuple[float, Any]  # presentation time in seconds, PyAV's frame

# Decoding times never go back in one recording, and streams that are broadcast have no gaps: a clock that goes back by
# more, or ahead by more, has been started again. The limits of FFmpeg's own programs; other formats' times are rougher.
_BACK, _AHEAD = 0.1, 10.0  # seconds
_BACK_ELSEWHERE = 1.0
_BROADCAST = ('mpegts', 'mpeg')
_ENOUGH = 32  # packets from which it is seen whether a stream's times are in the order of decoding
_REORDERED = {'h264': 16, 'hevc': 16}  # how many frames may be shown before one that was decoded first
_REORDERED_ELSEWHERE = 8  # of MPEG-1, 2 and 4, which set no limit; encoders take 2 to 4


class Clock:
    """What the ticks of a stream or a packet are in seconds; PyAV makes a fraction whenever it is asked for one.

    Args:
        source: PyAV's stream or packet.
    """

    def __init__(self, source: Any) -> None:
        base = source.time_base
        self.numerator, self.denominator = base.numerator, base.denominator

    def seconds(self, stamp: int) -> float:
        """As `float(stamp * time_base)`, to the bit."""
        return stamp * self.numerator / self.denominator


class EntryPoint(NamedTuple):
    """A key frame's packet: its number in the file, its time in seconds, and what is added to its clock, in ticks."""

    number: int
    time: float
    shift: int


class Timing(NamedTuple):
    """How presentation times come from those in a file.

    Attributes:
        window: Frames among which times are brought into order; 0 where they are in order.
        marks: Where decoding may begin in a file whose own clock does not lead there; in other files none.
    """

    window: int = 0
    marks: tuple[EntryPoint, ...] = ()

    def mark_before(self, time: float) -> EntryPoint:
        """The last mark not after `time`."""
        return next((mark for mark in reversed(self.marks) if mark.time <= time), EntryPoint(0, time, 0))


IN_ORDER = Timing()


def unrolled(container: Any, packets: Iterable[Any], step: float, shift: int = 0) -> Iterator[tuple[Any, int]]:
    """Packets of one stream whose clock goes on where it starts again, each with what was added to it, in ticks.

    Args:
        container: PyAV's container.
        packets: Of one stream; None stands for the end.
        step: Seconds from one frame to the next.
        shift: What is added at first, in ticks.
    """
    is_broadcast = container.format.name in _BROADCAST
    back, ahead = (_BACK, _AHEAD) if is_broadcast else (_BACK_ELSEWHERE, float('inf'))
    before, end = None, 0  # decoding time of the last packet, and end of the pictures so far, on their own clock
    for packet in packets:
        if packet is not None and packet.dts is not None:
            time, first = packet.dts, packet.dts if packet.pts is None else packet.pts
            if before is not None and not -back <= (time - before) * packet.time_base <= ahead:
                shift, end = shift + end - first, first
            before = time
            end = max(end, first + (packet.duration or round(step / packet.time_base)))
            packet.dts += shift
        if packet is not None and packet.pts is not None:
            packet.pts += shift
        yield packet, shift


def from_mark(container: Any, packets: Iterable[Any], step: float, mark: EntryPoint) -> Iterator[Any]:
    """The packets from a mark on."""
    for packet, _ in unrolled(container, islice(packets, mark.number, None), step, mark.shift):
        yield packet


def reordering_of(container: Any, stream: Any, packets: Iterator[Any], stamps: list[int]) -> int:
    """How many frames' times have to be brought into order.

    Containers that hold no presentation times (AVI), and what was copied from them, give frames that the decoder
    reorders the times of the packets that these came in. They ascend in the order of decoding, which in a sound stream
    with such frames they do not.

    Args:
        container: PyAV's container.
        stream: Its video stream.
        packets: The stream's next packets.
        stamps: The presentation times of its first packets, in ticks; those of the next ones are appended.
    """
    if not stream.codec_context.has_b_frames:
        return 0
    packet: Any = None
    while not (is_sound := any(later <= earlier for earlier, later in pairwise(stamps))):
        if len(stamps) >= _ENOUGH or (packet := next(packets, None)) is None:
            break
        stamps += [] if packet.pts is None else [packet.pts]
    if is_sound or len(stamps) < 3:
        return 0
    return _REORDERED.get(stream.codec_context.name, _REORDERED_ELSEWHERE)


def ordered(frames: Iterator[TimedFrame], window: int) -> Iterator[TimedFrame]:
    """Frames in the order of presentation, as decoders give them, with their times in order too."""
    times: list[float] = []
    held: deque[Any] = deque()
    for time, frame in frames:
        heapq.heappush(times, time)
        held.append(frame)
        if len(held) > window:
            yield heapq.heappop(times), held.popleft()
    while held:
        yield heapq.heappop(times), held.popleft()


def ascending(frames: Iterator[TimedFrame], step: float) -> Iterator[TimedFrame]:
    """Frames whose times never go back: one that would comes a step after the one before."""
    latest = -float('inf')
    for time, frame in frames:
        latest = time if time > latest else latest + step
        yield latest, frame


@dataclass
class Damage:
    """Where pictures are missing or damaged.

    Attributes:
        times: When frames should have been shown that did not decode, when damaged ones are, and when the first is that
            may be predicted from one of these, in seconds.
        keys: When frames are shown from which on nothing is predicted from earlier ones, in seconds.
    """

    times: list[float] = field(default_factory=list)
    keys: list[float] = field(default_factory=list)
    _order: list[int] = field(default_factory=list)  # times of the packets as they were sent
    _sent: list[int] = field(default_factory=list)  # those of which no frame has come, as a heap
    _failed: int = 0

    @property
    def is_any(self) -> bool:
        """Whether anything did not decode, or is damaged."""
        return self._failed > 0 or bool(self.times)

    def send(self, packet: Any) -> None:
        """A packet goes to the decoder."""
        if packet is not None and packet.pts is not None:
            heapq.heappush(self._sent, packet.pts)
            self._order.append(packet.pts)

    def fail(self) -> None:
        """A packet did not decode; with several threads it is one that was sent before."""
        self._failed += 1

    def show(self, frame: Any) -> None:
        """A frame comes out of the decoder; those of packets that were to be shown before it do not come any more."""
        while self._sent and frame.pts is not None and self._sent[0] <= frame.pts:
            if (stamp := heapq.heappop(self._sent)) < frame.pts and self._failed:  # others are not to be shown
                self._failed -= 1
                self._note(stamp, frame.time_base)
        if frame.is_corrupt and frame.pts is not None:
            self._note(frame.pts, frame.time_base)
        if frame.key_frame and frame.time is not None:
            self.keys.append(frame.time)

    def _note(self, stamp: int, time_base: Fraction) -> None:
        # Frames that are predicted from this one may be shown before it.
        later = self._order[self._order.index(stamp) :] if stamp in self._order else [stamp]
        self.times += [float(one * time_base) for one in {stamp, min(later)}]

    def between(self, shown: float, wanted: float) -> bool:
        """Whether another frame than that which is shown should be at the time that is wanted, or it may be damaged.

        What is damaged or missing damages all that is predicted from it, up to the next key frame.
        """
        since = max((time for time in self.keys if time <= shown), default=-float('inf')) if self.times else 0
        return any(since <= time <= wanted for time in self.times)
