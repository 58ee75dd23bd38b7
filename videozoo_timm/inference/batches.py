"""Batches of views: which files are batched together, how they are started, and what becomes of them."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from ..video import Failure, Job, View
from .reporting import Reporter
from .running import Launched, Runner


class Group(NamedTuple):
    """Files whose views are batched together.

    Attributes:
        index: Place among the groups.
        files: Indices of the files.
        skip: Views of the first file that are done already.
        number: Batches that are done already.
    """

    index: int  # pyright: ignore[reportIncompatibleMethodOverride]  # hides tuple.index, which nobody calls
    files: list[int]
    skip: int = 0
    number: int = 0


class RowBatch(NamedTuple):
    """The output of a model for a batch of views.

    Attributes:
        group: Index of the group.
        number: Position among the batches of the group.
        last: Whether it is the last batch of the group.
        files: Which file each row is of.
        starts: Start of each row's window, in seconds from the first frame.
        ends: End of each row's window.
        times: The time that each row stands for.
        durations: Of each row's video, in seconds.
        padded: Fraction of each row's frames that repeat the first or the last one of the video.
        damaged: Fraction of each row's frames that are damaged or did not decode.
        clock_offsets: Presentation time of the first frame on the clock of each row's file.
        lost: Seconds at the end of each row's video that the file lacks.
        failed: The group's files that could not be read, or not to their end, or for which the model gives numbers that
            are not finite, with the reasons; as far as known. Their rows are no results.
        values: float32 [R, ...] on the CPU, one row per view.
    """

    group: int
    number: int
    last: bool
    files: list[int]
    starts: Sequence[float]
    ends: Sequence[float]
    times: Sequence[float]
    durations: Sequence[float]
    padded: Sequence[float]
    damaged: Sequence[float]
    clock_offsets: Sequence[float]
    lost: Sequence[float]
    failed: dict[int, str]
    values: torch.Tensor


@dataclass
class _Failures:
    """The files of a group that have failed, each for the first of its reasons, in the order of the batches."""

    paths: Sequence[str]
    reporter: Reporter
    reasons: dict[int, str] = field(default_factory=dict)
    told: set[int] = field(default_factory=set)

    def tell(self, file: int, reason: str) -> None:
        if file not in self.told:
            self.told.add(file)
            self.reporter.report(self.paths[file], reason)

    def note(self, file: int, reason: str) -> None:
        self.tell(file, reason)
        self.reasons.setdefault(file, reason)


@dataclass
class Started:
    """A batch that has been started, and what is known of it by then."""

    group: int
    number: int
    last: bool
    views: list[tuple[int, View]]
    unread: list[tuple[int, str]]  # files that failed since the batch before
    failures: _Failures
    batch: Launched

    def rows(
        self,
        finish: Callable[[torch.Tensor], torch.Tensor] | None,
        fault_of: Callable[[torch.Tensor, View], str | None],
    ) -> RowBatch:
        """Its rows, once the device has computed them; what failed by then is noted and told."""
        values = self.batch.values()
        if finish and self.views:
            values = finish(values).float()
        for file, reason in self.unread:
            self.failures.note(file, reason)
        if not values.isfinite().all():
            for (file, view), row in zip(self.views, values, strict=True):
                if fault := fault_of(row, view):
                    self.failures.note(file, f'{self.failures.paths[file]}: {fault}')
        views = [view for _, view in self.views]
        return RowBatch(
            self.group,
            self.number,
            self.last,
            files=[file for file, _ in self.views],
            starts=[view.start for view in views],
            ends=[view.end for view in views],
            times=[view.time for view in views],
            durations=[view.duration for view in views],
            padded=[view.padded for view in views],
            damaged=[view.damaged for view in views],
            clock_offsets=[view.clock_offset for view in views],
            lost=[view.lost for view in views],
            failed=dict(self.failures.reasons),
            values=values,
        )


def started_batches(
    runner: Runner,
    groups: Sequence[Group],
    loaded: Iterator[tuple[Job, View | Failure | None]],
    paths: Sequence[str],
    batch_size: int,
    reporter: Reporter,
) -> Iterator[Started]:
    """The batches of the groups, started in order; every group ends with a batch whose `last` is true."""
    for group in groups:
        number, to_come, failures = group.number, len(group.files), _Failures(paths, reporter)
        pending: list[tuple[int, View]] = []
        unread: list[tuple[int, str]] = []
        while to_come:
            job, item = next(loaded)
            if isinstance(item, View):
                pending.append((job.index, item._replace(x=runner.add(item.x))))
                reporter.progress(1 / item.total)
                if len(pending) == batch_size:
                    yield Started(group.index, number, False, pending, unread, failures, runner.start())
                    pending, unread, number = [], [], number + 1
                continue
            if isinstance(item, Failure):
                failures.tell(job.index, item.reason)
                unread.append((job.index, item.reason))
                reporter.progress(1)
            to_come -= 1
        yield Started(group.index, number, True, pending, unread, failures, runner.start())


def one_behind(started: Iterator[Started]) -> Iterator[Started]:
    """Each batch as soon as the next one that is not empty has been started, or the work has ended."""
    held: deque[Started] = deque()
    try:
        for batch in started:
            if batch.views:
                while held:
                    yield held.popleft()
            held.append(batch)
    except Exception:  # of a later batch: those before it are done
        yield from held
        raise
    yield from held
