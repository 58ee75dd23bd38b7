"""The files that a command reads: which they are, and what they are called."""

import hashlib
import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ..text import counted, printable
from .loading import refuse_generator
from .options import Inputs, ModelOptions, Pictures
from .output import complain


def telling(left_out: list[OSError]) -> Callable[[OSError], None]:
    """What is done about a folder that cannot be listed: it is told, and counts as left out."""

    def tell(error: OSError) -> None:
        complain(f'{error.filename}: {error.strerror}: what is in it is left out' if error.filename else error)
        left_out.append(error)

    return tell


def files(
    inputs: Inputs,
    find: Callable[..., list[Path]],
    chosen: ModelOptions | None = None,
) -> tuple[list[str], int]:
    """The files that PATH... names, each once, and how many files and folders cannot be read (which is told).

    Args:
        inputs: Files and folders.
        find: `find_videos` or `find_media`.
        chosen: Model that reads them; an image generator is refused first.
    """
    from ..video import find_videos

    if chosen is not None:
        refuse_generator(chosen)
    if not inputs.given:
        raise ValueError('name files or folders')
    found: list[Path] = []
    missing: list[OSError] = []
    unreadable: list[OSError] = []
    for path in inputs.given:
        try:
            found += find(path, telling(unreadable))
        except FileNotFoundError as error:
            missing.append(error)
    if len(missing) == len(inputs.given):
        raise FileNotFoundError('; '.join(map(str, missing)))
    for error in missing:
        complain(error)
    if missing and (hint := unquoted(inputs.given)):
        complain(hint)
    paths = list(map(str, found))
    if len(inputs.given) > 1:
        once: dict[str, str] = {}
        for path in paths:
            once.setdefault(os.path.abspath(path), path)
        paths = list(once.values())
    if not paths:
        what = 'videos' if find is find_videos else 'videos or images'
        raise ValueError(f'no {what} in {", ".join(inputs.given)}')
    return paths, len(missing) + len(unreadable)


def unquoted(words: list[str]) -> str:
    """What to say if words that are no paths would be one, had they been quoted; '' if not."""
    for first, word in enumerate(words):
        for last in range(first + 2, min(first + 8, len(words)) + 1) if not os.path.exists(word) else ():
            path = ' '.join(words[first:last])
            if os.path.exists(path):
                return f'a path that holds spaces needs quotes: {shlex.quote(path)}'
    return ''


def sample(paths: list[str], pictures: Pictures) -> list[str]:
    """--num-vids of the files, at random."""
    number = pictures.num_vids
    if number is None or number >= len(paths):
        if number is not None and number > len(paths):
            complain(f'{counted(len(paths), "file")} found, fewer than --num-vids {number}: all are taken')
        return paths
    from ..video import seed_of

    ranked = sorted(range(len(paths)), key=lambda k: seed_of(pictures.seed, paths[k]))  # another file moves one at most
    return [paths[k] for k in sorted(ranked[:number])]


def tell_shared(train: list[str], held_out: list[str]) -> None:
    """Complain of files that are trained on and held out at once."""
    fitted = set(map(os.path.abspath, train))
    if both := [path for path in held_out if os.path.abspath(path) in fitted]:
        complain(
            f'{len(both)} of the {len(held_out)} files of --val are in --train too ({both[0]}'
            f'{", ..." * (len(both) > 1)}): accuracy on them says nothing about other files'
        )


def shown(path: str) -> str:
    """What a file is called in titles and tables; of synthetic videos the number alone says little."""
    from ..synthetic import is_drawn

    return path if is_drawn(path) else printable(Path(path).name)


def absolute(path: str) -> str:
    """The whole path, by which a file or folder is the same for every command; the name of synthetic videos."""
    from ..synthetic import is_drawn

    return path if is_drawn(path) else os.path.abspath(path)


def digest_of_files(paths: Iterable[str]) -> str:
    """A digest of which files these are, in whatever order; it does not tell the names of their folders."""
    return hashlib.sha256(os.fsencode('\0'.join(sorted(map(absolute, paths))))).hexdigest()[:16]


def names_of(path: str) -> Iterator[str]:
    """What to call a file's pictures by: its stem; where that is not enough its name, with more and more folders."""
    whole = Path(os.path.abspath(path).replace(':', ''))  # of synthetic videos, and of drives
    yield whole.stem
    *folders, name = whole.parts
    for depth in range(len(whole.parts)):
        yield '_'.join(part.strip(os.sep) for part in (*folders[len(folders) - depth :], name))


def unique_stems(paths: list[str]) -> list[str]:
    """A name for each file to call its pictures by, as short as differs from those of the others."""
    names = [names_of(path) for path in paths]
    result = [next(name) for name in names]
    while len(set(result)) < len(result):
        number = Counter(result)
        result = [next(names[i], f'{name}_{i}') if number[name] > 1 else name for i, name in enumerate(result)]
    return result
