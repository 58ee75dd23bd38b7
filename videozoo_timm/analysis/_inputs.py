"""The files that the analyses take, and what they say of those that cannot be read."""

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import UserError
from ..inference.checks import NOT_FINITE
from ..inference.reporting import Reporter
from ..paths import as_path
from ..text import counted, printable
from ..video import Times, find_media, is_image
from .stimulus_tables import At, Manifest, TimesOfFiles, read_manifest, times_of

_logger = logging.getLogger(__name__)


Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


def listed(paths: Paths) -> list[str]:
    """The files that are meant: of a folder, a pattern or a set of synthetic videos, those that it stands for.

    A list keeps files that do not exist: they are reported one by one, as others are that cannot be read.

    Raises:
        FileNotFoundError: The one path that is given does not exist.
        TypeError: Something that is given is no path.
        ValueError: There are none.
    """
    if isinstance(paths, (str, bytes, os.PathLike)) or not isinstance(paths, Iterable):
        paths = as_path(paths)
        files = find_media(paths)
    else:
        given = list(paths)
        files = [file for path in given for file in _files_of(path)]
        paths = f'the {len(given)} paths' if given else 'an empty list'
    if not files:
        raise ValueError(f'no files: there are no videos or images in {os.fspath(paths)}')
    return [os.fspath(file) for file in files]


@dataclass
class Stimuli:
    """The files that features are wanted of.

    Attributes:
        files: Their paths.
        ids: Their identifiers in somebody else's list.
        at: When the rows of each stand, if somebody else has set that.
        left_out: What is wanted and not there, with the reason.
        extra: Files that the list does not have.
        settings: What tells this list and these times from others.
    """

    files: list[str]
    ids: list[str] | None = None
    at: TimesOfFiles | None = None
    left_out: list[tuple[str, str]] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def times(self) -> Mapping[str, Times] | None:
        """When the rows of each file stand, as `at`."""
        return None if self.at is None else self.at.of


def stimuli_of(
    paths: Paths,
    manifest: Manifest | str | os.PathLike[str] | None = None,
    at: At | TimesOfFiles | None = None,
    on_file_clock: bool = False,
) -> Stimuli:
    """The files that features are wanted of; arguments as of `embed`.

    Raises:
        ValueError: As `listed`, `read_manifest` and `times_of`; or times of images.
    """
    if manifest is None:
        stimuli = Stimuli(listed(paths))
    else:
        if not isinstance(manifest, Manifest):
            manifest = read_manifest(manifest, [paths] if isinstance(paths, (str, os.PathLike)) else paths)
        given = list(manifest.files), list(manifest.ids), None, list(manifest.missing), manifest.extra
        stimuli = Stimuli(*given, settings=dict(manifest=manifest.told))
    if at is None:
        return stimuli
    if images := [file for file in stimuli.files if is_image(file)]:
        raise UserError('{at} is for videos: {} is an image, which has no times', images[0], at=None)
    times = times_of(at, stimuli.files, on_file_clock)
    kept = [k for k, file in enumerate(stimuli.files) if file in times.of]
    stimuli.files = [stimuli.files[k] for k in kept]
    stimuli.ids = stimuli.ids and [stimuli.ids[k] for k in kept]
    stimuli.at, stimuli.left_out = times, stimuli.left_out + times.without
    stimuli.settings['at'] = times.told
    return stimuli


def warn_of(path: str, reason: str) -> None:
    """What is done about a file that cannot be read, or not whole, unless the caller has another way to tell."""
    _logger.warning('%s', printable(reason))


WARNING = Reporter(report=warn_of, lose=warn_of)


def none_read(number: int, reasons: Iterable[str], folder: str = '') -> str:
    """The words for files of which none could be read, or none gave numbers, with the first reasons."""
    reasons = list(dict.fromkeys(reasons))
    shown = '; '.join(reasons[:3]) + (f'; and {len(reasons) - 3} more' if len(reasons) > 3 else '')
    lack = 'gave a result' if any(NOT_FINITE in reason for reason in reasons) else 'could be read'
    return f'none of {counted(number, "file")}{f" in {folder}" if folder else ""} {lack}: {shown}'


def _files_of(path: str | os.PathLike[str]) -> Iterable[str | os.PathLike[str]]:
    if isinstance(path, (str, os.PathLike)) and os.path.isfile(path):
        return [path]
    try:
        return find_media(path)
    except FileNotFoundError:  # is told when it is read
        return [path]
