"""videozoo attend."""

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


@command(
    results='out',
    examples="""
    videozoo attend VIDEOS --model vit_hvm1_none --threshold 0.6
    videozoo attend IMAGES --model dino_say_vitb14 --img-size 1400 --heads
""",
)
@input_options('Video files (or image files), or folders to search.')
@model_options()
@picture_options('attention')
@block_option()
@option('--heads', is_flag=True, help='Show each head separately instead of their mean.')
@option(
    '--threshold',
    type=float,
    metavar='FRACTION',
    help='Keep the smallest set of patches that holds this fraction of the attention.',
)
@span_option(COMPLETION_SPAN)
@start_option()
def attend(
    inputs: Inputs,
    reading: ReadingOptions,
    chosen: ModelOptions,
    pictures: Pictures,
    block: int,
    heads: bool,
    threshold: float | None,
    span: int,
    start: float | None,
) -> int:
    """Show which patches a model's class token attends to."""
    import torch

    from ..analysis.attention import attend as attention_of
    from ..analysis.attention import check_attention, keep_fraction
    from ..analysis.features import num_blocks
    from ..errors import NotFiniteError
    from ..inference.pipeline import takes_clips
    from ..inference.provenance import versions
    from ..outputs import Output
    from ..video import find_media

    Output(pictures.out).check_folder()
    check_table(pictures.out / 'attention.csv')
    if threshold is not None:
        keep_fraction(torch.ones(1, 1), threshold)  # a wrong fraction is refused before any work
    paths, missing = files(inputs, find_media, chosen)
    paths = sample(paths, pictures)
    model, name = load(chosen)
    check_attention(model)
    failed: list[str] = []
    losses = Losses()
    # Of an image encoder's images the whole is shown, as in the published pictures.
    whole = {} if takes_clips(model) else dict(whole=model.patch_embed.patch_size[0])
    called, views = short_name(chosen, model), views_for(chosen, model, span, **whole)
    settings = dict(
        settings_of(model, views, reading, start), block=block % num_blocks(model), heads=heads, threshold=threshold
    )
    made = PictureFolder(pictures, 'attention.csv', settings, versions())
    rows: list[list[str]] = []
    for _, path, stem, view in each_view(paths, views, reading, pictures, failed, losses, start):
        try:
            result = attention_of(model, view.x, block=block)
        except NotFiniteError as error:
            leave_out(path, error, failed)
            continue
        what, title = f'attention_block{result.block}', f'{name}, class token in block {result.block}'
        if heads:
            what += '_heads'
        if threshold is not None:
            what += f'_top{100 * threshold:g}'
            title += f', patches that hold {100 * threshold:g}%'
        highest = result.weights.mean(dim=0).max().item()
        target = made.add(
            result,
            path,
            stem,
            f'{called}_{what}',
            dict(model=name, start=view.start, end=view.end, highest=highest),
            title,
            captions(view, len(result.frames), span),
            heads=heads,
            threshold=threshold,
        )
        rows.append([shown(path), f'{highest:.5f}', target.name])
    tell_pictures(made, 'highest', rows)
    return exit_code(len(failed) + missing, len(paths) + missing, losses)
