"""Whether results may be written where they shall: one rule for every command, told in one voice.

What is not there is written, if its folder can be. What is there of the same run is continued or replaced by it; of
another run, it is replaced if the caller says so; anything else is never replaced.
"""

import json
import os
import tempfile
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UserError


@dataclass(frozen=True)
class Output:
    """A file or folder that shall be written.

    Attributes:
        path: Where.
        out: The caller's parameter that names it, for errors.
        force: The caller's parameter that replaces what is there, for errors.
    """

    path: Path
    out: str = 'out'
    force: str = 'force'

    @property
    def exists(self) -> bool:
        """Whether there is anything; an empty folder is as good as none, a link counts, wherever it leads."""
        return os.path.lexists(self.path) and not (self.path.is_dir() and not any(self.path.iterdir()))

    def refusal(self, reason: str, *values: Any) -> UserError:
        """The error that nothing can be written here, as `reason` says, in which `{}` stands for each of `values`."""
        return UserError(f'{{}} {reason}; name another {{{self.out}}}', self.path, *values, **{self.out: None})

    def check_file(self, endings: Collection[str], or_folder: bool = False) -> None:
        """Refuse, before the work, a path where no file of these endings can be written.

        Args:
            endings: The formats of the caller, as in '.npz'.
            or_folder: The caller writes a folder too, for the error.

        Raises:
            ValueError: Another ending, a folder of that name, or no folder to write into.
        """
        if self.path.suffix not in endings:
            folder = ', or be a folder (a name without an ending)' if or_folder else ''
            raise self.refusal('must end in {}{}', ' or '.join(endings), folder)
        if self.path.is_dir():
            raise self.refusal('is a folder, not a file')
        if not self.path.parent.is_dir():
            raise self.refusal('cannot be written: there is no folder {}', self.path.parent)
        self._check_writable(self.path.parent)

    def check_folder(self) -> None:
        """Refuse, before the work, a folder that can neither be written into nor made, with those above it.

        Raises:
            ValueError: It is no folder, or cannot be written.
        """
        if os.path.lexists(self.path) and not self.path.is_dir():
            raise self.refusal('is a file, not a folder' if self.path.exists() else 'is a link to nothing')
        self._check_writable(self.path)

    def check_own_folder(self, names: Sequence[str], content: str) -> None:
        """Refuse, before the work, a folder that cannot be replaced as a whole, as it may hold what is not ours.

        Args:
            names: All files that may be in it; the first is always there.
            content: What it holds then, for the error.

        Raises:
            ValueError: It is no folder, cannot be written, is the current one, or holds other files.
        """
        self.check_folder()
        if self.path.resolve() == Path.cwd() or os.path.ismount(self.path):
            raise self.refusal('is no folder of its own, and would be replaced')
        self._check_writable(self.path.absolute().parent)
        if self.exists:
            there = {path.name for path in self.path.iterdir()}
            if others := sorted(there - set(names)) or [f'no {name}' for name in names[:1] if name not in there]:
                raise self.refusal('holds other things than {} ({})', content, others[0])

    def refuse_existing(self, force: bool) -> None:
        """Refuse to replace what is there, of whatever run, unless `force`.

        Raises:
            ValueError: There is something.
        """
        if self.exists and not force:
            raise UserError(f'{{}} is there; {{{self.force}}} replaces it', self.path, **{self.force: True})

    def refuse_other(self, before: Mapping[str, Any], now: Mapping[str, Any], force: bool = False) -> None:
        """Refuse to replace the results of another run, unless `force`.

        Args:
            before: The settings whose results are there; empty if they are not known.
            now: The settings of this run.
            force: Replace them all the same.

        Raises:
            ValueError: There are results of other settings; it names these, with both values.
        """
        if force or not self.exists:
            return
        now = json.loads(json.dumps(now))  # as `before` was stored
        differ = differences(before, now) if before else 'it is not known of which'
        if differ:
            raise UserError(
                f'{{}} holds the results of another run ({{}}); name another {{{self.out}}}, or {{{self.force}}} '
                'replaces them',
                self.path,
                differ,
                **{self.out: None, self.force: True},
            )

    def check_recorded(self, record: str, now: Mapping[str, Any], force: bool) -> None:
        """`check_folder`, and `refuse_other` by a JSON file in it that holds the settings among its results.

        Args:
            record: Name of that file; without it nothing is of a run.
            now: The settings of this run.
            force: Replace the results of another run.

        Raises:
            ValueError: As in these two.
        """
        self.check_folder()
        if not os.path.lexists(self.path / record):
            return
        from .files import check_regular  # here, as it imports more than a command needs to start

        before = {}
        with suppress(OSError, ValueError, TypeError, RecursionError):  # damaged, or somebody else's
            check_regular(self.path / record)
            before = dict(json.loads((self.path / record).read_bytes()))
        self.refuse_other({name: before[name] for name in now if name in before}, now, force)

    def _check_writable(self, folder: Path) -> None:
        parents = (folder, *folder.absolute().parents)
        there = next((path for path in parents if path.exists()), parents[-1])
        if not there.is_dir():
            raise self.refusal('cannot be written: {} is no folder', there)
        try:
            tempfile.TemporaryFile(dir=there).close()  # network file systems have permissions that no mode tells
        except OSError as error:
            raise self.refusal('cannot be written: {} ({})', there, error.strerror) from error


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between the settings of two runs, in words; long lists are compared by their lengths."""
    parts = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            parts.append(differences(old, new))
        elif old == new:
            continue
        elif isinstance(old, list) and isinstance(new, list) and len(str(old)) + len(str(new)) > 80:
            same = sum(a == b for a, b in zip(old, new, strict=False))
            parts.append(f'{key}: {len(old)}, {same} of them the same in the now {len(new)}')
        else:
            parts.append(f'{key} was {old}, is {new}')
    return '; '.join(part for part in parts if part)
