"""Text that others read: from untrusted files, made safe to show, and JSON."""

import json
import math
import unicodedata
from numbers import Integral
from typing import Any

_JOINERS = '\u200c\u200d'  # some scripts and emoji need them
_UNSEEN = {'Cc', 'Cf', 'Cs', 'Zl', 'Zp'}  # controls, formats (they turn the direction of text), surrogates, line ends


def printable(text: Any, limit: int | None = None, lines: bool = False) -> str:
    r"""Text whose control characters, and those that reverse the direction of text, are written as `\x1b` and the like.

    Args:
        text: A value of a file's header, or the name of a class, a tensor or a file.
        limit: Maximum number of characters; of longer text the middle is replaced by `...`.
        lines: Keep line ends.
    """
    text = str(text)
    if limit is not None and len(text) > limit:
        text = f'{text[: limit - limit // 3]}...{text[len(text) - limit // 3 :]}'
    if text.isprintable():
        return text
    return ''.join(
        c.encode('unicode_escape').decode()
        if unicodedata.category(c) in _UNSEEN and c not in _JOINERS and not (lines and c == '\n')
        else c
        for c in text
    )


_SEVERAL = {'stimulus': 'stimuli', 'class': 'classes'}


def counted(number: Any, name: str) -> str:
    """1 file, 2,000 files; `name` is that of one. A number that is not known, None for instance, is left out."""
    several = next((name[: -len(one)] + many for one, many in _SEVERAL.items() if name.endswith(one)), f'{name}s')
    return f'{number:,} {name if number == 1 else several}' if isinstance(number, Integral) else several


def to_json(content: Any, indent: int | None = 2) -> str:
    """JSON, in which null stands for numbers that it has no word for: NaN and infinity."""
    return json.dumps(_finite(content), indent=indent, allow_nan=False)


def _finite(content: Any) -> Any:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    return [_finite(value) for value in content] if isinstance(content, (list, tuple)) else content
