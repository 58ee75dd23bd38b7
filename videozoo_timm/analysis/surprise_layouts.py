"""Benchmarks of surprise: which films there are, which of them are possible, and which are compared, as published.

A layout reads a folder (or, of those whose names tell everything, a list of names) and says in words what is left out.
"""

import csv
import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ..files import check_regular
from ..paths import as_path, not_found
from ..text import counted
from ..video import VideoError, find_media, probe, read_image
from ..video.sequences import ImageSequence

__all__ = ['LAYOUTS', 'Benchmark', 'Film', 'FilmPair', 'Layout', 'adept_class', 'read_benchmark']


@dataclass(frozen=True)
class Film:
    """A film of a benchmark.

    Attributes:
        path: As `read_clip` takes it.
        start: Where it begins to count, in seconds.
    """

    path: str
    start: float = 0.0


@dataclass(frozen=True)
class FilmPair:
    """An impossible film and a possible one that it is compared with.

    Attributes:
        property: What is violated.
        scene: The pairs of a scene are not independent of each other: intervals are over scenes.
        impossible: Name of the film.
        possible: Name of the film.
    """

    property: str
    scene: str
    impossible: str
    possible: str


@dataclass
class Benchmark:
    """The films of a folder, paired.

    Attributes:
        layout: Its name.
        films: By their names: the path below the folder without ending.
        comparisons: All pairs.
        left_out: What is there, but not compared, in words.
    """

    layout: str
    films: dict[str, Film] = field(default_factory=dict)
    comparisons: list[FilmPair] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        scenes = {(c.property, c.scene) for c in self.comparisons}
        films = {name for c in self.comparisons for name in (c.possible, c.impossible)}
        return f'Benchmark({self.layout}: {counted(len(films), "film")}, {counted(len(scenes), "scene")})'


@dataclass(frozen=True)
class Layout:
    """How a benchmark is stored and scored.

    Attributes:
        read: From a folder to the benchmark.
        compare: From names of films alone to the benchmark, where they tell everything.
        settings: Of `surprise`, as published.
        whole: How the scores of a film's windows become one where films are judged singly: 'max' or 'mean'.
    """

    read: Callable[[Path], Benchmark]
    compare: Callable[[Iterable[str]], Benchmark] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    whole: str = 'max'


def read_benchmark(layout: str, folder: str | os.PathLike[str]) -> Benchmark:
    """The films of a benchmark and how they are compared.

    Args:
        layout: One of `LAYOUTS`.
        folder: Where it is; of 'pairs' also `drawn-violations:100@7` or `FOLDER:frames@15`.

    Raises:
        FileNotFoundError: No such folder, or what every folder of this layout has is not in it.
        ValueError: No such layout, or nothing in it can be compared.
    """
    if layout not in LAYOUTS:
        raise ValueError(f'layout={layout!r}: must be one of {list(LAYOUTS)}')
    folder = as_path(folder)
    if layout != 'pairs' and not folder.is_dir():
        raise not_found(folder, 'folder')
    benchmark = LAYOUTS[layout].read(folder)
    if not benchmark.comparisons:
        reasons = '; '.join(benchmark.left_out[:3]) or f'{counted(len(benchmark.films), "film")} found'
        raise ValueError(f'{folder}: nothing can be compared as the layout {layout!r} says: {reasons}')
    return benchmark


def compare_names(layout: str, names: Iterable[str]) -> Benchmark | None:
    """The benchmark of these films, without their folder; None of a layout whose names do not tell enough."""
    compare = LAYOUTS[layout].compare
    return compare(names) if compare else None


# Layouts whose names tell everything.


def _read_names(folder: Path, compare: Callable[[Iterable[str]], Benchmark]) -> Benchmark:
    root = str(folder).partition(':frames')[0]
    films = {}
    for path in find_media(folder):
        name = str(path).partition(':frames')[0]
        name = os.path.relpath(name, root) if not name.startswith('drawn-violations:') else name.partition('/')[2]
        films[PurePosixPath(*Path(name).parts).with_suffix('').as_posix()] = Film(str(path))
    benchmark = compare(films)
    benchmark.films = films
    return benchmark


def _compare_pairs(names: Iterable[str]) -> Benchmark:
    """PROPERTY/NAME/possible and PROPERTY/NAME/impossible; PROPERTY may be left out."""
    result, pairs = Benchmark('pairs'), defaultdict(dict)
    for name in names:
        *folders, kind = name.split('/')
        if kind not in ('possible', 'impossible') or not folders:
            result.left_out.append(f'{name}: is called neither possible nor impossible, without an ending')
        else:
            pairs[tuple(folders)][kind] = name
    for folders, pair in pairs.items():
        if len(pair) < 2:
            result.left_out.append(f'{next(iter(pair.values()))}: has no partner')
            continue
        *above, what, scene = ('all', *folders)[-max(len(folders), 2) :]
        result.comparisons.append(FilmPair(what, '/'.join([*above, scene]), pair['impossible'], pair['possible']))
    return result


_GRASP = re.compile(r'(?:(.*)/)?(I?P)_([^/]+)/([^/]+)')


def _compare_grasp(names: Iterable[str]) -> Benchmark:
    """P_PROPERTY/NAME and IP_PROPERTY/NAME."""
    result, pairs = Benchmark('grasp'), defaultdict(dict)
    for name in names:
        match = _GRASP.fullmatch(name)
        if match:
            pairs[match[1], match[3], match[4]][match[2]] = name
        else:
            result.left_out.append(f'{name}: is in no folder P_... or IP_...')
    for (above, what, scene), pair in pairs.items():
        if len(pair) == 2:
            scene = f'{above}/{scene}' if above else scene
            result.comparisons.append(FilmPair(what, scene, pair['IP'], pair['P']))
        else:
            result.left_out.append(f'{next(iter(pair.values()))}: has no partner')
    return result


# violation: the case, the index of the film that shows it, and those of its controls, as in ADEPT's measure_accuracy.py
_ADEPT = {
    'create': ('disappear', 2, (0, 3, 4)),
    'vanish': ('disappear_fixed', 1, (0, 3, 4)),
    'short-overturn': ('overturn', 0, (1,)),
    'long-overturn': ('overturn', 3, (2,)),
    'visible-discontinuous': ('discontinuous', 2, (3, 4, 5)),
    'invisible-discontinuous': ('discontinuous', 1, (0, 4, 5)),
    'delay': ('delay', 1, (0,)),
    'block': ('block', 1, (0,)),
}
_ADEPT_CASES = sorted({case for case, *_ in _ADEPT.values()}, key=len, reverse=True)  # longest first
_ADEPT_NAME = re.compile(rf'(?:.*/)?human_({"|".join(_ADEPT_CASES)})_(.+)_([0-9]+)')
_GEOMETRIC = ('cube', 'sphere', 'cone', 'cylinder')


def adept_class(shape: str) -> str:
    """The class of a shape of ADEPT: geometric, real-life, or of ShapeNet in-class or out-class."""
    if not shape.isdigit():
        return 'geometric' if shape in _GEOMETRIC else 'real-life'
    return 'in-class' if int(shape) % 5 else 'out-class'


def _compare_adept(names: Iterable[str]) -> Benchmark:
    """human_CASE_SHAPE_INDEX."""
    result, films = Benchmark('adept'), {}
    for name in names:
        match = _ADEPT_NAME.fullmatch(name)
        if match:
            films[match[1], match[2], int(match[3])] = name
        else:
            result.left_out.append(f'{name}: is not called human_CASE_SHAPE_INDEX, of the cases {_ADEPT_CASES}')
    shapes = sorted({(case, shape) for case, shape, _ in films})
    for what, (case, violation, controls) in _ADEPT.items():
        for shape in (shape for of_case, shape in shapes if of_case == case):
            missing = [index for index in (violation, *controls) if (case, shape, index) not in films]
            if missing == [violation, *controls]:
                continue  # of another violation of this case
            if missing:
                result.left_out.append(f'{what} of {shape}: human_{case}_{shape}_{missing[0]} is missing')
                continue
            result.comparisons += [
                FilmPair(what, shape, films[case, shape, violation], films[case, shape, control])
                for control in controls
            ]
    return result


# Layouts that have tables beside their films.


def _read_intphys(folder: Path) -> Benchmark:
    """O1/SCENE/FILM/scene/*.png, at 15 frames a second, beside FILM/status.json; in `folder` or its `dev`."""
    result = Benchmark('intphys')
    base = folder / 'dev' if (folder / 'dev').is_dir() else folder
    blocks = sorted(path for path in base.iterdir() if re.fullmatch(r'O[0-9]', path.name) and path.is_dir())
    if not blocks:
        raise FileNotFoundError(f'{folder}: has no folders O1, O2, O3, nor dev/O1 and so on, as IntPhys has')
    for block in blocks:
        for scene in sorted(path for path in block.iterdir() if path.is_dir()):
            try:
                films = {name: _intphys_film(scene / name) for name in '1234'}
                possible, impossible = (
                    [name for name, (_, is_possible) in films.items() if is_possible == kind] for kind in (True, False)
                )
                if len(possible) != 2:
                    raise ValueError(f'{scene}: {len(possible)} of its four films are possible, not two')
                pairs = _matched(possible, impossible, {name: film for name, (film, _) in films.items()})
            except (OSError, ValueError, VideoError) as error:
                result.left_out.append(str(error))
                continue
            names = {name: f'{block.name}/{scene.name}/{name}' for name in films}
            result.films |= {names[name]: film for name, (film, _) in films.items()}
            result.comparisons += [FilmPair(block.name, scene.name, names[other], names[one]) for one, other in pairs]
    return result


def _intphys_film(folder: Path) -> tuple[Film, bool]:
    """A film, and whether it is possible."""
    status = folder / 'status.json'
    try:
        check_regular(status)
        is_possible = json.loads(status.read_bytes())['header']['is_possible']
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = 'is missing' if isinstance(error, FileNotFoundError) else 'does not say whether the film is possible'
        raise ValueError(f'{status} {reason}') from error
    return Film(f'{folder / "scene"}:frames@15'), bool(is_possible)


def _matched(possible: list[str], impossible: list[str], films: Mapping[str, Film]) -> list[tuple[str, str]]:
    """Two pairs of a possible and an impossible film: those with the longest identical beginning, and the others."""
    files = {name: ImageSequence(film.path).files for name, film in films.items()}

    def shared(first: str, second: str) -> int:
        number = 0
        for one, other in zip(files[first], files[second], strict=False):
            if one.read_bytes() != other.read_bytes() and not read_image(one).equal(read_image(other)):
                break
            number += 1
        return number

    first, second = max(((p, i) for p in possible for i in impossible), key=lambda pair: shared(*pair))
    (other,), (partner,) = (
        [name for name in names if name != chosen] for names, chosen in ((possible, first), (impossible, second))
    )
    return [(first, second), (other, partner)]


def _rows_of(table: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """The rows of a CSV that has these columns."""
    check_regular(table)
    with open(table, newline='', encoding='utf-8-sig') as file:
        reader = csv.DictReader(file)
        lacking = [column for column in columns if column not in (reader.fieldnames or ())]
        if lacking:
            raise ValueError(f'{table}: has no column {lacking[0]!r}; its columns are {reader.fieldnames}')
        return list(reader)


def _read_inflevel(folder: Path) -> Benchmark:
    """PROPERTY.csv, a pair in each row; both films begin after the priming, and the longer one loses its head."""
    result = Benchmark('inflevel')
    tables = [table for what in ('continuity', 'gravity', 'solidity') if (table := folder / f'{what}.csv').is_file()]
    if not tables:
        raise FileNotFoundError(f'{folder}: has no continuity.csv, gravity.csv or solidity.csv, as InfLevel has')
    columns = [f'vid{k}_{name}' for k in (1, 2) for name in ('path', 'label', 'end_priming_2')]
    lengths: dict[str, tuple[int, float]] = {}  # frames, and frames a second
    for table in tables:
        for number, row in enumerate(_rows_of(table, columns)):
            where = f'{table.name}, row {number + 1}'
            try:
                names, starts = _inflevel_pair(folder, row, lengths)
            except (OSError, ValueError, VideoError) as error:
                result.left_out.append(f'{where}: {error}')
                continue
            result.films |= {name: Film(str(folder / row[f'vid{k}_path']), starts[k]) for k, name in names.items()}
            kinds = {row[f'vid{k}_label'].strip().lower(): name for k, name in names.items()}
            scene = f'{table.stem} {number + 1}'
            result.comparisons.append(FilmPair(table.stem, scene, kinds['impossible'], kinds['possible']))
    return result


def _inflevel_pair(
    folder: Path, row: Mapping[str, str], lengths: dict[str, tuple[int, float]]
) -> tuple[dict[int, str], dict[int, float]]:
    """Names and starts in seconds of the two films of a row."""
    labels = sorted(row[f'vid{k}_label'].strip().lower() for k in (1, 2))
    if labels != ['impossible', 'possible']:
        raise ValueError(f'one film is possible and one impossible, not {" and ".join(labels)}')
    rest, begins = {}, {}
    for k in (1, 2):
        path = row[f'vid{k}_path']
        if path not in lengths:
            info = probe(folder / path)
            lengths[path] = round(info.duration * info.fps), info.fps
        begins[k] = int(float(row[f'vid{k}_end_priming_2'])) + 1
        rest[k] = lengths[path][0] - begins[k]
        if rest[k] <= 0:
            raise ValueError(f'{path}: its {lengths[path][0]} frames end with the priming')
    frames = {k: begins[k] + rest[k] - min(rest.values()) for k in (1, 2)}
    paths = {k: PurePosixPath(row[f'vid{k}_path']).with_suffix('').as_posix() for k in (1, 2)}
    names = {k: f'{path} from frame {frames[k]}' for k, path in paths.items()}  # a film stands in several rows
    return names, {k: frames[k] / lengths[row[f'vid{k}_path']][1] for k in (1, 2)}


def _read_intphys2(folder: Path) -> Benchmark:
    """Main/metadata.csv with the type 1_Possible, 1_Impossible, 2_Possible or 2_Impossible of each film of a scene."""
    result = Benchmark('intphys2')
    table = next((t for t in (folder / 'metadata.csv', folder / 'Main' / 'metadata.csv') if t.is_file()), None)
    if table is None:
        raise FileNotFoundError(f'{folder}: has no metadata.csv, nor Main/metadata.csv, as IntPhys2 has')
    scenes: dict[tuple[str, str, str], dict[str, str]] = defaultdict(dict)
    for row in _rows_of(table, ('SceneIndex', 'file_name', 'condition', 'type')):
        take, _, kind = row['type'].partition('_')
        name = PurePosixPath(row['file_name']).with_suffix('').as_posix()
        if kind.lower() not in ('possible', 'impossible'):
            result.left_out.append(f'{row["file_name"]}: its type {row["type"]!r} is neither possible nor impossible')
        elif not (table.parent / row['file_name']).exists():
            result.left_out.append(f'{table.parent / row["file_name"]}: no such file')
        else:
            scenes[row['condition'], row['SceneIndex'], take][kind.lower()] = name
            result.films[name] = Film(str(table.parent / row['file_name']))
    for (what, scene, take), pair in scenes.items():
        if len(pair) == 2:
            result.comparisons.append(FilmPair(what, scene, pair['impossible'], pair['possible']))
        else:
            result.left_out.append(f'{next(iter(pair.values()))}: has no partner in scene {scene}, take {take}')
    return result


# Frame steps and contexts are those of arXiv 2502.11831 and, of IntPhys2, arXiv 2506.09849; films have their own rates.
_OWN_RATE = dict(frame_rate=None, stride=2)
LAYOUTS: dict[str, Layout] = {
    'pairs': Layout(lambda folder: _read_names(folder, _compare_pairs), _compare_pairs, dict(frame_step=4)),
    'intphys': Layout(_read_intphys, None, dict(_OWN_RATE, frame_step=2)),
    'grasp': Layout(lambda folder: _read_names(folder, _compare_grasp), _compare_grasp, dict(_OWN_RATE, frame_step=10)),
    'inflevel': Layout(_read_inflevel, None, dict(_OWN_RATE, frame_step=5)),
    'intphys2': Layout(_read_intphys2, None, dict(_OWN_RATE, frame_step=10, contexts=(4, 6, 8, 10, 12, 14))),
    'adept': Layout(
        lambda folder: _read_names(folder, _compare_adept),
        _compare_adept,
        dict(mask_type='temporal', mask_ratio=0.9, norm_pix_loss=True, frame_rate=25.0),
        'mean',
    ),
}
