"""videozoo convert."""
from pathlib import Path

from .. import catalogue
from .completion import complete_model
from .list_models import gigabytes
from .options import DTYPES, argument, command, option, zoo_option
from .output import echo
from .types import FILE, Choice


@command(examples='''
    videozoo convert hvm1_none.pth vit_hvm1_none.safetensors --model vit_hvm1_none
    videozoo convert mine.pth mine.safetensors --dtype float16
''')
@argument('source', metavar='IN', type=FILE, help='.pth or .safetensors.')
@argument('target', metavar='OUT', type=FILE, help='.safetensors to write.')
@option('--model', metavar='NAME', shell_complete=complete_model,
        help='Published name or timm name of the model; recorded in the file.')
@zoo_option()
@option('--dtype', type=Choice(DTYPES), show_default='as they are',
        help='Data type of the tensors; a model is float32 again once loaded.')
@option('--force', is_flag=True, help='Replace OUT if it exists.')
def convert(source: Path, target: Path, model: str | None, zoo: str | None, dtype: str | None, force: bool) -> int:
    """Convert a published checkpoint to safetensors."""
    import torch
    from timm.models import get_pretrained_cfg

    from ..factory import (
        check_weights,
        find_source,
        generator_source,
        input_size_of,
        part_in,
        recognise,
        serves,
        timm_name_of,
    )
    from ..weights import convert as convert_file
    from ..weights import read_weights
    if target.suffix != '.safetensors':
        raise ValueError(f'{target}: OUT must end in .safetensors')
    if not target.parent.is_dir():
        raise ValueError(f'{target}: there is no folder {target.parent}')
    if target.exists() and not force:
        raise ValueError(f'{target} exists; --force replaces it')
    if target.exists() and target.samefile(source):
        raise ValueError(f'{source} cannot be converted onto itself')
    weights = read_weights(source, mapped=True)
    of_this_file = ('format', 'source', 'source_sha256', 'content_sha256')
    about = {k: v for k, v in weights.header.items() if k not in of_this_file}
    generator = model and catalogue.find_generator(model, zoo)
    if generator:
        about = dict(generator_source(generator, part_in(generator, weights, str(source))).about)
    elif model:
        timm_name = timm_name_of(model, zoo)
        check_weights(weights, str(source), timm_name)
        cfg = get_pretrained_cfg(timm_name)
        if '.' in timm_name:
            about = {k: v for k, v in about.items() if k == 'label_names'} | dict(find_source(timm_name).about)
        else:
            about = dict(mean=cfg.mean, std=cfg.std) | about
    architecture = recognise(weights.tensors)
    if model and not generator and not serves(architecture, cfg.architecture):
        raise ValueError(f'{source} is not {model}: its tensors are those of no model of this package')
    about.update(architecture=architecture, input_size=about.get('input_size') or input_size_of(weights.tensors))
    convert_file(source, target, about, dtype=getattr(torch, dtype) if dtype else None)
    num_tensors, size = len(read_weights(target, mapped=True).tensors), target.stat().st_size
    echo(f'{target}: {num_tensors} tensors, {gigabytes(size)} GB, '
         f'{architecture or "no architecture of this package"}')
    return 0
