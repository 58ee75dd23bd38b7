"""videozoo fid."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from .base import argument, command
from .completion import complete_folder
from .loading import pick_device
from .options import batch_option, device_option
from .output import complain, echo
from .types import FILE

if TYPE_CHECKING:
    from .images import ImageFiles

_FEW = 2048  # images; with fewer the covariance of the features has no full rank


@command(
    examples="""
    videozoo fid IMAGES samples
"""
)
@argument('real', metavar='REAL_DIR', type=FILE, shell_complete=complete_folder, help='Folder of real images.')
@argument(
    'generated', metavar='GENERATED_DIR', type=FILE, shell_complete=complete_folder, help='Folder of generated images.'
)
@batch_option(16, 'Images')
@device_option('cpu or cuda')
def fid(real: Path, generated: Path, batch_size: int, device: str | None) -> int:
    """Compare generated with real images (Fréchet inception distance)."""
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
    return 1 if originals.failed or samples.failed else 0


def _images_in(folder: Path) -> 'ImageFiles':
    from ..video import find_media, is_image
    from .images import ImageFiles

    if not folder.is_dir():
        raise FileNotFoundError(f'{folder}: no such folder')
    images = ImageFiles([str(path) for path in find_media([folder]) if is_image(path)])
    if len(images) < 2:
        raise ValueError(f'{folder} holds {len(images)} images; a distribution needs more')
    if len(images) < _FEW:
        complain(f'{folder} holds {len(images)} images; with fewer than {_FEW} the distance is far too large')
    return images
