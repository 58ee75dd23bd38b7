"""Rows of frames with labels, heat maps, animations."""

import io
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from .files import atomic_write
from .text import printable
from .video.writing import save_video

__all__ = [
    'Grid',
    'check_pictures',
    'confusion_figure',
    'figure_png',
    'heat',
    'overlay',
    'png_of',
    'save_animation',
    'save_confusion',
    'save_image',
    'to_bytes',
    'upsample',
]

_GAP = 4  # pixels between tiles
_COLUMNS = 32  # more go into further bands of the same rows; JPEG ends at 65,500 pixels


def __dir__() -> list[str]:
    return list(__all__)


class Grid:
    """A picture of tiles in rows, with a title, a label before each row and a caption under each column.

    Long rows are broken into bands, one below the other.

    Args:
        rows: Label and tiles [T, 3, H, W] in [0, 1] of each row.
        captions: Of the columns.
        title: Above all.

    Attributes:
        image: The picture, a `PIL.Image.Image`.

    Raises:
        ImportError: Pillow is not installed.
    """

    def __init__(self, rows: Sequence[tuple[str, torch.Tensor]], captions: Sequence[str] = (), title: str = '') -> None:
        from PIL import Image, ImageDraw

        self.tile_height, self.tile_width = rows[0][1].shape[-2:]
        num_columns = max(len(tiles) for _, tiles in rows)
        title = ' '.join(title.split())  # file names may have line breaks
        title, captions = printable(title), [printable(caption) for caption in captions]
        rows = [(printable(label), tiles) for label, tiles in rows]
        size = max(round(self.tile_height / 11), 12)
        draw = ImageDraw.Draw(Image.new('RGB', (1, 1)))
        fonts = {'label': _font(size), 'title': _font(round(1.2 * size))}
        # Captions shrink until the widest fits under its tile.
        caption_size = size
        while caption_size > 8 and any(_font(caption_size).getlength(c) > self.tile_width for c in captions):
            caption_size -= 1
        fonts['caption'] = _font(caption_size)
        self._left = 2 * size + round(max(draw.textlength(label, font=fonts['label']) for label, _ in rows))
        self._top = round(2.2 * size) if title else _GAP
        bottom = round(1.8 * caption_size) if captions else 0
        width = self._left + min(num_columns, _COLUMNS) * (self.tile_width + _GAP)
        width = max(width, round(draw.textlength(title, font=fonts['title'])) + 2 * size)
        self._band = len(rows) * (self.tile_height + _GAP) + bottom
        height = self._top + math.ceil(num_columns / _COLUMNS) * self._band
        self.image = Image.new('RGB', (width, height), 'white')
        draw = ImageDraw.Draw(self.image)
        draw.text((size, self._top // 2), title, 'black', fonts['title'], anchor='lm')
        for r, (label, tiles) in enumerate(rows):
            for first in range(0, len(tiles), _COLUMNS):
                middle = self.box(r, first)[1] + self.tile_height // 2
                draw.text((size, middle), label, 'black', fonts['label'], anchor='lm')
            for c, tile in enumerate(to_bytes(tiles)):
                self.image.paste(Image.fromarray(tile), self.box(r, c)[:2])
        for c, caption in enumerate(captions):
            x, y = self.box(len(rows), c)[:2]
            middle = x + self.tile_width // 2, y + bottom // 2 - _GAP
            draw.text(middle, caption, 'black', fonts['caption'], anchor='mm')

    def __repr__(self) -> str:
        return f'Grid({self.image.width} x {self.image.height} pixels)'

    def _repr_png_(self) -> bytes:
        return png_of(lambda: self) or b''

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of a tile, in pixels."""
        band, column = divmod(column, _COLUMNS)
        left = self._left + column * (self.tile_width + _GAP)
        top = self._top + band * self._band + row * (self.tile_height + _GAP)
        return left, top, left + self.tile_width, top + self.tile_height

    def save(self, path: str | os.PathLike[str], about: str = '') -> None:
        """Write the picture, as `save_image` does."""
        save_image(self.image, path, about)


def png_of(picture: Callable[[], Grid]) -> bytes | None:
    """A picture as a notebook shows it, the bytes of a PNG; None if what draws pictures is not installed."""
    try:
        image = picture().image
    except ImportError:
        return None
    file = io.BytesIO()
    image.save(file, 'PNG')
    return file.getvalue()


def to_bytes(tiles: torch.Tensor) -> np.ndarray:
    """[T, 3, H, W] in [0, 1] -> uint8 [T, H, W, 3]."""
    return (255 * tiles.float()).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def heat(maps: torch.Tensor, highest: float) -> torch.Tensor:
    """Maps as colors.

    Args:
        maps: [T, H, W], not negative.
        highest: The value that has the brightest color. Zero has the darkest.

    Returns:
        [T, 3, H, W] in [0, 1], matplotlib's inferno.

    Raises:
        ImportError: matplotlib is not installed.
    """
    table = torch.tensor(_matplotlib().colormaps['inferno'](np.arange(256))[:, :3], dtype=torch.float32)  # [256, 3]
    index = (255 * maps / max(highest, 1e-30)).round().clamp(0, 255).long()
    return table[index.cpu()].permute(0, 3, 1, 2)


def overlay(frames: torch.Tensor, maps: torch.Tensor, highest: float) -> torch.Tensor:
    """Frames [T, 3, H, W] under the colors of maps [T, H, W] (as `heat`), the more opaque the higher the value."""
    strength = 0.25 + 0.6 * (maps / max(highest, 1e-30)).clamp(0, 1).unsqueeze(1).cpu()  # [T, 1, H, W]
    return (1 - strength) * frames.cpu() + strength * heat(maps, highest)


def upsample(maps: torch.Tensor, num_frames: int, size: tuple[int, int]) -> torch.Tensor:
    """Maps [..., T', H', W'] on the frames that they belong to, [..., num_frames, H, W], by nearest-exact."""
    maps = maps.repeat_interleave(num_frames // maps.shape[-3], dim=-3)
    flat = maps.flatten(0, -3).unsqueeze(1)  # [..., H', W'] -> [N, 1, H', W']
    return F.interpolate(flat, size, mode='nearest-exact').squeeze(1).unflatten(0, maps.shape[:-2])


def save_image(image: Any, path: str | os.PathLike[str], about: str = '') -> None:
    """Write a picture, whole or not at all; JPEG at its best. `about` becomes its comment."""
    path = Path(path)
    is_jpeg = path.suffix in ('.jpg', '.jpeg')
    options: dict[str, Any] = dict(quality=95, subsampling=0) if is_jpeg else {}
    if about and is_jpeg:
        options['comment'] = about
    elif about:
        from PIL.PngImagePlugin import PngInfo

        options['pnginfo'] = PngInfo()
        options['pnginfo'].add_text('Comment', about)
    with atomic_write(path) as partial:
        image.save(partial, **options)


def save_animation(images: Sequence[Any], path: str | os.PathLike[str], seconds: float) -> None:
    """Write pictures of one size as a looping `.gif` or an `.mp4`.

    Args:
        images: `PIL.Image.Image` in order.
        path: What to write; its ending says the format.
        seconds: How long all of them take.

    Raises:
        ValueError: Another ending.
        ImportError: PyAV is not installed (for `.mp4`).
    """
    path = Path(path)
    if path.suffix not in ('.gif', '.mp4'):
        raise ValueError(f'{path}: animations are .gif or .mp4')
    if path.suffix == '.mp4':
        save_video((np.array(image) for image in images), path, len(images) / seconds, quality=15)
        return
    with atomic_write(path) as partial:
        duration = round(1000 * seconds / len(images))
        images[0].save(partial, save_all=True, append_images=images[1:], duration=duration, loop=0)


def save_confusion(counts: np.ndarray, classes: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Write the picture of a confusion matrix.

    Args:
        counts: [C, C], true class by predicted class.
        classes: Names.
        path: Picture to write.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure = confusion_figure(counts, classes)
    with atomic_write(Path(path)) as partial:
        figure.savefig(partial)


def figure_png(figure: Callable[[], Any]) -> bytes | None:
    """A matplotlib figure as a notebook shows it, the bytes of a PNG; None if matplotlib is not installed."""
    file = io.BytesIO()
    try:
        figure().savefig(file, format='png')
    except ImportError:
        return None
    return file.getvalue()


def confusion_figure(counts: np.ndarray, classes: Sequence[str]) -> Any:
    """A picture of a confusion matrix, a `matplotlib.figure.Figure`.

    Args:
        counts: [C, C], true class by predicted class; each row is shown in fractions of its files.
        classes: Names.

    Raises:
        ImportError: matplotlib is not installed.
    """
    _matplotlib()
    from matplotlib.figure import Figure

    num_classes = len(classes)
    named = num_classes <= 200  # more names could not be read; the axes then count the classes
    side = max(4 + 0.25 * num_classes, 5) if named else 20
    figure = Figure(figsize=(side, side), dpi=100, layout='constrained')
    axes = figure.add_subplot()
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(fractions, cmap='Blues', vmin=0, vmax=1)
    if named:
        classes = [printable(name, 60) for name in classes]
        axes.set_xticks(range(num_classes), classes, rotation=90, parse_math=False)
        axes.set_yticks(range(num_classes), classes, parse_math=False)
    axes.set_xlabel('predicted')
    axes.set_ylabel('true')
    if num_classes <= 30:
        for row, column in np.argwhere(counts):
            color = 'white' if fractions[row, column] > 0.5 else 'black'
            axes.text(column, row, str(counts[row, column]), ha='center', va='center', color=color)
    figure.colorbar(image, label='fraction of the true class', shrink=0.7)
    return figure


def check_pictures() -> None:
    """Raise an ImportError that says what to install if pictures cannot be made."""
    _matplotlib()


def _font(size):
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _matplotlib():
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'videozoo-timm[pictures]'") from error
    return matplotlib
