"""The former place of `videozoo_timm.synthetic`."""

import warnings

from ..synthetic import *  # noqa: F403

warnings.warn('videozoo_timm.video.drawing is now videozoo_timm.synthetic', DeprecationWarning, stacklevel=2)
