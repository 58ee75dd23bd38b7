"""Tables of others that say at which times, and in which order, features are wanted: `embed --at`, `--manifest`."""

import csv
import json

import numpy as np
import pytest
import timm
import torch
from safetensors import safe_open
from test_video import write_video

from videozoo_timm.analysis import embed, stimulus_tables
from videozoo_timm.analysis.feature_files import read_origin
from videozoo_timm.analysis.stimulus_tables import _read_table as read_table
from videozoo_timm.analysis.stimulus_tables import read_manifest, times_of
from videozoo_timm.cli import main
from videozoo_timm.inference.journal import Journal
from videozoo_timm.video import Sampling, VideoError

SHORT = dict(sampling=Sampling(2, 30))
HERE = ['--num-workers', '0']


@pytest.fixture(scope='module')
def vit():
    torch.manual_seed(0)
    return timm.create_model('vit_t14_st', img_size=56, num_frames=2, num_classes=0).eval()


@pytest.fixture(scope='module')
def late(tmp_path_factory):
    """A video of 4 s whose first frame comes at 1.5 s on the clock of its file."""
    return str(write_video(tmp_path_factory.mktemp('late') / 'late.mkv', 120, codec='mpeg4', first_pts=45))


def table(path, *lines):
    path.write_text(''.join(f'{line}\n' for line in lines))
    return path


# Times


@pytest.mark.parametrize('align', ['causal', 'center', 'start'])
def test_rows_at_given_times_are_those_of_a_course_at_these_times(vit, late, tmp_path, align):
    course = embed(vit, late, stride=0.5, align=align, **SHORT)
    for at in ([3.5, 1.0, 2.5], table(tmp_path / 'times.txt', '# s', '3.5', '', '1', '2.5')):
        rows = embed(vit, late, at=at, align=align, **SHORT)
        assert rows.time.tolist() == [1.0, 2.5, 3.5]
        for name in ('features', 'start', 'end', 'padded'):
            assert torch.equal(getattr(rows, name), getattr(course, name)[[2, 5, 7]])
    assert (rows.end[0] if align == 'causal' else rows.start[0]) == dict(causal=1.0, center=0.5, start=1.0)[align]


def test_times_on_the_clock_of_the_file(vit, late):
    rows = embed(vit, late, at=[2.0, 5.5], align='causal', clock='file', **SHORT)
    plain = embed(vit, late, at=[0.5, 4.0], align='causal', **SHORT)  # the last one is the end
    assert torch.equal(rows.features, plain.features) and rows.time.tolist() == [2.0, 5.5]
    with pytest.raises(VideoError, match='at, entry 1: 0.5 s is outside of the video, which goes from 1.5 to 5.5 s'):
        embed(vit, late, at=[6.0, 0.5], clock='file', report=lambda *_: None, **SHORT)


def test_a_time_outside_of_its_video_costs_its_row_alone(vit, late, tmp_path, monkeypatch, capsys):
    told, call = [], dict(align='causal', clock='file', **SHORT)
    rows = embed(vit, [late, 'drawn:1/up/000000'], at=[5.0, 0.5, 3.0, 9.0], lose=lambda *w: told.append(w), **call)
    plain = embed(vit, late, at=[3.0, 5.0], **call)
    assert rows.time.tolist() == [3.0, 5.0, 0.5, 3.0] and torch.equal(rows.features[:2], plain.features)
    words = f'{late}: at, entry 1: 0.5 s is outside of the video, which goes from 1.5 to 5.5 s, and 1 more'
    assert rows.lost[0] == told[0] == (late, words) and not rows.failed
    assert 'at, entry 0: 5 s is outside of the video, which lasts 4.5 s, and 1 more' in rows.lost[1][1]
    monkeypatch.chdir(tmp_path)
    table(tmp_path / 'times.csv', '0.5', '7', '1')
    command = ['embed', 'drawn:1', '--models', '*shapes*', '--at', 'times.csv', *HERE]
    tables = []
    monkeypatch.setattr(stimulus_tables, '_read_table', lambda path: tables.append(path) or read_table(path))
    for _ in range(2):  # what was left out is told again where there is nothing to do
        assert main(command) == 1
        err = capsys.readouterr().err
        assert err.count('times.csv, line 2: 7 s is outside of the video, which lasts 4.5 s\n') == 2
        assert '1 of 1 file lacks a part' in err
    assert len(tables) == 2  # once a run, of two models
    for name in ('mae_shapes_none', 'vit_shapes_motion'):
        assert np.load(f'features/{name}.npz')['time'].tolist() == [0.5, 1]


@pytest.mark.parametrize(
    'header, rows',
    [
        ('onset\tduration\ttrial_type', ['0.25\tn/a\tface', '1.5\t1\thouse']),
        ('Time', ['0.25', '1.5']),
        ('seconds;rating', ['1.5;3', '0.25;4']),
    ],
)
def test_a_table_of_times_for_every_video(header, rows, tmp_path):
    times = times_of(str(table(tmp_path / 'events.tsv', header, *rows)), ['a.mp4', 'b.mp4'])
    assert [times.of[file].seconds for file in ('a.mp4', 'b.mp4')] == [(0.25, 1.5)] * 2 and not times.without


def test_a_table_of_times_for_each_video(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table(tmp_path / 'times.csv', 'file,time', '000000,2', 'left/000001,0.5', 'left/000001,1', 'other.mp4,3')
    videos = ['drawn:9/up/000000', 'drawn:9/left/000001', 'drawn:9/down/000002']
    assert main(['embed', *videos, '--at', 'times.csv', *HERE]) == 1
    told = capsys.readouterr().err
    assert 'other.mp4: times.csv has times of it, but it is not among the files' in told
    assert 'drawn:9/down/000002: times.csv has no times of it' in told
    with np.load('features.npz') as arrays:
        assert arrays['time'].tolist() == [2, 0.5, 1] and arrays['video_index'].tolist() == [0, 1, 1]
        assert arrays['paths'].tolist() == videos[:2]
        assert len(json.loads(str(arrays['failed']))) == 2
    assert main(['embed', *videos, 'drawn:9/down/000000', '--at', 'times.csv', *HERE]) == 2
    assert 'times.csv, line 2: 000000 may be drawn:9/up/000000 or drawn:9/down/000000' in capsys.readouterr().err


@pytest.mark.parametrize(
    'lines, words',
    [
        (['0.5', 'nan'], "line 2: 'nan' is no number of seconds"),
        (['onset', '0.5', 'n/a'], "line 3: 'n/a' is no number of seconds"),
        (['time', 'inf'], "line 2: 'inf' is no number of seconds"),
        (['onset;duration', '0,5;1'], "line 2: '0,5' is no number of seconds"),
        (['0.5', '1', '', '0.50'], 'line 4: 0.5 s stands in line 1 already'),
        (['file,time', 'a.mp4,1', 'b.mp4,1', 'x/a.mp4,1'], 'line 4: 1 s stands in line 2 already'),
        (['begin,end', '1,2'], 'line 1: no column time or onset; there are begin, end'),
        (['1,2'], 'line 1: no column time or onset; there are 2 columns without names'),
        (['onset,time', '1,2'], 'line 1: the columns time and onset both tell times; leave one of them'),
        (['onset,stim_file', '1,a.mp4'], 'line 1: stim_file says what was shown when, on the clock of a recording'),
        (['file,time', 'a.mp4,1', 'b.mp4'], 'line 3: 1 columns, those before have 2'),
        (['time'], 'holds a header alone'),
        ([], 'is empty'),
        (['5', '4.6'], r'line 2: 4.6 s is outside of the video, which lasts 4.5 s, and 1 more'),
        (['-0.1'], r'line 1: -0.1 s is outside of the video'),
        (['file,time', 'c.mp4,1'], 'has times of none of 1 file'),
    ],
)
def test_what_is_wrong_with_times_is_told_with_its_line(lines, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    table(tmp_path / 'times.csv', *lines)
    if 'a.mp4,1' in lines:  # of files with names
        with pytest.raises(ValueError, match=f'times.csv, {words}'):
            times_of('times.csv', ['x/a.mp4', 'b.mp4'])
        return
    assert main(['embed', 'drawn:1', '--at', 'times.csv', *HERE]) == 2
    told = capsys.readouterr().err
    assert 'times.csv' in told and words in told


def test_times_and_other_clips_exclude_each_other(vit, tmp_path, capsys):
    (tmp_path / 'bytes.csv').write_bytes(b'time\n\xff\n')
    with pytest.raises(ValueError, match=r'bytes.csv: is no text in UTF-8'):
        embed(vit, 'drawn:1', at=tmp_path / 'bytes.csv')
    with pytest.raises(ValueError, match='at and stride both say which clips'):
        embed(vit, 'drawn:1', at=[1], stride=1)
    with pytest.raises(ValueError, match='a.png is an image, which has no times'):
        embed(vit, ['a.png'], at=1.0)
    with pytest.raises(ValueError, match='at: holds no times'):
        embed(vit, 'drawn:1', at=[])
    out = str(tmp_path / 'f.npz')
    assert main(['embed', 'drawn:1', '--at', 'none.txt', '--num-clips', '2', '--out', out, *HERE]) == 2
    assert '--at and --num-clips exclude each other' in capsys.readouterr().err
    assert main(['embed', 'drawn:1', '--at', 'none.txt', '--out', out, *HERE]) == 2
    assert 'none.txt: no such file' in capsys.readouterr().err


def test_a_run_with_times_goes_on_with_the_same_ones_alone(vit, late, tmp_path, monkeypatch):
    call = dict(batch_size=1, **SHORT)
    out, times = tmp_path / 'f.npz', table(tmp_path / 'times.txt', '0.5', '1', '3')
    plain, add = embed(vit, late, at=times, **call), Journal.add

    def killed(journal, batch):
        if batch.number == 2:
            raise KeyboardInterrupt
        add(journal, batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Journal, 'add', killed)
        embed(vit, late, at=times, out=out, **call)
    with pytest.raises(ValueError, match=r'at was 3 times \(\w+\), is 2 times'):
        embed(vit, late, at=[0.5, 1], out=out, **call)
    said = []
    rows = embed(vit, late, at=[3, 0.5, 1], out=out, say=said.append, **call)  # the same times
    assert 'going on' in said[0] and rows.time.tolist() == [0.5, 1, 3] and torch.equal(rows.features, plain.features)
    with pytest.raises(ValueError, match='at was 3 times'):
        embed(vit, late, out=out, **call)


# Manifests


def test_rows_in_the_order_of_a_manifest(vit, late, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ('b', 'a', 'extra'):
        (tmp_path / 'videos' / 'deep').mkdir(parents=True, exist_ok=True)
        (tmp_path / 'videos' / 'deep' / f'{name}.mkv').symlink_to(late)
    lines = ['stimulus_id,category,filename', 's2,x,deep/b.mkv', 's9,y,gone.mkv', 's1,"x, y",deep/a.mkv', 's3,z,b.mkv']
    table(tmp_path / 'list.csv', *lines)
    said, told, call = [], [], dict(say=lambda text: said.append(text), report=lambda *words: told.append(words))
    rows = embed(vit, 'videos', manifest='list.csv', num_clips=2, **SHORT, **call)
    assert rows.ids == ['s2', 's1', 's3'] and rows.paths == [f'videos/deep/{name}.mkv' for name in 'bab']
    assert rows.video_index.tolist() == [0, 0, 1, 1, 2, 2]
    assert rows.failed == told == [('gone.mkv', 'list.csv, line 3: no file gone.mkv')]
    assert said == ['1 file not in the manifest; the first is videos/deep/extra.mkv']
    for out in ('f.npz', 'f.safetensors', 'f.csv', 'f.parquet', 'folder'):
        embed(vit, 'videos', manifest='list.csv', out=out, **SHORT, **call)
        origin = read_origin(tmp_path / out)
        assert origin['paths'] == rows.paths and json.loads(origin['settings'])['manifest'].startswith('4 stimuli')
    assert main(['embed', 'videos', '--manifest', 'list.csv', '--out', 'g.npz', *HERE]) == 1
    assert '1 of 4 files could not be read' in capsys.readouterr().err
    with np.load('f.npz') as arrays, safe_open('f.safetensors', 'np') as tensors, open('f.csv', newline='') as text:
        assert arrays['ids'].tolist() == json.loads(tensors.metadata()['ids']) == rows.ids
        assert [row['id'] for row in csv.DictReader(text)] == rows.ids
    assert json.loads((tmp_path / 'folder' / 'about.json').read_text())['ids'] == rows.ids
    assert pytest.importorskip('pyarrow.parquet').read_table('f.parquet')['id'].to_pylist() == rows.ids
    table(tmp_path / 'list.csv', lines[0], *lines[:0:-1])  # in another order
    with pytest.raises(ValueError, match=r'holds the results of another run \(manifest was 4 stimuli'):
        embed(vit, 'videos', manifest='list.csv', out='f.npz', **SHORT, **call)


def test_paths_go_from_the_manifest_and_times_go_with_it(vit, late, tmp_path):
    (tmp_path / 'a.mkv').symlink_to(late)
    source = table(tmp_path / 'list.tsv', 'path\tid', 'a.mkv\t7', 'drawn:1/up/000000\t07')
    manifest = read_manifest(source)
    assert manifest.files == [str(tmp_path / 'a.mkv'), 'drawn:1/up/000000'] and manifest.ids == ['7', '07']
    rows = embed(vit, manifest=source, at={'a.mkv': [1, 2]}, report=lambda *_: None, **SHORT)
    assert rows.ids == ['7'] and rows.time.tolist() == [1, 2] and rows.failed[0][0] == 'drawn:1/up/000000'


def test_the_trials_of_devbench(tmp_path):
    for name in 'abc':
        (tmp_path / f'{name}.jpg').touch()
    trials = table(tmp_path / 'manifest.csv', 'image1,image2,text1', 'b.jpg,a.jpg,dog', 'b.jpg,c.jpg,cat')
    manifest = read_manifest(trials, [tmp_path])
    assert manifest.ids == ['b.jpg', 'a.jpg', 'b.jpg', 'c.jpg'] and not manifest.missing and not manifest.extra
    assert manifest.files == [str(tmp_path / name) for name in manifest.ids]
    table(trials, 'id,image1,image2', '1,b.jpg,a.jpg', '2,b.jpg,c.jpg')
    assert read_manifest(trials).ids == ['1/image1', '1/image2', '2/image1', '2/image2']


@pytest.mark.parametrize(
    'lines, words',
    [
        (['id,word', '1,dog'], 'line 1: no column file, path or filename; there are id, word'),
        (['id,file', '1,a.mkv', '2,b.mkv', '1,c.mkv'], 'line 4: the identifier 1 stands in line 2 too'),
        (['id,file', '1,a.mkv', '2,'], 'line 3: no file'),
        (['id,file', '1,a.mkv,x'], 'line 2: 3 columns, those before have 2'),
        (['id,file', '1,b.mkv'], 'none of its 1 file is there; .*line 2: no file b.mkv'),
    ],
)
def test_what_is_wrong_with_a_manifest(lines, words, tmp_path):
    (tmp_path / 'a.mkv').touch()
    with pytest.raises(ValueError, match=words):
        read_manifest(table(tmp_path / 'list.csv', *lines))
