"""What can be chosen in the explorer: the videos that were given, and the models, those on disk first."""

import os
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import catalogue
from ..catalogue import MOTIONS, Checkpoint, PackagedGenerator
from ..contents import Contents
from ..identity import VIDEO_PARTS, on_disk, resolve
from ..paths import as_path, not_found
from ..synthetic import drawn_videos, is_drawn
from ..text import printable
from ..video import find_media
from ..weights.pickles import ENDINGS

__all__ = [
    'Models',
    'OfferedModel',
    'Video',
    'chosen_first',
    'drawn_video',
    'given_videos',
    'offered_models',
    'view_of',
]

MAE, VIT, IMAGE_MAE, IMAGES, GENERATOR = 'MAE', 'ViT', 'image MAE', 'images', 'generator'
FIRST = 'drawn:99/right/000003'  # what is shown without a path
_DRAWN = (FIRST, *(f'drawn:99/{motion}/000003' for motion in MOTIONS if motion != 'right'))
_IMPOSSIBLE = tuple(f'drawn-violations:7/{event}/000000/impossible' for event in ('vanish', 'teleport', 'wall'))
_MOST = 2000  # videos in the list
_HELD = 3  # models that stay in memory
_FILES = ('.safetensors', *ENDINGS)  # of models, which names do not end with


@dataclass(frozen=True)
class Video:
    """A video that may be shown.

    Attributes:
        label: What it is called in the page.
        path: Where it is.
        typed: What a command calls it.
    """

    label: str
    path: str
    typed: str


def given_videos(paths: Sequence[str]) -> dict[str, Video]:
    """The videos (or images) that the paths of a command name, by their labels; synthetic ones if there are none.

    Raises:
        FileNotFoundError: A path does not exist.
        ValueError: There are no videos.
    """
    if not paths:
        return {name: Video(name, name, name) for name in (*_DRAWN, *_IMPOSSIBLE)}
    found = [os.fspath(path) for path in find_media([as_path(path) for path in paths])][:_MOST]
    if not found:
        raise ValueError(f'no files: there are no videos or images in {", ".join(paths)}')
    base = os.path.commonpath([os.path.dirname(os.path.abspath(p)) for p in found if not is_drawn(p)] or ['.'])
    videos: dict[str, Video] = {}
    for path in found:
        label = path if is_drawn(path) else printable(os.path.relpath(os.path.abspath(path), base))
        videos[label] = Video(label, path, path)
    return videos


def drawn_video(name: str) -> Video:
    """The one synthetic video that a visitor has typed the name of.

    Raises:
        FileNotFoundError: It is another path: only what was given can be opened.
        ValueError: It is no such name.
    """
    name = name.strip()
    if not is_drawn(name):
        raise not_found(printable(name, 100), 'video among those that were given or uploaded')
    first = str(drawn_videos(name)[0])
    return Video(first, first, first)


@dataclass(frozen=True)
class OfferedModel:
    """A model that can be chosen.

    Attributes:
        name: By which it is loaded, in Python and in commands; of a file what to call it.
        kind: `MAE`, `VIT`, `IMAGE_MAE`, `IMAGES` or `GENERATOR`.
        num_bytes: Size of its file.
        is_here: Whether it is on this machine.
        is_packaged: Whether it comes with this package.
        file: A file of one's own, as it was given; '' of a published model.
    """

    name: str
    kind: str
    num_bytes: int
    is_here: bool
    is_packaged: bool
    file: str = ''

    @property
    def label(self) -> str:
        """What a list calls it."""
        gigabytes = self.num_bytes / 1e9
        size = f'{gigabytes:.2g} GB' if gigabytes >= 0.1 else f'{1000 * gigabytes:.1g} MB'
        return f'{self.name} ({self.kind}{"" if self.is_here else f", {size} to download"})'

    def load(self, device: Any) -> Any:
        """The model, in eval mode; an image MAE whole.

        Raises:
            OSError, ValueError: As `load_model`, `load_file` and `load_generator`.
        """
        from ..factory import build, load_generator

        if self.file and self.kind == GENERATOR:
            return load_generator(self.file, device=device)
        return build((resolve(None, self.file) if self.file else resolve(self.name)).whole, device=device)


def offered_models(first: Sequence[str] = (), only_first: bool = False) -> dict[str, OfferedModel]:
    """The models by their names: those that are asked for, then those on this machine, then all others.

    Args:
        first: Published or timm names, and files of one's own.
        only_first: Offer no others, as on a page for strangers, who shall download nothing.

    Raises:
        FileNotFoundError: No such file.
        ValueError: No such model, or one that the explorer cannot show, or a file of none.
    """
    asked = _asked(first)
    every = [_offer(record) for record in (*catalogue.CHECKPOINTS, *catalogue.video_generators())]
    if only_first:
        every = [] if asked else [offer for offer in every if offer.is_packaged]
    offers: dict[str, OfferedModel] = {}
    for offer in (*asked, *sorted(every, key=lambda offer: (not offer.is_packaged, not offer.is_here))):
        offers.setdefault(offer.name, offer)
    return offers


def chosen_first(names: Sequence[str], offered: Mapping[str, OfferedModel]) -> list[str]:
    """The one or two models that a page opens with: those that were asked for, else a masked autoencoder."""
    first = list(dict.fromkeys(offer.name for offer in _asked(names)))[:2]
    return first or [next(name for name, offer in offered.items() if offer.kind == MAE)]


def view_of(offer: OfferedModel) -> str:
    """The view that a page opens with, one that such a model has."""
    return {VIT: 'compare', IMAGES: 'compare', GENERATOR: 'next'}.get(offer.kind, 'fill')


def _asked(names: Sequence[str]) -> list[OfferedModel]:
    """What was asked for by names and files, each called otherwise."""
    offers: list[OfferedModel] = []
    for name in names:
        if Path(name).suffix in _FILES or os.path.basename(name) != name or os.path.isfile(name):
            offers.append(_offer_of_file(name, {one.name for one in offers if one.file != name}))
        else:
            offers.append(_offer(_record_of(name)))
    return offers


def _record_of(name: str) -> Checkpoint | PackagedGenerator:
    record = resolve(name).record
    if not isinstance(record, (Checkpoint, PackagedGenerator)):
        raise ValueError(
            f'{name}: the explorer shows video models, image encoders and generators of videos, published ones by '
            f'their names and files of your own'
        )
    return record


def _offer(record: Checkpoint | PackagedGenerator) -> OfferedModel:
    if isinstance(record, PackagedGenerator):
        return OfferedModel(record.name, GENERATOR, record.num_bytes, True, True)
    shared = sum(other.name == record.name for other in catalogue.CHECKPOINTS) > 1
    # A bare name that two zoos share would be taken for one of them, with a warning.
    name = record.timm_name if shared else record.name
    kind = _kind((record.whole or record).architecture)
    return OfferedModel(name, kind, record.num_bytes, on_disk(record) is not None, record.packaged is not None)


def _kind(architecture: str) -> str:
    if architecture.startswith('mae_'):
        return IMAGE_MAE if catalogue.takes_images(architecture) else MAE
    return IMAGES if catalogue.takes_images(architecture) else VIT


def _offer_of_file(file: str, others: set[str]) -> OfferedModel:
    """A file of one's own, by a name that no other model has.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It holds no model that the explorer shows, or does not say which.
    """
    from .. import models  # noqa: F401 - by these files are recognized

    path = as_path(file)
    if not path.exists():
        raise not_found(path, 'file of a model')
    if not path.is_file():
        raise ValueError(f'{file}: a folder; name the file of a model in it')
    contents = Contents(path)
    of_generator = any(key.startswith('vqgan.') for key in contents.weights.tensors)
    if of_generator or contents.header.get('architecture') in VIDEO_PARTS:
        kind = GENERATOR
    else:
        resolved = resolve(None, contents).whole
        if resolved.is_guess or not resolved.architecture:
            looks = f'its tensors are those of {resolved.architecture}; ' if resolved.architecture else ''
            raise ValueError(
                f'{file} does not say which model it is: {looks}what `videozoo convert` makes of it (with the name of '
                f'the model) does'
            )
        resolved.check(any_size=not resolved.tag)
        kind = _kind(resolved.architecture)
    taken = others | {record.name for record in (*catalogue.CHECKPOINTS, *catalogue.video_generators())}
    stem, folder = (re.sub(r'[^\w@+.=-]', '_', part)[:80] for part in (path.stem, path.absolute().parent.name))
    names = [stem, f'{folder}_{stem}', *(f'{folder}_{stem}_{k}' for k in range(2, 3 + len(others)))]
    name = next(name for name in names if name not in taken)
    return OfferedModel(name, kind, path.stat().st_size, True, False, file)


class Models:
    """Loads models, each once for all visitors, and keeps the few that were used last.

    Args:
        offered: What may be loaded.
        device: Where they compute.
    """

    def __init__(self, offered: dict[str, OfferedModel], device: Any = 'cpu') -> None:
        self.offered, self.device = offered, device
        self._held: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()  # of what is held
        self._loading: dict[str, threading.Lock] = {}

    def names(self, *kinds: str) -> list[str]:
        """Those of some kinds."""
        return [name for name, offer in self.offered.items() if offer.kind in kinds]

    def get(self, name: str) -> Any:
        """A model, in eval mode; others can be used while it loads.

        Raises:
            ValueError: It is not offered.
            OSError, ValueError: As `load_model`.
        """
        if name not in self.offered:
            raise ValueError(f'{printable(str(name), 100)} is not among the models of this page')
        with self._lock:
            if name in self._held:
                self._held.move_to_end(name)
                return self._held[name]
            loading = self._loading.setdefault(name, threading.Lock())
        with loading:
            with self._lock:
                if name in self._held:
                    return self._held[name]
            model = self.offered[name].load(self.device)
            with self._lock:
                self._held[name] = model
                while len(self._held) > _HELD:
                    self._held.popitem(last=False)
        return model
