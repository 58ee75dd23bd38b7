"""Moved to `videozoo_timm.bench`; this is the path of version 0.1.0."""

import warnings

from ..bench import *  # noqa: F403

warnings.warn('videozoo_timm.analysis.speed is now videozoo_timm.bench', DeprecationWarning, stacklevel=2)
