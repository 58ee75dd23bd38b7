"""How far two results are apart: the largest difference of their numbers, and which texts differ."""

import csv
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

from ..files import check_regular
from ..text import counted

_ARRAYS, _IMAGES = ('.npz', '.npy', '.safetensors'), ('.png', '.jpg', '.jpeg')
# What tells of the software, of weights or of the time that a run took: it may differ where the results do not.
ASIDE = {
    *('videozoo_timm', 'versions', 'torch', 'timm', 'pillow', 'pyav', 'weights', 'checksum', 'run', 'mark'),
    *('device', 'clips_per_second', 'seconds'),
}
_NUMBERS = 'biuf'  # kinds of types
_PIECE = 1 << 22  # numbers of an array that are compared at a time


@dataclass
class Difference:
    """How far two results of one name are apart.

    Attributes:
        reason: Why they cannot be compared; '' if they can.
        absolute: Largest difference of two numbers.
        relative: Largest difference of two numbers of an array or a column, as a fraction of the largest number there.
        where: The array or column in which that is.
        texts: Where texts differ.
        aside: Where that differs which tells of software, weights or time.
        by_bytes: They are no numbers: their bytes were compared.
    """

    reason: str = ''
    absolute: float = 0.0
    relative: float = 0.0
    where: str = ''
    texts: dict[str, None] = field(default_factory=dict)
    aside: dict[str, None] = field(default_factory=dict)
    by_bytes: bool = False

    def within(self, tolerance: float) -> bool:
        """Whether they are equal, but for differences of numbers up to a fraction of the largest number."""
        return not self.reason and not self.texts and self.relative <= tolerance

    def __str__(self) -> str:
        if self.reason:
            return self.reason
        parts = []
        if self.relative:
            parts.append(
                f'differs by at most {self.absolute:.3g}, {self.relative:.3g} of the largest value, in {self.where}'
            )
        if self.texts:
            parts.append(f'texts differ: {_few(self.texts)}')
        if not parts:
            parts.append('the same numbers')
        if self.aside:
            parts.append(f'apart from {_few(self.aside)}, which does not count')
        return '; '.join(parts)

    def numbers(self, name: str, old: 'np.ndarray | _Stored', new: 'np.ndarray | _Stored') -> None:
        """Compare two arrays of numbers."""
        if old.shape != new.shape:
            self.reason = self.reason or f'{name} was {list(old.shape)}, is {list(new.shape)}'
            return
        largest = scale = 0.0
        for pieces in zip(_pieces(old), _pieces(new), strict=True):
            a, b = (np.asarray(piece, np.float64) for piece in pieces)
            same = (a == b) | (np.isnan(a) & np.isnan(b))
            if not same.all():
                apart = np.abs(a[~same] - b[~same])
                largest = max(largest, float(np.where(np.isnan(apart), np.inf, apart).max()))
            finite = np.abs(np.concatenate([a, b]))
            scale = max(scale, float(finite[np.isfinite(finite)].max(initial=0.0)))
        if largest:
            relative = largest / scale if scale else math.inf
            if relative > self.relative:
                self.relative, self.where = relative, name
            self.absolute = max(self.absolute, largest)

    def text(self, name: str, old: Any, new: Any) -> None:
        """Compare two texts."""
        if old != new:
            key = name.rpartition('.')[2]
            (self.aside if key in ASIDE or name.partition('.')[0] in ASIDE else self.texts)[name] = None


class _Stored:
    """An array in an `.npz`, of which a piece at a time is in memory.

    Args:
        file: Of the array, as `numpy.save` writes it.

    Attributes:
        shape, dtype: Of the array.
        by_columns: Its values stand in Fortran's order.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file, version = file, np.lib.format.read_magic(file)
        headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in headers:
            raise ValueError(f'{version} is no version of arrays that is read')
        self.shape, self.by_columns, self.dtype = headers[version](file)

    def pieces(self) -> Iterator[np.ndarray]:
        left, size = math.prod(self.shape), self.dtype.itemsize
        while left:
            number = min(left, _PIECE)
            yield np.frombuffer(self.file.read(number * size), self.dtype, number)
            left -= number


def _pieces(values: 'np.ndarray | _Stored') -> Iterator[np.ndarray]:
    if isinstance(values, _Stored):
        yield from values.pieces()
        return
    flat = values.reshape(-1)
    yield from (flat[start : start + _PIECE] for start in range(0, len(flat), _PIECE))


def _few(names: Mapping[str, None]) -> str:
    every = list(names)
    return ', '.join(every[:5]) + (f' and {len(every) - 5} more' if len(every) > 5 else '')


def compare_files(old: Path, new: Path, renamed: Callable[[str], str] = lambda text: text) -> Difference:
    """How far a result is from an earlier one of its name.

    Numbers are compared in .npz, .npy, .safetensors, .csv and .json, pixels in PNG and JPEG; bytes in other files.

    Args:
        old: The earlier one.
        new: The later one.
        renamed: From a text in `new` to what it would be had the run been where the earlier one was.
    """
    check_regular(old)
    check_regular(new)
    result, ending = Difference(), old.suffix.lower()
    try:
        if ending in _ARRAYS:
            _compare_arrays(result, old, new, renamed)
        elif ending == '.csv':
            _compare_tables(result, old, new, renamed)
        elif ending == '.json':
            _compare_json(result, '', json.loads(old.read_bytes()), json.loads(new.read_bytes()), renamed)
        elif ending in _IMAGES:
            result.numbers('pixels', *(_pixels(path) for path in (old, new)))
        else:
            _compare_bytes(result, old, new)
    except Exception as error:  # of whatever library reads it: then it is no such file
        _compare_bytes(result, old, new)
        if result.reason:
            result.reason += f' (it cannot be read as {ending}: {" ".join(str(error).split())[:80]})'
    return result


def counterparts(names: Sequence[str], written: Sequence[str]) -> dict[str, str]:
    """What each of these files is called among others, which went into an empty folder.

    Pictures have a digest behind their names, or those of folders before them, where others were there (`own_stem`).
    """
    result, left = {}, set(written) - set(names)
    for name in names:
        path = PurePosixPath(name)
        stem = re.sub(r'_[0-9a-f]{8}$', '', path.stem)
        shorter = (other for other in sorted(left, key=len, reverse=True) if _may_be(other, path.with_stem(stem)))
        result[name] = name if name in written else next(shorter, name)
        left.discard(result[name])
    return result


def _may_be(other: str, name: PurePosixPath) -> bool:
    path = PurePosixPath(other)
    is_end = name.name == path.name or name.name.endswith(f'_{path.name}')
    return is_end and path.parent == name.parent


def _compare_bytes(result: Difference, old: Path, new: Path) -> None:
    result.by_bytes = True
    sizes = [path.stat().st_size for path in (old, new)]
    if sizes[0] != sizes[1]:
        result.reason = f'differs: had {counted(sizes[0], "byte")}, has {sizes[1]:,}'
        return
    with open(old, 'rb') as one, open(new, 'rb') as other:
        different = 0
        while (a := one.read(1 << 20)) and (b := other.read(1 << 20)):
            different += int((np.frombuffer(a, np.uint8) != np.frombuffer(b, np.uint8)).sum())
    if different:
        result.reason = f'differs in {different:,} of {counted(sizes[0], "byte")}'


def _compare_arrays(result: Difference, old: Path, new: Path, renamed: Callable[[str], str]) -> None:
    with ExitStack() as stack:
        before, after = (_arrays_in(path, stack) for path in (old, new))
        for name in dict.fromkeys((*before, *after)):
            if name not in before or name not in after:
                result.text(name, name in before, name in after)
                continue
            _compare_values(result, name, before[name](), after[name](), renamed)


def _compare_values(result: Difference, name: str, a: Any, b: Any, renamed: Callable[[str], str]) -> None:
    if isinstance(a, str) or isinstance(b, str) or a.dtype.kind not in _NUMBERS or b.dtype.kind not in _NUMBERS:
        texts = [_as_text(value) for value in (a, b)]
        _compare_texts(result, name, texts[0], texts[1], renamed)
    else:
        result.numbers(name, a, b)


def _arrays_in(path: Path, stack: ExitStack) -> dict[str, Callable[[], Any]]:
    """By name what gives an array, or a text of a header; they need not fit into memory together."""
    if path.suffix == '.npy':
        return {'the array': partial(np.load, path, mmap_mode='r')}
    if path.suffix == '.npz':
        arrays = stack.enter_context(np.load(path))
        return {name: partial(_stored, arrays, name, stack) for name in arrays.files}
    from safetensors import safe_open

    file = stack.enter_context(safe_open(path, 'pt'))
    texts = {name: partial(str, text) for name, text in (file.metadata() or {}).items()}
    return {name: partial(_tensor, file, name) for name in file.keys()} | texts  # noqa: SIM118 - no dictionary


def _stored(arrays: Any, name: str, stack: ExitStack) -> 'np.ndarray | _Stored':
    """Numbers of an `.npz`, to be read in pieces; anything else whole."""
    stored = _Stored(stack.enter_context(arrays.zip.open(f'{name}.npy')))
    return arrays[name] if stored.by_columns or stored.dtype.kind not in _NUMBERS else stored


def _tensor(file: Any, name: str) -> np.ndarray:
    return file.get_tensor(name).float().numpy()


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(np.asarray(value).tolist(), default=str)


def _compare_texts(result: Difference, name: str, old: str, new: str, renamed: Callable[[str], str]) -> None:
    """Two texts; of such as hold JSON (the settings of features) what is in them."""
    if old == new:
        return
    with suppress(ValueError, RecursionError):
        contents = [json.loads(text) for text in (old, new)]
        if all(isinstance(content, (dict, list)) for content in contents):
            _compare_json(result, f'{name}.', contents[0], contents[1], renamed)
            return
    result.text(name, old, renamed(new))


def _compare_tables(result: Difference, old: Path, new: Path, renamed: Callable[[str], str]) -> None:
    """Two tables; of a table of the pictures of several runs, the rows of pictures that both have."""
    before, after = (_table_in(path) for path in (old, new))
    for name in dict.fromkeys((*before, *after)):
        if name not in before or name not in after:
            result.text(name, name in before, name in after)
    if 'picture' in before and 'picture' in after:
        rows = {picture: k for k, picture in enumerate(before['picture'])}
        chosen = [rows.get(renamed(picture)) for picture in after['picture']]
        if missing := sum(row is None for row in chosen):
            result.reason = f'not in the earlier table: {counted(missing, "picture")}'
            return
        before = {name: [column[row] for row in chosen if row is not None] for name, column in before.items()}
    for name in before.keys() & after.keys():
        a, b = before[name], after[name]
        if len(a) != len(b):
            result.reason = f'had {counted(len(a), "row")}, has {len(b):,}'
            return
        numbers = [_numbers(column) for column in (a, b)]
        if name in ASIDE or numbers[0] is None or numbers[1] is None:
            result.text(name, a, [renamed(cell) for cell in b])
        else:
            result.numbers(name, numbers[0], numbers[1])


def _table_in(path: Path) -> dict[str, list[str]]:
    with open(path, newline='', encoding='utf-8', errors='surrogateescape') as file:
        header, *rows = csv.reader(file)
    return {name: [row[k] if k < len(row) else '' for row in rows] for k, name in enumerate(header)}


def _numbers(column: list[str]) -> np.ndarray | None:
    try:
        return np.array([float(cell) if cell else math.nan for cell in column])
    except ValueError:
        return None


def _compare_json(result: Difference, name: str, old: Any, new: Any, renamed: Callable[[str], str]) -> None:
    """Walk through two contents; numbers of one place in lists are compared as one column."""
    columns: dict[str, tuple[list[float], list[float]]] = {}
    pairs = _pairs(name.rstrip('.'), old, new)
    for where, a, b in pairs:
        if _is_number(a) and _is_number(b) and where.rpartition('.')[2] not in ASIDE:
            one, other = columns.setdefault(where, ([], []))
            one.append(float(a))
            other.append(float(b))
        elif isinstance(a, str) and isinstance(b, str):
            result.text(where, a, renamed(b))
        else:
            result.text(where, a, b)
    for where, (one, other) in columns.items():
        result.numbers(where or 'the number', np.array(one), np.array(other))


def _pairs(name: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            where = f'{name}.{key}' if name else str(key)
            yield from _pairs(where, old.get(key), new.get(key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for a, b in zip(old, new, strict=True):
            yield from _pairs(name, a, b)
    else:
        yield name, old, new


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _pixels(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path, formats=['PNG', 'JPEG']) as image:
        return np.asarray(image)
