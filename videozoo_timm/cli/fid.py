"""videozoo fid."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..text import counted
from .base import argument, command, option
from .completion import complete_folder, complete_model_or_file
from .loading import pick_device
from .options import (
    RECOGNITION_SPAN,
    ReadingOptions,
    batch_option,
    device_option,
    reading_options,
    span_option,
    zoo_option,
)
from .output import complain, echo, progress, report, tell_padded
from .types import FILE

if TYPE_CHECKING:
    from .images import ImageFiles

_FEW = 2048  # images; with fewer the covariance of the features has no full rank


@command(
    results='out',
    examples="""
    videozoo fid IMAGES samples
    videozoo fid --features vit_hvm1_none VIDEOS samples
""",
)
@argument(
    'real', metavar='REAL_DIR', type=FILE, shell_complete=complete_folder, help='Folder of real images or videos.'
)
@argument(
    'generated', metavar='GENERATED_DIR', type=FILE, shell_complete=complete_folder, help='Folder of generated ones.'
)
@option(
    '--features',
    metavar='NAME|FILE',
    shell_complete=complete_model_or_file,
    show_default='the Inception network, as usual, which is downloaded',
    help='Measure in the features of this model, for videos and images: its published name, timm name or checkpoint. '
    'The two folders may then be single files, or drawn:100@7.',
)
@zoo_option('Zoo of --features, for names that two zoos share.')
@span_option(RECOGNITION_SPAN)
@batch_option(16, 'Images')
@device_option('cpu or cuda')
@option('--out', type=FILE, metavar='FILE', help='Also write the distance, .json, and the record of this run.')
@option('--force', is_flag=True, help='Replace FILE.')
@reading_options()
def fid(
    real: Path,
    generated: Path,
    features: str | None,
    zoo: str | None,
    span: int,
    batch_size: int,
    device: str | None,
    out: Path | None,
    force: bool,
    reading: ReadingOptions,
) -> int:
    """Compare generated with real images or videos (Fréchet distance)."""
    from ..files import save_json
    from ..outputs import Output

    if out is not None:
        Output(out).check_file(['.json'])
        Output(out).refuse_existing(force)
    if features is not None:
        code, told = _in_features(features, zoo, (str(real), str(generated)), span, batch_size, device, reading)
    else:
        code, told = _of_inception(real, generated, batch_size, device)
    if out is not None:
        save_json(dict(told, real=str(real), generated=str(generated)), out)
    return code


def _of_inception(real: Path, generated: Path, batch_size: int, device: str | None) -> tuple[int, dict[str, Any]]:
    from urllib.error import URLError

    try:
        from torch_fidelity import calculate_metrics
    except ImportError as error:
        raise ImportError("the distance needs torch-fidelity: pip install 'videozoo-timm[fid]'") from error
    os.environ['PYTHONSAFEPATH'] = '1'  # it starts processes, which import nothing from the current folder by that
    originals, samples = _images_in(real), _images_in(generated)
    try:
        metrics = calculate_metrics(
            input1=samples,
            input2=originals,
            fid=True,
            verbose=False,
            batch_size=batch_size,
            cuda=pick_device(device).type == 'cuda',
        )
    except (URLError, ConnectionError, TimeoutError) as error:
        raise ConnectionError(
            f'the Inception network that the distance is measured with cannot be fetched: {error}; with a network it '
            f'is fetched once, into the cache of torch.hub'
        ) from error
    echo(
        f'FID {metrics["frechet_inception_distance"]:.3f} ({len(samples)} generated images, {len(originals)} real ones)'
    )
    told = dict(fid=float(metrics['frechet_inception_distance']), features='Inception')
    told |= dict(real_files=len(originals), generated_files=len(samples))
    return 1 if originals.failed or samples.failed else 0, told


def _in_features(
    features: str,
    zoo: str | None,
    folders: tuple[str, str],
    span: int,
    batch_size: int,
    device: str | None,
    reading: ReadingOptions,
) -> tuple[int, dict[str, Any]]:
    from ..analysis import embed
    from ..analysis.frechet import frechet_distance
    from ..factory import load_file, load_model
    from ..inference.pipeline import sampling_of
    from ..video import find_media

    model: Any = load_file(features) if Path(features).is_file() else load_model(features, zoo=zoo)
    if not hasattr(model, 'forward_features'):
        raise ValueError(f'--features {features} generates; a model with features is wanted, vit_shapes_motion say')
    model = model.to(pick_device(device))
    sets, failed = [], 0
    for folder in folders:
        paths = [str(path) for path in find_media(folder)]
        if len(paths) < 2:
            raise ValueError(f'{folder} holds {counted(len(paths), "file")}; a distribution needs more')
        with progress(len(paths)) as update:
            found: Any = embed(
                model,
                paths,
                tokens='class' if getattr(model, 'num_prefix_tokens', 0) else 'mean',
                sampling=sampling_of(model, span),
                batch_size=batch_size,
                progress=update,
                report=report,
                **vars(reading),
            )
        rows = found.features.reshape(len(found.features), -1)
        failed += len(paths) - len(rows)
        if len(rows) <= rows.shape[1]:
            complain(
                f'{folder} gives {counted(len(rows), "row")} of {rows.shape[1]} features; with no more rows than '
                f'features the distance is far too large'
            )
        tell_padded(found.padded.tolist())
        sets.append(rows)
    distance = frechet_distance(*sets)
    number, of_real = len(sets[1]), len(sets[0])
    echo(
        f'Fréchet distance {distance:.4f} in the features of {features} ({number} generated files, {of_real} real ones)'
    )
    told = dict(frechet_distance=float(distance), features=features, real_files=of_real, generated_files=number)
    return 1 if failed else 0, told


def _images_in(folder: Path) -> 'ImageFiles':
    from ..video import find_media, is_image
    from .images import ImageFiles

    if not folder.is_dir():
        raise FileNotFoundError(f'{folder}: no such folder')
    images = ImageFiles([str(path) for path in find_media([folder]) if is_image(path)])
    if len(images) < 2:
        raise ValueError(f'{folder} holds {counted(len(images), "image")}; a distribution needs more')
    if len(images) < _FEW:
        complain(f'{folder} holds {len(images)} images; with fewer than {_FEW} the distance is far too large')
    return images
