"""videozoo methods."""

from pathlib import Path

from ..text import printable
from .base import argument, command, option
from .output import complain, echo
from .types import FILE


@command(
    examples="""
    videozoo methods features.npz.run.json
    videozoo methods comparison --bibtex > methods.bib
"""
)
@argument(
    'records',
    nargs=-1,
    required=True,
    metavar='RECORD...',
    type=FILE,
    help='Records of runs, RESULT.run.json or run.json in the folder of results; or these results.',
)
@option('--bibtex', is_flag=True, help='Print what is to be cited, as BibTeX, instead.')
def methods(records: tuple[Path, ...], bibtex: bool) -> int:
    """Print the paragraph that a paper needs about runs, from their records.

    It needs no network and none of the data. Read it before you print it: it says what was done, not why.
    """
    from ..records.methods import describe
    from ..records.record import read

    described = describe([read(record)[0] for record in records])
    if bibtex:
        echo('\n\n'.join(described.bibtex))
        return 0
    echo(printable(described.text, lines=True))
    for gap in described.gaps:
        complain(gap)
    return 0
