"""Files appear whole or not at all, follow no link, and a full disk is told in one way."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from videozoo_timm import files
from videozoo_timm.analysis import probing
from videozoo_timm.files import (
    WriteError,
    allocate,
    atomic_write,
    check_own_folder,
    explain_write_errors,
    remove_known,
    save_csv,
)
from videozoo_timm.weights.writing import save_tensors

resource = pytest.importorskip('resource')


@pytest.fixture
def small_files():
    """No file can be larger than 100 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # Python ignores SIGXFSZ
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def torch_save(path):
    with atomic_write(path) as partial:
        torch.save(dict(a=torch.ones(100_000)), partial)


def torch_save_in_a_folder(path):
    with atomic_write(path) as partial:
        partial.mkdir()
        torch.save(dict(a=torch.ones(100_000)), partial / 'optimizer.pt')


def savez(path):
    with atomic_write(path, 800_000) as partial, open(partial, 'wb') as file:
        np.savez(file, a=np.ones(100_000))


def allocated(path):
    with atomic_write(path, 400_000) as partial, open(partial, 'wb') as file:
        allocate(file, 400_000)


@pytest.mark.parametrize(
    'write, need',
    [
        (lambda path: save_tensors(dict(a=torch.ones(100_000)), path, {}), '400.0 kB needed'),
        (lambda path: save_csv([dict(a='a' * 1000)] * 200, path), 'more than'),
        (torch_save, 'more than 100.0 kB needed'),
        (torch_save_in_a_folder, 'more than 100.0 kB needed'),
        (savez, '800.0 kB needed'),
        (allocated, '400.0 kB needed'),
    ],
)
def test_a_file_that_finds_no_room_is_told_in_one_way(write, need, tmp_path, small_files):
    target = tmp_path / 'result'
    target.write_text('before')
    with pytest.raises(WriteError) as raised:
        write(target)
    words = str(raised.value)
    assert words.startswith(f'{target} could not be written: the disk mounted at /') and need in words
    assert ' free); free some space there, or write elsewhere' in words
    assert [path.name for path in tmp_path.iterdir()] == ['result'] and target.read_text() == 'before'


@pytest.mark.parametrize(
    'error, reason',
    [
        (OSError(errno.ENOSPC, 'No space left on device'), 'is full (12.3 MB needed, '),
        (OSError(errno.EDQUOT, 'Disk quota exceeded'), 'your quota on the disk'),
        (OSError(errno.EFBIG, 'File too large'), 'allows no file of that size'),
        (SafetensorError('Error while serializing: I/O error: No space left on device (os error 28)'), 'is full'),
        (SafetensorError('Error while serializing: I/O error: Disk quota exceeded (os error 122)'), 'your quota'),
        (OSError(errno.EACCES, 'Permission denied'), 'could not be written: Permission denied'),
    ],
)
def test_reasons_in_words(error, reason, tmp_path):
    with pytest.raises(WriteError) as raised, explain_write_errors('the run', 12_345_678, 'buy a disk', tmp_path):
        raise error
    assert str(raised.value).startswith('the run could not be written: ') and reason in str(raised.value)
    assert str(raised.value).endswith('; buy a disk') == ('Permission' not in reason)
    with pytest.raises(WriteError) as outer, explain_write_errors('all'), explain_write_errors('one of them'):
        raise error
    assert 'all could not be written: ' in str(outer.value) and 'one of them' not in str(outer.value)


def test_errors_of_another_kind_pass_through(tmp_path):
    with pytest.raises(ZeroDivisionError), atomic_write(tmp_path / 'x'):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('refusal', [None, errno.EOPNOTSUPP, errno.EINVAL])
def test_space_is_taken_on_every_file_system(refusal, tmp_path, monkeypatch):
    if refusal:

        def refuse(*args):
            raise OSError(refusal, 'not on this file system')

        monkeypatch.setattr(os, 'posix_fallocate', refuse, raising=False)
    with open(tmp_path / 'x', 'wb') as file:
        file.write(b'header')
        allocate(file, 3_000_001)
    state = (tmp_path / 'x').stat()
    assert state.st_size == 3_000_001 and state.st_blocks * 512 >= 3_000_000
    assert (tmp_path / 'x').read_bytes()[:7] == b'header\0'


def test_what_replaces_something_is_on_the_disk_first(tmp_path, monkeypatch):
    synced, moved, fsync, replace = [], [], os.fsync, os.replace
    monkeypatch.setattr(os, 'fsync', lambda file: (synced.append(os.fstat(file).st_ino), fsync(file)))
    monkeypatch.setattr(os, 'replace', lambda old, new: (moved.append(len(synced)), replace(old, new)))
    with atomic_write(tmp_path / 'x', durable=True) as partial:
        partial.mkdir()
        (partial / 'y').write_text('')
    x = tmp_path / 'x'
    assert set(synced[: moved[0]]) == {x.stat().st_ino, (x / 'y').stat().st_ino}
    assert synced[moved[0] :] == [tmp_path.stat().st_ino]
    with atomic_write(tmp_path / 'z') as partial:
        partial.write_text('')
    assert len(synced) == 3


# Folders where others may write


def stale(target, pid, tail='.partial'):
    return target.with_name(f'.{target.name}.{files.socket.gethostname()}.{pid}{tail}')


@pytest.fixture(scope='module')
def dead():
    """The number of a process that is over."""
    process = subprocess.Popen([sys.executable, '-c', ''])
    process.wait()
    return process.pid


def test_links_of_known_names_are_not_followed(tmp_path, dead):
    mine = tmp_path / 'mine'
    mine.mkdir()
    for name in ('x.csv', 'thesis.tex'):
        (mine / name).write_text('precious')
    shared = tmp_path / 'shared'
    shared.mkdir()
    for pid in (os.getpid(), dead):
        stale(shared / 'x.csv', pid).symlink_to(mine)
    (shared / 'x.csv').symlink_to(mine / 'x.csv')
    save_csv([dict(a=1)], shared / 'x.csv')
    assert sorted(path.read_text() for path in mine.iterdir()) == ['precious', 'precious']
    assert not (shared / 'x.csv').is_symlink() and (shared / 'x.csv').read_text().split() == ['a', '1']


def test_only_what_a_killed_process_left_is_removed(tmp_path, dead):
    target = tmp_path / 'x[1].csv'
    removed = [stale(target, dead), stale(target, f'{dead}.abcd_123')]
    kept = [stale(target, os.getppid()), stale(target, 'pid'), stale(target, 10**30), stale(target, dead, '.other')]
    for folder in (*removed, *kept):
        folder.mkdir()
        (folder / target.name).write_text('half')
    (removed[0] / '.tmpAbc').write_text('half, of safetensors')
    thesis = stale(target, f'{dead}.moved')  # by somebody who may rename it
    thesis.mkdir()
    (thesis / 'thesis.tex').write_text('precious')
    save_csv([dict(a=1)], target)
    assert sorted(tmp_path.iterdir()) == sorted([target, thesis, *kept])
    assert (thesis / 'thesis.tex').read_text() == 'precious'


@pytest.mark.skipif(not hasattr(os, 'geteuid') or os.geteuid() != 0, reason='needs to give files away')
def test_what_is_of_another_user_stays(tmp_path, dead):
    others = stale(tmp_path / 'x.csv', dead)
    others.mkdir()
    os.chown(others, 12345, 12345)
    save_csv([dict(a=1)], tmp_path / 'x.csv')
    assert others.is_dir()
    with pytest.raises(ValueError, match='belongs to another user .number 12345.'):
        check_own_folder(others, 'a run')


def test_temporary_names_are_not_known_and_for_this_user_alone(tmp_path):
    names = []
    for _ in range(2):
        with atomic_write(tmp_path / 'x') as partial:
            names.append(partial.parent.name)
            assert partial.parent.stat().st_mode & 0o077 == 0
            partial.write_text('')
    assert names[0] != names[1]


@pytest.mark.parametrize('umask', [0o022, 0o077, 0o002])
def test_the_rights_are_those_of_a_new_file(umask, tmp_path, monkeypatch):
    before = os.umask(umask)
    try:
        with monkeypatch.context() as patch:
            patch.delattr(os, 'umask')  # it is changed for all threads even where it is only asked for
            save_tensors(dict(a=torch.ones(1)), tmp_path / 'x.safetensors', {})
    finally:
        os.umask(before)
    assert (tmp_path / 'x.safetensors').stat().st_mode & 0o777 == 0o666 & ~umask


def test_files_of_known_names_alone_are_removed(tmp_path):
    folder, link = tmp_path / 'run', tmp_path / 'link'
    (folder / 'sub.rows').mkdir(parents=True)
    for name in ('a.rows', 'notes.txt'):
        (folder / name).write_text('')
    link.symlink_to(folder)
    remove_known(link, ['*.rows', 'notes.txt'])
    assert len(list(folder.iterdir())) == 3
    remove_known(folder, ['*.rows'])
    remove_known(tmp_path / 'nothing', ['*.rows'])
    assert sorted(path.name for path in folder.iterdir()) == ['notes.txt', 'sub.rows']


class _Probed:
    """A probe that writes one of its tables."""

    probe, settings = 'linear', {}
    evaluation = property(lambda self: self)

    def save(self, folder: Path, about: dict) -> None:
        folder.mkdir(exist_ok=True)
        save_csv([dict(a=1)], folder / 'per_class.csv')

    def summary(self) -> dict:
        return {}


def test_probes_replace_their_own_tables_alone(tmp_path):
    for name in ('linear', 'neighbours'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'predictions.csv').write_text('earlier')
    (tmp_path / 'linear' / 'thesis.tex').write_text('precious')
    probing.save_probes([_Probed()], tmp_path, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ['linear', 'probes.json']
    assert sorted(path.name for path in (tmp_path / 'linear').iterdir()) == ['per_class.csv', 'thesis.tex']
    (tmp_path / 'attentive').symlink_to(tmp_path / 'linear')
    with pytest.raises(ValueError, match='attentive is a link'):
        probing.check_folder(tmp_path)
    with pytest.raises(ValueError, match='attentive is a link'):
        probing.save_probes([_Probed()], tmp_path, {})


@pytest.mark.skipif(sys.platform != 'linux', reason='/proc')
def test_what_is_released_of_a_mapped_array_is_in_the_file_and_not_in_memory(tmp_path):
    def resident():
        return next(int(line.split()[1]) for line in Path('/proc/self/status').open() if line.startswith('RssFile'))

    array = np.lib.format.open_memmap(tmp_path / 'x.npy', 'w+', shape=(16, 1 << 18), dtype=np.float32)  # 16 MiB
    array[:] = np.arange(1 << 18)
    before = resident()
    files.release(array[3:].view(np.uint8).reshape(-1))
    assert before - resident() > 15_000  # kB
    assert (array == np.arange(1 << 18)).all()
    array = np.ones(1 << 20)
    files.release(array)
    assert array.all()
