"""Views on their way from a decoding process to its parent: through shared memory without a name, or through a pipe.

The memory is anonymous (`memfd_create`), so that it vanishes with the last process that maps it, however that ends, and
does not count as a file of /dev/shm. It is cut into slots of one view each. A slot whose flag is 0 belongs to the
decoding process, which fills it and raises the flag; the parent lowers the flag once no tensor shows the slot any more.
"""

import mmap
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import torch

from .views import View, Views

NUM_SLOTS = 6  # of a process; views beyond these, of a parent that lets them wait, go through the pipe
_FLAGS = mmap.PAGESIZE  # bytes before the first slot


class Head(NamedTuple):
    """A view without its pixels.

    Attributes:
        shape: Of its tensor.
        rest: Its other fields.
        slot: Where its pixels are; None if they follow in the pipe.
    """

    shape: tuple[int, ...]
    rest: tuple[Any, ...]
    slot: int | None


class Slots:
    """Shared memory for views of one size.

    Args:
        fd: File descriptor of the memory.
        num_bytes: Of one slot.
    """

    def __init__(self, fd: int, num_bytes: int) -> None:
        self.num_bytes = num_bytes
        self._map = mmap.mmap(fd, _FLAGS + NUM_SLOTS * num_bytes)

    def put(self, x: torch.Tensor) -> int | None:
        """Copy a tensor into a free slot; None if it has another size or all are taken."""
        if x.nbytes > self.num_bytes:
            return None
        slot = self._map.find(b'\0', 0, NUM_SLOTS)
        if slot < 0:
            return None
        self._array(slot, x.numel())[:] = x.numpy().ravel()
        self._map[slot] = 1
        return slot

    def get(self, slot: int, shape: tuple[int, ...]) -> torch.Tensor:
        """The tensor in a slot, not copied; the slot is free again when nothing refers to its memory."""
        array = self._array(slot, torch.Size(shape).numel())
        weakref.finalize(array, self._map.__setitem__, slot, 0).atexit = False
        return torch.from_numpy(array).view(shape)

    def _array(self, slot: int, length: int) -> Any:
        import numpy as np

        if not (0 <= slot < NUM_SLOTS and 0 <= 4 * length <= self.num_bytes):
            raise ValueError(f'no slot {slot} of {length} numbers')
        return np.frombuffer(self._map, np.float32, length, _FLAGS + slot * self.num_bytes)


class Shared(NamedTuple):
    """Shared memory, as one process tells another of it.

    Attributes:
        fd: File descriptor, which the other inherits.
        num_bytes: Of one slot.
    """

    fd: int
    num_bytes: int

    def open(self) -> Slots:
        """Map it; the file descriptor is needed no more."""
        try:
            return Slots(self.fd, self.num_bytes)
        finally:
            os.close(self.fd)


@contextmanager
def shared_slots(views: Views) -> Iterator[tuple[Slots | None, Shared | None]]:
    """New shared memory for a process that is started within; nothing where a pipe must do.

    That is where the views differ in size, or the system has no such memory (macOS, Windows), or not as much of it
    (`ulimit`).
    """
    shared = None if views.whole else _allocate(4 * 3 * views.sampling.num_frames * views.size**2)
    if shared is None:
        yield None, None
        return
    try:
        slots = None
        with suppress(OSError):
            slots = Slots(*shared)
        yield slots, slots and shared
    finally:
        os.close(shared.fd)


def _allocate(num_bytes: int) -> Shared | None:
    if not hasattr(os, 'memfd_create'):
        return None
    import fcntl

    num_bytes += -num_bytes % mmap.PAGESIZE
    try:
        fd = os.memfd_create('videozoo', os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError:  # a sandbox forbids it
        return None
    try:
        os.ftruncate(fd, _FLAGS + NUM_SLOTS * num_bytes)
        # A decoder that a crafted file has taken over cannot make the parent touch memory that is gone.
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except OSError:  # the size of files is limited (`ulimit -f`)
        os.close(fd)
        return None
    return Shared(fd, num_bytes)


def receive(head: Head, pipe: Any, slots: Slots | None) -> View:
    """The view that a head announces.

    Raises:
        EOFError: The pipe ends before its pixels do.
        ValueError: There is no such slot.
    """
    if head.slot is None:
        x = torch.empty(head.shape, dtype=torch.float32)
        if pipe.readinto(x.numpy().data.cast('B')) < x.nbytes:
            raise EOFError
    elif slots is None:
        raise ValueError('a slot without shared memory')
    else:
        x = slots.get(head.slot, head.shape)
    return View(x, *head.rest)
