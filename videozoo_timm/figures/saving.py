"""Pictures and animations as files."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..files import atomic_write
from ..outputs import PICTURES
from ..video.writing import save_video

_LONGEST = 65_500  # pixels, of a JPEG
# Letters of a PDF stay text, with their font inside; those of an SVG are outlines, which look the same everywhere.
VECTOR: dict[Any, Any] = {'pdf.fonttype': 42, 'svg.fonttype': 'path', 'svg.hashsalt': 'videozoo'}


def ending_of(path: str | os.PathLike[str], others: Sequence[str] = ()) -> str:
    """The ending of a picture's name.

    Raises:
        ValueError: It is none of `PICTURES` or `others`.
    """
    ending = Path(path).suffix
    if ending not in (*PICTURES, *others):
        raise UserError('{} must end in {}', os.fspath(path), ' or '.join((*PICTURES, *others)))
    return ending


def save_image(image: Any, path: str | os.PathLike[str], about: str = '', dpi: int = 100) -> None:
    """Write a `PIL.Image.Image`, whole or not at all; JPEG at its best. `about` becomes its comment.

    Raises:
        ValueError: It is too large for a JPEG.
    """
    path = Path(path)
    is_jpeg = path.suffix in ('.jpg', '.jpeg')
    options: dict[str, Any] = dict(dpi=(dpi, dpi), **(dict(quality=95, subsampling=0) if is_jpeg else {}))
    if is_jpeg and max(image.size) > _LONGEST:
        raise UserError(
            '{}: {} x {} pixels are more than a JPEG holds ({} on a side); take a smaller {dpi}, or PNG or PDF',
            path,
            *image.size,
            _LONGEST,
            dpi=None,
        )
    if about and is_jpeg:
        options['comment'] = about
    elif about:
        from PIL.PngImagePlugin import PngInfo

        options['pnginfo'] = PngInfo()
        options['pnginfo'].add_text('Comment', about)
    with atomic_write(path) as partial:
        image.save(partial, **options)


def save_figure(figure: Any, path: str | os.PathLike[str], about: str = '') -> None:
    """Write a `matplotlib.figure.Figure`, whole or not at all, with `about` among its metadata."""
    from matplotlib import rc_context

    path = Path(path)
    key = {'.pdf': 'Keywords', '.svg': 'Description'}.get(path.suffix, '')
    dates = {'.pdf': dict(CreationDate=None), '.svg': dict(Date=None)}  # the same picture is the same file
    with rc_context(VECTOR), atomic_write(path) as partial, warnings.catch_warnings():
        # What no font has was told when the text was set; matplotlib 3.8 measures lines by 'lp' in every font.
        warnings.filterwarnings('ignore', 'Glyph .* missing', UserWarning)
        figure.savefig(partial, metadata={key: about, **dates[path.suffix]} if key else None)


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
