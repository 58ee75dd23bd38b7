"""Time controls: the frames of a clip shuffled, reversed, or one of them alone."""

import json

import numpy as np
import pytest
import torch

from videozoo_timm import load_model
from videozoo_timm.analysis.evaluation import predict
from videozoo_timm.cli import main
from videozoo_timm.inference.pipeline import sampling_of, views_of
from videozoo_timm.video import Job, Sampling, class_folders, read_views

SWAPPED = dict(left='right', right='left', up='down', down='up', grow='shrink', shrink='grow')


@pytest.fixture(scope='module')
def model():
    return load_model('vit_shapes_motion')


def view_of(model, frames, index=0, seed=None, path='drawn:99/right/000003'):
    return next(read_views(Job(index, path, view_seed=seed), views_of(model, sampling_of(model, 128, frames)))).x


def test_the_frames_are_the_same_in_another_order(model):
    plain = view_of(model, '')
    assert torch.equal(view_of(model, 'reversed'), plain.flip(1))
    assert torch.equal(view_of(model, 'static'), plain[:, 8:9].expand_as(plain))
    shuffled = view_of(model, 'shuffled')
    assert not torch.equal(shuffled, plain) and torch.equal(view_of(model, 'shuffled@0'), shuffled)
    assert not torch.equal(view_of(model, 'shuffled@1'), shuffled)
    assert torch.equal(view_of(model, 'shuffled', index=1), shuffled)  # wherever the file stands in a list
    assert not torch.equal(view_of(model, 'shuffled', seed=1), shuffled)
    total = [x.sum(dim=(0, 2, 3)).sort().values for x in (plain, shuffled)]
    assert torch.equal(*total)


def test_what_the_model_of_motions_takes_from_time(model):
    folders = class_folders('drawn:24@9')

    def answers(frames):
        found, _ = predict(model, folders.paths, views_of(model, sampling_of(model, 128, frames)), batch_size=8)
        return [folders.classes[found[k].argmax().item()] for k in range(len(folders.paths))]

    truth = [folders.classes[label] for label in folders.targets]
    plain, backwards, static = (answers(frames) for frames in ('', 'reversed', 'static'))
    assert np.mean([a == b for a, b in zip(plain, truth, strict=True)]) > 0.8
    moving = [(a, b) for a, b in zip(backwards, truth, strict=True) if b in SWAPPED]
    assert np.mean([a == SWAPPED[b] for a, b in moving]) > 0.8
    assert abs(np.mean([a == b for a, b in zip(static, truth, strict=True)]) - 0.125) < 1.96 * (0.11 / 24) ** 0.5


def test_the_order_is_in_the_records(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = ['--num-workers', '0', '--frames', 'shuffled@3']
    assert main(['embed', 'drawn:1', *given]) == 0
    settings = json.loads(str(np.load('features.npz')['settings']))
    assert settings['views']['sampling']['frames'] == 'shuffled@3'
    assert main(['evaluate', 'drawn:8@1', *given]) == 0
    assert json.loads((tmp_path / 'evaluation' / 'summary.json').read_text())['frames'] == 'shuffled@3'
    held_out = ['--train', 'drawn:8@5', '--val', 'drawn:8@6', '--probes', 'neighbours']
    assert main(['probe', *held_out, *given]) == 0
    assert json.loads((tmp_path / 'probe' / 'probes.json').read_text())['frames'] == 'shuffled@3'
    assert main(['surprise', 'drawn:1', '--contexts', '8', '--stride', '8', '--no-pictures', *given]) == 0
    assert json.loads((tmp_path / 'surprise' / 'surprise.json').read_text())['frames'] == 'shuffled@3'
    for results in ('features.npz', 'evaluation', 'probe', 'surprise'):
        capsys.readouterr()
        assert main(['methods', results]) == 0
        assert 'were in random order (shuffled@3)' in capsys.readouterr().out
    for other in (['--frames', 'static'], []):  # another evaluation, and one without a control
        capsys.readouterr()
        assert main(['evaluate', 'drawn:8@1', '--num-workers', '0', *other]) == 2
        assert '--force' in capsys.readouterr().err
    assert main(['classify', 'drawn:1', '--num-workers', '0', '--frames', 'backwards']) == 2
    assert 'shuffled@7' in capsys.readouterr().err
    assert main(['embed', 'drawn:1', '--model', 'vit_t16_im', '--frames', 'static', '--force']) == 2
    with pytest.raises(ValueError, match='shuffled'):
        Sampling(16, 128, 'sorted')
