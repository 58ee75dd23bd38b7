"""videozoo draw."""
from pathlib import Path

from ..catalogue import MOTIONS
from .options import Choice, Count, Several, command, folder_option, option
from .output import check_out, echo

SIZE = 128  # `video.drawing.SIZE`, without its imports


@command(examples='''
    videozoo draw --out shapes --num 16 --seed 5
    videozoo draw --out shapes --num 100 --motion left right still
''')
@folder_option('--out', required=True, help='Folder to write.')
@option('--num', '-n', type=Count(), default=80, metavar='N', help='Number of videos.')
@option('--seed', type=int, default=0, metavar='N', help='Random seed.')
@option('--size', type=int, default=SIZE, metavar='PIXELS', help='Height and width.')
@option('--motion', cls=Several, type=Choice(MOTIONS), metavar='MOTION', show_default='all',
        help=f'Only these motions: {", ".join(MOTIONS)}.')
def draw(out: Path, num: int, seed: int, size: int, motion: tuple[str, ...]) -> int:
    """Write synthetic videos of moving shapes, in folders named after their motion."""
    from tqdm import tqdm

    from ..video.drawing import make_scene, save_video
    if size < 16 or size % 2:
        raise ValueError(f'--size {size}: must be an even number of at least 16 pixels')
    check_out(out)
    motions = list(dict.fromkeys(motion or MOTIONS))
    for k in tqdm(range(num), unit=' videos'):
        motion_of, scene = motions[k % len(motions)], k // len(motions)
        folder = out / motion_of
        folder.mkdir(parents=True, exist_ok=True)
        save_video(make_scene(seed, scene, motion_of), folder / f'{seed}_{scene:06}.mp4', size)
    echo(f'{out}: {num} videos in {min(num, len(motions))} folders')
    return 0
