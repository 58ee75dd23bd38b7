"""Pictures: rows of frames with labels, heat maps, animations, confusion matrices, figures of comparisons."""

from .colors import colorbar, heat, overlay, to_bytes, upsample
from .confusion import confusion_figure, figure_png, save_confusion
from .fonts import check_pictures
from .grid import Grid, png_of
from .saving import PICTURES, VECTOR, save_animation, save_image
from .similarity import STYLE, draw_lines, draw_places, heat_map_figure, lines_figure, mds_figure
from .timeline import Curve, FilmPlot, Timeline

__all__ = [
    'PICTURES',
    'STYLE',
    'VECTOR',
    'Curve',
    'FilmPlot',
    'Grid',
    'Timeline',
    'check_pictures',
    'colorbar',
    'confusion_figure',
    'draw_lines',
    'draw_places',
    'figure_png',
    'heat',
    'heat_map_figure',
    'lines_figure',
    'mds_figure',
    'overlay',
    'png_of',
    'save_animation',
    'save_confusion',
    'save_image',
    'to_bytes',
    'upsample',
]


def __dir__() -> list[str]:
    return list(__all__)
