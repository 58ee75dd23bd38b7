"""A feature extractor as Physion's evaluator loads it (https://github.com/neuroailab/physion_evaluator)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..analysis.features import Features, checked_block
from ..factory import load_model
from ..identity import resolve
from ..inference.clips import ClipTransform, clip_transform

if TYPE_CHECKING:
    _Base = nn.Module
else:
    try:
        from physion_evaluator.feature_extract_interface import PhysionFeatureExtractor as _Base
    except ImportError:  # the evaluator calls `transform` and `extract_features` and asks for no class
        _Base = nn.Module

__all__ = ['PhysionExtractor']

FRAMES_SEEN = 45  # frames of a film before the model has to predict; the evaluator gives 10 units of time to each
_IMAGE_FRAMES = 4  # that the evaluator's own image models are given


class PhysionExtractor(_Base):
    """A model of this package as the evaluator of Physion takes it.

    The evaluator makes the class without arguments, so a subclass says which model it is. In a file `extractor.py`:

        from videozoo_timm.adapters import PhysionExtractor

        class HVM1(PhysionExtractor):
            name = 'vit_hvm1_none'

    The evaluator's `physion_feature_extract` is given `extractor.HVM1` as the class of the model. A video model sees
    the 46 frames before the prediction as one clip, every third of them; an image encoder sees four frames, one by one.

    Attributes:
        name: Published name or timm name.
        zoo: As in `load_model`.
        tokens: 'mean' of the patch tokens at each step of time, or 'all' of them in one row.
        block: Of which block, after the model's final norm (a ResNet has none); negative ones count from the end.
        model: The model.

    Raises:
        ValueError: No such model, with the nearest names; it is a generator; or `tokens` is neither.
        IndexError: No such block.
    """

    name = ''
    zoo: str | None = None
    tokens = 'mean'
    block = -1

    def __init__(self) -> None:
        super().__init__()
        kind = type(self).__name__
        if not self.name:
            raise ValueError(f"{kind} names no model: give it one in a subclass, name = 'vit_hvm1_none'")
        if self.tokens not in ('mean', 'all'):
            raise ValueError(f"{kind}: tokens must be 'mean' or 'all', got {self.tokens!r}")
        if resolve(self.name, zoo=self.zoo).is_generator:  # before gigabytes are downloaded
            raise ValueError(f'{kind}: {self.name} is a generator and gives no features; name an encoder')
        model: Any = load_model(self.name, zoo=self.zoo)
        checked_block(model, self.block)
        self.model = model
        self._clips = clip_transform(model)

    def transform(self) -> tuple['FramesTransform', int, int]:
        """What the evaluator reads films by.

        Returns:
            The transform of a film's frames, the time from one frame to the next (10 units a frame, 30 is every third),
            and the least number of frames.
        """
        frames = getattr(self.model, 'num_frames', _IMAGE_FRAMES)
        gap = 10 * max(1, FRAMES_SEEN // max(frames - 1, 1))
        return FramesTransform(self._clips), gap, frames

    @torch.inference_mode()
    def extract_features(self, videos: torch.Tensor) -> torch.Tensor:
        """Features of films.

        Args:
            videos: [B, T, C, H, W], as `transform` prepares them.

        Returns:
            float32 [B, T', D], on the device of the model: of a video model T' is its number of tubelets in time, of an
            image encoder T. D is the width of the model, times the number of patches with `tokens = 'all'`.

        Raises:
            ValueError: Films of another length than the model's, or of another shape.
        """
        if videos.ndim != 5:
            raise ValueError(f'videos must be [B, T, C, H, W], got {list(videos.shape)}')
        length = getattr(self.model, 'num_frames', None)
        if length is not None and videos.shape[1] != length:
            raise ValueError(
                f'{self.name} takes {length} frames, got {videos.shape[1]}: read the films as transform() says'
            )
        parameter = next(self.model.parameters())
        videos = videos.to(parameter.device, parameter.dtype)
        if length is None:
            maps = self._maps(videos.flatten(0, 1))  # [B * T, H', W', C]
            maps = maps.unflatten(0, videos.shape[:2])
        else:
            maps = self._maps(videos.transpose(1, 2))
        # [B, T', H', W', C]
        rows = maps.flatten(2, 3).mean(dim=2) if self.tokens == 'mean' else maps.flatten(2)
        return rows.float()

    def _maps(self, x: torch.Tensor) -> torch.Tensor:
        """Patch tokens of the block, channels last."""
        return Features('all', (self.block,), norm=hasattr(self.model, 'blocks')).compute(self.model, x)[:, 0]


@dataclass(frozen=True)
class FramesTransform:
    """Frames of a film, PIL images or arrays, to float32 [T, 3, H, W]."""

    clips: ClipTransform

    def __call__(self, frames: Sequence[Any]) -> torch.Tensor:
        """Prepare the frames of a film."""
        x = self.clips(list(frames))
        return x.unsqueeze(0) if x.ndim == 3 else x.transpose(0, 1).contiguous()  # [3, T, H, W] -> [T, 3, H, W]
