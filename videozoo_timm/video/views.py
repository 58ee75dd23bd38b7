"""The views of a file that a model is given: clips of a video, or one image, under crops, resized and normalized."""

import math
import random
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from .finding import is_image
from .images import read_image
from .ordering import reordered
from .pixels import AS_PLAYED, Pixels
from .reading import Clip, probe, read_clips
from .sampling import RECOGNITION, Sampling, centered_starts, even_starts, seed_of
from .times import Times
from .transforms import Augmentation, augment_clip, prepare_clip, prepare_whole

ALIGNMENTS = {'start': 0.0, 'center': 0.5, 'causal': 1.0}  # where in its window a row's time stands


@dataclass(frozen=True)
class Views:
    """Which views of each file a model receives.

    Attributes:
        size: Height and width, in pixels.
        mean: Of pixels in [0, 1], one per channel.
        std: As `mean`.
        interpolation: As in `prepare_clip`.
        sampling: Which frames make a clip.
        num_clips: Clips spread evenly over a video; one is centered.
        stride: Seconds between clips instead, from the first frame to the end: a time course.
        align: Which point of a clip's window its time is: 'start', 'center', or 'causal' (the end, so that no frame is
            later than the clip's time). Beyond the ends of the video a window repeats the first or the last frame.
            Unless it is the start, a clip may have the time at which the video ends.
        offset: The time of a time course's first clip, in seconds from the first frame.
        crops: As in `prepare_clip`; every clip is cropped in each of these ways.
        short_side: As in `prepare_clip`.
        jitter: Random views instead of `crops` and of centered clips, as in the published evaluation: a random start
            and crop, a random short side between these two numbers of pixels, flipped with probability 1/2.
        seed: Random seed of the views.
        augmentation: Training views instead: one random clip, in `Augmentation.repeats` random crops.
        whole: Whole frames instead of crops: the short side becomes `size`, and the sides are cut to multiples of this
            many pixels (`prepare_whole`).

    If a clip has one frame, the views of a video are images.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = 'bilinear'
    sampling: Sampling = RECOGNITION
    num_clips: int = 1
    stride: float | None = None
    align: str = 'center'
    offset: float = 0.0
    crops: tuple[str | int, ...] = ('center',)
    short_side: int | None = None
    jitter: tuple[int, int] | None = None
    seed: int = 0
    augmentation: Augmentation | None = None
    whole: int | None = None

    def __post_init__(self) -> None:
        if self.num_clips < 1:
            raise ValueError(f'num_clips must be at least 1, got {self.num_clips}')
        if self.stride is not None and not 0 < self.stride < math.inf:
            raise ValueError(f'stride must be more than 0 seconds, got {self.stride}')
        if self.align not in ALIGNMENTS:
            raise ValueError(f'align must be one of {list(ALIGNMENTS)}, got {self.align!r}')
        if not 0 <= self.offset < math.inf or (self.offset and self.stride is None):
            raise ValueError(f'offset={self.offset}: must be 0 or more seconds, and is of a time course (stride)')
        if self.jitter and not self.size <= self.jitter[0] <= self.jitter[1]:
            raise ValueError(
                f'jitter={list(self.jitter)}: must be two ascending short sides of at least {self.size} pixels'
            )

    def starts(self, duration: float, times: Times | None = None, clock_offset: float = 0.0) -> Sequence[float]:
        """Starts of the clips' windows in a video, in seconds from its first frame.

        Args:
            duration: Of the video, in seconds.
            times: When the clips have their times, if somebody else has set that.
            clock_offset: Time of the first frame on the clock of the file, if that is the clock of `times`.

        Raises:
            ValueError: None of `times` is a time of the video; it says where the first one is told.
        """
        before, with_end = ALIGNMENTS[self.align] * self.sampling.seconds, self.align != 'start'
        if times is not None:
            inside, zero = self.inside(duration, times, clock_offset), times.zero(clock_offset)
            if not inside:
                raise ValueError(times.outside(inside, duration, clock_offset))
            return [times.seconds[k] - zero - before for k in inside]
        if self.stride is None:
            return centered_starts(duration, self.sampling, self.num_clips)
        return even_starts(duration, self.stride, offset=self.offset, before=before, with_end=with_end)

    def inside(self, duration: float, times: Times, clock_offset: float = 0.0) -> list[int]:
        """Which of the times that somebody else has set are those of a video, by their numbers; as in `starts`."""
        before, with_end = ALIGNMENTS[self.align] * self.sampling.seconds, self.align != 'start'
        return times.inside(duration, before=before, with_end=with_end, clock_offset=clock_offset)


class View(NamedTuple):
    """One view.

    Attributes:
        x: Normalized, float32 [C, T, H, W] of a video, [C, H, W] of an image.
        start: Start of the window, in seconds from the first frame.
        end: End of the window.
        time: The time of the view (`Views.align`).
        duration: Of the video, in seconds; 0 of an image.
        total: Number of views of the file.
        padded: Fraction of its frames that repeat the first or the last one of the video (`Clip`).
        damaged: Fraction of its frames that are damaged or did not decode.
        clock_offset: Presentation time of the video's first frame on the file's own clock, in seconds.
        lost: Seconds at the end of the video that the file lacks.
    """

    x: torch.Tensor
    start: float
    end: float
    time: float
    duration: float
    total: int
    padded: float = 0.0
    damaged: float = 0.0
    clock_offset: float = 0.0
    lost: float = 0.0


class Failure(NamedTuple):
    """Why a file gives no view, or no further ones."""

    reason: str


def failure_of(path: str, error: Exception) -> Failure:
    """The failure that an error in reading a file amounts to; libraries raise more than they document.

    Only an ImportError is not the file's fault, but a missing library.
    """
    reason = str(error)
    if not reason or not isinstance(error, (OSError, ValueError, RuntimeError)):  # those are in words
        reason = f'{type(error).__name__}: {reason}'.removesuffix(': ')
    return Failure(reason if path in reason else f'{path}: {reason}')


class Job(NamedTuple):
    """A file to load.

    Attributes:
        index: The caller's number for it.
        path: The file.
        skip: Number of its views to skip, from the first.
        view_seed: Random seed of its views, beside `Views.seed`; that of its name if None (`seed_of`).
        views: Which views of it, if not those of all files; of the same size and number of frames.
        times: When its clips have their times, instead of `Views.num_clips` and `Views.stride`.
    """

    index: int  # pyright: ignore[reportIncompatibleMethodOverride]  # hides tuple.index, which nobody calls
    path: str
    skip: int = 0
    view_seed: int | None = None
    times: Times | None = None
    views: Views | None = None

    def rng(self, seed: int) -> random.Random:
        """The generator of its random views."""
        return random.Random(seed_of(seed, self.path) if self.view_seed is None else f'{seed} {self.view_seed}')


def read_views(job: Job, views: Views, num_threads: int = 1, pixels: Pixels = AS_PLAYED) -> Generator[View, None, None]:
    """The views of a file.

    Args:
        job: The file.
        views: Which views of it.
        num_threads: Threads of the decoder.
        pixels: As in `read_clip`.

    Raises:
        FileNotFoundError, VideoError, ImportError: As `read_clip`.
    """
    views = job.views or views
    if views.augmentation:
        yield from _augmented_views(job, views, views.augmentation, num_threads, pixels)
        return
    if is_image(job.path):
        if not job.skip:
            yield View(_prepare(read_image(job.path, pixels), views)[:, 0], 0.0, 0.0, 0.0, 0.0, 1)
        return
    if views.jitter:
        if not job.skip:
            yield _random_view(job, views, views.jitter, num_threads, pixels)
        return
    num_crops, prepared = len(views.crops), _Prepared(views)
    num_clips: list[int] = []
    inside: list[int] = []  # which of the job's times are those of the video
    skip_clips, skip_crops = divmod(job.skip, num_crops)
    own_clock = job.times is not None and job.times.on_file_clock
    clock_offset = probe(job.path, pixels).clock_offset if own_clock else 0.0

    def starts(duration: float) -> Sequence[float]:
        num_clips[:] = [len(every := views.starts(duration, job.times, clock_offset))]
        inside[:] = [] if job.times is None else views.inside(duration, job.times, clock_offset)
        return every

    clips = read_clips(
        job.path, starts, sampling=views.sampling, skip=skip_clips, num_threads=num_threads, pixels=pixels
    )
    for k, clip in enumerate(clips, skip_clips):
        order, times = _order(clip, job, views), _times(clip, views)
        if job.times is not None:  # to the last digit
            times = (*times[:2], job.times.seconds[inside[k]] - clock_offset, times[3])
        for crop in views.crops[skip_crops:]:
            x = prepared(clip, crop)[:, order]
            yield View(_as_image(x, views), *times, num_clips[0] * num_crops, *_faults(clip))
        skip_crops = 0


class _Prepared:
    """Prepares the clips of a file; a frame that the clip before has shown too is not prepared again."""

    def __init__(self, views: Views) -> None:
        self.views = views
        self.before: dict[Any, tuple[torch.Tensor, dict[float, int], torch.Tensor | None]] = {}

    def __call__(self, clip: Clip, crop: Any) -> torch.Tensor:
        """Float32 [C, T, H, W]."""
        frames, times = clip.frames, clip.times.tolist()
        images, places, x = self.before.get(crop, (frames, {}, None))
        # Equal ones only: where decoding has begun anew, a frame of a damaged file may be another one.
        shared = {
            k: places[time]
            for k, time in enumerate(times)
            if time in places and torch.equal(frames[k], images[places[time]])
        }
        if x is None or not shared:
            result = _prepare(frames, self.views, crop=crop)
        else:
            result = x.new_empty((x.shape[0], len(frames), *x.shape[2:]))
            result[:, list(shared)] = x[:, list(shared.values())]
            if new := [k for k in range(len(frames)) if k not in shared]:
                result[:, new] = _prepare(frames[new], self.views, crop=crop)
        self.before[crop] = frames, {time: k for k, time in enumerate(times)}, result
        return result


def _random_view(job: Job, views: Views, jitter: tuple[int, int], num_threads: int, pixels: Pixels) -> View:
    rng = job.rng(views.seed)

    def starts(duration: float) -> list[float]:
        return [rng.uniform(0, max(duration - views.sampling.seconds, 0))]

    clip = next(read_clips(job.path, starts, sampling=views.sampling, num_threads=num_threads, pixels=pixels))
    short_side, crop = round(rng.uniform(*jitter)), (rng.random(), rng.random())
    frames = clip.frames[_order(clip, job, views)]
    x = _prepare(frames, replace(views, short_side=short_side), crop=crop)
    x = x.flip(-1) if rng.random() < 0.5 else x
    return View(_as_image(x, views), *_times(clip, views), 1, *_faults(clip))


def _augmented_views(
    job: Job, views: Views, augmentation: Augmentation, num_threads: int, pixels: Pixels
) -> Iterator[View]:
    rng = job.rng(views.seed)
    repeats = augmentation.repeats
    start, seeds = (
        augmentation.latest_start * rng.random(),
        [rng.getrandbits(32) for _ in range(repeats)],
    )  # the same whatever is skipped
    if is_image(job.path):
        frames, times, faults = read_image(job.path, pixels), (0.0, 0.0, 0.0, 0.0), ()
    else:
        clip = next(
            read_clips(
                job.path,
                lambda duration: [start * max(duration - views.sampling.seconds, 0)],
                sampling=views.sampling,
                num_threads=num_threads,
                pixels=pixels,
            )
        )
        frames, times, faults = clip.frames, _times(clip, views), _faults(clip)
    for seed in seeds[job.skip :]:
        x = _on_one_thread(
            augment_clip,
            frames,
            views.size,
            augmentation,
            seed,
            mean=views.mean,
            std=views.std,
            interpolation=views.interpolation,
        )
        yield View(x[:, 0] if is_image(job.path) else _as_image(x, views), *times, repeats, *faults)


def _order(clip: Clip, job: Job, views: Views) -> Any:
    """Indices of a clip's frames in the order that the sampling asks for."""
    if not views.sampling.frames:
        return slice(None)
    file = seed_of(0, job.path) if job.view_seed is None else job.view_seed
    return reordered(torch.arange(len(clip.frames)), views.sampling.frames, f'{file} {clip.start:.3f}')


def _times(clip: Clip, views: Views) -> tuple[float, float, float, float]:
    """Start, end and time of a view, and duration of its video."""
    return clip.start, clip.end, clip.start + ALIGNMENTS[views.align] * views.sampling.seconds, clip.duration


def _faults(clip: Clip) -> tuple[float, float, float, float]:
    """What a view says of the video beside its times: `padded`, `damaged`, `clock_offset`, `lost`."""
    return clip.padded, clip.damaged, clip.clock_offset, clip.lost


def _as_image(x: torch.Tensor, views: Views) -> torch.Tensor:
    """[C, 1, H, W] -> [C, H, W] where a clip is one frame."""
    return x[:, 0] if views.sampling.num_frames == 1 else x


def prepare_view(frames: torch.Tensor, views: Views) -> torch.Tensor:
    """Frames uint8 [T, H, W, 3] as `read_views` prepares them under the first crop: float32 [C, T, size, size]."""
    return _prepare(frames, views, views.crops[0])


def _prepare(
    frames: torch.Tensor,
    views: Views,
    crop: str | int | tuple[float, float] = 'center',
) -> torch.Tensor:
    if views.whole:
        return _on_one_thread(prepare_whole, frames, views.size, views.whole, mean=views.mean, std=views.std)
    return _on_one_thread(
        prepare_clip,
        frames,
        views.size,
        short_side=views.short_side,
        crop=crop,
        interpolation=views.interpolation,
        mean=views.mean,
        std=views.std,
    )


def _on_one_thread(function: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
    """As in a worker process: the last bits of an interpolation depend on the number of threads."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return function(*args, **kwargs)
    finally:
        torch.set_num_threads(num_threads)
