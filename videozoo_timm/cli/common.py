"""What the commands share: options, the model and files that they name, progress, tables, complaints."""
import argparse
import math
import os
import random
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import catalogue
from ..errors import Explained
from ..factory import load_file, load_model, recognise, timm_name_of
from ..inference.pipeline import takes_clips
from ..models.attention import fast_in_bfloat16
from ..synthetic import is_drawn
from ..text import printable
from ..video import find_videos
from ..weights import read_weights

ERRORS = (ValueError, IndexError, OSError, RuntimeError, ImportError, FloatingPointError)


def add_command(
        commands: Any,
        run: Callable[[argparse.Namespace], int],
        help: str,
        shared: bool = False,
) -> argparse.ArgumentParser:
    """A command; of several processes all run it if they share its work, otherwise the first alone."""
    sub = commands.add_parser(run.__name__.strip('_'), help=help, description=help)
    elsewhere = int(os.environ.get('WORLD_SIZE', '1')) > 1 and os.environ.get('RANK', '0') != '0'
    sub.set_defaults(run=(lambda args: 0) if elsewhere and not shared else run, parser=sub)
    return sub


def count(text: str, least: int = 1) -> int:
    """A number of things, as a type of argparse."""
    if not re.fullmatch(r'\+?\d+', text) or int(text) < least:
        raise argparse.ArgumentTypeError(f'{text}: must be a whole number of at least {least}')
    return int(text)


def number(low: float, high: float = math.inf, below: bool = False) -> Callable[[str], float]:
    """Numbers from `low` to `high`, or to `below` it, as a type of argparse."""
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high or value == high and (below or high == math.inf):
            bound = f' and {"below" if below else "at most"} {high:g}' if high < math.inf else ''
            raise argparse.ArgumentTypeError(f'{text}: must be a number of at least {low:g}{bound}')
        return value
    return parse


def add_zoo(sub: argparse.ArgumentParser, help: str = 'which zoo is meant by a name that stands in both') -> None:
    sub.add_argument('--zoo', choices=catalogue.ZOOS, help=help)


def add_model(sub: argparse.ArgumentParser, dtype: str | None = 'float32') -> None:
    """--model, --zoo, --weights, --device, --dtype, --img-size, --num-frames."""
    group = sub.add_argument_group('the model')
    group.add_argument('--model', '--model-name', metavar='NAME',
                       help='published or timm name (default: the small one that comes with this package; with '
                            '--weights, what the file says)')
    add_zoo(group)
    group.add_argument('--weights', type=Path, metavar='FILE', help='a local checkpoint, .pth or .safetensors')
    group.add_argument('--img-size', type=count, metavar='PIXELS', help="another size than the model's own")
    group.add_argument('--num-frames', type=count, metavar='N', help="another number of frames than the model's own")
    group.add_argument('--device', help='cpu, cuda, cuda:1, mps (default: the best there is)')
    group.add_argument('--dtype', choices=['float32', 'bfloat16', 'float16'], default=dtype,
                       help=f'of the model and its input (default: {dtype})' if dtype else
                       'that is computed in; the weights stay float32 (default: float32, or as accelerate says)')


def add_files(sub: argparse.ArgumentParser, what: str, folder_flag: str = '--video-dir') -> None:
    """PATH..., and what concerns reading them."""
    sub.add_argument('paths', nargs='*', metavar='PATH',
                     help=f'{what}, and folders to search; drawn:100@7 stands for 100 videos as `videozoo draw` draws '
                          f'them with --seed 7')
    group = sub.add_argument_group('reading files')
    group.add_argument(folder_flag, action='append', default=[], metavar='DIR', dest='folders',
                       help='the same as PATH')
    add_reading(group)


def add_reading(group: Any) -> None:
    """--num-workers, --time-limit."""
    group.add_argument('--num-workers', type=partial(count, least=0), metavar='N', default=default_workers(),
                       help='processes that decode ahead of the model; 0: none, and no time limit '
                            '(default: %(default)s)')
    group.add_argument('--time-limit', type=float, metavar='SECONDS', default=60.0,
                       help='leave a file out that gives no (further) clip for this long (default: %(default)g)')


def add_span(sub: argparse.ArgumentParser, default: int) -> None:
    sub.add_argument('--span', type=count, metavar='N', default=default,
                     help='frames at 30 a second over which the frames of a clip are spread (default: %(default)s)')


def add_drawing(sub: argparse.ArgumentParser, out: str) -> None:
    """--num-vids, --seed and --out of the commands that make pictures."""
    sub.add_argument('--num-vids', type=count, metavar='N', help='draw this many of the files at random (default: all)')
    sub.add_argument('--seed', type=int, default=0, help='of whatever is random (default: %(default)s)')
    sub.add_argument('--out', type=Path, default=Path(out), metavar='DIR',
                     help='folder for the pictures (default: %(default)s)')


def default_workers() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    return max(1, min(4, cores // int(os.environ.get('LOCAL_WORLD_SIZE', '1'))))


def load(
        args: argparse.Namespace,
        default: str = 'vit_shapes_motion',
        device: torch.device | None = None,
        pretrained: bool = True,
) -> tuple[nn.Module, str]:
    """The model that the options of `add_model` ask for, the default if they name none, and what to call it.

    Without `pretrained` it comes with random weights, unless --weights names a file.
    """
    _refuse_generator(args)
    options = sizes(args)
    if options and _is_image_encoder(args):
        if 'num_frames' in options:
            raise ValueError(f'--num-frames {args.num_frames}: {args.model or args.weights} takes images; leave it out')
        options = {}  # such a model takes images of any size: --img-size is that of the views (`view_options`)
    if not pretrained and args.weights is None:
        options['pretrained'] = False
    if args.device or device is None:
        device = pick_device(args.device)
    if args.dtype == 'bfloat16' and device.type in ('cpu', 'cuda') and not fast_in_bfloat16(device):
        complain(f'--dtype bfloat16: this {device} seems to have no instructions for it; float32 may be far faster')
    return _load(args, default, device=device, dtype=getattr(torch, args.dtype), **options)


def _refuse_generator(args: argparse.Namespace) -> None:
    if args.model is not None and catalogue.find_generator(args.model, args.zoo):
        raise ValueError(
            f'{args.model} is an image generator: `videozoo generate` (--complete DIR), in Python load_model')


def load_trainable(args: argparse.Namespace, default: str, **options: Any) -> tuple[nn.Module, str]:
    """As `load`, but on the CPU in float32, with more arguments of `timm.create_model`."""
    return _load(args, default, **options, **sizes(args))


def check_trainable(args: argparse.Namespace) -> None:
    """Raise a ValueError if the model that the options ask for is no video model."""
    if args.model is not None and catalogue.find_generator(args.model, args.zoo):
        raise ValueError(f'{args.model} is an image generator; what is trained here are video models')
    if _is_image_encoder(args):
        raise ValueError(
            f'{args.model or args.weights} is an image encoder; what is trained here are video models. `videozoo '
            f'probe` trains on its frozen features, timm.create_model gives it to any training script for images')


def view_options(args: argparse.Namespace, model: nn.Module) -> dict[str, int]:
    """Fields of `Views` that the options of `add_model` ask for."""
    return {} if args.img_size is None or takes_clips(model) else dict(size=args.img_size)


def _is_image_encoder(args: argparse.Namespace) -> bool:
    if args.model is not None:
        return catalogue.takes_images(timm_name_of(args.model, args.zoo).split('.')[0])
    if args.weights is None:
        return False
    return catalogue.takes_images(recognise(read_weights(args.weights, mapped=True).tensors) or '')


def _load(args: argparse.Namespace, default: str, **options: Any) -> tuple[nn.Module, str]:
    if args.weights is not None:
        model = load_file(args.weights, args.model, zoo=args.zoo, **options)
    else:
        if args.model is None:
            if args.zoo not in (None, 'shapes'):
                raise ValueError(f'name a model of the zoo {args.zoo!r} with --model (`videozoo list` shows them)')
            args.model = default
            if os.environ.get('RANK', '0') == '0':
                complain(f'no --model, so the small one that comes with this package is taken: {default}')
        model = load_model(args.model, zoo=args.zoo, **options)
    cfg = model.pretrained_cfg
    if args.weights is not None and not (args.model and '.' in timm_name_of(args.model, args.zoo)):
        told = read_weights(args.weights, mapped=True).header.get('name')
        return model, printable(told or f'{cfg["architecture"]} of {args.weights}', 200)
    return model, f'{cfg["architecture"]}.{cfg["tag"]}'


def sizes(args: argparse.Namespace) -> dict[str, int]:
    """--img-size and --num-frames, where they are given."""
    return {name: value for name in ('img_size', 'num_frames') if (value := getattr(args, name)) is not None}


def short_name(args: argparse.Namespace, model: nn.Module) -> str:
    """The model's name as a part of file names: as it was typed, or its architecture."""
    name = args.model or read_weights(args.weights, mapped=True).header.get('name')
    return re.sub(r'[^\w@+.=-]', '_', name or model.pretrained_cfg['architecture'])[:100]


def files(args: argparse.Namespace, find: Callable[[str], list[Path]]) -> tuple[list[str], int]:
    """The files that PATH... names, each once, and how many of PATH... are not there (reported)."""
    if hasattr(args, 'model'):
        _refuse_generator(args)
    given = [*args.paths, *args.folders]
    if not given:
        raise ValueError('name files or folders')
    found, missing = [], []
    for path in given:
        try:
            found += find(path)
        except FileNotFoundError as error:
            missing.append(error)
    if len(missing) == len(given):
        raise FileNotFoundError('; '.join(map(str, missing)))
    for error in missing:
        complain(error)
    found = find(found)  # each once
    if not found:
        what = 'videos' if find is find_videos else 'videos or images'
        raise ValueError(f'no {what} in {", ".join(given)}')
    return [str(path) for path in found], len(missing)


def tell_shared(train: list[str], held_out: list[str]) -> None:
    """Complain of files that are trained on and held out at once."""
    fitted = set(map(os.path.abspath, train))
    if both := [path for path in held_out if os.path.abspath(path) in fitted]:
        complain(f'{len(both)} of the {len(held_out)} files of --val are in --train too ({both[0]}'
                 f'{", ..." * (len(both) > 1)}): accuracy on them says nothing of others')


def drawn(paths: list[str], args: argparse.Namespace) -> list[str]:
    """--num-vids of the files, drawn with --seed."""
    if args.num_vids is None:
        return paths
    if args.num_vids >= len(paths):
        if args.num_vids > len(paths):
            complain(f'there are {len(paths)} files, fewer than --num-vids {args.num_vids}: all are taken')
        return paths
    return sorted(random.Random(args.seed).sample(paths, args.num_vids), key=paths.index)


def check_out(out: Path) -> None:
    """Raise an OSError now, rather than after the work, unless --out is, or can be made, a folder to write into."""
    if os.path.lexists(out) and not out.is_dir():
        raise FileExistsError(f'--out {out} is a file; a folder is wanted')
    parents = (out, *out.absolute().parents)
    there = next((path for path in parents if path.exists()), parents[-1])
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f'--out {out} cannot be written: {there} is no folder that may be written to')


def shown(path: str) -> str:
    """What a file is called in titles and tables; of drawn videos the number alone says little."""
    return path if is_drawn(path) else printable(Path(path).name)


def names_of(path: str) -> Iterator[str]:
    """What to call a file's pictures by: its stem; where that is not enough its name, with more and more folders."""
    path = Path(os.path.abspath(path).replace(':', ''))  # of drawn videos, and of drives
    yield path.stem
    for depth in range(len(path.parts)):
        yield '_'.join(part.strip(os.sep) for part in (*path.parts[len(path.parts) - 1 - depth:-1], path.name))


def unique_stems(paths: list[str]) -> list[str]:
    """A name for each file to call its pictures by, as short as differs from those of the others."""
    names = [names_of(path) for path in paths]
    result = [next(name) for name in names]
    while len(set(result)) < len(result):
        result = [next(names[i], name) if result.count(name) > 1 else name for i, name in enumerate(result)]
    return result


@contextmanager
def progress(total: int, what: str = 'files', rank: int = 0, size: int = 1) -> Iterator[Callable[[float], None]]:
    """A progress bar with rate and time left; in a log, a line every half minute.

    Of several processes the first one shows its own progress for that of all.
    """
    from tqdm import tqdm
    form = '{l_bar}{bar}| {n:.4g}/{total} [{elapsed}<{remaining}, {rate_fmt}]'
    interval = 0.1 if sys.stderr.isatty() else 30
    with tqdm(total=total, unit=f' {what}', mininterval=interval, bar_format=form, disable=rank > 0) as bar:
        yield lambda number: bar.update(min(number * size, total - bar.n))


def table(header: list[str], rows: list[list[str]]) -> None:
    every = [[printable(cell) for cell in row] for row in [*([header] if header else []), *rows]]
    widths = [max(len(row[i]) for row in every) for i in range(len(every[0]))]
    for row in every:
        print('  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


_FLAGS = {'auto_augment': 'aa', 'folder': 'out', 'last': 'keep', 'start_over': 'force'}  # of parameters by other names


def flag(name: str, value: Any = None) -> str:
    """A parameter of the library as it is typed in a command."""
    word = f'--{_FLAGS.get(name, name).replace("_", "-")}'
    return word if value is None or value is True else f'{word} {value}'


def complain(message: Any) -> None:
    """Print a line on standard error; parameters that an error names become options of the command line."""
    text = message.spelled(flag) if isinstance(message, Explained) else message
    text = printable(f'videozoo: {text}', lines=True)
    if 'tqdm' in sys.modules:  # above a progress bar
        sys.modules['tqdm'].tqdm.write(text, file=sys.stderr)
    else:
        print(text, file=sys.stderr, flush=True)


def pick_device(name: str | None) -> torch.device:
    """The device that `--device` names, the best there is if it names none."""
    if name is None:
        name = 'cuda' if torch.cuda.is_available() else 'mps' if torch.backends.mps.is_available() else 'cpu'
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except Exception as error:
        raise ValueError(f'--device {name}: {str(error).splitlines()[0]}') from error
    return device
