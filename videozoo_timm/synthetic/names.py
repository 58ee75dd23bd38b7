"""The names of synthetic videos: `drawn:0/left/000003` is read as a video file is, `drawn:100@7` as a folder of 100 is.

The videos of one number are matched: `drawn:0/right/000003` shows the same shapes before the same background as
`drawn:0/left/000003`, moving otherwise.
"""

import os
import re
from pathlib import Path

from ..catalogue import MOTIONS
from .scenes import Scene, make_scene

MAX_VIDEOS = 1_000_000  # that one name stands for

_SPEC = re.compile(r'drawn:([0-9]{1,18})(?:@([0-9]{1,18}))?')  # drawn:COUNT@SEED
_NAME = re.compile(r'drawn:([0-9]{1,18})[/\\](\w{1,18})[/\\]([0-9]{1,18})')  # drawn:SEED/MOTION/NUMBER


def is_drawn(path: str | os.PathLike) -> bool:
    """Whether a path names synthetic videos instead of files."""
    return str(path).startswith('drawn:')


def drawn_videos(spec: str | os.PathLike) -> list[Path]:
    """The names of the synthetic videos that a path stands for.

    Args:
        spec: `drawn:COUNT`, `drawn:COUNT@SEED` (the motions take turns), or the name of one synthetic video.

    Returns:
        The name `drawn:SEED/MOTION/NUMBER` of each video; all motions of a number come before the next number.

    Raises:
        ValueError: Not of this form, of no motion, or more than `MAX_VIDEOS`.
    """
    if _NAME.fullmatch(str(spec)):
        scene_of(spec)  # refuses a motion that does not exist
        return [Path(spec)]
    match = _SPEC.fullmatch(str(spec))
    if not match or not 1 <= int(match[1]) <= MAX_VIDEOS:
        raise ValueError(
            f'{_short(spec)}: synthetic videos are named drawn:COUNT or drawn:COUNT@SEED, for instance drawn:100 or '
            f'drawn:100@7; COUNT is at most {MAX_VIDEOS:,}, SEED has at most 18 digits'
        )
    count, seed = int(match[1]), int(match[2] or 0)
    return [Path(f'drawn:{seed}/{MOTIONS[k % len(MOTIONS)]}/{k // len(MOTIONS):06}') for k in range(count)]


def scene_of(path: str | os.PathLike) -> Scene:
    """The scene of a synthetic video, by its name.

    Raises:
        ValueError: It is not the name of one.
    """
    match = _NAME.fullmatch(str(path))
    if not match:
        raise ValueError(
            f'{_short(path)}: one synthetic video is named drawn:SEED/MOTION/NUMBER, of at most 18 digits each'
        )
    return make_scene(int(match[1]), int(match[3]), match[2])


def _short(name: str | os.PathLike) -> str:
    name = str(name)
    return name if len(name) <= 60 else f'{name[:57]}...'
