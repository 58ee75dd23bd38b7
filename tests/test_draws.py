"""A file's mask, crop or place in a sample depends on the seed and its name, not on what is beside it."""

import csv
import shutil
import unicodedata

import pytest
import timm
import torch
from test_video import write_video

from videozoo_timm.analysis import parse_views, predict
from videozoo_timm.cli import main
from videozoo_timm.cli.inputs import sample
from videozoo_timm.cli.options import Pictures
from videozoo_timm.inference.pipeline import views_of
from videozoo_timm.training.finetune import few_shots
from videozoo_timm.video import ClassFolders, seed_of


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp('videos')
    for name in ('cat', 'coffee'):
        write_video(folder / f'{name}.mkv', 20, size=(160, 120))
    return folder


def test_the_seed_is_of_the_name_alone():
    assert seed_of(0, 'a/coffee.mp4') == seed_of(0, '/b/c/coffee.mp4') == seed_of(0, 'coffee.mp4')
    names = ('coffee.mp4', 'coffee.mkv', 'cat.mp4', 'drawn:0/left/000001', 'drawn:0/right/000001')
    assert len({seed_of(seed, name) for seed in (0, 1) for name in names}) == 2 * len(names)
    composed, decomposed = (unicodedata.normalize(form, 'café.mp4') for form in ('NFC', 'NFD'))
    assert seed_of(0, composed) == seed_of(0, decomposed)


def test_the_mask_of_a_completion(videos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(videos, 'moved/deeper')

    def mse(*paths, out, seed=0):
        assert main(['complete', *map(str, paths), '--num-workers', '0', '--out', out, '--seed', str(seed)]) == 0
        with open(tmp_path / out / 'completions.csv', newline='') as file:
            return {row['video'].rpartition('/')[2]: row['mse'] for row in csv.DictReader(file)}

    alone = mse(videos / 'coffee.mkv', out='alone')['coffee.mkv']
    assert mse(videos, out='both')['coffee.mkv'] == mse('moved', out='there')['coffee.mkv'] == alone
    assert mse(videos / 'coffee.mkv', out='other', seed=1)['coffee.mkv'] != alone


def test_random_views(videos):
    model = timm.create_model('vit_t14_st', num_classes=3, img_size=56, depth=1).eval()
    cat, coffee = (str(videos / f'{name}.mkv') for name in ('cat', 'coffee'))

    def answer(*paths, seed=0):
        return predict(model, paths, parse_views('random', views_of(model), (56, 90), seed), batch_size=1)[0]

    assert torch.equal(answer(coffee)[0], answer(cat, coffee)[1])
    assert not torch.equal(answer(coffee)[0], answer(coffee, seed=1)[0])


def test_samples(tmp_path):
    def of_eight(paths, seed):
        return sample(paths, Pictures(8, seed, tmp_path, format='jpg', dpi=150, title=True, save_arrays=False))

    paths = [f'{k}.mp4' for k in range(40)]
    chosen = of_eight(paths, 3)
    assert len(chosen) == 8 and chosen != of_eight(paths, 4)
    more = of_eight(['new.mp4', *paths], 3)
    assert len(set(chosen) - set(more)) <= 1 and chosen == sorted(chosen, key=paths.index)


def test_shots():
    def shots(paths):
        return few_shots(ClassFolders(['a'], paths, [0] * len(paths), 'there'), 5, seed=2).paths

    paths = [f'there/a/{k:02}.mp4' for k in range(30)]
    chosen = shots(paths)
    assert sorted(shots(paths[::-1])) == chosen and len(set(chosen) - set(shots(['there/a/!.mp4', *paths]))) <= 1
    assert shots([path.replace('there', 'moved') for path in paths]) == [p.replace('there', 'moved') for p in chosen]
