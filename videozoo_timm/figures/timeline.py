"""Films over time: frames on top, curves below them on the same axis, and closer looks at single windows."""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..text import printable
from .canvas import RESOLUTION
from .colors import colorbar, to_bytes
from .fonts import drawable, families_of, matplotlib
from .saving import ending_of, save_figure, save_image

__all__ = ['Curve', 'FilmPlot', 'Timeline']

# Pixels at 100 dots per inch.
_LEFT, _RIGHT, _INNER, _GAP = 96, 92, 840, 3
_TITLE, _CURVES, _AXIS, _CAPTION, _APART = 22, 230, 40, 18, 14
_SIZE = 8  # points, of letters
_COLORS = ('#2471a3', '#c0392b', '#b7950b', '#1e8449')  # of films
_LONGEST = 90  # characters of a title's line


class Curve(NamedTuple):
    """Values over time.

    Attributes:
        label: What they are.
        times: float [W], in seconds.
        values: float [W].
    """

    label: str
    times: np.ndarray
    values: np.ndarray


class FilmPlot(NamedTuple):
    """A film, its curves, and one window of it.

    Attributes:
        label: What it is; '' of a single one.
        frames: [n, 3, H, W] in [0, 1], from its start to its end, evenly.
        curves: One for each way to look at it.
        rows: Labels and tiles [T', 3, H, W] of the window.
        captions: Under the tiles of the window.
        highest: The value of the brightest color in its last row.
        window: Its start, until when its frames are visible, and its end, in seconds.
    """

    label: str
    frames: torch.Tensor
    curves: list[Curve]
    rows: list[tuple[str, torch.Tensor]]
    captions: list[str]
    highest: float
    window: tuple[float, float, float]


class Timeline:
    """The picture of films of one duration, one of them or several to compare.

    Of one film every curve is shown; of several the mean of each with the range of its curves.

    Args:
        films: What is shown.
        duration: Of the films, in seconds.
        what: What the curves are of, on their axis.
        title: Above all, in lines.
        events: Times to mark, in seconds.

    Raises:
        ImportError: matplotlib is not installed.
    """

    def __init__(
        self,
        films: Sequence[FilmPlot],
        duration: float,
        what: str,
        title: Sequence[str] = (),
        events: Sequence[float] = (),
    ) -> None:
        matplotlib()
        self.films, self.duration, self.what, self.events = films, duration, what, events
        self.title = [drawable(printable(line, _LONGEST)) for line in title if line]
        self.width = _LEFT + _INNER + _RIGHT
        self._thumb = [_height(film.frames, _INNER) for film in films]
        self._tile = [_height(film.rows[0][1], _INNER) for film in films]
        self._top = 8 + _TITLE * len(self.title)
        self._curves_at = self._top + sum(height + _GAP for height in self._thumb) + _APART // 2
        self.height = (
            self._curves_at
            + _CURVES
            + _AXIS
            + sum(
                _APART + len(film.rows) * (tile + _GAP) + _CAPTION for film, tile in zip(films, self._tile, strict=True)
            )
        )

    def __repr__(self) -> str:
        return f'Timeline({len(self.films)} films, {self.width} x {self.height} pixels)'

    @property
    def image(self) -> Any:
        """The picture, a `PIL.Image.Image`."""
        return self.pixels()

    def pixels(self, dpi: int = RESOLUTION) -> Any:
        """The picture, a `PIL.Image.Image`, in `dpi / 100` times its size."""
        from PIL import Image

        file = io.BytesIO()
        self.figure().savefig(file, format='png', dpi=dpi)
        return Image.open(file).convert('RGB')

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.image.save(file, 'PNG')
        return file.getvalue()

    def save(self, path: str | os.PathLike[str], about: str = '', dpi: int = RESOLUTION) -> None:
        """Write the picture, whole or not at all; as `Grid.save`."""
        if ending_of(path) in ('.pdf', '.svg'):
            save_figure(self.figure(), Path(path), about)
        else:
            save_image(self.pixels(dpi), path, about, dpi)

    def figure(self) -> Any:
        """The picture, a `matplotlib.figure.Figure`."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(self.width / RESOLUTION, self.height / RESOLUTION), dpi=RESOLUTION)
        page = figure.add_axes((0, 0, 1, 1))  # for all tiles, as axes of their own take long
        page.set_axis_off()
        for k, line in enumerate(self.title):
            self._text(figure, _LEFT, 14 + _TITLE * k, line, 10 - k, ha='left')
        top = self._top
        for number, (film, height) in enumerate(zip(self.films, self._thumb, strict=True)):
            self._label(figure, top + height / 2, film.label, _COLORS[number % len(_COLORS)])
            self._row(page, top, film.frames, height)
            top += height + _GAP
        self._draw_curves(figure)
        top = self._curves_at + _CURVES + _AXIS
        for number, (film, height) in enumerate(zip(self.films, self._tile, strict=True)):
            top += _APART
            for label, tiles in film.rows:
                color = _COLORS[number % len(_COLORS)] if film.label else 'black'
                self._label(figure, top + height / 2, label, color)
                self._row(page, top, tiles, height)
                top += height + _GAP
            self._draw_scale(figure, page, top - height - _GAP, height, film.highest)
            width = _INNER / len(film.captions)
            for k, caption in enumerate(film.captions):
                self._text(figure, _LEFT + (k + 0.5) * width, top + 7, caption, 7)
            top += _CAPTION
        page.set(xlim=(0, self.width), ylim=(self.height, 0))
        return figure

    def curves_image(self, dpi: int = RESOLUTION) -> Any:
        """The curves alone, a `PIL.Image.Image`."""
        image = self.pixels(dpi)
        top, bottom = self._curves_at - _APART // 2, self._curves_at + _CURVES + _AXIS
        return image.crop((0, round(top * dpi / RESOLUTION), image.width, round(bottom * dpi / RESOLUTION)))

    def position(self, time: float, dpi: int = RESOLUTION) -> int:
        """Where a time stands on the axis of `curves_image`, in pixels from the left."""
        return round((_LEFT + _INNER * time / self.duration) * dpi / RESOLUTION)

    def below(self, dpi: int = RESOLUTION) -> int:
        """Pixels below the axes in `curves_image`."""
        return round(_AXIS * dpi / RESOLUTION)

    def _text(self, figure: Any, x: float, y: float, text: str, size: float = _SIZE, **how: Any) -> None:
        how = dict(dict(ha='center', va='center'), **how)
        text = drawable(text)
        figure.text(
            x / self.width,
            1 - y / self.height,
            text,
            fontsize=size,
            parse_math=False,
            fontfamily=families_of(text),
            **how,
        )

    def _label(self, figure: Any, y: float, text: str, color: str) -> None:
        for k, line in enumerate(lines := text.split('\n')):
            self._text(figure, _LEFT - 10, y + 13 * (k - (len(lines) - 1) / 2), line, color=color, ha='right')

    def _row(self, page: Any, top: float, tiles: torch.Tensor, height: int) -> None:
        width = _INNER / len(tiles)
        for k, tile in enumerate(to_bytes(tiles)):
            left = _LEFT + k * width + _GAP / 2
            page.imshow(tile, extent=(left, left + width - _GAP, top + height, top), aspect='auto')

    def _draw_curves(self, figure: Any) -> None:
        bottom = 1 - (self._curves_at + _CURVES) / self.height
        axes = figure.add_axes((_LEFT / self.width, bottom, _INNER / self.width, _CURVES / self.height))
        shared = len({film.window for film in self.films}) == 1
        for number, film in enumerate(self.films):
            color = _COLORS[number % len(_COLORS)]
            if len(self.films) == 1:
                self._draw_every(axes, film.curves)
            else:
                self._draw_range(axes, film, color)
            if shared and number:
                continue
            start, seen, end = film.window
            shade = '0.5' if shared else color
            axes.axvspan(start, seen, color=shade, alpha=0.07, lw=0)
            axes.axvspan(seen, end, color=shade, alpha=0.18, lw=0)
        for k, event in enumerate(self.events):
            axes.axvline(event, color='black', lw=1, ls=(0, (4, 3)), label='event' if k == 0 else None)
        axes.set_xlim(0, self.duration)
        axes.margins(y=0.08)
        axes.set_xlabel('time (s)', fontsize=_SIZE + 1)
        axes.set_ylabel(self.what, fontsize=_SIZE + 1)
        axes.tick_params(labelsize=_SIZE)
        axes.spines[['top', 'right']].set_visible(False)
        if len(self.films) > 1 or len(self.films[0].curves) > 1 or self.events:
            beside = dict(loc='upper left', bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2, handlelength=1.4)
            axes.legend(fontsize=_SIZE - 1, frameon=False, **beside)

    def _draw_every(self, axes: Any, curves: list[Curve]) -> None:
        table = matplotlib().colormaps['viridis']
        for k, curve in enumerate(curves):
            color = table(0.9 * k / max(len(curves) - 1, 1)) if len(curves) > 1 else 'black'
            axes.plot(curve.times, curve.values, color=color, lw=1.3, marker='o', ms=2.5, label=drawable(curve.label))

    def _draw_range(self, axes: Any, film: FilmPlot, color: str) -> None:
        every = np.stack([curve.values for curve in film.curves])  # [K, W]
        times = np.stack([curve.times for curve in film.curves]).mean(axis=0)
        axes.fill_between(times, every.min(axis=0), every.max(axis=0), color=color, alpha=0.15, lw=0)
        axes.plot(times, every.mean(axis=0), color=color, lw=1.6, marker='o', ms=2.5, label=drawable(film.label))

    def _draw_scale(self, figure: Any, page: Any, top: float, height: int, highest: float) -> None:
        """The colors of a heat map, from 0 below to the highest value above."""
        left = _LEFT + _INNER + 8
        page.imshow(colorbar(), extent=(left, left + 9, top + height, top), aspect='auto')
        for y, text in ((top + 5, f'{highest:.2g}'), (top + height - 5, '0')):
            self._text(figure, _LEFT + _INNER + 22, y, text, 7, ha='left')


def _height(tiles: torch.Tensor, width: int) -> int:
    """Of a row of tiles of this width altogether."""
    return round((width / len(tiles) - _GAP) * tiles.shape[-2] / tiles.shape[-1])
