"""Folders of numbered images that are read as videos: `FOLDER:frames@15` at 15 frames a second, `FOLDER:frames` at 30.

The path itself says so: a folder does not tell a film's frames from pictures that happen to be numbered, nor how fast
they follow each other. And a path goes wherever that of a video file goes, other processes included.
"""

import os
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch

from ..paths import not_found
from ..text import counted
from .checks import VideoError
from .finding import IMAGE_EXTENSIONS, is_ours, split_sequence
from .images import read_image
from .pixels import AS_PLAYED, Pixels

_NUMBERED = re.compile(r'(.*?)([0-9]{1,18})(\D*)')  # the last number of a name counts


class ImageSequence:
    """The numbered images of a folder, in the order of their numbers.

    Args:
        path: `FOLDER:frames@RATE`.
        pixels: As in `read_clip`.

    Attributes:
        files: The images.
        rate: Images a second.
        duration: In seconds; each image is shown as long as the others.

    Raises:
        FileNotFoundError: There is no such folder.
        VideoError: It does not hold one sequence of at least two images, or images are missing in it.
    """

    def __init__(self, path: str | os.PathLike[str], pixels: Pixels = AS_PLAYED) -> None:
        self.path, self.pixels = path, pixels
        folder, self.rate = split_sequence(path)
        if not folder.is_dir():
            raise not_found(folder, 'folder')
        self.files = _numbered(folder)
        self.duration = len(self.files) / self.rate
        self._known: dict[int, torch.Tensor] = {}

    def images(self, numbers: Sequence[int]) -> torch.Tensor:
        """Some of the images by their places, uint8 [T, H, W, 3]; those of the call before are not read again.

        Raises:
            VideoError: One cannot be read, or is of another size than the first of these.
        """
        self._known = {k: self._known[k] if k in self._known else self._image(k) for k in dict.fromkeys(numbers)}
        first = self._known[numbers[0]]
        for k, image in self._known.items():
            if image.shape != first.shape:
                sizes = ' and '.join(f'{one.shape[1]} x {one.shape[0]}' for one in (first, image))
                raise VideoError(f'{self.path}: images of one video have one size; {self.files[k].name}: {sizes}')
        return torch.stack([self._known[k] for k in numbers])

    def _image(self, k: int) -> torch.Tensor:
        return read_image(self.files[k], self.pixels)[0]


def _numbered(folder: Path) -> list[Path]:
    """The images of the one numbered sequence in a folder."""
    names = sorted(
        name for name in os.listdir(folder) if is_ours(name) and Path(name).suffix.lower() in IMAGE_EXTENSIONS
    )
    sequences: dict[tuple[str, str], dict[int, str]] = {}
    for name in names:
        stem, ending = os.path.splitext(name)
        match = _NUMBERED.fullmatch(stem)
        if not match:
            raise VideoError(f'{folder}: {name} has no number, so that it has no place among the frames')
        numbered = sequences.setdefault((match[1], match[3] + ending), {})
        if int(match[2]) in numbered:
            raise VideoError(f'{folder}: {numbered[int(match[2])]} and {name} have the same number')
        numbered[int(match[2])] = name
    if len(sequences) != 1 or len(names) < 2:
        several = f'{len(sequences)} numbered sequences' if len(sequences) > 1 else counted(len(names), 'image')
        raise VideoError(f'{folder}: holds {several}; one sequence of at least two images is a video')
    (numbered,) = sequences.values()
    order = sorted(numbered)
    step = order[1] - order[0]
    for before, after in pairwise(order):
        if after - before != step:
            raise VideoError(f'{folder}: between {numbered[before]} and {numbered[after]} images are missing')
    return [folder / numbered[k] for k in order]
