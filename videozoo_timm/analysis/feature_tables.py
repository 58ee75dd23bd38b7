"""Features as tables for other programs, `.csv` and `.parquet`: path, times and the columns f0, f1, ... in each row.

Rows of somebody else's list of stimuli have its identifiers in a column `id` (`manifest`).
Where features of several blocks were asked for, each block has a row of its own, with its number in a column `block`.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..files import atomic_write, check_regular

__all__ = ['TABLES', 'check_table', 'read_about', 'save_table']

TABLES = ('.csv', '.parquet')
_AT_ONCE = 4096  # rows that are held in memory
_KEY = b'videozoo'  # of Parquet's own header


def check_table(out: Path, tokens: str = 'class') -> None:
    """Refuse, before the work, a table that cannot be written.

    Raises:
        ValueError: Its rows would be maps; or the settings, which a `.csv` has beside it, would replace another file.
        ImportError: A `.parquet` without pyarrow.
    """
    if tokens == 'all':
        raise UserError(
            '{}: a row of a table holds one vector, not a map: {tokens}, or write .npz, .safetensors or a folder',
            out,
            tokens='mean',
        )
    if out.suffix == '.parquet':
        _pyarrow(out)
    elif _beside(out).exists() and not read_about(out):
        raise ValueError(f'{_beside(out)} would hold the settings of {out.name}, but is something else: move it away')


def save_table(
    out: Path,
    features: np.ndarray,
    paths: Sequence[str],
    columns: Mapping[str, np.ndarray],
    blocks: Sequence[int] | None,
    about: Mapping[str, Any],
    ids: Sequence[str] | None = None,
    **options: Any,
) -> None:
    """Write a table, whole or not at all.

    Args:
        out: `.csv` or `.parquet`.
        features: float32 [R, C], of blocks [R, K, C].
        paths: Of each row.
        columns: Values of each row, by name.
        blocks: The K blocks.
        about: What is stored about it: in the header of a `.parquet`, beside a `.csv` in a file `NAME.csv.json`.
        ids: Of each row, the identifier of its stimulus.
        **options: Of `atomic_write`.
    """
    if features.ndim != (2 if blocks is None else 3):
        raise ValueError(f'{out}: a row of a table holds one vector, not a map: write .npz, .safetensors or a folder')
    texts = dict(path=paths) if ids is None else dict(path=paths, id=ids)
    write = _write_csv if out.suffix == '.csv' else _write_parquet
    with atomic_write(out, **options) as partial:
        write(partial, _pieces(features, texts, columns, blocks), dict(about))
        if out.suffix == '.csv':
            with atomic_write(_beside(out), **options) as settings:
                settings.write_text(json.dumps(dict(about), indent=1))
                out.unlink(missing_ok=True)  # whenever this ends, no table stands beside another one's settings


def read_about(out: Path) -> dict[str, Any]:
    """What is stored about a table; nothing of any other file.

    Raises:
        Exception: There is none, or it is damaged; of any type.
    """
    if out.suffix == '.parquet':
        check_regular(out)
        metadata = _pyarrow(out).parquet.read_schema(out).metadata or {}
        return json.loads(metadata[_KEY])
    with suppress(OSError, ValueError, RecursionError):
        check_regular(_beside(out))
        content = json.loads(_beside(out).read_bytes())
        return content if isinstance(content, dict) and 'paths' in content else {}
    return {}


def _beside(out: Path) -> Path:
    return out.with_name(f'{out.name}.json')


def _pyarrow(out: Path) -> Any:
    try:
        import_module('pyarrow.parquet')
    except ImportError as error:
        remedy = "pip install 'videozoo-timm[tables]' (a .csv needs nothing)"
        raise ImportError(f'{out}: Parquet needs pyarrow: {remedy}') from error
    return import_module('pyarrow')


def _pieces(
    features: np.ndarray,
    texts: Mapping[str, Sequence[str]],
    columns: Mapping[str, np.ndarray],
    blocks: Sequence[int] | None,
) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """The columns before the features, and the features [n, C], of some rows at a time; at least once."""
    repeats = 1 if blocks is None else len(blocks)
    for first in range(0, max(len(features), 1), _AT_ONCE):
        rows = slice(first, first + _AT_ONCE)
        values = np.asarray(features[rows]).reshape(-1, features.shape[-1])
        before: dict[str, Any] = {
            name: [text for text in column[rows] for _ in range(repeats)] for name, column in texts.items()
        }
        before |= {name: np.repeat(column[rows], repeats) for name, column in columns.items()}
        if blocks is not None:
            before['block'] = np.tile(np.array(blocks, dtype=np.int64), len(values) // repeats)
        yield before, values


def _write_csv(partial: Path, pieces: Iterator[tuple[dict[str, Any], np.ndarray]], about: dict[str, Any]) -> None:
    with open(partial, 'w', newline='', encoding='utf-8', errors='surrogateescape') as file:
        writer = csv.writer(file)
        for k, (before, values) in enumerate(pieces):
            if k == 0:
                writer.writerow([*before, *(f'f{j}' for j in range(values.shape[1]))])
            lists = [column if isinstance(column, list) else column.tolist() for column in before.values()]
            for row, numbers in zip(zip(*lists, strict=True), values.tolist(), strict=True):
                writer.writerow([*row, *(f'{number:.9g}' for number in numbers)])  # 9 digits tell every float32


def _write_parquet(partial: Path, pieces: Iterator[tuple[dict[str, Any], np.ndarray]], about: dict[str, Any]) -> None:
    pa, writer = _pyarrow(partial), None
    for before, values in pieces:
        for name, column in before.items():
            if isinstance(column, list):
                before[name] = [text.encode('utf-8', 'backslashreplace').decode() for text in column]
        table = pa.table({**before, **{f'f{j}': column for j, column in enumerate(values.T)}})
        if writer is None:
            table = table.replace_schema_metadata({_KEY: json.dumps(about).encode()})
            writer = pa.parquet.ParquetWriter(partial, table.schema)
        writer.write_table(table.cast(writer.schema))
    if writer is not None:
        writer.close()
