"""Signals that end a run between two steps, in a checkpoint."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any


class Stopped(KeyboardInterrupt):
    """A signal stopped the run; its progress is in a checkpoint."""


class Stop:
    """Whether a run is to stop.

    Attributes:
        now: Whether a signal raises `Stopped` at once, instead of after the step.
        noted: Whether this process has received a signal.
        asked: Whether any process has, as all of them agreed on after the last step.
        number: The number of the signal, unless it is SIGINT.
        failed: Files that could not be read in any process.
        counts: Sum over the processes of the number of these files.
    """

    now = False
    noted = asked = False
    number: tuple[int, ...] = ()
    failed: frozenset[str] = frozenset()
    counts = 0

    @contextmanager
    def at_once(self, accelerator: Any) -> Iterator[None]:
        """Within, a signal raises `Stopped`. Several processes wait for each other instead, and continue to the end."""
        self.now = accelerator.num_processes == 1
        try:
            if self.now and self.noted:
                raise Stopped(*self.number)
            yield
        finally:
            self.now = False


@contextmanager
def signals(say: Callable[[str], Any]) -> Iterator[Stop]:
    """Note SIGINT, SIGTERM and SIGHUP, so that a step is always completed; the second Ctrl-C interrupts at once.

    Args:
        say: Called when the first signal comes.
    """
    stop = Stop()

    def note(number: int, frame: FrameType | None) -> None:
        if stop.noted and number == signal.SIGINT:
            raise KeyboardInterrupt
        # A launcher passes on the SIGTERM that the batch system has sent to all.
        is_first, stop.noted = not stop.noted, True
        stop.number = () if number == signal.SIGINT else (number,)
        if is_first:
            with suppress(RuntimeError):  # it came while something else was being said
                say(
                    'stopping after this step; a second Ctrl-C stops at once and loses the steps since the last '
                    'checkpoint'
                )
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
