"""Features that `embed` has written, read again: which stimulus and time each row is of, and the rows themselves."""

import csv
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..files import check_regular
from ..paths import as_path, not_found
from ..text import counted
from .feature_files import Embeddings
from .feature_tables import TABLES, read_about

__all__ = ['FeatureFile', 'open_features']

_SECONDS = ('time', 'start', 'end', 'duration', 'padded', 'damaged', 'clock_offset')
_NAMES = ('paths', 'ids')
_FORMATS = ('.npz', '.safetensors', *TABLES)


@dataclass(repr=False)
class FeatureFile:
    """Features in a file, whose rows are read when they are asked for.

    Attributes:
        name: What it is called in tables and pictures.
        paths: The stimulus of each row.
        columns: float64 [R] each: `time` of the row and, as far as they are stored, the others of `Embeddings`.
        blocks: The blocks that the features are of; None for the model's output.
        about: What is stored about them: `model`, `settings`, and others.
        ids: Of each row, the identifier of its stimulus in somebody else's list (`manifest` of `embed`); None without.
    """

    name: str
    paths: list[str]
    columns: dict[str, np.ndarray]
    blocks: list[int] | None
    about: dict[str, Any]
    _read: Callable[[], np.ndarray] = field(repr=False)
    ids: list[str] | None = None

    def __repr__(self) -> str:
        return f'FeatureFile({self.name}: {counted(len(self.paths), "row")}, blocks={self.blocks})'

    @property
    def model(self) -> str:
        """The model that gave the features, '' if it is not stored."""
        return str(self.about.get('model', ''))

    @property
    def time(self) -> np.ndarray:
        """float64 [R], the time that each row stands for, in seconds."""
        return self.columns['time']

    def features(self) -> np.ndarray:
        """All features, [R, K, C] of K blocks (one, if they are the model's output); maps are flattened to vectors.

        Raises:
            ValueError: The file is damaged, or holds something else.
        """
        features = self.array()
        return features.reshape(len(features), len(self.blocks or [0]), -1)

    def array(self) -> np.ndarray:
        """All features as they are stored, in the shapes of `Embeddings.features`.

        Raises:
            ValueError: The file is damaged, or holds something else.
        """
        try:
            features = np.asarray(self._read())
        except Exception as error:  # of the libraries that read it, of many types
            raise ValueError(f'{self.name}: the features cannot be read: {error}') from error
        if len(features) != len(self.paths) or features.ndim < (2 if self.blocks is None else 3):
            raise ValueError(
                f'{self.name}: features of the shape {features.shape} are not {counted(len(self.paths), "row")}'
            )
        return features

    @classmethod
    def of(cls, name: str, embeddings: Embeddings) -> 'FeatureFile':
        """The result of `embed` under a name."""
        rows = embeddings.video_index.tolist()
        paths, ids = _of_rows(embeddings.paths, rows), embeddings.ids and _of_rows(embeddings.ids, rows)
        columns = {column: getattr(embeddings, column).numpy() for column in _SECONDS}
        return cls(name, paths, columns, embeddings.blocks, {}, lambda: embeddings.features.numpy(), ids)


def _of_rows(values: Sequence[Any], rows: Sequence[int]) -> list[str]:
    return [str(values[index]) for index in rows]


def open_features(path: str | os.PathLike[str], name: str | None = None) -> FeatureFile:
    """Features as `embed` writes them: `.npz`, `.safetensors`, `.csv`, `.parquet` or a folder.

    Args:
        path: The file or folder.
        name: What to call it; its stem if None.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It holds no features, or is damaged.
        ImportError: A `.parquet` without pyarrow.
    """
    source = as_path(path)
    if not os.path.lexists(source):
        raise not_found(source, 'features')
    if not source.is_dir():
        check_regular(source)
        if source.suffix not in _FORMATS:
            raise UserError('{} holds no features: they are {}, or a folder', source, ', '.join(_FORMATS))
    elif not (source / 'about.json').is_file():
        raise UserError('{} is a folder without features: name a file or a folder of `videozoo embed`', source)
    name = name or source.stem
    try:
        if source.is_dir():
            return _of_arrays(name, *_folder(source))
        if source.suffix in TABLES:
            return _of_table(name, source)
        return _of_arrays(name, *(_npz(source) if source.suffix == '.npz' else _safetensors(source)))
    except ImportError:
        raise
    except Exception as error:  # of NumPy, zipfile, json, safetensors and pyarrow, of many types
        reason = f'there is no {error}' if isinstance(error, KeyError) else str(error)
        raise ValueError(f'{source} cannot be read as features of `videozoo embed`: {reason}') from error


def _of_arrays(
    name: str, arrays: dict[str, np.ndarray], about: dict[str, Any], read: Callable[[], np.ndarray]
) -> FeatureFile:
    rows, blocks, ids = arrays['video_index'].tolist(), arrays.get('blocks'), about.pop('ids', None)
    paths, ids = _of_rows(about.pop('paths'), rows), None if ids is None else _of_rows(ids, rows)
    columns = {column: np.asarray(arrays[column], np.float64) for column in _SECONDS if column in arrays}
    columns['time'] = np.asarray(arrays['time'], np.float64)
    return FeatureFile(name, paths, columns, None if blocks is None else blocks.tolist(), about, read, ids)


def _npz(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any], Callable[[], np.ndarray]]:
    def read() -> np.ndarray:
        with np.load(path) as arrays:
            return arrays['features']

    with np.load(path) as arrays:
        if 'features' not in arrays.files:
            raise KeyError('features')
        small = {key: arrays[key] for key in arrays.files if key != 'features'}
    about: dict[str, Any] = {key: str(text) for key, text in small.items() if text.dtype.kind == 'U' and not text.ndim}
    names = {key: small[key].tolist() for key in _NAMES if key in small}
    return small, {**about, **names}, read


def _safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any], Callable[[], np.ndarray]]:
    from safetensors import safe_open

    def read() -> np.ndarray:
        with safe_open(path, 'np') as file:
            return file.get_tensor('features')

    with safe_open(path, 'np') as file:
        small = {key: file.get_tensor(key) for key in file.keys() if key != 'features'}  # noqa: SIM118
        about = dict(file.metadata())
    names = {key: json.loads(about[key]) for key in _NAMES if key in about}
    return small, {**about, **names}, read


def _folder(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any], Callable[[], np.ndarray]]:
    about = json.loads((path / 'about.json').read_text())
    small = {file.stem: np.load(file) for file in path.glob('*.npy') if file.stem != 'features'}
    return small, about, lambda: np.load(path / 'features.npy', mmap_mode='r')


def _of_table(name: str, path: Path) -> FeatureFile:
    if path.suffix == '.csv':
        with open(path, newline='', encoding='utf-8', errors='surrogateescape') as file:
            header, *rows = csv.reader(file)
        texts = dict(zip(header, zip(*rows, strict=True), strict=True))
    else:
        from pyarrow.parquet import read_table

        table = read_table(path)
        texts = {key: table[key].to_numpy() for key in table.column_names}
    about = {key: value for key, value in read_about(path).items() if key not in _NAMES}
    blocks = list(dict.fromkeys(int(block) for block in texts['block'])) if 'block' in texts else None
    step = len(blocks) if blocks else 1  # the blocks of a clip stand one below the other
    values = np.stack([np.asarray(texts[f'f{j}'], np.float32) for j in range(_width(texts))], axis=1)
    values = values if blocks is None else values.reshape(-1, step, values.shape[1])
    columns = {key: np.asarray(texts[key][::step], np.float64) for key in _SECONDS if key in texts}
    paths, ids = ([str(text) for text in texts[key][::step]] if key in texts else None for key in ('path', 'id'))
    if paths is None:
        raise KeyError('path')
    return FeatureFile(name, paths, columns, blocks, about, lambda: values, ids)


def _width(texts: dict[str, Any]) -> int:
    width = sum(key[:1] == 'f' and key[1:].isdecimal() for key in texts)
    if not width:
        raise KeyError('f0')
    return width
