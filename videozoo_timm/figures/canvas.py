"""What pictures are drawn on: pixels (Pillow), or a page of text and images (matplotlib).

Both take coordinates in pixels of a picture at 100 dots per inch, from the left top.
"""

from pathlib import Path
from typing import Any

import numpy as np

from .fonts import pillow_font, runs, width_of

RESOLUTION = 100  # dots per inch of a picture whose tiles have the pixels of the model's input


class Raster:
    """Pixels, `dpi / 100` times as many along each side.

    Attributes:
        image: The picture, a `PIL.Image.Image`.
    """

    def __init__(self, width: int, height: int, dpi: int) -> None:
        from PIL import Image, ImageDraw

        self._scale = dpi / RESOLUTION
        self.image = Image.new('RGB', (round(self._scale * width), round(self._scale * height)), 'white')
        self._pen = ImageDraw.Draw(self.image)

    def text(self, x: float, baseline: float, text: str, size: int, align: str = 'left') -> None:
        """A drawable text; `x` is its left end or its center."""
        size = round(self._scale * size)
        x, baseline = self._scale * x, round(self._scale * baseline)
        x = round(x - width_of(text, size) / 2 if align == 'center' else x)
        for piece, path in runs(text):
            font = pillow_font(path, size)
            self._pen.text((round(x), baseline), piece, 'black', font, anchor='ls')
            x += font.getlength(piece)

    def tile(self, box: tuple[int, int, int, int], pixels: np.ndarray) -> None:
        """Pixels [h, w, 3] as large as the box (left, top, right, bottom)."""
        from PIL import Image

        left, top, right, bottom = (round(self._scale * side) for side in box)
        tile, size = Image.fromarray(pixels), (right - left, bottom - top)
        if tile.size != size:  # a whole number of pixels for each keeps their edges
            even = all(new % old == 0 for new, old in zip(size, tile.size, strict=True))
            tile = tile.resize(size, Image.Resampling.NEAREST if even else Image.Resampling.BILINEAR)
        self.image.paste(tile, (left, top))


class Page:
    """A page whose text stays text and whose images keep their own pixels.

    Attributes:
        figure: The page, a `matplotlib.figure.Figure`.
    """

    def __init__(self, width: int, height: int) -> None:
        from matplotlib.figure import Figure

        self.figure = Figure(figsize=(width / RESOLUTION, height / RESOLUTION), dpi=RESOLUTION)
        self._axes: Any = self.figure.add_axes((0, 0, 1, 1))
        self._axes.set_axis_off()
        self._axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)

    def text(self, x: float, baseline: float, text: str, size: int, align: str = 'left') -> None:
        """As `Raster.text`. Letters of fonts that a PDF cannot hold as such are drawn as outlines."""
        from matplotlib.font_manager import FontProperties

        x = x - width_of(text, size) / 2 if align == 'center' else x
        for piece, path in runs(text):
            font = FontProperties(fname=path)
            if Path(path).suffix.lower() == '.ttf':
                self._axes.text(x, baseline, piece, font=font, fontsize=72 * size / RESOLUTION, parse_math=False)
            else:
                self._outline(x, baseline, piece, font, size)
            x += pillow_font(path, size).getlength(piece)

    def _outline(self, x: float, baseline: float, piece: str, font: Any, size: int) -> None:
        from matplotlib.patches import PathPatch
        from matplotlib.textpath import TextPath
        from matplotlib.transforms import Affine2D

        place = Affine2D().scale(1, -1).translate(x, baseline)
        outline = TextPath((0, 0), piece, size=size, prop=font).transformed(place)
        self._axes.add_patch(PathPatch(outline, facecolor='black', linewidth=0))

    def tile(self, box: tuple[int, int, int, int], pixels: np.ndarray) -> None:
        """As `Raster.tile`."""
        left, top, right, bottom = box
        limits = self._axes.get_xlim(), self._axes.get_ylim()
        self._axes.imshow(pixels, extent=(left, right, bottom, top), interpolation='none', aspect='auto')
        self._axes.set(xlim=limits[0], ylim=limits[1])
