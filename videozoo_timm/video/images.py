"""Reading still images."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .checks import MAX_IMAGE_PIXELS, VideoError, check_file, check_size

# Of `IMAGE_EXTENSIONS`, and no others: Pillow hands PostScript to an external program.
_FORMATS = ('JPEG', 'PNG', 'BMP', 'TIFF', 'WEBP', 'GIF')
_ORIENTATION = 0x0112  # EXIF
_TILE = 322, 323  # TIFF: width and height
_pillow = threading.Lock()


def read_image(path: str | os.PathLike) -> torch.Tensor:
    """Read an image as a video of one frame, upright.

    Returns:
        uint8 [1, H, W, 3], RGB. Transparent pixels are blended with black, 16-bit grayscale is scaled to 8 bits.

    Raises:
        FileNotFoundError: There is no such file.
        VideoError: It is damaged, too large (`checks`), has 32-bit pixels, or is not an image in a supported format.
    """
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    check_file(path)
    try:
        with _without_pillows_limit():
            image = Image.open(path, formats=_FORMATS)
        with image:
            check_size(path, *image.size, MAX_IMAGE_PIXELS)
            if image.format == 'GIF' and getattr(image, 'is_animated', False):
                raise VideoError(f'{path}: a moving GIF is read neither as an image nor as a video; convert it to MP4')
            tile = [getattr(image, 'tag_v2', {}).get(tag) for tag in _TILE]
            if any(side is not None for side in tile):  # decoded whole, whatever the picture shows of it
                width, height = (side if isinstance(side, int) else 0 for side in tile)
                check_size(path, width, height, MAX_IMAGE_PIXELS)
            kind, image = image.format, _upright(image)
            is_wide = image.mode.startswith('I;16') or (image.mode == 'I' and kind == 'PNG')  # as Pillow 10 has it
            if not is_wide and image.mode in ('I', 'F'):
                raise VideoError(
                    f'{path}: has 32-bit pixels, and nothing says which values are black and white; save it with 8 or '
                    f'16 bits'
                )
            if is_wide:  # which Pillow would clip to white
                pixels = np.repeat((np.array(image)[..., None] // 257).clip(0, 255).astype(np.uint8), 3, axis=2)
            else:
                pixels = np.array(image.convert('RGB'))  # [H, W, 3]
    except (VideoError, ImportError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise VideoError(f'{path}: not an image ({", ".join(_FORMATS)} are read)') from error
    except Exception as error:  # Pillow's readers raise errors of any type
        raise VideoError(f'{path}: cannot be read as an image ({error or type(error).__name__})') from error
    return torch.from_numpy(pixels).unsqueeze(0)


@contextmanager
def _without_pillows_limit() -> Iterator[None]:
    """Pillow warns of large pictures and refuses larger ones; `check_size` does that before anything is decoded."""
    from PIL import Image

    with _pillow:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _upright(image: Any) -> Any:
    """Rotate or flip a Pillow image as its EXIF orientation says; no other EXIF entry is read, as it may be damaged."""
    from PIL.Image import Transpose

    image.load()
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:
        orientation = None
    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    turn = turns.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)
