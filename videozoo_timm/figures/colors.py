"""Values as colors, and maps on the frames that they belong to."""

import numpy as np
import torch
import torch.nn.functional as F

from .fonts import matplotlib


def to_bytes(tiles: torch.Tensor) -> np.ndarray:
    """[T, 3, H, W] in [0, 1] -> uint8 [T, H, W, 3]."""
    return (255 * tiles.float()).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def heat(maps: torch.Tensor, highest: float) -> torch.Tensor:
    """Maps as colors.

    Args:
        maps: [T, H, W], not negative.
        highest: The value that has the brightest color. Zero has the darkest.

    Returns:
        [T, 3, H, W] in [0, 1], matplotlib's inferno.

    Raises:
        ImportError: matplotlib is not installed.
    """
    table = torch.tensor(matplotlib().colormaps['inferno'](np.arange(256))[:, :3], dtype=torch.float32)  # [256, 3]
    index = (255 * maps / max(highest, 1e-30)).round().clamp(0, 255).long()
    return table[index.cpu()].permute(0, 3, 1, 2)


def colorbar() -> np.ndarray:
    """The colors of `heat` from the highest value down to 0, uint8 [256, 1, 3]."""
    return to_bytes(heat(torch.arange(255, -1, -1).view(1, 256, 1), 255))[0]


def overlay(frames: torch.Tensor, maps: torch.Tensor, highest: float) -> torch.Tensor:
    """Frames [T, 3, H, W] under the colors of maps [T, H, W] (as `heat`), the more opaque the higher the value."""
    strength = 0.25 + 0.6 * (maps / max(highest, 1e-30)).clamp(0, 1).unsqueeze(1).cpu()  # [T, 1, H, W]
    return (1 - strength) * frames.cpu() + strength * heat(maps, highest)


def upsample(maps: torch.Tensor, num_frames: int, size: tuple[int, int]) -> torch.Tensor:
    """Maps [..., T', H', W'] on the frames that they belong to, [..., num_frames, H, W], by nearest-exact."""
    maps = maps.repeat_interleave(num_frames // maps.shape[-3], dim=-3)
    flat = maps.flatten(0, -3).unsqueeze(1)  # [..., H', W'] -> [N, 1, H', W']
    return F.interpolate(flat, size, mode='nearest-exact').squeeze(1).unflatten(0, maps.shape[:-2])
