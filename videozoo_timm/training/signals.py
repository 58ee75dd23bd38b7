"""Signals that end a run between two steps, in a checkpoint."""
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any


class Stopped(KeyboardInterrupt):
    """A signal came; what was done is in a checkpoint."""


class Stop:
    """What the processes agree on (`asked`, `failed`), and what this one has noted since (`noted`)."""
    now = False
    noted = asked = False
    number: tuple[int, ...] = ()
    failed: frozenset[str] = frozenset()
    counts = 0

    @contextmanager
    def at_once(self, accelerator: Any) -> Iterator[None]:
        """In here a signal raises `Stopped`. Several processes wait for each other instead, and go on to the end."""
        self.now = accelerator.num_processes == 1
        try:
            if self.now and self.noted:
                raise Stopped(*self.number)
            yield
        finally:
            self.now = False


@contextmanager
def signals(say: Callable[[str], Any]) -> Iterator[Stop]:
    """Notes SIGINT, SIGTERM and SIGHUP, so that a step is never left half-way; the second Ctrl-C interrupts at once."""
    stop = Stop()

    def note(number, frame):
        if stop.noted and number == signal.SIGINT:
            raise KeyboardInterrupt
        # A launcher passes on the SIGTERM that the batch system has sent to all.
        is_first, stop.noted = not stop.noted, True
        stop.number = () if number == signal.SIGINT else (number,)
        if is_first:
            with suppress(RuntimeError):  # it came while something else was being said
                say('stopping after this step; a second Ctrl-C ends at once, and loses the steps since the last '
                    'checkpoint')
        if stop.now:
            raise Stopped(*stop.number)

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, 'SIGHUP') and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as `nohup` has it
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
