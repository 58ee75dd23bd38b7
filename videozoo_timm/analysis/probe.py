"""Moved to `videozoo_timm.analysis.probing`; this is the path of version 0.1.0.

Whoever imports this module makes it the attribute `probe` of its package, in the place of the function of that name. So
it can be called as the function is.
"""

import sys
import warnings
from types import ModuleType
from typing import Any

from .probing import *  # noqa: F403
from .probing import REGULARIZATIONS as REGULARISATIONS  # noqa: F401
from .probing import FrozenFeatures as Frozen  # noqa: F401
from .probing import ProbeResult as Probed  # noqa: F401
from .probing import probe as _probe


class _CallableModule(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _probe(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
warnings.warn('videozoo_timm.analysis.probe is now videozoo_timm.analysis.probing', DeprecationWarning, stacklevel=2)
