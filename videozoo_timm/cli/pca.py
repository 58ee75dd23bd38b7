"""videozoo pca."""

from typing import Any

from ..text import counted
from .base import command, option
from .inputs import digest_of_files, files, sample
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
from .output import Losses, echo, exit_code
from .pictures import PictureFolder, captions, check_table, each_view, leave_out, settings_of


@command(
    results='out',
    examples="""
    videozoo pca VIDEOS --model vit_hvm1_none
    videozoo pca VIDEOS --model vit_hvm1_none --block 16 --foreground 0.6
""",
)
@input_options('Video files (or image files), or folders to search.')
@model_options()
@picture_options('pca')
@block_option()
@option(
    '--foreground',
    type=float,
    metavar='THRESHOLD',
    help='Show only patches whose first component, scaled to the range 0 to 1, is above this.',
)
@option('--invert', is_flag=True, help='Take the low end of the first component as the foreground.')
@span_option(COMPLETION_SPAN)
@start_option()
def pca(
    inputs: Inputs,
    reading: ReadingOptions,
    chosen: ModelOptions,
    pictures: Pictures,
    block: int,
    foreground: float | None,
    invert: bool,
    span: int,
    start: float | None,
) -> int:
    """Show patch tokens as colors: one PCA over all frames and files."""
    import torch

    from ..analysis.feature_maps import ColorMaps, patch_tokens, pca_colors
    from ..analysis.features import num_blocks
    from ..errors import NotFiniteError
    from ..inference.provenance import versions
    from ..outputs import Output
    from ..video import denormalize, find_media

    Output(pictures.out).check_folder()
    check_table(pictures.out / 'pca.csv')
    if foreground is not None and not 0 <= foreground < 1:
        raise ValueError(f'--foreground {foreground}: must be at least 0 and below 1')
    paths, missing = files(inputs, find_media, chosen)
    paths = sample(paths, pictures)
    model, name = load(chosen)
    done: list[Any] = []
    failed: list[str] = []
    losses = Losses()
    called, config, views = short_name(chosen, model), model.pretrained_cfg, views_for(chosen, model, span)
    for _, path, stem, view in each_view(paths, views, reading, pictures, failed, losses, start):
        x = view.x if view.x.ndim == 4 else view.x.unsqueeze(1)
        # As bytes they take a quarter of the memory.
        frames = (255 * denormalize(x, config['mean'], config['std'])).round().to(torch.uint8)
        try:
            tokens = patch_tokens(model, view.x, block=block)
        except NotFiniteError as error:
            leave_out(path, error, failed)
            continue
        done.append((path, stem, view._replace(x=frames), tokens))
    if done:
        colors = pca_colors([tokens for *_, tokens in done], foreground=foreground, invert=invert)
        block %= num_blocks(model)
        what, shows = f'pca_block{block}', f'block {block}, PCA over {counted(len(done), "file")}'
        if foreground is not None:
            end = 'inverted' if invert else ''
            what += f'_foreground{100 * foreground:g}{end}'
            shows += f', foreground {foreground:g}' + (f' ({end})' if end else '')
        settings = dict(
            settings_of(model, views, reading, start),
            block=block,
            foreground=foreground,
            invert=invert,
            files=len(done),
            files_digest=digest_of_files(path for path, *_ in done),  # the colors are those of all of them together
        )
        made = PictureFolder(pictures, 'pca.csv', settings, versions())
        for (path, stem, view, _), color in zip(done, colors, strict=True):
            result = ColorMaps(view.x.transpose(0, 1).float() / 255, color, block)
            row = dict(model=name, start=view.start, end=view.end)
            under = captions(view, len(result.frames), span)
            made.add(result, path, stem, f'{called}_{what}', row, f'{name}, {shows}', under)
        made.tell()
        echo(f'{pictures.out}: {counted(len(done), "picture")}, one PCA of block {block}, and {made.table.name}')
    return exit_code(len(failed) + missing, len(paths) + missing, losses)
