"""What other code asks of a model, whatever class it is of.

For type checkers. `isinstance` cannot ask for these: from Python 3.12 on it finds no parameter and no submodule, since
torch looks them up in `__getattr__`.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import nn

from .tubelets import TubeletEmbed

__all__ = ['LikelihoodModel', 'TimmModel', 'VideoModel']


class TimmModel(Protocol):
    """A model that timm built, image encoders included."""

    pretrained_cfg: dict[str, Any]
    num_classes: int
    num_features: int

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """As of any module."""
        ...

    def forward_features(self, x: Any) -> Any:
        """Features before the pooling and the head."""
        ...

    def get_classifier(self) -> nn.Module:
        """The head; `nn.Identity` without classes."""
        ...


class VideoModel(TimmModel, Protocol):
    """A model of clips; images are still clips to it."""

    patch_embed: TubeletEmbed

    @property
    def num_frames(self) -> int:
        """Frames of a clip."""
        ...

    @property
    def tubelet_size(self) -> int:
        """Frames of a tubelet."""
        ...


class LikelihoodModel(TimmModel, Protocol):
    """A generator of clips that says how likely the codes of one are.

    Attributes:
        num_frames: Frames of a clip.
        grid_size: Codes of a clip along time, height and width.
    """

    num_frames: int
    grid_size: tuple[int, int, int]

    def encode(self, clips: torch.Tensor) -> torch.Tensor:
        """Clips [B, C, T, H, W] -> codes [B, T', H', W']."""
        ...

    def log_likelihood_of_codes(self, codes: torch.Tensor) -> torch.Tensor:
        """Of each code given all before it, [B, T', H', W'], in nats."""
        ...
