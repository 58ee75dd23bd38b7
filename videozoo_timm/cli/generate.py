"""videozoo generate."""

import json
import math
import random
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..identity import resolve
from .base import command, family, option
from .completion import complete_generator
from .inputs import digest_of_files, unique_stems
from .loading import pick_device
from .options import device_option, folder_option, zoo_option
from .output import complain, echo, progress
from .types import FILE, Choice, Count

if TYPE_CHECKING:
    import torch

    from ..models import ImageGenerator

_GAP = 2  # pixels between images
_EXTENSIONS = ('.png', '.jpg', '.jpeg')


@dataclass
class SamplingOptions:
    """How codes are sampled."""

    seed: int | None
    temperature: float
    top_k: int
    top_p: float | None
    batch_size: int | None


@command(
    examples="""
    videozoo generate --model say_gimel -n 36 --seed 0 --out samples.png
    videozoo generate --model say_gimel --complete IMAGES --keep 0.5 --samples 2 --out completed.png
"""
)
@option(
    '--model',
    '--model-name',
    'model',
    metavar='NAME',
    shell_complete=complete_generator,
    help='Published name, for instance say_gimel.',
)
@zoo_option()
@option('--gpt', type=FILE, metavar='FILE', help="Local file of the model's GPT, .pt or .safetensors.")
@option('--vqgan', type=FILE, metavar='FILE', help="Local file of the model's VQGAN, .ckpt or .safetensors.")
@option('-n', '--num-images', type=Count(), default=36, metavar='N', help='Number of images.')
@folder_option('--complete', 'originals', help='Complete these images instead, given the upper part of each.')
@option('--keep', type=float, default=0.5, metavar='FRACTION', help='Fraction of the rows that is given to --complete.')
@option('--samples', type=Count(), default=2, metavar='N', help='Completions of each image, with --complete.')
@family(
    'sampling',
    SamplingOptions,
    option('--seed', type=int, metavar='N', show_default='a new one each time, which is printed', help='Random seed.'),
    option('--temperature', type=float, default=1.0, metavar='T', help='Sampling temperature.'),
    option(
        '--top-k',
        type=Count(),
        default=128,
        metavar='K',
        show_default='128, as published',
        help='Sample from the K most probable codes, or from all if there are fewer.',
    ),
    option(
        '--top-p', type=float, metavar='P', help='Sample from the smallest set of codes whose probability adds up to P.'
    ),
    option(
        '--batch-size', type=Count(), metavar='N', show_default='as many as fit into memory', help='Images per batch.'
    ),
)
@device_option()
@option(
    '--dtype',
    type=Choice(['float32', 'bfloat16']),
    show_default='bfloat16 where the device is fast at it',
    help='Data type of the GPT.',
)
@option(
    '--out',
    type=FILE,
    default=Path('samples.png'),
    metavar='FILE|DIR',
    help='One picture of all images, or a folder (a name without an extension) for one file per image.',
)
@option('--force', is_flag=True, help='Replace FILE even if it holds other images.')
def generate(
    model: str | None,
    zoo: str | None,
    gpt: Path | None,
    vqgan: Path | None,
    num_images: int,
    originals: Path | None,
    keep: float,
    samples: int,
    sampling: SamplingOptions,
    device: str | None,
    dtype: str | None,
    out: Path,
    force: bool,
) -> int:
    """Generate images, or complete images of which the upper part is given."""
    if model is None:
        raise ValueError('name a generator with --model (`videozoo list --zoo silicon-menagerie` shows them)')
    if not resolve(model, zoo=zoo).is_generator:
        raise ValueError(f'{model} is no image generator; take say_gimel or another of `videozoo list`')
    _check(keep, sampling, out)
    paths = _images_in(originals) if originals is not None else []
    if sampling.seed is None:
        sampling.seed = random.randrange(2**31)  # told, so that a run can be repeated
    about: dict[str, Any] = dict(model=model, **asdict(sampling))
    del about['batch_size']  # it is known when the free memory is
    about |= (
        dict(keep=keep, samples=samples, originals=digest_of_files(paths)) if paths else dict(num_images=num_images)
    )
    _refuse_other(out, about, force)
    import torch

    from ..factory import load_model
    from ..inference.journal import digest_of
    from ..inference.provenance import versions
    from ..models.attention import fast_in_bfloat16

    place = pick_device(device)
    computed_in = getattr(torch, dtype or ('bfloat16' if fast_in_bfloat16(place) else 'float32'))
    files = {kind: file for kind, file in (('gpt', gpt), ('vqgan', vqgan)) if file is not None}
    generator: Any = load_model(model, zoo=zoo, device=place, dtype=computed_in, files=files)
    # The same seed gives the same images in the same batches only.
    sampling.batch_size = sampling.batch_size or generator.fitting(len(paths) * samples if paths else num_images)
    about |= dict(
        weights=digest_of(generator.state_dict().items()),
        dtype=str(computed_in).removeprefix('torch.'),
        batch_size=sampling.batch_size,
    )
    _refuse_other(out, about, force)
    about |= versions()
    start = time.perf_counter()
    if paths:
        number, failed = _complete(generator, paths, keep, samples, sampling, out, _about(about))
    else:
        number, failed = _generate(generator, num_images, sampling, out, _about(about))
    minutes = (time.perf_counter() - start) / 60
    where = str(out) if out.suffix else f'{out}: one file each'
    echo(
        f'{where}, {number} images of {model}, seed {sampling.seed}, {number / minutes:.1f} images a minute '
        f'({str(computed_in).removeprefix("torch.")} on {place})'
    )
    if failed:
        complain(f'{failed} of {len(paths)} images could not be read')
    return 1 if failed else 0


def _check(keep: float, sampling: SamplingOptions, out: Path) -> None:
    """Refuse what cannot be before gigabytes are loaded."""
    from ..models import SamplingConfig
    from ..outputs import Output

    if not 0 < keep < 1:
        raise ValueError(f'--keep {keep}: must be above 0 and below 1')
    SamplingConfig(sampling.temperature, sampling.top_k, sampling.top_p)
    output = Output(out)
    if out.suffix:
        output.check_file(_EXTENSIONS, or_folder=True)
        return
    output.check_folder()
    if output.exists:
        raise output.refusal('is not empty')


def _refuse_other(out: Path, now: dict[str, Any], force: bool) -> None:
    """Refuse to replace a picture of other settings; those of `now` are compared."""
    from ..outputs import Output

    output = Output(out)
    if not output.exists or not out.suffix:
        return
    before: dict[str, Any] = {}
    with suppress(Exception):  # no picture, or none of ours
        from PIL import Image

        from ..files import check_regular

        check_regular(out)
        with Image.open(out, formats=['PNG', 'JPEG']) as there:
            before = dict(json.loads(there.info.get('Comment') or there.info['comment']))
    known = {name: before[name] for name in now if name in before}
    output.refuse_other(known, {name: value for name, value in now.items() if value is not None}, force)


def _generate(
    generator: 'ImageGenerator',
    num_images: int,
    sampling: SamplingOptions,
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
        save_image(_mosaic(images.split(math.ceil(math.sqrt(len(images))))), out, about)
    return done, 0


def _complete(
    generator: 'ImageGenerator',
    paths: list[str],
    keep: float,
    number: int,
    sampling: SamplingOptions,
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
        save_image(_mosaic(rows), out, about)
    else:
        names = [f'{stem}_{k}' for stem in unique_stems(kept) for k in range(number)]
        _save_each(samples.flatten(0, 1), names, out, about)
    return len(given) * number, len(paths) - len(kept)


def _images_in(folder: Path) -> list[str]:
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
        raise ValueError(f'none of {len(paths)} images could be read')
    return torch.stack(images), kept


def _mosaic(rows: Any) -> Any:
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


def _about(options: dict[str, Any]) -> str:
    """What a picture says of itself: enough to generate it again."""
    return json.dumps({name: value for name, value in options.items() if value is not None})
