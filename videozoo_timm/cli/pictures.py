"""What complete, attend and pca share: a view of each file, a picture of it, and the table of the pictures."""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..text import counted, to_json
from .clips import each_clip
from .inputs import absolute, names_of, shown, unique_stems
from .options import Pictures, ReadingOptions
from .output import Losses, complain, echo, progress, report, table

_KEY, _MARK = 'picture', 'mark'  # columns: of the name, and of whose it is


class PictureFolder:
    """Pictures in their folder, each with a row in the table that tells all settings.

    A picture of the same file and the same settings is replaced, as is its row; all others stay.

    Args:
        pictures: The options of the command.
        table: Name of the table.
        settings: What decides about all pictures.
        about: What else the rows tell of all pictures.
        source: What the rows call the file.
    """

    def __init__(
        self,
        pictures: Pictures,
        table: str,
        settings: Mapping[str, Any],
        about: Mapping[str, Any],
        source: str = 'file',
    ) -> None:
        self.pictures, self.table, self.source = pictures, pictures.out / table, source
        self.settings, self.about = dict(settings), dict(about)
        self.rows: list[dict[str, Any]] = []
        self._apart = 0

    def add(
        self,
        result: Any,
        path: str,
        stem: str,
        what: str,
        row: Mapping[str, Any],
        title: str,
        captions: list[str],
        **options: Any,
    ) -> Path:
        """Write the picture of a file and its row, and with --save-arrays what it shows.

        Args:
            result: A `Pictured`.
            path: The file.
            stem: What its pictures are called by.
            what: What the picture shows, as a part of its name.
            row: What the table tells of it.
            title: What the title says, behind the name of the file.
            captions: Under the columns.
            **options: Of `result.save`.
        """
        from ..outputs import Mark, own_stem

        mark = Mark.of(absolute(path), self.settings)
        before = _read_table(self.table)
        told = {Path(row[_KEY]).stem: Mark.found(row.get(_MARK) or '') for row in before}
        # Under names of other folders, a picture of another file that an earlier command has left stays.
        stems = [f'{name}_{what}' for name in (stem, *list(names_of(path))[2:])]
        name = own_stem(self.pictures.out, stems, mark, told)
        self._apart += name.endswith(f'_{mark.settings[:8]}')
        target = self.pictures.out / f'{name}.{self.pictures.format}'
        tells = {**row, **self.settings, **self.about}
        result.save(
            target,
            title=f'{shown(path)}, {title}' if self.pictures.title else '',
            captions=captions,
            dpi=self.pictures.dpi,
            about=f'{mark} {to_json({self.source: shown(path), **tells}, indent=None)}',  # not where the file is
            **options,
        )
        if self.pictures.save_arrays:
            result.save(target.with_suffix('.npz'), settings={self.source: path, **tells}, **options)
        self.rows.append({_KEY: target.name, self.source: path, **tells, _MARK: str(mark)})
        _write_row(self.rows[-1], before, self.table)
        return target

    def tell(self) -> None:
        """Tell of pictures that are called otherwise, as others have their names."""
        if self._apart:
            complain(
                f'a digest is in the names of {self._apart} of {counted(len(self.rows), "picture")}, as pictures of '
                f'other settings are there; {self.table.name} tells the settings'
            )


def tell_pictures(made: PictureFolder, column: str, rows: list[list[str]]) -> None:
    """Tell of each picture its file, one number, called `column`, and its name; and where they all are."""
    made.tell()
    if rows:
        table(['file', column, 'picture'], rows)
        echo(f'{made.pictures.out}: {counted(len(rows), "picture")}, and {made.table.name}')


def settings_of(model: Any, views: Any, reading: ReadingOptions, start: float | None = None) -> dict[str, Any]:
    """What decides about a picture of whatever kind: the weights, and how files are read; --start if it is given."""
    from ..inference.provenance import weights_of
    from ..video import Reading

    return {
        **weights_of(model),
        **asdict(Reading(**vars(reading)).pixels),
        'size': views.size,
        'num_frames': views.sampling.num_frames,
        'span': views.sampling.span,
        'views': json.dumps(asdict(views)),
        **({} if start is None else {'clip_start': start}),
    }


def each_view(
    paths: list[str],
    views: Any,
    reading: ReadingOptions,
    pictures: Pictures,
    failed: list[str],
    losses: Losses,
    start: float | None = None,
) -> Iterator[tuple[int, str, str, Any]]:
    """(index, path, name for its pictures, view) of each file; one that cannot be read goes to `failed`.

    The view is the centered clip, or begins at `start`.

    What is missing of a file is told to `losses`.
    """
    stems = unique_stems(paths)
    with progress(len(paths)) as update:
        clips = each_clip(paths, views, reading, failed, start, losses, update)
        with closing(clips):
            for index, path, view in clips:
                pictures.out.mkdir(parents=True, exist_ok=True)
                yield index, path, stems[index], view


def leave_out(path: str, error: Exception, failed: list[str]) -> None:
    """Report a file of which there is no picture."""
    report(path, f'{path}: {error}')
    failed.append(path)


def captions(view: Any, num_frames: int, span: int) -> list[str]:
    """The time of each frame; nothing under an image."""
    from ..video import Sampling

    if view.duration == 0:
        return []
    return [f'{view.start + position / 30:.2f} s' for position in Sampling(num_frames, span).positions]


def check_table(path: Path) -> None:
    """Refuse, before the work, a table to which no rows can be added."""
    _read_table(path)


def _read_table(path: Path) -> list[dict[str, Any]]:
    import csv

    from ..files import check_regular

    if not path.exists():
        return []
    check_regular(path)
    with open(path, newline='', encoding='utf-8', errors='surrogateescape') as file:
        try:
            rows = [{key: cell for key, cell in row.items() if key is not None} for row in csv.DictReader(file)]
        except csv.Error as error:
            raise ValueError(f'{path} cannot be read as a table: {error}; move it away') from error
    if any(not row.get(_KEY) for row in rows):
        raise ValueError(f'{path} is no table of pictures (it has no column {_KEY}); move it away')
    return rows


def _write_row(row: dict[str, Any], before: list[dict[str, Any]], path: Path) -> None:
    """Add a row to a table; the rows of other pictures stay, those of other versions too."""
    from ..files import save_csv

    columns = dict.fromkeys([*row, *(key for other in before for key in other)])
    rows = [*(other for other in before if other[_KEY] != row[_KEY]), row]
    save_csv([{key: one.get(key, '') for key in columns} for one in rows], path)
