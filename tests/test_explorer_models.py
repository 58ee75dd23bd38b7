"""Models of other kinds in the explorer: image MAEs, generators of videos, and files of one's own."""

import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from test_explorer import ASKED, MAE, VIT, assert_same, clip
from test_video_generators import gpt_of, vqgan_of

from videozoo_timm import catalogue, factory
from videozoo_timm.catalogue import generators
from videozoo_timm.cli import main
from videozoo_timm.explorer.answers import Answers
from videozoo_timm.explorer.choices import (
    FIRST,
    GENERATOR,
    IMAGE_MAE,
    Models,
    Video,
    chosen_first,
    given_videos,
    offered_models,
    view_of,
)
from videozoo_timm.explorer.moments import continued, surprising
from videozoo_timm.explorer.session import Session
from videozoo_timm.explorer.space import write_space
from videozoo_timm.explorer.views import Viewing, attention, filled_in, similar
from videozoo_timm.models import VideoGenerator
from videozoo_timm.models.generator_files import save_video_generator
from videozoo_timm.weights.writing import save_tensors


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Files of one's own: an image MAE, a masked autoencoder of clips, a generator, and one that says nothing."""
    folder = tmp_path_factory.mktemp('own')
    torch.manual_seed(0)
    for name, architecture in dict(mine='mae_t16_im', clips='mae_t14_st', mae_shapes_none='mae_t16_im').items():
        options = dict(img_size=64) if architecture == 'mae_t16_im' else dict(img_size=56, num_frames=8)
        state = timm.create_model(architecture, **options).state_dict()
        save_tensors(state, folder / f'{name}.safetensors', dict(format='pt', architecture=architecture))
    save_tensors(state, folder / 'silent.safetensors', {})
    generator = VideoGenerator(gpt_of(), vqgan_of('video_vqgan_tiny'))
    save_video_generator(generator, folder / 'gen.safetensors', {})
    save_video_generator(generator.gpt, folder / 'part.safetensors', {})
    return folder


@pytest.fixture(scope='module')
def shipped():
    return Models(offered_models())


@pytest.fixture
def own(files, monkeypatch):
    """The models of these files, named from their folder."""
    monkeypatch.chdir(files)
    return Models(offered_models(['mine.safetensors', 'clips.safetensors', 'gen.safetensors']))


def shown_to(models, name, start=None, path=FIRST):
    return Viewing(Video(path, path, path), start, name, models.get(name), file=models.offered[name].file)


VIEWS = {
    'box': lambda models: filled_in(shown_to(models, 'mine', 0.7), box=(0, 1, 0, 32, 16, 64)),
    'random': lambda models: filled_in(shown_to(models, 'mine'), 'random', 0.5),
    'of an image': lambda models: filled_in(shown_to(models, 'mine', path='still.png')),
    'of clips': lambda models: filled_in(shown_to(models, 'clips')),
    'attention': lambda models: attention(shown_to(models, 'mine'), 1),
    'similar': lambda models: similar(shown_to(models, 'mine'), (0, 1, 2)),
    'surprise of clips': lambda models: surprising(shown_to(models, 'clips')),
    'surprise of a generator': lambda models: surprising(shown_to(models, 'gen'), 1),
    'continued': lambda models: continued(shown_to(models, 'gen', 0.5), samples=2, seed=3),
}


@pytest.mark.parametrize('view', VIEWS)
def test_what_is_typed_gives_what_is_shown(own, view, tmp_path, monkeypatch):
    """The lines of Python and the command load the same file, and give the arrays of the view to the bit."""
    from PIL import Image

    for path in Path().glob('*.safetensors'):
        (tmp_path / path.name).symlink_to(path.absolute())
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (80, 100, 3), np.uint8)
    Image.fromarray(pixels).save('still.png')
    shown = VIEWS[view](own)
    exec(shown.python, {})
    (written,) = tmp_path.glob('*.npz')
    assert_same(shown, written)
    written.unlink()
    for line in shown.command.splitlines():
        assert main([*shlex.split(line)[1:], '--num-workers', '0', *(['--out', 'out'] * ('generate' in line))]) == 0
    if view != 'continued':
        (written,) = tmp_path.glob('*/*.npz')
        assert_same(shown, written, without=('colors',))


def test_a_frame_is_filled_in(own):
    """Of an image MAE the four panels have one frame, and the box four numbers to type."""
    shown = filled_in(shown_to(own, 'mine'))
    assert shown.box == (0, 1, 16, 48, 16, 48) and '--mask-box 16,48,16,48' in shown.command
    original, masked, completed, _ = (panel.frames for panel in shown.panels)
    assert original.shape == (1, 64, 64, 3) and len(np.unique(masked[0, 16:48, 16:48])) == 3  # one color
    assert (completed[:, :16] == original[:, :16]).all() and '25% of the frame' in shown.told
    assert filled_in(shown_to(own, 'mine'), box=(0, 16, 0, 64)).box == (0, 1, 0, 16, 0, 64)
    with pytest.raises(ValueError, match='no span of time'):
        filled_in(shown_to(own, 'mine'), 'temporal')
    with pytest.raises(ValueError, match='image MAEs fill it in'):
        filled_in(Viewing(Video('a.png', 'a.png', 'a.png'), None, 'clips', own.get('clips')))


def test_a_frame_beside_a_clip(own, shipped, tmp_path):
    """The box at the other's size; the frame is that in the middle of the window."""
    session, answers = Session(tmp_path / 'a' / 'files', given_videos(())), Answers(own)
    session.box = (4, 12, 28, 84, 0, 56)
    loaded = {MAE: shipped.get(MAE), 'mine': own.get('mine')}
    assert answers.show(session, replace(ASKED, start=0.5), loaded) == []
    assert [one.box for one in session.shown] == [(4, 12, 28, 84, 0, 56), (0, 1, 16, 48, 0, 32)]
    assert '--start 0.5 ' in session.shown[0].command and '--start 1.58 ' in session.shown[1].command
    session.box = (0, 1, 16, 48, 0, 32)
    assert answers.show(session, ASKED, dict(reversed(loaded.items()))) == []
    assert [one.box for one in session.shown] == [(0, 1, 16, 48, 0, 32), (0, 16, 28, 84, 0, 56)]


def test_image_maes_are_loaded_whole(monkeypatch):
    """Their published names mean encoders elsewhere."""
    offered, built = offered_models(), []
    assert {offer.kind for name, offer in offered.items() if name.startswith('mae_say_vit')} == {IMAGE_MAE}
    assert offered['vitb14_1.0_1'].kind == IMAGE_MAE and offered['dino_say_vitb14'].kind == 'images'
    monkeypatch.setattr(factory, 'build', lambda resolved, **options: built.append(resolved.timm_name))
    offered['mae_say_vits16'].load('cpu')
    offered['dino_say_vitb14'].load('cpu')
    assert built == ['mae_s16_im.mae_say', 'vit_b14_im.dino_say']
    model = timm.create_model('mae_t16_im', img_size=64)
    model.pretrained_cfg.update(architecture='mae_s16_im', tag='mae_say')
    trial = Viewing(Video(FIRST, FIRST, FIRST), None, 'mae_say_vits16', model)
    assert trial.loading == "load_model('mae_say_vits16', whole=True)"
    assert replace(trial, file='a.pth').loading == "load_file('a.pth', 'mae_s16_im.mae_say')"


def test_a_generator_of_the_catalogue_is_offered(tmp_path, monkeypatch, shipped):
    """It appears by itself, in Continue also while another model is chosen, and its likelihood in Surprise."""
    generator = VideoGenerator(gpt_of(), vqgan_of('video_vqgan_tiny')).eval()
    record = catalogue.PackagedGenerator('gen_tiny', 8, 32, (4, 4, 4), 64)
    monkeypatch.setattr(generators, 'PACKAGED', tmp_path)
    monkeypatch.setattr(generators, '_VIDEO_GENERATORS', (record,))
    monkeypatch.setattr(generators, 'num_params', lambda: {'gen_tiny': 1})
    save_video_generator(generator, record.packaged, {'name': 'gen_tiny', 'zoo': 'shapes'})
    offered = Models(offered_models())
    assert offered.names(GENERATOR) == ['gen_tiny'] and offered.offered['gen_tiny'].is_here
    shown = continued(clip(offered, 'gen_tiny', 0.5), samples=2, seed=3)
    assert len(shown.panels) == 3 and shown.arrays['drawn'].shape[:2] == (1, 2)
    monkeypatch.chdir(tmp_path)
    exec(shown.python, {})
    assert_same(shown, tmp_path / 'continuation.npz')
    assert main([*shlex.split(shown.command)[1:], '--num-workers', '0', '--out', 'continued']) == 0
    assert len(list((tmp_path / 'continued').glob('*.mp4'))) == 2

    session, answers = Session(tmp_path / 'a' / 'files', given_videos(()), 'next'), Answers(offered)
    assert answers.names(session, ASKED) == answers.names(session, replace(ASKED, second='gen_tiny')) == ['gen_tiny']
    session.view = 'surprise'
    assert answers.names(session, replace(ASKED, second='gen_tiny')) == [MAE, 'gen_tiny']
    both = {MAE: shipped.get(MAE), 'gen_tiny': generator}
    assert answers.show(session, ASKED, both) == []
    assert [one.curve.label for one in session.shown] == ['squared error', 'negative log-likelihood, nats a code']
    assert [len(one.panels) for one in session.shown] == [3, 2] and '--score nll' in session.shown[1].command
    session.view = 'fill'
    (note,) = answers.show(session, ASKED, both)
    assert note == 'gen_tiny: a generator of videos; Surprise and Continue show what it expects'


def test_files_are_offered(own, files):
    """By their own names, or with their folder's where another model has this one."""
    assert [(offer.name, offer.kind) for offer in own.offered.values()][:3] == [
        ('mine', 'image MAE'),
        ('clips', 'MAE'),
        ('gen', 'generator'),
    ]
    taken = f'{files.name}_{MAE}'
    assert list(offered_models([f'{MAE}.safetensors', str(files / f'{MAE}.safetensors')], True)) == [
        taken,
        f'{taken}_2',
    ]
    assert chosen_first(['gen.safetensors', VIT], offered_models(['gen.safetensors', VIT])) == ['gen', VIT]


REFUSED = {
    'none.safetensors': 'no such file of a model',
    'runs/none.pth': 'no such file of a model',
    './': 'a folder; name the file',
    'silent.safetensors': 'does not say which model it is: its tensors are those of mae_t16_im; .*convert',
    'part.safetensors': 'holds no vqgan',
    'text.pth': 'text.pth',
    'mae_t16_im': 'files of your own',
}


@pytest.mark.parametrize('file', REFUSED)
def test_files_of_no_model_are_refused_in_words(files, file, monkeypatch, capsys):
    import re

    monkeypatch.chdir(files)
    Path('text.pth').write_text('not a model')
    assert main(['explore', '--model', file]) == 2
    told = capsys.readouterr().err
    assert re.search(REFUSED[file], told) and 'Traceback' not in told


def test_a_space_takes_files_along(files, tmp_path, monkeypatch):
    monkeypatch.chdir(files)
    write_space(tmp_path / 'space', (), ['mine.safetensors', VIT])
    copy = tmp_path / 'space' / 'models' / 'mine.safetensors'
    assert copy.read_bytes() == Path('mine.safetensors').read_bytes()
    assert f"MODELS = ('models/mine.safetensors', '{VIT}')" in (tmp_path / 'space' / 'app.py').read_text()


@pytest.mark.parametrize(('name', 'view'), [('mine', 'fill'), ('gen', 'next'), (VIT, 'compare')])
def test_the_page_opens_with_what_the_model_can_do(own, name, view):
    assert view_of(own.offered[name]) == view
