"""videozoo download."""

from .base import argument, command, option
from .completion import complete_model
from .options import zoo_option
from .output import ERRORS, complain, echo, worded
from .types import Number


@command(
    examples="""
    videozoo download vit_hvm1_none vit_say_none
    videozoo download vit_kinetics_none --zoo hvm-1
"""
)
@argument(
    'names',
    nargs=-1,
    required=True,
    metavar='NAME...',
    shell_complete=complete_model,
    help='Published names or timm names.',
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
    sources = [(name, source) for name in names for source in resolve(name, zoo=zoo).sources()]
    skipped = unchecked = 0
    for name, source in sources:
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
