"""Reading still images."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from .checks import MAX_IMAGE_PIXELS, VideoError, check_file, check_size
from .pixels import AS_PLAYED, Pixels, laid_on

# Of `IMAGE_EXTENSIONS`, and no others: Pillow hands PostScript to an external program.
_FORMATS = ('JPEG', 'PNG', 'BMP', 'TIFF', 'WEBP', 'GIF')
_ORIENTATION = 0x0112  # EXIF
_BITS, _WHITE_AND_BLACK, _TILE_SIDES = 258, 262, (322, 323)  # TIFF
_pillow = threading.Lock()


def read_image(path: str | os.PathLike, pixels: Pixels = AS_PLAYED, **fields: Any) -> torch.Tensor:
    """Read an image as a video of one frame, upright.

    Args:
        path: An image file.
        pixels: What transparent parts are laid on.
        **fields: Fields of `pixels` to replace: `color`, `background`.

    Returns:
        uint8 [1, H, W, 3], RGB. Grayscale of 12 or 16 bits is scaled to 8.

    Raises:
        FileNotFoundError: There is no such file.
        VideoError: It is damaged, too large (`checks`), has signed, 32-bit or floating-point pixels, or is not an image
            in a supported format.
    """
    from PIL import Image, UnidentifiedImageError

    pixels = replace(pixels, **fields)
    check_file(path)
    try:
        with _without_pillows_limit():
            image = Image.open(path, formats=_FORMATS)
        with image:
            check_size(path, *image.size, MAX_IMAGE_PIXELS)
            if image.format == 'GIF' and getattr(image, 'is_animated', False):
                raise VideoError(f'{path}: a moving GIF is read neither as an image nor as a video; convert it to MP4')
            tile = [getattr(image, 'tag_v2', {}).get(tag) for tag in _TILE_SIDES]
            if any(side is not None for side in tile):  # decoded whole, whatever the picture shows of it
                width, height = (side if isinstance(side, int) else 0 for side in tile)
                check_size(path, width, height, MAX_IMAGE_PIXELS)
            array = _array_of(path, image, pixels)
    except (VideoError, ImportError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise VideoError(f'{path}: not an image ({", ".join(_FORMATS)} are read)') from error
    except Exception as error:  # Pillow's readers raise errors of any type
        raise VideoError(f'{path}: cannot be read as an image ({error or type(error).__name__})') from error
    return torch.from_numpy(array).unsqueeze(0)


def _array_of(path: str | os.PathLike, image: Any, pixels: Pixels) -> Any:
    """A Pillow image as uint8 [H, W, 3]."""
    import numpy as np

    kind, tags, coding = image.format, getattr(image, 'tag_v2', {}), str(image.tile[0][3]) if image.tile else ''
    image = _upright(image)
    key = image.info.get('transparency')  # of a PNG the color, or the entries of the palette, that are transparent
    is_wide = image.mode.startswith('I;16') or (image.mode == 'I' and kind == 'PNG')  # as Pillow 10 has it
    bits = tags.get(_BITS, 16 if is_wide else 32)
    bits = bits[0] if isinstance(bits, tuple) else bits
    if not is_wide and image.mode in ('I', 'F'):
        what = '32-bit' if bits >= 32 else 'signed'
        raise VideoError(
            f'{path}: has {what} pixels, and nothing says which values are black and white; save it with 8 or 16 bits '
            f'from 0 on'
        )
    if is_wide:  # which Pillow would clip to white
        samples = np.array(image)[..., None].astype(np.int64)  # [H, W, 1]
        gray = (samples * 255 // ((1 << bits) - 1)).clip(0, 255).astype(np.uint8)
        gray = 255 - gray if tags.get(_WHITE_AND_BLACK) == 0 else gray
        alpha = np.where(samples == key, 0, 255).astype(np.uint8) if isinstance(key, int) else np.full_like(gray, 255)
        array = np.concatenate([gray, gray, gray, alpha], axis=2)  # [H, W, 4]
    elif pixels.color == 'published' or not image.has_transparency_data:
        return np.array(image.convert('RGB'))
    else:
        if kind == 'PNG' and key is not None and image.mode != 'P':  # of which Pillow scales the samples alone
            image.info['transparency'] = _in_8_bits(key, image.mode, coding)
        array = np.array(image.convert('RGBA'))
    return laid_on(array, pixels.rgb)


def _in_8_bits(key: Any, mode: str, coding: str) -> Any:
    """The transparent color of a PNG whose samples are coded as 'L;2' or 'RGB;16B', for instance."""
    bits = int(''.join(filter(str.isdigit, coding)) or 8)
    if mode == '1':
        return 255 if key else 0
    if mode == 'L':
        return key * 255 // ((1 << bits) - 1)
    return tuple(value >> (bits - 8) for value in key)


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
    if isinstance(orientation, (bytes, tuple)) and len(orientation) == 1:  # as some programs write it
        orientation = orientation[0]
    turn = turns.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)
