"""Features of videos."""
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from timm.data import resolve_model_data_config
from timm.models._input import get_model_input_config
from torch import nn

from ..files import save_tensors, written
from ..video import RECOGNITION, Clip, VideoError, prepare_clip, read_clip


@dataclass
class Embeddings:
    """Features of clips, one row a clip.

    Attributes:
        features: float32 [R, C].
        video_index: int64 [R], which of `paths` a row is of.
        start: float64 [R], start of the clip's window in seconds from the video's first frame.
        end: float64 [R], end of the window.
        paths: The videos that could be read.
        failed: The videos that could not, with the reason.
    """
    features: torch.Tensor
    video_index: torch.Tensor
    start: torch.Tensor
    end: torch.Tensor
    paths: list[str]
    failed: list[tuple[str, str]]

    def save(self, out: str | os.PathLike, about: dict[str, str] | None = None) -> None:
        """Write `.npz` (all as arrays) or `.safetensors` (`paths` as JSON in the header); whole or not at all.

        Args:
            out: File to write; its ending says the format.
            about: Strings to store beside them: which model, for instance.

        Raises:
            ValueError: Another ending.
        """
        out, about = Path(out), about or {}
        arrays = dict(features=self.features, video_index=self.video_index, start=self.start, end=self.end)
        check_output(out)
        if out.suffix == '.safetensors':
            save_tensors(arrays, out, {'paths': json.dumps(self.paths), **about})
            return
        import numpy as np
        with written(out) as partial, open(partial, 'wb') as file:
            np.savez(file, **{k: v.numpy() for k, v in arrays.items()}, paths=np.array(self.paths), **about)


def check_output(out: Path) -> None:
    """Raise a ValueError unless features can be written to this file."""
    if out.suffix not in ('.npz', '.safetensors'):
        raise ValueError(f'{out}: features are written to .npz or .safetensors')
    if not out.parent.is_dir():
        raise ValueError(f'{out}: there is no folder {out.parent}')
    if out.is_dir():
        raise ValueError(f'{out} is a folder')
    try:
        tempfile.TemporaryFile(dir=out.parent).close()
    except OSError as error:
        raise ValueError(f'{out} cannot be written: {error.strerror}') from error


def read_origin(out: Path) -> tuple[str | None, list[str]]:
    """The model and the videos that a file of features was made from; None and nothing of any other file."""
    try:
        if out.suffix == '.npz':
            import numpy as np
            with np.load(out) as arrays:
                return str(arrays['model']), arrays['paths'].tolist()
        from safetensors import safe_open
        with safe_open(out, 'pt') as file:
            header = file.metadata()
        return header['model'], json.loads(header['paths'])
    except Exception:  # whatever it is, it is not ours
        return None, []


def embed(
        model: nn.Module,
        paths: Iterable[str | os.PathLike],
        *,
        batch_size: int = 4,
        progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
        report: Callable[[str, str], None] = lambda path, reason: None,
) -> Embeddings:
    """Features of the centred recognition clip (16 frames over 128 at 30 a second) of every video.

    A feature is what the model's head would get: of the published ViTs the class token after the final norm.

    Args:
        model: A video model of this package.
        paths: Video files.
        batch_size: Clips at a time.
        progress: Wraps the list of files (tqdm, for instance).
        report: Told of each file that cannot be read, with the reason.

    Raises:
        VideoError: None of the files could be read.
    """
    paths = [os.fspath(path) for path in paths]
    config = resolve_model_data_config(model)
    height, width = get_model_input_config(model)['input_size'][-2:]
    if height != width:
        raise ValueError(f'the model takes {height} x {width} pixels; embed needs a square input')
    sampling = replace(RECOGNITION, num_frames=model.num_frames)
    parameter = next(model.parameters())
    features, clips, readable, failed = [], [], [], []
    batch = []

    def flush() -> None:
        if batch:
            x = torch.stack(batch).to(parameter.device, parameter.dtype)  # [B, C, T, H, W]
            features.append(model.forward_head(model.forward_features(x), pre_logits=True).float().cpu())
            batch.clear()

    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for path in progress(paths):
                try:
                    clip = read_clip(path, sampling=sampling)
                except (VideoError, OSError) as error:
                    failed.append((path, str(error)))
                    report(path, str(error))
                    continue
                batch.append(prepare_clip(
                    clip.frames, height, mean=config['mean'], std=config['std'],
                    interpolation=config['interpolation']))
                clips.append(replace(clip, frames=None))
                readable.append(path)
                if len(batch) == batch_size:
                    flush()
            flush()
    finally:
        model.train(was_training)
    if not readable:
        raise VideoError(f'none of {len(paths)} files could be read')
    return Embeddings(torch.cat(features), *_columns(clips), readable, failed)


def _columns(clips: list[Clip]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return (
        torch.arange(len(clips)),
        torch.tensor([clip.start for clip in clips], dtype=torch.float64),
        torch.tensor([clip.end for clip in clips], dtype=torch.float64),
    )
