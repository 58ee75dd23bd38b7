"""The finished work of an unfinished run, in a folder beside its result, from which the same command continues.

Each process appends the rows of its batches to a file of its own, then a line that describes them. Rows and lines have
checksums that depend on the command. So data that a crash or a failing disk has damaged, or that another run has
written, is recognized and skipped.
"""

import errno
import hashlib
import json
import logging
import math
import os
import re
import stat
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import numpy as np
import torch
from filelock import BaseFileLock, FileLock, Timeout

from ..errors import UserError
from ..files import allocate, check_own_folder, explain_write_errors, release, remove_known
from ..notes import PARTS, tell_resumable
from ..outputs import differences
from .pipeline import Group, RowBatch

_logger = logging.getLogger(__name__)

_RECORD, _LOCK, _COLLECTED = 'command.json', 'lock', 'collected.npy'
_ROWS = ('*.rows', '*.jsonl')
_FILES = (*_ROWS, '*.tmp', _COLLECTED, PARTS, _RECORD, _LOCK)
_NO_LOCKS = {getattr(errno, name, None) for name in ('ENOLCK', 'ENOSYS', 'EOPNOTSUPP', 'ENOTSUP')}


def journal_folder(out: Path) -> Path:
    """The folder of the journal of the run that writes `out`."""
    return out.with_name(f'.{out.name}.unfinished')


def remove_journal(out: Path) -> None:
    """Remove the journal of a run that is over, if there is one; other files in its folder stay."""
    remove_known(journal_folder(out), _FILES)
    with suppress(OSError):
        journal_folder(out).rmdir()


class Journal:
    """The journal of the run that writes `out`.

    Args:
        out: The result.
        command: All settings that decide the content of the result; a journal of another command is refused.

    Attributes:
        goes_on: Whether it existed already when it was opened.
        damaged: Number of damaged batches in the last call of `batches`.
        digest: Of the command: results of one digest need not be told apart.
    """

    goes_on, damaged = False, 0

    def __init__(self, out: Path, command: dict[str, Any]) -> None:
        self.folder = journal_folder(out)
        # Not as objects: those of a list of many files take four times the memory.
        self._command = _as_text(command)
        self._key = hashlib.sha256(self._command).digest()
        self.digest = self._key.hex()
        self._out = out
        self._lock: BaseFileLock | None = None
        self._files_of_this_process: tuple[BinaryIO, BinaryIO] | None = None  # rows, lines
        self._remedy = f'once there is room, the same command continues (what is done is in {self.folder})'

    def open(self, start_over: bool = False) -> None:
        """Begin a journal, or continue the one that is there. Called once, before any process writes.

        Args:
            start_over: Discard what is there.

        Raises:
            ValueError: It is of another or an unknown command, belongs to another user, or is in use.
            OSError: The disk is full, or not to be written.
        """
        with explain_write_errors(self._out, remedy=self._remedy, partial=self.folder):
            try:
                self.folder.mkdir(mode=0o700, parents=True)  # nobody else may read or change it
            except FileExistsError:
                self._check_owner()
            self._acquire()
            if start_over:
                self._empty()
            before = self._recorded()
            if before is None:
                self._empty()
                self._record()
                tell_resumable(self.folder, goes_on=False)
                return
        if before != self._command:
            self.close()
            raise UserError(
                '{} holds the results of another run, which is unfinished ({}): repeat that command to continue it, '
                'name another {out}, or {start_over} replaces them',
                self._out,
                differences(json.loads(before), json.loads(self._command)),
                out=None,
                start_over=True,
            )
        self.goes_on = True
        tell_resumable(self.folder, goes_on=True)

    def _check_owner(self) -> None:
        """Refuse links and other users' files: the journal's files are trusted, overwritten and removed."""
        check_own_folder(self.folder, 'the journal of a run')
        owner = self.folder.lstat().st_uid
        for path in self._files(_FILES):
            state = path.lstat()
            if not stat.S_ISREG(state.st_mode) or state.st_uid != owner:
                raise ValueError(
                    f'{path} is a link, not a file, or of another user, so no run of yours wrote it: remove it'
                )

    def _acquire(self) -> None:
        self._lock = FileLock(self.folder / _LOCK)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise ValueError(f'{self._out} is being written by another run') from error
        except (OSError, NotImplementedError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                raise
            self._lock = None
            _logger.warning(
                'the file system of %s has no locks (%s): make sure that no other run writes %s meanwhile',
                self.folder,
                error,
                self._out,
            )

    def _files(self, patterns: Iterable[str]) -> list[Path]:
        return [path for pattern in patterns for path in sorted(self.folder.glob(pattern))]

    def _empty(self) -> None:
        remove_known(self.folder, (*_ROWS, '*.tmp', _COLLECTED))
        remove_known(self.folder, (_RECORD,))  # last, so that there are never rows without it

    def _record(self) -> None:
        path = self.folder / f'{uuid4().hex}.tmp'
        with open(path, 'xb') as file:
            file.write(b'{"command": %b, "checksum": "%b"}' % (self._command, _digest(self._command).encode()))
            file.flush()
            os.fsync(file.fileno())
        os.replace(path, self.folder / _RECORD)

    def _recorded(self) -> bytes | None:
        """The command whose rows are here, as text; None if there are no rows and no known command."""
        path, problem = self.folder / _RECORD, 'is damaged'
        try:
            record = json.loads(path.read_bytes())
            if 'checksum' in record and _digest(command := _as_text(record['command'])) == record['checksum']:
                return command
            if isinstance(record, dict) and not {'checksum', 'command'} & set(record):
                problem = 'was written by an earlier version, without checksums (that version can finish it)'
        except FileNotFoundError:
            problem = 'is missing'
        except (ValueError, TypeError, KeyError, RecursionError):
            pass
        if any(path.stat().st_size for path in self._files(_ROWS)):
            self.close()
            raise UserError(
                '{} is unfinished, and it is not known whose rows are in {}: {} there {}; name another {out}, or '
                '{start_over} replaces them',
                self._out,
                self.folder,
                _RECORD,
                problem,
                out=None,
                start_over=True,
            )
        return None  # killed before it wrote anything else

    def batches(self, groups: Sequence[Group] | None = None, mend: bool = False) -> list[RowBatch]:
        """All finished, undamaged batches in the order of the work; their rows are mapped from the files.

        Args:
            groups: All groups of the run; batches of other groups are skipped. None accepts any group.
            mend: Delete the lines of damaged batches, so that they are reported once.
        """
        files_of = None if groups is None else {group.index: set(group.files) for group in groups}
        found: dict[tuple[int, int], RowBatch] = {}
        self.damaged = 0
        for path in self._files(['*.jsonl']):
            rows, whole, damaged = _mapped(path.with_suffix('.rows')), [], 0
            for line in _lines_of(path):
                pieces = [line]
                if line and not self._is_whole(line):  # of two lines, if what is damaged is the end of the first
                    pieces = re.split(rb'(?<=\})[^}](?=[0-9a-f]{32} \{"group")', line, flags=re.DOTALL)
                for piece in pieces:
                    batch = self._batch(piece, rows, files_of)
                    if batch is not None:
                        found[batch.group, batch.number] = batch
                        whole.append(piece + b'\n')
                    elif piece:
                        damaged += 1
            if damaged and mend:
                mended = self.folder / f'{uuid4().hex}.tmp'
                with explain_write_errors(self._out, remedy=self._remedy, partial=self.folder):
                    with open(mended, 'xb') as file:
                        file.writelines(whole)
                        file.flush()
                        os.fsync(file.fileno())
                    os.replace(mended, path)
            self.damaged += damaged
        return [found[key] for key in sorted(found)]

    def _is_whole(self, line: bytes) -> bool:
        checksum, _, text = line.partition(b' ')
        return checksum == _digest(text, self._key).encode()

    def _batch(self, line: bytes, rows: np.ndarray, files_of: dict[int, set[int]] | None) -> RowBatch | None:
        """The batch that a line describes; None if the line or its rows are damaged, or of another run."""
        if not self._is_whole(line):
            return None
        try:
            entry = json.loads(line.partition(b' ')[2])
        except (ValueError, RecursionError):
            return None
        if not _is_sound(entry, files_of):
            return None
        shape, offset, checksum = (entry.pop(name) for name in ('shape', 'offset', 'rows'))
        block = rows[offset : offset + 4 * math.prod(shape)]
        is_whole = len(block) == 4 * math.prod(shape) and _digest(block.data, self._key) == checksum
        release(rows)  # or all of them would be in memory in the end
        if not is_whole:
            return None
        failed = {int(file): reason for file, reason in entry.pop('failed').items()}
        columns: dict[str, Any] = {name: array('d', entry.pop(name)) for name in COLUMNS}
        return RowBatch(**entry, **columns, failed=failed, values=block.view(np.float32).reshape(shape))

    def add(self, batch: RowBatch) -> None:
        """Append a batch.

        Raises:
            OSError: The disk is full, or not to be written; what was added before stays.
        """
        values = batch.values.contiguous().numpy()
        with explain_write_errors(f'{self._out}: rows', values.nbytes, self._remedy, self.folder):
            if self._files_of_this_process is None:
                name = uuid4().hex
                # They stay open until `close`.
                rows = open(self.folder / f'{name}.rows', 'xb')  # noqa: SIM115
                lines = open(self.folder / f'{name}.jsonl', 'xb')  # noqa: SIM115
                self._files_of_this_process = rows, lines
            rows, lines = self._files_of_this_process
            data = values.tobytes()
            entry = batch._asdict() | dict(shape=values.shape, offset=rows.tell(), rows=_digest(data, self._key))
            del entry['values']
            rows.write(data)
            rows.flush()
            text = json.dumps(entry, default=list).encode()  # of what was read back: arrays
            lines.write(_digest(text, self._key).encode() + b' ' + text + b'\n')
            lines.flush()

    def array(self, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """A mapped array in the journal's folder, to collect the rows in.

        Raises:
            OSError: There is no room for it.
        """
        path, needed = self.folder / _COLLECTED, math.prod(shape) * np.dtype(dtype).itemsize
        header = dict(descr=np.lib.format.dtype_to_descr(np.dtype(dtype)), fortran_order=False, shape=tuple(shape))
        path.unlink(missing_ok=True)  # nothing that is there is written into
        try:
            with explain_write_errors(self._out, needed, self._remedy, self.folder), open(path, 'xb') as file:
                np.lib.format.write_array_header_2_0(file, header)
                allocate(file, file.tell() + needed)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return np.lib.format.open_memmap(path, 'r+')

    def stop_writing(self) -> None:
        """Close the files of this process, so that the others see all of its rows."""
        for file in self._files_of_this_process or ():
            file.close()

    def close(self) -> None:
        """Stop writing, and let other runs write."""
        for file in self._files_of_this_process or ():
            with suppress(OSError):  # of a full disk, which `add` has raised
                file.close()
        if self._lock is not None:
            self._lock.release()

    def remove(self) -> None:
        """Remove the journal, as its result is complete or unwanted; other files in its folder stay."""
        remove_known(self.folder, _FILES)  # before anybody else may have it
        self.close()
        if os.name == 'nt':  # files that are open cannot be removed there
            remove_known(self.folder, _FILES)
        with suppress(OSError):
            self.folder.rmdir()


def _as_text(command: Any) -> bytes:
    return json.dumps(command, sort_keys=True).encode()


def _digest(data: bytes | memoryview, key: bytes = b'') -> str:
    return hashlib.blake2b(data, digest_size=16, key=key).hexdigest()


def _lines_of(path: Path) -> Iterator[bytes]:
    with open(path, 'rb') as file:
        for line in file:
            yield line.removesuffix(b'\n')


def _mapped(path: Path) -> np.ndarray:
    # One mapping of each file: every mapping keeps a file descriptor.
    return np.memmap(path, np.uint8, 'r') if path.is_file() and path.stat().st_size else np.empty(0, np.uint8)


COLUMNS = ('starts', 'ends', 'times', 'durations', 'padded', 'damaged', 'clock_offsets', 'lost')
_FIELDS = {*RowBatch._fields, 'shape', 'offset', 'rows'} - {'values'}


def _is_sound(entry: Any, files_of: dict[int, set[int]] | None) -> bool:
    """Whether the fields of a line are valid for this run's groups."""
    if not isinstance(entry, dict) or entry.keys() != _FIELDS:
        return False
    if not all(isinstance(entry[name], list) for name in ('files', 'shape', *COLUMNS)):
        return False
    files, shape, failed = entry['files'], entry['shape'], entry['failed']
    counts = (entry['group'], entry['number'], entry['offset'], *files, *shape)
    return (
        all(type(count) is int and count >= 0 for count in counts)
        and type(entry['last']) is bool
        and (entry['last'] or len(files) > 0)
        and shape[:1] == [len(files)]
        and all(len(entry[name]) == len(files) for name in COLUMNS)
        and all(type(value) in (int, float) for name in COLUMNS for value in entry[name])
        and isinstance(failed, dict)
        and all(re.fullmatch('[0-9]{1,18}', file) and isinstance(reason, str) for file, reason in failed.items())
        and (
            files_of is None or (entry['group'] in files_of and {*files, *map(int, failed)} <= files_of[entry['group']])
        )
    )


def remaining(groups: Sequence[Group], done: Iterable[RowBatch]) -> list[Group]:
    """The parts of the groups that are still to be done."""
    by_group: dict[int, list[RowBatch]] = {}
    for batch in done:
        earlier = by_group.setdefault(batch.group, [])
        if batch.number == len(earlier):  # what comes after a lost batch is done again
            earlier.append(batch)
    result = []
    for group in groups:
        batches = by_group.get(group.index, [])
        if not batches:
            result.append(group)
        elif not batches[-1].last:
            files = [file for batch in batches for file in batch.files]
            place = group.files.index(files[-1])
            result.append(Group(group.index, group.files[place:], files.count(files[-1]), len(batches)))
    return result


def digest_of(parameters: Iterable[tuple[str, torch.Tensor]]) -> str:
    """A digest of weights that reads a few values of every tensor, so that mapped ones stay on the disk."""
    digest = hashlib.sha256()
    for name, tensor in parameters:
        flat = tensor.detach().reshape(-1)
        ends = torch.cat([flat[:16], flat[-16:]]).cpu().double()
        digest.update(f'{name} {list(tensor.shape)}'.encode() + ends.numpy().tobytes())
    return digest.hexdigest()


def checksum_of(parameters: Iterable[tuple[str, torch.Tensor]]) -> str:
    """A digest of every byte of weights, for runs that must not be mixed."""
    digest = hashlib.sha256()
    for name, tensor in parameters:
        digest.update(f'{name} {tensor.dtype} {list(tensor.shape)}'.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
