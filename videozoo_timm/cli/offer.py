"""videozoo offer."""

from .. import catalogue
from .base import argument, command, option
from .completion import complete_repository
from .output import complain, echo


@command(
    examples="""
    videozoo offer hvm-1 video-models silicon-menagerie --dry-run
    videozoo offer eminorhan/hvm-1 --to me/hvm-1
"""
)
@argument(
    'names',
    nargs=-1,
    required=True,
    metavar='REPO...',
    shell_complete=complete_repository,
    help='Hub repositories of published models, or zoos, which stand for all of their repositories.',
)
@option('--to', metavar='ORGANIZATION/NAME', help='Upload into this repository instead.')
@option('--dry-run', is_flag=True, help='Only say what would be done.')
def offer(names: tuple[str, ...], to: str | None, dry_run: bool) -> int:
    """Convert every .pth of Hub repositories and upload the .safetensors beside it."""
    from ..publishing import offer_safetensors

    repos = list(
        dict.fromkeys(repo for name in names for repo in (_repos_of(name) if name in catalogue.ZOOS else [name]))
    )
    if to and len(repos) > 1:
        raise ValueError(f'--to {to}: {len(repos)} repositories share names of files; offer one at a time')
    if not repos:
        raise ValueError(f'{", ".join(names)}: nothing of it is on the Hub')
    number = 0
    for repo in repos:
        try:
            skipped = offer_safetensors(repo, to, dry_run=dry_run, say=echo)
        except (FileNotFoundError, PermissionError) as error:
            if len(repos) == 1:
                raise
            skipped = [f'{repo}: {error}']
        for line in skipped:  # at once, as the next one may fail
            complain(line)
        number += len(skipped)
    return 1 if number else 0


def _repos_of(zoo: str) -> list[str]:
    return [r.repo for r in (*catalogue.CHECKPOINTS, *catalogue.GENERATORS) if r.zoo == zoo and r.repo]
