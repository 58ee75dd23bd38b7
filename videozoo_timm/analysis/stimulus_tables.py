"""Tables of others that say which stimuli there are, in which order, and at which times features are wanted."""

import csv
import hashlib
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..files import check_regular
from ..paths import as_path, not_found
from ..synthetic import is_drawn
from ..text import counted, printable
from ..video import Times, find_media

__all__ = ['At', 'Manifest', 'TimesOfFiles', 'read_manifest', 'times_of']

At = str | os.PathLike[str] | Iterable[float] | Mapping[str, Iterable[float]]

_TIME = ('time', 'onset', 'seconds')
_FILE = ('file', 'path', 'filename', 'file_name', 'filepath', 'stimulus_path', 'image', 'video')
_ID = ('id', 'stimulus_id', 'image_id', 'video_id', 'identifier', 'stimulus', 'name')
_IMAGES = re.compile('image[0-9]+')  # of DevBench: a row is a trial


@dataclass(frozen=True)
class _Lines:
    """Rows of a text file, each with its line; of a header the names of its columns."""

    path: Path
    header: list[str]
    rows: list[tuple[int, list[str]]]

    def where(self, line: int) -> str:
        return f'{self.path}, line {line}'

    def column(self, names: Sequence[str]) -> int | None:
        """The first of these columns that there is."""
        return next(iter(self.columns(names)), None)

    def columns(self, names: Sequence[str]) -> list[int]:
        """Those of these columns that there are."""
        lower = [name.lower() for name in self.header]
        return [lower.index(name) for name in names if name in lower]

    def lacks(self, what: str) -> ValueError:
        columns = ', '.join(self.header) if self.header else f'{len(self.rows[0][1])} columns without names'
        return ValueError(f'{self.where(1)}: no column {what}; there are {printable(columns, 200)}')


def _read_table(source: str | os.PathLike[str]) -> _Lines:
    """A table with commas, semicolons or tabs between its columns; what is a number in each column has no header."""
    path = as_path(source)
    if not path.exists():
        raise not_found(path, 'file')
    check_regular(path)
    rows: list[tuple[int, list[str]]] = []
    try:
        with open(path, newline='', encoding='utf-8-sig') as file:
            first = next((line for line in file if line.strip() and line[0] != '#'), '')
            file.seek(0)
            mark = '\t' if '\t' in first else ';' if ';' in first and ',' not in first else ','
            reader = csv.reader(file, delimiter=mark)
            for cells in reader:
                if any(cell.strip() for cell in cells) and cells[0][:1] != '#':
                    rows.append((reader.line_num, [cell.strip() for cell in cells]))
    except UnicodeDecodeError as error:
        raise ValueError(f'{path}: is no text in UTF-8 (after line {len(rows)})') from error
    except csv.Error as error:
        raise ValueError(f'{path}: is no table ({error}, after line {len(rows)})') from error
    if not rows:
        raise ValueError(f'{path}: is empty')
    header = [] if all(map(_is_number, rows[0][1])) else rows.pop(0)[1]
    table = _Lines(path, header, rows)
    width = len(header or rows[0][1])
    for line, cells in rows:
        if len(cells) != width:
            raise ValueError(f'{table.where(line)}: {len(cells)} columns, those before have {width}')
    if not rows:
        raise ValueError(f'{path}: holds a header alone')
    return table


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class TimesOfFiles:
    """At which times features of each file are wanted.

    Attributes:
        of: The times, by file.
        without: Files and names that have no times, or no file, with the reason.
        told: What tells one set of times from another, with their number.
    """

    of: dict[str, Times]
    without: list[tuple[str, str]]
    told: str

    def on_clock(self, of_file: bool) -> 'TimesOfFiles':
        """The same, on the clock of each file or from its first frame."""
        return replace(self, of={file: replace(times, on_file_clock=of_file) for file, times in self.of.items()})


def times_of(at: At | TimesOfFiles, files: Sequence[str], on_file_clock: bool = False) -> TimesOfFiles:
    """At which times features of each file are wanted.

    Args:
        at: A file: one column of seconds for each video, under a header `time` or `onset` (a BIDS `events.tsv`) or
            none; with a column `file` beside it for each video its own. Or seconds for each video; or these by file; or
            what this function has made of such.
        files: The videos. One is named by its path, as given or from the folder of the table, or by the path's end.
        on_file_clock: Whether the times are on the clock of each file.

    Raises:
        FileNotFoundError: There is no such table.
        ValueError: It has no such columns; or a time is no number, or told twice; it names file and line.
    """
    if isinstance(at, TimesOfFiles):
        return at.on_clock(on_file_clock)
    if isinstance(at, (str, os.PathLike)):
        source, place = str(at), 'line'
        common, of_names = _times_in(_read_table(at))
        base = as_path(at).parent
    else:
        source, place, base = 'at', 'entry', Path()
        named: Any = at if isinstance(at, Mapping) else {'': at if isinstance(at, Iterable) else [at]}
        of_names = {
            str(name): [(_seconds(time, f'at, entry {k}'), k) for k, time in enumerate(times)]
            for name, times in named.items()
        }
        common = None if isinstance(at, Mapping) else of_names.pop('')
        if not (common or any(of_names.values())):
            raise ValueError('at: holds no times')
    without: list[tuple[str, str]] = []
    if common is not None:
        of = dict.fromkeys(files, Times.of(common, source, place))
    else:
        names, found = _FilesByName(files, base), {}
        for name, told in of_names.items():
            file = names.find(name, f'{source}, {place} {told[0][1]}' if told else source)
            if file is None:
                without.append((name, f'{name}: {source} has times of it, but it is not among the files'))
            else:
                found.setdefault(file, []).extend(told)
        of = {file: Times.of(found[file], source, place) for file in files if found.get(file)}
        without += [(file, f'{file}: {source} has no times of it') for file in files if file not in of]
    if not of:
        raise ValueError(f'{source}: has times of none of {counted(len(files), "file")}; {without[0][1]}')
    content = {name: sorted(time for time, _ in told) for name, told in of_names.items() or [('', common or ())]}
    told = f'{sum(map(len, content.values()))} times ({_digest(content)})'
    return TimesOfFiles(of, without, told).on_clock(on_file_clock)


def _digest(content: Any) -> str:
    return hashlib.sha256(repr(content).encode('utf-8', 'surrogateescape')).hexdigest()[:16]


_Told = list[tuple[float, int]]


def _times_in(table: _Lines) -> tuple[_Told | None, dict[str, _Told]]:
    """The times of a table: of every file, or by file."""
    columns = table.columns(_TIME) if table.header else [0] * (len(table.rows[0][1]) == 1)
    if not columns:
        raise table.lacks('time or onset')
    if len(columns) > 1:
        both = ' and '.join(table.header[column] for column in columns)
        raise ValueError(f'{table.where(1)}: the columns {both} both tell times; leave one of them')
    column, file, shown = columns[0], table.column(_FILE), table.column(['stim_file'])
    if file is None and shown is not None and any(cells[shown] not in ('', 'n/a') for _, cells in table.rows):
        raise ValueError(
            f'{table.where(1)}: stim_file says what was shown when, on the clock of a recording; wanted are times '
            f'within each video, in columns file and time'
        )
    told: dict[str, _Told] = {}
    for line, cells in table.rows:
        told.setdefault('' if file is None else cells[file], []).append(
            (_seconds(cells[column], table.where(line)), line)
        )
    return (told[''], {}) if file is None else (None, told)


def _seconds(value: Any, where: str) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not math.isfinite(seconds):
        raise ValueError(f'{where}: {printable(repr(value), 60)} is no number of seconds')
    return seconds


class _FilesByName:
    """Files by the names that a table has for them."""

    def __init__(self, files: Sequence[str], base: Path) -> None:
        self._files, self._base = dict.fromkeys(files), base
        self._absolute = {os.path.abspath(file): file for file in files}
        self._by_end: dict[str, list[str]] = {}
        for file in self._files:
            self._by_end.setdefault(Path(file).name, []).append(file)

    def find(self, name: str, where: str) -> str | None:
        """The file of a name.

        Raises:
            ValueError: The name is the end of several paths.
        """
        if name in self._files:
            return name
        if file := self._absolute.get(os.path.abspath(self._base / name)):
            return file
        parts = Path(name).parts
        found = [file for file in self._by_end.get(parts[-1] if parts else '', ()) if _ends_with(file, parts)]
        if len(found) > 1:
            raise ValueError(f'{where}: {printable(name)} may be {found[0]} or {found[1]}: name more of its path')
        return found[0] if found else None


def _ends_with(file: str, parts: tuple[str, ...]) -> bool:
    return Path(file).parts[-len(parts) :] == parts


@dataclass(frozen=True)
class Manifest:
    """Somebody else's list of stimuli, in its order (`read_manifest`).

    Attributes:
        files: The files that are there.
        ids: Their identifiers.
        missing: What is not there: the name, and where it is listed.
        extra: Files that are there and that it does not list.
        told: What tells one manifest from another, with the number of its stimuli.
    """

    files: list[str]
    ids: list[str]
    missing: list[tuple[str, str]] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    told: str = ''


def read_manifest(source: str | os.PathLike[str], paths: Iterable[str | os.PathLike[str]] = ()) -> Manifest:
    """Somebody else's list of stimuli: a table with a column of files, and perhaps one of identifiers.

    Files stand in a column `file`, `path`, `filename`, `image` or `video`, identifiers in a column `id`, `stimulus_id`,
    `stimulus` or `name`; without that the names of the files identify them. The images of DevBench's trials (`image1`,
    `image2`, ...) follow one another in each row.

    Args:
        source: The table: CSV, or TSV.
        paths: Folders from which its paths go, beside its own folder; or the files.

    Raises:
        FileNotFoundError: There is no such table, or no such path.
        ValueError: It has no such column, an identifier twice, or none of its files is there.
    """
    table = _read_table(source)
    column, id_column = table.column(_FILE), table.column(_ID)
    trials = [k for k, name in enumerate(table.header) if _IMAGES.fullmatch(name.lower())]
    columns = trials if column is None else [column]
    if not columns:
        raise table.lacks('file, path or filename')
    given = [os.fspath(path) for path in paths]
    found = [os.fspath(file) for file in find_media(given)] if given else []
    folders, names = [*filter(os.path.isdir, given), table.path.parent], _FilesByName(found, table.path.parent)
    files: list[str] = []
    ids: list[str] = []
    missing: list[tuple[str, str]] = []
    lines: dict[str, int] = {}
    for line, cells in table.rows:
        for k in columns:
            name = cells[k]
            if not name:
                raise ValueError(f'{table.where(line)}: no {table.header[k]}')
            own = name if id_column is None else cells[id_column]
            if id_column is not None and len(columns) > 1:
                own = f'{own}/{table.header[k]}'
            if id_column is not None and lines.setdefault(own, line) != line:
                raise ValueError(
                    f'{table.where(line)}: the identifier {printable(own)} stands in line {lines[own]} too'
                )
            file = _file_of(name, folders) or names.find(name, table.where(line))
            if file is None:
                missing.append((name, f'{table.where(line)}: no file {printable(name)}'))
            else:
                files.append(file)
                ids.append(own)
    number = len(files) + len(missing)
    if not files:
        raise ValueError(f'{table.path}: none of its {counted(number, "file")} is there; {missing[0][1]}')
    listed = set(map(os.path.abspath, files))
    extra = [file for file in found if os.path.abspath(file) not in listed]
    return Manifest(files, ids, missing, extra, f'{number} stimuli ({_digest(table.rows)})')


def _file_of(name: str, folders: Iterable[str | os.PathLike[str]]) -> str | None:
    if is_drawn(name):
        return name
    return next((path for folder in folders if os.path.isfile(path := os.path.join(folder, name))), None)
