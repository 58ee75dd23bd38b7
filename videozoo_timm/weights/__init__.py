"""From a published file to tensors in timm's layout. Knows no model."""
from .layouts import Tensors, model_tensors, to_timm
from .pickles import load_inert
from .store import Source, Weights, cached, convert, hub_errors, locate, read_header, read_weights, verify

__all__ = [
    'Source', 'Tensors', 'Weights', 'cached', 'convert', 'hub_errors', 'load_inert', 'locate', 'model_tensors',
    'read_header', 'read_weights', 'to_timm', 'verify']
