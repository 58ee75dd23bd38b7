"""From files to the views that a model is given, decoded ahead of the model in processes of their own.

A view is one clip of a video (or one image) under one crop, resized and normalised.
"""
import atexit
import math
import os
import queue
import random
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import connection, get_context, parent_process, resource_tracker
from typing import NamedTuple

import torch

from .finding import is_image
from .images import read_image
from .reading import read_clips
from .sampling import RECOGNITION, Sampling, centred_starts, even_starts
from .transforms import Augmentation, augment_clip, prepare_clip, prepare_whole

ALIGNMENTS = {'start': 0.0, 'center': 0.5, 'causal': 1.0}  # where in its window a row's time stands


@dataclass(frozen=True)
class Views:
    """Which views of each file a model is given.

    Attributes:
        size: Height and width, in pixels.
        mean: Of pixels in [0, 1], one a channel.
        std: As `mean`.
        interpolation: As in `prepare_clip`.
        sampling: Which frames make a clip.
        num_clips: Clips spread evenly over a video; one is centred.
        stride: Seconds between clips instead, from the first frame to the end: a time course.
        align: Where in a clip's window its time stands: 'start', 'center', or 'causal' (at the end, so that nothing
            later than its time is seen). Beyond the ends of the video a window repeats the first or the last frame.
        crops: As in `prepare_clip`; each clip is given once under each.
        short_side: As in `prepare_clip`.
        jitter: Random views instead of `crops` and of centred clips, as the published evaluation draws them: start and
            crop anywhere, the short side between these two numbers of pixels, flipped every other time.
        seed: Of the random views.
        augmentation: Training views instead: one clip anywhere, under as many random crops as this asks for.
        whole: Whole frames instead of crops: the short side becomes `size`, and the sides are cut to multiples of this
            many pixels (`prepare_whole`).

    With one frame a clip, the views of a video are images.
    """
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = 'bilinear'
    sampling: Sampling = RECOGNITION
    num_clips: int = 1
    stride: float | None = None
    align: str = 'center'
    crops: tuple[str | int, ...] = ('center',)
    short_side: int | None = None
    jitter: tuple[int, int] | None = None
    seed: int = 0
    augmentation: Augmentation | None = None
    whole: int | None = None

    def __post_init__(self):
        if self.num_clips < 1:
            raise ValueError(f'num_clips must be at least 1, got {self.num_clips}')
        if self.stride is not None and not 0 < self.stride < math.inf:
            raise ValueError(f'stride must be more than 0 seconds, got {self.stride}')
        if self.align not in ALIGNMENTS:
            raise ValueError(f'align must be one of {list(ALIGNMENTS)}, got {self.align!r}')
        if self.jitter and not self.size <= self.jitter[0] <= self.jitter[1]:
            raise ValueError(
                f'the short side must be drawn from two ascending numbers of at least {self.size} pixels, '
                f'got {list(self.jitter)}')

    def starts(self, duration: float) -> Sequence[float]:
        """Starts of the clips' windows in a video, in seconds from its first frame."""
        if self.stride is None:
            return centred_starts(duration, self.sampling, self.num_clips)
        return even_starts(duration, self.stride, -ALIGNMENTS[self.align] * self.sampling.seconds)


class View(NamedTuple):
    """One view.

    Attributes:
        x: Normalised, float32 [C, T, H, W] of a video, [C, H, W] of an image.
        start: Start of the window, in seconds from the first frame.
        end: End of the window.
        time: The time in the window that the view stands for (`Views.align`).
        duration: Of the video, in seconds; 0 of an image.
        total: Number of views of the file.
    """
    x: torch.Tensor
    start: float
    end: float
    time: float
    duration: float
    total: int


class Failure(NamedTuple):
    """Instead of a view: the file gives none, or no more."""
    reason: str


class Job(NamedTuple):
    """A file to load.

    Attributes:
        index: What the caller knows it by.
        path: The file.
        skip: How many of its views to leave out, from the first.
        view_seed: Decides its random views, beside the seed of all; the index if None.
    """
    index: int
    path: str
    skip: int = 0
    view_seed: int | None = None

    def rng(self, seed: int) -> random.Random:
        """For its random views, of a seed."""
        return random.Random(f'{seed} {self.index if self.view_seed is None else self.view_seed}')


def read_views(job: Job, views: Views, num_threads: int = 1) -> Iterator[View]:
    """The views of a file.

    Raises:
        FileNotFoundError, VideoError, ImportError: As `read_clip`.
    """
    if views.augmentation:
        yield from _augmented_views(job, views, num_threads)
        return
    if is_image(job.path):
        if not job.skip:
            yield View(_prepare(read_image(job.path), views)[:, 0], 0.0, 0.0, 0.0, 0.0, 1)
        return
    if views.jitter:
        if not job.skip:
            yield _random_view(job, views, num_threads)
        return
    num_crops, num_clips = len(views.crops), []
    skip_clips, skip_crops = divmod(job.skip, num_crops)

    def starts(duration: float) -> Sequence[float]:
        num_clips[:] = [len(every := views.starts(duration))]
        return every

    for clip in read_clips(
            job.path, starts, sampling=views.sampling, skip=skip_clips, num_threads=num_threads):
        for crop in views.crops[skip_crops:]:
            x = _prepare(clip.frames, views, crop=crop)
            yield View(_as_image(x, views), *_times(clip, views), num_clips[0] * num_crops)
        skip_crops = 0


def _random_view(job, views, num_threads):
    rng = job.rng(views.seed)

    def starts(duration: float) -> list[float]:
        return [rng.uniform(0, max(duration - views.sampling.seconds, 0))]

    clip = next(read_clips(job.path, starts, sampling=views.sampling, num_threads=num_threads))
    short_side, crop = round(rng.uniform(*views.jitter)), (rng.random(), rng.random())
    x = _prepare(clip.frames, replace(views, short_side=short_side), crop=crop)
    x = x.flip(-1) if rng.random() < 0.5 else x
    return View(_as_image(x, views), *_times(clip, views), 1)


def _augmented_views(job, views, num_threads):
    rng = job.rng(views.seed)
    repeats = views.augmentation.repeats
    start, seeds = rng.random(), [rng.getrandbits(32) for _ in range(repeats)]  # the same whatever is skipped
    if is_image(job.path):
        frames, times = read_image(job.path), (0.0, 0.0, 0.0, 0.0)
    else:
        clip = next(read_clips(
            job.path, lambda duration: [start * max(duration - views.sampling.seconds, 0)], sampling=views.sampling,
            num_threads=num_threads))
        frames, times = clip.frames, _times(clip, views)
    for seed in seeds[job.skip:]:
        x = _on_one_thread(
            augment_clip, frames, views.size, views.augmentation, seed, mean=views.mean, std=views.std,
            interpolation=views.interpolation)
        yield View(x[:, 0] if is_image(job.path) else _as_image(x, views), *times, repeats)


def _times(clip, views):
    return clip.start, clip.end, clip.start + ALIGNMENTS[views.align] * views.sampling.seconds, clip.duration


def _as_image(x, views):
    """[C, 1, H, W] -> [C, H, W] where a clip is one frame."""
    return x[:, 0] if views.sampling.num_frames == 1 else x


def _prepare(frames, views, crop='center'):
    how = dict(mean=views.mean, std=views.std)
    if views.whole:
        return _on_one_thread(prepare_whole, frames, views.size, views.whole, **how)
    return _on_one_thread(
        prepare_clip, frames, views.size, short_side=views.short_side, crop=crop, interpolation=views.interpolation,
        **how)


def _on_one_thread(function, *args, **kwargs):
    """As in a worker process: the last bits of an interpolation depend on how it is split."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return function(*args, **kwargs)
    finally:
        torch.set_num_threads(num_threads)


def load_views(
        jobs: Iterable[Job],
        views: Views,
        *,
        num_workers: int = 0,
        time_limit: float = 60.0,
        num_threads: int = 1,
) -> Iterator[tuple[Job, View | Failure | None]]:
    """The views of files, in the files' order, decoded ahead by worker processes.

    A file that cannot be read, that crashes its worker or that hangs costs itself alone: its worker is replaced.

    Args:
        jobs: The files; there may be no end of them.
        views: Which views of each.
        num_workers: Processes that decode; 0 decodes in this one when the next view is asked for, without a time limit.
            Processes are spawned, so a script that uses them needs `if __name__ == '__main__':`.
        time_limit: Seconds that a file may take until its first view, and from each to the next.
        num_threads: Of the decoder, in each process.

    Yields:
        (job, view) for each view, and at the end of each file (job, None) or (job, Failure).
    """
    if num_workers < 0 or not time_limit > 0:
        raise ValueError(f'num_workers={num_workers}, time_limit={time_limit}: must not be negative, and more than 0')
    if isinstance(jobs, Sized):
        num_workers = min(num_workers, len(jobs))
    if num_workers == 0:
        return _load_here(jobs, views, num_threads)
    return _load_ahead(jobs, views, num_workers, time_limit, num_threads)


def _load_here(jobs, views, num_threads):
    for job in jobs:
        end = None
        try:
            for view in read_views(job, views, num_threads):
                yield job, view
        except _PASSED_OVER as error:
            end = _failure(job, error)
        yield job, end


# What is wrong with one file; a missing library is wrong with all of them. torch raises a RuntimeError where a frame
# does not fit in memory.
_PASSED_OVER = (OSError, ValueError, RuntimeError, MemoryError)


def _failure(job, error):
    reason = str(error) or type(error).__name__
    return Failure(reason if job.path in reason else f'{job.path}: {reason}')


def _load_ahead(jobs, views, num_workers, time_limit, num_threads):
    # Bounds what is held: each of the files under way or done early waits with at most so many views.
    places = threading.Semaphore(2 * num_workers)
    queues, closed = _Queues(jobs, max(2, views.augmentation.repeats if views.augmentation else 0)), threading.Event()
    workers = [
        _Worker(queues, places, closed, (views, num_threads), time_limit, name=f'videozoo decoder {i}')
        for i in range(num_workers)]

    def close():
        closed.set()
        for worker in workers:
            worker.stop()
        for worker in workers:
            if worker.ident is not None:
                worker.join(5)

    # Before the interpreter freezes the threads, where the caller leaves without having closed this generator.
    atexit.register(close)
    try:
        for worker in workers:
            worker.start()
        while True:
            job, results = queues.taken.get()
            if job is None:
                return
            at_end = False
            while not at_end:
                item = results.get()
                if isinstance(item, Exception):
                    raise item
                at_end = not isinstance(item, View)
                yield job, item
            places.release()
    finally:
        close()
        atexit.unregister(close)


class _Queues:
    """Files for the workers, and the results of those that they have taken, in the files' order."""

    def __init__(self, jobs, num_views):
        self.jobs, self.taken, self.lock, self.num_views = iter(jobs), queue.Queue(), threading.Lock(), num_views

    def take(self):
        with self.lock:
            job, results = next(self.jobs, None), queue.Queue(maxsize=self.num_views)
            self.taken.put((job, results))
        return job, results


class _Worker(threading.Thread):
    """Hands one file after the other to a process of its own, and replaces a process that dies or hangs."""

    def __init__(self, queues, places, closed, arguments, time_limit, name):
        super().__init__(name=name, daemon=True)
        self.queues, self.places, self.closed = queues, places, closed
        self.arguments, self.time_limit = arguments, time_limit
        self.process = self.pipe = None
        self.starting = threading.Lock()

    def run(self):
        try:
            while self._wait_for(_acquire, self.places):
                job, results = self.queues.take()
                if job is None:
                    return
                try:
                    for item in self._load(job):
                        if not self._wait_for(_put, results, item):
                            return
                except Exception as error:  # not one file's fault, so the caller gets it
                    self._wait_for(_put, results, error)
                    return
        finally:
            self.stop()

    def stop(self):
        with self.starting:
            process, self.process = self.process, None
            if process is not None:
                process.kill()
                process.join()
                self.pipe.close()

    def _wait_for(self, attempt, *args):
        while not self.closed.is_set():
            if attempt(*args):
                return True
        return False

    def _load(self, job):
        if self.process is None and not self._start():
            return
        try:
            self.pipe.send(job)
            while True:
                if not self.pipe.poll(self.time_limit):
                    self.stop()
                    yield Failure(f'{job.path}: gave nothing for {self.time_limit:g} s; left out (--time-limit)')
                    return
                item = self.pipe.recv()
                if isinstance(item, View):
                    shape = item.x
                    item = item._replace(x=torch.frombuffer(
                        bytearray(self.pipe.recv_bytes()), dtype=torch.float32).reshape(shape))
                yield item
                if not isinstance(item, View):
                    return
        except (EOFError, ConnectionError):
            if self.closed.is_set():
                return
            process = self.process
            process.join(5)
            self.stop()
            yield Failure(f'{job.path}: the decoder crashed (exit code {process.exitcode})')

    def _start(self):
        """Start a process and wait until it has imported what it needs, as the time limit is for files; or closed."""
        context = get_context('spawn')
        with self.starting:
            if self.closed.is_set():
                return False
            self.pipe, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, *self.arguments), daemon=True, name=self.name)
            with _signals_blocked():
                process.start()
            self.process = process
        theirs.close()
        try:
            self.pipe.recv()
        except (EOFError, OSError) as error:
            if self.closed.is_set():
                return False
            process.join(5)
            raise RuntimeError(
                f'a decoding process did not start (exit code {process.exitcode}; its message is above): a script that '
                f"uses num_workers needs `if __name__ == '__main__':`") from error
        return True


@contextmanager
def _signals_blocked():
    """A process that is started in here is not ended by a Ctrl-C or SIGTERM to all before it can ignore them."""
    if not hasattr(signal, 'pthread_sigmask'):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # unblocks them when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _acquire(places):
    return places.acquire(timeout=0.2)


def _put(results, item):
    try:
        results.put(item, timeout=0.2)
    except queue.Full:
        return False
    return True


def _work(pipe, views, num_threads):
    """What a worker process does."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they are the parent's, also where all processes get them
        signal.signal(number, signal.SIG_IGN)
    if hasattr(os, 'nice'):
        # Where model and decoders share the cores, the model's threads wait for each other, and lose far more by an
        # interruption than a decoder does.
        os.nice(15)
    threading.Thread(target=_follow, args=(parent_process().sentinel,), daemon=True).start()
    torch.set_num_threads(1)
    try:
        _import_for(views)
        pipe.send('ready')
        while True:
            job, end = pipe.recv(), None
            try:
                with closing(read_views(job, views, num_threads)) as loaded:
                    for view in loaded:
                        pipe.send(view._replace(x=tuple(view.x.shape)))
                        pipe.send_bytes(view.x.contiguous().numpy())
            except (EOFError, ConnectionError):
                raise
            except _PASSED_OVER as error:
                end = _failure(job, error)
            except Exception as error:
                end = error
            pipe.send(end)
    except (EOFError, ConnectionError):  # nobody wants any more
        pass


def _import_for(views):
    """What reading imports where it needs it: the time limit is for files."""
    with suppress(ImportError):  # the first file that needs it tells
        import av  # noqa: F401
        import numpy  # noqa: F401
        import PIL.Image  # noqa: F401
        if views.augmentation:
            import timm.data  # noqa: F401
            import torchvision.transforms  # noqa: F401


def _follow(sentinel):
    """End with the parent, however it ends and whatever the decoder is doing."""
    connection.wait([sentinel])
    os._exit(1)
