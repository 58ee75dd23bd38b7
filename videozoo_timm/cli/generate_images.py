"""What `videozoo generate` does with an image generator."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..text import counted
from .inputs import unique_stems
from .output import progress

if TYPE_CHECKING:
    import torch

    from ..models import ImageGenerator
    from .generate import SamplingOptions

_GAP = 2  # pixels between images


def generate_images(
    generator: 'ImageGenerator',
    num_images: int,
    sampling: 'SamplingOptions',
    out: Path,
    about: str,
) -> tuple[int, int]:
    import torch

    from ..figures import save_image

    kept, done = [], 0
    with progress(num_images, 'images') as update:
        for images in generator.batches(num_images, progress=update, **asdict(sampling)):
            if out.suffix:
                kept.append(images.cpu())
            else:  # what is generated is not lost when the rest is
                _save_each(images, [f'{done + k:06}' for k in range(len(images))], out, about)
            done += len(images)
    if out.suffix:
        images = torch.cat(kept)
        save_image(mosaic(images.split(math.ceil(math.sqrt(len(images))))), out, about)
    return done, 0


def complete_images(
    generator: 'ImageGenerator',
    paths: list[str],
    keep: float,
    number: int,
    sampling: 'SamplingOptions',
    out: Path,
    about: str,
) -> tuple[int, int]:
    import torch

    from ..figures import save_image

    given, kept = _read(paths, generator.vqgan.resolution)
    with progress(len(given) * number, 'images') as update:
        originals, samples = generator.complete(given, keep=keep, samples=number, progress=update, **asdict(sampling))
    samples = samples.cpu()
    if out.suffix:
        border = generator.rows_kept(keep) * generator.vqgan.resolution // generator.vqgan.grid_size
        samples[..., border - 1 : border, :] = torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1)
        rows = [torch.cat([original[None], completed]) for original, completed in zip(originals, samples, strict=True)]
        save_image(mosaic(rows), out, about)
    else:
        names = [f'{stem}_{k}' for stem in unique_stems(kept) for k in range(number)]
        _save_each(samples.flatten(0, 1), names, out, about)
    return len(given) * number, len(paths) - len(kept)


def images_in(folder: Path) -> list[str]:
    from ..video import find_media, is_image

    if not folder.exists():
        raise FileNotFoundError(f'--complete {folder}: no such folder')
    paths = [str(path) for path in find_media([folder]) if is_image(path)]
    if not paths:
        raise ValueError(f'--complete {folder}: no images in it')
    return paths


def _read(paths: list[str], side: int) -> 'tuple[torch.Tensor, list[str]]':
    """Images [N, 3, side, side] in [0, 1] under the center crop, and the files that could be read."""
    import torch

    from .images import image_of

    images, kept = [], []
    for path in paths:
        if (image := image_of(path, side)) is not None:
            images.append(image)
            kept.append(path)
    if not images:
        raise ValueError(f'none of {counted(len(paths), "image")} could be read')
    return torch.stack(images), kept


def mosaic(rows: Any) -> Any:
    """Rows of images [N, 3, H, W] as one picture."""
    from PIL import Image

    from ..figures import to_bytes

    side = rows[0].shape[-1] + _GAP
    picture = Image.new('RGB', (max(map(len, rows)) * side + _GAP, len(rows) * side + _GAP), 'white')
    for i, row in enumerate(rows):
        for j, tile in enumerate(to_bytes(row)):
            picture.paste(Image.fromarray(tile), (j * side + _GAP, i * side + _GAP))
    return picture


def _save_each(images: 'torch.Tensor', names: list[str], folder: Path, about: str) -> None:
    from PIL import Image

    from ..figures import save_image, to_bytes

    folder.mkdir(parents=True, exist_ok=True)
    for name, image in zip(names, to_bytes(images), strict=True):
        save_image(Image.fromarray(image), folder / f'{name}.png', about)
