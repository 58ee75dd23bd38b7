"""Images as the generators and the measure of their distance take them."""

import torch

from ..video import failure_of, prepare_clip, read_image
from .output import report


class ImageFiles(torch.utils.data.Dataset):
    """Images of files as torch-fidelity takes them: uint8 [3, 256, 256].

    Those that cannot be read are left out, with a complaint.

    Attributes:
        paths: The others.
        failed: How many cannot be read.
    """

    def __init__(self, paths: list[str]) -> None:
        # Read once before, as one that fails later on would end it all.
        self.paths = [path for path in paths if image_of(path, 256) is not None]
        self.failed = len(paths) - len(self.paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        image = image_of(self.paths[index], 256)
        if image is None:
            raise ValueError(f'{self.paths[index]} was readable before and no longer is')
        return (255 * image).round().to(torch.uint8)


def image_of(path: str, side: int) -> torch.Tensor | None:
    """The image [3, side, side] in [0, 1] under the center crop; None, with a complaint, if it cannot be read."""
    try:
        frames = read_image(path)  # uint8 [1, H, W, 3]
        image = prepare_clip(frames, side, mean=0.0, std=1.0, short_side=side, interpolation='bicubic')
        return image[:, 0].clamp(0, 1)
    except ImportError:
        raise
    except Exception as error:
        report(path, failure_of(path, error).reason)
        return None
