"""What is missing of videos that could be read: ends that are cut off, frames that did not decode."""

from collections.abc import Callable, Iterable, Sequence

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
        batches: All rows of the files, or of some of them.
        paths: All files.
        lacks: What else of a file is missing, in words, by its path, its duration and its `clock_offset`, in seconds.
    """
    rows: dict[int, list[tuple[float, float, float]]] = {}
    offsets: dict[int, float] = {}
    for batch in batches:
        offsets.update(zip(batch.files, batch.clock_offsets, strict=True))
        for file, *row in zip(batch.files, batch.lost, batch.durations, batch.damaged, strict=True):
            rows.setdefault(file, []).append((row[0], row[1], row[2]))
    told = (
        (paths[file], _in_words(paths[file], rows[file], lacks(paths[file], rows[file][0][1], offsets[file])))
        for file in sorted(rows)
    )
    return [(path, reason) for path, reason in told if reason]


def loss_of_view(path: str, view: View) -> str:
    """What is missing of a file of which this is the only view, in words; nothing if it is whole."""
    return _in_words(path, [(view.lost, view.duration, view.damaged)])


def _in_words(path: str, rows: Sequence[tuple[float, float, float]], lacks: str = '') -> str:
    lost, duration, _ = rows[0]
    parts = (
        [f'cut off: its header says {lost + duration:.1f} s, its pictures end after {duration:.1f} s'] if lost else []
    )
    if damaged := sum(fraction > 0 for *_, fraction in rows):
        parts.append(f'frames of {damaged} of {counted(len(rows), "clip")} are damaged or did not decode')
    parts += [lacks] if lacks else []
    return f'{path}: {"; ".join(parts)}' if parts else ''
