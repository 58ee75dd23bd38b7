"""The HVM-1, SAYCam and Kinetics video models through timm, torch.hub and `load_model`.

Importing this package registers the models with timm and does nothing else.
"""
import os as _os
import sys as _sys

# `python -m videozoo_timm` puts the current folder first; a `signal.py` that lies there would be imported from here on.
if _sys.argv[:1] == ['-m'] and _sys.orig_argv[-len(_sys.argv):][:1] in ([__name__], [f'-m{__name__}']):
    if not _sys.flags.isolated and not getattr(_sys.flags, 'safe_path', False):
        _folder = _sys.path.pop(0)
        if __path__[0] == _os.path.join(_folder, __name__):  # a checkout: at the end it hides nothing
            _sys.path.append(_folder)

# The switch of processes that need no models (`processes.start_python`), and are there sooner without. It is said to
# this process alone, not to those that it starts.
if _os.environ.pop('VIDEOZOO_NO_MODELS', None) is None:
    from . import models as models
    from .factory import get_available_models, load_model

from typing import TYPE_CHECKING as _TYPE_CHECKING

from ._lazy import lazy_names as _lazy_names

if _TYPE_CHECKING:
    from .inference.clips import clip_transform as clip_transform
__getattr__, _ = _lazy_names(__name__, {
    'factory': ('get_available_models', 'load_model'),
    'inference.clips': ('clip_transform',),
})

__version__ = '0.1.0'
__all__ = ['clip_transform', 'get_available_models', 'load_model']


def __dir__() -> list[str]:
    return [*__all__, '__version__']
