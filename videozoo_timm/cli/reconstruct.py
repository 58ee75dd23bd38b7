"""videozoo reconstruct."""

from typing import Any

from ..text import counted
from .base import command, option
from .clips import each_clip, views_for_generator
from .generator_options import GeneratorOptions, check_named, generator_options, load_video_generator
from .inputs import files, sample, unique_stems
from .options import Inputs, Pictures, ReadingOptions, input_options, picture_options
from .output import echo, exit_code, progress, table
from .pictures import PictureFolder, captions, check_table, leave_out, settings_of
from .types import Choice, Count


@command(
    results='out',
    examples="""
    videozoo reconstruct drawn:4@7 --model gen_shapes_64 --animate gif --out reconstructions
    videozoo reconstruct VIDEOS --gpt gpt.ckpt --vqgan vqgan.ckpt
""",
)
@input_options('Video files, or folders to search.')
@generator_options()
@picture_options('reconstructions')
@option('--animate', type=Choice(['gif', 'mp4']), help='Also write both side by side as an animation.')
@option(
    '--span',
    type=Count(),
    metavar='N',
    show_default="the model's",
    help="Length of a clip: the model's frames are spread evenly over N frames at 30 frames per second.",
)
def reconstruct(
    inputs: Inputs,
    reading: ReadingOptions,
    chosen: GeneratorOptions,
    pictures: Pictures,
    animate: str | None,
    span: int | None,
) -> int:
    """Show what a video generator's codes keep of videos, and how probable it finds them."""
    from ..analysis.reconstruction import reconstruct as through_codes
    from ..errors import NotFiniteError
    from ..figures import save_animation
    from ..inference.provenance import versions
    from ..outputs import Output
    from ..video import find_videos

    Output(pictures.out).check_folder()
    check_table(pictures.out / 'reconstructions.csv')
    if not check_named(chosen):
        raise ValueError(f'{chosen.name} generates images; reconstruct takes a video generator')
    paths, missing = files(inputs, find_videos)
    paths = sample(paths, pictures)
    generator = load_video_generator(chosen)
    views = views_for_generator(generator, span)
    settings = settings_of(generator, views, reading)
    made = PictureFolder(pictures, 'reconstructions.csv', settings, versions(), source='video')
    failed: list[str] = []
    stems = dict(zip(paths, unique_stems(paths), strict=True))
    with progress(len(paths)) as update:
        for _, path, view in each_clip(paths, views, reading, failed):
            update(1)
            try:
                result = through_codes(generator, view.x)
            except NotFiniteError as error:
                leave_out(path, error, failed)
                continue
            pictures.out.mkdir(parents=True, exist_ok=True)
            row: dict[str, Any] = dict(model=chosen.name, start=view.start, end=view.end)
            row |= dict(mse=result.mse, psnr=result.psnr, nats=result.nats)
            target = made.add(
                result,
                path,
                stems[path],
                'reconstructed',
                row,
                f'{chosen.name}, PSNR {result.psnr:.2f} dB, {result.nats:.2f} nats a code',
                captions(view, views.sampling.num_frames, views.sampling.span),
            )
            if animate:
                save_animation(result.frames(), target.with_suffix(f'.{animate}'), view.end - view.start)
    made.tell()
    if rows := made.rows:
        names = ('mse', 'psnr', 'nats')
        means = {name: sum(row[name] for row in rows) / len(rows) for name in names}
        lines = [[row['picture'], *(_shown(row))] for row in rows] + [['mean', *_shown(means)]]
        table(['picture', 'MSE', 'PSNR (dB)', 'nats a code'], lines)
        echo(f'{pictures.out}: {counted(len(rows), "picture")}, and reconstructions.csv')
    return exit_code(len(failed) + missing, len(paths) + missing)


def _shown(row: dict[str, Any]) -> list[str]:
    return [f'{row["mse"]:.5f}', f'{row["psnr"]:.2f}', f'{row["nats"]:.3f}']
