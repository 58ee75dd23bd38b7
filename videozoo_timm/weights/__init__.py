"""From a published file to tensors in timm's layout. Knows no model."""

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:
    from .client import guarded
    from .hub import cached, hub_errors, published_digests
    from .layouts import Tensors, model_tensors, to_timm
    from .pickles import load_inert
    from .reading import Weights, read_header, read_weights
    from .source import Source
    from .store import convert, locate, verify

__getattr__, __dir__ = lazy_names(
    __name__,
    {  # so that what is on this machine is told without PyTorch
        'client': ('guarded',),
        'hub': ('cached', 'hub_errors', 'published_digests'),
        'layouts': ('Tensors', 'model_tensors', 'to_timm'),
        'pickles': ('load_inert',),
        'reading': ('Weights', 'read_header', 'read_weights'),
        'source': ('Source',),
        'store': ('convert', 'locate', 'verify'),
    },
)
__all__ = [
    'Source',
    'Tensors',
    'Weights',
    'cached',
    'convert',
    'guarded',
    'hub_errors',
    'load_inert',
    'locate',
    'model_tensors',
    'published_digests',
    'read_header',
    'read_weights',
    'to_timm',
    'verify',
]
