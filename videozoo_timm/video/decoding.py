"""Decoding video files by PyAV: opening, frames with their times, frames after a seek."""

import errno
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .checks import MAX_FRAME_PIXELS, VideoError, check_file, check_size, limit
from .sampling import GRID_RATE
from .streams import decoder_of, main_stream, no_pictures

# The demuxers of `VIDEO_EXTENSIONS` and of bare streams. None of them opens what a file names, as playlists (HLS, DASH,
# SDP), lists of files and image sequences do.
_FORMATS = (
    'mov',
    'matroska',
    'webm',
    'avi',
    'flv',
    'asf',
    'ogg',
    'mpeg',
    'mpegts',
    'mpegvideo',
    'h264',
    'hevc',
    'm4v',
    'ivf',
    'obu',
    'mjpeg',
    'yuv4mpegpipe',
    'gif',
    'nut',
    'dv',
    'mxf',
)
_BARE = ('mpegvideo', 'h264', 'hevc', 'm4v', 'obu', 'mjpeg')  # whose length FFmpeg guesses from a bit rate, if at all
# Fewer bytes a second than any video has. A length that would mean less is counted instead, at little cost: the file is
# small for it.
_LEAST_BYTES = 20
TimedFrame = tuple[float, Any]  # presentation time in seconds, PyAV's frame
SLACK = 0.5  # seconds by which a stated length may go beyond the pictures: headers round, and sound often lasts longer


def import_av() -> Any:
    """PyAV, or an ImportError that says how to get it."""
    try:
        import av
        import av.logging
    except ImportError as error:
        raise ImportError("videos need PyAV: pip install 'videozoo-timm[video]'") from error
    if av.logging.get_level() is not None:
        # torchvision below 0.22 sets a level. PyAV then logs from the decoder's threads under Python's lock, which
        # hangs for ever when a decoder is freed meanwhile.
        av.logging.set_level(None)
    return av


@contextmanager
def opened(path: str | os.PathLike, num_threads: int) -> Iterator[tuple[Any, Any]]:
    """PyAV's container and its main video stream; errors raised within become a VideoError."""
    av = import_av()
    check_file(path)
    max_pixels = str(limit('VIDEOZOO_MAX_PIXELS', MAX_FRAME_PIXELS))
    # Of the container alone: options of its streams crash PyAV 14 where streams are found late (FLV, MPEG).
    only = dict(format_whitelist=','.join(_FORMATS), protocol_whitelist='file')
    try:
        # An absolute path, as FFmpeg takes 'a:b.mp4' for an address of the protocol 'a'.
        with av.open(os.path.abspath(path), metadata_errors='replace', container_options=only) as container:
            stream = main_stream(container)
            if stream is None:
                raise VideoError(f'{path}: holds no video stream ({no_pictures(container)})')
            if stream.codec_context is None:
                raise VideoError(f'{path}: FFmpeg has no decoder for its video stream; convert it to H.264')
            if stream.width and stream.height:  # or the first frame tells
                check_size(path, stream.width, stream.height, MAX_FRAME_PIXELS)
            stream.thread_type = 'AUTO'
            stream.codec_context.thread_count = num_threads
            stream.codec_context.options.update(max_pixels=max_pixels)  # frames may grow on the way
            yield container, stream
    except (VideoError, ImportError, MemoryError):
        raise
    except av.FFmpegError as error:
        raise VideoError(f'{path}: {_reason(path, av, error)}') from error
    except Exception as error:  # numbers out of the header that nothing can be made of
        raise VideoError(f'{path}: cannot be read as a video ({error or type(error).__name__})') from error


def _reason(path: str | os.PathLike, av: Any, error: Any) -> str:
    if error.errno == errno.EINVAL:
        return 'not a video (an unsupported format, or invalid settings)'
    if not isinstance(error, av.InvalidDataError):
        return f'FFmpeg cannot read it ({error.strerror})'
    with open(path, 'rb') as file:
        head = file.read(8)
    if not head:
        return 'the file is empty'
    if head[4:] == b'ftyp':
        return 'truncated: an MP4 or QuickTime file without its index (the moov box); copy or download it again'
    return 'not a video (no format that FFmpeg knows)'


def timed_frames(container: Any, stream: Any, sought: bool = False) -> Iterator[TimedFrame]:
    """Every frame that decodes from here on; `sought` says that a seek led here."""
    step = step_of(stream)
    # Raw streams have no times and are counted, which after a seek cannot be: such a frame is one that comes too late.
    clock = math.inf if sought else 0.0
    for frame in _frames(container, stream):
        time = clock if frame.time is None else frame.time
        clock = time + step
        yield time, frame


def _frames(container: Any, stream: Any) -> Iterator[Any]:
    av, decoder = import_av(), decoder_of(stream)
    for packet in _packets(container, stream):
        try:
            yield from decoder.decode(packet)
        except av.FFmpegError:
            continue


def _packets(container: Any, *streams: Any) -> Iterator[Any]:
    av = import_av()
    try:
        yield from container.demux(*streams)
    except av.FFmpegError:
        yield None  # the rest of the file is lost, the frames that the decoder still holds are not


def seek(container: Any, stream: Any, time: float) -> bool:
    """Go to the last place before `time` where decoding can begin; false where the file cannot be sought in."""
    try:
        container.seek(math.floor(time / stream.time_base), stream=stream)
    except import_av().FFmpegError:  # no index, as in raw streams
        return False
    return True


def first_frame(path: Path, container: Any, stream: Any) -> TimedFrame:
    """The first frame that decodes.

    Raises:
        VideoError: None does.
    """
    first = next(timed_frames(container, stream), None)
    if first is None:
        hint = '' if stream.width else ' (or they are larger than the environment variable VIDEOZOO_MAX_PIXELS allows)'
        raise VideoError(f'{path}: no frame could be decoded{hint}')
    return first


def duration_of(path: Path, container: Any, stream: Any, origin: float) -> float:
    """Seconds from the first frame, which comes at `origin`, to the end of the last; the position in the file is lost.

    The header is believed where it is plausible. In a truncated file it gives the length of the whole.
    """
    if container.format.name in _BARE:
        return _counted(path, origin)
    if stream.duration:
        duration = float(stream.duration * stream.time_base)
    else:
        duration = (container.duration or 0) / 1e6 - origin  # Matroska: end of the file, not length
    if not 0 < duration * _LEAST_BYTES < path.stat().st_size:
        return _counted(path, origin)
    # Where a stream has no length of its own, the file's is given for it.
    if container.format.name[:3] not in ('mov', 'avi') and _ends_before(path, container, stream, origin + duration):
        return _counted(path, origin)
    return duration


def _counted(path: Path, origin: float) -> float:
    with opened(path, num_threads=1) as (container, stream):
        step, end, number = step_of(stream), -math.inf, 0
        for packet in _packets(container, stream):
            if packet is not None and packet.size:
                number += 1
                if packet.pts is not None:
                    length = float((packet.duration or 0) * stream.time_base) or step
                    end = max(end, float(packet.pts * stream.time_base) + length)
    return number * step if end == -math.inf else end - origin


def _ends_before(path: Path, container: Any, stream: Any, end: float) -> bool:
    """Whether the pictures end before a file that has other streams too, and is whole."""
    if len(container.streams) == 1 or not container.duration or end < container.duration / 1e6 - SLACK:
        return False
    try:
        container.seek(math.floor(max(end - 10, 0) * 1e6))
        ends = _ends(container)
    except import_av().FFmpegError:
        ends = {}
    if not ends:  # no index to seek by
        with opened(path, num_threads=1) as (container, stream):
            ends = _ends(container)
    pictures = ends.pop(stream.index, -math.inf)
    return pictures < end - SLACK < max(ends.values(), default=-math.inf)


def _ends(container: Any) -> dict[int, float]:
    """When each stream ends, by its index."""
    ends: dict[int, float] = {}
    for packet in _packets(container):
        if packet is not None and packet.size and packet.pts is not None:
            last = float((packet.pts + (packet.duration or 0)) * packet.time_base)
            ends[packet.stream_index] = max(last, ends.get(packet.stream_index, last))
    return ends


def step_of(stream: Any) -> float:
    """Seconds from one frame to the next, according to the header."""
    return float(1 / (stream.guessed_rate or GRID_RATE))


def end_of(time: float, frame: Any, step: float) -> float:
    """When a frame that is shown at `time` gives way to the next: as its packet says, or else a step later."""
    length = getattr(frame, 'duration', None)  # PyAV 14 does not tell
    return time + float(length * frame.time_base) if length and length > 0 and frame.time_base else time + step
