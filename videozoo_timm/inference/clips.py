"""Clips as a model takes them, prepared as its own configuration says."""

import os
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn

from ..video import COMPLETION, RECOGNITION, Clip, Sampling, Views, is_image, read_clip, read_image
from ..video.views import prepare_view
from .checks import checked_model
from .pipeline import views_of

__all__ = ['ClipTransform', 'clip_transform']


@dataclass(frozen=True, repr=False)
class ClipTransform:
    """Prepares clips for a model: resizes, crops and normalizes them (`clip_transform`).

    Attributes:
        views: Size, preprocessing and sampling.
    """

    views: Views

    def __repr__(self) -> str:
        views, sampling = self.views, self.sampling
        number = sampling.num_frames
        frames = '1 frame' if number == 1 else f'{number} frames over {sampling.seconds:.1f} s'
        return (
            f'ClipTransform({frames}, {views.size} x {views.size} pixels, mean={_shortest(views.mean)}, '
            f'std={_shortest(views.std)}, {views.interpolation})'
        )

    @property
    def sampling(self) -> Sampling:
        """Which frames of a video the model takes, for `read_clip`."""
        return self.views.sampling

    def __call__(self, frames: Clip | torch.Tensor | Any) -> torch.Tensor:
        """Prepare a clip or an image.

        Args:
            frames: What `read_clip` or `read_image` gives; or uint8 [T, H, W, 3] or [T, 3, H, W], of an image [H, W, 3]
                or [3, H, W] too: a tensor, an array, a PIL image, or a list of frames.

        Returns:
            float32 [3, T, size, size], of a single frame [3, size, size]; on the device of `frames`. A model takes a
            batch: `transform(frames).unsqueeze(0)`.

        Raises:
            TypeError: It is no array of numbers; `read` takes paths.
            ValueError: The frames are of another shape or type, or smaller than the model's input once resized.
        """
        if isinstance(frames, (str, os.PathLike)):
            raise TypeError(
                f'frames are wanted, got the path {str(frames)!r}; read({str(frames)!r}) reads and prepares it'
            )
        pixels = frames.frames if isinstance(frames, Clip) else frames
        if isinstance(pixels, (list, tuple)):  # of frames
            pixels = torch.stack([_pixels_of(frame) for frame in pixels])
        pixels = _pixels_of(pixels)
        if pixels.ndim == 3:
            pixels = pixels.unsqueeze(0)
        x = prepare_view(pixels, self.views)
        return x[:, 0] if x.shape[1] == 1 else x

    def read(self, path: str | os.PathLike[str], start: float | None = None, **fields: Any) -> torch.Tensor:
        """Read a clip of a video, or an image, and prepare it.

        Args:
            path: A video file or an image file.
            start: Start of a video's clip, in seconds from the first frame; the centered clip if None.
            **fields: Fields of `Pixels`: `color`, `background`.

        Raises:
            FileNotFoundError, VideoError, ValueError, ImportError: As `read_clip`.
        """
        if is_image(path):
            return self(read_image(path, **fields))
        return self(read_clip(path, sampling=self.sampling, start=start, **fields))


def clip_transform(model: nn.Module, sampling: Sampling | None = None, **changes: Any) -> ClipTransform:
    """What prepares clips for a model, as its own configuration says and as the commands do.

    From a file; or by way of its frames and their times:

        transform = clip_transform(model)
        x = transform.read('video.mp4')
        clip = read_clip('video.mp4', sampling=transform.sampling)
        x = transform(clip)  # the same

    Args:
        model: A model of this package.
        sampling: The time that a clip spans, its number of frames is the model's; if None that of recognition, of a
            masked autoencoder that of completion, of a video generator its own.
        **changes: Other fields of `Views`: `size`, `short_side`, `crops` (of which the first is taken), ...

    Raises:
        TypeError: No such field; or a name where a model belongs.
        ValueError: The model's input is not square, or a size is no multiple of the patch.
    """
    checked: Any = checked_model(model)
    if sampling is None:
        sampling = COMPLETION if hasattr(checked, 'forward_decoder') else RECOGNITION
        if hasattr(checked, 'span'):
            sampling = Sampling(checked.num_frames, checked.span)
    if unknown := sorted(changes.keys() - {field.name for field in fields(Views)}):
        raise TypeError(f'clip_transform has no option {unknown[0]!r}; it takes the fields of `Views`')
    return ClipTransform(views_of(checked, sampling, **changes))


def _pixels_of(frames: Any) -> torch.Tensor:
    if hasattr(frames, 'convert'):  # a PIL image
        import numpy as np

        frames = np.array(frames.convert('RGB'))
    try:
        return torch.as_tensor(frames)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f'frames are wanted, got {type(frames).__name__}') from error


def _shortest(values: tuple[float, ...]) -> float | tuple[float, ...]:
    return values[0] if len(set(values)) == 1 else values
