"""videozoo complete."""

import hashlib
from pathlib import Path
from typing import Any

from ..notes import tell_settings
from ..text import counted
from .base import command, option
from .inputs import files, sample
from .loading import check_decoder, load, short_name, takes_images, views_for
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
    start_option,
)
from .output import Losses, echo, exit_code, table
from .pictures import PictureFolder, captions, check_table, each_view, leave_out, settings_of
from .types import FILE, Choice, Integers, Number


@command(
    results='out',
    examples="""
    videozoo complete VIDEOS --model mae_hvm1_none --out completions
    videozoo complete VIDEOS --model mae_hvm1@448_none --mask-type center --mask-ratio 0.5 --num-vids 16
    videozoo complete clip.mp4 --mask-box 0,16,32,80,32,80 --animate gif
    videozoo complete IMAGES --model mae_say_vitl16
""",
)
@input_options('Video files (of a model of images, image files), or folders to search.')
@model_options()
@picture_options('completions')
@option(
    '--mask-type',
    type=Choice(['random', 'temporal', 'center']),
    default='random',
    help='Mask tokens at random, at the end of the clip, or in the middle of its time.',
)
@option(
    '--mask-ratio',
    type=Number(0, 1, below=True),
    metavar='FRACTION',
    help='Fraction of the tokens that is masked; by default 0.9, of images 0.75, as the models were trained.',
)
@option(
    '--mask-file',
    type=FILE,
    metavar='FILE',
    instead_of='--mask-box',
    help="Mask of your own instead: .npy, boolean (T', H', W'), of images (H', W'), True where a token is masked.",
)
@option(
    '--mask-box',
    type=Integers(),
    metavar='t0,t1,y0,y1,x0,x1',
    help='Mask every token that touches this box instead: frames and pixels of the clip, upper bounds excluded; of '
    'images y0,y1,x0,x1.',
)
@option(
    '--animate',
    type=Choice(['gif', 'mp4']),
    help='Also write the original, the masked clip and the completion side by side as an animation.',
)
@span_option(COMPLETION_SPAN)
@start_option()
def complete(
    inputs: Inputs,
    reading: ReadingOptions,
    chosen: ModelOptions,
    pictures: Pictures,
    mask_type: str,
    mask_ratio: float | None,
    mask_file: Path | None,
    mask_box: tuple[int, ...] | None,
    animate: str | None,
    span: int,
    start: float | None,
) -> int:
    """Show what a masked autoencoder predicts for masked patches.

    Of an image MAE (mae_say_vitl16, vith14@476_1.0_1) the whole is taken, encoder and decoder.
    """
    from ..analysis.completion import box_mask, check_mae, mask_shape, read_mask
    from ..analysis.completion import complete as fill_in
    from ..errors import NotFiniteError
    from ..figures import save_animation
    from ..inference.provenance import versions
    from ..outputs import Output
    from ..video import find_media, find_videos, seed_of

    Output(pictures.out).check_folder()
    check_table(pictures.out / 'completions.csv')
    own = '--mask-file' if mask_file else '--mask-box' if mask_box else ''
    if own and (mask_type != 'random' or mask_ratio is not None):
        other = f'--mask-type {mask_type}' if mask_type != 'random' else f'--mask-ratio {mask_ratio:g}'
        raise ValueError(f'{own} and {other} both say what is masked: give one of them')
    if mask_ratio == 0:
        raise ValueError('--mask-ratio 0 masks nothing, so there is nothing to complete')
    check_decoder(chosen)
    of_images = takes_images(chosen)
    if of_images and animate:
        raise ValueError(f'--animate is for clips, {chosen.model or chosen.weights} takes images')
    paths, missing = files(inputs, find_media if of_images else find_videos, chosen)
    paths = sample(paths, pictures)
    model, name = load(chosen, 'mae_shapes_none', whole=True)
    check_mae(model)
    img_size = chosen.img_size if of_images else None
    if mask_ratio is None:
        mask_ratio = float(model.default_mask_ratio)
    tell_settings(mask_ratio=mask_ratio)
    mask, kind = None, mask_type
    if mask_file is not None:
        mask, kind = read_mask(mask_file, mask_shape(model, img_size)), 'file'
    elif mask_box is not None:
        mask, kind = box_mask(model, mask_box, img_size), 'box'
    how: dict[str, Any] = dict(mask_type=mask_type, mask_ratio=mask_ratio) if mask is None else dict(mask=mask)
    # In the pictures' names, so that those of several ratios stay.
    what = f'{kind}{100 * mask_ratio:g}' if mask is None else kind
    failed: list[str] = []
    losses = Losses()
    called, views = short_name(chosen, model), views_for(chosen, model, span)
    settings = dict(
        settings_of(model, views, reading, start),
        mask=kind,
        mask_ratio=mask_ratio if mask is None else None,
        seed=pictures.seed if kind == 'random' else None,
        mask_box=','.join(map(str, mask_box)) if mask_box else None,
        mask_file=mask_file.name if mask_file else None,
        mask_digest=None if mask is None else hashlib.sha256(mask.numpy().tobytes()).hexdigest()[:16],
    )
    made = PictureFolder(pictures, 'completions.csv', settings, versions(), source='video')
    for _, path, stem, view in each_view(paths, views, reading, pictures, failed, losses, start):
        seed = seed_of(pictures.seed, path)
        try:
            result = fill_in(model, view.x, seed=seed, **how)
        except NotFiniteError as error:
            leave_out(path, error, failed)
            continue
        fraction = result.mask.double().mean().item()
        told = f'{kind} {settings["mask_box"]}' if mask_box else kind
        target = made.add(
            result,
            path,
            stem,
            f'{called}_{what}',
            dict(
                model=name,
                mask=kind,
                masked=fraction,
                start=view.start,
                end=view.end,
                mse=result.mse,
                psnr=result.psnr,
            ),
            f'{name}, mask: {told}, {100 * fraction:.0f}% masked, PSNR of the masked pixels {result.psnr:.2f} dB',
            captions(view, result.num_frames, span),
        )
        if animate:
            save_animation(result.frames(), target.with_suffix(f'.{animate}'), view.end - view.start)
    made.tell()
    if rows := made.rows:
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
        echo(f'{pictures.out}: {counted(len(rows), "picture")}, and completions.csv')
    return exit_code(len(failed) + missing, len(paths) + missing, losses)
