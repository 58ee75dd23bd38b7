"""videozoo download."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .. import catalogue
from ..text import counted
from .base import argument, command, option
from .completion import complete_model_or_zoo
from .list_models import gigabytes
from .options import zoo_option
from .output import ERRORS, complain, echo, worded
from .types import Number

if TYPE_CHECKING:
    from ..weights import Source


@command(
    examples="""
    videozoo download vit_hvm1_none vit_say_none
    videozoo download vit_kinetics_none --zoo hvm-1
    videozoo download silicon-menagerie
    videozoo download 'vitb14_*_*'
"""
)
@argument(
    'names',
    nargs=-1,
    required=True,
    metavar='NAME...',
    shell_complete=complete_model_or_zoo,
    help='Published names or timm names; a zoo stands for all its models, `all` for those of every zoo, a pattern as '
    "'vitb14_*_*', quoted, for those whose names match.",
)
@zoo_option()
@option(
    '--patience',
    type=Number(0.1),
    metavar='SECONDS',
    show_default='VIDEOZOO_PATIENCE, or 60',
    help='Give up on a Hub that makes no progress for this long.',
)
def download(names: tuple[str, ...], zoo: str | None, patience: float | None) -> int:
    """Download models, and update those that their publisher has replaced or that are damaged."""
    from ..identity import resolve
    from ..weights import cached, locate

    # A typo stops here, before any download.
    wanted = [(name, source) for name, zoo in _models(names, zoo) for source in resolve(name, zoo=zoo).sources()]
    sources: dict[Any, tuple[str, Source]] = {}  # models share files: a ViT and its MAE, generators their VQGAN
    for name, source in wanted:
        sources.setdefault(source.file or (source.repo, source.filename), (name, source))
    skipped = unchecked = 0
    for name, source in sources.values():
        try:
            echo(f'{name}: {locate(source, refresh=True, say=echo, patience=patience)}')
        except ERRORS as error:
            path = cached(source) if isinstance(error, ConnectionError) else None
            if path:
                complain(f'{name}: is on this machine ({path}), but was not compared with the Hub: {worded(error)}')
                unchecked += 1
                continue
            complain(f'{name}: {worded(error)}')
            skipped += 1
    return 2 if skipped == len(sources) else 1 if skipped or unchecked else 0


def _models(names: Sequence[str], zoo: str | None) -> Iterator[tuple[str, str | None]]:
    """Names of models, and the zoo of each; what a zoo or a pattern stands for is told before."""
    for name in names:
        is_pattern = any(character in name for character in '*?[')
        if name != 'all' and name not in catalogue.ZOOS and not is_pattern:
            yield name, zoo
            continue
        every = (*catalogue.CHECKPOINTS, *catalogue.GENERATORS, *catalogue.video_generators())
        records = [record for record in every if zoo in (None, record.zoo)]
        if is_pattern:
            matching = catalogue.matching([name], zoo, generators=True)
            records = [record for record in records if record.name in matching]
        elif name != 'all':
            records = [record for record in records if record.zoo == name]
        if not records:
            raise ValueError(f'{name} has no models of the zoo {zoo}')
        files = {(r.repo, getattr(r, 'safetensors', r.name)): r.num_bytes for r in records}
        echo(f'{name}: {counted(len(records), "model")}, at most {gigabytes(sum(files.values()))} GB')
        yield from ((record.name, record.zoo) for record in records)
