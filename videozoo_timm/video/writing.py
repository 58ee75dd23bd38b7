"""Writing video files."""

from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path

import numpy as np

from ..files import atomic_write
from .decoding import import_av


def save_video(
    images: Iterable[np.ndarray], path: Path, rate: float | Fraction, quality: int = 18, foresight: bool = True
) -> None:
    """Write H.264, whole or not at all.

    Args:
        images: uint8 [H, W, 3] each, all of one size; at least one; of odd sides the last row or column is cut off.
        path: `.mp4`.
        rate: Images a second.
        quality: x264's constant rate factor; less is better.
        foresight: Let a frame depend on later ones too, which makes files smaller. Without, videos that begin alike are
            equal to the bit as long as they do.

    Raises:
        ImportError: PyAV is not installed.
        OSError: The disk is full, or not to be written.
    """
    av = import_av()
    images = iter(images)
    first = next(images)
    height, width = (side // 2 * 2 for side in first.shape[:2])  # H.264 wants even numbers
    options = {'crf': str(quality), 'threads': '1'} | ({} if foresight else {'tune': 'zerolatency'})
    with atomic_write(path) as partial, av.open(str(partial), 'w', format='mp4') as container:
        stream = container.add_stream('libx264', rate=Fraction(rate).limit_denominator(1000), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, 'yuv420p'
        for image in chain([first], images):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format='rgb24')
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
