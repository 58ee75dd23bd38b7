"""Decoding only what is shown: frames that are not, and that no shown frame is predicted from, are not decoded.

A clip shows 16 of some 128 frames. Which ones is known from the times of the packets, before anything is decoded. Of
the others FFmpeg leaves out the "non-reference" ones (`skip_frame`), and of H.264 in packets with stated lengths it is
not given those between the last frame that is shown and an IDR picture, where decoding starts anew. This changes no
pixel of the rest. Wherever a file is not as it should be, `Odd` is raised, and the caller decodes all.
"""

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import dropwhile
from typing import Any

from .clock import Clock, TimedFrame
from .decoding import import_av, needs_others
from .sampling import TOLERANCE

# Whose non-reference frames are used by no other. Those of HEVC may be, by frames of a higher temporal layer; the
# decoders of VP9 and AV1 leave none out.
_CODECS = ('h264', 'mpeg4', 'mpeg2video', 'mpeg1video')
# Kinds of NAL units (H.264, table 7-1): slices of other pictures, slices of an IDR picture, what stands beside them and
# does not matter to other pictures (messages, delimiters, filling).
_SLICE, _IDR, _BESIDE = 1, 5, {6, 9, 12}
_MOST_HELD = 1000  # packets
_MOST_TIMES = 64


class Odd(Exception):
    """The packets do not tell reliably which frames are shown, or one of these did not decode."""


def may_skip(stream: Any) -> bool:
    """Whether frames of a stream can be left out: whether its codec tells those that no other needs."""
    return stream.codec_context.name in _CODECS


def be_strict(stream: Any) -> None:
    """Before anything is decoded: what is damaged is not concealed, but raises."""
    stream.codec_context.options.update(err_detect='explode')


def shown_frames(container: Any, stream: Any, wanted: Sequence[float], sought: bool = False) -> Iterator[TimedFrame]:
    """The frames, from here on, that are on the screen at some times, and a sign that more would follow.

    Where the file ends before the last of the times, its last frame comes at the end instead of the sign, which is
    (infinity, None).

    Args:
        container: Opened at some place.
        stream: Its video stream, which `may_skip` and is to `be_strict`.
        wanted: Presentation times in seconds, in ascending order.
        sought: As in `timed_frames`.

    Raises:
        Odd: Anything that leaves a doubt.
    """
    context, expected, clock = stream.codec_context, deque[float](), Clock(stream)
    packets = _Packets(container, stream, clock, wanted, sought)
    is_skipping = None
    try:
        for packet, is_shown in _needed(packets, context):
            if is_shown:
                insort(expected, clock.seconds(packet.pts))
            if is_skipping is not (not is_shown):
                context.skip_frame = 'DEFAULT' if is_shown else 'NONREF'
                is_skipping = not is_shown
            for frame in stream.decode(packet):
                yield from _if_expected(frame, clock, expected)
        for frame in stream.decode(packets.last):
            yield from _if_expected(frame, clock, expected)
    except import_av().FFmpegError as error:
        raise Odd from error
    if expected:
        raise Odd
    if not packets.at_end:
        yield math.inf, None


def _needed(packets: Iterable[tuple[Any, bool]], context: Any) -> Iterator[tuple[Any, bool]]:
    """Packets without those that come after the last frame shown before an IDR picture, or before the end."""
    extra = context.extradata or b''
    if context.name != 'h264' or len(extra) < 5 or extra[0] != 1:
        yield from packets  # with start codes, as in MPEG-TS
        return
    prefix, held = (extra[4] & 3) + 1, []
    for packet, is_shown in packets:
        kinds = _kinds(memoryview(packet), prefix)
        if _IDR in kinds and _SLICE not in kinds:
            held.clear()
        held.append((packet, is_shown))
        # Parameters in between may be those of later pictures.
        if is_shown or not kinds <= {_SLICE, _IDR} | _BESIDE or len(held) == _MOST_HELD:
            yield from held
            held.clear()


def _kinds(data: memoryview, prefix: int) -> set[int]:
    """The kinds of a packet's NAL units, each after its length in so many bytes; -1 if the lengths are wrong."""
    kinds, place = set(), 0
    while place + prefix < len(data):
        kinds.add(data[place + prefix] & 31)
        place += prefix + int.from_bytes(data[place : place + prefix], 'big')
    return kinds if place == len(data) else {-1}


def _if_expected(frame: Any, clock: Clock, expected: deque[float]) -> Iterator[TimedFrame]:
    # The two fields of an interlaced frame may come in packets of their own.
    if frame.pts is None or frame.is_corrupt or frame.interlaced_frame:
        raise Odd
    time = clock.seconds(frame.pts)
    if expected and time >= expected[0]:
        if time != expected.popleft():
            raise Odd
        yield time, frame


class _Packets:
    """The packets, each with whether its frame is shown, until nothing more is wanted.

    Attributes:
        last: The empty packet at the end of the file.
        at_end: Whether they went on to the end of the file; its last frame counts as shown then.
    """

    def __init__(self, container: Any, stream: Any, clock: Clock, wanted: Sequence[float], sought: bool) -> None:
        self.container, self.stream, self.clock = container, stream, clock
        self.until, self.sought = [time + TOLERANCE for time in wanted], sought
        self.last, self.at_end = None, False

    def __iter__(self) -> Iterator[tuple[Any, bool]]:
        read: deque[tuple[Any, float]] = deque()
        times: list[float] = []  # of the packets read so far that still matter, in ascending order
        before, seconds = -math.inf, self.clock.seconds
        packets = self.container.demux(self.stream)
        for packet in dropwhile(needs_others, packets) if self.sought else packets:
            if not packet.size:
                self.last = packet
                continue
            if packet.pts is None or packet.is_corrupt or (packet.dts is None and before > -math.inf):
                raise Odd
            time = seconds(packet.pts)
            # Matroska leaves the first decoding times open.
            decoded = -math.inf if packet.dts is None else seconds(packet.dts)
            k = bisect_left(times, time)
            if time < decoded or decoded <= before > -math.inf or times[k : k + 1] == [time]:
                raise Odd
            before = decoded
            read.append((packet, time))
            times.insert(k, time)
            # No later packet is shown before this one is decoded.
            while read and (k := bisect_right(times, read[0][1])) < len(times) and times[k] <= decoded:
                packet, time = read.popleft()
                yield packet, self._is_shown(time, times[k])
            if len(times) > _MOST_TIMES:
                del times[: bisect_left(times, min((time for _, time in read), default=decoded))]
            if decoded > self.until[-1] < min((time for _, time in read), default=math.inf):
                return
        self.at_end = True
        for packet, time in read:
            k = bisect_right(times, time)
            yield packet, k == len(times) or self._is_shown(time, times[k])

    def _is_shown(self, begin: float, end: float) -> bool:
        """Whether a frame that is on the screen from `begin` to `end` is so at one of the wanted times."""
        k = bisect_left(self.until, begin)
        return k < len(self.until) and self.until[k] < end
