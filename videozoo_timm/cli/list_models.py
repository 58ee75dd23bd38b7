"""videozoo list."""

import json
from itertools import groupby
from pathlib import Path
from typing import Any

from .. import catalogue
from ..identity import in_cache, on_disk
from .base import command, option
from .options import json_option, zoo_option
from .output import echo, table


@command(
    'list',
    examples="""
    videozoo list
    videozoo list --zoo hvm-1 --json
""",
)
@zoo_option('List only the models of this zoo.')
@json_option('Print the list as JSON.')
@option(
    '--markdown', is_flag=True, instead_of='--json', help='Print the list as a Markdown table, without what is on disk.'
)
def list_models(zoo: str | None, as_json: bool, markdown: bool) -> int:
    """List the published models.

    Those of a series stand in one line, unless --zoo names a zoo or --json is given.
    """
    if markdown:
        echo(markdown_table(zoo))
        return 0
    rows = [_row(record) for record in _records(zoo)]
    if as_json:
        echo(json.dumps([{k: v for k, v in row.items() if k != 'series'} for row in rows], indent=2))
        return 0
    shown = rows if zoo else _grouped(rows)
    table(
        ['name', 'zoo', 'timm name', 'px', 'classes', 'GB', 'on disk'],
        [
            [
                r['name'],
                r['zoo'],
                r['timm_name'] or '-',
                str(r['img_size']),
                f'{r["num_classes"] or ""} {r["classes"]}'.strip() or '-',
                gigabytes(r['bytes']),
                str(r['on_disk'] or '-') if r.get('number') else 'yes' if r['on_disk'] else '-',
            ]
            for r in shown
        ],
    )
    if not zoo:
        echo(f'\n*_* is the fraction of the video and the random seed: {_SERIES}.')
        echo('`videozoo list --zoo humanlike-vits` lists each of these models.')
    return 0


Record = catalogue.Checkpoint | catalogue.Generator | catalogue.PackagedGenerator


def _records(zoo: str | None) -> list[Record]:
    every = (*catalogue.CHECKPOINTS, *catalogue.GENERATORS, *catalogue.video_generators())
    return [r for r in every if zoo in (None, r.zoo)]


def _row(record: Record) -> dict[str, Any]:
    """What is told of a model; `series` is None of one that belongs to none."""
    if isinstance(record, catalogue.PackagedGenerator):
        timm_name, img_size, num_classes, path = None, record.img_size, 0, record.packaged
        classes, series = 'generator', None
    elif isinstance(record, catalogue.Generator):
        gpt, vqgan = parts_on_disk(record)
        timm_name, img_size, num_classes, path = None, 256, 0, gpt if gpt and vqgan else None
        classes, series = 'generator', None
    else:
        timm_name, img_size, num_classes, path = record.timm_name, record.img_size, record.num_classes, on_disk(record)
        classes, series = catalogue.CLASS_NAMES[num_classes], record.series or None
    return dict(
        name=record.name,
        zoo=record.zoo,
        timm_name=timm_name,
        img_size=img_size,
        num_classes=num_classes,
        classes=classes,
        parameters=record.num_params,
        bytes=record.num_bytes,
        on_disk=str(path) if path else None,
        series=series,
    )


_SERIES = ', '.join(f'{fraction}_{seed}' for fraction, seeds in catalogue.humanlike.SEEDS.items() for seed in seeds)


def _grouped(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, those of a series as one, whose names hold a * for fraction and seed."""
    shown = []
    for series, group in groupby(rows, key=lambda row: row['series']):
        members = list(group)
        if series is None:
            shown += members
            continue
        first, number = members[0], len(members)
        size, _, _, *ending = first['name'].split('_')
        here = sum(row['on_disk'] is not None for row in members)
        shown.append(
            first
            | dict(
                name='_'.join((size, '*', '*', *ending)),
                timm_name=first['timm_name'].replace('_1_0_1', '_*'),
                on_disk=f'{here} of {number}' if here else None,
                number=number,
            )
        )
    return shown


def parts_on_disk(record: catalogue.Generator) -> tuple[Path | None, Path | None]:
    """The same of a generator's GPT and VQGAN."""
    gpt, vqgan = (in_cache(record.repo, filename) for filename in generator_files(record))
    return gpt, vqgan


def generator_files(record: catalogue.Generator) -> list[str]:
    """The safetensors files of a generator's GPT and VQGAN in its repository."""
    return [f'{published.rsplit(".", 1)[0]}.safetensors' for published in (record.gpt_filename, record.vqgan_filename)]


def markdown_table(zoo: str | None = None, every: bool = False) -> str:
    """The models as a table; a series is a row of it, unless a zoo is named or `every` name is asked for."""
    lines = ['| name | zoo | timm name | px | classes | parameters | GB |', '|---|---|---|---|---|---|---|']
    rows = [_row(record) for record in _records(zoo)]
    for row in rows if zoo or every else _grouped(rows):
        timm_name = f'`{row["timm_name"]}`' if row['timm_name'] else '-'
        classes = f'{row["num_classes"] or ""} {row["classes"]}'.strip() or '-'
        number = f' ({row["number"]} models)' if 'number' in row else ''
        lines.append(
            f'| `{row["name"]}`{number} | {row["zoo"]} | {timm_name} | {row["img_size"]} | {classes} '
            f'| {_millions(row["parameters"])} | {gigabytes(row["bytes"])} |'
        )
    return '\n'.join(lines)


def _millions(number: int) -> str:
    return f'{number / 1e6:.0f}M' if number >= 1e8 else f'{number / 1e6:.1f}M'


def gigabytes(number: int) -> str:
    return f'{number / 1e9:.2f}' if number >= 1e7 else f'{number / 1e9:.3f}'
