"""What a file must be like to be read, and the limits on what reading it may cost.

Files may come from strangers, and a few bytes can claim a picture of many gigabytes. The limits are far above honest
use (8K video, cameras of 150 megapixels, panoramas). The environment variable that the error names raises a limit.
"""

import os

from ..files import check_regular
from ..paths import as_path, not_found

MAX_IMAGE_PIXELS = 200_000_000  # of a still image; VIDEOZOO_MAX_PIXELS instead
MAX_FRAME_PIXELS = 2**26  # 8192 x 8192, of a frame of a video: a clip holds many; VIDEOZOO_MAX_PIXELS instead
MAX_RATIO = 200  # of the longer side to the shorter, by which resizing multiplies; VIDEOZOO_MAX_RATIO instead
MAX_CLIPS = 10_000_000  # of one video; VIDEOZOO_MAX_CLIPS instead


class VideoError(RuntimeError):
    """A file that cannot be read as a video or an image; the message names the file and the reason."""


def limit(variable: str, default: int) -> int:
    """A limit: the environment variable's value, or the default if it is not set.

    Raises:
        ValueError: The variable holds no whole number above 0.
    """
    text = os.environ.get(variable, '').strip() or str(default)
    if not (text.isascii() and text.isdigit() and len(text) < 19 and int(text)):
        raise ValueError(f'{variable}={text[:40]!r}: must be a whole number above 0')
    return int(text)


def fault_of_size(width: int, height: int, max_pixels: int) -> str | None:
    """What is wrong with a picture of this many pixels, in words; None if nothing is."""
    max_pixels, max_ratio = limit('VIDEOZOO_MAX_PIXELS', max_pixels), limit('VIDEOZOO_MAX_RATIO', MAX_RATIO)
    if min(width, height) < 1:
        return f'{width} x {height} pixels are not a picture'
    if width * height > max_pixels:
        return (
            f'{width} x {height} pixels are more than the limit of {max_pixels:,} '
            f'(the environment variable VIDEOZOO_MAX_PIXELS raises this limit)'
        )
    if max(width, height) > max_ratio * min(width, height):
        return (
            f'{width} x {height} pixels: one side is more than {max_ratio} times the other '
            f'(the environment variable VIDEOZOO_MAX_RATIO raises this limit)'
        )
    return None


def check_size(path: str | os.PathLike, width: int, height: int, max_pixels: int) -> None:
    """Raise a VideoError if a picture of this size costs too much to be read."""
    fault = fault_of_size(width, height, max_pixels)
    if fault:
        raise VideoError(f'{path}: {fault}')


def check_file(path: str | os.PathLike) -> None:
    """Refuse to read anything but a file: reading a pipe or a device may never end, or have side effects.

    Raises:
        FileNotFoundError: There is no such file.
        VideoError: It is a folder, a pipe, a socket or a device.
    """
    try:
        check_regular(as_path(path))
    except FileNotFoundError as error:
        raise not_found(path, 'file') from error
    except (OSError, ValueError) as error:
        reason = getattr(error, 'strerror', None) or str(error)
        raise VideoError(reason if str(path) in reason else f'{path}: {reason}') from error
