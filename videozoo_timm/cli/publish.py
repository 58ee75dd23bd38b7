"""videozoo publish."""

from pathlib import Path
from typing import Any

from .. import catalogue
from .base import argument, command, option
from .completion import complete_model
from .options import DTYPES, folder_option, zoo_option
from .output import complain, echo, flag
from .types import FILE, Choice


@command(
    examples="""
    videozoo publish vit_shapes_motion --to me/shapes --dry-run --out to-upload
    videozoo publish --weights finetuned/best.safetensors --to me/mine --license mit
    videozoo publish vit_shapes_motion --brainscore brainscore_vision/models/vit_shapes_motion
"""
)
@argument(
    'name',
    required=False,
    metavar='[NAME]',
    shell_complete=complete_model,
    help='Published name or timm name; with --weights, of the model in that file.',
)
@zoo_option()
@option('--weights', type=FILE, metavar='FILE', help='Local checkpoint, .pth or .safetensors.')
@option('--to', metavar='ORGANIZATION/NAME', help='Hub repository; created if necessary.')
@folder_option(
    '--brainscore', help='Instead, write the folder by which Brain-Score loads a published model; upload nothing.'
)
@option('--private', is_flag=True, help='Make a new repository private.')
@option('--dtype', type=Choice(DTYPES), help='Data type of the tensors in the file.')
@option('--dry-run', is_flag=True, help='Write the folder and upload nothing.')
@folder_option(
    '--out', show_default='with --dry-run the NAME of --to, otherwise a temporary one', help='Folder to write and keep.'
)
@option(
    '--license',
    metavar='LICENSE',
    help='License of the weights, as the Hub spells it, for instance mit or cc-by-4.0; needed where it is not known.',
)
@option(
    '--force',
    is_flag=True,
    help='Replace the model that is in --out or in the repository, or the folder of --brainscore.',
)
def publish(
    name: str | None,
    zoo: str | None,
    weights: Path | None,
    to: str | None,
    brainscore: Path | None,
    private: bool,
    dtype: str | None,
    dry_run: bool,
    out: Path | None,
    license: str | None,
    force: bool,
) -> int:
    """Export a model with a model card, and upload it to the Hub; or write a plugin for Brain-Score."""
    if brainscore is not None:
        others = {'--to': to, '--weights': weights, '--private': private, '--dtype': dtype, '--dry-run': dry_run}
        others |= {'--out': out, '--license': license}
        return _write_plugin(name, zoo, brainscore, force, [flag for flag, value in others.items() if value])
    if to is None:
        raise ValueError('say where to: --to ORGANIZATION/NAME is a repository of the Hub, --brainscore DIR a folder')
    return _upload(name, zoo, weights, to, private, dtype, dry_run, out, license, force)


def _write_plugin(name: str | None, zoo: str | None, folder: Path, force: bool, others: list[str]) -> int:
    if others:
        raise ValueError(
            f'{others[0]} is of models for the Hub, and --brainscore uploads nothing: leave one of them out'
        )
    if name is None:
        raise ValueError('name the published model that Brain-Score shall load')
    from ..adapters.brainscore import write_brainscore_plugin
    from ..errors import UserError

    try:
        written = write_brainscore_plugin(name, folder, zoo=zoo, force=force)
    except UserError as error:
        raise ValueError(error.spelled(_in_plugin)) from error
    files = ', '.join(sorted(path.name for path in written.iterdir()))
    echo(f'{written}: {files}')
    return 0


def _in_plugin(name: str, value: Any) -> str:
    return '--brainscore' if name == 'folder' else flag(name, value)


def _upload(
    name: str | None,
    zoo: str | None,
    weights: Path | None,
    to: str,
    private: bool,
    dtype: str | None,
    dry_run: bool,
    out: Path | None,
    license: str | None,
    force: bool,
) -> int:
    import tempfile

    import torch
    from huggingface_hub.utils import validate_repo_id

    from ..contents import Contents
    from ..factory import build
    from ..identity import resolve
    from ..publishing import check_folder, check_license, check_login, export, upload
    from ..weights import read_header

    if name is None and weights is None:
        raise ValueError('name a model, or a file with --weights')
    if to.count('/') != 1 or not all(to.split('/')):
        raise ValueError(f'--to {to}: must be ORGANIZATION/NAME')
    validate_repo_id(to)
    if not dry_run:
        check_login(to)
    contents = Contents(weights) if weights is not None else None
    resolved = resolve(name, contents, zoo)
    if resolved.is_generator:
        raise ValueError(f'{resolved.name} is {resolved.kind}, which timm has no format for')
    record = resolved.record if contents is None else contents.record or resolved.record
    labels = contents.header.get('label_names') if contents else None
    claim = record.timm_name if isinstance(record, catalogue.Checkpoint) else None
    if license is None:  # before gigabytes are loaded
        check_license(record if isinstance(record, catalogue.Checkpoint) else None)
    with tempfile.TemporaryDirectory() as temporary:
        folder = out or Path(to.split('/')[1] if dry_run else f'{temporary}/model')
        check_folder(folder, force)
        model: Any = build(resolved)
        folder = export(
            model,
            folder,
            to,
            name=claim,
            label_names=labels,
            license=license,
            dtype=getattr(torch, dtype) if dtype else None,
            force=force,
            require_license=True,
        )
        published = claim if read_header(folder / 'model.safetensors').get('name') else None
        called = published or model.pretrained_cfg['architecture']
        if dry_run or out:
            files = ', '.join(sorted(path.name for path in folder.iterdir()))
            echo(f'{folder}: {called}, {files}' + ('; nothing is uploaded' if dry_run else ''))
        if not dry_run:
            url = upload(folder, to, private=private, force=force, say=complain)
            echo(f'{url}: {called}')
    return 0
