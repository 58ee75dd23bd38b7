"""The commands around the image generators: generate, fid."""
import argparse
import json
import math
import os
import random
import time
from pathlib import Path
from typing import Any

import torch

from .. import catalogue
from ..factory import load_model
from ..figures import save_image, to_bytes
from ..models import ImageGenerator
from ..models.attention import fast_in_bfloat16
from ..models.gpt import check_sampling
from ..video import failure_of, find_media, is_image, prepare_clip, read_image
from .common import add_command, add_zoo, complain, count, pick_device, progress, unique_stems

_GAP = 2  # pixels between images
_PICTURES = ('.png', '.jpg', '.jpeg')


def add_to(commands: Any) -> None:
    """Add these commands to the parser."""
    sub = add_command(commands, _generate, 'Draw images with a generator, or complete the upper part of given ones.')
    sub.add_argument('--model', '--model-name', metavar='NAME', help='published name: say_gimel')
    add_zoo(sub)
    sub.add_argument('--gpt', type=Path, metavar='FILE', help="a local file of the model's GPT, .pt or .safetensors")
    sub.add_argument('--vqgan', type=Path, metavar='FILE', help='the same of its VQGAN, .ckpt or .safetensors')
    sub.add_argument('-n', '--num-images', type=count, default=36, metavar='N', help='images (default: %(default)s)')
    sub.add_argument('--complete', type=Path, metavar='DIR',
                     help='instead draw the rest of these images, of which the upper part is given')
    sub.add_argument('--keep', type=float, default=0.5, metavar='SHARE',
                     help='of the rows that is given, with --complete (default: %(default)s)')
    sub.add_argument('--samples', type=count, default=2, metavar='N', help='of each image (default: %(default)s)')
    sub.add_argument('--seed', type=int, help='of the draws (default: another each time, which is told)')
    sub.add_argument('--temperature', type=float, default=1.0, help='(default: %(default)s)')
    sub.add_argument('--top-k', type=count, default=128, metavar='K',
                     help='draw from so many of the most probable codes, all if there are no more '
                          '(default: %(default)s, as published)')
    sub.add_argument('--top-p', type=float, metavar='SHARE',
                     help='draw from the fewest codes that hold this share of the probability')
    sub.add_argument('--batch-size', type=count, metavar='N', help='images at a time (default: as fit the memory)')
    sub.add_argument('--device', help='cpu, cuda, cuda:1, mps (default: the best there is)')
    sub.add_argument('--dtype', choices=['float32', 'bfloat16'],
                     help='of the GPT (default: bfloat16 where the device is fast at it)')
    sub.add_argument('--out', type=Path, default=Path('samples.png'), metavar='FILE|DIR',
                     help='a picture of all images, or a folder (a name without ending) for one file each '
                          '(default: %(default)s)')

    sub = add_command(commands, _fid, 'Compare generated with real images (Fréchet inception distance).')
    sub.add_argument('real', type=Path, metavar='REAL_DIR', help='folder of images')
    sub.add_argument('generated', type=Path, metavar='GENERATED_DIR', help='folder of images')
    sub.add_argument('--batch-size', type=count, default=16, metavar='N', help='(default: %(default)s)')
    sub.add_argument('--device', help='cpu, cuda (default: the best there is)')


def _generate(args: argparse.Namespace) -> int:
    if args.model is None:
        raise ValueError('name a generator with --model (`videozoo list --zoo silicon-menagerie` shows them)')
    if not catalogue.find_generator(args.model, args.zoo):
        catalogue.find(args.model, args.zoo)  # a typo is named as such
        raise ValueError(f'{args.model} is no image generator; take say_gimel or another of `videozoo list`')
    _check(args)
    paths = _images_in(args.complete) if args.complete is not None else []
    device = pick_device(args.device)
    dtype = getattr(torch, args.dtype or ('bfloat16' if fast_in_bfloat16(device) else 'float32'))
    files = {kind: file for kind in ('gpt', 'vqgan') if (file := getattr(args, kind)) is not None}
    generator = load_model(args.model, zoo=args.zoo, device=device, dtype=dtype, files=files)
    if args.seed is None:
        args.seed = random.randrange(2 ** 31)  # told, so that a run can be repeated
    how = dict(seed=args.seed, temperature=args.temperature, top_k=args.top_k, top_p=args.top_p,
               batch_size=args.batch_size)
    start = time.perf_counter()
    number, failed = (_complete if paths else _draw)(generator, args, paths, how)
    minutes = (time.perf_counter() - start) / 60
    where = str(args.out) if args.out.suffix else f'{args.out}: one file each'
    print(f'{where}, {number} images of {args.model}, seed {args.seed}, {number / minutes:.1f} images a minute '
          f'({str(dtype).removeprefix("torch.")} on {device})')
    if failed:
        complain(f'{failed} of {len(paths)} images could not be read')
    return 1 if failed else 0


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot be before gigabytes are loaded."""
    if not 0 < args.keep < 1:
        raise ValueError(f'--keep {args.keep}: must be above 0 and below 1')
    try:
        check_sampling(args.temperature, args.top_k, args.top_p)
    except ValueError as error:  # in the words of the command line
        words = str(error).replace(', or None for all codes', '').replace('_', '-', 1).replace('=', ' ', 1)
        raise ValueError(f'--{words}') from error
    if args.out.suffix and args.out.suffix not in _PICTURES:
        raise ValueError(f'--out {args.out}: must end in {", ".join(_PICTURES)}, or be a folder (without ending)')
    if not args.out.parent.is_dir():
        raise ValueError(f'--out {args.out}: there is no folder {args.out.parent}')
    if args.out.suffix and args.out.is_dir():
        raise ValueError(f'--out {args.out} is a folder')
    if not args.out.suffix and args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise ValueError(f'--out {args.out} exists and is no empty folder; name another one')


def _draw(
        generator: ImageGenerator, args: argparse.Namespace, paths: list[str], how: dict[str, Any]) -> tuple[int, int]:
    kept = []
    with progress(args.num_images, 'images') as update:
        done = 0
        for images in generator.batches(args.num_images, progress=update, **how):
            if args.out.suffix:
                kept.append(images.cpu())
            else:  # what is drawn is not lost when the rest is
                _save_each(images, [f'{done + k:06}' for k in range(len(images))], args)
            done += len(images)
    if args.out.suffix:
        images = torch.cat(kept)
        save_image(_mosaic(images.split(math.ceil(math.sqrt(len(images))))), args.out, _about(args))
    return done, 0


def _complete(
        generator: ImageGenerator, args: argparse.Namespace, paths: list[str], how: dict[str, Any]) -> tuple[int, int]:
    given, kept = _read(paths, generator.vqgan.resolution)
    with progress(len(given) * args.samples, 'images') as update:
        originals, samples = generator.complete(given, keep=args.keep, samples=args.samples, progress=update, **how)
    samples = samples.cpu()
    if args.out.suffix:
        border = generator.rows_kept(args.keep) * generator.vqgan.resolution // generator.vqgan.grid_size
        samples[..., border - 1:border, :] = torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1)
        rows = [torch.cat([original[None], drawn]) for original, drawn in zip(originals, samples, strict=True)]
        save_image(_mosaic(rows), args.out, _about(args))
    else:
        names = [f'{stem}_{k}' for stem in unique_stems(kept) for k in range(args.samples)]
        _save_each(samples.flatten(0, 1), names, args)
    return len(given) * args.samples, len(paths) - len(kept)


def _images_in(folder: Path) -> list[str]:
    if not folder.exists():
        raise FileNotFoundError(f'--complete {folder}: no such folder')
    paths = [str(path) for path in find_media([folder]) if is_image(path)]
    if not paths:
        raise ValueError(f'--complete {folder}: no images in it')
    return paths


def _read(paths: list[str], side: int) -> tuple[torch.Tensor, list[str]]:
    """Images [N, 3, side, side] in [0, 1] under the centre crop, and the files that could be read."""
    images, kept = [], []
    for path in paths:
        if (image := _image_of(path, side)) is not None:
            images.append(image)
            kept.append(path)
    if not images:
        raise ValueError(f'none of {len(paths)} images could be read')
    return torch.stack(images), kept


def _image_of(path: str, side: int) -> torch.Tensor | None:
    """The image [3, side, side] in [0, 1] under the centre crop; None, with a complaint, if it cannot be read."""
    try:
        frames = read_image(path)  # uint8 [1, H, W, 3]
        image = prepare_clip(frames, side, mean=0.0, std=1.0, short_side=side, interpolation='bicubic')
        return image[:, 0].clamp(0, 1)
    except ImportError:
        raise
    except Exception as error:
        complain(failure_of(path, error).reason)
        return None


def _mosaic(rows: Any) -> Any:
    """Rows of images [N, 3, H, W] as one picture."""
    from PIL import Image
    side = rows[0].shape[-1] + _GAP
    picture = Image.new('RGB', (max(map(len, rows)) * side + _GAP, len(rows) * side + _GAP), 'white')
    for i, row in enumerate(rows):
        for j, tile in enumerate(to_bytes(row)):
            picture.paste(Image.fromarray(tile), (j * side + _GAP, i * side + _GAP))
    return picture


def _save_each(images: torch.Tensor, names: list[str], args: argparse.Namespace) -> None:
    from PIL import Image
    args.out.mkdir(exist_ok=True)
    for name, image in zip(names, to_bytes(images), strict=True):
        save_image(Image.fromarray(image), args.out / f'{name}.png', _about(args))


def _about(args: argparse.Namespace) -> str:
    """What a picture says of itself: enough to draw it again."""
    names = ('model', 'seed', 'temperature', 'top_k', 'top_p', 'batch_size', 'num_images')
    names += ('keep', 'samples') if args.complete else ()
    return json.dumps({name: getattr(args, name) for name in names if getattr(args, name) is not None})


class _Images(torch.utils.data.Dataset):
    """Images of files as torch-fidelity takes them: uint8 [3, 256, 256]."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise FileNotFoundError(f'{folder}: no such folder')
        found = [str(path) for path in find_media([folder]) if is_image(path)]
        # Read once before, as one that fails later on would end it all.
        self.paths = [path for path in found if _image_of(path, 256) is not None]
        self.failed = len(found) - len(self.paths)
        if len(self.paths) < 2:
            raise ValueError(f'{folder} holds {len(self.paths)} images; a distribution needs more')
        if len(self.paths) < 2048:
            complain(f'{folder} holds {len(self.paths)} images; with fewer than 2048 the distance is far too large')

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return (255 * _image_of(self.paths[index], 256)).round().to(torch.uint8)


def _fid(args: argparse.Namespace) -> int:
    from urllib.error import URLError
    try:
        from torch_fidelity import calculate_metrics
    except ImportError as error:
        raise ImportError("the distance needs torch-fidelity: pip install 'videozoo-timm[fid]'") from error
    os.environ['PYTHONSAFEPATH'] = '1'  # it starts processes, which import nothing from the current folder by that
    real, generated = _Images(args.real), _Images(args.generated)
    try:
        metrics = calculate_metrics(
            input1=generated, input2=real, fid=True, verbose=False, batch_size=args.batch_size,
            cuda=pick_device(args.device).type == 'cuda')
    except (URLError, ConnectionError, TimeoutError) as error:
        raise ConnectionError(
            f'the Inception network that the distance is measured with cannot be fetched: {error}; with a network it '
            f'is fetched once, into the cache of torch.hub') from error
    print(f'FID {metrics["frechet_inception_distance"]:.3f} ({len(generated)} generated images, {len(real)} real ones)')
    return 1 if real.failed or generated.failed else 0
