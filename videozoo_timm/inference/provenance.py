"""What stands beside results so that they can be told apart and made again: weights, and versions of packages."""

from importlib import metadata
from typing import Any

from torch import nn

from ..video import pyav_version
from .checks import checked_model
from .journal import checksum_of, digest_of
from .pipeline import placement_of

_PACKAGES = ('videozoo-timm', 'torch', 'timm', 'pillow')


def versions() -> dict[str, str]:
    """Versions of the packages that decide about results; '' of one that is not installed."""
    return {name.replace('-', '_'): _version(name) for name in _PACKAGES} | dict(pyav=pyav_version())


def _version(name: str) -> str:
    if name == 'videozoo-timm':  # a checkout may run without being installed
        from .. import __version__

        return __version__
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ''


def weights_of(model: nn.Module) -> dict[str, Any]:
    """The digests of a model's weights, as `embed` stores them, and the data type that it computes in."""
    tensors = checked_model(model).state_dict()
    return dict(
        weights=digest_of(tensors.items()),
        checksum=checksum_of(tensors.items()),
        dtype=str(placement_of(model)['dtype']).removeprefix('torch.'),
    )


def compiled(compile: bool) -> dict[str, Any]:
    """What tells the results of a compiled model from others, which are as those of versions without it."""
    return dict(compile=True) if compile else {}
