"""Architectures; importing this package registers them with timm."""

from ..contents import builders
from .building import build_filled, build_model
from .generator import ImageGenerator
from .gpt import GPT
from .image_encoders import ImageResNet, ImageVisionTransformer
from .image_mae import ImageMaskedAutoencoder
from .sampling import SamplingConfig
from .video_generator import Continuation, VideoGenerator
from .video_mae import VideoMaskedAutoencoder
from .video_vit import VideoVisionTransformer
from .video_vqgan import VideoVQGAN, VideoVQGANConfig
from .vqgan import VQGAN

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

builders.update(gpt=GPT, vqgan=VQGAN)


def __dir__() -> list[str]:
    return list(__all__)
