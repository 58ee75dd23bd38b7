"""What a command says: results on standard output, everything else on standard error."""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..errors import Explained
from ..text import counted, printable
from .options import usable_cores

# What is told in a line; anything else is a fault of this package.
ERRORS = (ValueError, IndexError, OSError, RuntimeError, ImportError, FloatingPointError)


_LONG_RUN = 10.0  # seconds; the pace of shorter ones says little


def echo(text: Any = '') -> None:
    """Print a result, at once, as what follows may take long or fail."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(f'standard output: {error.strerror}') from error


# Parameters that are arguments, and those whose option has another name.
_ARGUMENTS = {'target': 'OUT'}
_FLAGS = {
    'auto_augment': 'aa',
    'folder': 'out',
    'last': 'keep',
    'start_over': 'force',
    'ch': 'channels',  # of a tokenizer, and these
    'embed_dim': 'code_dim',
    'resolution': 'img_size',
}


def flag(name: str, value: Any = None) -> str:
    """A parameter of the library as it is typed in a command."""
    if name in _ARGUMENTS:
        return _ARGUMENTS[name]
    word = f'--{_FLAGS.get(name, name).replace("_", "-")}'
    return word if value is None or value is True else f'{word} {value}'


def worded(error: Any) -> str:
    """An error's text, in which the parameters that it names are options of the command line."""
    return error.spelled(flag) if isinstance(error, Explained) else str(error)


def complain(message: Any) -> None:
    """Tell on standard error."""
    text = printable(f'videozoo: {worded(message)}', lines=True)
    if 'tqdm' in sys.modules:  # above a progress bar
        bar_class().write(text, file=sys.stderr)
    else:
        print(text, file=sys.stderr, flush=True)


def report(path: str, reason: Any) -> None:
    """Tell why a file is skipped."""
    complain(printable(reason))


class Losses:
    """Tells of videos of which a part is missing, and counts them."""

    number = 0

    def __call__(self, path: str, reason: str) -> None:
        self.number += 1
        report(path, reason)


def tell_padded(fractions: Sequence[float]) -> None:
    """Tell how many clips go on where their videos have ended, from the fraction of each that does."""
    if number := sum(fraction > 0 for fraction in fractions):
        complain(
            f'{number} of {counted(len(fractions), "clip")} reach beyond the ends of their videos, whose first or last '
            f'frame is repeated; a shorter --span takes less'
        )


def tell_pace(pace: Any) -> None:
    """Tell how fast a longer run went, and what would make it faster."""
    if pace.views == 0 or pace.seconds < _LONG_RUN:
        return
    waited = pace.waiting / pace.seconds
    text = f'{pace.views / pace.seconds:.3g} clips or images per second; {waited:.0%} of the time waiting for files'
    if waited > 0.5:
        more = pace.num_workers < usable_cores()
        text += '; more --num-workers would help' if more else '; all cores are decoding'
    complain(text)


def table(header: list[str], rows: list[list[str]]) -> None:
    every = [[printable(cell) for cell in row] for row in [*([header] if header else []), *rows]]
    widths = [max(len(row[i]) for row in every) for i in range(len(every[0]))]
    echo(
        '\n'.join(
            '  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in every
        )
    )


def with_interval(row: dict[str, Any], name: str) -> tuple[str, str]:
    """An accuracy and its interval, in percent."""
    low, high = (100 * row[f'{name}_{end}'] for end in ('low', 'high'))
    return f'{100 * row[name]:.1f}%', f'{low:.1f} to {high:.1f}%'


def bar_class() -> Any:
    """The class tqdm with a lock for threads; its own may start a Python process in the current folder."""
    from tqdm import tqdm

    if not hasattr(tqdm, '_lock'):
        tqdm.set_lock(threading.RLock())
    return tqdm


def hidden(yes: bool) -> dict[str, bool]:
    """The option of a bar that is not shown. Without it, a bar follows `TQDM_DISABLE`."""
    return {'disable': True} if yes else {}


@contextmanager
def progress(total: int, what: str = 'files', rank: int = 0, size: int = 1) -> Iterator[Callable[[float], None]]:
    """A progress bar with rate and time left; in a log, a line every half minute.

    Of several processes the first one shows its own progress for that of all.
    """
    tqdm = bar_class()
    form = '{l_bar}{bar}| {n:.4g}/{total} [{elapsed}<{remaining}, {rate_fmt}]'
    interval = 0.1 if sys.stderr.isatty() else 30
    with tqdm(total=total, unit=f' {what}', mininterval=interval, bar_format=form, **hidden(rank > 0)) as bar:

        def advance(number: float) -> None:
            bar.update(min(number * size, total - bar.n))

        yield advance


def exit_code(skipped: int, total: int, losses: Losses | None = None) -> int:
    """The exit code of a command that skipped some of its files, or lacks parts of them, which is told."""
    if skipped:
        complain(f'{skipped} of {counted(total, "file")} could not be read or gave no result')
    lost = losses.number if losses else 0
    if lost:
        complain(
            f'{lost} of {counted(total, "file")} lack{"s" * (lost == 1)} a part; what was made of the rest is there'
        )
    return 2 if skipped == total else 1 if skipped or lost else 0
