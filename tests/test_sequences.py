"""Folders of numbered images as videos."""

import csv
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from videozoo_timm.cli import main
from videozoo_timm.inference.unfinished import state_of
from videozoo_timm.video import COMPLETION, VideoError, find_media, probe, read_clip, read_clips


def write_frames(folder, number, size=(40, 32), name='scene_{:03}.png', first=1):
    """Images whose gray value is their place."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(number):
        image = np.full((size[1], size[0], 3), k, np.uint8)
        Image.fromarray(image).save(folder / name.format(first + k))
    return folder


def test_a_sequence_is_read_by_time(tmp_path):
    path = f'{write_frames(tmp_path / "scene", 100)}:frames@15'
    info = probe(path)
    assert (info.duration, info.fps, info.width, info.height) == (100 / 15, 15, 40, 32)
    clip = read_clip(path, start=1.0, sampling=COMPLETION)  # 16 frames over 65 at 30 a second
    assert clip.frames.shape == (16, 32, 40, 3) and clip.duration == 100 / 15 and not clip.padded
    wanted = [15 + position // 2 for position in COMPLETION.positions]
    assert clip.frames[:, 0, 0, 0].tolist() == wanted and torch.equal(clip.times, torch.tensor(wanted).double() / 15)
    several = list(read_clips(path, [0.0, 0.5, 1.0], sampling=COMPLETION))
    assert torch.equal(several[2].frames, clip.frames)
    beyond = read_clip(path, start=6.0, sampling=COMPLETION)
    assert beyond.frames[-1, 0, 0, 0] == 99 and beyond.padded > 0.5
    assert probe(path.replace('@15', '')).fps == 30
    assert torch.equal(read_clip(path.replace('@15', '@29.97'), start=0.0).times[:1], torch.zeros(1).double())


def test_sequences_are_found_where_they_are_asked_for_alone(tmp_path):
    """A folder of images stays one of images; IntPhys has its frames in folders of one name."""
    for film in '12':
        write_frames(tmp_path / 'O1' / film / 'scene', 3)
    (tmp_path / 'O1' / 'alone').mkdir()
    shutil.copy(tmp_path / 'O1' / '1' / 'scene' / 'scene_001.png', tmp_path / 'O1' / 'alone')
    assert len(find_media(tmp_path)) == 7 and all(path.suffix == '.png' for path in find_media(tmp_path))
    names = [str(path.relative_to(tmp_path)) for path in find_media(f'{tmp_path}/O1:frames@15')]
    assert names == ['O1/1/scene:frames@15', 'O1/2/scene:frames@15']
    assert find_media(f'{tmp_path}/O1/1/scene:frames@15') == find_media(f'{tmp_path}/*/1:frames@15')
    twice = find_media(f'{tmp_path}/**:frames@15')  # a folder and those in it
    assert [str(path.relative_to(tmp_path)) for path in twice] == names
    with pytest.raises(FileNotFoundError, match='no such folder'):
        find_media(f'{tmp_path}/O4:frames')
    with pytest.raises(FileNotFoundError, match='no such folder'):
        read_clip(f'{tmp_path}/O4:frames')
    with pytest.raises(ValueError, match='FOLDER:frames@RATE'):
        read_clip(f'{tmp_path}/O1:frames@0')


def test_what_is_no_sequence_is_told_in_words(tmp_path):
    def fault(name, folder):
        with pytest.raises(VideoError, match=name):
            read_clip(f'{folder}:frames@15')

    fault('holds 0 images', tmp_path)
    fault('holds 1 image;', write_frames(tmp_path / 'one', 1))
    gap = write_frames(tmp_path / 'gap', 5)
    (gap / 'scene_003.png').unlink()
    fault('between scene_002.png and scene_004.png images are missing', gap)
    two = write_frames(tmp_path / 'two', 3)
    fault('holds 2 numbered sequences', write_frames(two, 3, name='depth_{:03}.png'))
    cover = write_frames(tmp_path / 'cover', 3)
    shutil.copy(cover / 'scene_001.png', cover / 'cover.png')
    fault('cover.png has no number', cover)
    sizes = write_frames(tmp_path / 'sizes', 2)
    fault('of one video have one size; scene_003.png: 40 x 32 and 20 x 32', write_frames(sizes, 1, (20, 32), first=3))
    assert len(read_clip(f'{write_frames(tmp_path / "even", 3, name="{}0.png")}:frames').frames) == 16  # every tenth


def test_sequences_go_through_the_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for film in 'ab':
        write_frames(tmp_path / 'films' / film, 20)
    embed = ['embed', 'films:frames@15', '--num-workers', '1', '--device', 'cpu', '--out', 'features.csv']
    assert main(embed) == 0, capsys.readouterr().err
    rows = list(csv.DictReader((tmp_path / 'features.csv').open(newline='')))
    assert [row['path'] for row in rows] == ['films/a:frames@15', 'films/b:frames@15']
    assert [float(row['duration']) for row in rows] == pytest.approx([20 / 15] * 2)


def test_a_sequence_with_another_image_is_another_one(tmp_path):
    """So that no rows of the old ones are taken for those of the new ones."""
    write_frames(tmp_path, 3)
    before = state_of(f'{tmp_path}:frames')
    assert state_of(f'{tmp_path}:frames') == before != state_of(f'{tmp_path}:frames@15')
    (tmp_path / 'scene_001.png').write_bytes((tmp_path / 'scene_001.png').read_bytes() + b' ')
    assert state_of(f'{tmp_path}:frames') != before
