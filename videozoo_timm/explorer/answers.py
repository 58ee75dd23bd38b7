"""From the values of the controls to what is shown; of any page, and without Gradio."""

import math
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from typing import Any

from ..analysis.features import num_blocks
from ..inference.pipeline import takes_clips
from ..text import printable
from ..video import (
    COMPLETION,
    Failure,
    Job,
    Reading,
    VideoError,
    Views,
    centered_starts,
    is_image,
    load_views,
    probe,
)
from .choices import GENERATOR, Models, Video
from .kept import Kept
from .moments import continued, surprising
from .session import Session
from .views import ShownView, Viewing, attention, filled_in, similar

__all__ = ['NONE', 'Answers', 'Asked', 'block_of', 'check_upload', 'context_of', 'contexts_of', 'place_in', 'worded']

NONE = 'none'  # of the second model
UPLOADS = Reading(num_workers=1, time_limit=20.0)  # how a file is read at first that a visitor has uploaded


@dataclass
class Asked:
    """The values of all controls, in the order in which the page has them, at first those that stand here."""

    video: str
    start: float
    first: str
    second: str = NONE
    mask: str = 'box'
    ratio: float = 0.9
    box: str = ''
    look_block: int = 0
    heads: bool = False
    threshold: float = 1.0
    compare_block: int = 0
    score: str = 'mse'
    context: int = 8
    samples: int = 2
    seed: int = 0

    @property
    def names(self) -> list[str]:
        """The models that are chosen."""
        return [self.first, *([self.second] if self.second not in (NONE, self.first) else [])]


class Answers:
    """Computes what visitors ask for.

    Args:
        models: What can be loaded.
    """

    def __init__(self, models: Models) -> None:
        self.models = models
        # A mask's random numbers come from PyTorch's one generator: one computation at a time.
        self._computing = threading.Lock()
        self._first: tuple[Any, list[ShownView], Kept] | None = None

    def prepare(self, session: Session, names: Sequence[str]) -> None:
        """Load the models that a page opens with, as far as they are on this machine, and compute what it shows then.

        Args:
            session: Of a visitor whom there is not, with the view that is open at first.
            names: The models.

        Raises:
            OSError, ValueError: A model cannot be loaded.
        """
        loaded = {name: self.models.get(name) for name in names if self.models.offered[name].is_here}
        if len(loaded) < len(names) or session.view in ('surprise', 'next'):  # which take seconds
            return
        try:
            video = session.video(session.labels[0])
            asked = Asked(video.label, place_in(session, video)[0], names[0], names[1] if len(names) > 1 else NONE)
        except Exception:  # a broken video: told in the page
            return
        if not self.show(session, asked, loaded):
            self._first = _key(session, asked), session.shown, session.kept

    def names(self, session: Session, asked: Asked) -> list[str]:
        """The models whose views are asked for: those that are chosen, of Continue the generators among them or any."""
        if session.view != 'next':
            return asked.names
        generators = self.models.names(GENERATOR)
        return [name for name in asked.names if name in generators] or generators[:1]

    def load(self, name: str, loaded: dict[str, Any]) -> Iterator[str]:
        """Load a model into `loaded`, and say meanwhile how long it takes."""
        begun, loading = time.monotonic(), Future[Any]()

        def work() -> None:
            try:
                loading.set_result(self.models.get(name))
            except BaseException as error:
                loading.set_exception(error)

        threading.Thread(target=work, daemon=True).start()  # the page may end before a download does
        while not wait([loading], timeout=0.5).done:
            offer = self.models.offered.get(name)
            yield f'Loading {offer.label if offer else name}: {time.monotonic() - begun:.0f} s'
        loaded[name] = loading.result()

    def show(self, session: Session, asked: Asked, loaded: dict[str, Any]) -> list[str]:
        """Put what the loaded models show into `session.shown`; what others lack is returned in words."""
        notes: list[str] = []
        with session.lock:
            if self._first:  # what all visitors see at first is computed once
                key, first, kept = self._first
                if not session.shown:
                    session.kept.share(kept)
                if key == _key(session, asked) and list(loaded) == [one.model for one in first]:
                    session.shown = list(first)
                    return []
            shown: list[ShownView] = []
            for name, model in loaded.items():
                try:
                    check_shown(session.view, model)
                    offer = self.models.offered.get(name)
                    start = _start_of(session, asked, model)
                    clip = Viewing(
                        session.video(asked.video), start, name, model, session.kept, offer.file if offer else ''
                    )
                    if session.view in ('fill', 'look', 'compare'):
                        clip.read(**clip.whole(session.view))  # a slow file keeps nobody else waiting
                    with self._computing:
                        shown.append(self._show(session, clip, asked, shown))
                except Exception as error:  # whatever a file or a model brings about is told in the page
                    notes.append(f'{name}: {worded(error, session)}')
            session.shown = shown
        return notes

    def _show(self, session: Session, clip: Viewing, asked: Asked, before: list[ShownView]) -> ShownView:
        """One model's part of the open view; a second one gets the first one's box and patch at its own size."""
        if session.view == 'fill':
            box = _scaled(session.box, clip, before)
            return filled_in(clip, asked.mask, asked.ratio, box)
        if session.view == 'surprise':
            return surprising(clip, session.window, asked.score)
        if session.view == 'next':
            return continued(clip, context_of(clip.model, asked.context), asked.samples, asked.seed)
        block = block_of(session, num_blocks(clip.model))
        if session.view == 'look':
            threshold = None if asked.threshold >= 1 else round(asked.threshold, 2)
            return attention(clip, block, asked.heads, threshold)
        return similar(clip, session.patch, block, before[0].grid if before else None)


def _key(session: Session, asked: Asked) -> Any:
    """What decides about what is shown."""
    own = session.view, session.box, session.patch, session.window, session.block, asked.video in session.uploads
    return own, replace(asked, box='')


def place_in(session: Session, video: Video) -> tuple[float, float]:
    """Where the centered window of a video begins, and where the last one does, in seconds."""
    if is_image(video.path):
        return 0.0, 0.0
    with session.lock:
        duration = session.kept.get(('duration', video.path), lambda: probe(video.path).duration)
    centered = round(centered_starts(duration, COMPLETION)[0], 2)
    return centered, max(centered, math.floor(100 * (duration - COMPLETION.seconds)) / 100)


def _start_of(session: Session, asked: Asked, model: Any) -> float | None:
    """Where a model's clip begins, in seconds; None is the centered one. Of a window single frames are the middle."""
    at = round(asked.start, 2)
    if at == place_in(session, session.video(asked.video))[0]:
        return None
    return at if takes_clips(model) else round(at + COMPLETION.seconds / 2, 2)


def check_shown(view: str, model: Any) -> None:
    """Raise a ValueError if a generator is asked for what it lacks."""
    if hasattr(model, 'continue_') and view not in ('surprise', 'next'):
        raise ValueError('a generator of videos; Surprise and Continue show what it expects')


def contexts_of(generator: Any) -> tuple[int, int]:
    """The fewest frames that may be given to a generator, whose multiples may be too, and the most."""
    step = generator.vqgan.config.downsample[0]
    return step, generator.num_frames - step


def context_of(generator: Any, asked: int) -> int:
    """The number of frames nearest below the one that is asked for, which may be given to a generator."""
    step, most = contexts_of(generator)
    return min(max(int(asked) // step * step, step), most)


def check_upload(video: Video) -> None:
    """Decode a clip of a stranger's file in a process of its own, which may crash or stall.

    Raises:
        VideoError: It cannot be read.
    """
    views = Views(64, (0.0,), (1.0,), sampling=COMPLETION)
    for _, item in load_views([Job(0, video.path)], views, UPLOADS):
        if isinstance(item, Failure):
            raise VideoError(item.reason)


def block_of(session: Session, depth: int) -> int:
    """The block that was chosen, of a model of this depth; the last one if none was."""
    return depth - 1 if session.block is None else min(session.block, depth - 1)


def _scaled(box: tuple[int, ...] | None, clip: Viewing, before: Sequence[ShownView]) -> tuple[int, ...] | None:
    """The box of the first model at the size of another one."""
    if not before or before[0].box is None:
        return box
    theirs = before[0].panels[0].frames.shape[:3]
    size, num_frames = clip.model.patch_embed.img_size, getattr(clip.model, 'num_frames', 1)
    scaled = [round(place * (num_frames, *size)[k // 2] / theirs[k // 2]) for k, place in enumerate(before[0].box)]
    return (0, 1, *scaled[2:]) if num_frames == 1 else tuple(scaled)


def worded(error: Exception, session: Session) -> str:
    """An error in words for the page, without where uploads are on this machine."""
    text = str(error) if isinstance(error, (OSError, ValueError, IndexError, RuntimeError, ImportError)) else ''
    text = text or f'{type(error).__name__}: {error}'
    for video in session.uploads.values():
        text = text.replace(video.path, video.label)
    return printable(text.replace('`', ''), 500)
