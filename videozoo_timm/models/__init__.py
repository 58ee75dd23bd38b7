"""Architectures; importing this package registers them with timm."""
from .building import build_filled, build_model, source_of
from .generator import ImageGenerator
from .gpt import GPT
from .image_encoders import ImageResNet, ImageVisionTransformer
from .video_mae import VideoMaskedAutoencoder
from .video_vit import VideoVisionTransformer
from .vqgan import VQGAN

__all__ = [
    'GPT',
    'VQGAN',
    'ImageGenerator',
    'ImageResNet',
    'ImageVisionTransformer',
    'VideoMaskedAutoencoder',
    'VideoVisionTransformer',
    'build_filled',
    'build_model',
    'source_of',
]


def __dir__() -> list[str]:
    return list(__all__)
