"""The names of synthetic videos: `drawn:0/left/000003` is read as a video file is, `drawn:100@7` as a folder of 100 is.

The videos of one number are matched: `drawn:0/right/000003` shows the same shapes before the same background as
`drawn:0/left/000003`, moving otherwise.
"""
import os
import re
from pathlib import Path

from ..catalogue import MOTIONS
from .scenes import Scene, make_scene

_SPEC = re.compile(r'drawn:(\d+)(?:@(\d+))?')  # drawn:COUNT@SEED
_NAME = re.compile(r'drawn:(\d+)[/\\](\w+)[/\\](\d+)')  # drawn:SEED/MOTION/NUMBER


def is_drawn(path: str | os.PathLike) -> bool:
    """Whether a path names drawn videos instead of files."""
    return str(path).startswith('drawn:')


def drawn_videos(spec: str | os.PathLike) -> list[Path]:
    """The names of the drawn videos that a path stands for.

    Args:
        spec: `drawn:COUNT`, `drawn:COUNT@SEED` (the motions take turns), or the name of one drawn video.

    Returns:
        `drawn:SEED/MOTION/NUMBER` of each; a number under all motions before the next number.

    Raises:
        ValueError: Not of this form.
    """
    if _NAME.fullmatch(str(spec)):
        return [Path(spec)]
    match = _SPEC.fullmatch(str(spec))
    if not match or int(match[1]) == 0:
        raise ValueError(
            f'{spec}: drawn videos are named drawn:COUNT or drawn:COUNT@SEED, for instance drawn:100 or drawn:100@7')
    count, seed = int(match[1]), int(match[2] or 0)
    return [Path(f'drawn:{seed}/{MOTIONS[k % len(MOTIONS)]}/{k // len(MOTIONS):06}') for k in range(count)]


def scene_of(path: str | os.PathLike) -> Scene:
    """The scene of a drawn video's name.

    Raises:
        ValueError: It is no such name.
    """
    match = _NAME.fullmatch(str(path))
    if not match:
        raise ValueError(f'{path}: one drawn video is named drawn:SEED/MOTION/NUMBER')
    return make_scene(int(match[1]), int(match[3]), match[2])
