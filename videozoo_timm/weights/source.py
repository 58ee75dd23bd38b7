"""Where weights are, and where this package keeps them."""
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Source:
    """Where weights are: a local file, or a file of a Hub repository.

    Attributes:
        file: Local file, published or converted layout, or a folder that holds one; `repo` is ignored then.
        repo: Hub repository, `organisation/name`, with `@revision` behind it if need be.
        filename: The safetensors file in it; the published pickle beside it has the same stem.
        cache_dir: Another cache for downloads and conversions.
        published: The published pickle in it, if its name has another ending than `.pth`.
        label: What the user calls it, for messages.
        about: What a converted file's header shall say: name, architecture, input_size, mean, std.
    """
    file: Path | None = None
    repo: str = ''
    filename: str = ''
    cache_dir: str | Path | None = None
    published: str = ''
    label: str = ''
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def converted(self) -> Path:
        """Where this package keeps its own conversion of the published file."""
        return cache_root(self.cache_dir) / self.repo.replace('/', '--') / self.filename

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
