"""From uint8 frames to the normalised clips that the models take, and back."""
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

_CROPS = {'center': 1, 0: 0, 1: 1, 2: 2}


def prepare_clip(
        frames: torch.Tensor,
        size: int,
        *,
        mean: float | Sequence[float],
        std: float | Sequence[float],
        short_side: int | None = None,
        interpolation: str = 'bilinear',
        crop: str | int | tuple[float, float] = 'center',
) -> torch.Tensor:
    """Resizes, crops and normalises the frames of a clip, as the published evaluation does.

    Args:
        frames: uint8 [T, H, W, 3], a tensor or an array.
        size: Height and width of the output, in pixels.
        mean: Of pixels in [0, 1], one for all channels or one a channel.
        std: As `mean`.
        short_side: Length of the short side before cropping; `size + 32` if None. The published 3-crop test has
            `size`. Frames that have it already are not resized.
        interpolation: 'bilinear' (without antialias, as the video models were evaluated) or 'bicubic' (as PIL has it:
            with antialias, to whole pixel values; on the CPU).
        crop: 'center'; along the longer side 0 (left or top), 1 (centre) or 2 (right or bottom); or where the crop
            lies between top and bottom and between left and right, as two shares from 0 to 1.

    Returns:
        float32 [3, T, size, size], on the device of `frames`.

    Raises:
        ValueError: `frames` are no uint8 [T, H, W, 3], smaller than `size` once resized, or an option is unknown.
    """
    frames = torch.as_tensor(frames)
    if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        shape = list(frames.shape)
        raise ValueError(f'frames must be uint8 [T, H, W, 3], got {frames.dtype} {shape}'.replace('torch.', ''))
    if interpolation not in ('bilinear', 'bicubic'):
        raise ValueError(f"interpolation must be 'bilinear' or 'bicubic', got {interpolation!r}")
    free = isinstance(crop, tuple) and len(crop) == 2 and all(0 <= share <= 1 for share in crop)
    if not free and crop not in _CROPS:
        raise ValueError(f"crop must be 'center', 0, 1, 2 or two shares from 0 to 1, got {crop!r}")
    short_side = size + 32 if short_side is None else short_side
    if not 1 <= size <= short_side:
        raise ValueError(f'cannot crop {size} x {size} pixels out of frames whose short side is {short_side}')

    height, width = _resized(*frames.shape[1:3], short_side)
    if free:
        top, left = round(crop[0] * (height - size)), round(crop[1] * (width - size))
    else:
        top, left = _offsets(height, width, size, _CROPS[crop])
    frames = frames.permute(0, 3, 1, 2)  # [T, H, W, C] -> [T, C, H, W]
    # One frame after the other and cropped at once: a clip of large frames is never held in floats.
    clip = torch.stack([
        _resize(frame, height, width, interpolation)[:, top:top + size, left:left + size] for frame in frames
    ], dim=1)  # [C, T, size, size]
    # Interpolation weights sum to one, so normalising afterwards gives the same and touches fewer pixels.
    return clip.div_(255).sub_(_per_channel(mean, clip, 'mean')).div_(_per_channel(std, clip, 'std'))


def denormalize(clip: torch.Tensor, mean: float | Sequence[float], std: float | Sequence[float]) -> torch.Tensor:
    """Undoes the normalisation of `prepare_clip`.

    Args:
        clip: [..., C, T, H, W].
        mean: As it was normalised with.
        std: As it was normalised with.

    Returns:
        Pixels in [0, 1] (clipped), of the same shape.

    Raises:
        ValueError: `mean` or `std` has neither one number nor one a channel.
    """
    return (clip * _per_channel(std, clip, 'std') + _per_channel(mean, clip, 'mean')).clamp_(0, 1)


def _resized(height, width, short_side):
    if min(height, width) == short_side:
        return height, width
    # In floats, as published: whole-number arithmetic would differ by a pixel where the product falls just short.
    if height > width:
        return math.floor(height / width * short_side), short_side
    return short_side, math.floor(width / height * short_side)


def _offsets(height, width, size, crop):
    top, left = math.ceil((height - size) / 2), math.ceil((width - size) / 2)
    if height > width:
        return (0, top, height - size)[crop], left
    return top, (0, left, width - size)[crop]


def _resize(frame, height, width, interpolation):
    """uint8 [C, H, W] -> float [C, height, width], still in 0..255."""
    if frame.shape[1:] == (height, width):
        return frame.float()
    bicubic = interpolation == 'bicubic'
    # On bytes, which only the CPU can, torch does the fixed-point arithmetic of PIL.
    pixels = frame[None].cpu() if bicubic else frame[None].float()
    pixels = F.interpolate(pixels, (height, width), mode=interpolation, antialias=bicubic, align_corners=False)
    return pixels[0].float().to(frame.device)


def _per_channel(value, clip, name):
    value = torch.as_tensor(value, dtype=clip.dtype, device=clip.device).reshape(-1, 1, 1, 1)
    if len(value) not in (1, clip.shape[-4]):
        raise ValueError(f'{name} must be one number or one for each of {clip.shape[-4]} channels, got {len(value)}')
    return value  # [1 or C, 1, 1, 1]
