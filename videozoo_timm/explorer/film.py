"""What the page's player (`film.js`) plays: the panels of one or two models, as numbers, words and pictures."""

import base64
import io
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from .views import ShownView, SurpriseCurve

__all__ = ['film_of', 'message']

_numbers = itertools.count(1)  # Gradio hands each value over twice


def film_of(shown: Sequence[ShownView], notes: Sequence[str] = (), video: str = '') -> dict[str, Any]:
    """The value of the player.

    Args:
        shown: What is played, one row a model.
        notes: What is told below, for instance why a model shows nothing.
        video: What is shown.
    """
    first = shown[0]
    num_frames, height, width = first.panels[0].frames.shape[:3]
    return dict(
        number=next(_numbers),
        video=video,
        rows=[
            dict(
                title=one.model if len(shown) > 1 else '',
                told=one.told,
                panels=[dict(label=panel.label, **_sheet(panel.frames)) for panel in one.panels],
            )
            for one in shown
        ],
        notes=list(notes),
        seconds=first.seconds,
        cell=[num_frames // first.grid[0], height // first.grid[1], width // first.grid[2]],
        box=first.box,
        patch=first.patch,
        curves=[_curve(one.curve, one.model) for one in shown if one.curve],
        strip=_sheet(first.curve.frames) if first.curve else None,
    )


def message(*notes: str) -> dict[str, Any]:
    """The value of a player that plays nothing and says why."""
    nothing = dict(seconds=1, cell=[1, 1, 1], box=None, patch=None, curves=[], strip=None)
    return dict(number=next(_numbers), video='', rows=[], notes=list(notes), **nothing)


def _sheet(frames: np.ndarray) -> dict[str, Any]:
    """Frames uint8 [T, H, W, 3] one below the other, without loss."""
    from PIL import Image

    file = io.BytesIO()
    num_frames, height, width, _ = frames.shape
    Image.fromarray(frames.reshape(num_frames * height, width, 3)).save(file, 'PNG', compress_level=1)
    data = base64.b64encode(file.getvalue()).decode()
    return dict(src=f'data:image/png;base64,{data}', n=num_frames, w=width, h=height)


def _curve(curve: SurpriseCurve, model: str) -> dict[str, Any]:
    return dict(
        label=curve.label,
        model=model,
        times=curve.times,
        values=curve.values,
        chosen=curve.chosen,
        window=list(curve.window),
        duration=curve.duration,
    )
