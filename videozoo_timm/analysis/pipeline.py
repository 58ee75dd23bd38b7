"""Moved to `videozoo_timm.inference.pipeline`; this is the path of version 0.1.0."""

import warnings

from ..inference.pipeline import *  # noqa: F403

warnings.warn(
    'videozoo_timm.analysis.pipeline is now videozoo_timm.inference.pipeline', DeprecationWarning, stacklevel=2
)
