"""The files that the analyses take, and what they say of those that cannot be read."""

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from ..inference.reporting import Reporter
from ..synthetic import is_drawn
from ..text import printable
from ..video import find_media

_logger = logging.getLogger(__name__)


def listed(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[str]:
    """The files that are meant: of a folder, or of a set of synthetic videos, those in it.

    A list keeps files that do not exist: they are reported one by one, as others are that cannot be read.

    Raises:
        FileNotFoundError: The one path that is given does not exist.
        ValueError: There are none.
    """
    if isinstance(paths, (str, os.PathLike)):
        files = find_media(paths)
    else:
        given = list(paths)
        files = [file for path in given for file in (find_media(path) if _is_folder(path) else [path])]
        paths = f'a list of {len(given)}'
    if not files:
        raise ValueError(f'no files: there are no videos or images in {os.fspath(paths)}')
    return [os.fspath(file) for file in files]


def warn_of(path: str, reason: str) -> None:
    """What is done about a file that cannot be read, or not whole, unless the caller has another way to tell."""
    _logger.warning('%s', printable(reason))


WARNING = Reporter(report=warn_of, lose=warn_of)


def none_read(number: int, reasons: Iterable[str], folder: str = '') -> str:
    """The words for files of which none could be read, with the first reasons."""
    reasons = list(dict.fromkeys(reasons))
    shown = '; '.join(reasons[:3]) + (f'; and {len(reasons) - 3} more' if len(reasons) > 3 else '')
    return f'none of {number} files{f" in {folder}" if folder else ""} could be read: {shown}'


def _is_folder(path: str | os.PathLike[str]) -> bool:
    return is_drawn(path) or Path(path).is_dir()
