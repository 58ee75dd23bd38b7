"""With what a run was done: versions of the software, and the machine. Nothing is imported for it."""

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from .. import __version__

# Module -> distribution, of what decides about results where it was used.
_PACKAGES = {
    'torch': 'torch',
    'timm': 'timm',
    'numpy': 'numpy',
    'av': 'av',
    'PIL': 'pillow',
    'safetensors': 'safetensors',
    'accelerate': 'accelerate',
    'peft': 'peft',
    'scipy': 'scipy',
    'sklearn': 'scikit-learn',
    'rsatoolbox': 'rsatoolbox',
    'himalaya': 'himalaya',
    'nibabel': 'nibabel',
    'matplotlib': 'matplotlib',
    'torch_fidelity': 'torch-fidelity',
}


def versions_in_use() -> dict[str, str]:
    """Versions of this package, of Python, of the packages that were imported so far, and of PyAV's FFmpeg."""
    told = {'videozoo-timm': __version__, 'python': platform.python_version()}
    told |= {name: version for module, name in _PACKAGES.items() if module in sys.modules and (version := _of(name))}
    if ffmpeg := getattr(sys.modules.get('av'), 'ffmpeg_version_info', None):
        told['ffmpeg'] = str(ffmpeg)
    return told


def installed_version(name: str) -> str:
    """The version of what `versions_in_use` names that a run would use now; '' of what is not installed."""
    if name == 'ffmpeg':
        try:
            import av
        except ImportError:
            return ''
        return str(getattr(av, 'ffmpeg_version_info', ''))
    own = {'videozoo-timm': __version__, 'python': platform.python_version()}
    return own.get(name) or _of(name)


def _of(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ''


def this_machine() -> dict[str, Any]:
    """Operating system, processor, cores that may be used, and GPUs. Neither its name nor its user's."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    told: dict[str, Any] = dict(system=platform.platform(), processor=_processor(), cores=cores)
    torch: Any = sys.modules.get('torch')
    if torch is not None:
        told['threads'] = torch.get_num_threads()
        if torch.cuda.is_available():
            told['gpus'] = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    if (processes := int(os.environ.get('WORLD_SIZE', '1'))) > 1:
        told['processes'] = processes
    return told


def _processor() -> str:
    try:
        for line in Path('/proc/cpuinfo').read_text(errors='replace').splitlines():
            name, _, value = line.partition(':')
            if name.strip() in ('model name', 'Model', 'Hardware'):
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
