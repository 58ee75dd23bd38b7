"""Fonts that have the characters of a text, whatever its script.

matplotlib's own DejaVu Sans (Latin, Greek, Cyrillic, Arabic, Hebrew and more) comes first, then what is installed. A
character that no font has is written as its code.
"""

import functools
import logging
import re
import unicodedata
from pathlib import Path
from typing import Any

from ..text import printable

_logger = logging.getLogger(__name__)

# File names of fonts that look well beside DejaVu Sans, the best first; any other one is taken after them.
_PREFERRED = ('notosanscjk', 'sourcehansans', 'notosans', 'pingfang', 'hiragino', 'msyh', 'yugoth', 'malgun', 'wqy')
# No shapes of letters, no outlines, or letters for formulas.
_UNFIT = re.compile('lastresort|emoji|cmex|cmsy|stix', re.IGNORECASE)
_STYLED = re.compile('bold|black|heavy|light|thin|italic|oblique|condensed|narrow|mono|serif', re.IGNORECASE)


def check_pictures() -> None:
    """Raise an ImportError that says what to install if pictures cannot be made."""
    matplotlib()


def matplotlib() -> Any:
    """The library.

    Raises:
        ImportError: It is not installed, in words.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'videozoo-timm[pictures]'") from error
    return matplotlib


def drawable(text: str) -> str:
    r"""A text in one line, of characters for which there are fonts; of others the codes (`\u732b`)."""
    text = printable(unicodedata.normalize('NFC', ' '.join(text.split())))  # macOS takes accents apart
    missing = ''.join(dict.fromkeys(char for char in text if font_with(char) is None))
    if missing:
        _warn_once(missing)
    return ''.join(char.encode('unicode_escape').decode() if char in missing else char for char in text)


def runs(text: str) -> list[tuple[str, str]]:
    """A drawable text in pieces of one font each: (piece, the font's file)."""
    pieces: list[tuple[str, str]] = []
    for char in text:
        path = font_with(char) or base_font()
        if pieces and (char == ' ' or unicodedata.category(char)[0] == 'M') and _has(pieces[-1][1], char):
            path = pieces[-1][1]  # marks stand with their letters
        if pieces and path == pieces[-1][1]:
            pieces[-1] = (pieces[-1][0] + char, path)
        else:
            pieces.append((char, path))
    return pieces


def families_of(text: str) -> list[str]:
    """Names of the fonts of a text, in the order in which matplotlib shall look for its characters."""
    from matplotlib.font_manager import FontProperties, fontManager

    families = ['DejaVu Sans']
    for _, path in runs(text):
        if not any(entry.fname == path for entry in fontManager.ttflist):
            fontManager.addfont(path)  # installed since matplotlib last looked
        families.append(FontProperties(fname=path).get_name())
    return list(dict.fromkeys(families))


def width_of(text: str, size: int) -> float:
    """Width of a drawable text, in pixels; `size` is that of the letters."""
    return sum(pillow_font(path, size).getlength(piece) for piece, path in runs(text))


@functools.lru_cache(maxsize=64)
def pillow_font(path: str, size: int) -> Any:
    """A font, a `PIL.ImageFont.FreeTypeFont`; `size` in pixels."""
    from PIL import ImageFont

    return ImageFont.truetype(path, size)


@functools.cache
def base_font() -> str:
    """File of DejaVu Sans, which comes with matplotlib."""
    return str(Path(matplotlib().get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf'))


@functools.cache
def font_with(char: str) -> str | None:
    """File of the font to draw a character with; None if no font has it."""
    if _has(base_font(), char):
        return base_font()
    return next((path for path in installed_fonts() if _has(path, char)), None)


@functools.cache
def installed_fonts() -> tuple[str, ...]:
    """Files of the fonts of this machine, those that look well beside DejaVu Sans first."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    # The manager's list may be older than a font that was installed since.
    paths = {*findSystemFonts(), *(entry.fname for entry in fontManager.ttflist)}

    def rank(path: str) -> tuple[bool, int, str]:
        name = Path(path).stem.lower()
        place = next((k for k, start in enumerate(_PREFERRED) if name.startswith(start)), len(_PREFERRED))
        return bool(_STYLED.search(name.replace('sans', ''))), place, name

    return tuple(sorted((path for path in paths if not _UNFIT.search(Path(path).name)), key=rank))


@functools.lru_cache(maxsize=1 << 14)
def _has(path: str, char: str) -> bool:
    from matplotlib.ft2font import FT2Font

    try:
        return FT2Font(path).get_char_index(ord(char)) != 0
    except (OSError, RuntimeError, ValueError):  # removed, or damaged
        return False


@functools.cache
def _warn_once(missing: str) -> None:
    if _warn_once.cache_info().misses == 1:  # of the first such text
        _logger.warning(
            'no installed font has %s: pictures show the codes of such characters; install a font for them, for '
            'instance Noto Sans CJK',
            missing[:20],
        )
