"""Synthetic videos, rendered where they are needed."""

from ..catalogue import MOTIONS
from .names import MAX_VIDEOS, drawn_videos, is_drawn, scene_of
from .scenes import DURATION, MAX_SIZE, RATE, SIZE, Scene, make_scene

__all__ = [
    'DURATION',
    'MAX_SIZE',
    'MAX_VIDEOS',
    'MOTIONS',
    'RATE',
    'SIZE',
    'Scene',
    'drawn_videos',
    'is_drawn',
    'make_scene',
    'scene_of',
]
