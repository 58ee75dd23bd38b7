"""videozoo pin."""

from .. import catalogue
from .base import argument, command, option
from .completion import complete_model
from .options import zoo_option
from .output import ERRORS, complain, echo, worded


@command(
    examples="""
    videozoo pin vit_hvm1_none
    videozoo pin --zoo hvm-1
"""
)
@argument(
    'names',
    nargs=-1,
    metavar='[NAME]...',
    shell_complete=complete_model,
    help='Published names or timm names; all if none is given.',
)
@zoo_option()
@option('--force', is_flag=True, help='Replace digests that are known and differ.')
def pin(names: tuple[str, ...], zoo: str | None, force: bool) -> int:
    """Record the digests of published files in this package's data."""
    from ..identity import resolve
    from ..weights import published_digests

    names = names or tuple(catalogue.available_models(zoo))
    sources = {
        (source.repo, source.filename): source
        for name in names
        for source in resolve(name, zoo=zoo).sources()
        if source.repo
    }
    if not sources:
        raise ValueError(f'{", ".join(names)}: comes with this package, whose SHA256SUMS holds its digest')
    skipped = 0
    for (repo, filename), source in sources.items():
        try:
            found = published_digests(source, say=echo)
            known = catalogue.digests_of(repo)
            other = [name for name, digest in found.items() if known.get(name, digest) != digest]
            if other and not force:
                raise ValueError(
                    f'the Hub says {found[other[0]]} of {other[0]}, known is {known[other[0]]}; --force replaces it'
                )
            catalogue.pin(repo, found)
        except ERRORS as error:
            complain(f'{filename} of {repo}: {worded(error)}')
            skipped += 1
            continue
        for name, digest in found.items():
            echo(f'{digest}  {repo}/{name}')
    return 2 if skipped == len(sources) else 1 if skipped else 0
