"""Synthetic videos, rendered where they are needed."""

from ..catalogue import MOTIONS
from .names import MAX_VIDEOS, drawn_videos, is_drawn, scene_of
from .scenes import DURATION, MAX_SIZE, RATE, SIZE, Scene, make_scene
from .violations import VIOLATIONS, event_time, make_violation

__all__ = [
    'DURATION',
    'MAX_SIZE',
    'MAX_VIDEOS',
    'MOTIONS',
    'RATE',
    'SIZE',
    'VIOLATIONS',
    'Scene',
    'drawn_videos',
    'event_time',
    'is_drawn',
    'make_scene',
    'make_violation',
    'scene_of',
]
