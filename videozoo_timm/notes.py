"""What a run does, told by the rooms that do it to whoever keeps a record of it.

Nobody need listen: then what is told goes nowhere. The command line listens (`cli/recording.py`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PARTS = '.parts.json'  # in the folder of a run that can be resumed: when its parts began and ended


@dataclass(eq=False)
class Notes:
    """What was told of a run so far.

    Attributes:
        models: Of each model what tells it from others: architecture, digests of its weights, data type.
        settings: What was decided in the run and is no option: the size of the views, a seed that was chosen.
        written: The files and folders that were written, each once.
        place: Where the results are, if the run says so.
    """

    models: list[dict[str, Any]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    written: dict[Path, None] = field(default_factory=dict)
    place: Path | None = None

    def loaded(self, about: dict[str, Any]) -> None:
        """A model is about to be used."""
        if about not in self.models:
            self.models.append(about)

    def resumable(self, folder: Path, goes_on: bool) -> None:
        """What is done is kept in a folder from now on, which holds an earlier part of the same run if `goes_on`."""

    def listed(self, table: Path, files: Sequence[str]) -> None:
        """A table lists the files that are read."""

    def recorded(self, path: Path) -> None:
        """The record of a run was written."""


_listeners: list[Notes] = []  # the innermost run comes last


@contextmanager
def listening(notes: Notes) -> Iterator[Notes]:
    """Within, all that is told is told to `notes`, beside those who listen already."""
    _listeners.append(notes)
    try:
        yield notes
    finally:
        _listeners.remove(notes)


def tell_loaded(**about: Any) -> None:
    """A model is about to be used: its architecture, the digests of its weights, and so on."""
    for notes in list(_listeners):
        notes.loaded(about)


def tell_settings(**settings: Any) -> None:
    """What was decided, and is no option."""
    for notes in list(_listeners):
        notes.settings.update(settings)


def tell_listed(table: Path, files: Sequence[str]) -> None:
    """These files are read because a table lists them, and no option names them or their folder."""
    for notes in list(_listeners):
        notes.listed(table, files)


def tell_written(path: Path) -> None:
    """A file or folder was written."""
    for notes in list(_listeners):
        notes.written[path.absolute()] = None


def tell_placed(path: Path) -> None:
    """Where the results go, where that is not what the option for it says."""
    for notes in list(_listeners):
        notes.place = path


def tell_resumable(folder: Path, goes_on: bool) -> None:
    """What is done is kept in this folder, which is the run's own; `goes_on` if it holds an earlier part."""
    for notes in list(_listeners)[-1:]:
        notes.resumable(folder, goes_on)


def tell_recorded(path: Path) -> None:
    """The record of a run was written."""
    for notes in list(_listeners):
        notes.recorded(path)
