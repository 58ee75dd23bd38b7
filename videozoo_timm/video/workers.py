"""The views of many files, decoded ahead of the model in processes of their own."""
import atexit
import os
import queue
import signal
import threading
from collections.abc import Iterable, Iterator, Sized
from contextlib import closing, contextmanager, suppress
from multiprocessing import connection, get_context, parent_process, resource_tracker

import torch

from .views import Failure, Job, View, Views, read_views


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
