"""Decoding video files by PyAV: opening, frames with their times, frames after a seek."""

import errno
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import dropwhile
from pathlib import Path
from typing import Any

from .checks import MAX_FRAME_PIXELS, VideoError, check_file, check_size, limit
from .clock import IN_ORDER, Damage, TimedFrame, Timing, ascending, from_mark, ordered
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
    with (
        in_words(path),
        # An absolute path, as FFmpeg takes 'a:b.mp4' for an address of the protocol 'a'.
        av.open(os.path.abspath(path), metadata_errors='replace', container_options=only) as container,
    ):
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


@contextmanager
def in_words(path: str | os.PathLike) -> Iterator[None]:
    """Errors raised within become a VideoError."""
    av = import_av()
    try:
        yield
    except (VideoError, ImportError, MemoryError):
        raise
    except av.FFmpegError as error:
        raise VideoError(f'{path}: {_reason(path, av, error)}') from error
    except Exception as error:  # numbers out of the header that nothing can be made of
        raise VideoError(f'{path}: cannot be read as a video ({error or type(error).__name__})') from error


def _reason(path: str | os.PathLike, av: Any, error: Any) -> str:
    if error.errno == errno.EINVAL:
        return _sound_of(path) or 'not a video (an unsupported format, or invalid settings)'
    if not isinstance(error, av.InvalidDataError):
        return f'FFmpeg cannot read it ({error.strerror})'
    with open(path, 'rb') as file:
        head = file.read(8)
    if not head:
        return 'the file is empty'
    if head[4:] == b'ftyp':
        return 'truncated: an MP4 or QuickTime file without its index (the moov box); copy or download it again'
    return 'not a video (no format that FFmpeg knows)'


def _sound_of(path: str | os.PathLike) -> str | None:
    """What a file of sound is, in words; its format is not opened."""
    with open(path, 'rb') as file:
        head = file.read(1 << 16)
    kinds = {b'ID3': 'MP3', b'\xff\xfb': 'MP3', b'fLaC': 'FLAC'}
    kind = next((kind for mark, kind in kinds.items() if head.startswith(mark)), None)
    if head[:4] == b'RIFF' and head[8:12] == b'WAVE':
        kind = 'WAV'
    cover = ', beside a cover picture' if kind and (b'APIC' in head or b'image/' in head) else ''
    return f'holds no video stream ({kind}: audio only{cover})' if kind else None


def timed_frames(
    container: Any,
    stream: Any,
    sought: bool = False,
    timing: Timing = IN_ORDER,
    begin: float = -math.inf,
    packets: Iterable[Any] | None = None,
    damage: Damage | None = None,
) -> Iterator[TimedFrame]:
    """Every frame that decodes from here on, with ascending times.

    Args:
        container: PyAV's container.
        stream: Its video stream.
        sought: A seek led here.
        timing: How presentation times come from those in the file.
        begin: Where `seek` was asked to go.
        packets: The packets to decode; if None those of the container.
        damage: Notes what does not decode.
    """
    step = step_of(stream)
    if packets is None and timing.marks:
        mark = timing.mark_before(begin if sought else -math.inf)
        packets = from_mark(container, packets_of(container, stream), step, mark)
    elif packets is None and sought:
        packets = dropwhile(needs_others, packets_of(container, stream))
    # Raw streams have no times and are counted, which after a seek cannot be: such a frame is one that comes too late.
    frames = _counting(_frames(container, stream, packets, damage), step, math.inf if sought else 0.0)
    return ascending(ordered(frames, timing.window) if timing.window else frames, step)


def _counting(frames: Iterator[Any], step: float, clock: float) -> Iterator[TimedFrame]:
    for frame in frames:
        time = clock if frame.time is None else frame.time
        clock = time + step
        yield time, frame


def _frames(
    container: Any,
    stream: Any,
    packets: Iterable[Any] | None = None,
    damage: Damage | None = None,
) -> Iterator[Any]:
    av, decoder = import_av(), decoder_of(stream)
    damage = Damage() if damage is None else damage
    for packet in packets_of(container, stream) if packets is None else packets:
        if packet is not None and not packet.size and packet.dts is not None:
            continue  # the frame before is shown again; the decoder would take it for the end
        damage.send(packet)
        try:
            for frame in decoder.decode(packet):
                # Those that the decoder still holds when reading fails have none.
                frame.time_base = frame.time_base or stream.time_base
                damage.show(frame)
                yield frame
        except av.FFmpegError:
            damage.fail()


def packets_of(container: Any, *streams: Any) -> Iterator[Any]:
    """The packets from here on; None instead of the last one if the rest of the file cannot be read."""
    av = import_av()
    try:
        yield from container.demux(*streams)
    except av.FFmpegError:
        yield None  # the frames that the decoder still holds are not lost


def needs_others(packet: Any) -> bool:
    """Whether decoding cannot begin with a packet, where seeking in some files leads; decoders may not notice."""
    return packet is not None and not packet.is_keyframe


def seek(container: Any, stream: Any, time: float, timing: Timing = IN_ORDER) -> bool:
    """Go to the last place before `time` where decoding can begin; false where the file cannot be sought in."""
    if timing.marks:  # `timed_frames` goes there by them
        return True
    try:
        container.seek(math.floor(time / stream.time_base), stream=stream)
    except import_av().FFmpegError:  # no index, as in raw streams
        return False
    return True


def has_index(container: Any, stream: Any) -> bool:
    """Whether a file tells all of its packets beforehand, so that seeking does not depend on what was read before."""
    return container.format.name.startswith('mov') and stream.frames > 0  # none where they come in fragments


def rewind(container: Any, stream: Any) -> None:
    """Go back to the first packet of a file that `has_index`, as if it had just been opened."""
    container.seek(-(1 << 40), stream=stream)


def first_frame(
    path: Path, container: Any, stream: Any, packets: Iterable[Any] | None = None, damage: Damage | None = None
) -> TimedFrame:
    """The first frame that decodes.

    Raises:
        VideoError: None does.
    """
    first = next(timed_frames(container, stream, packets=packets, damage=damage), None)
    if first is None:
        hint = '' if stream.width else ' (or they are larger than the environment variable VIDEOZOO_MAX_PIXELS allows)'
        raise VideoError(f'{path}: no frame could be decoded{hint}')
    return first


def step_of(stream: Any) -> float:
    """Seconds from one frame to the next, according to the header."""
    return float(1 / (stream.guessed_rate or GRID_RATE))


def end_of(time: float, frame: Any, step: float) -> float:
    """When a frame that is shown at `time` gives way to the next: as its packet says, or else a step later."""
    length = getattr(frame, 'duration', None)  # PyAV 14 does not tell
    return time + float(length * frame.time_base) if length and length > 0 and frame.time_base else time + step
