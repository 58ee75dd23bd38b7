"""Whether results may be written where they shall: one rule for every command, told in one voice.

What is not there is written, if its folder can be. What is there of the same run is continued or replaced by it; of
another run, it is replaced if the caller says so; anything else is never replaced. In a folder that collects the
pictures of many runs, those of other settings stay, and the new ones get names of their own (`own_stem`).
"""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UserError

PICTURES = ('.png', '.jpg', '.jpeg', '.pdf', '.svg')  # endings of pictures
_BESIDE = ('.npz', '.gif', '.mp4')  # and of what is written beside them under the same name


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

    def check_recorded(self, record: str, now: Mapping[str, Any], force: bool, others: Collection[str] = ()) -> None:
        """`check_folder`, and `refuse_other` by a JSON file in it that holds the settings among its results.

        Args:
            record: Name of that file; without it nothing is of a run.
            now: The settings of this run.
            force: Replace the results of another run.
            others: Names of the other files that may be written; without the record they are somebody else's.

        Raises:
            ValueError: As in these two.
        """
        self.check_folder()
        if not os.path.lexists(self.path / record):
            if taken := [name for name in others if os.path.lexists(self.path / name)]:
                reason = 'holds {}, but no {}: it is of something else, and would be replaced'
                raise self.refusal(reason, taken[0], record)
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
            parts.append(f'{key} was {_told(old)}, is {_told(new)}')
    return '; '.join(part for part in parts if part)


def _told(value: Any) -> Any:
    return "''" if value == '' else value


@dataclass(frozen=True)
class Mark:
    """What tells whose a picture is: digests of the file that it shows, and of the settings that decide about it.

    It stands in the picture's comment, whatever the format, and in the row of its table. Names of folders do not.
    """

    source: str
    settings: str

    @classmethod
    def of(cls, source: str, settings: Mapping[str, Any]) -> 'Mark':
        """The mark of a picture: `source` is the file's absolute path."""
        texts = source, json.dumps(settings, sort_keys=True)
        return cls(*(hashlib.sha256(os.fsencode(text)).hexdigest()[:16] for text in texts))

    def __str__(self) -> str:
        return f'videozoo {self.source} {self.settings}'

    @classmethod
    def found(cls, content: bytes | str) -> 'Mark | None':
        """The mark in a picture or in the cell of a table; None if there is none, as in a picture of version 0.1."""
        text = content if isinstance(content, bytes) else os.fsencode(content)
        match = re.search(rb'videozoo ([0-9a-f]{16}) ([0-9a-f]{16})', text)
        return cls(*(part.decode() for part in match.groups())) if match else None


def own_stem(folder: Path, stems: Sequence[str], mark: Mark, told: Mapping[str, Mark | None]) -> str:
    """What to call a picture, without ending, so that it replaces none but an earlier one of the same mark.

    Args:
        folder: Where it goes.
        stems: Names in the order of preference, which tell the file from others.
        mark: Of the picture.
        told: By their names, the marks of pictures that a table tells of.

    Returns:
        The first name that is free or its own. Where a picture of the same file with other settings has it, a digest of
        the settings is added.

    Raises:
        ValueError: All names are taken.
    """

    def may_be(stem: str) -> bool:
        return marks.get(stem) in (set(), {mark})

    marks: dict[str, set[Mark | None]] = {}
    for stem in stems:
        marks[stem] = _marks_of(folder, stem, told)
        if may_be(stem):
            return stem
        if any(other and other.source == mark.source for other in marks[stem]):
            break
    last = f'{next(reversed(marks))}_{mark.settings[:8]}'
    marks[last] = _marks_of(folder, last, told)
    if not may_be(last):
        raise Output(folder).refusal('holds other pictures of the name {}', last)
    return last


def _marks_of(folder: Path, stem: str, told: Mapping[str, Mark | None]) -> set[Mark | None]:
    """The marks of what has this name; None stands for what has none."""
    from .files import check_regular

    marks = {told[stem]} if stem in told else set()
    there = [path for ending in (*PICTURES, *_BESIDE) if os.path.lexists(path := folder / f'{stem}{ending}')]
    for path in there:
        if path.suffix in PICTURES:
            try:
                check_regular(path)
                marks.add(Mark.found(path.read_bytes()))
            except (OSError, ValueError):  # not to be read, so not ours to replace
                marks.add(None)
    return marks or ({None} if there else set())
