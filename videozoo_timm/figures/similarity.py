"""Figures of comparisons: heat maps, representations in the plane, curves over blocks. Sizes are those of a paper."""

from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any

import numpy as np

from .fonts import drawable, matplotlib

_INCH = 2.54  # centimeters
_LETTERS = 8  # points
_MARKER = 2.5  # points from the middle of a marker to its border, and a little more
_COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000', '#F0E442')  # Okabe and Ito
_MARKERS = 'osD^vP*X'
STYLE: dict[Any, Any] = {
    'font.size': _LETTERS,
    'axes.titlesize': _LETTERS,
    'axes.linewidth': 0.6,
    'xtick.major.width': 0.6,
    'ytick.major.width': 0.6,
    'lines.linewidth': 1.2,
    'lines.markersize': 4,
    'legend.frameon': False,
}


def style_of(place: int) -> dict[str, Any]:
    """Color and marker of a file: colors that everybody can tell apart, then the same with other markers."""
    return dict(color=_COLORS[place % len(_COLORS)], marker=_MARKERS[place // len(_COLORS) % len(_MARKERS)])


def new_figure(width: float, height: float) -> Any:
    """A `matplotlib.figure.Figure` of these centimeters.

    Raises:
        ImportError: matplotlib is not installed.
    """
    matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width / _INCH, height / _INCH), dpi=150, layout='constrained')


def heat_map_figure(values: np.ndarray, names: Sequence[str], blocks: Sequence[int | None], label: str) -> Any:
    """Similarities [K, K] in color, the blocks of a file side by side.

    Args:
        values: Similarities, 1 on the diagonal.
        names: The file of each row.
        blocks: Its block; None for none.
        label: What the values are.

    Raises:
        ImportError: matplotlib is not installed.
    """
    with matplotlib().rc_context(STYLE):
        number = len(values)
        side = float(np.clip(0.35 * number, 4.5, 18))
        figure = new_figure(side + 4, side + 2.5)
        axes = figure.add_subplot()
        low = min(0.0, float(np.nanmin(values)))
        image = axes.imshow(values, cmap='viridis', vmin=low, vmax=1)
        spans = _spans(names)
        axes.set_xticks([middle for _, _, middle in spans], _ticks(spans), rotation=35, ha='right', parse_math=False)
        axes.set_yticks([middle for _, _, middle in spans], _ticks(spans), parse_math=False)
        axes.tick_params(length=0)
        for _, first, _ in spans[1:]:
            axes.axhline(first - 0.5, color='white', linewidth=1)
            axes.axvline(first - 0.5, color='white', linewidth=1)
        if number <= 8:
            for (row, column), value in np.ndenumerate(values):
                color = 'black' if value > low + 0.6 * (1 - low) else 'white'
                axes.text(column, row, f'{value:.2f}', ha='center', va='center', color=color, fontsize=_LETTERS - 1)
        for _, first, middle in spans:
            last = round(2 * middle) - first
            if last > first and blocks[first] is not None and number <= 40:
                for row in range(first, last + 1):
                    axes.text(number - 0.3, row, str(blocks[row]), va='center', fontsize=_LETTERS - 3, color='gray')
        figure.colorbar(image, ax=axes, label=label, shrink=0.8, pad=0.06)
    return figure


def _spans(names: Sequence[str]) -> list[tuple[str, int, float]]:
    """The files with their first row and the middle of their rows."""
    spans, first = [], 0
    for name, rows in groupby(names):
        number = len(list(rows))
        spans.append((name, first, first + (number - 1) / 2))
        first += number
    return spans


def _ticks(spans: Sequence[tuple[str, int, float]]) -> list[str]:
    return [drawable(name) for name, _, _ in spans]


def positions(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Places in the plane by classical scaling (Torgerson, 1952), of the distances sqrt(2 - 2 * similarity).

    Returns:
        [K, 2], and which fraction of the variance of the distances is in the plane.
    """
    squared = np.maximum(2 - 2 * np.nan_to_num(values), 0)
    centered = squared - squared.mean(axis=0) - squared.mean(axis=1, keepdims=True) + squared.mean()
    weights, vectors = np.linalg.eigh(-centered / 2)
    weights = np.maximum(weights, 0)
    kept = float(weights[-2:].sum() / weights.sum()) if weights.any() else 1.0
    return vectors[:, :-3:-1] * np.sqrt(weights[:-3:-1]), kept


def mds_figure(values: np.ndarray, names: Sequence[str], blocks: Sequence[int | None], label: str) -> Any:
    """Representations in the plane, near to each other where they are alike; a line runs through the blocks of a file.

    Args:
        values: Similarities [K, K].
        names: The file of each representation.
        blocks: Its block; None for none.
        label: What the values are.

    Raises:
        ImportError: matplotlib is not installed.
    """
    with matplotlib().rc_context(STYLE):
        figure = new_figure(8.5, 7.5)
        axes = figure.add_subplot()
        places, kept = positions(values)
        rows = _draw_files(axes, places, names)
        axes.set(xlabel=f'√(2 − 2s), s: {label}; {kept:.0%} of the variance')
        figure.legend(loc='outside upper center', ncols=3)
        _label_ends(axes, places, rows, blocks)
    return figure


def draw_places(axes: Any, values: np.ndarray, names: Sequence[str], blocks: Sequence[int | None]) -> float:
    """As `mds_figure`, on axes of a figure of one's own; the fraction of the variance that they show."""
    places, kept = positions(values)
    _label_ends(axes, places, _draw_files(axes, places, names), blocks)
    return kept


def _draw_files(axes: Any, places: np.ndarray, names: Sequence[str]) -> list[slice]:
    """A line for each file; which of the places [K, 2] are its own."""
    rows = [slice(first, round(2 * middle) - first + 1) for _, first, middle in _spans(names)]
    for k, own in enumerate(rows):
        style = dict(markeredgecolor='white', markeredgewidth=0.4, **style_of(k))
        axes.plot(*places[own].T, label=drawable(names[own.start]), **style)
    axes.set_aspect('equal', adjustable='datalim')
    axes.margins(0.12)
    axes.set(xticks=[], yticks=[])
    return rows


def _label_ends(axes: Any, places: np.ndarray, rows: Sequence[slice], blocks: Sequence[int | None]) -> None:
    """Write the first and the last block of each file beside its place, where nothing else is drawn."""
    axes.figure.figure.draw_without_rendering()  # from now on it is known where in the figure the places are
    scale = 72 / axes.figure.dpi
    points, frame = axes.transData.transform(places) * scale, axes.get_window_extent().get_points() * scale
    drawn = np.concatenate([_along(points[own]) for own in rows])
    for row in dict.fromkeys(row for own in rows for row in (own.start, own.stop - 1)):
        if blocks[row] is not None:
            text, size = str(blocks[row]), _LETTERS - 2
            half = size * np.array([0.32 * len(text), 0.38])  # of its width and height
            offset = _free_offset(points[row], points.mean(axis=0), half, drawn, frame)
            corners = points[row] + offset + half * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)])
            drawn = np.concatenate([drawn, _along(corners)])
            axes.annotate(
                text, places[row], offset, textcoords='offset points', ha='center', va='center', fontsize=size
            )


def _along(points: np.ndarray) -> np.ndarray:
    """Points [n, 2] on a line through some [k, 2], at most one unit from each other."""
    pieces = [points[:1]]
    for start, end in pairwise(points):
        pieces.append(np.linspace(start, end, 2 + int(np.linalg.norm(end - start))))
    return np.concatenate(pieces)


def _free_offset(
    point: np.ndarray, center: np.ndarray, half: np.ndarray, drawn: np.ndarray, frame: np.ndarray
) -> tuple[float, float]:
    """How far from a point a text goes: away from the center, or to the side of this, until it covers nothing."""
    outward, best, fewest = np.arctan2(*(point - center)[::-1]), (0.0, 0.0), np.inf
    for distance in (5, 7, 9, 12, 15, 18, 22):  # points
        for turn in sorted(np.linspace(-np.pi, np.pi, 24, endpoint=False), key=abs):
            direction = np.array([np.cos(outward + turn), np.sin(outward + turn)])
            offset = (distance + half[0] * abs(direction[0])) * direction
            where = point + offset
            covered = (np.abs(drawn - where) < half + _MARKER).all(axis=1).sum()
            covered += 1000 * bool((where - half < frame[0]).any() or (where + half > frame[1]).any())
            if covered < fewest:
                best, fewest = (float(offset[0]), float(offset[1])), covered
        if not fewest:
            break
    return best


def lines_figure(
    lines: Mapping[str, Sequence[Mapping[str, Any]]],
    label: str,
    *,
    level: float | None = None,
    ceiling: tuple[float, float] | None = None,
) -> Any:
    """Values by block, one line a file, with intervals.

    Args:
        lines: For each file rows with 'block', 'value' and perhaps 'low' and 'high'.
        label: What the values are.
        level: Of chance.
        ceiling: Lower and upper bound of the noise ceiling.

    Raises:
        ImportError: matplotlib is not installed.
    """
    with matplotlib().rc_context(STYLE):
        figure = new_figure(8.5, 6.5)
        axes = figure.add_subplot()
        draw_lines(axes, lines, label, level=level, ceiling=ceiling)
        figure.legend(loc='outside upper center', ncols=3)
    return figure


def draw_lines(
    axes: Any,
    lines: Mapping[str, Sequence[Mapping[str, Any]]],
    label: str,
    *,
    level: float | None = None,
    ceiling: tuple[float, float] | None = None,
) -> None:
    """As `lines_figure`, on axes of a figure of one's own."""
    if ceiling is not None:
        axes.axhspan(*ceiling, color='0.85', linewidth=0, label='noise ceiling')
    if level is not None:
        axes.axhline(level, color='gray', linewidth=0.6, linestyle=':')
    blocks = sorted({row['block'] for rows in lines.values() for row in rows if row['block'] is not None})
    place = {block: k for k, block in enumerate([*blocks, None] if blocks else [None])}
    for k, (name, rows) in enumerate(lines.items()):
        shift = 0.08 * (k - (len(lines) - 1) / 2)  # so that intervals do not hide each other
        x, y = np.array([place[row['block']] + shift for row in rows]), np.array([row['value'] for row in rows])
        errors = None
        if all('low' in row for row in rows):
            ends = [(row['value'] - row['low'], row['high'] - row['value']) for row in rows]
            errors = np.maximum(np.array(ends).T, 0)
        axes.errorbar(x, y, errors, label=drawable(name), capsize=1.5, elinewidth=0.8, **style_of(k))
    shown = [None] if not blocks else blocks + [None] * any(row['block'] is None for r in lines.values() for row in r)
    axes.set_xticks([place[block] for block in shown], ['output' if block is None else str(block) for block in shown])
    axes.set(xlabel='block' if blocks else None, ylabel=label)
    axes.set_xlim(-0.5, len(shown) - 0.5)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)
