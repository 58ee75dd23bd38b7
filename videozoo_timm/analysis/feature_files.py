"""Features as they are given and stored: one row a clip."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..files import MAKE_ROOM, atomic_write, check_regular
from ..outputs import Output
from ..text import counted
from ..weights.writing import save_tensors
from .feature_tables import TABLES, check_table, read_about, save_table

__all__ = ['Embeddings', 'check_output', 'read_origin']

_COLUMNS = ('video_index', 'time', 'start', 'end', 'duration', 'padded', 'damaged', 'clock_offset')


@dataclass(repr=False)
class Embeddings:
    """Features of clips (or images), one row a clip.

    Attributes:
        features: float32 [R, C]; with `tokens='all'` [R, T', H', W', C] of clips, [R, H', W', C] of images; with
            `blocks` these have the blocks as their second dimension, [R, K, ...].
        video_index: int64 [R], which of `paths` a row is of.
        time: float64 [R], the time that a row stands for, in seconds from the video's first frame, or on the file's own
            clock (`clock='file'`); `start` and `end` are on the same clock.
        start: float64 [R], start of the row's window.
        end: float64 [R], end of the window.
        duration: float64 [R], of the row's video; of one that is cut off, of what is there.
        padded: float64 [R], fraction of the row's frames that repeat the video's first or last frame, as the window
            begins before the one or ends after the other.
        damaged: float64 [R], fraction of the row's frames that are damaged or did not decode.
        clock_offset: float64 [R], presentation time of the first frame on the file's own clock, in seconds.
        paths: The files that could be read.
        failed: Those that could not, with the reason.
        blocks: The blocks asked for, counted from 0, in the order of the request.
        lost: The files of which a part is missing, with what it is.
        ids: Identifiers of `paths` in somebody else's list (`manifest`).
    """

    features: torch.Tensor
    video_index: torch.Tensor
    time: torch.Tensor
    start: torch.Tensor
    end: torch.Tensor
    duration: torch.Tensor
    padded: torch.Tensor
    damaged: torch.Tensor
    clock_offset: torch.Tensor
    paths: list[str]
    failed: list[tuple[str, str]] = field(default_factory=list)
    blocks: list[int] | None = None
    lost: list[tuple[str, str]] = field(default_factory=list)
    ids: list[str] | None = None

    def __repr__(self) -> str:
        parts = [counted(len(self.paths), 'file'), f'features={list(self.features.shape)}']
        told = dict(blocks=self.blocks, failed=len(self.failed) or None, lost=len(self.lost) or None)
        parts += [f'{name}={value}' for name, value in told.items() if value is not None]
        return f'Embeddings({", ".join(parts)})'

    def save(self, out: str | os.PathLike, about: dict[str, str] | None = None) -> None:
        """Write a file or, with a name without ending, a folder of `.npy` files; whole or not at all.

        `paths`, `ids` and the strings of `about` stand in the header of a `.safetensors` file and in `about.json` of a
        folder. `.csv` and `.parquet` are tables with the path, the times and the features f0, f1, ... in each row.

        Args:
            out: `.npz`, `.safetensors`, `.csv`, `.parquet` or a folder to write.
            about: Strings to store beside them: which model, for instance.

        Raises:
            ValueError: Another ending.
            OSError: The disk is full, or not to be written.
        """
        out = Path(out)
        check_output(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        self._save(out, about or {}, MAKE_ROOM)

    def _save(self, out: Path, about: dict[str, str], remedy: str) -> None:
        options: dict[str, Any] = dict(remedy=remedy, durable=True)  # a journal is removed for it
        arrays = dict(features=self.features, **{name: getattr(self, name) for name in _COLUMNS})
        if self.blocks is not None:
            arrays['blocks'] = torch.tensor(self.blocks)
        names = dict(paths=self.paths) if self.ids is None else dict(paths=self.paths, ids=self.ids)
        if out.suffix in TABLES:
            columns = {name: getattr(self, name).numpy() for name in _COLUMNS if name != 'video_index'}
            rows = self.video_index.tolist()
            paths, ids = ([values[index] for index in rows] if values else None for values in (self.paths, self.ids))
            content = {**names, **about}
            save_table(out, self.features.numpy(), paths or [], columns, self.blocks, content, ids=ids, **options)
            return
        if out.suffix == '.safetensors':
            save_tensors(arrays, out, {**names, **about}, **options)
            return
        with atomic_write(out, sum(array.nbytes for array in arrays.values()), **options) as partial:
            if out.suffix == '.npz':
                content: dict[str, Any] = {**{key: array.numpy() for key, array in arrays.items()}, **about}
                content |= {name: np.array(values) for name, values in names.items()}
                with open(partial, 'wb') as file:
                    np.savez(file, **content)
                return
            partial.mkdir()
            for name, array in arrays.items():
                np.save(partial / f'{name}.npy', array.numpy())
            (partial / 'about.json').write_text(json.dumps({**names, **about}, indent=1))


def check_output(out: Path, tokens: str = 'class') -> None:
    """Raise a ValueError unless features of these tokens can be written there."""
    output = Output(out, force='start_over')
    if out.suffix:
        output.check_file(('.npz', '.safetensors', *TABLES), or_folder=True)
        if out.suffix in TABLES:
            check_table(out, tokens)
    else:
        arrays = [f'{name}.npy' for name in ('features', 'blocks', *_COLUMNS)]
        output.check_own_folder(('about.json', *arrays, 'run.json'), 'features')


def read_origin(out: Path) -> dict[str, Any]:
    """What is stored about features beside them: `paths`, `settings`, `model`; nothing of any other file."""
    try:
        if out.suffix in TABLES:
            about = read_about(out)
            paths = about.pop('paths')
            return dict(about, paths=paths) if _are_names(paths) else {}
        check_regular(out if out.suffix else out / 'about.json')
        if out.suffix == '.npz':
            with np.load(out) as arrays:
                keys = [key for key in arrays.files if key not in ('features', 'blocks', *_COLUMNS)]
                if sum(arrays.zip.getinfo(f'{key}.npy').file_size for key in keys) > 1 << 30:
                    return {}
                about = {key: str(text) for key in keys if (text := arrays[key]).dtype.kind == 'U' and not text.ndim}
                paths = arrays['paths'].tolist()
        elif out.suffix == '.safetensors':
            from safetensors import safe_open

            with safe_open(out, 'pt') as file:
                about = file.metadata()
            paths = json.loads(about['paths'])
        else:
            about = json.loads((out / 'about.json').read_text())
            paths = about['paths']
    except Exception:  # whatever it is, it is not ours
        return {}
    return dict(about, paths=paths) if _are_names(paths) else {}


def _are_names(paths: Any) -> bool:
    return isinstance(paths, list) and all(isinstance(path, str) for path in paths)
