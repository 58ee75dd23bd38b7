"""Moved to `videozoo_timm.figures`; this is the path of version 0.1.0."""

import warnings

from ..figures import *  # noqa: F403

warnings.warn('videozoo_timm.analysis.pictures is now videozoo_timm.figures', DeprecationWarning, stacklevel=2)
