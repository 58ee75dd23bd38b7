"""Results that can be looked at and saved."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..figures import Grid, png_of
from ..files import atomic_write
from ..outputs import PICTURES, Output
from ..text import to_json

__all__ = ['Pictured']


class Pictured:
    """A result with a picture, and with arrays that hold what the picture shows."""

    def picture(self, title: str = '', captions: Sequence[str] = ()) -> Grid:
        """The picture, with a title above all and captions under its columns."""
        raise NotImplementedError

    def arrays(self) -> dict[str, np.ndarray]:
        """What the picture shows, as numbers."""
        raise NotImplementedError

    def _repr_png_(self) -> bytes | None:
        return png_of(self.picture)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        title: str = '',
        captions: Sequence[str] = (),
        dpi: int = 100,
        about: str = '',
        settings: Mapping[str, Any] | None = None,
        **shown: Any,
    ) -> None:
        """Write the picture, or the arrays that hold what it shows; whole or not at all.

        Args:
            path: Its ending says the format: `.png`, `.jpg`, `.pdf` or `.svg`; `.npz` for the arrays.
            title: Of the picture, above all.
            captions: Of the picture, under its columns.
            dpi: Dots per inch of `.png` and `.jpg`: at 100 a tile has the pixels of the model's input, at 300 three
                times as many along each side, with sharp letters.
            about: Comment to store in the picture.
            settings: Stored in the `.npz` as a string of JSON, `settings`.
            **shown: Arguments of `picture` that say what is shown.

        Raises:
            ValueError: Another ending, or nothing can be written there.
        """
        path = Path(path)
        Output(path, out='path').check_file((*PICTURES, '.npz'))
        if path.suffix != '.npz':
            self.picture(title, captions, **shown).save(path, about, dpi)
            return
        arrays: dict[str, Any] = self.arrays(**shown)
        if settings is not None:
            arrays['settings'] = to_json(settings, indent=None)
        with atomic_write(path, sum(np.asarray(array).nbytes for array in arrays.values())) as partial:
            np.savez(partial, **arrays)
