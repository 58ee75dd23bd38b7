"""The known digests of published files."""

import json
from collections.abc import Mapping
from functools import lru_cache

from .zoos import PACKAGED

_DIGESTS = PACKAGED / 'digests.json'  # {repository: {file: sha256}}; `videozoo pin` fills it


@lru_cache(maxsize=1)
def _pinned() -> dict[str, dict[str, str]]:
    return json.loads(_DIGESTS.read_text())


def digests_of(repo: str | None) -> dict[str, str]:
    """The known sha256 of published files of a Hub repository, by their names; none are known of other revisions."""
    return dict(_pinned().get(repo, {})) if repo else {}


def pin(repo: str, digests: Mapping[str, str]) -> None:
    """Record the sha256 of published files in this package's own data.

    Raises:
        OSError: The data cannot be written.
    """
    from ..files import atomic_write  # here, as nothing else in this module needs it

    known = json.loads(_DIGESTS.read_text())
    known.setdefault(repo, {}).update(digests)
    with atomic_write(_DIGESTS) as partial:
        partial.write_text(json.dumps(known, indent=2, sort_keys=True) + '\n')
    _pinned.cache_clear()
