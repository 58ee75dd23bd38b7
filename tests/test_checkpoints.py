"""What a run keeps: whole checkpoints or none that is believed, a folder of its own, words on a full disk."""

import errno
import json
import os
import pickle
import re
import shutil
import signal
import threading
import time
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
import timm
import torch
from filelock import FileLock
from safetensors.torch import load_file

import videozoo_timm  # noqa: F401
from videozoo_timm.cli import main
from videozoo_timm.training.checkpoints import check_checkpoint
from videozoo_timm.training.log import Log, read_log
from videozoo_timm.training.loop import make_accelerator
from videozoo_timm.training.pretrain import pretrain
from videozoo_timm.training.run_folder import Keeping, could_not_write, run_folder
from videozoo_timm.training.schedule import Schedule
from videozoo_timm.training.signals import Stopped, signals
from videozoo_timm.video import Augmentation, find_videos

DRAWN = [str(path) for path in find_videos('drawn:4')]
FILES = ('digests.json', 'model.safetensors', 'optimizer.bin', 'random_states_0.pkl', 'training.json')


class Crash(Exception):
    pass


def run(folder, resume=False, crash_at=None, **options):
    def progress(step, row):
        if step == crash_at:
            raise Crash
        options.get('also', lambda step: None)(step)

    torch.manual_seed(0)
    model = timm.create_model('mae_t14_st', img_size=28, num_frames=2, embed_dim=32, depth=1, num_heads=2)
    keeping = Keeping(folder, every=2, resume=resume, log_every=1, force=options.get('force', False))
    return load_file(
        pretrain(
            make_accelerator('cpu'),
            model,
            DRAWN,
            Schedule(steps=5, lr=1e-3),
            keeping,
            batch_size=2,
            augmentation=Augmentation(),
            mask_ratios=[0.5],
            progress=progress,
            pictures_every=options.get('pictures_every', 0),
        )
    )


def equal(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.fixture(scope='module')
def crashed(tmp_path_factory):
    """A run that crashed in its fifth step, and the weights that it ends with if it does not."""
    folder = tmp_path_factory.mktemp('run')
    with pytest.raises(Crash):
        run(folder / 'crashed', crash_at=5)
    return folder / 'crashed', run(folder / 'whole')


@pytest.fixture
def copied(crashed, tmp_path):
    """A copy of the crashed run, and the weights that it shall end with."""
    folder, whole = crashed
    return shutil.copytree(folder, tmp_path / 'run'), whole


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize('name', FILES)
def test_damage_to_any_file_of_a_checkpoint_is_noticed(name, copied):
    last = copied[0] / 'checkpoints' / 'step_00000004'
    assert sorted(path.name for path in last.iterdir()) == list(FILES)
    path, data, run_id = last / name, (last / name).read_bytes(), json.loads((copied[0] / 'run.json').read_text())['id']

    def refused():
        with pytest.raises(ValueError, match=f'^{re.escape(name)} '):
            check_checkpoint(last, run_id)
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        check_checkpoint(last, run_id)

    for place in (0, len(data) // 2, len(data) - 2):
        flip(path, place)
        refused()
    for size in (0, len(data) // 2, len(data) - 1):
        os.truncate(path, size)
        refused()
    with open(path, 'ab') as file:
        file.write(b'}')
    refused()
    path.unlink()
    refused()
    path.unlink()
    path.symlink_to('/dev/zero')  # would be read forever
    refused()


def test_what_is_not_of_the_checkpoint_is_noticed(copied):
    last = copied[0] / 'checkpoints' / 'step_00000004'
    for name in ('pytorch_model.bin', 'optimizer_0/.metadata'):
        added = last / name
        added.parent.mkdir(exist_ok=True)
        added.write_bytes(b'')
        with pytest.raises(ValueError, match=f'{name} is not of this checkpoint'):
            check_checkpoint(last)
        added.unlink()
    with pytest.raises(ValueError, match='of another run'):
        check_checkpoint(last, 'another')
    with pytest.raises(ValueError, match='random_states_1.pkl is missing|does not hold the state of a run'):
        check_checkpoint(last, size=2)
    check_checkpoint(last)


def test_a_damaged_checkpoint_is_refused_and_the_way_back_is_told(copied):
    folder, whole = copied
    last, first = (folder / 'checkpoints' / f'step_0000000{step}' for step in (4, 2))
    os.truncate(last / 'random_states_0.pkl', 3000)  # which Accelerate takes without a word
    with pytest.raises(
        ValueError,
        match=f'{re.escape(str(last))} cannot be read .random_states_0.pkl is damaged: 3000 '
        r'of \d+ bytes.; remove it, and resume=True continues from the one before it, '
        'step_00000002',
    ):
        run(folder, resume=True)
    shutil.rmtree(last)
    assert equal(run(folder, resume=True), whole)
    for path in (folder / 'checkpoints').iterdir():
        if path != first:
            shutil.rmtree(path)
    if first.exists():
        (first / 'training.json').unlink()
    else:
        first.mkdir()
    with pytest.raises(ValueError, match='json is missing.; remove it, and resume=True continues from the beginning'):
        run(folder, resume=True)


def test_runs_of_version_0_1_0_go_on_with_a_warning(copied, caplog):
    folder, whole = copied
    record = json.loads((folder / 'run.json').read_text())
    del record['id']
    (folder / 'run.json').write_text(json.dumps(record))
    for checkpoint in (folder / 'checkpoints').iterdir():
        (checkpoint / 'digests.json').unlink()
        state = json.loads((checkpoint / 'training.json').read_text())
        del state['digests']
        (checkpoint / 'training.json').write_text(json.dumps(state))
    random_states = folder / 'checkpoints' / 'step_00000004' / 'random_states_0.pkl'
    kept = random_states.read_bytes()
    os.truncate(random_states, 3000)
    with pytest.raises(ValueError, match='random_states_0.pkl is damaged'):
        run(folder, resume=True)
    random_states.write_bytes(kept)
    caplog.clear()
    assert equal(run(folder, resume=True), whole)
    assert caplog.text.count('has no digests') == 1


class Executed:
    """What a stranger's pickle would do."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_strangers_checkpoint_executes_nothing(copied, tmp_path):
    folder, _ = copied
    last, mark = folder / 'checkpoints' / 'step_00000004', tmp_path / 'executed'
    (last / 'digests.json').unlink()
    state = json.loads((last / 'training.json').read_text())
    del state['digests']
    (last / 'training.json').write_text(json.dumps(state))
    for name in ('random_states_0.pkl', 'optimizer.bin', 'optimizer_0/.metadata'):
        path = last / name
        path.parent.mkdir(exist_ok=True)
        kept = path.read_bytes() if path.exists() else None
        if name.endswith('.metadata'):
            path.write_bytes(pickle.dumps(Executed(mark)))
        else:
            torch.save(Executed(mark), path)
        with pytest.raises(ValueError, match='cannot be read'):
            run(folder, resume=True)
        assert not mark.exists(), name
        path.write_bytes(kept or b'')


@pytest.mark.filterwarnings('ignore:torch.distributed is disabled')
def test_distributed_checkpoints_are_described_without_other_code(tmp_path):
    import torch.distributed.checkpoint as distributed

    from videozoo_timm.training.checkpoints import _check_pickle

    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    distributed.save(
        dict(optimizer=optimizer.state_dict()), storage_writer=distributed.FileSystemWriter(tmp_path), no_dist=True
    )
    _check_pickle(tmp_path / '.metadata')
    for module, name in (
        ('os', 'mkdir'),
        ('torch', 'load'),
        ('torch', 'hub.load'),
        ('builtins', 'eval'),
        ('torch.distributed.checkpoint.metadata', '__builtins__'),
    ):
        path = tmp_path / 'other.metadata'
        path.write_bytes(
            b'\x80\x04\x8c'
            + bytes([len(module)])
            + module.encode()
            + b'\x8c'
            + bytes([len(name)])
            + name.encode()
            + b'\x93.'
        )
        with pytest.raises(ValueError, match=f"asks for '{re.escape(f'{module}.{name}')}'"):
            _check_pickle(path)


class Attribute:
    """Pickled as Python 3.11.2 pickles members of enumerations."""

    def __init__(self, owner, name):
        self.owner, self.name = owner, name

    def __reduce__(self):
        return getattr, (self.owner, self.name)


def test_a_description_gets_members_of_enumerations_and_no_other_attributes(tmp_path):
    from torch.distributed.checkpoint.metadata import _MEM_FORMAT_ENCODING, Metadata

    from videozoo_timm.training.checkpoints import _check_pickle

    path = tmp_path / '.metadata'
    path.write_bytes(pickle.dumps(Attribute(_MEM_FORMAT_ENCODING, next(iter(_MEM_FORMAT_ENCODING)).name)))
    _check_pickle(path)
    for owner, name in ((_MEM_FORMAT_ENCODING, '__class__'), (Metadata, '__init__'), ('', 'format')):
        path.write_bytes(pickle.dumps(Attribute(owner, name)))
        with pytest.raises(ValueError, match=f"asks for '{name}' of"):
            _check_pickle(path)


@pytest.mark.filterwarnings('ignore:torch.distributed is disabled')
def test_distributed_checkpoints_execute_nothing(copied, tmp_path):
    """What is no tensor in them is a pickle, which torch would execute."""
    import torch.distributed.checkpoint as distributed

    from videozoo_timm.training.checkpoints import _load

    place, mark = tmp_path / 'distributed', tmp_path / 'executed'
    distributed.save(dict(x=Executed(mark)), storage_writer=distributed.FileSystemWriter(place), no_dist=True)
    accelerator = SimpleNamespace(
        load_state=lambda path: distributed.load(
            dict(x=None), storage_reader=distributed.FileSystemReader(place), no_dist=True
        )
    )
    with pytest.raises(ValueError, match='^Weights only load failed'):
        _load(accelerator, copied[0])
    assert not mark.exists()


@pytest.mark.parametrize(
    'text',
    ['', '{', '[]', '{}', '{"steps": 5}', '[' * 100_000, '\0' * 9, '{"id": ' + '9' * 5000],
    ids=['empty', 'cut', 'list', 'nothing', 'too little', 'deep', 'zeros', 'long number'],
)
def test_a_damaged_record_is_refused(text, copied):
    folder, _ = copied
    before = (folder / 'log.csv').read_bytes()
    (folder / 'run.json').write_text(text)
    for options in (dict(resume=True), dict(force=True), {}):
        with pytest.raises(ValueError, match='run.json is damaged, or not of a run .*: name another folder'):
            run(folder, **options)
    assert (folder / 'log.csv').read_bytes() == before and len(list((folder / 'checkpoints').iterdir())) == 2


@pytest.mark.parametrize(
    'change',
    [
        dict(step='4'),
        dict(step=3),
        dict(step=-4),
        dict(step=True),
        dict(losses=['x']),
        dict(losses=[float('nan')]),
        dict(positions=[[0]]),
        dict(positions=[]),
        dict(positions=[[-1, 0]]),
        dict(failed=[[1]]),
        dict(failed={}),
        dict(hooks_done=1),
    ],
    ids=str,
)
def test_what_a_checkpoint_says_is_checked(change, copied):
    last = copied[0] / 'checkpoints' / 'step_00000004'
    state = json.loads((last / 'training.json').read_text())
    (last / 'training.json').write_text(json.dumps(state | change))
    with pytest.raises(ValueError, match='training.json does not hold the state of a run'):
        check_checkpoint(last)


def test_rows_of_a_damaged_log_are_left_out(tmp_path, caplog):
    path = tmp_path / 'log.csv'
    path.write_bytes(b'step,loss,failed\n1,2.5,0\n2,\xff\xfe,0\n3,2.5\n4,2.5,0,7\n-5,2.5,0\n6,1e9,many\n7,2,0\n8,')
    assert [row['step'] for row in read_log(path)] == ['1', '7'] and '6 damaged rows' in caplog.text
    path.write_bytes(b'step,loss,failed\n1,2.5,0\n2,"' + b'x' * 200_000 + b'",0\n')
    assert [row['step'] for row in read_log(path)] == ['1']
    path.write_bytes(b'epoch,loss\n1,2\n')
    assert read_log(path) == []
    path.unlink()
    os.mkfifo(path)  # would be waited for
    with pytest.raises(ValueError, match='is not a file'):
        read_log(path)


def listing(folder):
    return {path: path.lstat().st_mtime_ns for path in folder.rglob('*')}


def test_the_processes_of_a_killed_run_are_waited_for(copied):
    folder, _ = copied
    about = json.loads((folder / 'run.json').read_text())
    del about['id']
    lock = FileLock(folder / '.lock', thread_local=False)
    lock.acquire()
    timer = threading.Timer(0.3, lock.release)
    timer.start()
    with run_folder(make_accelerator('cpu'), Keeping(folder, resume=True), about):
        assert not lock.is_locked
    timer.join()


def test_a_folder_has_one_owner(copied, capsys, monkeypatch):
    """A job that was started twice; also with --force, and whatever the first one is doing."""
    monkeypatch.setattr('videozoo_timm.training.run_folder._MOMENT', 0)
    folder, _ = copied
    about = json.loads((folder / 'run.json').read_text())
    del about['id']
    with run_folder(make_accelerator('cpu'), Keeping(folder, resume=True), about):
        before = listing(folder)
        for options in (dict(resume=True), dict(force=True), {}):
            with pytest.raises(
                ValueError, match=f"belongs to a run that is not over, process {os.getpid()} on '{os.uname().nodename}'"
            ):
                run(folder, **options)
        assert (
            main(['pretrain', 'drawn:4', '--device', 'cpu', '--num-workers', '0', '--resume', '--out', str(folder)])
            == 2
        )
        assert 'belongs to a run that is not over' in capsys.readouterr().err
        assert listing(folder) == before
    with run_folder(make_accelerator('cpu'), Keeping(folder, resume=True), about):
        pass


def test_a_killed_owner_has_left(tmp_path):
    about = dict.fromkeys(('steps', 'batch_size', 'seed', 'files', 'files_sha256', 'processes', 'precision'), 1)
    accelerator = make_accelerator('cpu')
    child = os.fork()
    if not child:
        stack = ExitStack()
        stack.enter_context(run_folder(accelerator, Keeping(tmp_path / 'run'), about))
        (tmp_path / 'entered').touch()
        time.sleep(60)
        os._exit(0)
    try:
        while not (tmp_path / 'entered').exists():
            time.sleep(0.01)
        with (
            pytest.raises(ValueError, match=f'process {child} on'),
            run_folder(accelerator, Keeping(tmp_path / 'run', resume=True), about),
        ):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with run_folder(accelerator, Keeping(tmp_path / 'run', resume=True), about) as first:
        pass
    with run_folder(accelerator, Keeping(tmp_path / 'run', resume=True), about) as second:
        assert first == second  # the run is the same, so its checkpoints are its own


def test_links_are_not_followed(copied, tmp_path):
    folder, _ = copied
    precious = tmp_path / 'precious'
    precious.write_text('years of work')
    for name in ('.lock', 'log.csv'):
        kept = (folder / name).read_bytes()
        (folder / name).unlink()
        (folder / name).symlink_to(precious)
        for options in (dict(resume=True), dict(force=True)):
            with pytest.raises(ValueError, match=f'{re.escape(name)} is (not a file|a link)'):
                run(folder, **options)
        assert precious.read_text() == 'years of work'
        (folder / name).unlink()
        (folder / name).write_bytes(kept)
    log = Log(folder, 0, True)
    log.path.symlink_to(precious)  # while the run is going on
    with pytest.raises(OSError, match='symbolic link'):
        log.add(dict(step=1, loss=1.0, failed=0))
    log.close()
    assert precious.read_text() == 'years of work'
    log.path.unlink()
    (folder / 'pictures').mkdir()
    (folder / 'pictures' / 'step_00000005_random50.jpg').symlink_to(precious)
    run(folder, resume=True)
    (folder / '.owner').symlink_to(precious)
    with pytest.raises(ValueError, match='step_00000005_random50.jpg is a link'):
        run(folder, force=True)
    (folder / 'pictures' / 'step_00000005_random50.jpg').unlink()
    run(folder, force=True, pictures_every=5)
    assert precious.read_text() == 'years of work'


def test_force_removes_only_what_is_provably_of_the_run(crashed, copied, tmp_path):
    folder, _ = copied
    other = shutil.copytree(crashed[0], tmp_path / 'other')
    mine = [
        folder / name
        for name in (
            'checkpoints/step_by_step.md',
            'checkpoints/step_mine/training.json',
            'pictures/step_aside.jpg',
            'notes.txt',
        )
    ]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text('mine')
    (folder / 'tensorboard').rename(tmp_path / 'board') if (folder / 'tensorboard').exists() else None

    def refused(words):
        before = listing(folder), listing(other)
        with pytest.raises(ValueError, match=words):
            run(folder, force=True)
        after = listing(folder), listing(other)
        ignored = {folder / '.lock', folder / '.owner'}
        assert all(
            {k: v for k, v in a.items() if k not in ignored and k != folder}
            == {k: v for k, v in b.items() if k not in ignored and k != folder}
            for a, b in zip(before, after, strict=True)
        )

    (folder / 'checkpoints' / 'step_00000006').symlink_to(other)
    refused('step_00000006 is a link, so it is not removed')
    (folder / 'checkpoints' / 'step_00000006').unlink()
    (folder / 'checkpoints' / 'step_00000006').write_text('')
    refused('step_00000006 is not a folder')
    (folder / 'checkpoints' / 'step_00000006').unlink()
    (folder / 'model.safetensors').mkdir()
    refused('model.safetensors is not a file')
    (folder / 'model.safetensors').rmdir()
    (folder / 'checkpoints').rename(tmp_path / 'kept')
    record = json.loads((other / 'run.json').read_text())
    (folder / 'checkpoints').symlink_to(other / 'checkpoints')
    (folder / 'run.json').write_text(json.dumps(record | dict(id='of a run of its own')))
    refused('step_00000002 is behind a link, and of another run')
    (folder / 'checkpoints').unlink()
    (tmp_path / 'kept').rename(folder / 'checkpoints')
    run(folder, force=True)
    assert all(path.read_text() == 'mine' for path in mine)


@pytest.mark.parametrize('place', ['weights', 'state', 'digests', 'log', 'picture', 'result'])
def test_a_full_disk_is_told_and_nothing_is_lost(place, copied, monkeypatch):
    folder, whole = copied
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fail(*args, **kwargs):
        raise full

    def half_of_it(path):
        (folder.joinpath(path) / 'model.safetensors').write_bytes(b'half of it')
        monkeypatch.setattr('shutil.disk_usage', lambda path: SimpleNamespace(free=1000))
        raise RuntimeError('[enforce fail at inline_container.cc:778] . unexpected pos 448 vs 342')  # of torch

    with monkeypatch.context() as patch:
        if place == 'weights':
            from accelerate import Accelerator

            patch.setattr(Accelerator, 'save_state', lambda self, path: half_of_it(path))
        else:
            patch.setattr(
                *{
                    'state': ('videozoo_timm.training.checkpoints._write_digests', fail),
                    'digests': ('os.fsync', fail),
                    'log': ('csv.DictWriter.writerow', fail),
                    'picture': ('PIL.Image.Image.save', fail),
                    'result': ('videozoo_timm.training.run_folder.save_tensors', fail),
                }[place]
            )
        with pytest.raises(OSError, match='could not be written: the disk mounted at .* is full') as told:
            run(folder, resume=True, pictures_every=5)
    monkeypatch.undo()
    for words in (str(folder), 'free', 'make room there', 'fewer checkpoints', 'resume the run'):
        assert words in str(told.value)
    assert (' MB needed' in str(told.value)) == (place not in ('log', 'picture'))
    left = sorted(path.name for path in (folder / 'checkpoints').iterdir())
    assert left == (['step_00000004', 'step_00000005'] if place == 'result' else ['step_00000002', 'step_00000004'])
    check_checkpoint(folder / 'checkpoints' / left[-1])
    assert not (folder / 'model.safetensors').exists()
    assert equal(run(folder, resume=True, pictures_every=5), whole)


def test_other_errors_of_writing_keep_their_words(tmp_path):
    assert str(could_not_write(tmp_path / 'x', OSError(errno.EIO, 'Input/output error'))) == (
        f'{tmp_path / "x"} could not be written: Input/output error'
    )
    error = RuntimeError('out of memory')
    assert could_not_write(tmp_path / 'x', error, num_bytes=1000) is error


def test_tensorboards_thread_prints_nothing(tmp_path, monkeypatch):
    pytest.importorskip('tensorboard')
    from tensorboard.summary.writer.record_writer import RecordWriter

    printed = []
    monkeypatch.setattr('threading.excepthook', printed.append)
    log = Log(tmp_path, 0, True)

    def fail(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(RecordWriter, 'write', fail)
    monkeypatch.setattr(RecordWriter, 'flush', fail)
    with pytest.raises(OSError, match='No space left'):
        for step in range(100):
            log.add(dict(step=step, loss=1.0, failed=0))
            time.sleep(0.01)
    log.close()
    assert not printed and len(read_log(tmp_path / 'log.csv')) == step + 1


def test_old_checkpoints_stay_until_the_new_one_is_whole(copied, monkeypatch):
    folder, _ = copied
    seen = []
    replace = os.replace

    def watched(source, target, **options):
        if os.path.basename(target).startswith('step_'):
            seen.append(sorted(path.name for path in (folder / 'checkpoints').glob('step_*')))
            check_checkpoint_at = os.path.join(source, 'digests.json')
            assert os.path.exists(check_checkpoint_at)
        return replace(source, target, **options)

    monkeypatch.setattr('os.replace', watched)
    run(folder, resume=True)
    assert seen == [['step_00000002', 'step_00000004']]
    assert sorted(path.name for path in (folder / 'checkpoints').iterdir()) == ['step_00000004', 'step_00000005']
    assert (folder / 'checkpoints' / 'step_00000005').stat().st_mode == folder.stat().st_mode


def test_hangup_ends_a_run_in_a_checkpoint(copied):
    folder, whole = copied
    shutil.rmtree(folder / 'checkpoints' / 'step_00000004')
    before = signal.getsignal(signal.SIGHUP)
    with pytest.raises(Stopped) as stopped:
        run(folder, resume=True, also=lambda step: step == 3 and os.kill(os.getpid(), signal.SIGHUP))
    assert stopped.value.args == (signal.SIGHUP,) and signal.getsignal(signal.SIGHUP) == before
    assert max(path.name for path in (folder / 'checkpoints').iterdir()) == 'step_00000004'
    assert equal(run(folder, resume=True), whole)


def test_nohup_stays(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals(lambda text: None) as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.noted
    finally:
        signal.signal(signal.SIGHUP, before)
