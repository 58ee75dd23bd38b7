"""What an unfinished run has done, in a folder beside its result, so that the same command goes on from there.

Each process appends the rows of its batches to a file of its own, then a line that describes them. A process that is
killed leaves at most rows without a line, which nobody looks at.
"""
import hashlib
import json
import math
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from filelock import FileLock, Timeout

from .pipeline import Group, RowBatch


def journal_folder(out: Path) -> Path:
    """Where the journal of the run that writes `out` is."""
    return out.with_name(f'.{out.name}.unfinished')


class Journal:
    """The journal of the run that writes `out`.

    Args:
        out: The result.
        command: What decides the result's content; a journal of another command is refused.

    Attributes:
        goes_on: Whether there was one already when it was opened.
    """
    goes_on = False

    def __init__(self, out: Path, command: dict[str, Any]) -> None:
        self.folder = journal_folder(out)
        self.command = json.loads(json.dumps(command))
        self._out, self._lock, self._rows, self._lines = out, None, None, None

    def open(self, start_over: bool = False) -> None:
        """Begin a journal, or go on with the one that is there; once, before any process writes.

        Args:
            start_over: Throw away what is there.

        Raises:
            ValueError: It is of another command, or in use.
        """
        self.folder.mkdir(exist_ok=True)
        self._lock = FileLock(self.folder / 'lock')
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise ValueError(f'{self._out} is being written by another run') from error
        path = self.folder / 'command.json'
        if start_over:
            for file in self.folder.glob('*.*'):
                file.unlink()
        if not path.exists():
            path.write_text(json.dumps(self.command))
            return
        try:
            before = json.loads(path.read_text())
        except ValueError:  # killed while it wrote that first file
            path.write_text(json.dumps(self.command))
            return
        if before != self.command:
            self._lock.release()
            raise ValueError(
                f'{self._out} was begun by another command and is unfinished ({_difference(before, self.command)}): '
                f'repeat that command to go on, or start over with --force')
        self.goes_on = True

    def batches(self) -> list[RowBatch]:
        """All batches that are done, in the order of the work; their rows are mapped from the files."""
        found = {}
        for lines in sorted(self.folder.glob('*.jsonl')):
            path = lines.with_suffix('.rows')
            # One mapping of each file: every mapping keeps a file descriptor.
            rows = np.memmap(path, np.uint8, 'r') if path.stat().st_size else np.empty(0, np.uint8)
            for line in lines.read_text().splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:  # killed while it wrote this line
                    continue
                shape, offset = entry.pop('shape'), entry.pop('offset')
                end = offset + 4 * math.prod(shape)
                if end > len(rows):  # the machine went down before the rows were on the disk
                    continue
                failed = {int(file): reason for file, reason in entry.pop('failed').items()}
                values = rows[offset:end].view(np.float32).reshape(shape)
                found[entry['group'], entry['number']] = RowBatch(**entry, failed=failed, values=values)
        return [found[key] for key in sorted(found)]

    def add(self, batch: RowBatch) -> None:
        """Append a batch.

        Raises:
            OSError: The disk is full, or not to be written; what was added before stays.
        """
        try:
            if self._rows is None:
                name = uuid4().hex
                self._rows = open(self.folder / f'{name}.rows', 'wb')
                self._lines = open(self.folder / f'{name}.jsonl', 'w')
            values = batch.values.contiguous().numpy()
            entry = batch._asdict() | dict(shape=values.shape, offset=self._rows.tell())
            del entry['values']
            self._rows.write(values)
            self._rows.flush()
            self._lines.write(json.dumps(entry) + '\n')
            self._lines.flush()
        except OSError as error:
            raise OSError(
                f'{self._out}: rows could not be written to {self.folder} ({error.strerror or error}); once they can, '
                f'the same command goes on') from error

    def array(self, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """A mapped array in the journal's folder, to collect the rows in."""
        return np.lib.format.open_memmap(self.folder / 'collected.npy', 'w+', dtype, shape)

    def stop_writing(self) -> None:
        """Nothing more comes from this process, and all that came is on the disk for the others."""
        for file in (self._rows, self._lines):
            if file is not None:
                file.close()

    def close(self) -> None:
        """Stop writing, and let others."""
        with suppress(OSError):  # of a full disk, which `add` has told
            self.stop_writing()
        if self._lock is not None:
            self._lock.release()

    def remove(self) -> None:
        """The result is whole, or there is none: the journal goes."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def remaining(groups: Sequence[Group], done: Iterable[RowBatch]) -> list[Group]:
    """What of the groups is still to be done."""
    by_group = {}
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


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    parts = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            if old != new:
                parts.append(_difference(old, new))
        elif isinstance(old, list) and isinstance(new, list) and len(str(old)) + len(str(new)) > 80:
            if old != new:
                same = sum(a == b for a, b in zip(old, new, strict=False))
                parts.append(f'{key}: {len(old)}, {same} of them the same in the now {len(new)}')
        elif old != new:
            parts.append(f'{key} was {old}, is {new}')
    return '; '.join(parts)


def digest_of(parameters: Iterable[tuple[str, torch.Tensor]]) -> str:
    """A digest of weights that reads a little of every tensor, so that mapped ones stay on the disk."""
    digest = hashlib.sha256()
    for name, tensor in parameters:
        flat = tensor.detach().reshape(-1)
        ends = torch.cat([flat[:16], flat[-16:]]).cpu().double()
        digest.update(f'{name} {list(tensor.shape)}'.encode() + ends.numpy().tobytes())
    return digest.hexdigest()
