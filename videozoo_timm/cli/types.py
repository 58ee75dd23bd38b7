"""The types of options and arguments."""

import difflib
import math
import re
from pathlib import Path
from typing import Any

import click


class Count(click.ParamType):
    """A whole number of things, from `least` to `most`."""

    name = 'N'

    def __init__(self, least: int = 1, most: int | None = None) -> None:
        self.least, self.most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        if not re.fullmatch(r'\+?[0-9]+', text) or not self.least <= int(text) <= (self.most or math.inf):
            bound = f' and at most {self.most:,}' if self.most else ''
            self.fail(f'{text}: must be a whole number of at least {self.least}{bound}', param, ctx)
        return int(text)


class Number(click.ParamType):
    """A number from `low` to `high`, or to `below` it."""

    name = 'X'

    def __init__(self, low: float = -math.inf, high: float = math.inf, below: bool = False) -> None:
        self.low, self.high, self.below = low, high, below

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not self.low <= number <= self.high or (number == self.high and (self.below or self.high == math.inf)):
            bound = f' and {"below" if self.below else "at most"} {self.high:g}' if self.high < math.inf else ''
            self.fail(f'{value}: must be a number of at least {self.low:g}{bound}', param, ctx)
        return number


class Integers(click.ParamType):
    """Whole numbers with commas between them."""

    name = 'N,N,...'

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(number) for number in value.split(','))
        except ValueError:
            self.fail(f'{value!r} is not a list of whole numbers with commas between them', param, ctx)


class Choice(click.Choice):
    """One of a few words; of another word the nearest one is told."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        near = difflib.get_close_matches(str(value).lower(), self.choices, n=1)
        hint = f'; did you mean {near[0]}?' if near else ''
        return f'{value}: must be one of {", ".join(self.choices)}{hint}'


PATH = click.Path(readable=False)  # what cannot be read is told by who reads it
FILE = click.Path(readable=False, path_type=Path)
