"""An endless stream of training batches that can be entered at any place."""

import math
import os
import random
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from ..errors import UserError
from ..text import counted
from ..video import IN_THIS_PROCESS, Failure, Job, Reading, View, Views, is_image, load_views


class Batch(NamedTuple):
    """A batch of one process.

    Attributes:
        x: Clips [B, C, T, H, W] or images [B, C, H, W].
        files: The index of the file of each.
        number: Position among the batches of the run; the same in all processes.
    """

    x: torch.Tensor
    files: list[int]
    number: int


class Stream(Iterator[Batch]):
    """Batches of training views, epoch after epoch, each epoch in an order of its own.

    With `size` processes, the batches of all of them together are those of one process with batches `size` times as
    large, if every file can be read and a batch holds all views of its files. Files that cannot be read are skipped.

    Args:
        paths: Videos, or images, not both.
        views: Training views (`Views.augmentation`).
        batch_size: Views per batch.
        seed: Random seed of the order.
        rank: Index of this process.
        size: Number of processes.
        number: Batches that are done already.
        position: Files that this process is done with, and views of the next one.
        matched: Files of one name, in different folders, follow one another and have the same random views. They are in
            one batch if its number of files is a multiple of such a set.
        reading: How the files are read.
        report: Called with each file that cannot be read, and the reason.

    Raises:
        ValueError: Videos and images together, no files, or views without an augmentation; when iterated, if no file
            can be read.
    """

    def __init__(
        self,
        paths: Sequence[str],
        views: Views,
        batch_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        size: int = 1,
        number: int = 0,
        position: tuple[int, int] = (0, 0),
        matched: bool = False,
        reading: Reading = IN_THIS_PROCESS,
        report: Callable[[str, str], Any] = lambda path, reason: None,
    ) -> None:
        check_files(paths, batch_size, matched)
        if views.augmentation is None:
            raise ValueError('training takes random views: pass views with an augmentation')
        self.paths, self.batch_size, self.seed, self.rank, self.size = paths, batch_size, seed, rank, size
        self.number, self.report = number, report
        self.failed: dict[str, str] = {}
        sets: dict[str | int, list[int]] = {}  # of files that stay together, by what they have in common
        for k, path in enumerate(paths):
            sets.setdefault(os.path.basename(path) if matched else k, []).append(k)
        self._sets = list(sets.values())
        self._first_of_set = {file: files[0] for files in self._sets for file in files}
        self._remark = (
            '; from here on matched files are split between batches: remove this name from all classes'
            if matched
            else ''
        )
        self.repeats = views.augmentation.repeats
        self._files_per_batch = max(1, batch_size // self.repeats)
        self._done, self._within = position
        self._order = lru_cache(maxsize=4)(self._order_of)
        # A batch, and the file whose last view was taken: its end is not.
        self._loaded = load_views(self._jobs(), views, reading, ahead=math.ceil(batch_size / self.repeats) + 1)

    @property
    def position(self) -> tuple[int, int]:
        """Files that this process is done with, and views of the next one that it has taken."""
        return (self._done + 1, 0) if self._within == self.repeats else (self._done, self._within)

    def close(self) -> None:
        """Stop the processes that decode."""
        self._loaded.close()

    def __next__(self) -> Batch:
        x: list[torch.Tensor] = []
        files: list[int] = []
        in_vain = 0
        while len(x) < self.batch_size:
            job, item = next(self._loaded)
            if isinstance(item, View):
                x.append(item.x)
                files.append(self._file(job.index))
                self._within += 1
                in_vain = 0
                continue
            if isinstance(item, Failure):
                if job.path not in self.failed:
                    self.failed[job.path] = item.reason
                    self.report(job.path, item.reason + self._remark)
                in_vain += 1
                if in_vain > len(self.paths):
                    raise ValueError(
                        f'none of {counted(len(self.paths), "file")} can be read; the last one: {item.reason}'
                    )
            self._done, self._within = self._done + 1, 0
        self.number += 1
        return Batch(torch.stack(x), files, self.number - 1)

    def _jobs(self) -> Iterator[Job]:
        (done, skip), k = self.position, self.position[0]
        while True:
            turn, place = divmod(k, self._files_per_batch)
            ordinal = (turn * self.size + self.rank) * self._files_per_batch + place
            epoch, file = ordinal // len(self.paths), self._file(ordinal)
            view_seed = epoch * len(self.paths) + self._first_of_set[file]
            yield Job(ordinal, self.paths[file], skip if k == done else 0, view_seed)
            k += 1

    def _file(self, ordinal: int) -> int:
        epoch, place = divmod(ordinal, len(self.paths))
        return self._order(epoch)[place]

    def _order_of(self, epoch: int) -> list[int]:
        rng = random.Random(f'{self.seed} {epoch}')
        return [k for files in rng.sample(self._sets, len(self._sets)) for k in rng.sample(files, len(files))]


def check_files(paths: Sequence[str], batch_size: int, matched: bool = False) -> None:
    """Raise a ValueError unless batches can be made of these files."""
    if not paths:
        raise ValueError('there are no files to train on')
    if len({is_image(path) for path in paths}) > 1:
        raise ValueError('videos and images have different shapes: pass either videos or images')
    if batch_size < 1:
        raise ValueError(f'batch_size={batch_size}: must be at least 1')
    if matched and len({os.path.basename(path) for path in paths}) == len(paths):
        raise UserError(
            '{matched}: of {} files no two have the same name, as a/1.mp4 and b/1.mp4 have', len(paths), matched=True
        )
