"""The views of many files, decoded ahead of the model in processes of their own."""

import atexit
import math
import os
import pickle
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Sized
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import IO, Any

import torch

from ..processes import start_python
from .pixels import Pixels
from .transport import Head, Slots, receive, shared_slots
from .views import Failure, Job, View, Views, failure_of, read_views

# A terminal or a batch system sends them to all processes, but the parent decides how to react.
_FOR_THE_PARENT = [getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGHUP') if hasattr(signal, name)]

_WATCH_EVERY = 0.1  # seconds

_Item = View | Failure | None
_Loaded = Generator[tuple[Job, _Item], None, None]


@dataclass(frozen=True)
class Reading:
    """How files are read ahead of the model.

    Attributes:
        num_workers: Processes that decode. With 0 this process decodes when the next view is asked for, without a time
            limit. Worker processes import nothing from the current folder, and not the script that asks for them.
        time_limit: Seconds that a file may take until its first view, and from each view to the next.
        num_threads: Threads of the decoder, in each process.
        color: As in `Pixels`.
        background: As in `Pixels`.

    Raises:
        ValueError: A negative number of workers, a time limit that is not above 0, or as `Pixels`.
    """

    num_workers: int = 0
    time_limit: float = 60.0
    num_threads: int = 1
    color: str = 'file'
    background: str | Sequence[int] = 'black'

    def __post_init__(self) -> None:
        if self.num_workers < 0:
            raise ValueError(f'num_workers={self.num_workers}: must not be negative')
        if not self.time_limit > 0:
            raise ValueError(f'time_limit={self.time_limit}: must be more than 0 seconds')
        object.__setattr__(self, 'background', self.pixels.background)

    @property
    def pixels(self) -> Pixels:
        """How frames become RGB pixels."""
        return Pixels(self.color, self.background)


IN_THIS_PROCESS = Reading()


def load_views(
    jobs: Iterable[Job], views: Views, reading: Reading = IN_THIS_PROCESS, *, ahead: int = 0, **fields: Any
) -> _Loaded:
    """The views of files, in the files' order, decoded ahead by worker processes.

    A file that cannot be read, crashes its worker or hangs does not affect the others: its worker is replaced.

    Args:
        jobs: The files; there may be no end of them.
        views: Which views of each.
        reading: Worker processes, time limit, threads and colors.
        ahead: Files that are decoded before they are asked for, at least two for each worker; a batch is best.
        **fields: Fields of `reading` to replace: `num_workers`, `time_limit`, `num_threads`, `color`, `background`.

    Yields:
        (job, view) for each view, and at the end of each file (job, None) or (job, Failure).

    Raises:
        ImportError: A library is missing.
        RuntimeError: No process can be started.
        ValueError: A field of `reading` has an invalid value.
    """
    reading = replace(reading, **fields)
    num_workers = min(reading.num_workers, len(jobs)) if isinstance(jobs, Sized) else reading.num_workers
    if num_workers == 0:
        return _load_here(jobs, views, reading)
    return _load_ahead(jobs, views, replace(reading, num_workers=num_workers), max(ahead, 2 * num_workers))


def _load_here(jobs: Iterable[Job], views: Views, reading: Reading) -> _Loaded:
    for job in jobs:
        end = None
        try:
            for view in read_views(job, views, reading.num_threads, reading.pixels):
                yield job, view
        except ImportError:
            raise
        except Exception as error:
            end = failure_of(job.path, error)
        yield job, end


def _load_ahead(jobs: Iterable[Job], views: Views, reading: Reading, ahead: int) -> _Loaded:
    # Bounds the memory: at most so many files are being decoded or wait, each with a bounded number of views.
    places = threading.Semaphore(ahead)
    queues, closed = _Queues(jobs, max(2, views.augmentation.repeats if views.augmentation else 0)), threading.Event()
    workers = [
        _Worker(
            queues,
            places,
            closed,
            (views, reading.num_threads, reading.pixels),
            reading.time_limit,
            f'videozoo decoder {i}',
        )
        for i in range(reading.num_workers)
    ]

    def close() -> None:
        closed.set()
        for worker in workers:
            worker.stop()
        for worker in workers:
            if worker.ident is not None:
                worker.join(5)

    def watch() -> None:
        while not closed.wait(_WATCH_EVERY):
            for worker in workers:
                worker.watch()

    # Before the interpreter freezes the threads, where the caller leaves without having closed this generator.
    atexit.register(close)
    try:
        for worker in workers:
            worker.start()
        threading.Thread(target=watch, name='videozoo watch', daemon=True).start()
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


_Results = queue.Queue[_Item | Exception]


class _Queues:
    """Files for the workers, and the results of those that they have taken, in the files' order."""

    def __init__(self, jobs: Iterable[Job], num_views: int) -> None:
        self.jobs, self.lock, self.num_views = iter(jobs), threading.Lock(), num_views
        self.taken: queue.Queue[tuple[Job | None, _Results]] = queue.Queue()

    def take(self) -> tuple[Job | None, _Results]:
        with self.lock:
            job, results = next(self.jobs, None), _Results(maxsize=self.num_views)
            self.taken.put((job, results))
        return job, results


class _Worker(threading.Thread):
    """Hands one file after the other to a process of its own, and replaces a process that dies or hangs."""

    def __init__(
        self,
        queues: _Queues,
        places: threading.Semaphore,
        closed: threading.Event,
        arguments: tuple[Views, int, Pixels],
        time_limit: float,
        name: str,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.queues, self.places, self.closed = queues, places, closed
        self.arguments, self.time_limit = arguments, min(time_limit, threading.TIMEOUT_MAX)
        self.process: subprocess.Popen[bytes] | None = None
        self.slots: Slots | None = None
        self.is_late = False
        self.deadline = math.inf  # of what the process sends next
        self.starting, self.watching = threading.Lock(), threading.Lock()

    def run(self) -> None:
        if hasattr(signal, 'pthread_sigmask'):  # not on Windows; a process inherits it from the thread that starts it
            signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_PARENT)
        try:
            while self._wait_for(_acquire, self.places):
                job, results = self.queues.take()
                if job is None:
                    return
                try:
                    for item in self._load(job):
                        if not self._wait_for(_put, results, item):
                            return
                except Exception as error:  # not the file's fault, so the caller gets it
                    self._wait_for(_put, results, error)
                    return
        finally:
            self.stop()

    def stop(self) -> None:
        with self.starting:
            process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):
                    if pipe is not None:
                        pipe.close()

    def _wait_for(self, attempt: Callable[..., bool], *args: Any) -> bool:
        while not self.closed.is_set():
            if attempt(*args):
                return True
        return False

    def _load(self, job: Job) -> Iterator[_Item]:
        # It died after the last file, not of this one.
        if self.process is not None and (self.is_late or self.process.poll() is not None):
            self.stop()
        process = self.process or self._start()
        if process is None:
            return
        try:
            _send(_input_of(process), job)
            while True:
                item = self._receive(process)
                yield item
                if not isinstance(item, View):
                    return
        except Exception as error:
            if self.closed.is_set():
                return
            has_ended = isinstance(error, (EOFError, OSError, pickle.UnpicklingError))
            code = _exit_code(process) if has_ended else None
            self.stop()
            if self.is_late:
                yield Failure(f'{job.path}: gave nothing for {self.time_limit:g} s, the time limit; skipped')
            elif has_ended:
                yield Failure(f'{job.path}: the decoder crashed (exit code {code})')
            else:
                yield failure_of(job.path, error)

    def _receive(self, process: subprocess.Popen[bytes]) -> _Item:
        """What a process sends next; it is killed if that takes too long."""
        self.deadline = time.monotonic() + self.time_limit
        try:
            pipe = _output_of(process)
            item = pickle.load(pipe)
            return receive(item, pipe, self.slots) if isinstance(item, Head) else item
        finally:
            with self.watching:
                self.deadline = math.inf

    def watch(self) -> None:
        """Kill the process if it is late."""
        with self.watching:
            if time.monotonic() > self.deadline and self.process is not None:
                self.is_late = True
                self.process.kill()

    def _start(self) -> subprocess.Popen[bytes] | None:
        """Start a process and wait for its imports, as the time limit is for files; None if the loading has ended."""
        with self.starting:
            if self.closed.is_set():
                return None
            with shared_slots(self.arguments[0]) as (slots, shared):
                process = self.process = start_python(
                    'videozoo_timm.video.workers:decode',
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    pass_fds=[shared.fd] if shared else [],
                )
            self.slots = slots
        self.is_late = False
        try:
            _send(_input_of(process), (*self.arguments, shared))
            pickle.load(_output_of(process))
        except (EOFError, OSError, ValueError) as error:  # a ValueError if it has been stopped
            if self.closed.is_set():
                return None
            raise RuntimeError(
                f'a decoding process did not start (exit code {_exit_code(process)}; its message is above)'
            ) from error
        return process


def _input_of(process: subprocess.Popen[bytes]) -> IO[bytes]:
    return process.stdin  # pyright: ignore[reportReturnType]  # None only of processes started without pipes


def _output_of(process: subprocess.Popen[bytes]) -> Any:
    return process.stdout  # a BufferedReader, which typeshed knows as IO without `readinto`


def _exit_code(process: subprocess.Popen[bytes]) -> int | None:
    """Of a process that is about to end."""
    with suppress(subprocess.TimeoutExpired):
        return process.wait(5)
    return None


def _acquire(places: threading.Semaphore) -> bool:
    return places.acquire(timeout=0.2)


def _put(results: _Results, item: _Item | Exception) -> bool:
    try:
        results.put(item, timeout=0.2)
    except queue.Full:
        return False
    return True


def _send(pipe: IO[bytes], item: Any, data: bytes | memoryview = b'') -> None:
    head = pickle.dumps(item)  # first, as half an item could not be followed by another
    pipe.write(head)
    pipe.write(data)
    pipe.flush()


def decode() -> None:
    """The main function of a decoding process: jobs come on its standard input, views go to its standard output."""
    for number in _FOR_THE_PARENT:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(os, 'nice'):
        # Where model and decoders share the cores, the model's threads wait for each other, and lose far more by an
        # interruption than a decoder does.
        os.nice(15)
    files, answers, jobs = os.fdopen(os.dup(0), 'rb'), os.fdopen(os.dup(1), 'wb'), queue.SimpleQueue()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for libraries that print
    views, num_threads, pixels, shared = pickle.load(files)
    slots = shared and shared.open()
    threading.Thread(target=_listen, args=(files, jobs), daemon=True).start()
    torch.set_num_threads(1)
    _import_for(views)
    _answer(answers, 'ready')
    while True:
        job, end = jobs.get(), None
        try:
            with closing(read_views(job, views, num_threads, pixels)) as loaded:
                for view in loaded:
                    x = view.x.contiguous()
                    slot = slots.put(x) if slots else None
                    data = b'' if slot is not None else x.numpy().data.cast('B')
                    _answer(answers, Head(tuple(x.shape), view[1:], slot), data)
        except ImportError as error:
            end = ImportError(str(error))
        except Exception as error:
            end = failure_of(job.path, error)
        _answer(answers, end)


def _answer(pipe: IO[bytes], item: Any, data: bytes | memoryview = b'') -> None:
    try:
        _send(pipe, item, data)
    except OSError:  # the parent has closed the pipe
        os._exit(1)


def _listen(files: IO[bytes], jobs: queue.SimpleQueue[Job]) -> None:
    """Receive the jobs; end this process with its parent, even while the decoder is busy."""
    try:
        while True:
            jobs.put(pickle.load(files))
    finally:
        os._exit(1)


def _import_for(views: Views) -> None:
    """Import in advance what reading files needs, as the time limit is for files."""
    with suppress(ImportError):  # the first file that needs it raises it
        import av  # noqa: F401
        import numpy  # noqa: F401
        import PIL.Image  # noqa: F401

        if views.augmentation:
            import timm.data  # noqa: F401
            import torchvision.transforms  # noqa: F401
