"""The views of many files, decoded ahead of the model in processes of their own."""
import atexit
import os
import pickle
import queue
import signal
import subprocess
import threading
from collections.abc import Iterable, Iterator, Sized
from contextlib import closing, suppress

import torch

from ..processes import start_python
from .views import Failure, Job, View, Views, failure_of, read_views

# A terminal or a batch system sends them to all processes; what is to be done about them the parent decides.
_FOR_THE_PARENT = [
    getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGHUP') if hasattr(signal, name)]


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
            They import nothing from the current folder, and not the script that asks for them.
        time_limit: Seconds that a file may take until its first view, and from each to the next.
        num_threads: Of the decoder, in each process.

    Yields:
        (job, view) for each view, and at the end of each file (job, None) or (job, Failure).

    Raises:
        ImportError: A library is missing, which is no file's fault.
        RuntimeError: No process can be started.
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
        except ImportError:
            raise
        except Exception as error:
            end = failure_of(job.path, error)
        yield job, end


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
        self.arguments, self.time_limit = arguments, min(time_limit, threading.TIMEOUT_MAX)
        self.process, self.is_late = None, False
        self.starting = threading.Lock()

    def run(self):
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
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):
                    pipe.close()

    def _wait_for(self, attempt, *args):
        while not self.closed.is_set():
            if attempt(*args):
                return True
        return False

    def _load(self, job):
        if self.process is not None and self.process.poll() is not None:  # it died after the last file, not of this one
            self.stop()
        if self.process is None and not self._start():
            return
        process = self.process
        try:
            _send(process.stdin, job)
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
                yield Failure(f'{job.path}: gave nothing for {self.time_limit:g} s; left out (--time-limit)')
            elif has_ended:
                yield Failure(f'{job.path}: the decoder crashed (exit code {code})')
            else:
                yield failure_of(job.path, error)

    def _receive(self, process):
        """What a process sends next; it is killed if that takes too long."""
        timer = threading.Timer(self.time_limit, self._give_up, [process])
        timer.daemon = True
        timer.start()
        try:
            item = pickle.load(process.stdout)
            if isinstance(item, View):
                x = torch.empty(item.x, dtype=torch.float32)
                if process.stdout.readinto(memoryview(x.numpy()).cast('B')) < x.nbytes:
                    raise EOFError
                item = item._replace(x=x)
            return item
        finally:
            timer.cancel()

    def _give_up(self, process):
        self.is_late = True
        process.kill()

    def _start(self):
        """Start a process and wait until it has imported what it needs, as the time limit is for files; or closed."""
        with self.starting:
            if self.closed.is_set():
                return False
            process = self.process = start_python(
                'videozoo_timm.video.workers:decode', stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.is_late = False
        try:
            _send(process.stdin, self.arguments)
            pickle.load(process.stdout)
        except (EOFError, OSError, ValueError) as error:  # a ValueError if it has been stopped
            if self.closed.is_set():
                return False
            raise RuntimeError(
                f'a decoding process did not start (exit code {_exit_code(process)}; its message is above)') from error
        return True


def _exit_code(process):
    """Of a process that is about to end."""
    with suppress(subprocess.TimeoutExpired):
        return process.wait(5)


def _acquire(places):
    return places.acquire(timeout=0.2)


def _put(results, item):
    try:
        results.put(item, timeout=0.2)
    except queue.Full:
        return False
    return True


def _send(pipe, item, data=b''):
    head = pickle.dumps(item)  # first, as half an item could not be followed by another
    pipe.write(head)
    pipe.write(data)
    pipe.flush()


def decode() -> None:
    """What a decoding process does: files come on its standard input, and their views go to its standard output."""
    for number in _FOR_THE_PARENT:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(os, 'nice'):
        # Where model and decoders share the cores, the model's threads wait for each other, and lose far more by an
        # interruption than a decoder does.
        os.nice(15)
    files, answers, jobs = os.fdopen(os.dup(0), 'rb'), os.fdopen(os.dup(1), 'wb'), queue.SimpleQueue()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what a library prints
    views, num_threads = pickle.load(files)
    threading.Thread(target=_listen, args=(files, jobs), daemon=True).start()
    torch.set_num_threads(1)
    _import_for(views)
    _answer(answers, 'ready')
    while True:
        job, end = jobs.get(), None
        try:
            with closing(read_views(job, views, num_threads)) as loaded:
                for view in loaded:
                    data = memoryview(view.x.contiguous().numpy()).cast('B')
                    _answer(answers, view._replace(x=tuple(view.x.shape)), data)
        except ImportError as error:
            end = ImportError(str(error))
        except Exception as error:
            end = failure_of(job.path, error)
        _answer(answers, end)


def _answer(pipe, item, data=b''):
    try:
        _send(pipe, item, data)
    except OSError:  # nobody wants any more
        os._exit(1)


def _listen(files, jobs):
    """Take the files; end with the parent, however it ends and whatever the decoder is doing."""
    try:
        while True:
            jobs.put(pickle.load(files))
    finally:
        os._exit(1)


def _import_for(views):
    """What reading imports where it needs it: the time limit is for files."""
    with suppress(ImportError):  # the first file that needs it tells
        import av  # noqa: F401
        import numpy  # noqa: F401
        import PIL.Image  # noqa: F401
        if views.augmentation:
            import timm.data  # noqa: F401
            import torchvision.transforms  # noqa: F401
