"""The commands that carry models elsewhere: run, publish, offer, bench."""
import argparse
import json
import runpy
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from .. import catalogue
from ..factory import load_file, load_model, timm_name_of
from ..weights import read_header
from .common import add_command, add_model, add_zoo, complain, count, load, table


def add_to(commands: Any) -> None:
    """Add these commands to the parser."""
    sub = add_command(
        commands, _run, 'Run a Python script that knows timm only; the models of this package are registered.',
        shared=True)
    sub.add_argument('script', metavar='SCRIPT')
    sub.add_argument('arguments', nargs=argparse.REMAINDER, metavar='ARGS').required = False

    sub = add_command(commands, _publish, 'Export a model with a model card, and upload it to the Hub.')
    sub.add_argument('name', nargs='?', metavar='NAME', help='published or timm name; with --weights, of that file')
    add_zoo(sub)
    sub.add_argument('--weights', type=Path, metavar='FILE', help='a local checkpoint, .pth or .safetensors')
    sub.add_argument('--to', required=True, metavar='ORGANISATION/NAME', help='Hub repository; made if need be')
    sub.add_argument('--private', action='store_true', help='make a new repository private')
    sub.add_argument('--dtype', choices=['float32', 'bfloat16', 'float16'], help='of the tensors in the file')
    sub.add_argument('--dry-run', action='store_true', help='write the folder and upload nothing')
    sub.add_argument('--out', type=Path, metavar='DIR',
                     help='folder to write and keep (default with --dry-run: NAME of --to; else a temporary one)')
    sub.add_argument('--license', help='of weights of your own, as the Hub spells it: mit, cc-by-4.0')
    sub.add_argument('--force', action='store_true', help='replace the model that is in --out, or in the repository')

    sub = add_command(commands, _offer, 'Make and upload the .safetensors beside every .pth of Hub repositories.')
    sub.add_argument('repos', nargs='+', metavar='REPO',
                     help='Hub repository of published models, or a zoo, which stands for all of its repositories')
    sub.add_argument('--to', metavar='ORGANISATION/NAME', help='upload into this repository instead')
    sub.add_argument('--dry-run', action='store_true', help='only say what would be done')

    sub = add_command(commands, _bench, 'Measure how fast a model runs on this machine.')
    add_model(sub)
    sub.add_argument('--batch-size', type=count, default=1, metavar='N', help='clips at a time (default: 1)')
    sub.add_argument('--compile', action='store_true', help='measure it compiled by torch.compile as well')
    sub.add_argument('--against', choices=['plain'],
                     help='compare, in the same run, with a plain implementation in float32: separate q, k and v, a '
                          '3-D convolution, the N x N matrix')
    sub.add_argument('--runs', type=count, default=5, metavar='N', help='timed runs, of which the median counts')
    sub.add_argument('--json', action='store_true', help='as JSON')


def run_script(argv: list[str]) -> int:
    """Run a script as `python SCRIPT ARGS...` would; its flags, signals and errors are its own."""
    script = Path(argv[0])
    if not script.is_file():
        complain(f'no script {script}' + (', which is a folder' if script.is_dir() else ''))
        return 2
    sys.argv = argv
    sys.path.insert(0, str(script.resolve().parent))  # as for `python SCRIPT`
    runpy.run_path(str(script), run_name='__main__')
    return 0


def _run(args: argparse.Namespace) -> int:
    return run_script([args.script, *args.arguments])


def _publish(args: argparse.Namespace) -> int:
    import tempfile

    from huggingface_hub.utils import validate_repo_id

    from ..publishing import check_folder, check_login, export, upload
    if args.name is None and args.weights is None:
        raise ValueError('name a model, or a file with --weights')
    if args.to.count('/') != 1 or not all(args.to.split('/')):
        raise ValueError(f'--to {args.to}: must be ORGANISATION/NAME')
    validate_repo_id(args.to)
    if not args.dry_run:
        check_login(args.to)
    claim, labels = args.name and timm_name_of(args.name, args.zoo), None
    if args.weights is not None and args.weights.suffix == '.safetensors':  # the file says what it is
        header = read_header(args.weights)
        labels = header.get('label_names')
        if header.get('name') in catalogue.available_models():
            claim = timm_name_of(header['name'], header.get('zoo'))
    if claim in catalogue.ALL_ARCHITECTURES:
        claim = None
    with tempfile.TemporaryDirectory() as temporary:
        out = args.out or Path(args.to.split('/')[1] if args.dry_run else f'{temporary}/model')
        check_folder(out, args.force)
        model = load_model(claim or args.name) if args.weights is None else load_file(
            args.weights, args.name, zoo=args.zoo)
        folder = export(
            model, out, args.to, name=claim, label_names=labels, license=args.license,
            dtype=args.dtype and getattr(torch, args.dtype), force=args.force)
        published = claim if read_header(folder / 'model.safetensors').get('name') else None
        name = published or model.pretrained_cfg['architecture']
        if args.dry_run or args.out:
            files = ', '.join(sorted(path.name for path in folder.iterdir()))
            print(f'{folder}: {name}, {files}' + ('; nothing is uploaded' if args.dry_run else ''))
        stated = args.license or (catalogue.find(published).license if published else 'not stated')
        if stated.startswith('not stated'):
            complain('the licence of these weights is not stated: ask their publisher before you redistribute them, or '
                     'state yours with --license (and --force, which replaces what is there)')
        if not args.dry_run:
            url = upload(folder, args.to, private=args.private, force=args.force, say=complain)
            print(f'{url}: {name}')
    return 0


def _offer(args: argparse.Namespace) -> int:
    from ..publishing import offer_safetensors
    repos = list(dict.fromkeys(
        repo for name in args.repos for repo in (_repos_of(name) if name in catalogue.ZOOS else [name])))
    if args.to and len(repos) > 1:
        raise ValueError(f'--to {args.to}: {len(repos)} repositories share names of files; offer one at a time')
    if not repos:
        raise ValueError(f'{", ".join(args.repos)}: nothing of it is on the Hub')
    number = 0
    for repo in repos:
        try:
            left_out = offer_safetensors(repo, args.to, dry_run=args.dry_run, say=lambda text: print(text, flush=True))
        except (FileNotFoundError, PermissionError) as error:
            if len(repos) == 1:
                raise
            left_out = [f'{repo}: {error}']
        for line in left_out:  # at once, as the next one may fail
            complain(line)
        number += len(left_out)
    return 1 if number else 0


def _repos_of(zoo):
    return [r.repo for r in (*catalogue.CHECKPOINTS, *catalogue.GENERATORS) if r.zoo == zoo and r.repo]


def _bench(args: argparse.Namespace) -> int:
    from ..bench import PlainViT, check_plain, matrix_product_rate, measure
    from ..inference.pipeline import takes_clips
    model, name = load(args, pretrained=False)  # nothing is fetched: what the weights are does not matter here
    if args.against:
        check_plain(model)
    device = next(model.parameters()).device
    dtype = getattr(torch, args.dtype)
    frames = [model.num_frames] if takes_clips(model) else []
    height, width = model.pretrained_cfg['input_size'][1:]
    if hasattr(model, 'set_input_size'):
        if args.img_size is not None and not frames:  # a video model has it already
            model.set_input_size(args.img_size)
        height, width = model.patch_embed.img_size
    elif args.img_size:
        height = width = args.img_size
    shape = (args.batch_size, 3, *frames, height, width)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    rate = matrix_product_rate(device, dtype, args.runs)

    def measured(variant: str, model: torch.nn.Module, x: torch.Tensor, rate: float) -> dict[str, Any]:
        speed = measure(model, x, rate, args.runs)
        complain(f'{variant}: {_time(speed.latency)} ({_time(speed.fastest)} to {_time(speed.slowest)})')
        return dict(variant=variant, dtype=str(x.dtype).removeprefix('torch.'), **asdict(speed))

    rows = [measured('eager', model, x, rate)]
    if args.compile:
        complain('compiling, which may take minutes ...')
        rows.append(measured('compiled', torch.compile(model), x, rate))
    if args.against:
        plain = PlainViT(model).to(device).eval()
        with torch.inference_mode():
            ours, theirs = model(x).float(), plain(x.float())
        difference = ((ours - theirs).norm() / theirs.norm()).item()
        del model  # its memory is not that of the plain one
        plain_rate = rate if dtype == torch.float32 else matrix_product_rate(device, torch.float32, args.runs)
        rows.append(measured('plain', plain, x.float(), plain_rate) | dict(difference=difference))
        for row in rows:
            row['against_plain'] = row['rate'] / rows[-1]['rate']
    head = dict(
        model=name, device=str(device), shape=list(shape), torch=torch.__version__, threads=torch.get_num_threads())
    if args.json:
        print(json.dumps(dict(head, results=rows), indent=2))
        return 0
    print(', '.join(f'{key} {value}' for key, value in head.items()))
    unit = 'clips' if frames else 'images'
    columns = ['variant', 'dtype', f'{unit} a second', 'latency', 'memory', 'share of a matrix product']
    cells = [[row['variant'], row['dtype'], f'{row["rate"]:.3g}', _time(row['latency']),
              '-' if row['peak_memory'] is None else f'{row["peak_memory"] / 1e9:.2f} GB', f'{row["share"]:.0%}']
             for row in rows]
    if args.against:
        columns.append('against plain')
        for cell, row in zip(cells, rows, strict=True):
            cell.append(f'{row["against_plain"]:.2f}')
    table(columns, cells)
    if args.against:
        print(f'outputs differ by {rows[-1]["difference"]:.1e} of their norm')
    return 0


def _time(seconds):
    return f'{seconds:.2f} s' if seconds >= 1 else f'{1000 * seconds:.1f} ms'
