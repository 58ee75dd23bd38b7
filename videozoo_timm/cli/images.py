"""Images as the generators and the measure of their distance take them."""
import torch

from ..video import prepare_clip, read_image


class ImageFiles(torch.utils.data.Dataset):
    """Images of files as torch-fidelity takes them: uint8 [3, 256, 256]."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return (255 * center_crop(read_image(self.paths[index]), 256)).round().to(torch.uint8)


def center_crop(frames: torch.Tensor, side: int) -> torch.Tensor:
    """uint8 [1, H, W, 3] -> [3, side, side] in [0, 1]."""
    image = prepare_clip(frames, side, mean=0.0, std=1.0, short_side=side, interpolation='bicubic')
    return image[:, 0].clamp(0, 1)
