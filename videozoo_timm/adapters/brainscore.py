"""Plugin folders by which Brain-Score loads a model (https://github.com/brain-score/vision, version 2)."""

import re
import textwrap
from pathlib import Path
from string import Template
from typing import Any

import timm

from .. import __version__, catalogue
from ..cards import citation, trained_on
from ..catalogue import Checkpoint
from ..errors import UserError
from ..files import atomic_write
from ..inference.clips import clip_transform
from ..outputs import Output
from ..video import RECOGNITION

__all__ = ['brainscore_identifier', 'write_brainscore_plugin']

FILES = ('__init__.py', 'model.py', 'requirements.txt', 'test.py')
_MANY_BLOCKS = 16  # of deeper models every second block is a layer, as of Brain-Score's own video models
_LARGE = 300_000_000  # parameters from which on Brain-Score's tests shall run alone

_INIT = Template('''\
"""Registers $identifier with Brain-Score. Written by videozoo-timm $version."""

from brainscore_vision import model_registry
from brainscore_vision.model_helpers.brain_transformation import ModelCommitment

from .model import LAYERS, VISUAL_DEGREES, get_model

# Which layer stands for which region is left to Brain-Score, which selects it on its public data.
model_registry['$identifier'] = lambda: ModelCommitment(
    identifier='$identifier',
    activations_model=get_model(),
    layers=LAYERS,
    visual_degrees=VISUAL_DEGREES,
)
''')

_TEST = Template("""\
${imports_of_test}from brainscore_vision import load_model

$mark
def test_load():
    model = load_model('$identifier')
    assert model.identifier == '$identifier'
    assert model.layers
""")

_HEAD = Template('''\
"""Layers and preprocessing of a model for Brain-Score. Written by videozoo-timm $version.

$about
"""

$imports

LAYERS = $layers
# As published: the short side is resized, the center is cropped. SHORT_SIDE = SIZE crops nothing of a square.
SIZE, SHORT_SIDE = $size, $short_side
PREPROCESSING = dict(
    size=SIZE,
    short_side=SHORT_SIDE,
    mean=$mean,
    std=$std,
    interpolation='$interpolation',
)
VISUAL_DEGREES = 8  # Brain-Score's default: what field of view the training had is not published
''')

_VIDEO = Template('''\
NUM_FRAMES, FPS = $num_frames, $fps  # $num_frames frames over $span at 30 a second
GRID = $grid  # tokens along time, height and width


def preprocess(video):
    """A Brain-Score `Video` -> float32 [3, T, H, W]."""
    return prepare_clip(torch.from_numpy(video.to_numpy()), **PREPROCESSING)


def as_map(layer, layer_name, inputs, output):
    """Tokens [B, $prefix + T' * H' * W', C] -> [B, T', H', W', C], without the class token."""
    return output[:, $prefix:].unflatten(1, GRID)

$wrapper
def get_model():
    return $wrapper_name(
        '$identifier',
        load_model('$name', zoo='$zoo'),
        preprocess,
        process_output=as_map,
        # Videos of other lengths come in blocks of $num_frames frames, the last of which repeats the last frame. An
        # image is a film of one block.
        inferencer_cls=BlockInferencer,
        fps=FPS,
        num_frames=NUM_FRAMES,
        img_duration=1000 * NUM_FRAMES / FPS,
        layer_activation_format=dict.fromkeys(LAYERS, 'THWC'),
        batch_size=8,
    )
''')

_VIDEO_IMPORTS = """\
import torch
from brainscore_vision.model_helpers.activations.temporal.core import BlockInferencer
from brainscore_vision.model_helpers.activations.temporal.model import PytorchWrapper
from videozoo_timm import load_model
from videozoo_timm.video import prepare_clip"""

# Called as usual, a masked autoencoder encodes the tokens alone that a random mask leaves.
_UNMASKED = '''
class Encoder(PytorchWrapper):
    """All tokens of a masked autoencoder's encoder, none of them masked."""

    def forward(self, inputs):
        return self._model.forward_features(torch.stack(inputs).to(self._device))

'''

_IMAGE = Template('''\


def preprocess(paths):
    """Files of images -> float32 array [B, 3, H, W]."""
    images = [torch.from_numpy(np.array(image.convert('RGB'))) for image in load_images(paths)]
    return np.stack([prepare_clip(image[None], **PREPROCESSING)[:, 0].numpy() for image in images])


def get_model():
    encoder = load_model('$name', zoo='$zoo')
    model = PytorchWrapper(encoder, preprocess, identifier='$identifier', batch_size=32)
    model.image_size = SIZE
    return model
''')

_IMAGE_IMPORTS = """\
import numpy as np
import torch
from brainscore_vision.model_helpers.activations.pytorch import PytorchWrapper, load_images
from videozoo_timm import load_model
from videozoo_timm.video import prepare_clip"""

_BIBTEX = Template('''

def get_bibtex(model_identifier):
    return """$bibtex"""
''')


def brainscore_identifier(checkpoint: Checkpoint) -> str:
    """The name by which Brain-Score knows a model: the published one in letters, digits, `_`, `-`.

    Brain-Score imports a plugin by the name of its folder and adds to identifiers behind an `@`, so other characters
    become `_`. A name that stands in two zoos has the zoo behind it, unless it is of video-models.
    """
    twins = [c for c in catalogue.CHECKPOINTS if c.name == checkpoint.name]
    name = checkpoint.name
    if len(twins) > 1 and checkpoint.zoo != catalogue.DEFAULT_ZOO:
        name += f'_{checkpoint.zoo}'
    return re.sub(r'[^A-Za-z0-9_-]', '_', name)


def check_brainscore_folder(folder: Path, force: bool = False) -> None:
    """Raise a ValueError unless a plugin can be written there, and Brain-Score will find it there."""
    output = Output(folder, 'folder')
    # It imports `brainscore_vision.models.NAME`, and leaves out what is hidden or private.
    if not re.fullmatch(r'[A-Za-z0-9][A-Za-z0-9_-]*', folder.absolute().name):
        raise output.refusal('must end in a name that Brain-Score can import: letters, digits, _ and -')
    output.check_own_folder(FILES, 'a plugin of Brain-Score')
    output.refuse_existing(force)


def write_brainscore_plugin(name: str, folder: str | Path, *, zoo: str | None = None, force: bool = False) -> Path:
    """Write the folder by which Brain-Score loads a published model.

    Copied (or written) into `brainscore_vision/models/`, `brainscore_vision.load_model(brainscore_identifier(...))`
    loads it, with videozoo-timm installed. A video model is wrapped as one of Brain-Score's temporal models, whose
    layers are maps of time, height, width and channel; an image encoder's layers are the tokens of its blocks. No
    weights are read: they are loaded, or downloaded, when Brain-Score loads the model.

    Args:
        name: Published name or timm name.
        folder: Folder to write; appears whole or not at all.
        zoo: As in `load_model`.
        force: Replace a plugin that is there.

    Returns:
        The folder.

    Raises:
        ValueError: No such model; one that is no encoder; `folder` is there, or Brain-Score would not find it.
        OSError: The disk is full or read-only.
    """
    folder = Path(folder)
    checkpoint = catalogue.find(name, zoo)
    if checkpoint in catalogue.WHOLE:
        raise UserError(
            '{}: the whole of an image MAE sees only the patches that its mask leaves; {} is its encoder',
            name,
            next(c.name for c in catalogue.CHECKPOINTS if c.whole == checkpoint),
        )
    check_brainscore_folder(folder, force)
    files = _files_of(checkpoint)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder) as partial:
        partial.mkdir()
        for file, text in files.items():
            (partial / file).write_text(text, encoding='utf-8')
    return folder


def _files_of(checkpoint: Checkpoint) -> dict[str, str]:
    values = _values_of(checkpoint)
    text = _HEAD.substitute(values) + (_IMAGE if checkpoint.is_image_encoder else _VIDEO).substitute(values)
    if bibtex := citation(checkpoint):
        text += _BIBTEX.substitute(bibtex=bibtex)
    texts = (_INIT.substitute(values), text, f'videozoo-timm>={__version__}\n', _TEST.substitute(values))
    return dict(zip(FILES, texts, strict=True))


def _values_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """What the templates are filled with."""
    model: Any = timm.create_model(checkpoint.timm_name, device='meta', weight_init='skip')
    views = clip_transform(model, RECOGNITION).views
    is_large = checkpoint.num_params > _LARGE
    values: dict[str, Any] = dict(
        identifier=brainscore_identifier(checkpoint),
        name=checkpoint.name,
        zoo=checkpoint.zoo,
        about=textwrap.fill(f'`{checkpoint.name}` of {checkpoint.zoo}: {trained_on(checkpoint)}.', 120),
        version=__version__,
        imports_of_test='import pytest\n' if is_large else '',
        mark='\n@pytest.mark.memory_intense' if is_large else '',
        layers=_layers(model),
        size=views.size,
        short_side=views.short_side or views.size + 32,
        mean=views.mean,
        std=views.std,
        interpolation=views.interpolation,
    )
    if checkpoint.is_image_encoder:
        return values | dict(imports=_IMAGE_IMPORTS)
    is_mae = hasattr(model, 'forward_decoder')
    return values | dict(
        imports=_VIDEO_IMPORTS,
        num_frames=model.num_frames,
        span=views.sampling.span,
        fps=30 * model.num_frames / views.sampling.span,
        grid=tuple(model.patch_embed.video_grid_size),
        prefix=model.num_prefix_tokens,
        wrapper=_UNMASKED if is_mae else '',
        wrapper_name='Encoder' if is_mae else 'PytorchWrapper',
    )


def _layers(model: Any) -> str:
    """Names of the modules that are layers to Brain-Score, as code: blocks of a ViT, stages of a ResNet."""
    if not hasattr(model, 'blocks'):
        return repr([stage['module'] for stage in model.feature_info[1:]])  # the first is the stem
    depth = len(model.blocks)
    if depth <= _MANY_BLOCKS:
        return f"[f'blocks.{{k}}' for k in range({depth})]"
    return f"[f'blocks.{{k}}' for k in range({(depth - 1) % 2}, {depth}, 2)]  # every second, and the last"
