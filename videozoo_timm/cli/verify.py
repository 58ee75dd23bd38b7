"""videozoo verify."""
import hashlib
from pathlib import Path

from .. import catalogue
from .completion import complete_model_or_file
from .options import argument, command, zoo_option
from .output import echo


@command(examples='''
    videozoo verify vit_hvm1_none
    videozoo verify out.safetensors
''')
@argument('name', shell_complete=complete_model_or_file,
          help='Published name, timm name, or a file that `videozoo convert` wrote.')
@zoo_option()
def verify(name: str, zoo: str | None) -> int:
    """Compare a converted file with its source: every tensor, and the digests."""
    from ..factory import find_sources
    from ..weights import Source, read_header
    from ..weights import verify as compare
    path = Path(name)
    if path.suffix == '.safetensors' and not path.is_file():
        raise FileNotFoundError(f'no file {path}')
    record = (
        catalogue.packaged_as(str(path.resolve())) if path.is_file() else
        catalogue.find_generator(name, zoo) or catalogue.find(name, zoo))
    if isinstance(record, catalogue.Checkpoint) and record.packaged:
        lines = _verify_packaged(record.packaged)
    elif path.is_file():
        made_from = read_header(path).get('source')
        if not made_from:
            raise ValueError(f'{path} does not say what it was made from')
        if not Path(made_from).is_file():
            raise FileNotFoundError(f'{path} was made from {made_from}, which is not there')
        lines = compare(Source(file=Path(made_from)), path)
    else:
        lines = [line for source in find_sources(name, zoo) for line in compare(source)]
    for line in lines:
        echo(line)
    echo(f'{name}: verified')
    return 0


def _verify_packaged(path: Path) -> list[str]:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    digests = dict(reversed(line.split()) for line in (path.parent / 'SHA256SUMS').read_text().splitlines())
    if digest != digests[path.name]:
        raise ValueError(
            f'{path} is damaged: its sha256 is {digest}, not {digests[path.name]}; reinstall the package')
    return [f'sha256 {digest} of {path}, which comes with this package']
