"""From uint8 frames to the normalized clips that the models take, and back."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
import torch.nn.functional as F

from .checks import MAX_IMAGE_PIXELS, fault_of_size

RAND_AUGMENT = 'rand-m7-n4-mstd0.5-inc1'  # as video ViTs are usually finetuned

_INTERPOLATIONS = {'bilinear': ('bilinear', False), 'bicubic': ('bicubic', True), 'pil-bilinear': ('bilinear', True)}
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
    """Resize, crop and normalize the frames of a clip, as the published evaluation does.

    Args:
        frames: uint8 [T, H, W, 3] or [T, 3, H, W], a tensor or an array.
        size: Height and width of the output, in pixels.
        mean: Of pixels in [0, 1], one for all channels or one per channel.
        std: As `mean`.
        short_side: Length of the short side before cropping; `size + 32` if None. The published 3-crop test has
            `size`. Frames that have it already are not resized.
        interpolation: 'bilinear' (without antialiasing, as the video models were evaluated); or 'bicubic' or
            'pil-bilinear' as in PIL (with antialiasing, to whole pixel values, on the CPU).
        crop: 'center'; along the longer side 0 (left or top), 1 (center) or 2 (right or bottom); or where the crop
            lies between top and bottom and between left and right, as two fractions from 0 to 1.

    Returns:
        float32 [3, T, size, size], on the device of `frames`.

    Raises:
        ValueError: `frames` are not of this type and shape, too large or too narrow (`checks`), or smaller than `size`
            once resized; or an option is unknown.
    """
    frames = _checked(frames)
    if interpolation not in _INTERPOLATIONS:
        raise ValueError(f'interpolation must be one of {list(_INTERPOLATIONS)}, got {interpolation!r}')
    is_free = isinstance(crop, tuple) and len(crop) == 2 and all(0 <= fraction <= 1 for fraction in crop)
    if not is_free and crop not in _CROPS:
        raise ValueError(f"crop must be 'center', 0, 1, 2 or two fractions from 0 to 1, got {crop!r}")
    short_side = size + 32 if short_side is None else short_side
    if not 1 <= size <= short_side:
        raise ValueError(f'cannot crop {size} x {size} pixels out of frames whose short side is {short_side}')

    height, width = _resized(frames.shape[1], frames.shape[2], short_side)
    if isinstance(crop, tuple):
        top, left = round(crop[0] * (height - size)), round(crop[1] * (width - size))
    else:
        top, left = _offsets(height, width, size, _CROPS[crop])
    return _resize_crop_normalize(frames, (height, width), (top, left, size, size), mean, std, interpolation)


def prepare_whole(
    frames: torch.Tensor,
    short_side: int,
    patch_size: int,
    *,
    mean: float | Sequence[float],
    std: float | Sequence[float],
) -> torch.Tensor:
    """Resize and normalize whole frames, as the published pictures of an image's attention do.

    Args:
        frames: uint8 [T, H, W, 3] or [T, 3, H, W].
        short_side: Length of the short side, in pixels (bilinear, as PIL has it).
        patch_size: The right and the bottom are cut so that both sides are multiples of it.
        mean: As in `prepare_clip`.
        std: As in `prepare_clip`.

    Returns:
        float32 [3, T, H', W'].

    Raises:
        ValueError: `frames` are not of this type and shape, or the short side is less than a patch.
    """
    frames = _checked(frames)
    if short_side < patch_size:
        raise ValueError(f'a short side of {short_side} pixels is less than a patch of {patch_size}')
    height, width = _resized(frames.shape[1], frames.shape[2], short_side)
    box = 0, 0, height - height % patch_size, width - width % patch_size
    return _resize_crop_normalize(frames, (height, width), box, mean, std, 'pil-bilinear')


_Floats = float | Sequence[float]
_Box = tuple[int, int, int, int]  # top, left, height, width


def _checked(frames: torch.Tensor | Any) -> torch.Tensor:
    """Frames as uint8 [T, H, W, 3], a view."""
    try:
        frames = torch.as_tensor(frames)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(frames).__name__
        raise TypeError(f'frames must be uint8 [T, H, W, 3] or [T, 3, H, W], got {kind}') from error
    shape, kind = list(frames.shape), str(frames.dtype).removeprefix('torch.')
    if frames.ndim == 4 and shape[-1] != 3 and shape[1] == 3:
        frames = frames.permute(0, 2, 3, 1)  # [T, 3, H, W] -> [T, H, W, 3]
    if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in shape:
        remedy = ''
        if frames.ndim == 4 and shape[0] == 3 and 3 not in (shape[1], shape[3]):
            remedy = '; with time before colors: x.transpose(0, 1)'
        elif frames.ndim == 3:
            remedy = '; an image is one frame: x[None]'
        elif frames.ndim == 5 and len(frames) == 1:
            remedy = '; without the batch dimension: x[0]'
        elif frames.is_floating_point():
            remedy = '; pixels in [0, 1] become such by (255 * x).round().to(torch.uint8)'
        raise ValueError(f'frames must be uint8 [T, H, W, 3] or [T, 3, H, W], got {kind} {shape}{remedy}')
    fault = fault_of_size(frames.shape[2], frames.shape[1], MAX_IMAGE_PIXELS)
    if fault:
        raise ValueError(f'frames of {fault}')
    return frames


def _resize_crop_normalize(
    frames: torch.Tensor,
    size: tuple[int, int],
    box: _Box,
    mean: _Floats,
    std: _Floats,
    interpolation: str,
) -> torch.Tensor:
    # One frame after the other: a clip of large frames is never held in floats.
    clip = torch.stack([_resize(frame, size, box, interpolation) for frame in frames], dim=1)  # [C, T, height, width]
    # Interpolation weights sum to one, so normalizing afterwards gives the same and touches fewer pixels.
    return clip.div_(255).sub_(_per_channel(mean, clip, 'mean')).div_(_per_channel(std, clip, 'std'))


@dataclass(frozen=True)
class Augmentation:
    """How training clips are augmented, in the same way in all frames of a clip.

    Attributes:
        scale: Minimum and maximum fraction of the frame's area that a crop covers.
        ratio: Minimum and maximum aspect ratio (width over height) of the crop.
        hflip: Probability of a horizontal flip; 0 where left and right matter.
        auto_augment: timm's configuration string of AutoAugment, RandAugment and similar methods
            ('rand-m7-n4-mstd0.5-inc1'); '' for none.
        repeats: Views of each decoded clip.
        latest_start: Latest start of a clip, as a fraction of the latest that there is: 1 takes clips from all over a
            video, 0 its first frames.
    """

    scale: tuple[float, float] = (0.5, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    hflip: float = 0.5
    auto_augment: str = ''
    repeats: int = 1
    latest_start: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.latest_start <= 1:
            raise ValueError(f'latest_start must be a fraction from 0 to 1, got {self.latest_start}')
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f'scale must be two ascending fractions of the area, at most 1, got {list(self.scale)}')
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f'ratio must be two ascending numbers, got {list(self.ratio)}')
        if not 0 <= self.hflip <= 1:
            raise ValueError(f'hflip must be a probability from 0 to 1, got {self.hflip}')
        if self.repeats < 1:
            raise ValueError(f'repeats must be at least 1, got {self.repeats}')
        if self.auto_augment:
            try:
                _augmentation_of(self.auto_augment, 224, (0.5,))
            except Exception as error:
                raise ValueError(
                    f'auto_augment={self.auto_augment!r}: not a configuration of timm such as {RAND_AUGMENT!r}'
                ) from error

    @property
    def record(self) -> dict[str, Any]:
        """The settings; `latest_start` only if it is not 1, as the records of earlier versions lack it."""
        return {name: value for name, value in vars(self).items() if name != 'latest_start' or value != 1}


def augment_clip(
    frames: torch.Tensor,
    size: int,
    augmentation: Augmentation,
    seed: int,
    *,
    mean: float | Sequence[float],
    std: float | Sequence[float],
    interpolation: str = 'bilinear',
) -> torch.Tensor:
    """A random training view of a clip: a random resized crop, flip and augmentation, the same in all frames.

    Args:
        frames: uint8 [T, H, W, 3] or [T, 3, H, W].
        size: Height and width of the output, in pixels.
        augmentation: The crop, the flip and the further augmentation.
        seed: Random seed.
        mean: As in `prepare_clip`.
        std: As in `prepare_clip`.
        interpolation: As in `prepare_clip`.

    Returns:
        float32 [3, T, size, size].

    Raises:
        ValueError: `frames` are not uint8 [T, H, W, 3] or [T, 3, H, W].
    """
    frames = _checked(frames)
    # torchvision samples the crop from torch's generator; 32 bits are what NumPy's takes.
    from torchvision.transforms import RandomResizedCrop

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        top, left, height, width = RandomResizedCrop.get_params(
            frames.permute(0, 3, 1, 2), list(augmentation.scale), list(augmentation.ratio)
        )
        flip = torch.rand(1).item() < augmentation.hflip
    frames = frames[:, top : top + height, left : left + width]  # [T, H, W, C]
    box = 0, 0, size, size
    frames = torch.stack([_resize(frame, (size, size), box, interpolation) for frame in frames], dim=1)  # [C, T, H, W]
    if flip:
        frames = frames.flip(-1)
    if augmentation.auto_augment:
        frames = _auto_augment(frames, augmentation.auto_augment, seed, mean)
    return frames.div_(255).sub_(_per_channel(mean, frames, 'mean')).div_(_per_channel(std, frames, 'std'))


def _auto_augment(frames: torch.Tensor, config: str, seed: int, mean: _Floats) -> torch.Tensor:
    """timm's augmentations with the same random numbers in every frame: float [C, T, H, W] in 0..255, and back."""
    import numpy as np
    from PIL import Image

    augment = _augmentation_of(config, frames.shape[-1], tuple(torch.as_tensor(mean).reshape(-1).tolist()))
    images = frames.round().clamp_(0, 255).to(torch.uint8).permute(1, 2, 3, 0).numpy()  # [T, H, W, C]
    state, np_state = random.getstate(), np.random.get_state()  # timm samples from both
    try:
        done = []
        for image in images:
            random.seed(seed)
            np.random.seed(seed % 2**32)
            done.append(torch.from_numpy(np.array(augment(Image.fromarray(image)))))
    finally:
        random.setstate(state)
        np.random.set_state(np_state)
    return torch.stack(done).permute(3, 0, 1, 2).float()


@lru_cache(maxsize=4)
def _augmentation_of(config: str, size: int, mean: tuple[float, ...]) -> Callable[..., Any]:
    from timm.data.auto_augment import auto_augment_transform, rand_augment_transform

    fill = tuple(min(255, round(255 * value)) for value in (mean * 3)[:3])
    hparams = dict(translate_const=int(size * 0.45), img_mean=fill)
    return (rand_augment_transform if config.startswith('rand') else auto_augment_transform)(config, hparams)


def denormalize(clip: torch.Tensor, mean: float | Sequence[float], std: float | Sequence[float]) -> torch.Tensor:
    """Undo the normalization of `prepare_clip`.

    Args:
        clip: [..., C, T, H, W], or an image [C, H, W]; a tensor or an array.
        mean: As it was normalized with.
        std: As it was normalized with.

    Returns:
        Pixels in [0, 1] (clipped), of the same shape.

    Raises:
        ValueError: `mean` or `std` has neither one number nor one per channel.
    """
    clip = torch.as_tensor(clip)
    if clip.ndim == 3:
        return denormalize(clip.unsqueeze(1), mean, std).squeeze(1)
    return (clip * _per_channel(std, clip, 'std') + _per_channel(mean, clip, 'mean')).clamp_(0, 1)


def _resized(height: int, width: int, short_side: int) -> tuple[int, int]:
    if min(height, width) == short_side:
        return height, width
    # In floats, as published: whole-number arithmetic would differ by a pixel where the product falls just short.
    if height > width:
        return math.floor(height / width * short_side), short_side
    return short_side, math.floor(width / height * short_side)


def _offsets(height: int, width: int, size: int, crop: int) -> tuple[int, int]:
    top, left = math.ceil((height - size) / 2), math.ceil((width - size) / 2)
    if height > width:
        return (0, top, height - size)[crop], left
    return top, (0, left, width - size)[crop]


def _resize(frame: torch.Tensor, size: tuple[int, int], box: _Box, interpolation: str) -> torch.Tensor:
    """The part in `box` of a frame resized to `size`; no other part is computed.

    uint8 [H, W, C] -> float [C, height, width], still in 0..255.
    """
    top, left, height, width = box
    mode, as_pil = _INTERPOLATIONS[interpolation]
    if frame.shape[:2] == size:
        result = frame[top : top + height, left : left + width].float()
    elif as_pil:
        # On bytes, which only the CPU can, torch does the fixed-point arithmetic of PIL: rows first, then columns.
        pixels = frame.permute(2, 0, 1)[None].cpu()  # [1, C, H, W]
        interpolate = partial(F.interpolate, mode=mode, antialias=True, align_corners=False)
        pixels = interpolate(pixels, (pixels.shape[2], size[1]))[..., left : left + width]
        pixels = interpolate(pixels, (size[0], width))[0, :, top : top + height]
        return pixels.float().to(frame.device)
    else:
        threads = torch.get_num_threads()
        upper, lower, down = _neighbors(frame.shape[0], size[0], top, height, frame.device, threads)
        before, after, along = _neighbors(frame.shape[1], size[1], left, width, frame.device, threads)
        first = int(before[0])
        part = frame[:, first : int(after[-1]) + 1]
        rows = part.index_select(0, upper).float().lerp_(part.index_select(0, lower).float(), down.view(-1, 1, 1))
        result = rows.index_select(1, before - first).lerp_(rows.index_select(1, after - first), along.view(-1, 1))
    return result.permute(2, 0, 1)


@lru_cache(maxsize=64)  # they are the same for all frames of a clip, and take as long as the resizing itself
def _neighbors(
    old_size: int, new_size: int, start: int, number: int, device: torch.device, threads: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """For pixels of a resized side, from `start` on: the old pixels before and after each, and how far between them."""
    scale, place = torch.tensor(old_size, dtype=torch.float32) / new_size, torch.arange(start, start + number) + 0.5
    # As torch rounds it: on one thread its kernel multiplies and subtracts in one step. It shows far from the edge.
    place = (place.double() * scale.double() - 0.5).float() if threads == 1 else place * scale - 0.5
    place = place.clamp_(min=0)
    before = place.long().clamp_(max=old_size - 1)
    return before.to(device), (before + 1).clamp_(max=old_size - 1).to(device), (place - before).to(device)


def _per_channel(values: _Floats, clip: torch.Tensor, name: str) -> torch.Tensor:
    value = torch.as_tensor(values, dtype=clip.dtype, device=clip.device).reshape(-1, 1, 1, 1)
    if len(value) not in (1, clip.shape[-4]):
        raise ValueError(f'{name} must be one number or one for each of {clip.shape[-4]} channels, got {len(value)}')
    return value  # [1 or C, 1, 1, 1]
