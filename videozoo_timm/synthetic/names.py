"""The names of synthetic videos: `drawn:0/left/000003` is read as a video file is, `drawn:100@7` as a folder of 100 is.

The videos of one number are matched: `drawn:0/right/000003` shows the same shapes before the same background as
`drawn:0/left/000003`, moving otherwise. `drawn-violations:0/vanish/000003/impossible` is the same as its partner
`.../possible` up to a moment.
"""

import os
import re
from pathlib import Path

from ..catalogue import MOTIONS
from .scenes import Scene, make_scene
from .violations import VIOLATIONS, make_violation

MAX_VIDEOS = 1_000_000  # that one name stands for

_SPEC = re.compile(r'drawn:([0-9]{1,18})(?:@([0-9]{1,18}))?')  # drawn:COUNT@SEED
_NAME = re.compile(r'drawn:([0-9]{1,18})[/\\](\w{1,18})[/\\]([0-9]{1,18})')  # drawn:SEED/MOTION/NUMBER
# drawn-violations:COUNT@SEED:VIOLATION and drawn-violations:SEED/VIOLATION/NUMBER/POSSIBLE
_PAIRS = re.compile(r'drawn-violations:([0-9]{1,18})(?:@([0-9]{1,18}))?(?::([\w-]{1,18}))?')
_FILM = re.compile(r'drawn-violations:([0-9]{1,18})[/\\]([\w-]{1,18})[/\\]([0-9]{1,18})[/\\](possible|impossible)')


def is_drawn(path: str | os.PathLike) -> bool:
    """Whether a path names synthetic videos instead of files."""
    return str(path).startswith(('drawn:', 'drawn-violations:'))


def drawn_videos(spec: str | os.PathLike) -> list[Path]:
    """The names of the synthetic videos that a path stands for.

    Args:
        spec: `drawn:COUNT`, `drawn:COUNT@SEED` (the motions take turns), or the name of one synthetic video.
            `drawn-violations:COUNT@SEED` stands for COUNT pairs of each of `VIOLATIONS`,
            `drawn-violations:COUNT@SEED:VIOLATION` for those of one.

    Returns:
        The name `drawn:SEED/MOTION/NUMBER` of each video; all motions of a number come before the next number. Of
        violations `drawn-violations:SEED/VIOLATION/NUMBER/possible`, then its partner `.../impossible`.

    Raises:
        ValueError: Not of this form, of no motion, or more than `MAX_VIDEOS`.
    """
    text = str(spec)
    if _NAME.fullmatch(text) or _FILM.fullmatch(text):
        scene_of(spec)  # refuses a motion that does not exist
        return [Path(spec)]
    if text.startswith('drawn-violations:'):
        return _drawn_pairs(text)
    match = _SPEC.fullmatch(text)
    if not match or not 1 <= int(match[1]) <= MAX_VIDEOS:
        raise ValueError(
            f'{_short(spec)}: synthetic videos are named drawn:COUNT or drawn:COUNT@SEED, for instance drawn:100 or '
            f'drawn:100@7; COUNT is at most {MAX_VIDEOS:,}, SEED has at most 18 digits'
        )
    count, seed = int(match[1]), int(match[2] or 0)
    return [Path(f'drawn:{seed}/{MOTIONS[k % len(MOTIONS)]}/{k // len(MOTIONS):06}') for k in range(count)]


def _drawn_pairs(spec: str) -> list[Path]:
    match, most = _PAIRS.fullmatch(spec), MAX_VIDEOS // (2 * len(VIOLATIONS))
    if not match or not 1 <= int(match[1]) <= most or match[3] not in (None, *VIOLATIONS):
        raise ValueError(
            f'{_short(spec)}: pairs of synthetic videos are named drawn-violations:COUNT@SEED or with one violation '
            f'drawn-violations:COUNT@SEED:VIOLATION, for instance drawn-violations:100@7:vanish; COUNT is at most '
            f'{most:,}, VIOLATION one of {", ".join(VIOLATIONS)}'
        )
    return [
        Path(f'drawn-violations:{int(match[2] or 0)}/{violation}/{number:06}/{film}')
        for violation in ([match[3]] if match[3] else VIOLATIONS)
        for number in range(int(match[1]))
        for film in ('possible', 'impossible')
    ]


def scene_of(path: str | os.PathLike) -> Scene:
    """The scene of a synthetic video, by its name.

    Raises:
        ValueError: It is not the name of one.
    """
    if film := _FILM.fullmatch(str(path)):
        return make_violation(int(film[1]), int(film[3]), film[2], film[4] == 'possible')
    match = _NAME.fullmatch(str(path))
    if not match:
        raise ValueError(
            f'{_short(path)}: one synthetic video is named drawn:SEED/MOTION/NUMBER, of at most 18 digits each'
        )
    return make_scene(int(match[1]), int(match[3]), match[2])


def _short(name: str | os.PathLike) -> str:
    name = str(name)
    return name if len(name) <= 60 else f'{name[:57]}...'
