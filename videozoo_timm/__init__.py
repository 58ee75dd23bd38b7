"""The HVM-1, SAYCam and Kinetics video models through timm, torch.hub and `load_model`.

Importing this package registers the models with timm and does nothing else.
"""
from multiprocessing import current_process as _current_process

if not _current_process().name.startswith('videozoo decoder'):
    from . import models as models
    from .factory import get_available_models, load_model
else:  # a process that decodes needs no models, and is there sooner without; but it imports its user's script again
    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
        from . import factory
        return getattr(factory, name)

__version__ = '0.1.0'
__all__ = ['get_available_models', 'load_model']
