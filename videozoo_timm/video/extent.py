"""From when to when a video file has pictures."""

import math
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from .clock import IN_ORDER, Clock, Damage, EntryPoint, Timing, reordering_of, unrolled
from .decoding import SLACK, first_frame, import_av, opened, packets_of, step_of, timed_frames

# The formats whose header states a length. Of others FFmpeg guesses one from a bit rate or from the times at both ends.
_STATED = ('mov', 'matroska', 'avi', 'flv', 'asf', 'mxf')
_STATED_OF_PICTURES = ('mov', 'avi', 'mxf')  # in others the length of the longest stream
# Fewer bytes a second than any video has. A length that would mean less is counted instead, at little cost: the file is
# small for it.
_LEAST_BYTES = 20
_RESTART = 1.0  # seconds by which a clock goes back only where it starts again
_TAIL = 10.0  # seconds before the end that are looked at first, as another stream's last packet may begin there
_TAIL_OF_PICTURES = 1.0  # where other streams do not matter


@dataclass(frozen=True)
class Extent:
    """From when to when a file has pictures.

    Attributes:
        origin: Presentation time of the first frame that decodes, in seconds on the file's own clock.
        duration: Seconds from there to the end of the last picture in the file.
        lost: Seconds at the end that the header states and the file lacks.
        timing: How frames come by their times.
    """

    origin: float
    duration: float
    lost: float = 0.0
    timing: Timing = IN_ORDER


def examine(path: Path, container: Any, stream: Any, damage: Damage | None = None) -> tuple[Extent, Any]:
    """The extent of a file, and its first frame; the position in the file is lost.

    Args:
        path: The file.
        container: PyAV's container.
        stream: Its video stream.
        damage: If given, the first packet alone is decoded, and it is noted here if that fails, or if frames of later
            packets are shown before its own.

    Raises:
        VideoError: No frame can be decoded.
    """
    stamps: list[int] = []
    packets = packets_of(container, stream)
    noted = _noted(packets, stamps)
    if damage is not None:
        noted = chain(islice(noted, 1), [None])  # None has the decoder give what it holds
    origin, frame = first_frame(path, container, stream, noted, damage)
    window = reordering_of(container, stream, packets, stamps)
    if damage is not None and stamps[:1] != [min(stamps, default=None)]:
        damage.fail()
    if window:
        with opened(path, num_threads=1) as again:
            origin = next(timed_frames(*again, timing=Timing(window)))[0]
    stated = _stated(path, container, stream, origin)
    if stated is None:
        end, marks = _counted(path, origin)
        extent = Extent(origin, end - origin, 0.0, Timing(0, marks))
    else:
        extent = _measured(path, container, stream, origin, stated)
    return replace(extent, timing=extent.timing._replace(window=window)), frame


def _format_of(container: Any) -> str:
    return container.format.name.split(',')[0]


def _noted(packets: Any, stamps: list[int]) -> Any:
    for packet in packets:
        if packet is not None and packet.pts is not None:
            stamps.append(packet.pts)
        yield packet


def _stated(path: Path, container: Any, stream: Any, origin: float) -> float | None:
    """How long the file claims to be from the first frame on, in seconds; None if it states nothing plausible."""
    if _format_of(container) not in _STATED:
        return None
    duration = float(stream.duration * stream.time_base) if stream.duration else (container.duration or 0) / 1e6
    if _format_of(container) not in _STATED_OF_PICTURES:
        duration -= origin  # it is the end of the file, not its length
    return duration if 0 < duration * _LEAST_BYTES < path.stat().st_size else None


def _measured(path: Path, container: Any, stream: Any, origin: float, stated: float) -> Extent:
    """The extent of a file whose header states a length: where its pictures end, and whether some are missing."""
    ends, is_joined = _ends(path, container, stream, origin + stated)
    last = ends.pop(stream.index, -math.inf)
    others = max(ends.values(), default=-math.inf)
    if is_joined or last == -math.inf:
        last, marks = _counted(path, origin)
        if marks:
            return Extent(origin, last - origin, 0.0, Timing(0, marks))
    duration = last - origin
    if abs(duration - stated) <= 1.5 * step_of(stream):
        return Extent(origin, stated)  # headers are more exact than the last packet's length
    if stated - SLACK <= duration < stated and len(container.streams) == 1:
        return Extent(origin, stated)
    of_pictures = _format_of(container) in _STATED_OF_PICTURES
    is_cut = duration < stated - SLACK and (of_pictures or others < origin + stated - SLACK)
    return Extent(origin, duration, stated - duration if is_cut else 0.0)


def _ends(path: Path, container: Any, stream: Any, end: float) -> tuple[dict[int, float], bool]:
    """When each stream ends that has packets at the end of the file, by its index; whether the clock starts again."""
    try:
        tail = _TAIL_OF_PICTURES if _format_of(container) in _STATED_OF_PICTURES else _TAIL
        container.seek(math.floor(max(end - tail, 0) * 1e6))
        ends = _ends_from_here(container, stream)
    except import_av().FFmpegError:
        ends = {}, False
    if ends[0]:
        return ends
    with opened(path, num_threads=1) as (container, stream):  # no index to seek by
        return _ends_from_here(container, stream)


def _ends_from_here(container: Any, stream: Any) -> tuple[dict[int, float], bool]:
    ends: dict[int, float] = {}
    clocks: dict[int, Clock] = {}
    latest, is_joined = -math.inf, False
    for packet in packets_of(container):
        if packet is None or not packet.size or packet.pts is None or packet.is_discard:  # of an edit list
            continue
        index, duration = packet.stream_index, packet.duration or 0
        if index not in clocks:
            clocks[index] = Clock(packet)
        last = clocks[index].seconds(packet.pts + duration)
        if index == stream.index:
            last += 0 if duration else step_of(stream)
            is_joined, latest = is_joined or last < latest - _RESTART, max(last, latest)
        ends[index] = max(last, ends.get(index, last))
    return ends, is_joined


def _counted(path: Path, origin: float) -> tuple[float, tuple[EntryPoint, ...]]:
    """When the last picture ends by all packets, and where to begin decoding if no seek leads there."""
    with opened(path, num_threads=1) as (container, stream):
        step, end, number = step_of(stream), -math.inf, 0
        unsound = container.format.name == 'mpeg'  # few packets have times there; after a seek others are guessed wrong
        marks: list[EntryPoint] = []
        packets = unrolled(container, packets_of(container, stream), step)
        for place, (packet, shift) in enumerate(packets):
            if packet is None or not packet.size or packet.is_discard:
                continue
            number, unsound = number + 1, unsound or shift != 0
            if packet.pts is not None:
                time = float(packet.pts * stream.time_base)
                end = max(end, time + (float((packet.duration or 0) * stream.time_base) or step))
                if packet.is_keyframe:
                    marks.append(EntryPoint(place, time, shift))
    if end == -math.inf:
        end = origin + number * step
    return end, tuple(marks) if unsound else ()
