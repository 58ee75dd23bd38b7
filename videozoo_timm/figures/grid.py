"""Rows of tiles with labels."""

import functools
import io
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .canvas import RESOLUTION, Page, Raster
from .colors import colorbar, to_bytes
from .fonts import drawable, width_of
from .saving import ending_of, save_figure, save_image

_GAP = 4  # pixels between tiles
_COLUMNS = 32  # more go into further bands of the same rows; JPEG ends at 65,500 pixels
_SMALLEST = 8  # pixels, of letters


class Grid:
    """A picture of tiles in rows, with a title, a label before each row and a caption under each column.

    Long rows are broken into bands, one below the other, and long titles into lines.

    Args:
        rows: Label and tiles [T, 3, H, W] in [0, 1] of each row.
        captions: Of the columns.
        title: Above all.
        scales: Of rows (by their index) that show maps: the value that has the brightest color, or a word for it.
        scale_of: What the scales are of, if not of all maps in their row; stands under them.
        notes: Of each row, what stands under its tiles.
        legend: What colors mean: texts with colors [3] in [0, 1], below all.

    Raises:
        ImportError: Pillow or matplotlib is not installed.
    """

    def __init__(
        self,
        rows: Sequence[tuple[str, torch.Tensor]],
        captions: Sequence[str] = (),
        title: str = '',
        *,
        scales: Mapping[int, float | str] | None = None,
        scale_of: str = '',
        notes: Sequence[Sequence[str]] = (),
        legend: Sequence[tuple[str, Sequence[float]]] = (),
    ) -> None:
        self.tile_height, self.tile_width = rows[0][1].shape[-2:]
        self._labels, self._tiles = [drawable(label) for label, _ in rows], [to_bytes(tiles) for _, tiles in rows]
        self._captions = [drawable(caption) for caption in captions]
        self._notes = [[drawable(note) for note in line] for line in notes]
        self._scales = {row: drawable(_value(highest)) for row, highest in (scales or {}).items()}
        self._scale_of = drawable(scale_of)
        size = self._size = max(round(self.tile_height / 11), 12)
        self._caption_size = size
        below = [*self._captions, *(note for line in self._notes for note in line)]
        while self._caption_size > _SMALLEST and any(
            width_of(text, self._caption_size) > self.tile_width for text in below
        ):  # until the widest fits under its tile
            self._caption_size -= 1
        line = round(1.8 * self._caption_size)
        self._note_line = line if self._notes else 0
        self._caption_line = line if self._captions else 0
        self._margin = size if any(self._labels) else _GAP
        widest = max(width_of(label, size) for label in self._labels)
        self._left = 2 * size + round(widest) if widest else _GAP
        columns = min(max(map(len, self._tiles)), _COLUMNS)
        self._right = self._left + columns * (self.tile_width + _GAP)
        width = self._right
        if self._scales:
            beside = max(width_of(text, self._scale_size) for text in self._scales.values())
            width += round(max(1.7 * size + beside, size + width_of(self._scale_of, self._scale_size)))
        self._title_size = round(1.2 * size)
        self._title = _lines(drawable(title), self._title_size, max(width, 40 * size) - 2 * size)
        self._line = round(1.6 * self._title_size)
        self._top = round(2.2 * size) + (len(self._title) - 1) * self._line if self._title else _GAP
        width = max([width, *(round(width_of(text, self._title_size)) + 2 * size for text in self._title)])
        self._band = len(rows) * self._row + self._caption_line
        height = self._top + math.ceil(max(map(len, self._tiles)) / _COLUMNS) * self._band
        self._legend, height = self._placed_legend(legend, width, height)
        self.width, self.height = width, height

    @property
    def _row(self) -> int:
        return self.tile_height + _GAP + self._note_line

    @property
    def _scale_size(self) -> int:
        return max(round(0.8 * self._size), _SMALLEST)

    def _placed_legend(self, legend, width, height):
        """(left, top, text, color) of each entry, and the height of all."""
        size, first, placed = self._size, self._margin, []
        x, y = first, height + size // 2
        for text, color in legend:
            text = drawable(text)
            needed = round(width_of(text, size) + 3 * size)
            if x > first and x + needed > width:
                x, y = first, y + round(1.6 * size)
            placed.append((x, y, text, np.array(color, dtype=np.float32)))
            x += needed
        return placed, y + round(1.6 * size) if placed else height

    def __repr__(self) -> str:
        return f'Grid({self.width} x {self.height} pixels)'

    def _repr_png_(self) -> bytes:
        return png_of(lambda: self) or b''

    @functools.cached_property
    def image(self) -> Any:
        """The picture, a `PIL.Image.Image`, in which each tile has its own pixels."""
        return self.pixels()

    def pixels(self, dpi: int = RESOLUTION) -> Any:
        """The picture, a `PIL.Image.Image`; a tile has `dpi / 100` times its own pixels along each side."""
        raster = Raster(self.width, self.height, dpi)
        self._draw(raster)
        return raster.image

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of a tile, in pixels of `image`."""
        band, column = divmod(column, _COLUMNS)
        left = self._left + column * (self.tile_width + _GAP)
        top = self._top + band * self._band + row * self._row
        return left, top, left + self.tile_width, top + self.tile_height

    def save(self, path: str | os.PathLike[str], about: str = '', dpi: int = RESOLUTION) -> None:
        """Write the picture, whole or not at all.

        Args:
            path: `.png`, `.jpg`, `.pdf` or `.svg`. The last two keep each tile's own pixels; the text of a PDF is text
                with its font inside, that of an SVG outlines.
            about: Comment to store in it.
            dpi: As in `pixels`; the page of a PDF or an SVG has 100 pixels of the tiles to an inch.

        Raises:
            ValueError: Another ending, or too large for a JPEG.
        """
        if ending_of(path) in ('.pdf', '.svg'):
            page = Page(self.width, self.height)
            self._draw(page)
            save_figure(page.figure, Path(path), about)
        else:
            save_image(self.image if dpi == RESOLUTION else self.pixels(dpi), path, about, dpi)

    def _draw(self, canvas: Raster | Page) -> None:
        size = self._size
        for k, text in enumerate(self._title):
            middle = 1.1 * size + self._line * k
            canvas.text(self._margin, _baseline(middle, self._title_size), text, self._title_size)
        for row, tiles in enumerate(self._tiles):
            for column, tile in enumerate(tiles):
                canvas.tile(self.box(row, column), tile)
            for first in range(0, len(tiles), _COLUMNS):
                _, top, _, bottom = self.box(row, first)
                canvas.text(self._margin, _baseline((top + bottom) / 2, size), self._labels[row], size)
                if row in self._scales:
                    self._draw_scale(canvas, top, bottom, self._scales[row])
        for row, texts in enumerate(self._notes):
            self._draw_below(canvas, row, texts)
        self._draw_below(canvas, len(self._tiles) - 1, self._captions, self._note_line)
        for x, y, text, color in self._legend:
            pixel = (255 * color).round().astype(np.uint8).reshape(1, 1, 3)
            canvas.tile((x, y, x + size, y + size), np.tile(pixel, (size, size, 1)))
            canvas.text(x + 1.4 * size, _baseline(y + size / 2, size), text, size)

    def _draw_below(self, canvas, row, texts, further=0):
        for column, text in enumerate(texts):
            left, _, right, bottom = self.box(row, column)
            middle = bottom + further + 0.8 * self._caption_size
            canvas.text(
                (left + right) / 2, _baseline(middle, self._caption_size), text, self._caption_size, align='center'
            )

    def _draw_scale(self, canvas, top, bottom, highest):
        left, size = self._right + self._size // 4, self._scale_size
        right = left + round(0.6 * self._size)
        canvas.tile((left, top, right, bottom), colorbar())
        x = right + self._size // 4
        canvas.text(x, top + round(0.73 * size), highest, size)
        canvas.text(x, bottom, '0', size)
        canvas.text(left, _baseline(bottom + 0.8 * self._caption_size, size), self._scale_of, size)


def png_of(picture: Callable[[], Grid]) -> bytes | None:
    """A picture as a notebook shows it, the bytes of a PNG; None if what draws pictures is not installed."""
    try:
        image = picture().image
    except ImportError:
        return None
    file = io.BytesIO()
    image.save(file, 'PNG')
    return file.getvalue()


def _value(highest: float | str) -> str:
    return highest if isinstance(highest, str) else f'≥ {highest:.2g}'


def _baseline(middle: float, size: int) -> int:
    """Where letters stand whose capitals (0.73 of their size in DejaVu Sans) are centered on `middle`."""
    return round(middle + 0.365 * size)


def _lines(text: str, size: int, width: float) -> list[str]:
    """A text in lines of at most this width, broken between words, long words anywhere."""
    lines: list[str] = []
    for word in text.split():
        if lines and width_of(f'{lines[-1]} {word}', size) <= width:
            lines[-1] += f' {word}'
            continue
        while width_of(word, size) > width:
            cut = next(k for k in range(len(word), 0, -1) if k == 1 or width_of(word[:k], size) <= width)
            lines.append(word[:cut])
            word = word[cut:]
        if word:
            lines.append(word)
    return lines
