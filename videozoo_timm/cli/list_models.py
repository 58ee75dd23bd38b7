"""videozoo list."""

import json
from pathlib import Path

from .. import catalogue
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
    """List the published models."""
    if markdown:
        echo(markdown_table(zoo))
        return 0
    rows = []
    for c in catalogue.CHECKPOINTS:
        if zoo in (None, c.zoo):
            path = on_disk(c)
            rows.append(
                dict(
                    name=c.name,
                    zoo=c.zoo,
                    timm_name=c.timm_name,
                    img_size=c.img_size,
                    num_classes=c.num_classes,
                    classes=catalogue.CLASS_NAMES[c.num_classes],
                    parameters=c.num_params,
                    bytes=c.num_bytes,
                    on_disk=str(path) if path else None,
                )
            )
    for g in catalogue.GENERATORS:
        if zoo in (None, g.zoo):
            gpt, vqgan = parts_on_disk(g)
            rows.append(
                dict(
                    name=g.name,
                    zoo=g.zoo,
                    timm_name=None,
                    img_size=256,
                    num_classes=0,
                    classes='generator',
                    parameters=g.num_params,
                    bytes=g.num_bytes,
                    on_disk=str(gpt) if gpt and vqgan else None,
                )
            )
    if as_json:
        echo(json.dumps(rows, indent=2))
        return 0
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
                'yes' if r['on_disk'] else '-',
            ]
            for r in rows
        ],
    )
    return 0


def on_disk(record: catalogue.Checkpoint) -> Path | None:
    """The safetensors file of a checkpoint, if it is on this machine."""
    return record.packaged or _cached(record.repo, record.safetensors)


def parts_on_disk(record: catalogue.Generator) -> tuple[Path | None, Path | None]:
    """The same of a generator's GPT and VQGAN."""
    gpt, vqgan = (_cached(record.repo, filename) for filename in generator_files(record))
    return gpt, vqgan


def generator_files(record: catalogue.Generator) -> list[str]:
    """The safetensors files of a generator's GPT and VQGAN in its repository."""
    return [f'{published.rsplit(".", 1)[0]}.safetensors' for published in (record.gpt_filename, record.vqgan_filename)]


def _cached(repo: str, filename: str) -> Path | None:
    from ..weights import Source, cached

    return cached(Source(repo=repo, filename=filename))


def markdown_table(zoo: str | None = None) -> str:
    """The table of the README."""
    lines = ['| name | zoo | timm name | px | classes | parameters | GB |', '|---|---|---|---|---|---|---|']
    lines += [
        f'| `{c.name}` | {c.zoo} | `{c.timm_name}` | {c.img_size} '
        f'| {f"{c.num_classes} {catalogue.CLASS_NAMES[c.num_classes]}" if c.num_classes else "-"} '
        f'| {_millions(c.num_params)} | {gigabytes(c.num_bytes)} |'
        for c in catalogue.CHECKPOINTS
        if zoo in (None, c.zoo)
    ]
    lines += [
        f'| `{g.name}` | {g.zoo} | - | 256 | generator | {_millions(g.num_params)} | {gigabytes(g.num_bytes)} |'
        for g in catalogue.GENERATORS
        if zoo in (None, g.zoo)
    ]
    return '\n'.join(lines)


def _millions(number: int) -> str:
    return f'{number / 1e6:.0f}M' if number >= 1e8 else f'{number / 1e6:.1f}M'


def gigabytes(number: int) -> str:
    return f'{number / 1e9:.2f}' if number >= 1e7 else f'{number / 1e9:.3f}'
