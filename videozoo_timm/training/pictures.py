"""Pictures and animations of clips that a run writes as it goes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..figures import Grid, save_animation, to_bytes
from ..files import atomic_write
from .run_folder import make_folder, writing


def save_pictures(
    accelerator: Any,
    folder: Path,
    stem: str,
    clips: Sequence[torch.Tensor],
    names: Sequence[str],
    title: str,
    span: int,
) -> None:
    """Write clips as a sheet of frames (`.jpg`) and side by side as an animation (`.gif`), into `pictures`.

    Args:
        accelerator: All of its processes must call this; the first writes.
        folder: Of the run.
        stem: Name of the files, without the ending.
        clips: [3, T, H, W] each, pixels in [-0.5, 0.5].
        names: Label of each clip.
        title: Of the sheet.
        span: Time that a clip spans, in frames at 30 a second.

    Raises:
        OSError: The disk is full, or the folder cannot be written.
    """
    from PIL import Image

    target = folder / 'pictures' / stem
    with writing(accelerator, target):
        if not accelerator.is_main_process:
            return
        make_folder(target.parent)
        rows = [(name, (clip + 0.5).clamp(0, 1).transpose(0, 1)) for name, clip in zip(names, clips, strict=True)]
        with atomic_write(target.with_suffix('.jpg')) as partial:
            Grid(rows, title=title).save(partial)
        beside = torch.cat([frames for _, frames in rows], dim=-1)  # [T, 3, H, N * W]
        images = [Image.fromarray(frame) for frame in to_bytes(beside)]
        save_animation(images, target.with_suffix('.gif'), span / 30)
