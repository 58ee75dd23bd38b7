"""What judges the clips of a tokenizer beside their pixels: discriminators of frames and of clips, and LPIPS.

Papers: https://arxiv.org/abs/2204.03638 (TATS), https://arxiv.org/abs/1801.03924 (LPIPS).
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

_WIDTHS = (64, 128, 256, 512)  # of the layers, as published; the last convolution makes one number for each patch


class Judged(NamedTuple):
    """What a discriminator makes of reconstructions.

    Attributes:
        generator: Falls as it takes the reconstructions for real ones; its gradient reaches the tokenizer alone.
        features: Mean absolute difference of the layers' outputs, summed as published; reaches the tokenizer alone.
        discriminator: The hinge loss; its gradient reaches the discriminator alone.
    """

    generator: torch.Tensor
    features: torch.Tensor
    discriminator: torch.Tensor


class PatchDiscriminator(nn.Module):
    """Says of each patch of images [B, C, H, W] or clips [B, C, T, H, W] how real it looks.

    Args:
        dims: 2 for images, 3 for clips.
        in_channels: Channels of them.
    """

    def __init__(self, dims: int, in_channels: int = 3) -> None:
        super().__init__()
        conv: Any = (nn.Conv2d, nn.Conv3d)[dims - 2]
        norm: Any = (nn.BatchNorm2d, nn.BatchNorm3d)[dims - 2]
        self.layers, width = nn.ModuleList(), in_channels
        for k, out in enumerate(_WIDTHS):
            layer = [conv(width, out, 4, stride=2 if k < 3 else 1, padding=2)]
            self.layers.append(nn.Sequential(*layer, *([norm(out)] if k else []), nn.LeakyReLU(0.2)))
            width = out
        self.last = conv(width, 1, 4, padding=2)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The outputs of the layers; the last are the logits."""
        outputs = []
        for layer in self.layers:
            x = layer(x)
            outputs.append(x)
        return [*outputs, self.last(x)]

    def judge(self, real: torch.Tensor, again: torch.Tensor) -> Judged:
        """Judge reconstructions of what is real, of one shape."""
        fixed = {name: parameter.detach() for name, parameter in self.named_parameters()}
        seen = functional_call(self, fixed, (again,))
        with torch.no_grad():
            wanted = self(real)
        pairs = zip(seen[:-1], wanted[:-1], strict=True)
        features = sum((F.l1_loss(ours, theirs) for ours, theirs in pairs), torch.zeros((), device=real.device))
        of_real, of_fake = self(real)[-1], self(again.detach())[-1]
        hinge = 0.5 * (F.relu(1 - of_real).mean() + F.relu(1 + of_fake).mean())
        return Judged(-seen[-1].mean(), features, hinge)


def load_lpips() -> nn.Module:
    """The perceptual distance of frames in [-1, 1] by VGG-16, frozen.

    Raises:
        ImportError: The library lpips is not installed.
        OSError: The weights of VGG-16 are not there and cannot be downloaded.
    """
    try:
        import lpips  # pyright: ignore[reportMissingImports]  # an option
    except ImportError as error:
        raise ImportError("the perceptual loss needs lpips: pip install 'videozoo-timm[lpips]'") from error
    try:
        return lpips.LPIPS(net='vgg', verbose=False).eval().requires_grad_(False)
    except OSError as error:
        raise OSError(
            f'the perceptual loss needs the weights of VGG-16, which torchvision downloads into '
            f'{torch.hub.get_dir()}/checkpoints: {error}. Fetch them there, or train without this loss'
        ) from error
