"""Folders with one subfolder of videos or images for each class."""

import os
from pathlib import Path
from typing import NamedTuple

from ..paths import as_path, not_found
from ..synthetic import MOTIONS, drawn_videos, is_drawn
from .finding import find_media, on_disk


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
        return f'ClassFolders({self.folder}: {len(self.paths)} files, {len(self.classes)} classes)'


def class_folders(folder: str | os.PathLike) -> ClassFolders:
    """The files of a folder with one subfolder per class.

    Args:
        folder: Searched one class after the other, each recursively, for videos, or for images where it has no video.
            `drawn:COUNT@SEED` stands for drawn videos, their classes are their motions.

    Raises:
        FileNotFoundError: No such folder.
        NotADirectoryError: It is a file.
        ValueError: It has no subfolders, or no videos or images in them.
    """
    path = as_path(folder)
    if is_drawn(folder):
        paths = drawn_videos(folder)
        targets = [MOTIONS.index(path.parts[-2]) for path in paths]
        return ClassFolders(list(MOTIONS), list(map(str, paths)), targets, str(folder))
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f'{path} is a file; a folder with one subfolder for each class is wanted')
    if not path.is_dir():
        raise not_found(folder, 'folder')
    folder = path
    subfolders = subfolders_of(folder)
    paths, targets = [], []
    for target, subfolder in enumerate(subfolders):
        files = find_media(on_disk(subfolder))
        paths += map(str, files)
        targets += [target] * len(files)
    if not paths:
        raise ValueError(f'{folder} has {len(subfolders)} class folders, but no videos or images in them')
    return ClassFolders([subfolder.name for subfolder in subfolders], paths, targets, str(folder))


def subfolders_of(folder: Path) -> list[Path]:
    """The subfolders that stand for classes, sorted by code point; a ValueError if there are none."""
    subfolders = sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith('.'))
    if not subfolders:
        raise ValueError(f'{folder} has no subfolders: one is expected for each class')
    return subfolders
