"""Errors that name parameters, which Python and the command line spell differently."""

from collections.abc import Callable
from typing import Any


class Explained(Exception):
    """An error whose text names parameters: `force=True` for a caller in Python, an option on the command line.

    `UserError('{} holds a run: {resume} continues it', folder, resume=True)` reads 'runs/a holds a run: resume=True
    continues it', until `spelled` writes the parameter in another way.

    Args:
        text: `{}` stands for a value, `{name}` for a parameter.
        *values: What the text's `{}` stand for.
        **parameters: The value of each parameter; None names the parameter without a value.
    """

    def __init__(self, text: str, /, *values: Any, **parameters: Any) -> None:
        self._text, self._values, self._parameters = text, values, parameters
        super().__init__(self.spelled(_in_python))  # unpickling passes this text, and restores the attributes

    def spelled(self, spell: Callable[[str, Any], str]) -> str:
        """The text with every parameter as `spell(name, value)` writes it."""
        if not self._values and not self._parameters:
            return self._text
        return self._text.format(*self._values, **{k: spell(k, v) for k, v in self._parameters.items()})


class UserError(Explained, ValueError):
    """A value that cannot be used, and what to do about it."""


class DivergenceError(Explained, FloatingPointError):
    """A loss or a gradient that is not finite."""


class NotFiniteError(FloatingPointError):
    """What a model gives holds NaN (not a number) or infinity, and so is no result."""


class NoInterpreterError(Explained, RuntimeError):
    """A program without a Python interpreter, which cannot start Python processes."""


def _in_python(name: str, value: Any) -> str:
    return name if value is None else f'{name}={value!r}'
