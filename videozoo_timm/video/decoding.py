"""Decoding video files by PyAV: opening, frames with their times, frames after a seek, conversion to RGB."""
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .checks import VideoError
from .sampling import GRID_RATE


def import_av() -> Any:
    """PyAV, or an ImportError that says how to get it."""
    try:
        import av
    except ImportError as error:
        raise ImportError("videos need PyAV: pip install 'videozoo-timm[video]'") from error
    if av.logging.get_level() is not None:
        # torchvision below 0.22 sets a level. PyAV then logs from the decoder's threads under Python's lock, which
        # hangs for ever when a decoder is freed meanwhile.
        av.logging.set_level(None)
    return av


@contextmanager
def opened(path, num_threads):
    """The container and its main video stream; whatever FFmpeg raises within comes out as a VideoError."""
    av = import_av()
    if not path.exists():
        raise FileNotFoundError(f'{path}: no such file')
    try:
        # An absolute path, as FFmpeg takes 'a:b.mp4' for an address of the protocol 'a'.
        with av.open(os.path.abspath(path), metadata_errors='replace') as container:
            stream = container.streams.best('video')
            if stream is None:
                only = 'audio only' if container.streams.audio else 'no audio either'
                raise VideoError(f'{path}: holds no video stream ({only})')
            if stream.codec_context is None:
                raise VideoError(f'{path}: FFmpeg has no decoder for its video stream; convert it to H.264')
            stream.thread_type = 'AUTO'
            stream.codec_context.thread_count = num_threads
            yield container, stream
    except av.FFmpegError as error:
        raise VideoError(f'{path}: {_reason(path, av, error)}') from error


def _reason(path, av, error):
    if not isinstance(error, av.InvalidDataError):
        return f'FFmpeg cannot read it ({error.strerror})'
    with open(path, 'rb') as file:
        head = file.read(8)
    if not head:
        return 'the file is empty'
    if head[4:] == b'ftyp':
        return 'truncated: an MP4 or QuickTime file without its index (the moov box); copy or download it again'
    return 'not a video (no format that FFmpeg knows)'


def timed_frames(container, stream, sought=False) -> Iterator[tuple]:
    """Every frame that decodes from here on, as (presentation time in seconds, frame)."""
    step = float(1 / (stream.guessed_rate or GRID_RATE))
    # Raw streams have no times and are counted, which after a seek cannot be: such a frame is one that comes too late.
    clock = math.inf if sought else 0.0
    for frame in _frames(container, stream):
        time = clock if frame.time is None else frame.time
        clock = time + step
        yield time, frame


def _frames(container, stream):
    av = import_av()
    for packet in _packets(container, stream):
        try:
            yield from stream.decode(packet)
        except av.FFmpegError:
            continue


def _packets(container, stream):
    av = import_av()
    try:
        yield from container.demux(stream)
    except av.FFmpegError:
        yield None  # the rest of the file is lost, the frames that the decoder still holds are not


def frames_after_seek(container, stream, time):
    try:
        container.seek(math.floor(time / stream.time_base), stream=stream)
    except import_av().FFmpegError:  # no index, as in raw streams
        return iter(())
    return timed_frames(container, stream, sought=True)


def first_frame(path, frames):
    first = next(frames, None)
    if first is None:
        raise VideoError(f'{path}: no frame could be decoded')
    return first


def duration_of(path, container, stream, origin):
    """Seconds from the first frame, which comes at `origin`, to the end of the last."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    if container.duration and container.duration / 1e6 > origin:  # Matroska: end of the file, not length
        return container.duration / 1e6 - origin
    step = float(1 / (stream.guessed_rate or GRID_RATE))
    with opened(path, num_threads=1) as (container, stream):  # anew, so that the caller's place is kept
        stamps = [packet.pts for packet in _packets(container, stream) if packet is not None and packet.size]
        times = [float(stamp * stream.time_base) for stamp in stamps if stamp is not None]
    return max(times) - origin + step if times else len(stamps) * step


def to_images(frames):
    """Decoded frames to RGB, uint8 [T, H, W, 3], all of the first one's size and rotation."""
    import numpy as np

    width, height, turns = frames[0].width, frames[0].height, quarter_turns(frames[0])
    shape = (width, height) if turns % 2 else (height, width)
    images = np.empty((len(frames), *shape, 3), np.uint8)  # [T, H, W, 3]
    for i, frame in enumerate(frames):
        if i and frame is frames[i - 1]:
            images[i] = images[i - 1]
        else:
            images[i] = np.rot90(frame.to_ndarray(format='rgb24', width=width, height=height), turns)
    return torch.from_numpy(images)


def quarter_turns(frame):
    """Counterclockwise turns by 90 degrees that put a frame upright, as numpy.rot90 counts them."""
    return round(frame.rotation / 90)
