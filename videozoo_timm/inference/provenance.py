"""What stands beside results so that they can be told apart and made again: weights, and versions of packages."""

from importlib import metadata
from typing import Any

from torch import nn

from ..notes import tell_loaded
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
    inner, placement = checked_model(model), placement_of(model)
    tensors = inner.state_dict()
    digests = dict(
        weights=digest_of(tensors.items()),
        checksum=checksum_of(tensors.items()),
        dtype=str(placement['dtype']).removeprefix('torch.'),
    )
    config = getattr(inner, 'pretrained_cfg', {})
    tell_loaded(
        architecture=config.get('architecture', type(inner).__name__),
        tag=config.get('tag') or '',
        **digests,
        device=placement['device'].type,
        parameters=sum(parameter.numel() for parameter in inner.parameters()),
        num_frames=getattr(inner, 'num_frames', None),
        blocks=len(inner.blocks) if hasattr(inner, 'blocks') else None,
    )
    return digests


def compiled(compile: bool) -> dict[str, Any]:
    """What tells the results of a compiled model from others, which are as those of versions without it."""
    return dict(compile=True) if compile else {}
