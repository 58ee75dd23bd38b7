"""Labels as indexed PNGs, and as colors over frames."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..files import check_regular
from ..video.checks import MAX_IMAGE_PIXELS, VideoError, check_size
from .saving import save_image

__all__ = ['IndexedImage', 'bit_palette', 'paint', 'read_indexed', 'save_indexed']


class IndexedImage(NamedTuple):
    """Labels with the colors that show them.

    Attributes:
        labels: uint8 [H, W].
        palette: uint8 [256, 3], red, green and blue of each label.
    """

    labels: torch.Tensor
    palette: np.ndarray


def read_indexed(path: str | os.PathLike[str]) -> IndexedImage:
    """Read an indexed PNG, whose pixels are numbers of colors.

    Raises:
        FileNotFoundError: There is no such file.
        VideoError: It is too large.
        ValueError: It is no PNG, or has other pixels (RGB or gray).
        ImportError: Pillow is not installed.
    """
    from PIL import Image

    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f'{path}: no such file')
    check_regular(path)
    try:
        with Image.open(path, formats=('PNG',)) as image:
            check_size(path, image.width, image.height, MAX_IMAGE_PIXELS)
            mode = image.mode
            labels, palette = np.array(image), image.getpalette() or []
    except (VideoError, MemoryError):
        raise
    except Exception as error:  # Pillow's readers raise errors of any type
        raise ValueError(f'{path}: cannot be read as an indexed PNG ({error or type(error).__name__})') from error
    if mode != 'P':
        raise ValueError(
            f'{path}: not an indexed PNG (its pixels are {mode}); labels are the numbers of its colors, 0 to 255'
        )
    colors = bit_palette()
    given = np.array(palette, dtype=np.uint8).reshape(-1, 3)
    colors[: len(given)] = given
    return IndexedImage(torch.from_numpy(labels), colors)


def save_indexed(path: str | os.PathLike[str], image: IndexedImage) -> None:
    """Write an indexed PNG, whole or not at all."""
    from PIL import Image

    picture = Image.fromarray(image.labels.numpy())
    picture.putpalette(image.palette.tobytes())
    save_image(picture, path)


def bit_palette() -> np.ndarray:
    """The colors of PASCAL VOC and DAVIS, uint8 [256, 3]: a label's bits are in turn the highest of each channel."""
    labels, colors = np.arange(256), np.zeros((256, 3), np.int64)
    for bit in range(8):
        colors[:, bit % 3] |= ((labels >> bit) & 1) << (7 - bit // 3)
    return colors.astype(np.uint8)


def paint(frame: torch.Tensor, image: IndexedImage, opacity: float = 0.55) -> torch.Tensor:
    """A frame uint8 [H, W, 3] under the colors of its labels, of which 0 is left as it is."""
    colors = torch.from_numpy(image.palette)[image.labels.long()]
    mixed = (frame * (1 - opacity) + colors * opacity).round().to(torch.uint8)
    return torch.where((image.labels > 0).unsqueeze(-1), mixed, frame)
