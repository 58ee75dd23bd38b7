"""Reading clips out of video files, by presentation time.

The published models see video at 30 frames a second. A file with another or a varying rate is therefore sampled by
time: every position of a 30 Hz grid shows the frame that a player would have on the screen at that moment.
"""
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from .drawing import DURATION, RATE, SIZE, drawn_videos, is_drawn, scene_of

VIDEO_EXTENSIONS = frozenset((
    '.3gp', '.avi', '.flv', '.m2ts', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.mts', '.ogv', '.ts', '.webm',
    '.wmv',
))

IMAGE_EXTENSIONS = frozenset(('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp'))

_GRID_RATE = 30
# Containers round presentation times, Matroska to whole milliseconds. Without some slack, frame k of a 30 fps file
# would often come after k / 30 s and frame k - 1 be shown. Still far below a frame of a 120 fps video.
_TOLERANCE = 0.002
# How far before the window to seek, in seconds. Indexes hold decoding times, so with B-frames a seek may land a little
# late. What has landed too late is tried again from further back, at last from the beginning.
_SEEK_MARGINS = (0.25, 10.0, math.inf)
# Between windows further apart than this (seconds) seeking is cheaper than decoding on.
_SEEK_GAP = 8.0
_LONGEST_RUN = 60.0  # seconds from the first window of a pass to the last


class VideoError(RuntimeError):
    """A file out of which no video can be read; the message names the file and the reason."""


@dataclass(frozen=True)
class Sampling:
    """Which frames make a clip: `num_frames`, spread evenly over `span` frames at 30 a second, both ends in.

    `dataclasses.replace(RECOGNITION, num_frames=4)` takes 4 frames over the same time.
    """
    num_frames: int
    span: int

    def __post_init__(self):
        if self.num_frames < 1 or self.span < 1:
            raise ValueError(f'num_frames and span must be at least 1, got {self.num_frames} and {self.span}')

    @property
    def positions(self) -> list[int]:
        """Positions on the 30 Hz grid, from the start of the window: floor(linspace(0, span - 1, num_frames))."""
        gaps = max(self.num_frames - 1, 1)
        return [k * (self.span - 1) // gaps for k in range(self.num_frames)]

    @property
    def seconds(self) -> float:
        """Length of the window."""
        return self.span / _GRID_RATE


RECOGNITION = Sampling(num_frames=16, span=128)
COMPLETION = Sampling(num_frames=16, span=65)


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames sampled from a video.

    Attributes:
        frames: uint8 [T, H, W, 3], RGB, upright.
        times: float64 [T], the presentation times of the frames shown, in seconds from the video's first frame.
        start: Start of the sampled window, in seconds from the first frame.
        end: End of the sampled window; later than the video's end where the video is shorter than the window.
        duration: Of the video, in seconds.
    """
    frames: torch.Tensor
    times: torch.Tensor
    start: float
    end: float
    duration: float


@dataclass(frozen=True)
class VideoInfo:
    """What a video file is like.

    Attributes:
        duration: Seconds from the first frame to the end of the last, as the header has it (counted if it does not).
        fps: Average frames a second, as the header has it.
        width: Pixels, as displayed (after rotation).
        height: Pixels, as displayed (after rotation).
    """
    duration: float
    fps: float
    width: int
    height: int


def find_videos(paths: str | os.PathLike | Iterable[str | os.PathLike]) -> list[Path]:
    """Lists the videos that `paths` name.

    Args:
        paths: Files, which are taken as they are, and folders, which are searched recursively for files with one of
            `VIDEO_EXTENSIONS`. What is hidden (a name with a leading dot) is skipped in folders. `drawn:COUNT@SEED`
            stands for drawn videos (`drawing`).

    Returns:
        Every file once, in the order of `paths`, sorted within each folder.

    Raises:
        FileNotFoundError: One of `paths` does not exist.
    """
    return _find(paths, lambda folder: _search(folder, VIDEO_EXTENSIONS))


def find_media(paths: str | os.PathLike | Iterable[str | os.PathLike]) -> list[Path]:
    """As `find_videos`, but of a folder that holds no video at all, its images (`IMAGE_EXTENSIONS`) are listed."""
    return _find(paths, lambda folder: _search(folder, VIDEO_EXTENSIONS) or _search(folder, IMAGE_EXTENSIONS))


def is_image(path: str | os.PathLike) -> bool:
    """Whether a file is read as a still image, by the ending of its name."""
    return Path(path).suffix.lower() in IMAGE_EXTENSIONS


def read_image(path: str | os.PathLike) -> torch.Tensor:
    """Reads an image as a video of one frame, upright.

    Returns:
        uint8 [1, H, W, 3], RGB; transparency is laid on black, grey of 16 bits is scaled to 8.

    Raises:
        FileNotFoundError: There is no such file.
        VideoError: It is no image that Pillow reads.
    """
    import numpy as np
    from PIL import Image, ImageOps, UnidentifiedImageError
    try:
        with Image.open(path) as image:
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith('I;16'):  # which Pillow would clip to white
                pixels = np.repeat((np.array(image)[..., None] // 257).astype(np.uint8), 3, axis=2)
            else:
                pixels = np.array(image.convert('RGB'))  # [H, W, 3]
    except FileNotFoundError as error:
        raise FileNotFoundError(f'{path}: no such file') from error
    except UnidentifiedImageError as error:
        raise VideoError(f'{path}: not an image (no format that Pillow knows)') from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise VideoError(f'{path}: cannot be read as an image ({error})') from error
    return torch.from_numpy(pixels).unsqueeze(0)


def probe(path: str | os.PathLike) -> VideoInfo:
    """Tells duration, frame rate and size of a video, from its header and its first frame.

    Raises:
        FileNotFoundError: There is no such file.
        VideoError: No video can be read out of it.
        ImportError: PyAV is not installed.
    """
    path = Path(path)
    if is_drawn(path):
        scene_of(path)
        return VideoInfo(DURATION, RATE, SIZE, SIZE)
    with _opened(path, num_threads=1) as (container, stream):
        origin, frame = _first_frame(path, _timed_frames(container, stream))
        width, height = (frame.height, frame.width) if _quarter_turns(frame) % 2 else (frame.width, frame.height)
        rate = stream.average_rate or stream.guessed_rate or _GRID_RATE
        return VideoInfo(_duration(path, container, stream, origin), float(rate), width, height)


def read_clip(
        path: str | os.PathLike,
        *,
        sampling: Sampling = RECOGNITION,
        start: float | None = None,
        num_threads: int = 2,
) -> Clip:
    """Reads one clip out of a video.

    Position k of the 30 Hz grid shows the last frame whose presentation time is not after `start + k / 30`. A video
    that ends within the window repeats its last frame. Packets that do not decode are passed over.

    Args:
        path: A video file.
        sampling: Which frames to take.
        start: Start of the window, in seconds from the first frame. None is the published centre clip: it starts at
            position floor(max(30 * duration - span, 0) / 2) of the grid.
        num_threads: Threads of the decoder.

    Raises:
        FileNotFoundError: There is no such file.
        VideoError: No video can be read out of it.
        ValueError: `start` is negative or not before the end of the video.
        ImportError: PyAV is not installed.
    """
    if start is None:
        def starts(duration: float) -> list[float]:
            return centred_starts(duration, sampling)
    elif 0 <= start < math.inf:
        starts = [start]
    else:
        raise ValueError(f'{path}: start must be 0 or more seconds, got {start}')
    return next(read_clips(path, starts, sampling=sampling, num_threads=num_threads))


def read_clips(
        path: str | os.PathLike,
        starts: Sequence[float] | Callable[[float], Sequence[float]],
        *,
        sampling: Sampling = RECOGNITION,
        skip: int = 0,
        num_threads: int = 2,
) -> Iterator[Clip]:
    """Reads clips out of a video, each as `read_clip` would, in as few passes over the file as possible.

    Args:
        path: A video file.
        starts: Starts of the windows in ascending order, in seconds from the first frame; or what gives them for a
            duration in seconds. What lies before the first frame shows the first frame.
        sampling: Which frames of a window to take.
        skip: How many of the windows to leave out, from the first. The others are read from the same places in the file
            as with `skip=0`, so that they are the same also where a stream cannot be entered without a trace.
        num_threads: Threads of the decoder.

    Yields:
        One clip for each start that is not skipped.

    Raises:
        FileNotFoundError, VideoError, ImportError: As `read_clip`.
        ValueError: A start is no number or not before the end of the video, or they do not ascend.
    """
    path = Path(path)
    if is_drawn(path):
        yield from _draw_clips(path, starts, sampling, skip)
        return
    with _opened(path, num_threads=1) as (container, stream):
        origin, _ = _first_frame(path, _timed_frames(container, stream))
        duration = _duration(path, container, stream, origin)
    starts = list(starts(duration) if callable(starts) else starts)
    _check_starts(path, starts, duration)
    for run in _runs(starts, sampling):
        if skip >= len(run):
            skip -= len(run)
            continue
        wanted = [[origin + max(start + k / _GRID_RATE, 0) for k in sampling.positions] for start in run]
        for start, shown in zip(run, _read_run(path, origin, run, wanted, num_threads), strict=True):
            if skip:
                skip -= 1
                continue
            times = torch.tensor([time - origin for time, _ in shown], dtype=torch.float64)
            try:
                images = _to_images([frame for _, frame in shown])
            except import_av().FFmpegError as error:
                raise VideoError(f'{path}: a frame cannot be converted to RGB ({error.strerror})') from error
            yield Clip(images, times, start, start + sampling.seconds, duration)


def _draw_clips(path, starts, sampling, skip):
    """As of a file at 30 frames a second: a position shows the frame that began last."""
    scene = scene_of(path)
    starts = list(starts(DURATION) if callable(starts) else starts)
    _check_starts(path, starts, DURATION)
    last = round(DURATION * RATE) - 1
    for start in starts[skip:]:
        shown = [min(max(math.floor((start + _TOLERANCE) * RATE + k), 0), last) for k in sampling.positions]
        times = torch.tensor(shown, dtype=torch.float64) / RATE
        yield Clip(scene.render(times), times, start, start + sampling.seconds, DURATION)


def centred_starts(duration: float, sampling: Sampling, num_clips: int = 1) -> list[float]:
    """Starts of clips spread evenly over a video, as published: one is centred, several reach from end to end.

    Args:
        duration: Of the video, in seconds.
        sampling: The clips' sampling.
        num_clips: How many.

    Returns:
        Seconds from the first frame: positions `k * floor(room / (num_clips - 1))` of the 30 Hz grid, or `floor(room /
        2)` of one clip, where room is what the video is longer than a clip, in frames at 30 a second.
    """
    room = max((duration + _TOLERANCE) * _GRID_RATE - sampling.span, 0)
    if num_clips == 1:
        return [math.floor(room / 2) / _GRID_RATE]
    return [k * math.floor(room / (num_clips - 1)) / _GRID_RATE for k in range(num_clips)]


def _check_starts(path, starts, duration):
    for before, start in zip([-math.inf, *starts], starts, strict=False):
        if not math.isfinite(start) or start < before:
            raise ValueError(f'{path}: starts must be ascending numbers of seconds, got {before:g} and then {start:g}')
        if start > 0 and start >= duration:
            raise ValueError(
                f'{path}: start {start:g} s is not before the end of the video, which lasts {duration:g} s')


def _runs(starts, sampling):
    """The windows in groups that are read in one pass each; none so long that `skip` would have much to read."""
    run = []
    for start in starts:
        if run and (start > run[-1] + sampling.seconds + _SEEK_GAP or start > run[0] + _LONGEST_RUN):
            yield run
            run = []
        run.append(start)
    if run:
        yield run


def _read_run(path, origin, starts, wanted, num_threads):
    """For each window the (time, frame) that it shows at each of its wanted times."""
    done = 0
    for margin in _SEEK_MARGINS:
        with _opened(path, num_threads) as (container, stream):
            if starts[done] > margin:
                frames = _frames_after_seek(container, stream, origin + starts[done] - margin)
            else:
                frames = _timed_frames(container, stream)
            for shown in _select(frames, wanted[done:]):
                yield shown
                done += 1
        if done == len(wanted):
            return
    raise VideoError(f'{path}: no frame could be decoded')


def _find(paths, search):
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    found = {}  # absolute path -> path as given
    for path in map(Path, paths):
        if is_drawn(path):
            found.update((str(name), name) for name in drawn_videos(path))
            continue
        if not path.exists():
            raise FileNotFoundError(f'{path}: no such file or folder')
        for file in search(path) if path.is_dir() else [path]:
            found.setdefault(os.path.abspath(file), file)
    return list(found.values())


def _search(folder, extensions):
    found, visited = [], set()
    for place, subfolders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        # A link to a folder above would go round for ever.
        subfolders[:] = [] if real in visited else [name for name in subfolders if not name.startswith('.')]
        if real not in visited:
            found += [Path(place, name) for name in names if not name.startswith('.')]
        visited.add(real)
    return sorted(file for file in found if file.suffix.lower() in extensions and file.is_file())


def import_av() -> Any:
    """PyAV, or an ImportError that says how to get it."""
    try:
        import av
    except ImportError as error:
        raise ImportError("reading videos needs PyAV: pip install 'videozoo-timm[video]'") from error
    if av.logging.get_level() is not None:
        # torchvision below 0.22 sets a level. PyAV then logs from the decoder's threads under Python's lock, which
        # hangs for ever when a decoder is freed meanwhile.
        av.logging.set_level(None)
    return av


@contextmanager
def _opened(path, num_threads):
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


def _timed_frames(container, stream, sought=False) -> Iterator[tuple]:
    """Every frame that decodes from here on, as (presentation time in seconds, frame)."""
    step = float(1 / (stream.guessed_rate or _GRID_RATE))
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


def _frames_after_seek(container, stream, time):
    try:
        container.seek(math.floor(time / stream.time_base), stream=stream)
    except import_av().FFmpegError:  # no index, as in raw streams
        return iter(())
    return _timed_frames(container, stream, sought=True)


def _first_frame(path, frames):
    first = next(frames, None)
    if first is None:
        raise VideoError(f'{path}: no frame could be decoded')
    return first


def _duration(path, container, stream, origin):
    """Seconds from the first frame, which comes at `origin`, to the end of the last."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    if container.duration and container.duration / 1e6 > origin:  # Matroska: end of the file, not length
        return container.duration / 1e6 - origin
    step = float(1 / (stream.guessed_rate or _GRID_RATE))
    with _opened(path, num_threads=1) as (container, stream):  # anew, so that the caller's place is kept
        stamps = [packet.pts for packet in _packets(container, stream) if packet is not None and packet.size]
        times = [float(stamp * stream.time_base) for stamp in stamps if stamp is not None]
    return max(times) - origin + step if times else len(stamps) * step


def _select(frames, windows):
    """For each window the last (time, frame) not after each of its wanted times; windows come in ascending order.

    Yields nothing if the frames begin too late.
    """
    order = sorted((time, window) for window, times in enumerate(windows) for time in times)
    shown = [[] for _ in windows]
    latest, next_window, position = None, 0, 0
    for time, frame in chain(frames, [(math.inf, None)]):
        while position < len(order) and time > order[position][0] + _TOLERANCE:
            if latest is None:
                return
            shown[order[position][1]].append(latest)
            position += 1
            while next_window < len(windows) and len(shown[next_window]) == len(windows[next_window]):
                yield shown[next_window]
                shown[next_window] = None
                next_window += 1
        if position == len(order):
            return
        latest = time, frame


def _to_images(frames):
    """Decoded frames to RGB, uint8 [T, H, W, 3], all of the first one's size and rotation."""
    import numpy as np

    width, height, turns = frames[0].width, frames[0].height, _quarter_turns(frames[0])
    shape = (width, height) if turns % 2 else (height, width)
    images = np.empty((len(frames), *shape, 3), np.uint8)  # [T, H, W, 3]
    for i, frame in enumerate(frames):
        if i and frame is frames[i - 1]:
            images[i] = images[i - 1]
        else:
            images[i] = np.rot90(frame.to_ndarray(format='rgb24', width=width, height=height), turns)
    return torch.from_numpy(images)


def _quarter_turns(frame):
    """Counterclockwise turns by 90 degrees that put a frame upright, as numpy.rot90 counts them."""
    return round(frame.rotation / 90)
