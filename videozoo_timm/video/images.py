"""Reading still images."""
import os

import torch

from .checks import VideoError


def read_image(path: str | os.PathLike) -> torch.Tensor:
    """Reads an image as a video of one frame, upright.

    Returns:
        uint8 [1, H, W, 3], RGB; transparency is laid on black, grey of 16 bits is scaled to 8.

    Raises:
        FileNotFoundError: There is no such file.
        VideoError: It is no image that Pillow reads.
    """
    import numpy as np
    from PIL import Image, ImageOps, UnidentifiedImageError
    try:
        with Image.open(path) as image:
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith('I;16'):  # which Pillow would clip to white
                pixels = np.repeat((np.array(image)[..., None] // 257).astype(np.uint8), 3, axis=2)
            else:
                pixels = np.array(image.convert('RGB'))  # [H, W, 3]
    except FileNotFoundError as error:
        raise FileNotFoundError(f'{path}: no such file') from error
    except UnidentifiedImageError as error:
        raise VideoError(f'{path}: not an image (no format that Pillow knows)') from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise VideoError(f'{path}: cannot be read as an image ({error})') from error
    return torch.from_numpy(pixels).unsqueeze(0)
