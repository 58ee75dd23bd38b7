"""How well the features of several files predict the responses of brains to the same stimuli."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..figures.saving import save_figure
from ..figures.similarity import lines_figure
from ..files import save_csv, save_json
from ..text import counted
from .comparison import Sources, open_sources, told_left_out
from .encoding import Encoding, encode
from .items import checked_features
from .matching import match_rows, told_rows
from .responses import Responses, read_ceiling, read_responses, save_map

__all__ = ['THRESHOLD', 'BrainComparison', 'predict_responses']

THRESHOLD = 0.05  # of q, below which a channel counts as predicted


@dataclass(repr=False)
class BrainComparison:
    """How well files predict responses.

    Attributes:
        encodings: By the name of each file.
        blocks: The blocks of each file; [None] for a model's output.
        responses: What is predicted.
        ceiling: float64 [V], the highest correlation that a model can reach; None if it is not given.
        stimuli: The stimulus of each of the R rows that all have.
        left_out: For each file that has further rows, its name and those that another one lacks.
        settings: What was asked for.
    """

    encodings: dict[str, Encoding]
    blocks: dict[str, list[int | None]]
    responses: Responses
    ceiling: np.ndarray | None
    stimuli: list[str]
    left_out: list[tuple[str, list[str]]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        names = ', '.join(self.encodings)
        return (
            f'BrainComparison({names}: {told_rows(self.stimuli)}, {counted(len(self.responses.channels), "channel")})'
        )

    def rows(self) -> list[dict[str, Any]]:
        """For each file and block, and for the chosen ones ('chosen'), the mean of r over the channels, and quartiles.

        With a noise ceiling `normalized` is the median of r divided by it, over channels whose ceiling is above 0.
        """
        result = []
        for name, encoding in self.encodings.items():
            labeled = [*zip(self.blocks[name], encoding.r, strict=True), ('chosen', encoding.chosen_r)]
            for block, r in labeled:
                low, median, high = np.nanquantile(r, [0.25, 0.5, 0.75])
                row: dict[str, Any] = dict(
                    name=name, block=block, mean=np.nanmean(r), median=median, low=low, high=high
                )
                if self.ceiling is not None:
                    usable = self.ceiling > 0
                    row['normalized'] = np.nanmedian(r[usable] / self.ceiling[usable]) if usable.any() else np.nan
                if block == 'chosen':
                    row['significant'] = int((encoding.q < THRESHOLD).sum())
                result.append({key: float(v) if isinstance(v, np.floating) else v for key, v in row.items()})
        return result

    def channel_rows(self) -> list[dict[str, Any]]:
        """For each file and channel the r of the chosen block, that block, p, and q (the false discovery rate)."""
        result = []
        for name, encoding in self.encodings.items():
            q, blocks = encoding.q, self.blocks[name]
            for v, channel in enumerate(self.responses.channels):
                row: dict[str, Any] = dict(
                    name=name, channel=channel, r=float(encoding.chosen_r[v]), block=blocks[encoding.block[v]]
                )
                row |= dict(p=float(encoding.p[v]), q=float(q[v]))
                if self.ceiling is not None:
                    row['noise_ceiling'] = float(self.ceiling[v])
                result.append(row)
        return result

    def summary(self) -> dict[str, Any]:
        """All results but those of single channels, as they go into JSON."""
        left_out = [dict(name=name, rows=rows) for name, rows in self.left_out]
        return dict(self.settings, channels=len(self.responses.channels), brain=self.rows(), left_out=left_out)

    def figure(self) -> Any:
        """r by block, median and quartiles over the channels, a `matplotlib.figure.Figure`."""
        several = len(self.responses.channels) > 1
        lines: dict[str, list[dict[str, Any]]] = {}
        for row in self.rows():
            if row['block'] != 'chosen':
                shown = {key: row[key] for key in ('block', 'low', 'high') if several or key == 'block'}
                lines.setdefault(row['name'], []).append(dict(shown, value=row['median']))
        ceiling = None if self.ceiling is None else tuple(np.quantile(self.ceiling, [0.25, 0.75]))
        label = "Pearson's r" + (', median and quartiles' if several else '')
        return lines_figure(lines, label, level=0.0, ceiling=ceiling)

    def save(self, folder: str | os.PathLike[str], format: str = 'pdf') -> None:
        """Write `brain.json`, `brain.csv`, `channels.csv`, a picture `brain`, and of images maps `r_NAME.nii.gz`.

        Args:
            folder: Is made.
            format: Of the picture: 'pdf', 'svg' or 'png'.

        Raises:
            OSError: The disk is full, or not to be written.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_json(self.summary(), folder / 'brain.json')
        rows = [{'significant': '', **row} for row in self.rows()]
        save_csv(rows, folder / 'brain.csv')
        save_csv(self.channel_rows(), folder / 'channels.csv')
        save_figure(self.figure(), folder / f'brain.{format}')
        if self.responses.image is not None:
            for name, encoding in self.encodings.items():
                save_map(encoding.chosen_r, self.responses, folder / f'r_{_file_name(name)}.nii.gz')


def _file_name(name: str) -> str:
    """The name as that of a file; of files of one name in several folders it is their whole path."""
    return re.sub(r'[\\/:]+', '_', name).strip('_')


def predict_responses(
    sources: Sources,
    responses: str | os.PathLike[str],
    *,
    stimuli: Sequence[str] = (),
    mask: str | os.PathLike[str] | None = None,
    ceiling: str | os.PathLike[str] | None = None,
    folds: int = 5,
    projection: int | None = None,
    permutations: int = 1000,
    seed: int = 0,
    progress: Callable[[str, float, int], Any] = lambda what, number, total: None,
    say: Callable[[str], Any] = lambda text: None,
) -> BrainComparison:
    """Predict responses from the features of several files, by `encode`; rows are matched by stimulus and time.

    Args:
        sources: As in `compare`.
        responses: File of them, as `read_responses` has it.
        stimuli: Names of its rows, as there.
        mask: As there.
        ceiling: File of the noise ceiling, as `read_ceiling` has it.
        folds: As in `encode`.
        projection: As in `encode`.
        permutations: As in `encode`.
        seed: As in `encode`.
        progress: Called with what is being done, how many steps of it are (or a fraction of one), and of how many.
        say: As in `compare`.

    Raises:
        ValueError: As in `read_responses`, `match_rows` and `encode`.
        FileNotFoundError: There is no such file.
        ImportError: scikit-learn is not installed, or nibabel, for a NIfTI image.
    """
    files = open_sources(sources)
    given = read_responses(responses, files[0], stimuli=stimuli, mask=mask)
    highest = None if ceiling is None else read_ceiling(ceiling, given)
    matched = match_rows([*files, given.rows])
    for line in told_left_out(matched.left_out):
        say(line)
    values, encodings, blocks = given.values[matched.rows[-1]], {}, {}
    if not np.ptp(values, axis=0).any():
        raise ValueError(f'{given.rows.name}: no channel varies over {counted(len(values), "row")}')
    fits = folds * sum(len(file.blocks or [None]) for file in files)
    for file, rows in zip(files, matched.rows, strict=False):
        features, named = file.features(), list(file.blocks or [None])
        taken = [checked_features(features[:, k], file, block, rows, 'euclidean') for k, block in enumerate(named)]
        encodings[file.name] = encode(
            np.stack(taken, axis=1),
            values,
            matched.paths,  # one that is listed twice is not to be on both sides
            folds=folds,
            projection=projection,
            permutations=permutations,
            seed=seed,
            progress=lambda number: progress('ridge regressions', number, fits),
        )
        blocks[file.name] = named
    solver = next(iter(encodings.values())).solver
    settings = dict(folds=folds, projection=projection, permutations=permutations, seed=seed, solver=solver)
    return BrainComparison(encodings, blocks, given, highest, matched.stimuli, matched.left_out, settings)
