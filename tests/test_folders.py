"""Folders are read whole or reported; class folders are the classes that people mean."""

import errno
import os
import unicodedata

import pytest
import torch
from PIL import Image

from videozoo_timm.analysis import read_labels
from videozoo_timm.cli import main
from videozoo_timm.video import class_folders, find_media, find_videos, read_image

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, 'café') for form in ('NFC', 'NFD'))


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.fixture
def away(monkeypatch):
    """A folder named `away` answers as one on a network drive that is gone; root may read everything else."""
    scandir = os.scandir

    def failing(path='.'):
        if str(path).endswith('away'):
            raise OSError(errno.ESTALE, 'Stale file handle', os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', failing)


@pytest.mark.parametrize('find', [find_videos, find_media, lambda *args: class_folders(*args).paths])
def test_a_folder_that_cannot_be_listed_is_reported(find, away, tmp_path):
    touch(tmp_path, 'a/1.mp4', 'a/away/2.mp4', 'b/3.mp4')
    with pytest.raises(OSError, match=r'Stale file handle: .*away'):
        find(tmp_path)
    errors = []
    assert [os.path.basename(path) for path in find(tmp_path, errors.append)] == ['1.mp4', '3.mp4']
    assert [error.filename for error in errors] == [str(tmp_path / 'a' / 'away')]


def test_an_entry_of_which_the_system_says_nothing_may_be_a_folder(monkeypatch, tmp_path):
    touch(tmp_path, 'a.mp4', 'lost/b.mp4')
    scandir = os.scandir

    class Entry:
        def __init__(self, entry):
            self.name, self.entry = entry.name, entry

        def is_dir(self):
            if self.name == 'lost':
                raise OSError(errno.EIO, 'Input/output error', self.entry.path)
            return self.entry.is_dir()

    class Listing(list):
        __enter__, __exit__ = (lambda self: self), (lambda self, *error: None)

    monkeypatch.setattr(os, 'scandir', lambda path: Listing(map(Entry, scandir(path))))
    with pytest.raises(OSError, match='Input/output error'):
        find_videos(tmp_path)
    errors = []
    assert find_videos(tmp_path, errors.append) == [tmp_path / 'a.mp4'] and len(errors) == 1


def test_commands_go_on_without_it_and_end_with_1(away, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ('in/1.png', 'in/away/2.png'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new('RGB', (120, 112)).save(name)
    os.symlink('gone.png', 'in/3.png')  # as one that has vanished since it was listed
    assert main(['embed', 'in', '--num-workers', '0']) == 1
    said = capsys.readouterr()
    assert 'in/away: Stale file handle: what is in it is left out' in said.err
    assert 'in/3.png: no such file' in said.err and 'features.npz: 1 row of' in said.out


def test_what_systems_keep_beside_files_is_not_found(tmp_path):
    touch(tmp_path, 'a/1.jpg', 'a/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg', 'b/2.jpg', 'b/.ipynb_checkpoints/2.jpg')
    for name in ('lost+found', '__MACOSX', '$RECYCLE.BIN', 'System Volume Information', '@eaDir', '#recycle'):
        touch(tmp_path, f'{name}/1.jpg')
    assert [path.name for path in find_media(tmp_path)] == ['1.jpg', '2.jpg']
    assert class_folders(tmp_path).classes == read_labels(tmp_path, 2) == ['a', 'b']
    assert [path.name for path in find_media(tmp_path / 'lost+found')] == ['1.jpg']  # named, it is meant


def test_a_class_without_files_is_an_error(tmp_path):
    touch(tmp_path, 'a/1.mp4', 'b/1.heic', 'b/2.heic', 'c/.hidden.mp4')
    with pytest.raises(ValueError, match=r"the class folder 'b' holds 2 files, but no video or image \(1.heic\) \(and"):
        class_folders(tmp_path)
    (tmp_path / 'b' / '3.mp4').touch()
    with pytest.raises(ValueError, match="the class folder 'c' is empty: fill it or remove it"):
        class_folders(tmp_path)
    found = class_folders(tmp_path, allow_empty=True)
    assert found.classes == ['a', 'b', 'c'] and found.targets == [0, 1]


def test_one_name_in_two_unicode_forms_is_one_class(tmp_path):
    touch(tmp_path, f'{DECOMPOSED}/1.mp4', f'{COMPOSED}/2.mp4', 'cafz/3.mp4', 'Z/4.mp4')
    if len(os.listdir(tmp_path)) < 4:
        pytest.skip('this file system has one form of a name')
    found = class_folders(tmp_path)
    assert found.classes == ['Z', 'cafz', COMPOSED] == read_labels(tmp_path, 3)
    assert found.targets == [0, 1, 2, 2]
    assert sorted(os.path.basename(path) for path in found.paths[2:]) == ['1.mp4', '2.mp4']


def test_files_that_belong_to_no_class_are_told(tmp_path, caplog):
    touch(tmp_path, 'a/1.mp4', 'a/cover.jpg', 'a/Thumbs.db', 'b/2.mp4', 'b/3.heic', 'b/4.heic', 'loose.mp4')
    class_folders(tmp_path)
    loose, others = caplog.messages
    assert f'left out 1 loose files, which belong to no class (1 .mp4; {tmp_path / "loose.mp4"})' in loose
    assert 'left out 3 files in class folders' in others and '2 .heic, 1 .jpg' in others


def test_a_gif_is_an_image_unless_it_moves(tmp_path):
    still = Image.new('RGB', (8, 8), (255, 0, 0))
    still.save(tmp_path / 'still.gif')
    still.save(tmp_path / 'moving.gif', save_all=True, append_images=[Image.new('RGB', (8, 8))])
    assert torch.equal(read_image(tmp_path / 'still.gif')[0, 0, 0], torch.tensor([255, 0, 0], dtype=torch.uint8))
    with pytest.raises(RuntimeError, match=r'moving.gif: a moving GIF is read neither'):
        read_image(tmp_path / 'moving.gif')
