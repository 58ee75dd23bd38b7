"""Which files are videos and images: by the endings of their names, in folders and below."""

import os
import re
import stat
from collections.abc import Callable, Collection, Iterable
from itertools import chain
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

IMAGE_EXTENSIONS = frozenset(('.bmp', '.gif', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp'))

# What systems and programs keep beside files of one's own, in lower case; hidden ones need no row.
_NOT_OURS = frozenset(
    (
        '@eadir',  # Synology: thumbnails with the endings of images
        '@recently-snapshot',
        '@recycle',
        '@sharebin',
        '@tmp',
        '#recycle',
        '#snapshot',
        '$recycle.bin',
        '__macosx',
        '__pycache__',
        'found.000',
        'lost+found',
        'network trash folder',
        'recycler',
        'system volume information',
        'temporary items',
    )
)

OnError = Callable[[OSError], object] | None

_SEQUENCE = re.compile(r'(.+):frames(?:@([0-9]+(?:\.[0-9]+)?))?', re.DOTALL)  # FOLDER:frames@RATE
_FRAME_RATE = 30.0  # of a sequence that says none


def find_videos(paths: str | os.PathLike | Iterable[str | os.PathLike], on_error: OnError = None) -> list[Path]:
    """List the videos that `paths` name.

    Args:
        paths: Files, which are taken as they are, and folders, which are searched recursively for files with one of
            `VIDEO_EXTENSIONS`. Hidden files and folders (names with a leading dot) are skipped, and folders of the
            system (`lost+found`, `@eaDir`, `__MACOSX` and the like). A pattern (`'videos/*.mp4'`) stands for what it
            matches, `drawn:COUNT@SEED` for synthetic videos and `drawn-violations:COUNT@SEED` for pairs of them
            (`videozoo_timm.synthetic`). `FOLDER:frames@RATE` stands for the folders with at least two images, there and
            below, each a video of RATE (30 if left out) numbered frames a second (`videozoo_timm.video.sequences`).
        on_error: Called with the error of a folder that cannot be listed, to go on without it; None raises it.

    Returns:
        Every file once, in the order of `paths`, sorted within each folder.

    Raises:
        FileNotFoundError: One of `paths` does not exist, or matches nothing.
        TypeError, ValueError: One of `paths` is no path, or is empty.
        OSError: A folder cannot be listed.
    """
    return _find(paths, lambda folder: _of(files_below(folder, on_error), VIDEO_EXTENSIONS), on_error)


def find_media(paths: str | os.PathLike | Iterable[str | os.PathLike], on_error: OnError = None) -> list[Path]:
    """As `find_videos`, but of a folder that holds no video at all, its images (`IMAGE_EXTENSIONS`) are listed."""
    return _find(paths, lambda folder: media_among(files_below(folder, on_error)), on_error)


def media_among(files: Collection[Path]) -> list[Path]:
    """The videos among files; the images if there is no video."""
    return _of(files, VIDEO_EXTENSIONS) or _of(files, IMAGE_EXTENSIONS)


def is_ours(name: str) -> bool:
    """Whether a folder's or file's name is neither hidden nor one that a system gives."""
    return not name.startswith('.') and name.casefold() not in _NOT_OURS


def is_image(path: str | os.PathLike) -> bool:
    """Whether a file is read as a still image, by the ending of its name."""
    name = path if isinstance(path, str) and path else as_path(path)  # which takes its time, and is asked of each file
    return os.path.splitext(name)[1].lower() in IMAGE_EXTENSIONS


def is_sequence(path: str | os.PathLike) -> bool:
    """Whether a path names a folder of numbered images that is read as a video."""
    return bool(_SEQUENCE.fullmatch(str(path))) and not os.path.exists(path)


def split_sequence(path: str | os.PathLike) -> tuple[Path, float]:
    """The folder and the frames a second of `FOLDER:frames@RATE`.

    Raises:
        ValueError: It is no such path, or the rate is 0.
    """
    match = _SEQUENCE.fullmatch(str(path))
    rate = float(match[2] or _FRAME_RATE) if match else 0.0
    if not match or not rate:
        raise ValueError(f'{path}: numbered images are read as a video by FOLDER:frames@RATE, RATE frames a second')
    return Path(match[1]), rate


def _sequences(path: Path, on_error: OnError) -> list[Path]:
    """`FOLDER:frames@RATE` for each folder, there and below, with several images."""
    folder, _ = split_sequence(path)
    suffix = str(path)[len(str(folder)) :]
    places = [folder] if folder.exists() else matching(folder)
    if not places:
        raise not_found(folder, 'folder')
    number: dict[Path, int] = {}
    for place in places:
        for image in _of(files_below(place, on_error), IMAGE_EXTENSIONS):
            number[image.parent] = number.get(image.parent, 0) + 1
    return [Path(f'{parent}{suffix}') for parent, images in number.items() if images > 1]


def on_disk(path: Path) -> Path:
    """A path that was found, in a form that is not the name of synthetic videos."""
    return Path(os.path.abspath(path)) if is_drawn(path) else path


def _find(
    paths: str | os.PathLike | Iterable[str | os.PathLike],
    search: Callable[[Path], list[Path]],
    on_error: OnError,
) -> list[Path]:
    if isinstance(paths, (str, bytes, os.PathLike)) or not isinstance(paths, Iterable):
        paths = [paths]
    found: list[list[Path]] = []  # each without doubles
    for given in paths:
        path = as_path(given)
        if is_drawn(path) and path.suffix and path.exists():  # as shells expand `*`
            path = on_disk(path)
        if is_drawn(path):
            found.append(drawn_videos(path))
            continue
        if is_sequence(path):
            found.append(_sequences(path, on_error))
            continue
        there = [path] if path.exists() else matching(path)
        if not there:
            raise not_found(given)
        found += [search(place) if place.is_dir() else [place] for place in there]
    if len(found) == 1:
        return found[0]
    once: dict[str, Path] = {}
    for file in chain(*found):
        once.setdefault(str(file) if is_drawn(file) else os.path.abspath(file), file)
    return list(once.values())


def files_below(folder: Path, on_error: OnError = None) -> list[Path]:
    """All files in a folder and below that are not hidden, sorted; links are followed."""
    found: list[Path] = []
    visited: set[str] = set()
    todo = [(folder, True)]  # the next one comes last
    while todo:
        place, is_folder = todo.pop()
        if not is_folder:
            found.append(on_disk(place))
            continue
        real = os.path.realpath(place)
        if real in visited:  # a link to a folder above would go round for ever
            continue
        visited.add(real)
        try:
            with os.scandir(place) as entries:
                ours = sorted((entry for entry in entries if is_ours(entry.name)), key=lambda entry: entry.name)
            todo += [(place / entry.name, _is_folder(entry, on_error)) for entry in reversed(ours)]
        except OSError as error:  # no permission, a network drive that is gone
            if on_error is None:
                raise
            on_error(error)
    return found


def _is_folder(entry: 'os.DirEntry[str]', on_error: OnError) -> bool:
    """Whether an entry is a folder; if the system cannot say, this is an error, as it may be one."""
    try:
        return entry.is_dir()
    except OSError as error:
        if on_error is None:
            raise
        on_error(error)
        return False


def _of(files: Collection[Path], extensions: Collection[str]) -> list[Path]:
    """Those with one of these endings; without pipes and devices, but with links to nothing, which reading reports."""
    return [file for file in files if file.suffix.lower() in extensions and _may_be_read(file)]


def _may_be_read(file: Path) -> bool:
    try:
        return stat.S_ISREG(os.stat(file).st_mode)
    except OSError:
        return True
