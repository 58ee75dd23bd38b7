"""From video files to the clips that the models take: finding, sampling, resizing, cropping, normalising."""
from .reading import (
    COMPLETION,
    RECOGNITION,
    VIDEO_EXTENSIONS,
    Clip,
    Sampling,
    VideoError,
    VideoInfo,
    find_videos,
    probe,
    read_clip,
)
from .transforms import denormalize, prepare_clip

__all__ = [
    'COMPLETION',
    'RECOGNITION',
    'VIDEO_EXTENSIONS',
    'Clip',
    'Sampling',
    'VideoError',
    'VideoInfo',
    'denormalize',
    'find_videos',
    'prepare_clip',
    'probe',
    'read_clip',
]
