"""Moved to `videozoo_timm.inference.journal`; this is the path of version 0.1.0."""

import warnings

from ..inference.journal import *  # noqa: F403

warnings.warn('videozoo_timm.analysis.journal is now videozoo_timm.inference.journal', DeprecationWarning, stacklevel=2)
