"""videozoo info."""

import json
from pathlib import Path
from typing import Any

from .. import catalogue
from ..contents import Contents
from ..identity import Resolved, on_disk, resolve
from .base import argument, command, option
from .completion import complete_model_or_file
from .list_models import generator_files, parts_on_disk
from .options import zoo_option
from .output import table
from .types import FILE

_VIDEO_PARTS = {  # architectures in headers
    'video_generator': 'a video generator, which `videozoo generate --weights` takes',
    'video_gpt': 'the GPT of a video generator, which `videozoo generate --gpt` takes',
    'video_vqgan': 'the VQGAN of a video generator, which `videozoo generate --vqgan` takes',
}


@command(
    examples="""
    videozoo info vit_hvm1@448_none
    videozoo info finetuned/best.safetensors
"""
)
@argument(
    'name',
    required=False,
    metavar='[NAME]',
    shell_complete=complete_model_or_file,
    help='Published name, timm name, or a local checkpoint.',
)
@zoo_option()
@option('--weights', type=FILE, metavar='FILE', help='Local checkpoint, .pth or .safetensors.')
def info(name: str | None, zoo: str | None, weights: Path | None) -> int:
    """Show what is known about a model or a local file."""
    if name is not None and weights is None and Path(name).is_file():
        name, weights = None, Path(name)
    if name is None and weights is None:
        raise ValueError('name a model, or a file with --weights')
    contents = Contents(weights, mapped=True) if weights is not None else None
    resolved = resolve(name, contents, zoo) if name is not None else None
    if resolved and isinstance(resolved.record, catalogue.Generator):
        if weights is not None:
            raise ValueError(f'{name} has two files; `videozoo info FILE` tells what is known of one')
        table([], _generator_rows(resolved.record))
        return 0
    if resolved and isinstance(resolved.record, catalogue.PackagedGenerator):
        table([], _packaged_rows(resolved.record))
        return 0
    rows = _model_rows(resolved, name) if resolved and name is not None else []
    table([], rows + (_file_rows(contents, resolved) if contents else []))
    return 0


def _model_rows(resolved: Resolved, name: str) -> list[list[str]]:
    cfg, record = resolved.preprocessing, resolved.published
    size = cfg['input_size'][-1]
    return [
        ['timm name', resolved.timm_name],
        *(_published_rows(name, record) if record else [['weights', 'none are published']]),
        ['input', f'{"" if resolved.takes_images else f"{resolved.num_frames} frames of "}{size} x {size} pixels'],
        [
            'preprocessing',
            f'short side to {round(size / cfg["crop_pct"])}, {cfg["interpolation"]}, center crop; '
            f'mean {list(cfg["mean"])}, std {list(cfg["std"])}',
        ],
    ]


def _published_rows(name: str, record: catalogue.Checkpoint) -> list[list[str]]:
    path = on_disk(record)
    rows = [['published name', f'{record.name} ({record.zoo})']]
    if record.repo:
        rows += [['on the Hub', f'{record.repo}: {record.safetensors}, or {record.filename}']]
    if record.whole and record.whole != record:
        rows += [['with its decoder', f'{record.whole.timm_name}, of the same file']]
    if record.finetuned and record.finetuned != record.name:
        rows += [['finetuned', f'{record.finetuned}, on ImageNet']]
    title, paper = catalogue.PAPERS.get(record.zoo, ('', ''))
    rows += [
        ['on disk', str(path) if path else f'no, `videozoo download {name}` fetches it'],
        ['parameters', f'{record.num_params:,}'],
        ['classes', f'{record.num_classes} {catalogue.CLASS_NAMES[record.num_classes]}'.strip()],
        ['paper', f'{title} (arXiv:{paper})' if title else '-'],
        ['license of the weights', record.license],
    ]
    return rows + (_header_rows(_header_of(path)) if path else [])


def _generator_rows(generator: catalogue.Generator) -> list[list[str]]:
    rows = [['published name', f'{generator.name} ({generator.zoo}), an image generator']]
    published = (generator.gpt_filename, generator.vqgan_filename)
    for kind, filename, origin, path in zip(
        ('GPT', 'VQGAN'), generator_files(generator), published, parts_on_disk(generator), strict=True
    ):
        rows += [
            [f'{kind} on the Hub', f'{generator.repo}: {filename}, or {origin}'],
            [f'{kind} on disk', str(path) if path else f'no, `videozoo download {generator.name}` fetches it'],
        ]
    grid, (title, paper) = generator.grid_size, catalogue.PAPERS[generator.zoo]
    return [
        *rows,
        ['parameters', f'{generator.num_params:,} of the GPT'],
        ['images', f'256 x 256 pixels, {grid} x {grid} of {generator.vqgan_args["num_codes"]} codes'],
        ['paper', f'{title} (arXiv:{paper})'],
        ['license of the weights', 'not stated by the publisher'],
    ]


def _packaged_rows(generator: catalogue.PackagedGenerator) -> list[list[str]]:
    side, (frames, rows, columns) = generator.img_size, generator.grid_size
    return [
        ['published name', f'{generator.name} ({generator.zoo}), a video generator'],
        ['on disk', str(generator.packaged)],
        ['parameters', f'{generator.num_params:,}'],
        ['videos', f'{generator.num_frames} frames of {side} x {side} pixels'],
        ['codes', f'{frames} x {rows} x {columns} of {generator.num_codes}'],
        ['trained on', 'synthetic moving shapes, by examples/make_gen_shapes.sh'],
        ['license of the weights', 'MIT'],
        *_header_rows(_header_of(generator.packaged)),
    ]


def _file_rows(contents: Contents, resolved: Resolved | None) -> list[list[str]]:
    from .. import models  # noqa: F401 - by these files are recognized

    tensors, said = contents.weights.tensors, contents.header.get('architecture', '')
    if resolved:
        resolved.check()
    return [
        ['file', str(contents.path)],
        ['recognized as', contents.recognized or _VIDEO_PARTS.get(said, 'no model of this package')],
        ['tensors', f'{len(tensors)}, {sum(v.numel() for v in tensors.values()):,} values'],
        *_header_rows(contents.header),
    ]


def _header_of(path: Path) -> dict[str, Any]:
    """As `weights.read_header`, but without NumPy or PyTorch, which safetensors itself needs to open a file."""
    from ..files import check_regular
    from ..weights.header import LARGEST, parse_header

    check_regular(path)
    try:
        with open(path, 'rb') as file:
            size = min(int.from_bytes(file.read(8), 'little'), LARGEST)
            metadata = {key: str(value) for key, value in json.loads(file.read(size)).get('__metadata__', {}).items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f'{path} is no readable safetensors file: delete it, or fetch it anew') from error
    return parse_header(metadata, path)


def _header_rows(header: dict[str, Any]) -> list[list[str]]:
    return [[f'header: {key}', str(value)] for key, value in sorted(header.items())]
