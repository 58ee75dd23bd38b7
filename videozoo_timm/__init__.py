"""The HVM-1, SAYCam and Kinetics video models through timm, torch.hub and `load_model`.

Importing this package registers the models with timm and does nothing else.
"""
import os as _os
import sys as _sys
from multiprocessing import current_process as _current_process
from typing import TYPE_CHECKING

from ._lazy import lazy_names as _lazy_names


def _needs_models() -> bool:
    """False in processes that decode, and in the `videozoo` command, which imports models once it runs one."""
    argv = getattr(_sys, 'argv', None) or ['']
    command = _os.path.basename(argv[0]) in ('videozoo', 'videozoo.exe') or (
        argv[0] == '-m' and _sys.orig_argv[-len(argv)] == __name__)  # python -m videozoo_timm
    return not command and not _current_process().name.startswith('videozoo decoder')


if TYPE_CHECKING or _needs_models():
    from . import models as models
    from .factory import get_available_models, load_model
else:  # there sooner without; but one that decodes imports its user's script again, which imports these
    __getattr__, __dir__ = _lazy_names(__name__, {'factory': ('get_available_models', 'load_model')})

__version__ = '0.1.0'
__all__ = ['get_available_models', 'load_model']
