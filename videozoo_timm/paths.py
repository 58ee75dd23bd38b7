"""What is meant by a path that a person typed: a file, a folder or a pattern; and what to say if it is none of them."""

import glob
import os
import re
from pathlib import Path

_URL = re.compile(r'([a-z][a-z0-9+.]+):/{1,2}(?=[^/])', re.IGNORECASE)  # `Path` leaves one of two slashes


def as_path(path: str | os.PathLike[str]) -> Path:
    """A path as it was given.

    Raises:
        TypeError: It is no path.
        ValueError: It is empty, which to `Path` is the current folder.
    """
    if not isinstance(path, (str, os.PathLike)) or isinstance(os.fspath(path), bytes):
        raise TypeError(f'a path is wanted, got {type(path).__name__}')
    if not os.fspath(path):
        raise ValueError("an empty path: name a file or a folder ('.' is the current one)")
    return Path(path)


def matching(path: Path) -> list[Path]:
    """The files and folders that a pattern matches, sorted, without hidden ones; empty if it is no pattern.

    Shells expand patterns that are not quoted; Python does not. `**` stands for any number of folders.
    """
    return [Path(name) for name in sorted(glob.glob(str(path), recursive=True))] if glob.has_magic(str(path)) else []


def not_found(path: str | os.PathLike[str], wanted: str = 'file or folder') -> FileNotFoundError:
    """The error of a path that is not there, with the way out where its form shows one."""
    text = os.fspath(path)
    url = _URL.match(text)
    if url:
        text = f'{url[1]}://{text[url.end() :]}'
        return FileNotFoundError(f'{text}: a URL is not read; download it, and name the {wanted} on this machine')
    if glob.has_magic(text):
        return FileNotFoundError(f'{text}: no {wanted} matches this pattern')
    hint = '; ~ is for shells: os.path.expanduser(path) in Python' if text.startswith('~') else ''
    return FileNotFoundError(f'{text}: no such {wanted}{hint}')
