"""videozoo draw."""

import os
from pathlib import Path

from ..catalogue import MOTIONS
from .base import Several, command, option
from .options import folder_option
from .output import bar_class, echo
from .types import Choice, Count

SIZE = 128  # `synthetic.SIZE`, without its imports


@command(
    examples="""
    videozoo draw --out shapes --num 16 --seed 5
    videozoo draw --out shapes --num 100 --motion left right still
"""
)
@folder_option('--out', required=True, help='Folder to write.')
@option('--num', '-n', type=Count(), default=80, metavar='N', help='Number of videos.')
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
def draw(out: Path, num: int, seed: int, size: int, motion: tuple[str, ...]) -> int:
    """Write synthetic videos of moving shapes, in folders named after their motion."""
    tqdm = bar_class()

    from ..outputs import Output
    from ..synthetic import MAX_SIZE, MAX_VIDEOS, RATE, make_scene
    from ..video.writing import save_video

    if not 16 <= size <= MAX_SIZE or size % 2:
        raise ValueError(f'--size {size}: must be an even number of 16 to {MAX_SIZE:,} pixels')
    if num > MAX_VIDEOS:
        raise ValueError(f'--num {num}: must be at most {MAX_VIDEOS:,}')
    if abs(seed) >= 10**18:
        raise ValueError('--seed: must have at most 18 digits')
    Output(out).check_folder()
    motions = list(dict.fromkeys(motion or MOTIONS))
    scenes = [(motions[k % len(motions)], k // len(motions)) for k in range(num)]
    targets = [out / motion_of / f'{seed}_{scene:06}.mp4' for motion_of, scene in scenes]
    for target in targets:
        if os.path.lexists(target) and not _has_size(target, size):
            raise Output(target).refusal('holds something else than a video of {} x {} pixels', size, size)
    for (motion_of, scene), target in zip(tqdm(scenes, unit=' videos'), targets, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        save_video(make_scene(seed, scene, motion_of).images(size), target, RATE, quality=18)
    echo(f'{out}: {num} videos in {min(num, len(motions))} folders')
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
