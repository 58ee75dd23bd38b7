"""What to type to get what a view shows: the command, and the lines of Python."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ['command_of', 'python_of']


def command_of(name: str, video: str | None, model: Mapping[str, str], *flags: str, **options: Any) -> str:
    """A command line.

    Args:
        name: The command.
        video: What it reads; None if an option says it.
        model: The option that names the model, `model` or `weights`, and its value.
        *flags: Options without a value.
        **options: Those with one; None are left out.
    """
    words = ['videozoo', name, *([video] if video else [])]
    for key, value in dict(model, **options).items():
        if value is not None:
            words += [f'-{key}' if len(key) == 1 else f'--{key.replace("_", "-")}', _typed(value)]
    return ' '.join(map(shlex.quote, [*words, *(f'--{flag}' for flag in flags)]))


def python_of(
    analyses: Sequence[str],
    loading: str,
    video: str,
    lines: Sequence[str],
    *,
    start: float | None = None,
    sampling: str = '',
    read: bool = True,
    **views: Any,
) -> str:
    """Lines of Python.

    Args:
        analyses: Names of `videozoo_timm.analysis` that they use.
        loading: The call that loads the model.
        video: The file.
        lines: What is done with `model` and the clip `x`.
        start: Of the clip, in seconds; None for the centered one.
        sampling: Name of `videozoo_timm.video` to sample the clip by, if the model's own is another.
        read: Whether a clip is read.
        **views: Other arguments of `clip_transform`.
    """
    transform = ', '.join(filter(None, ['model', sampling, *(f'{key}={value!r}' for key, value in views.items())]))
    at = '' if start is None else f', start={start!r}'
    loader = loading.split('(')[0]
    own = ['clip_transform'] * read + [loader] * (loader != 'load_file')
    used = [f'from videozoo_timm import {", ".join(own)}'] if own else []
    if analyses:
        used.append(f'from videozoo_timm.analysis import {", ".join(sorted(analyses))}')
    of_video = [name for name in (sampling, 'seed_of' if any('seed_of(' in line for line in lines) else '') if name]
    if loader == 'load_file':
        used.append('from videozoo_timm.factory import load_file')
    if of_video and (read or 'seed_of' in of_video):
        used.append(f'from videozoo_timm.video import {", ".join(of_video)}')
    loaded = [f'model = {loading}']
    if read:
        loaded.append(f'x = clip_transform({transform}).read({video!r}{at})')
    return '\n'.join([*used, '', *loaded, *lines])


def _typed(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return ','.join(map(str, value))
    return f'{value:g}' if isinstance(value, float) and float(f'{value:g}') == value else str(value)
