"""What is missing of videos that could be read: ends that are cut off, frames that did not decode."""

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from ..text import counted
from ..video import View
from .pipeline import RowBatch

__all__ = ['loss_of_view', 'losses_of']


def losses_of(
    batches: Iterable[RowBatch],
    paths: Sequence[str],
    lacks: Callable[[str, float, float], str] = lambda path, duration, clock_offset: '',
) -> list[tuple[str, str]]:
    """The files of which a part is missing, with what it is.

    Args:
        batches: All rows of the files, or of some of them; those of a file follow one another.
        paths: All files.
        lacks: What else of a file is missing, in words, by its path, its duration and its `clock_offset`, in seconds.
    """
    rows = (
        row
        for batch in batches
        for row in zip(batch.files, batch.lost, batch.durations, batch.damaged, batch.clock_offsets, strict=True)
    )
    told: dict[int, str] = {}
    for file, group in groupby(rows, key=lambda row: row[0]):
        of_file = [row[1:] for row in group]
        _, duration, _, clock_offset = of_file[0]
        told[file] = _in_words(paths[file], of_file, lacks(paths[file], duration, clock_offset))
    return [(paths[file], told[file]) for file in sorted(told) if told[file]]


def loss_of_view(path: str, view: View) -> str:
    """What is missing of a file of which this is the only view, in words; nothing if it is whole."""
    return _in_words(path, [(view.lost, view.duration, view.damaged, view.clock_offset)])


def _in_words(path: str, rows: Sequence[tuple[float, float, float, float]], lacks: str = '') -> str:
    lost, duration, _, _ = rows[0]
    parts = (
        [f'cut off: its header says {lost + duration:.1f} s, its pictures end after {duration:.1f} s'] if lost else []
    )
    if damaged := sum(damaged > 0 for _, _, damaged, _ in rows):
        parts.append(f'frames of {damaged} of {counted(len(rows), "clip")} are damaged or did not decode')
    parts += [lacks] if lacks else []
    return f'{path}: {"; ".join(parts)}' if parts else ''
