"""What the page's player (`film.js`) plays: the panels of one or two models, as numbers, words, names of pictures."""

import hashlib
import io
import itertools
import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from .views import ShownView, SurpriseCurve

__all__ = ['FILM', 'Sheets', 'film_of', 'message']

FILM = 'film/'  # where the player asks for pictures
_FEWEST = 64  # pictures that are kept in any case, so that the player finds those of the last answers
_numbers = itertools.count(1)  # Gradio hands each value over twice


class Sheets:
    """The pictures of the last answers, which the player asks for one by one, and keeps; those that stay the same once.

    Nobody can guess the name of a picture, also who knows what it shows.

    Args:
        most: Bytes of all frames.
    """

    def __init__(self, most: int = 256 << 20) -> None:
        self.most = most
        self._secret = secrets.token_bytes(32)
        self._held: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, frames: np.ndarray) -> dict[str, Any]:
        """Keep frames uint8 [T, H, W, 3]: what the player must know of them."""
        num_frames, height, width, _ = frames.shape
        frames = np.ascontiguousarray(frames)
        digest = hashlib.blake2b(f'{frames.shape}'.encode(), key=self._secret, digest_size=16)
        digest.update(frames.data)
        name = digest.hexdigest()
        with self._lock:
            self._held[name] = frames
            self._held.move_to_end(name)
            while len(self._held) > _FEWEST and sum(one.nbytes for one in self._held.values()) > self.most:
                self._held.popitem(last=False)
        return dict(src=f'{FILM}{name}.png', n=num_frames, w=width, h=height)

    def png(self, source: str, level: int = 1) -> bytes | None:
        """Frames one below the other, without loss; None if there are none of this name (any more).

        Args:
            source: `src` of what `put` tells, by which the player asks for it.
            level: Of the compression, 0 to 9.
        """
        from PIL import Image

        with self._lock:
            frames = self._held.get(source.removeprefix(FILM).removesuffix('.png'))
        if frames is None:
            return None
        file = io.BytesIO()
        num_frames, height, width, _ = frames.shape
        Image.fromarray(frames.reshape(num_frames * height, width, 3)).save(file, 'PNG', compress_level=level)
        return file.getvalue()


def film_of(shown: Sequence[ShownView], sheets: Sheets, notes: Sequence[str] = (), video: str = '') -> dict[str, Any]:
    """The value of the player.

    Args:
        shown: What is played, one row a model.
        sheets: Takes the pictures.
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
                panels=[dict(label=panel.label, **sheets.put(panel.frames)) for panel in one.panels],
            )
            for one in shown
        ],
        notes=list(notes),
        seconds=first.seconds,
        cell=[num_frames // first.grid[0], height // first.grid[1], width // first.grid[2]],
        box=first.box,
        patch=first.patch,
        curves=[_curve(one.curve, one.model) for one in shown if one.curve],
        strip=sheets.put(first.curve.frames) if first.curve else None,
    )


def message(*notes: str) -> dict[str, Any]:
    """The value of a player that plays nothing and says why."""
    nothing = dict(seconds=1, cell=[1, 1, 1], box=None, patch=None, curves=[], strip=None)
    return dict(number=next(_numbers), video='', rows=[], notes=list(notes), **nothing)


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
