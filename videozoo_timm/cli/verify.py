"""videozoo verify."""

import hashlib
from pathlib import Path

from .. import catalogue
from ..paths import not_found
from .base import argument, command
from .completion import complete_model_or_file
from .options import zoo_option
from .output import echo


@command(
    examples="""
    videozoo verify vit_hvm1_none
    videozoo verify out.safetensors
"""
)
@argument(
    'name',
    shell_complete=complete_model_or_file,
    help='Published name, timm name, or a file that `videozoo convert` wrote.',
)
@zoo_option()
def verify(name: str, zoo: str | None) -> int:
    """Compare a converted file with its source: every tensor, and the digests."""
    from ..identity import resolve
    from ..weights import verify as compare

    path = Path(name)
    if path.suffix == '.safetensors' and not path.is_file():
        raise not_found(name, 'file')
    sources = [] if path.is_file() else resolve(name, zoo=zoo).sources()
    files = [path.resolve()] if path.is_file() else [source.file for source in sources]
    packaged = [file for file in files if file and file.resolve().parent == catalogue.PACKAGED.resolve()]
    if packaged:
        lines = _verify_packaged(packaged[0])
    elif path.is_file():
        lines = _verify_file(path)
    else:
        lines = [line for source in sources for line in compare(source)]
    for line in lines:
        echo(line)
    echo(f'{name}: verified')
    return 0


def _verify_file(path: Path) -> list[str]:
    from ..weights import Source, read_header
    from ..weights import verify as compare

    header = read_header(path)
    made_from = header.get('source')
    if not made_from:
        raise ValueError(f'{path} does not say what it was made from')
    # Version 0.1.0 wrote whole paths; a bare name is that of a file beside the converted one, or beside the user.
    beside = [path.parent / Path(made_from).name, Path(Path(made_from).name)]
    source = next((p for p in (Path(made_from), *beside) if p.is_file() and p.resolve() != path.resolve()), None)
    if source:
        return compare(Source(file=source), path)
    if 'content_sha256' not in header:
        raise FileNotFoundError(f'{path} was made from {made_from}, which is not there')
    return [*compare(None, path), f'{made_from}, which it was made from, is not here to compare with']


def _verify_packaged(path: Path) -> list[str]:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    lines = [line.split() for line in (path.parent / 'SHA256SUMS').read_text().splitlines()]
    digests = {name: known for known, name in lines}
    if digest != digests[path.name]:
        raise ValueError(f'{path} is damaged: its sha256 is {digest}, not {digests[path.name]}; reinstall the package')
    return [f'sha256 {digest} of {path}, which comes with this package']
