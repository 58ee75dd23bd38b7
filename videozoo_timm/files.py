"""Writing files atomically and without following links, explaining write errors, and refusing to read special files."""

import csv
import errno
import mmap
import os
import re
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError

from .notes import tell_written
from .text import to_json

_NO_FILES = {
    stat.S_IFIFO: 'a FIFO',
    stat.S_IFSOCK: 'a socket',
    stat.S_IFCHR: 'a device',
    stat.S_IFBLK: 'a device',
    stat.S_IFDIR: 'a folder',
}


def check_regular(path: str | os.PathLike[str]) -> None:
    """Refuse to open anything but a file: opening a FIFO may block, and reading a device may never end.

    Raises:
        ValueError: It is a FIFO, a socket, a device or a folder, or a link to one.
        OSError: It does not exist, or cannot be accessed.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        raise ValueError(f'{path} is {_NO_FILES.get(stat.S_IFMT(mode), "something else")}, not a file')


MAKE_ROOM = 'free some space there, or write elsewhere'


class WriteError(OSError):
    """A file that could not be written.

    Attributes:
        reason: Why it could not, without the name of the file.
    """

    reason = ''


@contextmanager
def atomic_write(
    target: Path, needed: int | None = None, remedy: str = MAKE_ROOM, durable: bool = False
) -> Iterator[Path]:
    """A temporary file (or folder, if the caller makes one) that finally becomes `target`, or is removed on an error.

    Files that may be mapped are never written in place, as truncating a mapped file kills its readers. The temporary
    file has a folder of its own beside `target`, with an unpredictable name, which only this user can access. The next
    writer removes what a killed process has left of such a folder. A `target` that is a link is replaced, not followed.

    Args:
        target: The file or folder to write.
        needed: Its size in bytes, if known; an error says it.
        remedy: As in `explain_write_errors`.
        durable: Wait until it is on the disk, so that a power cut leaves it complete or absent. Needed where it
            replaces something that is removed afterwards.

    Yields:
        The temporary path.

    Raises:
        WriteError: The disk is full, or the folder cannot be written.
    """
    with explain_write_errors(target, needed, remedy):
        prefix = f'.{target.name}.{socket.gethostname()}.'
        folder = Path(tempfile.mkdtemp(_PARTIAL, f'{prefix}{os.getpid()}.', target.parent))
    try:
        with suppress(OSError):  # not everybody may list a folder to write into
            names = target.name, '.tmp'  # .tmp: of safetensors
            _remove_stale(folder, prefix, _PARTIAL, lambda path: path.name.startswith(names))
        partial = folder / target.name
        with explain_write_errors(target, needed, remedy, partial):
            yield partial
            if partial.is_dir() and target.is_dir():  # no folder is replaced that is not empty
                os.replace(target, folder / f'{target.name}.replaced')
            if not partial.is_symlink() and not partial.is_dir():
                partial.chmod(_usual_mode(folder / f'{target.name}.mode'))  # safetensors writes for the owner alone
            if durable:
                _sync(partial)
            os.replace(partial, target)
            tell_written(target)
            if durable and os.name != 'nt':  # its folders cannot be opened
                _sync_one(target.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sync(path: Path) -> None:
    """Wait until a file, or a folder with all that is in it, is on the disk."""
    for inner in (path, *path.rglob('*')) if path.is_dir() else (path,):
        if os.name != 'nt' or inner.is_file():
            _sync_one(inner)


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that knows no such thing for folders
            raise
    finally:
        os.close(descriptor)


@contextmanager
def explain_write_errors(
    target: Path | str,
    needed: int | None = None,
    remedy: str = MAKE_ROOM,
    partial: Path | None = None,
) -> Iterator[None]:
    """Turn errors of the system, safetensors and torch.save on a full disk (and the like) into a `WriteError`.

    Its message names the disk, the free space and the space needed. Errors that are not about writing pass through.

    Args:
        target: The file or folder that is written, as the user knows it.
        needed: Its size in bytes; None if unknown.
        remedy: What to do about a full disk.
        partial: The temporary file or folder that is written; `target` if None.

    Raises:
        WriteError: It could not be written.
    """
    try:
        yield
    except Exception as error:
        partial = Path(target) if partial is None else partial
        reason = _reason(error, partial, needed, remedy)
        if reason is None:
            raise
        worded = WriteError(f'{target} could not be written: {reason}')
        worded.reason = reason
        raise worded from error


# No space; no more than so much for this user; no more than so much for a file.
_NO_ROOM = (errno.ENOSPC, getattr(errno, 'EDQUOT', errno.ENOSPC), errno.EFBIG)


def _reason(error: Exception, partial: Path, needed: int | None, remedy: str) -> str | None:
    """Why a file could not be written; None for errors that are not about writing."""
    if isinstance(error, WriteError):
        return error.reason.replace(MAKE_ROOM, remedy)  # the outer remedy is the more specific one
    code = _error_number(error, partial)
    if code not in _NO_ROOM:
        if isinstance(error, OSError):
            return error.strerror or str(error)
        return str(error) if isinstance(error, SafetensorError) else None
    folder = next((path for path in (partial, *partial.parents) if path.is_dir()), Path())
    disk = folder.resolve()
    while not os.path.ismount(disk) and disk != disk.parent:
        disk = disk.parent
    need = f'more than {size_in_words(_written(partial))}' if needed is None else size_in_words(needed)
    with suppress(OSError):  # a disk that is no longer there
        need += f' needed, {size_in_words(shutil.disk_usage(folder).free)} free'
    if code == errno.ENOSPC:
        return f'the disk mounted at {disk} is full ({need}); {remedy}'
    if code == errno.EFBIG:
        return f'the disk mounted at {disk} (or `ulimit -f`) allows no file of that size ({need}); {remedy}'
    return f'your quota on the disk mounted at {disk} is used up ({need}); {remedy}'


def _error_number(error: BaseException | None, partial: Path) -> int | None:
    """The `errno` of an error or of one of its causes."""
    text = str(error)
    while error is not None:
        if isinstance(error, OSError) and error.errno:
            return error.errno
        if isinstance(error, SafetensorError) and (
            found := re.search(r'\(os error (\d+)\)|Os \{ code: (\d+),', str(error))
        ):
            return int(found[1] or found[2])
        error = error.__cause__ or error.__context__
    if not re.search('unexpected pos|PytorchStreamWriter|iostream error|file write failed', text):
        return None
    # torch.save has lost the reason, so the system is asked again.
    files = [partial] if partial.is_file() else [path for path in partial.rglob('*') if path.is_file()]
    try:
        with open(max(files, key=lambda path: path.stat().st_mtime_ns), 'ab') as file:
            file.write(bytes(1 << 20))
    except (OSError, ValueError) as again:
        return getattr(again, 'errno', None) or errno.ENOSPC
    return errno.ENOSPC  # somebody has made room since


def _written(partial: Path) -> int:
    paths = [partial] if partial.is_file() else partial.rglob('*')
    return sum(path.lstat().st_size for path in paths if path.is_file())


def size_in_words(size: int) -> str:
    """A number of bytes as text: 1,234,567 is '1.2 MB'."""
    for unit, name in ((1e9, 'GB'), (1e6, 'MB'), (1e3, 'kB')):
        if size >= unit:
            return f'{size / unit:.1f} {name}'
    return f'{size} bytes'


def allocate(file: BinaryIO, size: int) -> None:
    """Allocate the disk space of a file before it is mapped: writing to a mapping without space kills the process.

    Args:
        file: Open for writing.
        size: Size that the file will have, in bytes.

    Raises:
        OSError: The disk is full.
    """
    file.flush()
    if size and hasattr(os, 'posix_fallocate'):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
            return
        except OSError as error:
            if error.errno in _NO_ROOM or error.errno == errno.EIO:
                raise  # otherwise this file system does not support it: zeros take space on every one
    for position in range(file.seek(0, os.SEEK_END), size, 1 << 20):
        file.write(bytes(min(1 << 20, size - position)))
    file.flush()


def release(array: Any) -> None:
    """Give back the memory of an array that is mapped and shared with its file; what is used again is read again."""
    while array is not None and not isinstance(array, mmap.mmap):
        array = getattr(array, 'base', None)
    if array is not None and hasattr(array, 'madvise'):  # not on Windows
        array.madvise(mmap.MADV_DONTNEED)


def check_own_folder(folder: Path, purpose: str) -> None:
    """Refuse a folder whose content cannot be trusted: a link, or another user's.

    Args:
        folder: A path that exists.
        purpose: What is kept in the folder, for the error.

    Raises:
        ValueError: It is not a folder of this user.
    """
    state = folder.lstat()
    if stat.S_ISLNK(state.st_mode):
        raise ValueError(f'{folder} is a link, and {purpose} is never kept behind one: remove the link')
    if not stat.S_ISDIR(state.st_mode):
        raise ValueError(f'{folder} is not a folder, so {purpose} cannot be kept there: move it away')
    with tempfile.TemporaryFile(dir=folder.parent) as file:  # network file systems may have their own idea of users
        owner = os.fstat(file.fileno()).st_uid
    if state.st_uid != owner:
        raise ValueError(
            f'{folder} belongs to another user (number {state.st_uid}), so it holds no {purpose} of yours: have it '
            f'removed, or write elsewhere'
        )


def remove_known(folder: Path, patterns: Sequence[str]) -> None:
    """Remove the files of these names from a folder, as far as possible; links are not followed.

    Args:
        folder: It need not exist.
        patterns: Names of files; `*` matches any text.
    """
    if folder.is_symlink() or not folder.is_dir():
        return
    for path in folder.iterdir():
        if any(fnmatchcase(path.name, pattern) for pattern in patterns) and (path.is_symlink() or path.is_file()):
            with suppress(OSError):  # in use, on Windows
                path.unlink()


_PARTIAL = '.partial'


def own_folder(name: str) -> Path:
    """A new temporary folder, for the caller to remove; those that killed processes have left are removed.

    Args:
        name: Of what needs it, which the folder's name begins with.
    """
    prefix = f'{name}-{socket.gethostname()}.'
    folder = Path(tempfile.mkdtemp('', f'{prefix}{os.getpid()}.'))
    with suppress(OSError):  # not everybody may list the folder of temporary files
        _remove_stale(folder, prefix)
    return folder


def _remove_stale(
    mine: Path, prefix: str, suffix: str = '', is_known: Callable[[Path], bool] = lambda path: True
) -> None:
    """Remove what killed processes of this machine have left beside a folder that this process has just made."""
    if os.name == 'nt':  # os.kill does not test there whether a process is alive, but ends it
        return
    owner = mine.lstat().st_uid
    for folder in mine.parent.iterdir():
        if not folder.name.startswith(prefix) or not folder.name.endswith(suffix):
            continue
        with suppress(OSError, ValueError, OverflowError):  # another writer was faster, or it is not ours
            state = folder.lstat()
            is_left = stat.S_ISDIR(state.st_mode) and state.st_uid == owner and all(map(is_known, folder.iterdir()))
            if is_left and not _is_alive(int(folder.name[len(prefix) :].split('.')[0])):
                shutil.rmtree(folder, ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def _usual_mode(path: Path) -> int:
    """The permissions of a new file. One is made and removed, as reading the umask changes it for all threads."""
    with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666), 'wb') as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    path.unlink()
    return mode


def save_csv(rows: Sequence[Mapping[str, Any]], target: Path) -> None:
    """Write a table atomically; the keys of the first row are its header.

    Raises:
        WriteError: The disk is full, or the folder cannot be written.
    """
    with (
        atomic_write(target) as partial,
        open(partial, 'w', newline='', encoding='utf-8', errors='surrogateescape') as file,
    ):  # as file names may need it
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def save_json(content: Any, target: Path) -> None:
    """Write JSON atomically, as `to_json` makes it.

    Raises:
        WriteError: The disk is full, or the folder cannot be written.
    """
    with atomic_write(target) as partial:
        partial.write_text(to_json(content) + '\n', encoding='utf-8')
