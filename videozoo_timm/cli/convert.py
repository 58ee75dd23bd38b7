"""videozoo convert."""

from pathlib import Path

from .. import catalogue
from .base import argument, command, option
from .completion import complete_model
from .list_models import gigabytes
from .options import DTYPES, zoo_option
from .output import echo
from .types import FILE, Choice


@command(
    examples="""
    videozoo convert hvm1_none.pth vit_hvm1_none.safetensors --model vit_hvm1_none
    videozoo convert mine.pth mine.safetensors --dtype float16
"""
)
@argument('source', metavar='IN', type=FILE, help='.pth or .safetensors.')
@argument('target', metavar='OUT', type=FILE, help='.safetensors to write.')
@option(
    '--model',
    metavar='NAME',
    shell_complete=complete_model,
    help='Published name or timm name of the model; recorded in the file.',
)
@zoo_option()
@option(
    '--dtype',
    type=Choice(DTYPES),
    show_default='as they are',
    help='Data type of the tensors; a model is float32 again once loaded.',
)
@option('--force', is_flag=True, help='Replace OUT if it exists.')
def convert(source: Path, target: Path, model: str | None, zoo: str | None, dtype: str | None, force: bool) -> int:
    """Convert a published checkpoint to safetensors."""
    import torch

    from .. import models  # noqa: F401 - by these files are recognized
    from ..contents import Contents, serves
    from ..identity import generator_source, resolve
    from ..outputs import Output
    from ..weights import convert as convert_file
    from ..weights import read_weights

    output = Output(target, 'target')
    output.check_file(('.safetensors',))
    output.refuse_existing(force)
    if target.exists() and target.samefile(source):
        raise ValueError(f'{source} cannot be converted onto itself')
    contents = Contents(source, mapped=True)
    of_this_file = ('format', 'source', 'source_sha256', 'content_sha256')
    about = {k: v for k, v in contents.header.items() if k not in of_this_file}
    if model is not None:
        resolved = resolve(model, contents, zoo)
        if isinstance(resolved.record, catalogue.Generator):
            about = dict(generator_source(resolved.record, contents.part_of(resolved.record)).about)
        else:
            resolved.check()
            if not serves(contents.recognized, resolved.architecture):
                raise ValueError(f'{source} is not {model}: its tensors are those of no model of this package')
            if resolved.tag:
                told = {k: v for k, v in about.items() if k == 'label_names'}
                about = told | dict(resolved.sources()[0].about)
            else:
                about = {k: resolved.preprocessing[k] for k in ('mean', 'std')} | about
    architecture = contents.recognized
    about.update(architecture=architecture, input_size=about.get('input_size') or contents.input_size)
    convert_file(source, target, about, dtype=getattr(torch, dtype) if dtype else None, sealed=True)
    num_tensors, size = len(read_weights(target, mapped=True).tensors), target.stat().st_size
    echo(f'{target}: {num_tensors} tensors, {gigabytes(size)} GB, {architecture or "no architecture of this package"}')
    return 0
