"""What the toolboxes of others load: a plugin folder for Brain-Score, a feature extractor for Physion."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from .._lazy import lazy_names as _lazy_names

if _TYPE_CHECKING:
    from .brainscore import brainscore_identifier as brainscore_identifier
    from .brainscore import write_brainscore_plugin as write_brainscore_plugin
    from .physion import PhysionExtractor as PhysionExtractor

__all__ = ['PhysionExtractor', 'brainscore_identifier', 'write_brainscore_plugin']

__getattr__, _ = _lazy_names(
    __name__,
    {
        'brainscore': ('brainscore_identifier', 'write_brainscore_plugin'),
        'physion': ('PhysionExtractor',),
    },
)


def __dir__() -> list[str]:
    return list(__all__)
