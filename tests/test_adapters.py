"""What other toolboxes load. Their own loaders run in examples/toolboxes.sh; stand-ins here keep what they get."""

import ast
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import timm
import torch
from PIL import Image

import videozoo_timm
from videozoo_timm import catalogue
from videozoo_timm.adapters import PhysionExtractor, brainscore_identifier, physion, write_brainscore_plugin
from videozoo_timm.adapters.brainscore import FILES
from videozoo_timm.analysis import patch_tokens
from videozoo_timm.cli import main

FRAMES = torch.randint(0, 256, (16, 120, 150, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Recorder:
    """Stands for Brain-Score's wrappers, which are not installed here: keeps what it is given."""

    def __init__(self, *args, **kwargs):
        self.args, self.kwargs = args, kwargs
        self._model, self._device = next((x for x in args if isinstance(x, torch.nn.Module)), None), 'cpu'


@pytest.fixture
def load_plugin(monkeypatch):
    """Import a plugin folder as Brain-Score does, by its `__init__.py`, and give what it registers."""

    def load(folder):
        registry, helpers = {}, 'brainscore_vision.model_helpers'
        names = {
            'brainscore_vision': dict(model_registry=registry),
            f'{helpers}.brain_transformation': dict(ModelCommitment=Recorder),
            f'{helpers}.activations.pytorch': dict(
                PytorchWrapper=Recorder, load_images=lambda paths: [Image.open(path) for path in paths]
            ),
            f'{helpers}.activations.temporal.core': dict(BlockInferencer='blocks'),
            f'{helpers}.activations.temporal.model': dict(PytorchWrapper=Recorder),
        }
        for name, content in names.items():
            module = ModuleType(name)
            vars(module).update(content)
            monkeypatch.setitem(sys.modules, name, module)
        name = f'plugin_{folder.name}'
        spec = importlib.util.spec_from_file_location(
            name, folder / '__init__.py', submodule_search_locations=[str(folder)]
        )
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setitem(sys.modules, f'{name}.model', None)
        del sys.modules[f'{name}.model']
        spec.loader.exec_module(module)
        return registry

    return load


@pytest.mark.parametrize('name', ['vit_shapes_motion', 'mae_shapes_none'])
def test_brain_score_gets_the_blocks_of_a_video_model(name, tmp_path, load_plugin):
    registry = load_plugin(write_brainscore_plugin(name, tmp_path / 'models' / name))
    assert list(registry) == [name]
    brain = registry[name]().kwargs
    wrapper = brain['activations_model']
    (identifier, model, preprocess), given = wrapper.args, wrapper.kwargs
    assert brain['identifier'] == identifier == name and brain['visual_degrees'] == 8
    assert brain['layers'] == [f'blocks.{k}' for k in range(5)]
    assert given['layer_activation_format'] == dict.fromkeys(brain['layers'], 'THWC')
    assert (given['fps'], given['num_frames'], given['inferencer_cls']) == (3.75, 16, 'blocks')
    assert given['img_duration'] * given['fps'] / 1000 == pytest.approx(16)  # an image is a clip
    own = videozoo_timm.load_model(name)
    clip = preprocess(SimpleNamespace(to_numpy=FRAMES.numpy))
    assert torch.equal(clip, videozoo_timm.clip_transform(own)(FRAMES))
    seen = {}
    for layer in brain['layers'][::4]:
        model.get_submodule(layer).register_forward_hook(
            lambda *io, layer=layer: seen.update({layer: given['process_output'](io[0], layer, *io[1:])})
        )
    with torch.inference_mode():
        wrapper.forward([clip]) if name.startswith('mae') else model(clip[None])
        wanted = own.forward_intermediates(clip[None], indices=[0, 4], output_fmt='NLC', intermediates_only=True)
    for maps, tokens in zip(seen.values(), wanted, strict=True):
        assert maps.shape == (1, 8, 8, 8, 128)
        assert torch.allclose(maps.flatten(1, 3), tokens.flatten(1, -2), atol=1e-5)


def test_brain_score_gets_the_blocks_of_an_image_encoder(tmp_path, load_plugin, monkeypatch):
    folder = write_brainscore_plugin('dino_say_vitb14', tmp_path / 'plugin')
    registry, asked = load_plugin(folder), {}
    own = timm.create_model('vit_t16_im').eval()  # whose weights are on no Hub
    monkeypatch.setattr(
        sys.modules['plugin_plugin.model'], 'load_model', lambda name, **zoo: asked.update(name=name, **zoo) or own
    )
    brain = registry['dino_say_vitb14']().kwargs
    assert asked == dict(name='dino_say_vitb14', zoo='silicon-menagerie')
    model, preprocess = brain['activations_model'].args
    assert model is own and brain['layers'] == [f'blocks.{k}' for k in range(12)]
    files = [tmp_path / f'{k}.png' for k in range(2)]
    for k, file in enumerate(files):
        Image.fromarray(FRAMES[k].numpy()).save(file)
    images, transform = preprocess([str(file) for file in files]), videozoo_timm.clip_transform(own)
    assert images.shape == (2, 3, 224, 224)
    assert all(torch.equal(torch.from_numpy(x), transform.read(file)) for x, file in zip(images, files, strict=True))


def test_every_architecture_has_its_layers(tmp_path):
    for architecture in sorted({c.architecture for c in catalogue.CHECKPOINTS}):
        record = next(c for c in catalogue.CHECKPOINTS if c.architecture == architecture)
        folder = write_brainscore_plugin(record.timm_name, tmp_path / architecture)
        trees = {path.name: ast.parse(path.read_text()) for path in folder.iterdir() if path.suffix == '.py'}
        assert set(trees) | {'requirements.txt'} == set(FILES)
        layers = next(n.value for n in trees['model.py'].body if ast.unparse(n).startswith('LAYERS = '))
        layers = eval(ast.unparse(layers))
        model = timm.create_model(architecture, device='meta', weight_init='skip')
        assert 4 <= len(layers) <= 16 and all(model.get_submodule(layer) for layer in layers)
        assert model.get_submodule(layers[-1]) is (model.blocks[-1] if hasattr(model, 'blocks') else model.layer4)
        assert (folder / 'requirements.txt').read_text() == f'videozoo-timm>={videozoo_timm.__version__}\n'


def test_brain_score_tells_all_models_apart():
    """By names that its loader can import, and to which it can add behind an @."""
    names = [brainscore_identifier(c) for c in catalogue.CHECKPOINTS]
    assert len(set(names)) == len(names) and all(re.fullmatch(r'[A-Za-z0-9_-]+', name) for name in names)
    assert brainscore_identifier(catalogue.find('vit_hvm1@448_none')) == 'vit_hvm1_448_none'
    assert brainscore_identifier(catalogue.find('vit_kinetics_none', 'hvm-1')) == 'vit_kinetics_none_hvm-1'


def test_a_plugin_is_written_whole_or_not_at_all(tmp_path, monkeypatch, capsys):
    folder = tmp_path / 'plugin'
    write, calls = Path.write_text, []

    def fail(path, *args, **kwargs):
        calls.append(path.name)
        if len(calls) == 3:
            raise OSError(28, 'No space left on device')
        return write(path, *args, **kwargs)

    command = ['publish', 'vit_shapes_motion', '--brainscore', str(folder)]
    monkeypatch.setattr(Path, 'write_text', fail)
    assert main(command) == 2 and 'plugin could not be written' in capsys.readouterr().err
    assert len(calls) == 3 and list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert main(command) == 0
    assert capsys.readouterr().out == f'{folder}: __init__.py, model.py, requirements.txt, test.py\n'
    assert main(command) == 2 and f'{folder} is there; --force replaces it' in capsys.readouterr().err
    assert main([*command, '--force']) == 0
    (folder / 'notes.txt').write_text('years of work')
    assert main([*command, '--force']) == 2 and 'holds other things' in capsys.readouterr().err
    assert (folder / 'notes.txt').read_text() == 'years of work'


@pytest.mark.parametrize(
    'arguments, told',
    [
        (['vit_shapes_motoin'], "no model 'vit_shapes_motoin'; did you mean"),
        (['say_gimel'], "'say_gimel' is an image generator"),
        (['mae_l16_im.mae_say'], 'mae_l16_im.mae_say: the whole of an image MAE .*; mae_say_vitl16 is its encoder'),
        ([], 'name the published model'),
        (['vit_shapes_motion', '--dtype', 'float16'], '--dtype is of models for the Hub'),
        (['vit_shapes_motion', '--to', 'me/x'], '--to is of models for the Hub'),
        (
            ['vit_shapes_motion', '--brainscore', 'vit.shapes'],
            'vit.shapes must end in a name .*name another --brainscore',
        ),
        (['vit_shapes_motion', '--brainscore', '_private'], '_private must end in a name'),
    ],
)
def test_what_is_no_plugin(arguments, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(['publish', '--brainscore', 'plugin', *arguments]) == 2
    assert re.search(told, ' '.join(capsys.readouterr().err.split())) and list(tmp_path.iterdir()) == []


def test_publish_asks_where_to(capsys):
    assert main(['publish', 'vit_shapes_motion']) == 2
    assert '--to ORGANIZATION/NAME' in capsys.readouterr().err


def test_physion_gets_the_patch_tokens(monkeypatch):
    class Motion(PhysionExtractor):
        name = 'vit_shapes_motion'

    extractor = Motion().eval()
    transform, gap, frames = extractor.transform()
    assert (gap, frames) == (30, 16)  # every third of the 46 frames before the prediction
    film = transform([Image.fromarray(frame.numpy()) for frame in FRAMES])
    assert film.shape == (16, 3, 112, 112) and film.is_contiguous()
    model = videozoo_timm.load_model('vit_shapes_motion')
    clip = videozoo_timm.clip_transform(model)(FRAMES)
    assert torch.equal(film, clip.transpose(0, 1))
    tokens = patch_tokens(model, clip)  # [T', H', W', C]
    features = extractor.extract_features(torch.stack([film, film.flip(0)]))
    assert features.shape == (2, 8, 128) and torch.allclose(features[0], tokens.mean(dim=(1, 2)), atol=1e-5)
    assert not torch.allclose(features[0], features[1], atol=1e-3)
    extractor.tokens, extractor.block = 'all', 1
    tokens = patch_tokens(model, clip, block=1)
    assert torch.allclose(extractor.extract_features(film[None])[0], tokens.flatten(1), atol=1e-4)
    with pytest.raises(ValueError, match='takes 16 frames, got 4: read the films as transform'):
        extractor.extract_features(film[None, :4])
    with pytest.raises(ValueError, match=r'must be \[B, T, C, H, W\], got \[16, 3, 112, 112\]'):
        extractor.extract_features(film)


def test_physion_gets_each_frame_of_an_image_encoder(monkeypatch):
    model = timm.create_model('vit_t16_im').eval()
    monkeypatch.setattr(physion, 'load_model', lambda name, zoo: model)

    class Small(PhysionExtractor):
        name = 'dino_say_vitb14'

    extractor = Small()
    transform, gap, frames = extractor.transform()
    assert (gap, frames) == (150, 4)
    film = transform(FRAMES[:4])
    features = extractor.extract_features(film[None])
    wanted = patch_tokens(model, film[2]).mean(dim=(0, 1, 2))
    assert features.shape == (1, 4, model.num_features) and torch.allclose(features[0, 2], wanted, atol=1e-5)
    assert transform(FRAMES[:1]).shape == (1, 3, 224, 224)


@pytest.mark.parametrize(
    'fields, error, told',
    [
        ({}, ValueError, "Mine names no model: give it one in a subclass, name = 'vit_hvm1_none'"),
        (dict(name='vit_hvm2_none'), ValueError, "no model 'vit_hvm2_none'; did you mean"),
        (dict(name='say_gimel'), ValueError, 'Mine: say_gimel is a generator and gives no features; name an encoder'),
        (
            dict(name='vit_shapes_motion', tokens='class'),
            ValueError,
            "Mine: tokens must be 'mean' or 'all', got 'class'",
        ),
        (dict(name='vit_shapes_motion', block=5), IndexError, 'block=5: the model has 5 blocks'),
    ],
)
def test_what_physion_cannot_get(fields, error, told):
    with pytest.raises(error, match=re.escape(told)):
        type('Mine', (PhysionExtractor,), fields)()
