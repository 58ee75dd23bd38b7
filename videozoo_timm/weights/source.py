"""Where weights are, and where this package keeps them."""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Source:
    """Where weights are: a local file, or a file in a Hub repository.

    Attributes:
        file: Local file, published or converted layout, or a folder that holds one; `repo` is ignored then.
        repo: Hub repository, `organization/name`, with `@revision` appended if needed.
        filename: The safetensors file in it; the published pickle beside it has the same stem.
        cache_dir: Another cache for downloads and conversions.
        published: The published pickle in it, if its name has another ending than `.pth`.
        label: What the user calls it, for messages.
        about: Header fields of the converted file: name, architecture, input_size, mean, std.
        digests: The known sha256 of files in the repository, by name; a file with another one is refused.
        series: The safetensors files of a series of which nobody could check what the Hub has, by what the user calls
            them; an error of one that is not there names those that are on this machine.

    Raises:
        ValueError: `repo`, `filename` or `published` could name something outside of the repository.
    """

    file: Path | None = None
    repo: str = ''
    filename: str = ''
    cache_dir: str | Path | None = None
    published: str = ''
    label: str = ''
    about: Mapping[str, Any] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    series: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.file is None:
            for name in ('repo', 'filename', 'published'):
                _check_relative(name, getattr(self, name))

    @property
    def converted(self) -> Path:
        """Where this package keeps its own conversion of the published file."""
        folder = self.repo.replace('/', '--')
        if folder.replace('--', '/') != self.repo:  # 'a--b/c' would have the place of 'a/b--c'
            folder += f'~{hashlib.sha256(self.repo.encode()).hexdigest()[:32]}'  # no repository's name has a ~
        return cache_root(self.cache_dir) / folder / self.filename

    @property
    def pickles(self) -> list[str]:
        """What the published pickle may be called."""
        if self.published:
            return [self.published]
        stem = self.filename.rsplit('.', 1)[0]
        return ['pytorch_model.bin', 'model.pth'] if self.filename == 'model.safetensors' else [f'{stem}.pth']


def cache_root(cache_dir: str | Path | None = None) -> Path:
    """The package's own cache: `VIDEOZOO_CACHE`, by default `videozoo` inside `HF_HOME`."""
    from huggingface_hub.constants import HF_HOME

    if cache_dir is not None:
        return Path(cache_dir) / 'videozoo'
    return Path(os.environ.get('VIDEOZOO_CACHE') or Path(HF_HOME) / 'videozoo').expanduser()


def _check_relative(field_name: str, name: Any) -> None:
    """Refuse a name that is a path out of its repository, on any system."""
    if name == '':
        return
    parts = re.split('[/@]' if field_name == 'repo' else '/', name) if isinstance(name, str) else ['']
    # Backslashes and drive letters are paths on Windows; a ~ is told apart in `converted`, and is no name of the Hub's.
    if any(part.strip('. ') == '' or re.search(r'[\\:~]', part) or not part.isprintable() for part in parts):
        raise ValueError(
            f'{field_name}={name!r}: must be the plain name of a Hub repository or of a file in it, without .., empty '
            f'parts, backslashes, colons, ~ and control characters; a local file is named by `file`'
        )
