"""What one visitor of the explorer has: videos of their own, a window, a view, and what was shown last."""

import os
import shutil
import tempfile
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..figures import save_animation
from ..paths import not_found
from ..text import printable
from ..video import IMAGE_EXTENSIONS, VIDEO_EXTENSIONS
from .choices import Video, drawn_video
from .kept import Kept
from .views import ShownView

__all__ = ['FORMATS', 'Session', 'Visitors']

FORMATS = ('png', 'svg', 'gif', 'npz')
MAX_VISITORS = 24  # at once; whoever was silent longest loses what was computed and uploaded
_VISIT = 'visit-'  # how folders of visitors begin; those of what arrives are digests
_UPLOADS = 8  # videos that a visitor may have at once


class Session:
    """One visitor.

    Args:
        folder: Where uploads and downloads go; made here, removed by `close`.
        given: The videos that all visitors may see.
        view: Name of the view that is open at first.

    Attributes:
        kept: What was computed.
        shown: What the page shows now.
        view: Name of the open view.
        box: The box of Fill in, in frames and pixels of the first model; None is one in the middle.
        patch: The patch of Compare places; None is one in the middle.
        window: The window of Surprise; None is the most surprising one.
        block: The block of Look and Compare places; None is the last one.
        values: Of all controls, as they came last.
        turn: Number of the question that came last; no other needs an answer any more.
        opening: How often a video was chosen.
        lock: Held while something is computed for this visitor.
    """

    def __init__(self, folder: Path, given: Mapping[str, Video], view: str = 'fill') -> None:
        folder.mkdir(parents=True)
        self.folder, self.given = folder, given
        self.uploads: dict[str, Video] = {}
        self.kept, self.shown = Kept(), list[ShownView]()
        self.view = view
        self.box: tuple[int, ...] | None = None
        self.patch: tuple[int, ...] | None = None
        self.window: int | None = None
        self.block: int | None = None
        self.values: tuple[Any, ...] = ()
        self.turn = self.opening = 0
        self.lock = threading.RLock()

    def ask(self, values: Sequence[Any]) -> int:
        """Something is asked with these values of the controls: its number."""
        self.values = tuple(values)
        self.turn += 1
        return self.turn

    def open(self, values: Sequence[Any]) -> int:
        """A video is chosen: its number."""
        self.values, self.window = tuple(values), None
        self.opening += 1
        return self.opening

    @property
    def labels(self) -> list[str]:
        """What can be chosen."""
        return [*self.uploads, *self.given]

    def video(self, label: str | None) -> Video:
        """The video of a label, or the synthetic one of this name.

        Raises:
            FileNotFoundError: None of the given and uploaded videos has this label.
        """
        label = str(label or '')
        return self.uploads.get(label) or self.given.get(label) or drawn_video(label)

    def upload(self, path: str | os.PathLike[str]) -> Video:
        """Take a file that was uploaded into the folder of this visitor.

        Raises:
            FileNotFoundError: It is not where uploads arrive.
            ValueError: By its name it is neither a video nor an image.
        """
        source, arrivals = Path(path), self.folder.parents[1].resolve()
        place = source.resolve().parent
        if place.parent != arrivals or place.name.startswith(_VISIT):
            raise not_found(printable(source.name, 100), 'upload')
        name = printable(source.name, 100)
        if source.suffix.lower() not in (*VIDEO_EXTENSIONS, *IMAGE_EXTENSIONS):
            raise ValueError(f'{name}: neither a video nor an image by the ending of its name')
        own = Path(tempfile.mkdtemp(dir=self.folder)) / source.name
        try:
            os.replace(source, own)
        except FileNotFoundError:
            raise ValueError(f'{name}: the upload is gone; try again') from None
        label = name if name not in (*self.uploads, *self.given) else f'{name} ({len(self.uploads) + 1})'
        self.uploads[label] = Video(label, str(own), source.name)
        while len(self.uploads) > _UPLOADS:
            self.drop(next(iter(self.uploads.values())))
        return self.uploads[label]

    def drop(self, video: Video) -> None:
        """Remove a video that was uploaded."""
        self.uploads.pop(video.label, None)
        self.shown = []
        shutil.rmtree(Path(video.path).parent, ignore_errors=True)

    def save(self, ending: str) -> Path:
        """Write what is shown as a file to download; of two models a .zip with one each.

        Args:
            ending: One of `FORMATS`.

        Raises:
            ValueError: Nothing is shown, or another ending.
        """
        if ending not in FORMATS:
            raise ValueError(f'{ending}: downloads are {", ".join(FORMATS)}')
        if not self.shown:
            raise ValueError('Nothing is shown that could be downloaded')
        place = self.folder / 'downloads'
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        paths = []
        for one in self.shown:
            paths.append(place / f'{one.name}_{one.model}.{ending}')
            _write(one, paths[-1])
        if len(paths) == 1:
            return paths[0]
        archive = place / f'{self.shown[0].name}_{ending}.zip'
        with zipfile.ZipFile(archive, 'w') as file:
            for path in paths:
                file.write(path, path.name)
        return archive

    def close(self) -> None:
        """Forget everything and remove the folder."""
        self.kept.clear()
        self.shown.clear()
        shutil.rmtree(self.folder, ignore_errors=True)


def _write(one: ShownView, path: Path) -> None:
    if path.suffix == '.npz':
        np.savez(path, **one.arrays)  # pyright: ignore[reportArgumentType]  # `allow_pickle` is not among them
    elif path.suffix == '.gif':
        save_animation(_side_by_side(one), path, one.seconds)
    else:
        one.picture().save(path, one.command)


def _side_by_side(one: ShownView) -> list[Any]:
    from PIL import Image

    wide = np.concatenate([panel.frames for panel in one.panels], axis=2)  # [T, H, n * W, 3]
    return [Image.fromarray(frame) for frame in wide]


class Visitors:
    """The visitors of a page, by the random names that the browser gives its visits.

    Args:
        folder: Below it each has a folder of their own.
        given: The videos that all may see.
        view: Name of the view that is open at first.
    """

    def __init__(self, folder: Path, given: Mapping[str, Video], view: str = 'fill') -> None:
        self.folder, self.given, self.view = folder, given, view
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, visit: str | None) -> Session:
        """The session of a visit, a new one if it is not known."""
        visit = str(visit)
        with self._lock:
            if visit not in self._sessions:
                own = Path(tempfile.mkdtemp(prefix=_VISIT, dir=self.folder))
                self._sessions[visit] = Session(own / 'files', self.given, self.view)
            self._sessions.move_to_end(visit)
            gone = [self._sessions.popitem(last=False)[1] for _ in range(len(self._sessions) - MAX_VISITORS)]
        for session in gone:
            session.close()
        return self._sessions[visit]

    def leave(self, visit: str | None) -> None:
        """A visit has ended."""
        with self._lock:
            session = self._sessions.pop(str(visit), None)
        if session:
            session.close()
