"""What is meant by a path that a person typed, in Python and in commands; and what is said if it is none."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from conftest import CLIPS

from videozoo_timm import cli, clip_transform, load_model
from videozoo_timm.analysis import embed, evaluate, predict, read_labels, read_mask
from videozoo_timm.factory import load_file
from videozoo_timm.video import class_folders, find_media, find_videos, is_image, probe, read_clip, read_image

CAT = CLIPS / 'pans' / 'things' / 'cat.mp4'


@pytest.fixture(scope='module')
def vit():
    return load_model('vit_shapes_motion')


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder: `My Videos/a b.mp4`, `one/a.mp4`, `one/b.mp4`, `one/.c.mp4`, `one/[d].mp4`."""
    for name in ('My Videos/a b.mp4', 'one/a.mp4', 'one/b.mp4', 'one/.c.mp4', 'one/[d].mp4'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(CAT, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_patterns_stand_for_what_they_match(folder, vit):
    everything = [Path('one', name) for name in ('[d].mp4', 'a.mp4', 'b.mp4')]
    assert find_videos('one/*.mp4') == everything == sorted(find_videos(['one/b.mp4', 'one/*']))
    assert find_videos('**/a*.mp4') == [Path('My Videos/a b.mp4'), Path('one/a.mp4')]
    assert find_videos('o*') == everything == find_media('one')  # a folder that a pattern matches
    assert find_videos('one/[d].mp4') == everything[:1]  # a file's own name is no pattern
    assert embed(vit, 'one/[ab].mp4').paths == ['one/a.mp4', 'one/b.mp4'] == embed(vit, ['one/[ab].mp4']).paths
    assert list(predict(vit, 'one/[ab].mp4')[0]) == [0, 1] == list(predict(vit, ['one/[ab].mp4', 'one/no.mp4'])[0])
    assert list(predict(vit, 'one')[0]) == [0, 1, 2]


@pytest.mark.parametrize(
    'path, words',
    [
        ('https://x.org/a.mp4', r'^https://x.org/a.mp4: a URL is not read; download it, and name the '),
        ('s3://x/a.mp4', r'^s3://x/a.mp4: a URL is not read'),
        ('one/*.avi', r'^one/\*.avi: no \w+( or folder)? matches this pattern$'),
        ('~/a.mp4', r'^~/a.mp4: no such .*expanduser'),
        ('nowhere', '^nowhere: no such'),
    ],
)
def test_what_is_not_there_is_told_with_the_way_out(folder, vit, path, words):
    mask = (8, 8, 8)
    calls = [find_videos, find_media, class_folders, read_clip, probe, read_image, clip_transform(vit).read, load_file]
    calls += [lambda p: embed(vit, p), lambda p: predict(vit, p), lambda p: evaluate(vit, p)]
    calls += [lambda p: read_mask(p, mask), lambda p: read_labels(p, 8)]
    for call in calls:
        for given in (path, Path(path)):
            with pytest.raises(FileNotFoundError, match=words):
                call(given)


@pytest.mark.parametrize('path, error', [('', ValueError), (None, TypeError), (3, TypeError), (b'one', TypeError)])
def test_what_is_no_path_is_refused_in_words(folder, vit, path, error):
    for call in (find_videos, find_media, class_folders, is_image, lambda p: embed(vit, p), lambda p: embed(vit, [p])):
        with pytest.raises(error, match='a path is wanted|an empty path'):
            call(path)
    if path != '':
        for call in (read_clip, read_image, probe, clip_transform(vit).read):
            with pytest.raises(TypeError, match='a path is wanted'):
                call(path)


def test_a_file_where_a_folder_of_classes_belongs(folder, vit):
    with pytest.raises(NotADirectoryError, match=r'one/a.mp4 is a file; a folder with one subfolder for each class'):
        evaluate(vit, 'one/a.mp4')
    with pytest.raises(TypeError, match='a path is wanted, got list'):
        evaluate(vit, ['one'])


@pytest.mark.parametrize(
    'words, told',
    [
        (['embed', 'My', 'Videos'], "a path that holds spaces needs quotes: 'My Videos'"),
        (['attend', 'My', 'Videos/a', 'b.mp4'], "needs quotes: 'My Videos/a b.mp4'"),
        (['evaluate', 'My', 'Videos'], "class; a path that holds spaces needs quotes: 'My Videos'"),
        (['finetune', '--train', 'My', 'Videos'], "needs quotes: 'My Videos'"),
        (['pca', 'one', '--weights', 'My', 'Videos/a', 'b.mp4'], "needs quotes: 'My Videos/a b.mp4'"),
        (['embed', 'https://x.org/a.mp4'], 'https://x.org/a.mp4: a URL is not read; download it'),
        (['evaluate', 'https://x.org/a'], 'https://x.org/a: a URL is not read; download it, and name the folder'),
        (['embed', 'one', '--weights', 'https://x.org/a.pth'], 'https://x.org/a.pth: a URL is not read; download it'),
        (['embed', 'one/*.avi'], 'one/*.avi: no file or folder matches this pattern'),
        (['embed', ''], "an empty path: name a file or a folder ('.' is the current one)"),
        (['embed', 'one', '--weights', 'features.npz'], 'features.npz holds NumPy arrays and no model'),
        (['info', '--weights', 'features.npz'], 'features.npz holds NumPy arrays and no model'),
        (['embed', 'one', '--model', 'a.pth'], "no model 'a.pth'; a file is no name"),
        (['info', 'https://x.org/a.pth'], 'a URL is no name: download the file'),
    ],
)
def test_commands_tell_what_is_wrong_with_a_path(folder, capsys, words, told):
    Path('features.npz').write_bytes(b'PK')
    before = sorted(os.listdir())
    assert cli.main(words) == 2
    said = capsys.readouterr()
    assert said.err.splitlines()[-1].startswith('videozoo: ') and told in said.err.splitlines()[-1] and not said.out
    assert sorted(os.listdir()) == before


def test_commands_take_patterns_and_go_on_without_what_is_not_there(folder, capsys):
    assert cli.main(['embed', 'one/*.mp4', 'My', 'Videos', '--num-workers', '0', '--out', 'x.npz']) == 1
    said = capsys.readouterr()
    assert 'x.npz: 3 rows' in said.out and "a path that holds spaces needs quotes: 'My Videos'" in said.err


@pytest.mark.parametrize(
    'given, told',
    [
        ('gpu', 'did you mean cuda?'),
        ('cuda0', 'did you mean cuda:0?'),
        ('1', 'did you mean cuda:1?'),
        ('cpuu', '--device cpuu: must be cpu, cuda, cuda:1, mps or another'),
    ],
)
def test_devices_are_told(capsys, given, told):
    assert cli.main(['embed', 'drawn:1', '--device', given]) == 2
    assert told in capsys.readouterr().err
    assert cli.loading.pick_device('CPU') == torch.device('cpu')
