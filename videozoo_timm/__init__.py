"""The HVM-1, SAYCam and Kinetics video models through timm, torch.hub and `load_model`.

Importing this package registers the models with timm and does nothing else.
"""

import os as _os
import sys as _sys

_argv = getattr(_sys, 'argv', None) or ['']
_as_module = _argv[0] == '-m' and _sys.orig_argv[-len(_argv) :][:1] in ([__name__], [f'-m{__name__}'])

# `python -m videozoo_timm` puts the current folder first; a `signal.py` that lies there would be imported from here on.
if _as_module and not _sys.flags.isolated and not getattr(_sys.flags, 'safe_path', False):
    _folder = _sys.path.pop(0)
    if __path__[0] == _os.path.join(_folder, __name__):  # a checkout: at the end it hides nothing
        _sys.path.append(_folder)

# Whether this process needs no models yet, and is there sooner without: the `videozoo` command, which imports them once
# it runs one, and what `processes.start_python` starts. The variable is said to this process alone, not to those that
# it starts.
_light = (
    _os.environ.pop('VIDEOZOO_NO_MODELS', None) is not None
    or _as_module
    or _os.path.basename(_argv[0]) in ('videozoo', 'videozoo.exe')
)

if not _light:
    from . import models as models
    from .factory import get_available_models, load_generator, load_model

from typing import TYPE_CHECKING as _TYPE_CHECKING  # noqa: E402  # behind the path, which was made safe

from ._lazy import lazy_names as _lazy_names  # noqa: E402

if _TYPE_CHECKING:
    from .inference.clips import clip_transform as clip_transform
__getattr__, _ = _lazy_names(
    __name__,
    {
        'factory': ('get_available_models', 'load_generator', 'load_model'),
        'inference.clips': ('clip_transform',),
    },
)

__version__ = '0.2.0'
__all__ = ['clip_transform', 'get_available_models', 'load_generator', 'load_model']


def __dir__() -> list[str]:
    return [*__all__, '__version__']
