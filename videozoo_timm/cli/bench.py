"""videozoo bench."""

from dataclasses import asdict
from typing import Any

from ..text import to_json
from .base import command, option
from .loading import load
from .options import ModelOptions, batch_option, compile_option, json_option, model_options
from .output import complain, echo, table
from .types import Choice, Count


@command(
    examples="""
    videozoo bench --model vit_hvm1_none --against plain
    videozoo bench --model vit_hvm1_none --dtype bfloat16 --batch-size 8 --compile
"""
)
@model_options()
@batch_option(1, 'Clips')
@compile_option('Also measure the model compiled by torch.compile.', section='Options')
@option(
    '--against',
    type=Choice(['plain']),
    help='Compare, in the same run, with a plain implementation in float32: separate q, k and v, a 3-D '
    'convolution, the N x N attention matrix.',
)
@option('--runs', type=Count(), default=5, metavar='N', help='Timed runs, of which the median counts.')
@json_option()
def bench(chosen: ModelOptions, batch_size: int, compile: bool, against: str | None, runs: int, as_json: bool) -> int:
    """Measure how fast a model runs on this machine."""
    import torch

    from ..bench import PlainViT, check_plain, matrix_product_rate, measure
    from ..inference.pipeline import takes_clips
    from ..inference.running import check_compiler, compiled_blocks

    model, name = load(chosen, pretrained=False)  # nothing is fetched: what the weights are does not matter here
    if against:
        check_plain(model)
    if compile:
        check_compiler()
    device = next(model.parameters()).device
    dtype = getattr(torch, chosen.dtype or 'float32')
    frames = [model.num_frames] if takes_clips(model) else []
    height, width = model.pretrained_cfg['input_size'][1:]
    if hasattr(model, 'set_input_size'):
        if chosen.img_size is not None and not frames:  # a video model has it already
            model.set_input_size(chosen.img_size)
        height, width = model.patch_embed.img_size
    elif chosen.img_size:
        height = width = chosen.img_size
    shape = (batch_size, 3, *frames, height, width)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    rate = matrix_product_rate(device, dtype, runs)

    def measured(variant: str, model: torch.nn.Module, x: torch.Tensor, rate: float) -> dict[str, Any]:
        speed = measure(model, x, rate, runs)
        complain(f'{variant}: {_time(speed.latency)} ({_time(speed.fastest)} to {_time(speed.slowest)})')
        return dict(variant=variant, dtype=str(x.dtype).removeprefix('torch.'), **asdict(speed))

    rows = [measured('eager', model, x, rate)]
    if compile:
        complain('compiling, which may take minutes ...')
        with compiled_blocks(model):
            rows.append(measured('compiled', model, x, rate))
    if against:
        plain = PlainViT(model).to(device).eval()
        with torch.inference_mode():
            ours, theirs = model(x).float(), plain(x.float())
        difference = ((ours - theirs).norm() / theirs.norm()).item()
        del model  # its memory is not that of the plain one
        plain_rate = rate if dtype == torch.float32 else matrix_product_rate(device, torch.float32, runs)
        rows.append(measured('plain', plain, x.float(), plain_rate) | dict(difference=difference))
        for row in rows:
            row['against_plain'] = row['rate'] / rows[-1]['rate']
    head = dict(
        model=name, device=str(device), shape=list(shape), torch=torch.__version__, threads=torch.get_num_threads()
    )
    if as_json:
        echo(to_json(dict(head, results=rows)))
    else:
        _print(head, rows, 'clips' if frames else 'images')
    return 0


def _print(head: dict[str, Any], rows: list[dict[str, Any]], unit: str) -> None:
    echo(', '.join(f'{key} {value}' for key, value in head.items()))
    columns = ['variant', 'dtype', f'{unit} a second', 'latency', 'memory', 'fraction of a matrix product']
    cells = [
        [
            row['variant'],
            row['dtype'],
            f'{row["rate"]:.3g}',
            _time(row['latency']),
            '-' if row['peak_memory'] is None else f'{row["peak_memory"] / 1e9:.2f} GB',
            f'{row["share"]:.0%}',
        ]
        for row in rows
    ]
    if 'against_plain' in rows[-1]:
        columns.append('against plain')
        for cell, row in zip(cells, rows, strict=True):
            cell.append(f'{row["against_plain"]:.2f}')
    table(columns, cells)
    if 'difference' in rows[-1]:
        echo(f'outputs differ by {rows[-1]["difference"]:.1e} of their norm')


def _time(seconds: float) -> str:
    return f'{seconds:.2f} s' if seconds >= 1 else f'{1000 * seconds:.1f} ms'
