"""From a published file to tensors in timm's layout. Knows no model."""
from .client import guarded
from .hub import hub_errors, published_digests
from .layouts import Tensors, model_tensors, to_timm
from .pickles import load_inert
from .reading import Weights, read_header, read_weights
from .source import Source
from .store import cached, convert, locate, verify

__all__ = [
    'Source', 'Tensors', 'Weights', 'cached', 'convert', 'guarded', 'hub_errors', 'load_inert', 'locate',
    'model_tensors', 'published_digests', 'read_header', 'read_weights', 'to_timm', 'verify']
