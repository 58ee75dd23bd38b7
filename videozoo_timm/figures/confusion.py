"""Confusion matrices as pictures."""

import io
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..text import printable
from .fonts import drawable, families_of, matplotlib
from .saving import ending_of, save_figure


def save_confusion(counts: np.ndarray, classes: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Write the picture of a confusion matrix.

    Args:
        counts: [C, C], true class by predicted class.
        classes: Names.
        path: Picture to write; `.png`, `.jpg`, `.pdf` or `.svg`.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: Another ending.
    """
    ending_of(path)
    save_figure(confusion_figure(counts, classes), path)


def figure_png(figure: Callable[[], Any]) -> bytes | None:
    """A matplotlib figure as a notebook shows it, the bytes of a PNG; None if matplotlib is not installed."""
    file = io.BytesIO()
    try:
        figure().savefig(file, format='png')
    except ImportError:
        return None
    return file.getvalue()


def confusion_figure(counts: np.ndarray, classes: Sequence[str]) -> Any:
    """A picture of a confusion matrix, a `matplotlib.figure.Figure`.

    Args:
        counts: [C, C], true class by predicted class; each row is shown in fractions of its files.
        classes: Names.

    Raises:
        ImportError: matplotlib is not installed.
    """
    matplotlib()
    from matplotlib.figure import Figure

    num_classes = len(classes)
    named = num_classes <= 200  # more names could not be read; the axes then count the classes
    side = max(4 + 0.25 * num_classes, 5) if named else 20
    figure = Figure(figsize=(side, side), dpi=100, layout='constrained')
    axes = figure.add_subplot()
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(fractions, cmap='Blues', vmin=0, vmax=1)
    if named:
        names = [drawable(printable(name, 60)) for name in classes]
        axes.set_xticks(range(num_classes), names, rotation=90, parse_math=False)
        axes.set_yticks(range(num_classes), names, parse_math=False)
        for label, name in zip([*axes.get_xticklabels(), *axes.get_yticklabels()], [*names, *names], strict=True):
            label.set_fontfamily(families_of(name))
    axes.set_xlabel('predicted')
    axes.set_ylabel('true')
    if num_classes <= 30:
        for row, column in np.argwhere(counts):
            color = 'white' if fractions[row, column] > 0.5 else 'black'
            axes.text(column, row, str(counts[row, column]), ha='center', va='center', color=color)
    figure.colorbar(image, label='fraction of the true class', shrink=0.7)
    return figure
