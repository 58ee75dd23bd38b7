"""The log of a run: a table, and TensorBoard's files where it is installed."""

import csv
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import save_csv
from ..notes import tell_written
from .run_folder import make_folder

_logger = logging.getLogger(__name__)


class Log:
    """`log.csv`, and TensorBoard's files where it is installed; rows after a step are dropped.

    Args:
        folder: The folder of the run.
        step: The last step that is done.
        is_main: Whether this process writes; the others do nothing.
        name: Name of the table.

    Raises:
        OSError: The disk is full, or the folder cannot be written.
        ValueError: Something else is in the place of one of these files.
    """

    def __init__(self, folder: Path, step: int, is_main: bool, name: str = 'log') -> None:
        self.path, self.is_main = folder / f'{name}.csv', is_main
        self.board: Any = None  # TensorBoard's SummaryWriter
        if not is_main:
            return
        rows = [row for row in read_log(self.path) if int(row['step']) <= step]
        if rows:
            save_csv(rows, self.path)
        else:
            self.path.unlink(missing_ok=True)
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        board = make_folder(make_folder(folder / 'tensorboard') / name)
        self._hook, threading.excepthook = threading.excepthook, self._leave_to_add
        try:
            self.board = SummaryWriter(str(board), purge_step=step + 1 if step else None)
        except BaseException:
            threading.excepthook = self._hook
            raise

    def add(self, row: Mapping[str, float]) -> None:
        """Append a row.

        Raises:
            OSError: The disk is full, or the file cannot be written.
        """
        if not self.is_main:
            return
        new = not self.path.exists()
        tell_written(self.path)
        with open(self.path, 'a', newline='', encoding='utf-8', opener=_open_no_link) as file:
            writer = csv.DictWriter(file, row.keys())
            if new:
                writer.writeheader()
            writer.writerow(row)
        if self.board:
            for key, value in row.items():
                if key != 'step':
                    self.board.add_scalar(key, value, row['step'])

    def close(self) -> None:
        """End TensorBoard's file."""
        if self.board:
            board, self.board = self.board, None
            try:
                board.close()
            except OSError as error:
                _logger.warning('%s is complete, but the file of TensorBoard is not: %s', self.path, error)
            finally:
                threading.excepthook = self._hook

    def _leave_to_add(self, args: threading.ExceptHookArgs) -> None:
        """Print no errors of TensorBoard's thread, as the next `add_scalar` raises them."""
        if not type(args.thread).__module__.startswith('tensorboard.'):
            self._hook(args)


def read_log(path: Path) -> list[dict[str, str]]:
    """The complete rows of a log, whose values are numbers; a killed process may have left a part of a row.

    Raises:
        ValueError: `path` is not a file.
    """
    if not os.path.lexists(path):
        return []
    if path.is_symlink() or not path.is_file():
        raise ValueError(f'{path} is not a file, so no log can be kept there')
    rows, damaged = [], 0
    needed = ('step', 'loss', 'failed', *(('top1',) if path.stem == 'validation' else ()))
    with open(path, newline='', encoding='utf-8', errors='replace') as file:
        reader = csv.DictReader(file)
        while True:
            try:
                row = next(reader)
            except StopIteration:
                break
            except csv.Error:
                damaged += 1
                continue
            if _is_whole(row, needed):
                rows.append(row)
            else:
                damaged += 1
    if damaged > 1:  # one is what a kill leaves
        _logger.warning('%s: %d damaged rows are skipped', path, damaged)
    return rows


def _is_whole(row: dict[Any, Any], needed: tuple[str, ...]) -> bool:  # DictReader keeps surplus values under None
    if None in row or None in row.values() or not all(name in row for name in needed):
        return False
    try:
        for value in row.values():
            float(value)
        return min(int(row['step']), int(row['failed'])) >= 0
    except ValueError:
        return False


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, 'O_NOFOLLOW', 0), 0o666)
