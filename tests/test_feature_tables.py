"""Features as tables, and those of a model that has learned nothing."""

import csv
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

import videozoo_timm
from videozoo_timm.analysis import embed
from videozoo_timm.analysis.feature_files import read_origin
from videozoo_timm.analysis.intervals import wilson_interval
from videozoo_timm.cli import main

VIDEOS = ['drawn:0/left/000000', 'drawn:0/up/000000']


@pytest.fixture(scope='module')
def vit():
    return timm.create_model('vit_t14_st', num_classes=2, img_size=56, depth=2).eval()


def rows_of(path):
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


def test_a_table_has_path_times_and_features_in_each_row(vit, tmp_path):
    result = embed(vit, VIDEOS, num_clips=2, out=tmp_path / 'f.csv')
    rows = rows_of(tmp_path / 'f.csv')
    assert list(rows[0])[:1] == ['path'] and list(rows[0])[-128:] == [f'f{j}' for j in range(128)]
    assert [row['path'] for row in rows] == [VIDEOS[0]] * 2 + [VIDEOS[1]] * 2
    for name in ('time', 'start', 'end', 'duration'):
        assert [float(row[name]) for row in rows] == getattr(result, name).tolist()
    values = np.array([[row[f'f{j}'] for j in range(128)] for row in rows], np.float32)
    assert np.array_equal(values, result.features.numpy())  # to the last bit
    origin = read_origin(tmp_path / 'f.csv')
    assert origin['paths'] == VIDEOS and json.loads(origin['settings'])['tokens'] == 'class'


def test_each_block_has_a_row_of_its_own(vit, tmp_path):
    result = embed(vit, VIDEOS, blocks=[1, 0], out=tmp_path / 'f.csv')
    rows = rows_of(tmp_path / 'f.csv')
    assert [(row['path'], row['block']) for row in rows] == [(path, block) for path in VIDEOS for block in '10']
    assert np.float32(rows[2]['f5']) == result.features[1, 0, 5].numpy()


def test_a_table_is_replaced_by_the_same_run_alone(vit, tmp_path):
    out = tmp_path / 'f.csv'
    embed(vit, VIDEOS[:1], out=out)
    embed(vit, VIDEOS, out=out)  # more files of the same
    assert len(rows_of(out)) == 2
    with pytest.raises(ValueError, match='norm was False, is True'):
        embed(vit, VIDEOS, norm=True, out=out)
    (tmp_path / 'f.csv.json').unlink()
    with pytest.raises(ValueError, match='not known'):
        embed(vit, VIDEOS, out=out)
    (tmp_path / 'g.csv.json').write_text('{"thesis": 1}')
    with pytest.raises(ValueError, match=r'g.csv.json would hold the settings of g.csv, but is something else'):
        embed(vit, VIDEOS, out=tmp_path / 'g.csv')
    with pytest.raises(ValueError, match=r"a row of a table holds one vector, not a map: tokens='mean'"):
        embed(vit, VIDEOS, tokens='all', out=tmp_path / 'h.csv')
    with pytest.raises(ValueError, match='a row of a table holds one vector'):
        embed(vit, VIDEOS, tokens='all').save(tmp_path / 'h.csv')
    assert not (tmp_path / 'h.csv').exists()


def test_whenever_it_ends_no_table_stands_without_its_settings(vit, tmp_path, monkeypatch):
    out, replace = tmp_path / 'a.csv', os.replace
    embed(vit, VIDEOS[:1], out=out)
    moved, last = [], 0

    def ends(source, target):
        if Path(target).name.startswith(out.name):
            moved.append(target)
            if len(moved) == last:
                raise KeyboardInterrupt
        replace(source, target)

    for last in (1, 2):  # noqa: B007  # of `ends`
        moved.clear()
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(os, 'replace', ends)
            embed(vit, VIDEOS[:1], out=out, norm=True, start_over=True)
        assert not out.exists()
        embed(vit, VIDEOS[:1], out=out, norm=True)  # goes on
        assert json.loads(read_origin(out)['settings'])['norm']
        embed(vit, VIDEOS[:1], out=out, start_over=True)


def test_parquet(vit, tmp_path):
    parquet = pytest.importorskip('pyarrow.parquet')
    result = embed(vit, VIDEOS, blocks=[1, 0], out=tmp_path / 'f.parquet', about=dict(model='mine'))
    table = parquet.read_table(tmp_path / 'f.parquet')
    assert table['path'].to_pylist() == [path for path in VIDEOS for _ in range(2)]
    assert table['block'].to_pylist() == [1, 0, 1, 0]
    assert table['f7'].to_pylist() == result.features[..., 7].flatten().tolist()
    assert read_origin(tmp_path / 'f.parquet')['model'] == 'mine'


def test_parquet_without_its_library(vit, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    monkeypatch.setitem(sys.modules, 'pyarrow.parquet', None)
    with pytest.raises(ImportError, match="Parquet needs pyarrow: pip install 'videozoo-timm"):
        embed(vit, VIDEOS, out=tmp_path / 'f.parquet')


def test_an_untrained_control(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ['embed', VIDEOS[0], '--model', 'vit_shapes_motion', '--num-workers', '0', '--from-scratch']
    assert main([*command, '--seed', '5', '--out', 'a.npz']) == 0
    assert 'vit_t14_st from scratch, seed 5' in capsys.readouterr().out
    torch.manual_seed(5)
    expected = embed(videozoo_timm.load_model('vit_shapes_motion', pretrained=False), VIDEOS[0])
    with np.load('a.npz') as arrays:
        assert np.array_equal(arrays['features'], expected.features.numpy())
        assert str(arrays['from_scratch']) == 'seed 5' and 'from scratch, seed 5' in str(arrays['model'])
    assert main([*command, '--seed', '6', '--out', 'a.npz']) == 2
    assert 'from_scratch was seed 5, is seed 6' in capsys.readouterr().err
    assert main([*command, '--weights', 'w.pth', '--out', 'b.npz']) == 2
    assert '--from-scratch and --weights contradict each other' in capsys.readouterr().err
    assert main([*command[:-1], '--seed', '5', '--out', 'b.npz']) == 2
    assert '--seed 5 is that of --from-scratch' in capsys.readouterr().err


def test_wilson_intervals():
    low, high = wilson_interval(81, 263)  # of Newcombe, Statistics in Medicine 17 (1998), table I
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert wilson_interval(9, 9)[1] == 1 and 0.70 < wilson_interval(9, 9)[0] < 0.71
    assert wilson_interval(0, 20)[0] == 0 and round(wilson_interval(0, 20)[1], 4) == 0.1611
