"""videozoo draw."""

import os
from functools import partial
from pathlib import Path

from ..catalogue import MOTIONS
from ..text import counted
from .base import Several, command, option
from .options import folder_option
from .output import bar_class, echo
from .types import Choice, Count

SIZE = 128  # `synthetic.SIZE`, without its imports


@command(
    examples="""
    videozoo draw --out shapes --num 16 --seed 5
    videozoo draw --out shapes --num 100 --motion left right still
    videozoo draw --out violations --num 20 --seed 7 --violations
"""
)
@folder_option('--out', required=True, help='Folder to write.')
@option(
    '--num', '-n', type=Count(), default=80, metavar='N', help='Number of videos; of --violations, of pairs of each.'
)
@option('--seed', type=int, default=0, metavar='N', help='Random seed.')
@option('--size', type=int, default=SIZE, metavar='PIXELS', help='Height and width.')
@option(
    '--motion',
    cls=Several,
    type=Choice(MOTIONS),
    metavar='MOTION',
    show_default='all',
    help=f'Only these motions: {", ".join(MOTIONS)}.',
)
@option(
    '--violations',
    is_flag=True,
    instead_of='--motion',
    help='Pairs of videos that are the same up to a moment, from which on one is impossible, instead: folders '
    'VIOLATION/PAIR with possible.mp4 and impossible.mp4, as `videozoo surprise --benchmark pairs` reads them.',
)
def draw(out: Path, num: int, seed: int, size: int, motion: tuple[str, ...], violations: bool) -> int:
    """Write synthetic videos of moving shapes, in folders named after their motion."""
    tqdm = bar_class()

    from ..outputs import Output
    from ..synthetic import MAX_SIZE, RATE, drawn_videos, make_scene, scene_of
    from ..video.writing import save_video

    if not 16 <= size <= MAX_SIZE or size % 2:
        raise ValueError(f'--size {size}: must be an even number of 16 to {MAX_SIZE:,} pixels')
    if abs(seed) >= 10**18:
        raise ValueError('--seed: must have at most 18 digits')
    Output(out).check_folder()
    if violations:
        names = drawn_videos(f'drawn-violations:{num}@{seed}')
        scenes = [partial(scene_of, name) for name in names]
        targets = [out / name.parts[-3] / f'{seed}_{name.parts[-2]}' / f'{name.name}.mp4' for name in names]
    else:
        drawn_videos(f'drawn:{num}')  # refuses too many
        motions = list(dict.fromkeys(motion or MOTIONS))
        numbers = [(motions[k % len(motions)], k // len(motions)) for k in range(num)]
        scenes = [partial(make_scene, seed, number, motion_of) for motion_of, number in numbers]
        targets = [out / motion_of / f'{seed}_{number:06}.mp4' for motion_of, number in numbers]
    for target in targets:
        if os.path.lexists(target) and not _has_size(target, size):
            raise Output(target).refusal('holds something else than a video of {} x {} pixels', size, size)
    for scene, target in zip(tqdm(scenes, unit=' videos'), targets, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        save_video(scene().images(size), target, RATE, quality=18, foresight=not violations)
    folders = {target.parent.parent if violations else target.parent for target in targets}
    echo(f'{out}: {counted(len(targets), "video")} in {counted(len(folders), "folder")}')
    return 0


def _has_size(path: Path, size: int) -> bool:
    """Whether a file is a video of this height and width, as an earlier run has left it."""
    import av

    from ..files import check_regular

    try:
        check_regular(path)
        with av.open(str(path)) as file:
            stream = file.streams.video[0]
            return (stream.width, stream.height) == (size, size)
    except Exception:  # no video
        return False
