"""torch.hub's door: every published name is an entrypoint.

    torch.hub.load('eminorhan/hvm-1', 'vit_hvm1@448_none')

The entrypoints are made from the catalogue. Imports carry an underscore because torch.hub lists every other callable.
"""

import re as _re
import warnings as _warnings
from pathlib import Path as _Path

import videozoo_timm as _videozoo_timm
from videozoo_timm import catalogue as _catalogue

dependencies = ['torch', 'timm', 'huggingface_hub', 'safetensors']


def _check_copy():
    here, imported = _Path(__file__).resolve().parent / 'videozoo_timm', _Path(_videozoo_timm.__file__).resolve().parent
    if here == imported or not here.is_dir():
        return
    version = _re.search(r"__version__ = '(.+?)'", (here / '__init__.py').read_text())
    _warnings.warn(
        f'videozoo_timm {_videozoo_timm.__version__} was imported before, from {imported}; it is used instead of '
        f'{version[1] if version else "?"} in {here}',
        stacklevel=2,
    )


def _entrypoint(checkpoint):
    name = checkpoint.name
    both = [c.zoo for c in _catalogue.CHECKPOINTS if c.name == name]

    def entrypoint(pretrained=True, zoo=None, **kwargs):
        return _videozoo_timm.load_model(name, zoo=zoo, pretrained=pretrained, **kwargs)

    entrypoint.__name__ = entrypoint.__qualname__ = name
    kind = 'spatiotemporal MAE' if checkpoint.architecture.startswith('mae') else 'video ViT'
    if checkpoint.is_image_encoder:
        kind = 'image encoder'
    series = ' finetuned=True loads the one finetuned on ImageNet (NAME_in1k).' if checkpoint.series else ''
    if checkpoint.whole:
        series += f' whole=True loads it with its decoder, as {checkpoint.whole.architecture}.'
    classes = _catalogue.CLASS_NAMES[checkpoint.num_classes]
    head = f'classes of {classes}' if classes else 'no head'
    entrypoint.__doc__ = f"""{kind} ({checkpoint.architecture}), {checkpoint.img_size} px, {head}.

    Zoo: {' and '.join(both)}. timm name: {checkpoint.timm_name}. Returned in eval mode.{series}

    Args:
        pretrained (bool): Load the published weights.
        zoo (str): 'hvm-1' or 'video-models', for a name that stands in both; a bare one means video-models.
        **kwargs: What timm.create_model takes: num_classes, img_size, num_frames (video models), features_only, dtype,
            cache_dir, pretrained_cfg_overlay=dict(file=...) and the rest.
    """
    return entrypoint


def _generator_entrypoint(generator):
    name = generator.name

    def entrypoint(pretrained=True, zoo=None, part=None, **kwargs):
        return _videozoo_timm.load_model(name, zoo=zoo, pretrained=pretrained, part=part, **kwargs)

    entrypoint.__name__ = entrypoint.__qualname__ = name
    entrypoint.__doc__ = f"""Image generator: a GPT and the VQGAN {generator.vqgan} that decodes what it draws.

    Zoo: {generator.zoo}. `gpt, vqgan = ...` takes it apart. Returned in eval mode.

    Args:
        pretrained (bool): Load the published weights.
        part (str): 'gpt' or 'vqgan' for one of the two alone.
        **kwargs: device, dtype, cache_dir.
    """
    return entrypoint


def _packaged_entrypoint(generator):
    name = generator.name

    def entrypoint(pretrained=True, zoo=None, part=None, **kwargs):
        return _videozoo_timm.load_model(name, zoo=zoo, pretrained=pretrained, part=part, **kwargs)

    entrypoint.__name__ = entrypoint.__qualname__ = name
    entrypoint.__doc__ = f"""Video generator: {generator.num_frames} frames of {generator.img_size} px.

    Zoo: {generator.zoo}. `gpt, vqgan = ...` takes it apart. Returned in eval mode.

    Args:
        pretrained (bool): Load the weights, which come with the package.
        part (str): 'gpt' or 'vqgan' for one of the two alone.
        **kwargs: device, dtype (of the GPT).
    """
    return entrypoint


_check_copy()
for _name in _videozoo_timm.get_available_models():
    _generator, _packaged = _catalogue.find_generator(_name), _catalogue.find_video_generator(_name)
    globals()[_name] = (
        _generator_entrypoint(_generator)
        if _generator
        else _packaged_entrypoint(_packaged)
        if _packaged
        else _entrypoint(_catalogue.find(_name, warn=lambda message: None))
    )
