"""What complete, attend and pca share: a view of each file, and a picture of it."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from .inputs import names_of, unique_stems
from .options import Pictures, ReadingOptions
from .output import Losses, progress, report


def each_view(
    paths: list[str],
    views: Any,
    reading: ReadingOptions,
    pictures: Pictures,
    failed: list[str],
    losses: Losses,
) -> Iterator[tuple[int, str, str, Any]]:
    """(index, path, name for its pictures, centered view) of each file; one that cannot be read goes to `failed`.

    What is missing of a file is told to `losses`.
    """
    from ..inference.losses import loss_of_view
    from ..video import Job, View, load_views

    stems, jobs = unique_stems(paths), [Job(index, path) for index, path in enumerate(paths)]
    loaded = load_views(jobs, views, **vars(reading))
    with progress(len(paths)) as update, closing(loaded):
        for job, item in loaded:
            if isinstance(item, View):
                pictures.out.mkdir(parents=True, exist_ok=True)
                if reason := loss_of_view(job.path, item):
                    losses(job.path, reason)
                yield job.index, job.path, stems[job.index], item
                continue
            if item is not None:
                report(job.path, item.reason)
                failed.append(job.path)
            update(1)


def leave_out(path: str, error: Exception, failed: list[str]) -> None:
    """Report a file of which there is no picture."""
    report(path, f'{path}: {error}')
    failed.append(path)


def save_picture(picture: Any, path: str, stem: str, what: str, folder: Path) -> Path:
    """Write the picture of a file; that of another file, which an earlier command has left, stays."""
    from ..synthetic import is_drawn

    source = path if is_drawn(path) else os.path.abspath(path)
    about = f'videozoo {hashlib.sha256(os.fsencode(source)).hexdigest()[:16]}'  # without the names of folders
    targets = [folder / f'{name}_{what}.jpg' for name in (stem, *list(names_of(path))[2:])]  # with folders
    target = next((target for target in targets if not _is_of_another(target, about)), targets[-1])
    picture.save(target, about)
    return target


def _is_of_another(target: Path, about: str) -> bool:
    from PIL import Image

    from ..files import check_regular

    try:
        check_regular(target)
        with Image.open(target, formats=['JPEG']) as there:
            comment = there.info.get('comment')
    except Exception:  # not there, or no picture
        return False
    return isinstance(comment, bytes) and comment.startswith(b'videozoo ') and comment != about.encode()


def captions(view: Any, num_frames: int, span: int) -> list[str]:
    """The time of each frame; nothing under an image."""
    from ..video import Sampling

    if view.duration == 0:
        return []
    return [f'{view.start + position / 30:.2f} s' for position in Sampling(num_frames, span).positions]
