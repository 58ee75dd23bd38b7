"""Synthetic videos, rendered where they are needed."""
from ..catalogue import MOTIONS
from .names import drawn_videos, is_drawn, scene_of
from .scenes import DURATION, RATE, SIZE, Scene, make_scene

__all__ = ['DURATION', 'MOTIONS', 'RATE', 'SIZE', 'Scene', 'drawn_videos', 'is_drawn', 'make_scene', 'scene_of']
