"""Which files are videos and images: by the endings of their names, in folders and below."""

import os
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from ..paths import as_path, matching, not_found
from ..synthetic import drawn_videos, is_drawn

VIDEO_EXTENSIONS = frozenset(
    (
        '.3gp',
        '.avi',
        '.flv',
        '.m2ts',
        '.m4v',
        '.mkv',
        '.mov',
        '.mp4',
        '.mpeg',
        '.mpg',
        '.mts',
        '.ogv',
        '.ts',
        '.webm',
        '.wmv',
    )
)

IMAGE_EXTENSIONS = frozenset(('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp'))


def find_videos(paths: str | os.PathLike | Iterable[str | os.PathLike]) -> list[Path]:
    """List the videos that `paths` name.

    Args:
        paths: Files, which are taken as they are, and folders, which are searched recursively for files with one of
            `VIDEO_EXTENSIONS`. Hidden files and folders (names with a leading dot) are skipped. A pattern
            (`'videos/*.mp4'`) stands for what it matches, `drawn:COUNT@SEED` for synthetic videos
            (`videozoo_timm.synthetic`).

    Returns:
        Every file once, in the order of `paths`, sorted within each folder.

    Raises:
        FileNotFoundError: One of `paths` does not exist, or matches nothing.
        TypeError, ValueError: One of `paths` is no path, or is empty.
    """
    return _find(paths, lambda folder: _search(folder, VIDEO_EXTENSIONS))


def find_media(paths: str | os.PathLike | Iterable[str | os.PathLike]) -> list[Path]:
    """As `find_videos`, but of a folder that holds no video at all, its images (`IMAGE_EXTENSIONS`) are listed."""
    return _find(paths, lambda folder: _search(folder, VIDEO_EXTENSIONS) or _search(folder, IMAGE_EXTENSIONS))


def is_image(path: str | os.PathLike) -> bool:
    """Whether a file is read as a still image, by the ending of its name."""
    return as_path(path).suffix.lower() in IMAGE_EXTENSIONS


def on_disk(path: Path) -> Path:
    """A path that was found, in a form that is not the name of synthetic videos."""
    return Path(os.path.abspath(path)) if is_drawn(path) else path


def _find(
    paths: str | os.PathLike | Iterable[str | os.PathLike],
    search: Callable[[Path], list[Path]],
) -> list[Path]:
    if isinstance(paths, (str, bytes, os.PathLike)) or not isinstance(paths, Iterable):
        paths = [paths]
    found: dict[str, Path] = {}  # absolute path -> path as given
    for given in paths:
        path = as_path(given)
        if is_drawn(path) and path.suffix and path.exists():  # as shells expand `*`
            path = on_disk(path)
        if is_drawn(path):
            found.update((str(name), name) for name in drawn_videos(path))
            continue
        there = [path] if path.exists() else matching(path)
        if not there:
            raise not_found(given)
        for place in there:
            for file in search(place) if place.is_dir() else [place]:
                found.setdefault(os.path.abspath(file), file)
    return list(found.values())


def _search(folder: Path, extensions: Collection[str]) -> list[Path]:
    found: list[Path] = []
    visited: set[str] = set()
    for place, subfolders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        # A link to a folder above would go round for ever.
        subfolders[:] = [] if real in visited else [name for name in subfolders if not name.startswith('.')]
        if real not in visited:
            found += [on_disk(Path(place, name)) for name in names if not name.startswith('.')]
        visited.add(real)
    return sorted(file for file in found if file.suffix.lower() in extensions and file.is_file())
