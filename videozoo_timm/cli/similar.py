"""videozoo similar."""

from .base import command, option
from .inputs import files, sample, shown
from .loading import load, short_name, views_for
from .options import (
    COMPLETION_SPAN,
    Inputs,
    ModelOptions,
    Pictures,
    ReadingOptions,
    block_option,
    input_options,
    model_options,
    picture_options,
    span_option,
    start_option,
)
from .output import Losses, exit_code
from .pictures import PictureFolder, captions, check_table, each_view, leave_out, settings_of, tell_pictures
from .types import Integers


@command(
    results='out',
    examples="""
    videozoo similar VIDEOS --model vit_hvm1_none --patch 4,8,8
    videozoo similar IMAGES --model dino_say_vitb14 --patch 8,8
""",
)
@input_options('Video files (or image files), or folders to search.')
@model_options()
@picture_options('similar')
@option(
    '--patch',
    type=Integers(),
    required=True,
    metavar='t,y,x',
    help="The patch: its place among the model's tokens along time, height and width, counted from 0; of images y,x.",
)
@block_option()
@span_option(COMPLETION_SPAN)
@start_option()
def similar(
    inputs: Inputs,
    reading: ReadingOptions,
    chosen: ModelOptions,
    pictures: Pictures,
    patch: tuple[int, ...],
    block: int,
    span: int,
    start: float | None,
) -> int:
    """Show which patches have features like those of one patch."""
    from ..analysis.features import num_blocks
    from ..analysis.patches import similar_patches
    from ..errors import NotFiniteError
    from ..inference.provenance import versions
    from ..outputs import Output
    from ..video import find_media

    Output(pictures.out).check_folder()
    check_table(pictures.out / 'similar.csv')
    paths, missing = files(inputs, find_media, chosen)
    paths = sample(paths, pictures)
    model, name = load(chosen)
    failed: list[str] = []
    losses = Losses()
    called, views = short_name(chosen, model), views_for(chosen, model, span)
    place = ','.join(map(str, patch))
    settings = dict(settings_of(model, views, reading, start), block=block % num_blocks(model), patch=place)
    made = PictureFolder(pictures, 'similar.csv', settings, versions())
    rows: list[list[str]] = []
    for _, path, stem, view in each_view(paths, views, reading, pictures, failed, losses, start):
        try:
            result = similar_patches(model, view.x, patch, block=block)
        except NotFiniteError as error:
            leave_out(path, error, failed)
            continue
        mean = result.similarity.mean().item()
        target = made.add(
            result,
            path,
            stem,
            f'{called}_block{result.block}_patch{"_".join(map(str, patch))}',
            dict(model=name, start=view.start, end=view.end, mean=mean),
            f'{name}, similarity to patch {place} in block {result.block}',
            captions(view, len(result.frames), span),
        )
        rows.append([shown(path), f'{mean:.4f}', target.name])
    tell_pictures(made, 'mean cosine', rows)
    return exit_code(len(failed) + missing, len(paths) + missing, losses)
