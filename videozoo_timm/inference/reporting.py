"""Reporting the progress of long work."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ..video import Reading


def _ignore(*_: Any) -> None:
    pass


@dataclass(frozen=True)
class Pace:
    """How fast views went through a model, and what that waited for.

    Attributes:
        views: Number of views, clips or images.
        seconds: Time from the first request for a view to the last result.
        waiting: Seconds of these in which the model waited for a view.
        num_workers: Processes that decoded.
    """

    views: int
    seconds: float
    waiting: float
    num_workers: int


@dataclass(frozen=True)
class Reporter:
    """Functions that are called during long work; by default they do nothing.

    Attributes:
        progress: Of work on files: called with the number of files just finished, or the fraction of one. Of training:
            called with the step just finished, and the new row of the log (empty between rows).
        report: Called with the path of each file that cannot be read, and the reason.
        lose: Called with the path of each video of which a part is missing (its end is cut off, or frames did not
            decode), and what.
        say: Called with remarks, for instance that an unfinished run continues or that a signal stops it.
        pace: Called at the end with the `Pace` of this process.
    """

    progress: Callable[..., Any] = _ignore
    report: Callable[[str, str], Any] = _ignore
    say: Callable[[str], Any] = _ignore
    lose: Callable[[str, str], Any] = _ignore
    pace: Callable[[Pace], Any] = _ignore


SILENT = Reporter()


def with_fields(reading: Reading, reporter: Reporter, values: Mapping[str, Any]) -> tuple[Reading, Reporter]:
    """Replace fields of the two records by name.

    Args:
        reading: How files are read.
        reporter: How progress is reported.
        values: By the names of fields of either record.

    Raises:
        TypeError: A name is no field of either record.
        ValueError: A value that `reading` cannot have.
    """
    names, others = ({field.name for field in fields(record)} for record in (Reading, Reporter))
    for name in values.keys() - names - others:
        near = difflib.get_close_matches(name, [*names, *others], n=1, cutoff=0.5)
        hint = f'did you mean {near[0]!r}? ' if near else ''
        raise TypeError(f'no option {name!r}; {hint}there are {sorted(names | others)} beside those of the function')
    return (
        replace(reading, **{name: value for name, value in values.items() if name in names}),
        replace(reporter, **{name: value for name, value in values.items() if name not in names}),
    )
