"""The prose about what is published: what was trained on what, citations, model cards."""

from typing import TYPE_CHECKING, cast

from . import __version__
from .catalogue import PAPERS, Checkpoint
from .text import printable

if TYPE_CHECKING:
    from .models.protocols import TimmModel, VideoModel

AUTHORS = {
    'hvm-1': 'Orhan, A. Emin',
    'video-models': 'Orhan, A. Emin and Wang, Wentao and Wang, Alex N. and Ren, Mengye and Lake, Brenden M.',
    'silicon-menagerie': 'Orhan, A. Emin and Lake, Brenden M.',
    'humanlike-vits': 'Orhan, A. Emin',
}

# What the parts of a published name stand for.
METHODS = {
    'mae': 'as a masked autoencoder',
    'vit': 'as the encoder of a masked autoencoder',
    'dino': 'with DINO',
    'mugs': 'with Mugs',
}
DATA = {
    'hvm1': 'about 5,000 hours of human-like, mostly egocentric video (HVM-1)',
    'hvm1@448': 'about 5,000 hours of human-like, mostly egocentric video (HVM-1), at 448 x 448 pixels',
    'kinetics': 'Kinetics-700, about 1,300 hours',
    'kinetics-200h': 'a 200-hour subset of Kinetics-700',
    'ego4d-200h': 'a 200-hour subset of Ego4D',
    'say': 'SAYCam, head-mounted video of three children',
    's': 'the part of SAYCam of child S',
    'a': 'the part of SAYCam of child A',
    'y': 'the part of SAYCam of child Y',
    'sfp': "what its publisher calls 'sfp'",
    'imagenet100': 'ImageNet-1k',
    'imagenet10': 'a tenth of ImageNet-1k',
    'imagenet1': 'a hundredth of ImageNet-1k',
    'shapes': 'synthetic videos of moving shapes (`videozoo draw`)',
}
FINETUNING = {
    'ssv2-10shot': '10 videos of each class of SSV2',
    'ssv2-50shot': '50 videos of each class of SSV2',
    'kinetics-10shot': '10 videos of each class of Kinetics-700',
    'kinetics-50shot': '50 videos of each class of Kinetics-700',
    'imagenet-2pt': '2% of the training images of ImageNet-1k',
    'motion': 'recognizing the motion in synthetic videos',
}
HUMANLIKE_HOURS = {'1.0': '5,000 hours', '0.1': '500 hours', '0.01': '50 hours', '0.001': '5 hours'}


def trained_on(checkpoint: Checkpoint) -> str:
    """How and on what a checkpoint was trained, in words."""
    if checkpoint.zoo == 'humanlike-vits':
        _, fraction, seed = checkpoint.name.split('_')[:3]
        hours = HUMANLIKE_HOURS.get(fraction, 'half an hour')
        words = f'trained {METHODS["mae"]} on about {hours} of human-like video, seed {seed}'
        return f'{words}, then finetuned on {FINETUNING["imagenet-2pt"]}' if checkpoint.num_classes else words
    method, data, last = checkpoint.name.split('_')
    words = f'trained {METHODS[method]} on {DATA[data]}'
    return f'{words}, then finetuned on {FINETUNING[last]}' if last in FINETUNING else words


def citation(checkpoint: Checkpoint) -> str | None:
    """BibTeX of the paper; None where no paper describes the checkpoint."""
    if checkpoint.zoo not in PAPERS:
        return None
    title, paper = PAPERS[checkpoint.zoo]
    return '\n'.join(
        (
            f'@article{{orhan{paper.replace(".", "_")},',
            f'  title   = {{{title}}},',
            f'  author  = {{{AUTHORS[checkpoint.zoo]}}},',
            f'  journal = {{arXiv:{paper}}},',
            f'  year    = {{20{paper[:2]}}}',
            '}',
        )
    )


def model_card(
    model: 'TimmModel',
    repo: str,
    record: Checkpoint | None = None,
    license: str | None = None,
    doubt: str | None = None,
) -> str:
    """Markdown that says what a model is, what it was trained on, how to load it, its license and what to cite.

    Args:
        model: A timm model of this package.
        repo: Hub repository of the model.
        record: The published model that it is.
        license: License of the weights, if the record does not say it.
        doubt: Why the card does not claim that the weights are published ones; empty if they are others.
    """
    from huggingface_hub import ModelCardData

    cfg = model.pretrained_cfg
    is_video = cfg['architecture'].endswith('_st')
    is_mae = cfg['architecture'].startswith('mae_')
    # What transformers' pipeline of that name loads: none that classifies videos takes timm's models.
    takes_stills = not is_video or bool(record and record.trained_on_images)
    task = 'image-feature-extraction' if not model.num_classes else 'image-classification' if takes_stills else None
    stated = license or (record.license if record else 'not stated')
    front = ModelCardData(
        license=None if stated.startswith('not stated') else stated,
        library_name='timm',
        pipeline_tag=task,
        tags=['timm', 'transformers', 'videozoo-timm', 'video' if is_video else 'image'],
    )
    patch_embed = getattr(model, 'patch_embed', None)
    height, width = patch_embed.img_size if patch_embed is not None else cfg['input_size'][1:]
    takes = f'images `[B, 3, {height}, {width}]`'
    if is_video:
        frames = cast('VideoModel', model).num_frames
        takes = f'clips `[B, 3, {frames}, {height}, {width}]`, and images as still clips'
    rows = [
        ('architecture', f'`{cfg["architecture"]}`, {sum(p.numel() for p in model.parameters()):,} parameters'),
        ('takes', f'{takes}; mean {list(cfg["mean"])}, std {list(cfg["std"])}'),
        (
            'gives',
            f'loss, prediction and mask; the encoder is the {"video" if is_video else "image"} ViT'
            if is_mae
            else f'{model.num_classes} classes'
            if model.num_classes
            else f'{model.num_features} features',
        ),
    ]
    if record:
        rows += [('published as', f'`{record.name}` of {record.zoo}'), ('training', trained_on(record))]
        if record.repo:
            rows += [
                (
                    'original',
                    f'[code](https://github.com/eminorhan/{record.zoo}), '
                    f'[weights](https://huggingface.co/{record.repo})',
                )
            ]
    if doubt is not None:
        rows += [('weights', 'of the owner of this repository' + (f'; {doubt}' if doubt else ''))]
    if record and license and license != record.license:
        stated = f'{license}, according to the owner of this repository; {record.license}'
    rows += [('license of the weights', stated), ('written by', f'videozoo-timm {__version__}')]
    details = '\n'.join(f'- **{key}:** {printable(value)}' for key, value in rows)
    auto = 'AutoModelForImageClassification' if model.num_classes else 'AutoModel'
    second = (
        f"""
model = videozoo_timm.load_model({record.name!r}, zoo={record.zoo!r})      # 2. as published
"""
        if record
        else f"""
from huggingface_hub import snapshot_download                   # 2. from a copy of this repository

model = timm.create_model('local-dir:' + snapshot_download('{repo}'), pretrained=True).eval()
"""
    )
    third = (
        ''
        if is_mae
        else f"""
from transformers import {auto}                                 # 3. transformers, once videozoo_timm is imported

model = {auto}.from_pretrained('{repo}').eval()
"""
    )
    bibtex = citation(record) if record else None
    cite = f'\n## Citation\n\n```bibtex\n{bibtex}\n```\n' if bibtex else ''
    return f"""---
{front.to_yaml()}
---
# {repo.split('/')[-1]}

{details}

## How to load it

`pip install videozoo-timm`; importing the package registers the architecture, for timm and for transformers.

```python
import timm, videozoo_timm                                      # 1. timm

model = timm.create_model('hf-hub:{repo}', pretrained=True).eval()
{second}{third}```
{cite}"""
