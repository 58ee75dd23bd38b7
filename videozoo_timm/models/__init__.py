"""Architectures; importing this package registers them with timm."""
from .building import build_model, source_of
from .image_encoders import ImageResNet, ImageVisionTransformer
from .video_mae import VideoMaskedAutoencoder
from .video_vit import VideoVisionTransformer

__all__ = [
    'ImageResNet',
    'ImageVisionTransformer',
    'VideoMaskedAutoencoder',
    'VideoVisionTransformer',
    'build_model',
    'source_of',
]
