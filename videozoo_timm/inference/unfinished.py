"""Work on many files that can be interrupted: what a killed run has done is kept, and the same call goes on from there.

The rows are collected in a `Journal` beside the result, by one process or a team of them.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..text import counted
from ..video import VideoError
from ..video.finding import is_sequence, split_sequence
from .journal import Journal, remaining
from .pipeline import Group, ProcessGroup, RowBatch
from .reporting import Reporter

__all__ = ['resumed', 'state_of']

_logger = logging.getLogger(__name__)


@contextmanager
def resumed(
    journal: Journal,
    out: Path,
    groups: Sequence[Group],
    batches_of: Callable[[list[Group]], Iterable[RowBatch]],
    team: ProcessGroup,
    reporter: Reporter,
    start_over: bool = False,
    begin: Callable[[], None] = lambda: None,
    keep: bool = False,
) -> Iterator[list[RowBatch] | None]:
    """Do what is left of a run. Within, all its batches are there, mapped from the journal, which goes at the end.

    The journal stays if writing the result fails, and goes if there are no rows for one (a `VideoError`).

    Args:
        journal: Of this run.
        out: The result, for messages.
        groups: All work of the run.
        batches_of: Does the work of groups.
        team: The processes that share it.
        reporter: Its `say` is called if an unfinished run continues.
        start_over: Throw away what an unfinished run has left.
        begin: Called in the first process once the journal is its own.
        keep: Leave the journal: of a part of a longer run, which is not done again if that is killed.

    Yields:
        The batches; None in all processes of a team but the first.

    Raises:
        OSError: The disk is full, or rows were lost.
        ValueError: The journal is of another run, in words.
    """
    number = sum(len(group.files) for group in groups)
    try:
        team.together(lambda: journal.open(start_over) if team.is_main else None)
        if team.is_main:
            begin()
        if team.is_main and journal.goes_on:
            reporter.say(f'going on with the unfinished run in {journal.folder}')
        todo = remaining(groups, journal.batches(groups, mend=team.is_main))
        if team.is_main and journal.damaged:
            _logger.warning(
                '%s: %d %s of an unfinished run %s damaged and %s computed again',
                out,
                journal.damaged,
                *(('batch', 'was', 'is') if journal.damaged == 1 else ('batches', 'were', 'are')),
            )
        reporter.progress((number - sum(len(group.files) for group in todo)) / team.size)
        team.wait()  # nobody writes before all have read
        for batch in batches_of(todo[team.rank :: team.size]):
            journal.add(batch)
        journal.stop_writing()
        team.wait()
        if not team.is_main:
            yield None
            return
        done = journal.batches(groups)
        if lost := remaining(groups, done):
            raise OSError(
                f'{out}: rows of {counted(sum(len(group.files) for group in lost), "file")} were lost in '
                f'{journal.folder}; the same command computes them again'
            )
        try:
            yield done
        except VideoError:
            if not any(batch.files for batch in done):  # otherwise with other options the rows are there
                journal.remove()
            raise
        if not keep:
            journal.remove()
    finally:
        journal.close()


def state_of(path: str) -> list[Any]:
    """What tells a file, or a folder of numbered images, from another one of its name."""
    if is_sequence(path):
        return [path, _state_of_images(split_sequence(path)[0])]
    try:
        state = os.stat(path)
    except OSError:
        return [path]
    return [path, state.st_size, state.st_mtime_ns]


def _state_of_images(folder: Path) -> str:
    """A digest of their names, sizes and dates."""
    digest = hashlib.sha256()
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            state = entry.stat()
            digest.update(os.fsencode(f'{entry.name}/{state.st_size}/{state.st_mtime_ns}/'))
    return digest.hexdigest()
