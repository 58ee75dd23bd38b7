"""From a published file to tensors in timm's layout. Knows no model."""
from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:
    from .layouts import Tensors, model_tensors, to_timm
    from .pickles import load_inert
    from .store import Source, Weights, cached, convert, hub_errors, locate, read_header, read_weights, verify

__getattr__, __dir__ = lazy_names(__name__, {  # so that what is on this machine is told without PyTorch
    'layouts': ('Tensors', 'model_tensors', 'to_timm'),
    'pickles': ('load_inert',),
    'store': (
        'Source', 'Weights', 'cached', 'convert', 'hub_errors', 'locate', 'read_header', 'read_weights', 'verify'),
})
__all__ = [
    'Source', 'Tensors', 'Weights', 'cached', 'convert', 'hub_errors', 'load_inert', 'locate', 'model_tensors',
    'read_header', 'read_weights', 'to_timm', 'verify']
