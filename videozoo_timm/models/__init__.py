"""Architectures; importing this package registers them with timm."""

from typing import TYPE_CHECKING, Any

from .._lazy import lazy_names
from ..contents import builders
from .building import build_filled, build_model
from .image_encoders import ImageResNet, ImageVisionTransformer
from .image_mae import ImageMaskedAutoencoder
from .video_mae import VideoMaskedAutoencoder
from .video_vit import VideoVisionTransformer

if TYPE_CHECKING:
    from .generator import ImageGenerator
    from .gpt import GPT
    from .sampling import SamplingConfig
    from .video_generator import Continuation, VideoGenerator
    from .video_vqgan import VideoVQGAN, VideoVQGANConfig
    from .vqgan import VQGAN

# The generators are not timm's to list: whoever wants timm's models alone need not wait for them.
__getattr__, _ = lazy_names(
    __name__,
    {
        'generator': ('ImageGenerator',),
        'gpt': ('GPT',),
        'sampling': ('SamplingConfig',),
        'video_generator': ('Continuation', 'VideoGenerator'),
        'video_vqgan': ('VideoVQGAN', 'VideoVQGANConfig'),
        'vqgan': ('VQGAN',),
    },
)

__all__ = [
    'GPT',
    'VQGAN',
    'Continuation',
    'ImageGenerator',
    'ImageMaskedAutoencoder',
    'ImageResNet',
    'ImageVisionTransformer',
    'SamplingConfig',
    'VideoGenerator',
    'VideoMaskedAutoencoder',
    'VideoVQGAN',
    'VideoVQGANConfig',
    'VideoVisionTransformer',
    'build_filled',
    'build_model',
]


def _gpt(**args: Any) -> 'GPT':
    from .gpt import GPT

    return GPT(**args)


def _vqgan(**args: Any) -> 'VQGAN':
    from .vqgan import VQGAN

    return VQGAN(**args)


builders.update(gpt=_gpt, vqgan=_vqgan)


def __dir__() -> list[str]:
    return list(__all__)
