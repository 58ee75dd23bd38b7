"""Text of strangers, fit to be shown."""
import unicodedata
from typing import Any

_JOINERS = '\u200c\u200d'  # which scripts and emoji are written with
_UNSEEN = {'Cc', 'Cf', 'Cs', 'Zl', 'Zp'}  # controls, formats (they turn the direction of text), surrogates, line ends


def printable(text: Any, limit: int | None = None, lines: bool = False) -> str:
    r"""Text without what steers a terminal or turns other text around, written as `\x1b` instead.

    Args:
        text: Of a file's header, the name of a class, a tensor or a file.
        limit: Characters that are shown of it; the middle of longer text is left out.
        lines: Leave line ends.
    """
    text = str(text)
    if limit is not None and len(text) > limit:
        text = f'{text[:limit - limit // 3]}...{text[len(text) - limit // 3:]}'
    if text.isprintable():
        return text
    return ''.join(
        c.encode('unicode_escape').decode()
        if unicodedata.category(c) in _UNSEEN and c not in _JOINERS and not (lines and c == '\n') else c for c in text)
