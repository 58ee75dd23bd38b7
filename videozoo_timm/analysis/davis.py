"""The folders of DAVIS 2017: `JPEGImages/480p/VIDEO`, `Annotations/480p/VIDEO`, `ImageSets/2017/val.txt`."""

import os
from collections.abc import Iterator
from pathlib import Path

import torch

from ..figures.indexed import IndexedImage, read_indexed
from ..files import check_regular
from ..paths import as_path
from ..video import read_image

__all__ = ['DavisFolder']

_RESOLUTION = '480p'


class DavisFolder:
    """A folder with the layout of DAVIS 2017.

    Args:
        path: The folder that holds `JPEGImages`.

    Raises:
        FileNotFoundError: It holds no `JPEGImages/480p`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = as_path(path)
        self.images, self.annotations = (self.path / name / _RESOLUTION for name in ('JPEGImages', 'Annotations'))
        if not self.images.is_dir():
            raise FileNotFoundError(
                f'{self.path}: holds no folder JPEGImages/{_RESOLUTION}, with a folder of frames for each video, as '
                f'DAVIS 2017 has it'
            )

    def videos(self, split: str = 'val') -> list[str]:
        """The names in `ImageSets/2017/SPLIT.txt`, each once.

        Raises:
            FileNotFoundError: There is no such list.
            ValueError: It is empty, or a name is no name of a folder.
        """
        path = self.path / 'ImageSets' / '2017' / f'{split}.txt'
        if not path.is_file():
            there = ', '.join(sorted(other.stem for other in path.parent.glob('*.txt')))
            raise FileNotFoundError(f'{path}: no such list of videos; there are: {there or "none"}')
        check_regular(path)
        names = list(dict.fromkeys(line.strip() for line in path.read_text(errors='replace').splitlines()))
        names = [name for name in names if name]
        for name in names:
            if name in ('.', '..') or '/' in name or '\\' in name:
                raise ValueError(f'{path}: {name!r} is not the name of a video')
        if not names:
            raise ValueError(f'{path}: names no video')
        return names

    def frames(self, video: str) -> list[Path]:
        """The frames of a video in order.

        Raises:
            FileNotFoundError: There are none.
        """
        folder = self.images / video
        paths = sorted(folder.glob('*.jpg'))
        if not paths:
            raise FileNotFoundError(f'{folder}: {"holds no .jpg" if folder.is_dir() else "no such video"}')
        return paths

    def annotation(self, video: str, frame: Path) -> IndexedImage | None:
        """The annotation of a frame; None if it has none.

        Raises:
            ValueError: It is no indexed PNG.
        """
        path = self.annotations / video / f'{frame.stem}.png'
        return read_indexed(path) if path.exists() else None

    def first_annotation(self, video: str) -> IndexedImage:
        """The annotation of the first frame.

        Raises:
            FileNotFoundError: It has none.
            ValueError: It is no indexed PNG.
        """
        first = self.frames(video)[0]
        annotation = self.annotation(video, first)
        if annotation is None:
            raise FileNotFoundError(
                f'{self.annotations / video / first.stem}.png: no such file; the first frame needs it'
            )
        return annotation

    def images_of(self, video: str) -> Iterator[torch.Tensor]:
        """The frames one after the other, uint8 [H, W, 3].

        Raises:
            FileNotFoundError, VideoError: A frame cannot be read.
        """
        for path in self.frames(video):
            yield read_image(path)[0]
