"""Features of a series of models: `embed --models`."""

import numpy as np
import pytest

from videozoo_timm import catalogue
from videozoo_timm.analysis.feature_files import read_origin
from videozoo_timm.catalogue import matching
from videozoo_timm.cli import main
from videozoo_timm.inference.journal import Journal

HERE = ['--num-workers', '0', '--batch-size', '1']


def test_patterns():
    names = matching(['vitb14_*_*'])
    assert len(names) == 13 and names == [name for name in catalogue.humanlike.NAMES if name.startswith('vitb14_')]
    assert matching(['vitb14_*_*_in1k']) == [f'{name}_in1k' for name in names]
    assert matching(['vit_shapes_motion', 'mae_shapes*']) == ['mae_shapes_none', 'vit_shapes_motion']  # as published
    assert 'vit_kinetics_imagenet-2pt' in matching(['vit_kinetics_*'], 'hvm-1')
    assert 'vit_kinetics_imagenet-2pt' not in matching(['vit_kinetics_*'], 'video-models')
    assert matching(['vit_b14_im.humanlike_0_01_*', 'vit_t14_st.*']) == [*names[4:7], 'vit_shapes_motion']  # timm names
    assert matching(['vit_b14_im.humanlike_*']) == names
    assert matching(['say_*', 'vitb14_0.1_1'], generators=True) == ['say_gimel', 'vitb14_0.1_1']
    with pytest.raises(ValueError, match=r"matches 'vitb15_\*'; there are 'vitb14_1.0_1'"):
        matching(['*shapes*', 'vitb15_*'])
    with pytest.raises(ValueError, match='generators alone'):
        matching(['say_*'])
    with pytest.raises(ValueError, match="of the zoo 'shapes' matches"):
        matching(['vitb14_*'], 'shapes')


def test_an_interrupted_series_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'broken.mp4').write_bytes(b'no video')
    command = ['embed', 'drawn:2', 'broken.mp4', '--models', '*shapes*', *HERE]
    add = Journal.add

    def killed(journal, batch):
        if 'motion' in journal.folder.name and 1 in batch.files:
            raise KeyboardInterrupt
        add(journal, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, 'add', killed)
        assert main(command) == 130
    first = tmp_path / 'features' / 'mae_shapes_none.npz'
    written = first.stat().st_mtime_ns
    capsys.readouterr()
    assert main(command) == 1  # for the file that cannot be read
    told = capsys.readouterr().err
    assert f'{first.relative_to(tmp_path)} is there, of this very run: nothing to do' in told
    assert 'going on with the unfinished run in features/.vit_shapes_motion.npz.unfinished' in told
    assert first.stat().st_mtime_ns == written and told.count('broken.mp4: ') == 2
    names = ('mae_shapes_none.npz', 'vit_shapes_motion.npz')
    assert {path.name for path in first.parent.iterdir()} == {*names, *(f'{name}.run.json' for name in names)}
    for name, label in (('mae_shapes_none', 'mae_t14_st.shapes'), ('vit_shapes_motion', 'vit_t14_st.shapes_motion')):
        assert read_origin(first.with_stem(name))['model'] == label
        assert main(['embed', 'drawn:2', '--model', name, '--out', 'alone.npz', '--force', *HERE]) == 0
        with np.load(first.with_stem(name)) as mine, np.load('alone.npz') as alone:
            assert np.array_equal(mine['features'], alone['features']) and len(mine['features']) == 2
    capsys.readouterr()
    assert main([*command[:3], '--models', 'vit_shapes_motion', '--norm', *HERE]) == 2  # another run
    assert 'norm was False, is True' in capsys.readouterr().err
    assert main(['embed', 'drawn:3', '--models', 'vit_shapes_motion', *HERE]) == 0  # a video more
    assert 'nothing to do' not in capsys.readouterr().err
    assert len(np.load('features/vit_shapes_motion.npz')['features']) == 3


def test_a_model_that_is_not_on_the_hub_does_not_stop_the_others(run, tmp_path):
    models = 'vits14_0.1_2,*_motion'
    done = run('embed', 'drawn:1', '--models', models, '--out', 'tables/{model}.csv', *HERE, check=False)
    assert done.returncode == 1, done.stderr
    assert 'videozoo: vits14_0.1_2: ' in done.stderr
    assert done.stderr.splitlines()[-1] == 'videozoo: 1 of 2 models gave no features: vits14_0.1_2'
    assert sorted(path.name for path in (tmp_path / 'tables').iterdir()) == [
        'vit_shapes_motion.csv',
        'vit_shapes_motion.csv.json',
        'vit_shapes_motion.csv.run.json',
    ]


def test_one_model_has_its_name_in_out_and_is_not_computed_again(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ['embed', 'drawn:1', '--model', 'vit_t14_st.shapes_motion', '--out', 'of/{model}.npz', *HERE]
    assert main(command) == 0
    out = tmp_path / 'of' / 'vit_shapes_motion.npz'  # the published name, as in a series
    assert capsys.readouterr().out == 'of/vit_shapes_motion.npz: 1 row of 128 features, vit_t14_st.shapes_motion\n'
    written = out.stat().st_mtime_ns
    assert main(command) == 0 and out.stat().st_mtime_ns == written
    assert 'of/vit_shapes_motion.npz is there, of this very run: nothing to do' in capsys.readouterr().err
    assert main([*command, '--force']) == 0 and out.stat().st_mtime_ns > written
    assert main([*command, '--tokens', 'mean']) == 2  # of another run
    assert main(['embed', 'drawn:1', '--out', '{model}.npz', *HERE]) == 2
    assert '{model} stands for the name of a model: name one with --model' in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ['of']


@pytest.mark.parametrize(
    'options, words',
    [
        (['--models', '*shapes*', '--model', 'vit_shapes_motion'], '--models and --model exclude each other'),
        (['--models', '*shapes*', '--weights', 'w.pth'], '--weights are those of one model'),
        (['--models', 'vit_shaped_*'], "there are 'vit_shapes_motion'"),
        (['--models', ','], 'name models, or patterns'),
        (['--models', '*shapes*', '--out', 'all.npz'], '--out all.npz: a series has a file for each model'),
        (['--models', 'vit_shapes_motion', '--tokens', 'all', '--out', 'a/{model}.csv'], '--tokens mean'),
    ],
)
def test_what_a_series_cannot_be(options, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(['embed', 'drawn:1', *options, *HERE]) == 2
    assert words in capsys.readouterr().err
