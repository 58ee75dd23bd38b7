"""The commands about models and their weights: list, info, download, convert, verify, pin."""
import argparse
import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timm.models import get_pretrained_cfg

from .. import catalogue
from ..factory import (
    check_weights,
    find_source,
    find_sources,
    generator_source,
    input_size_of,
    part_in,
    recognise,
    serves,
    timm_name_of,
)
from ..weights import Source, cached, convert, locate, published_digests, read_header, read_weights, verify
from .common import ERRORS, add_command, add_zoo, complain, number, table


def add_to(commands: Any) -> None:
    """Add these commands to the parser."""
    sub = add_command(commands, _list, 'List the published models.')
    add_zoo(sub, 'only the models of this zoo')
    how = sub.add_mutually_exclusive_group()
    how.add_argument('--json', action='store_true', help='as JSON')
    how.add_argument('--markdown', action='store_true', help='as a Markdown table, without what is on disk')

    sub = add_command(commands, _info, 'Tell what is known of a model, or of a local file.')
    sub.add_argument('name', nargs='?', help='published or timm name')
    add_zoo(sub)
    sub.add_argument('--weights', type=Path, metavar='FILE', help='a local checkpoint, .pth or .safetensors')

    sub = add_command(commands, _download, 'Fetch models, or renew those whose publisher has replaced them.')
    sub.add_argument('names', nargs='+', metavar='NAME', help='published or timm name')
    add_zoo(sub)
    sub.add_argument('--patience', type=number(0.1), metavar='SECONDS',
                     help='give up on a Hub that makes no progress for this long (default: VIDEOZOO_PATIENCE, or 60)')

    sub = add_command(commands, _convert, 'Convert a published checkpoint to safetensors.')
    sub.add_argument('source', type=Path, metavar='IN', help='.pth or .safetensors')
    sub.add_argument('target', type=Path, metavar='OUT', help='.safetensors to write')
    sub.add_argument('--model', metavar='NAME', help='which model it is; recorded in the file')
    add_zoo(sub)
    sub.add_argument('--dtype', choices=['float32', 'bfloat16', 'float16'],
                     help='of the tensors; a model is float32 again once loaded (default: as they are)')
    sub.add_argument('--force', action='store_true', help='replace OUT if it exists')

    sub = add_command(commands, _verify, 'Compare a converted file with its source, every tensor, and the digests.')
    sub.add_argument('name', help='published or timm name, or a file that `videozoo convert` wrote')
    add_zoo(sub)

    sub = add_command(commands, _pin, "Note the digests of published files in this package's data.")
    sub.add_argument('names', nargs='*', metavar='NAME', help='published or timm name (default: all)')
    add_zoo(sub)
    sub.add_argument('--force', action='store_true', help='replace digests that are known and differ')


def _list(args: argparse.Namespace) -> int:
    if args.markdown:
        print(markdown_table(args.zoo))
        return 0
    rows = []
    for c in catalogue.CHECKPOINTS:
        if args.zoo not in (None, c.zoo):
            continue
        path = cached(find_source(c.timm_name))
        rows.append(dict(
            name=c.name, zoo=c.zoo, timm_name=c.timm_name, img_size=c.img_size, num_classes=c.num_classes,
            classes=catalogue.CLASS_NAMES[c.num_classes], parameters=c.num_params, bytes=c.num_bytes,
            on_disk=str(path) if path else None))
    for g in catalogue.GENERATORS:
        if args.zoo not in (None, g.zoo):
            continue
        gpt, vqgan = map(cached, find_sources(g.name))
        rows.append(dict(
            name=g.name, zoo=g.zoo, timm_name=None, img_size=256, num_classes=0, classes='generator',
            parameters=g.num_params, bytes=g.num_bytes, on_disk=str(gpt) if gpt and vqgan else None))
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    table(
        ['name', 'zoo', 'timm name', 'px', 'classes', 'GB', 'on disk'],
        [[r['name'], r['zoo'], r['timm_name'] or '-', str(r['img_size']),
          f'{r["num_classes"] or ""} {r["classes"]}'.strip() or '-', _gigabytes(r['bytes']),
          'yes' if r['on_disk'] else '-'] for r in rows])
    return 0


def markdown_table(zoo: str | None = None) -> str:
    """The table of the README."""
    lines = ['| name | zoo | timm name | px | classes | parameters | GB |', '|---|---|---|---|---|---|---|']
    lines += [
        f'| `{c.name}` | {c.zoo} | `{c.timm_name}` | {c.img_size} '
        f'| {f"{c.num_classes} {catalogue.CLASS_NAMES[c.num_classes]}" if c.num_classes else "-"} '
        f'| {_millions(c.num_params)} | {_gigabytes(c.num_bytes)} |'
        for c in catalogue.CHECKPOINTS if zoo in (None, c.zoo)]
    lines += [
        f'| `{g.name}` | {g.zoo} | - | 256 | generator | {_millions(g.num_params)} | {_gigabytes(g.num_bytes)} |'
        for g in catalogue.GENERATORS if zoo in (None, g.zoo)]
    return '\n'.join(lines)


def _millions(number: int) -> str:
    return f'{number / 1e6:.0f}M' if number >= 1e8 else f'{number / 1e6:.1f}M'


def _gigabytes(number: int) -> str:
    return f'{number / 1e9:.2f}' if number >= 1e7 else f'{number / 1e9:.3f}'


def _info(args: argparse.Namespace) -> int:
    if args.name is not None and args.weights is None and Path(args.name).is_file():
        args.name, args.weights = None, Path(args.name)
    if args.name is None and args.weights is None:
        raise ValueError('name a model, or a file with --weights')
    rows = []
    generator = args.name and catalogue.find_generator(args.name, args.zoo)
    if generator:
        if args.weights is not None:
            raise ValueError(f'{args.name} has two files; `videozoo info FILE` tells what is known of one')
        table([], _generator_rows(generator))
        return 0
    if args.name is not None:
        timm_name = timm_name_of(args.name, args.zoo)
        cfg = get_pretrained_cfg(timm_name)
        rows += [['timm name', timm_name]]
        if timm_name == catalogue.SMALL_IMAGE_ARCHITECTURE:
            rows += [['weights', 'none are published']]
        else:
            rows += _published_rows(args.name, catalogue.find(timm_name), cfg)
        rows += [
            ['input', ('' if cfg.architecture.endswith('_im') else '16 frames of ')
             + f'{cfg.input_size[1]} x {cfg.input_size[2]} pixels'],
            ['preprocessing', f'short side to {round(cfg.input_size[1] / cfg.crop_pct)}, {cfg.interpolation}, '
                              f'centre crop; mean {list(cfg.mean)}, std {list(cfg.std)}'],
        ]
    if args.weights is not None:
        weights = read_weights(args.weights, mapped=True)
        num_values = sum(v.numel() for v in weights.tensors.values())
        rows += [
            ['file', str(args.weights)],
            ['recognised as', recognise(weights.tensors) or 'no model of this package'],
            ['tensors', f'{len(weights.tensors)}, {num_values:,} values'],
        ]
        rows += _header_rows(weights.header)
        if args.name is not None:
            check_weights(weights, str(args.weights), timm_name)
    table([], rows)
    return 0


def _published_rows(name: str, record: catalogue.Checkpoint, cfg: Any) -> list[list[str]]:
    path = cached(find_source(record.timm_name))
    rows = [['published name', f'{record.name} ({record.zoo})']]
    if record.repo:
        rows += [['on the Hub', f'{cfg.hf_hub_id}: {cfg.hf_hub_filename}, or {record.filename}']]
    rows += [
        ['on disk', str(path) if path else f'no, `videozoo download {name}` fetches it'],
        ['parameters', f'{record.num_params:,}'],
        ['classes', f'{cfg.num_classes} {catalogue.CLASS_NAMES[cfg.num_classes]}'.strip()],
        ['paper', f'{cfg.paper_name} ({cfg.paper_ids})' if cfg.paper_name else '-'],
        ['licence of the weights', cfg.license],
    ]
    return rows + (_header_rows(read_header(path)) if path else [])


def _generator_rows(generator: catalogue.Generator) -> list[list[str]]:
    rows = [['published name', f'{generator.name} ({generator.zoo}), an image generator']]
    for kind, source in zip(('GPT', 'VQGAN'), find_sources(generator.name), strict=True):
        path = cached(source)
        rows += [[f'{kind} on the Hub', f'{source.repo}: {source.filename}, or {source.published}'],
                 [f'{kind} on disk', str(path) if path else f'no, `videozoo download {generator.name}` fetches it']]
    grid, (title, paper) = generator.grid_size, catalogue.PAPERS[generator.zoo]
    return rows + [
        ['parameters', f'{generator.num_params:,} of the GPT'],
        ['images', f'256 x 256 pixels, {grid} x {grid} of {generator.vqgan_args["num_codes"]} codes'],
        ['paper', f'{title} (arXiv:{paper})'],
        ['licence of the weights', 'not stated by the publisher'],
    ]


def _header_rows(header: dict[str, Any]) -> list[list[str]]:
    return [[f'header: {k}', str(v)] for k, v in sorted(header.items())]


def _download(args: argparse.Namespace) -> int:
    # A typo stops here, before any download.
    sources = [(name, source) for name in args.names for source in find_sources(name, args.zoo)]
    left_out = unchecked = 0
    say = partial(print, flush=True)
    for name, source in sources:
        try:
            path = locate(source, refresh=True, say=say, patience=args.patience)
            print(f'{name}: {path}', flush=True)
        except ERRORS as error:
            path = cached(source) if isinstance(error, ConnectionError) else None
            if path:
                complain(f'{name}: is on this machine ({path}), but was not compared with the Hub: {error}')
                unchecked += 1
                continue
            complain(f'{name}: {error}')
            left_out += 1
    return 2 if left_out == len(sources) else 1 if left_out or unchecked else 0


def _convert(args: argparse.Namespace) -> int:
    if args.target.suffix != '.safetensors':
        raise ValueError(f'{args.target}: OUT must end in .safetensors')
    if not args.target.parent.is_dir():
        raise ValueError(f'{args.target}: there is no folder {args.target.parent}')
    if args.target.exists() and not args.force:
        raise ValueError(f'{args.target} exists; --force replaces it')
    if args.target.exists() and args.target.samefile(args.source):
        raise ValueError(f'{args.source} cannot be converted onto itself')
    weights = read_weights(args.source, mapped=True)
    of_this_file = ('format', 'source', 'source_sha256', 'content_sha256')
    about = {k: v for k, v in weights.header.items() if k not in of_this_file}
    generator = args.model and catalogue.find_generator(args.model, args.zoo)
    if generator:
        about = dict(generator_source(generator, part_in(generator, weights, str(args.source))).about)
    elif args.model:
        timm_name = timm_name_of(args.model, args.zoo)
        check_weights(weights, str(args.source), timm_name)
        cfg = get_pretrained_cfg(timm_name)
        if '.' in timm_name:
            about = {k: v for k, v in about.items() if k == 'label_names'} | dict(find_source(timm_name).about)
        else:
            about = dict(mean=cfg.mean, std=cfg.std) | about
    architecture = recognise(weights.tensors)
    if args.model and not generator and not serves(architecture, cfg.architecture):
        raise ValueError(f'{args.source} is not {args.model}: its tensors are those of no model of this package')
    about.update(architecture=architecture, input_size=about.get('input_size') or input_size_of(weights.tensors))
    convert(args.source, args.target, about, dtype=getattr(torch, args.dtype) if args.dtype else None)
    num_tensors, size = len(read_weights(args.target, mapped=True).tensors), args.target.stat().st_size
    print(f'{args.target}: {num_tensors} tensors, {_gigabytes(size)} GB, '
          f'{architecture or "no architecture of this package"}')
    return 0


def _verify(args: argparse.Namespace) -> int:
    path = Path(args.name)
    if path.suffix == '.safetensors' and not path.is_file():
        raise FileNotFoundError(f'no file {path}')
    record = (
        catalogue.packaged_as(str(path.resolve())) if path.is_file() else
        catalogue.find_generator(args.name, args.zoo) or catalogue.find(args.name, args.zoo))
    if isinstance(record, catalogue.Checkpoint) and record.packaged:
        lines = _verify_packaged(record.packaged)
    elif path.is_file():
        lines = _verify_file(path)
    else:
        lines = [line for source in find_sources(args.name, args.zoo) for line in verify(source)]
    for line in lines:
        print(line)
    print(f'{args.name}: verified')
    return 0


def _verify_file(path: Path) -> list[str]:
    header = read_header(path)
    made_from = header.get('source')
    if not made_from:
        raise ValueError(f'{path} does not say what it was made from')
    # Version 0.1.0 wrote whole paths; a bare name is that of a file beside the converted one, or beside the user.
    beside = [path.parent / Path(made_from).name, Path(Path(made_from).name)]
    source = next((p for p in (Path(made_from), *beside) if p.is_file() and p.resolve() != path.resolve()), None)
    if source:
        return verify(Source(file=source), path)
    if 'content_sha256' not in header:
        raise FileNotFoundError(f'{path} was made from {made_from}, which is not there')
    return [*verify(None, path), f'{made_from}, which it was made from, is not here to compare with']


def _pin(args: argparse.Namespace) -> int:
    names = args.names or catalogue.available_models(args.zoo)
    sources = {
        (source.repo, source.filename): source
        for name in names for source in find_sources(name, args.zoo) if source.repo}
    if not sources:
        raise ValueError(f'{", ".join(names)}: comes with this package, whose SHA256SUMS holds its digest')
    left_out = 0
    for (repo, filename), source in sources.items():
        try:
            found = published_digests(source, say=partial(print, flush=True))
            known = catalogue.digests_of(repo)
            other = [name for name, digest in found.items() if known.get(name, digest) != digest]
            if other and not args.force:
                raise ValueError(f'the Hub says {found[other[0]]} of {other[0]}, known is {known[other[0]]}; --force '
                                 f'replaces it')
            catalogue.pin(repo, found)
        except ERRORS as error:
            complain(f'{filename} of {repo}: {error}')
            left_out += 1
            continue
        for name, digest in found.items():
            print(f'{digest}  {repo}/{name}', flush=True)
    return 2 if left_out == len(sources) else 1 if left_out else 0


def _verify_packaged(path: Path) -> list[str]:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    digests = dict(reversed(line.split()) for line in (path.parent / 'SHA256SUMS').read_text().splitlines())
    if digest != digests[path.name]:
        raise ValueError(
            f'{path} is damaged: its sha256 is {digest}, not {digests[path.name]}; install the package anew')
    return [f'sha256 {digest} of {path}, which comes with this package']
