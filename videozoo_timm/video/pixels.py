"""From decoded frames to RGB pixels as a player shows them: colors, transparency, aspect, orientation."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch

from ..errors import UserError
from .checks import MAX_FRAME_PIXELS, VideoError, check_size

COLORS = ('file', 'published')
_NAMED = dict(black='#000000', gray='#808080', white='#ffffff')


def _hexadecimal(background: str | Sequence[int]) -> str:
    """A color as '#rrggbb'."""
    text = background
    if not isinstance(background, str):
        numbers = list(background) if isinstance(background, Sequence) else []
        good = len(numbers) == 3 and all(isinstance(n, int) and 0 <= n <= 255 for n in numbers)
        text = f'#{bytes(numbers).hex()}' if good else ''
    text = _NAMED.get(str(text), str(text)).lower()
    if len(text) != 7 or text[0] != '#' or not set(text[1:]) <= set('0123456789abcdef'):
        raise UserError(
            '{background}: must be {}, or a color such as #8040ff', ', '.join(_NAMED), background=background
        )
    return text


@dataclass(frozen=True)
class Pixels:
    """How the frames of a file become RGB pixels.

    Attributes:
        color: 'file': as the file says and a player shows it. 'published': as the published pipeline decoded, whatever
            the file says: all videos with the matrix of BT.601, pixels as stored though they are not square, and the
            colors below transparency.
        background: What transparent parts are laid on: 'black', 'gray', 'white', '#rrggbb', or three numbers from 0 to
            255 (kept as '#rrggbb').

    A video that does not say which matrix it has is BT.709 if it is at least 1280 pixels wide or more than 576 high,
    else BT.601; one that does not say which range it has is of limited range. Primaries and transfer curve are left as
    they are: high dynamic range is not mapped to a lower one.

    Raises:
        ValueError: No such `color`, no color in `background`, or a background that `color='published'` would ignore.
    """

    color: str = 'file'
    background: str | Sequence[int] = 'black'

    def __post_init__(self) -> None:
        if self.color not in COLORS:
            raise UserError('{color}: must be {}', ' or '.join(COLORS), color=self.color)
        background = _hexadecimal(self.background)
        if self.color == 'published' and background != _NAMED['black']:
            raise UserError(
                '{background}: {color} shows the colors below transparency, so that nothing is laid on anything',
                background=self.background,
                color=self.color,
            )
        object.__setattr__(self, 'background', background)

    @property
    def rgb(self) -> tuple[int, ...]:
        """The background as three numbers from 0 to 255."""
        return tuple(bytes.fromhex(str(self.background)[1:]))


AS_PLAYED = Pixels()


def pyav_version() -> str:
    """Version of the PyAV that decodes, to stand beside results; 'none' if there is none, as images need none."""
    try:
        import av
    except ImportError:
        return 'none'
    return av.__version__


# Frames


def to_images(
    path: str | os.PathLike,
    frames: Sequence[Any],
    aspect: Fraction | None = None,
    pixels: Pixels = AS_PLAYED,
    before: tuple[Sequence[Any], torch.Tensor] | None = None,
) -> torch.Tensor:
    """Decoded frames to RGB, uint8 [T, H, W, 3], all with the size and orientation of the first.

    Args:
        path: Of the video, for messages.
        frames: PyAV's frames.
        aspect: Width of a pixel by its height, as the stream says.
        pixels: Which colors and which background.
        before: Frames that were converted before, in the same way, and what came of them: none is converted twice.

    Raises:
        VideoError: The frames are too large, or their colors cannot be converted.
    """
    import numpy as np
    from av.video.reformatter import VideoReformatter

    layout = width, height, turned, *flips = _layout(path, frames[0], aspect, pixels)
    shape = (width, height) if turned else (height, width)
    images = np.empty((len(frames), *shape, 3), np.uint8)  # [T, H, W, 3]
    known: dict[int, Any] = {}
    reformatter: Any = VideoReformatter()  # a frame's own would take as long to be made as to convert it
    if before is not None and _layout(path, before[0][0], aspect, pixels) == layout:
        known = {id(frame): image for frame, image in zip(before[0], before[1].numpy(), strict=True)}
    for i, frame in enumerate(frames):
        if id(frame) in known:
            images[i] = known[id(frame)]
            continue
        known[id(frame)] = images[i]
        blends = pixels.color == 'file' and _has_alpha(frame.format)
        wanted = dict(format='rgba' if blends else 'rgb24', width=width, height=height)
        scaler = _BILINEAR if pixels.color == 'published' else _BICUBIC | _EXACT * blends
        stated = _conversion(path, frame, pixels.color)
        image = _packed(reformatter.reformat(frame, **wanted, interpolation=scaler, **stated))  # [H, W, 3 or 4]
        if blends:
            image = laid_on(image, pixels.rgb)
        image = image.transpose(1, 0, 2) if turned else image
        images[i] = image[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    return torch.from_numpy(images)


def _packed(frame: Any) -> Any:
    """The pixels of a frame with one plane, uint8 [H, W, channels]; they are not copied, as by `to_ndarray`."""
    import numpy as np

    plane = frame.planes[0]
    if plane.line_size <= 0:  # from the bottom up
        return frame.to_ndarray()
    channels = len(frame.format.components)
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: frame.height, : channels * frame.width]
    return rows.reshape(frame.height, frame.width, channels)


def _layout(path: str | os.PathLike, frame: Any, aspect: Fraction | None, pixels: Pixels) -> tuple[Any, ...]:
    """Width and height of a frame before it is turned, and how it becomes upright."""
    return *_unturned_size(path, frame, aspect, pixels), *_orientation(frame)


def shown_size(
    path: str | os.PathLike, frame: Any, aspect: Fraction | None = None, pixels: Pixels = AS_PLAYED
) -> tuple[int, int]:
    """Width and height that `to_images` gives a frame.

    Raises:
        VideoError: They are too large, or one is far larger than the other.
    """
    width, height = _unturned_size(path, frame, aspect, pixels)
    return (height, width) if _orientation(frame)[0] else (width, height)


def laid_on(rgba: Any, background: Sequence[int]) -> Any:
    """An array uint8 [H, W, 4] over a background: uint8 [H, W, 3]."""
    import numpy as np

    color, alpha = rgba[..., :3], rgba[..., 3:]
    if alpha.min(initial=255) == 255:
        return color
    alpha, ground = alpha.astype(np.uint16), np.array(background, np.uint16)
    return ((color * alpha + ground * (255 - alpha) + 127) // 255).astype(np.uint8)


def _unturned_size(path: str | os.PathLike, frame: Any, aspect: Fraction | None, pixels: Pixels) -> tuple[int, int]:
    width, height = frame.width, frame.height
    if aspect is not None and aspect > 0 and pixels.color == 'file':
        width = max(round(width * aspect), 1)
    check_size(path, width, height, MAX_FRAME_PIXELS)
    return width, height


def _orientation(frame: Any) -> tuple[bool, bool, bool]:
    """What makes a frame upright: whether to exchange rows and columns, then to flip up and down, left and right.

    The display matrix, nine numbers, takes the point (x, y) to (a x + c y, b x + d y). Of one that turns by another
    angle than a right one the nearest is taken; one that maps all to a line says nothing.
    """
    import numpy as np

    matrix = frame.side_data.get('DISPLAYMATRIX')
    if matrix is None or matrix.buffer_size < 36:
        return False, False, False
    a, b, _, c, d, *_ = np.frombuffer(matrix, np.int32, 9).tolist()
    if a * d == b * c:
        return False, False, False
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, d < 0, a < 0
    return True, b < 0, c < 0


def _has_alpha(form: Any) -> bool:
    return form.name == 'pal8' or any(component.is_alpha for component in form.components)


# Colors

_LIMITED, _FULL = 1, 2  # FFmpeg's AVColorRange
_BT709, _BT601 = 1, 5  # FFmpeg's AVColorSpace and the numbers of its scaler, which agree where both have one
_MATRICES = {_BT709: 1, 4: 4, _BT601: 5, 6: 5, 7: 7, 9: 9, 10: 9}  # to those of the scaler
_OTHERS = {8: 'YCgCo', 11: 'YDzDx', 12: 'chroma-derived', 13: 'chroma-derived', 14: 'ICtCp', 15: 'IPT', 16: 'YCgCo'}
# FFmpeg's SWS_BILINEAR, which PyAV takes by itself, and of which versions differ by up to 17 levels where 10 bits have
# fewer colors than pixels; SWS_BICUBIC, which FFmpeg takes by itself, and of which they do not; SWS_ACCURATE_RND,
# without which PyAV below 17 writes behind the end of images with transparency.
_BILINEAR, _BICUBIC, _EXACT = 0x2, 0x4, 0x40000
_FULL_UNLESS_SAID = ('yuvj', 'gray', 'ya', 'mono')  # as FFmpeg has it


def _conversion(path: str | os.PathLike, frame: Any, color: str) -> dict[str, int]:
    """Matrix and range of a frame as PyAV's scaler takes them; nothing of one that is RGB.

    All is stated, as the defaults of PyAV's versions differ: below 17 the tags of a frame are not looked at.
    """
    name = frame.format.name
    if frame.format.is_rgb or name == 'pal8' or name.startswith(('xyz', 'bayer')):
        return {}
    space, span = int(frame.colorspace), int(frame.color_range)
    if color == 'published':
        space, span = _BT601, 0
    elif space in _OTHERS:
        raise VideoError(
            f'{path}: its colors are {_OTHERS[space]}, which cannot be converted to RGB; convert the video to BT.709 '
            f"(color='published' reads it as BT.601, with wrong colors)"
        )
    elif space not in _MATRICES:
        space = _BT709 if frame.width >= 1280 or frame.height > 576 else _BT601
    if span not in (_LIMITED, _FULL):
        span = _FULL if name.startswith(_FULL_UNLESS_SAID) else _LIMITED
    matrix = _MATRICES[space]
    # RGB has no matrix, but PyAV below 17 ignores what equals that of the source, and its range.
    unlike = _BT709 if matrix == _BT601 else _BT601
    return dict(src_colorspace=matrix, dst_colorspace=unlike, src_color_range=span, dst_color_range=_FULL)
