"""What `videozoo generate` does with a video generator."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..text import counted
from .clips import each_clip
from .inputs import shown, unique_stems
from .output import progress

if TYPE_CHECKING:
    import torch

    from ..models import VideoGenerator
    from .generate import SamplingOptions
    from .options import ReadingOptions

ANIMATIONS, SHEETS = ('.mp4', '.gif'), ('.png', '.jpg', '.jpeg')
SHEET = 'contact_sheet.png'  # in a folder
_RED, _GAP = (1.0, 0.0, 0.0), 2  # of the line above frames that were drawn; pixels between clips
_COLUMNS = 16  # frames of a row of a contact sheet, at most


def sheet_of(out: Path) -> Path:
    """Where the contact sheet goes: beside an animation, into a folder, or it is all that is asked for."""
    if not out.suffix:
        return out / SHEET
    return out if out.suffix in SHEETS else out.with_suffix('.png')


def generate_videos(
    generator: 'VideoGenerator',
    number: int,
    num_frames: int | None,
    window: int | None,
    sampling: 'SamplingOptions',
    out: Path,
    seconds: float,
    about: str,
) -> None:
    """Sample clips, and write them and their contact sheet."""
    import torch

    with progress(number, 'videos') as update:
        options: dict[str, Any] = dict(num_frames=num_frames, window=window, progress=update, **asdict(sampling))
        clips = torch.cat([clips.cpu() for clips in generator.batches(number, **options)])
    names = [f'{k:06}' for k in range(number)]
    _write([(name, clip) for name, clip in zip(names, clips, strict=True)], names, out, seconds, about)


def continue_videos(
    generator: 'VideoGenerator',
    paths: list[str],
    views: Any,
    reading: 'ReadingOptions',
    context: int | None,
    number: int,
    window: int | None,
    sampling: 'SamplingOptions',
    out: Path,
    seconds: float,
    about: str,
    start: float | None = None,
) -> tuple[int, int]:
    """Continue the clips of files, and write them; how many clips were drawn, and how many files failed."""
    import torch

    failed: list[str] = []
    given = [(path, view) for _, path, view in each_clip(paths, views, reading, failed, start)]
    if not given:
        raise ValueError(f'none of {counted(len(paths), "video")} could be read')
    clips = torch.stack([view.x for _, view in given]).clamp(0, 1)
    with progress(len(clips) * number, 'videos') as update:
        result = generator.continue_(
            clips,
            context=context,
            samples=number,
            num_frames=clips.shape[2],
            window=window,
            progress=update,
            **asdict(sampling),
        )
    context = result.given.shape[2]
    continued = torch.cat([result.given[:, None].expand(-1, number, -1, -1, -1, -1), result.drawn.cpu()], dim=3)
    rows, names = [], []
    for path, stem, clip, drawn in zip(
        [path for path, _ in given], unique_stems([path for path, _ in given]), clips, continued, strict=True
    ):
        rows.append((shown(path), clip))
        for k, one in enumerate(drawn):
            rows.append((f'continued, {k + 1}', _marked(one, context)))
            names.append(f'{stem}_{k}')
    whole = [one for drawn in continued for one in drawn]
    _write(rows, names, out, seconds, about, per_row=number + 1, apart=whole)
    return len(whole), len(failed)


def _marked(clip: 'torch.Tensor', context: int) -> 'torch.Tensor':
    """A clip [3, T, H, W] with a red line above the frames that were drawn."""
    import torch

    clip, width = clip.clone(), max(1, clip.shape[-1] // 32)
    clip[:, context:, :width] = torch.tensor(_RED).view(3, 1, 1, 1)
    return clip


def _write(
    rows: 'list[tuple[str, torch.Tensor]]',
    names: list[str],
    out: Path,
    seconds: float,
    about: str,
    per_row: int | None = None,
    apart: 'list[torch.Tensor] | None' = None,
) -> None:
    """Write clips [3, T, H, W] with their labels: all in one animation or one file each, and a contact sheet.

    `apart` are the clips of a folder's files, if they are not those of the rows; `names` are what these are called.
    """
    from PIL import Image

    from ..figures import Grid, save_animation, to_bytes

    clips = [clip for _, clip in rows]
    if not out.suffix:
        out.mkdir(parents=True, exist_ok=True)
        for name, clip in zip(names, apart or clips, strict=True):
            frames = [Image.fromarray(frame) for frame in to_bytes(clip.transpose(0, 1))]
            save_animation(frames, out / f'{name}.mp4', seconds)
    elif out.suffix in ANIMATIONS:
        frames = to_bytes(_side_by_side(clips, per_row or math.ceil(math.sqrt(len(clips)))).transpose(0, 1))
        save_animation([Image.fromarray(frame) for frame in frames], out, seconds)
    every = math.ceil(clips[0].shape[1] / _COLUMNS)
    tiles = [(label, clip[:, ::every].transpose(0, 1)) for label, clip in rows]
    captions = [f'{k * every * seconds / clips[0].shape[1]:.2f} s' for k in range(len(tiles[0][1]))]
    Grid(tiles, captions).save(sheet_of(out), about)


def _side_by_side(clips: 'list[torch.Tensor]', columns: int) -> 'torch.Tensor':
    """Clips [3, T, H, W] as one [3, T, rows * H, columns * W] with a white gap between them; even sides."""
    import torch

    height, width = clips[0].shape[-2] + _GAP, clips[0].shape[-1] + _GAP
    shape = (
        3,
        clips[0].shape[1],
        math.ceil(len(clips) / columns) * height + _GAP,
        min(len(clips), columns) * width + _GAP,
    )
    whole = torch.ones(shape[0], shape[1], shape[2] + shape[2] % 2, shape[3] + shape[3] % 2)
    for k, clip in enumerate(clips):
        top, left = k // columns * height + _GAP, k % columns * width + _GAP
        whole[:, :, top : top + clip.shape[-2], left : left + clip.shape[-1]] = clip
    return whole
