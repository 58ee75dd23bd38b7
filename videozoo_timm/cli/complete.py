"""videozoo complete."""

from pathlib import Path
from typing import Any

from .base import command, option
from .inputs import files, sample, shown
from .loading import load, short_name, views_for
from .options import (
    COMPLETION_SPAN,
    Inputs,
    ModelOptions,
    Pictures,
    ReadingOptions,
    input_options,
    model_options,
    picture_options,
    span_option,
)
from .output import Losses, echo, exit_code, number_of, table
from .pictures import captions, each_view, leave_out, save_picture
from .types import FILE, Choice, Integers, Number


@command(
    examples="""
    videozoo complete VIDEOS --model mae_hvm1_none --out completions
    videozoo complete VIDEOS --model mae_hvm1@448_none --mask-type center --mask-ratio 0.5 --num-vids 16
    videozoo complete clip.mp4 --mask-box 0,16,32,80,32,80 --animate gif
"""
)
@input_options('Video files, or folders to search.')
@model_options()
@picture_options('completions')
@option(
    '--mask-type',
    type=Choice(['random', 'temporal', 'center']),
    default='random',
    help='Mask tokens at random, at the end of the clip, or in the center of the frames.',
)
@option(
    '--mask-ratio',
    type=Number(0, 1, below=True),
    default=0.9,
    metavar='FRACTION',
    help='Fraction of the tokens that is masked.',
)
@option(
    '--mask-file',
    type=FILE,
    metavar='FILE',
    instead_of='--mask-box',
    help="Mask of your own instead: .npy, boolean (T', H', W'), True where a token is masked.",
)
@option(
    '--mask-box',
    type=Integers(),
    metavar='t0,t1,y0,y1,x0,x1',
    help='Mask every token that touches this box instead: frames and pixels of the clip, upper bounds excluded.',
)
@option(
    '--animate',
    type=Choice(['gif', 'mp4']),
    help='Also write the original, the masked clip and the completion side by side as an animation.',
)
@span_option(COMPLETION_SPAN)
def complete(
    inputs: Inputs,
    reading: ReadingOptions,
    chosen: ModelOptions,
    pictures: Pictures,
    mask_type: str,
    mask_ratio: float,
    mask_file: Path | None,
    mask_box: tuple[int, ...] | None,
    animate: str | None,
    span: int,
) -> int:
    """Show what a masked autoencoder predicts for masked patches."""
    from ..analysis.completion import box_mask, check_mae, read_mask
    from ..analysis.completion import complete as fill_in
    from ..errors import NotFiniteError
    from ..figures import save_animation
    from ..outputs import Output
    from ..video import find_videos, seed_of

    Output(pictures.out).check_folder()
    if not mask_ratio and mask_file is None and mask_box is None:
        raise ValueError('--mask-ratio 0 drops nothing, so there is nothing to complete')
    paths, missing = files(inputs, find_videos, chosen)
    paths = sample(paths, pictures)
    model, name = load(chosen, 'mae_shapes_none')
    check_mae(model)
    mask, kind = None, mask_type
    if mask_file is not None:
        mask, kind = read_mask(mask_file, model.patch_embed.video_grid_size), 'file'
    elif mask_box is not None:
        mask, kind = box_mask(model, mask_box), 'box'
    # In the pictures' names, so that those of several ratios stay.
    what = f'{kind}{100 * mask_ratio:g}' if mask is None else kind
    rows: list[dict[str, Any]] = []
    failed: list[str] = []
    losses = Losses()
    called, views = short_name(chosen, model), views_for(chosen, model, span)
    for _, path, stem, view in each_view(paths, views, reading, pictures, failed, losses):
        seed = seed_of(pictures.seed, path)
        try:
            result = fill_in(model, view.x, mask_type=mask_type, mask_ratio=mask_ratio, mask=mask, seed=seed)
        except NotFiniteError as error:
            leave_out(path, error, failed)
            continue
        fraction = result.mask.double().mean().item()
        title = (
            f'{shown(path)}, {called}, mask: {kind}, {100 * fraction:.0f}% masked, '
            f'PSNR of the masked pixels {result.psnr:.2f} dB'
        )
        picture = result.picture(title, captions(view, result.original.shape[1], span))
        target = save_picture(picture, path, stem, f'{called}_{what}', pictures.out)
        if animate:
            save_animation(result.frames(), target.with_suffix(f'.{animate}'), view.end - view.start)
        rows.append(
            dict(
                picture=target.name,
                video=path,
                model=name,
                mask=kind,
                masked=fraction,
                start=view.start,
                end=view.end,
                mse=result.mse,
                psnr=result.psnr,
            )
        )
        _add_to_csv(rows[-1:], pictures.out / 'completions.csv')
    if rows:
        table(
            ['picture', 'MSE', 'PSNR (dB)'],
            [[row['picture'], f'{row["mse"]:.5f}', f'{row["psnr"]:.2f}'] for row in rows]
            + [
                [
                    'mean',
                    *(
                        f'{sum(row[key] for row in rows) / len(rows):.{digits}f}'
                        for key, digits in (('mse', 5), ('psnr', 2))
                    ),
                ]
            ],
        )
        echo(f'{pictures.out}: {number_of(rows, "picture")}, and completions.csv')
    return exit_code(len(failed) + missing, len(paths) + missing, losses)


def _add_to_csv(rows: list[dict[str, Any]], path: Path) -> None:
    """Write rows into a table; those of other pictures stay."""
    import csv

    from ..files import check_regular, save_csv

    before: list[dict[str, Any]] = []
    if path.exists():
        check_regular(path)
        with open(path, newline='', encoding='utf-8', errors='surrogateescape') as file:
            try:
                before = [row for row in csv.DictReader(file) if row.keys() == rows[0].keys()]
            except csv.Error as error:
                raise ValueError(f'{path} cannot be read as a table: {error}; move it away') from error
    new = {row['picture'] for row in rows}
    save_csv([row for row in before if row['picture'] not in new] + rows, path)
