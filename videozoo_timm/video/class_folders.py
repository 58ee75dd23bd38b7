"""Folders with one subfolder of videos or images for each class."""

import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..paths import as_path, not_found
from ..synthetic import MOTIONS, drawn_videos, is_drawn
from ..text import counted, printable
from .finding import OnError, files_below, is_ours, media_among, on_disk

_logger = logging.getLogger(__name__)

_OF_THE_SYSTEM = ('desktop.ini', 'thumbs.db')


class EmptyClassError(ValueError):
    """A class without files; `class_folders(folder, allow_empty=True)` takes it."""


class ClassFolders(NamedTuple):
    """Files of known classes.

    Attributes:
        classes: Names of the classes, sorted by code point, as the published models were trained.
        paths: The files.
        targets: The class of each file.
        folder: Where they were found.
    """

    classes: list[str]
    paths: list[str]
    targets: list[int]
    folder: str

    def __repr__(self) -> str:
        return f'ClassFolders({self.folder}: {counted(len(self.paths), "file")}, {counted(len(self.classes), "class")})'


def class_folders(folder: str | os.PathLike, on_error: OnError = None, *, allow_empty: bool = False) -> ClassFolders:
    """The files of a folder with one subfolder per class.

    A name that is written in several Unicode forms (NFC, as on Linux and Windows; NFD, as macOS has it) is one class.
    Files that are left out, loose ones and those of other kinds, are warned of.

    Args:
        folder: Searched one class after the other, each recursively, for videos, or for images where it has no video.
            `drawn:COUNT@SEED` stands for drawn videos, their classes are their motions; those of
            `drawn-violations:COUNT@SEED` are 'impossible' and 'possible'.
        on_error: As in `find_videos`.
        allow_empty: Take classes without files too: to measure accuracy on some of a model's classes.

    Raises:
        FileNotFoundError: No such folder.
        NotADirectoryError: It is a file.
        EmptyClassError, ValueError: One of its subfolders holds no videos or images; or it has no subfolders.
        OSError: A folder cannot be listed.
    """
    path = as_path(folder)
    if is_drawn(folder):
        paths = drawn_videos(folder)
        if paths[0].name == 'possible':
            classes, part = ['impossible', 'possible'], -1
        else:
            classes, part = [str(motion) for motion in MOTIONS], -2
        targets = [classes.index(path.parts[part]) for path in paths]
        return ClassFolders(classes, list(map(str, paths)), targets, str(folder))
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f'{path} is a file; a folder with one subfolder for each class is wanted')
    if not path.is_dir():
        raise not_found(folder, 'folder')
    folder = path
    classes = _classes_in(folder)
    paths, targets, others, empty = [], [], [], []
    for target, (name, places) in enumerate(classes.items()):
        there = [file for place in places for file in files_below(on_disk(place), on_error)]
        files = media_among(there)
        paths += map(str, files)
        targets += [target] * len(files)
        others += sorted(set(there) - set(files))
        if not files:
            empty.append((name, there))
    if not paths:
        raise ValueError(f'{folder} has {len(classes)} class folders, but no videos or images in them')
    _tell_of(folder, 'loose files, which belong to no class', _loose_in(folder))
    _tell_of(folder, 'files in class folders that are no videos or images, or images beside videos', others)
    if empty and not allow_empty:
        name, there = empty[0]
        holds = f'holds {counted(len(there), "file")}, but no video or image ({there[0].name})' if there else 'is empty'
        more = f' (and so are {len(empty) - 1} more)' if len(empty) > 1 else ''
        raise EmptyClassError(f'{folder}: the class folder {name!r} {holds}{more}: fill it or remove it')
    return ClassFolders(list(classes), paths, targets, str(folder))


def class_names(folder: Path) -> list[str]:
    """The names of a folder's classes, sorted by code point; a ValueError if there are none."""
    return list(_classes_in(folder))


def _classes_in(folder: Path) -> dict[str, list[Path]]:
    """The classes by name, sorted by code point, and the subfolders of each."""
    classes: dict[str, list[Path]] = {}
    for place in sorted(folder.iterdir()):
        if is_ours(place.name) and place.is_dir():
            classes.setdefault(unicodedata.normalize('NFC', place.name), []).append(place)
    if not classes:
        raise ValueError(f'{folder} has no subfolders: one is expected for each class')
    return dict(sorted(classes.items()))


def _loose_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if is_ours(path.name) and not path.is_dir())


def _tell_of(folder: Path, what: str, files: Sequence[Path]) -> None:
    files = [file for file in files if file.name.lower() not in _OF_THE_SYSTEM]
    if files:
        counts = Counter(file.suffix.lower() or 'without ending' for file in files).most_common(4)
        kinds = ', '.join(f'{number} {kind}' for kind, number in counts)
        _logger.warning('%s', printable(f'{folder}: left out {len(files)} {what} ({kinds}; {files[0]})'))
