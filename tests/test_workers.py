"""Processes that decode: what they import, what a file does to them, and that they end with their parent."""

import errno
import gc
import importlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing

import psutil
import pytest
import torch
from conftest import CLIPS, REPOSITORY, hanging_video

from videozoo_timm import processes
from videozoo_timm.video import Failure, Job, View, Views, load_views, transport, workers

SMALL = Views(size=56, mean=(0.45,) * 3, std=(0.225,) * 3)
CAT = str(CLIPS / 'pans' / 'things' / 'cat.mp4')
# Names that decoding imports from the standard library, that PyTorch and PyAV look for, and that Python itself does.
NAMES = ('signal', 'pickle', 'queue', 'random', 'json', 'usercustomize', 'sitecustomize', 'torch', 'numpy', 'av')


def load(paths, num_workers=1, views=SMALL, **options):
    jobs = [Job(i, str(path)) for i, path in enumerate(paths)]
    with closing(load_views(jobs, views, num_workers=num_workers, **options)) as loaded:
        return list(loaded)


def booby_trap(folder):
    """Modules that write their name when they are imported."""
    for name in NAMES:
        (folder / f'{name}.py').write_text(
            f"open({str(folder / 'imported')!r}, 'a').write({name!r} + chr(10))\nraise ImportError('of the data set')"
        )
    shutil.copy(CAT, folder)


def python(arguments, folder, **environment):
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=dict(os.environ, **environment), capture_output=True, text=True
    )


SCRIPT = """
import os, sys
sys.path[:0] = {path!r}
from videozoo_timm import load_model
from videozoo_timm.video import Job, Views, load_views
sys.path[:0] = ['', '.', {here!r}]  # as an interactive session has it
os.environ['PYTHONPATH'] = os.pathsep + '.'  # both mean the current folder
assert callable(load_model)
print(len(list(load_views([Job(0, 'cat.mp4')], Views(56, (0.45,), (0.225,)), num_workers=1))))
"""


def test_nothing_is_imported_from_the_current_folder(tmp_path):
    # By a script in another folder, without `if __name__ == '__main__'`: it is not imported again either.
    for name in ('scripts', 'dataset'):
        (tmp_path / name).mkdir()
    booby_trap(tmp_path / 'dataset')
    (tmp_path / 'scripts' / 'script.py').write_text(
        SCRIPT.format(path=[str(REPOSITORY)], here=str(tmp_path / 'dataset'))
    )
    done = python(['../scripts/script.py'], tmp_path / 'dataset')
    assert (done.stdout, done.stderr) == ('2\n', '')
    assert not (tmp_path / 'dataset' / 'imported').exists()


@pytest.mark.parametrize('is_checkout', [False, True])
def test_python_m_takes_nothing_from_the_current_folder(tmp_path, is_checkout):
    # Python itself looks there before any code of ours can run; from 3.11 on it finds all that it needs elsewhere.
    booby_trap(tmp_path)
    for name in ('usercustomize', 'sitecustomize'):  # of PYTHONPATH, which is the user's own
        (tmp_path / f'{name}.py').unlink()
    if is_checkout:
        (tmp_path / 'videozoo_timm').symlink_to(REPOSITORY / 'videozoo_timm')
    done = python(['-m', 'videozoo_timm', '--version'], tmp_path, PYTHONPATH='' if is_checkout else str(REPOSITORY))
    assert done.returncode == 0 and done.stdout.startswith('videozoo-timm'), done.stderr
    assert not (tmp_path / 'imported').exists()


def test_the_import_path_of_processes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    link = tmp_path.parent / f'{tmp_path.name} link'
    link.symlink_to(tmp_path)
    others = [entry for entry in sys.path if entry and entry != os.getcwd()]
    monkeypatch.setattr(sys, 'path', ['', '.', str(tmp_path), str(link), f'{tmp_path}/', *others])
    assert processes.import_path()[: len(others)] == others
    assert len(processes.import_path()) <= len(others) + 1  # the package, where an import hook has found it
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(sys, 'path', ['', str(REPOSITORY), *others])
    assert processes.import_path()[-1] == str(REPOSITORY) and processes.import_path().count(str(REPOSITORY)) == 1
    (tmp_path / 'gone').mkdir()
    monkeypatch.chdir(tmp_path / 'gone')
    (tmp_path / 'gone').rmdir()
    assert '' not in processes.import_path()


def test_a_program_without_an_interpreter_says_so(monkeypatch):
    monkeypatch.setattr(processes.spawn, 'get_executable', lambda: b'')
    with pytest.raises(RuntimeError, match='no Python interpreter is known.*num_workers=0'):
        load([CAT])


def test_processes_that_need_no_models_have_none():
    code = (
        'import os, sys, videozoo_timm.video.workers, videozoo_timm; '
        'print(sorted({"timm", "torch"} & set(sys.modules)), '
        '"VIDEOZOO_NO_MODELS" in os.environ, callable(videozoo_timm.load_model), "timm" in sys.modules)'
    )
    done = python(['-c', code], REPOSITORY, VIDEOZOO_NO_MODELS='1')
    assert done.stdout.strip() == "['torch'] False True True", done.stderr


# Whatever reading raises

FAULTY = """
import os, struct
from videozoo_timm.video import workers
from videozoo_timm.video.views import read_views

class Odd(Exception):
    def __reduce__(self):
        raise TypeError('cannot be pickled')

RAISED = {
    'a.mp4': OverflowError('too large'), 'b.mp4': TypeError('of no type'), 'c.mp4': ZeroDivisionError(),
    'd.mp4': RecursionError('deep'), 'e.mp4': MemoryError(), 'f.mp4': EOFError(),
    'g.mp4': BrokenPipeError('of the file'), 'h.mp4': KeyError('tag'), 'i.mp4': Odd('odd'), 'j.mp4': SyntaxError('bad'),
    'k.mp4': AssertionError(), 'l.mp4': struct.error('unpack'),
    'm.mp4': ConnectionResetError('of the file'),
    'library': ModuleNotFoundError('no PyAV: pip install')}

def read(job, *args):
    if job.path in RAISED:
        raise RAISED[job.path]
    if job.path == 'half.mp4':  # one view, and then no more
        yield next(read_views(job._replace(path=CAT), *args))
        raise StopAsyncIteration
    if job.path == 'prints':
        os.write(1, b'said by a library')
        print('said')
    if job.path == 'dies':
        os._exit(9)
    yield from read_views(job._replace(path=CAT), *args)
    if job.path == 'second':
        open(DONE, 'w').close()

def decode():
    workers.read_views = read
    workers.decode()
"""


@pytest.fixture
def faulty(tmp_path, monkeypatch):
    """A module whose `read` raises for some paths; the processes that decode read by it."""
    (tmp_path / 'faulty.py').write_text(f'CAT, DONE = {CAT!r}, {str(tmp_path / "done")!r}\n{FAULTY}')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(
        workers, 'start_python', lambda target, **popen: processes.start_python('faulty:decode', **popen)
    )
    module = importlib.import_module('faulty')
    yield module
    del sys.modules['faulty']


def test_whatever_reading_raises_costs_its_file_alone(faulty, monkeypatch):
    paths = [*(path for path in faulty.RAISED if path != 'library'), 'half.mp4', CAT]
    there = load(paths)
    monkeypatch.setattr(workers, 'read_views', faulty.read)
    here = load(paths, num_workers=0)
    for loaded in (here, there):
        failures = {job.path: item.reason for job, item in loaded if isinstance(item, Failure)}
        assert list(failures) == paths[:-1]
        for path, reason in failures.items():
            assert reason.startswith(f'{path}: ') and str(faulty.RAISED.get(path, '')) in reason
        assert failures['a.mp4'] == 'a.mp4: OverflowError: too large' and failures['e.mp4'] == 'e.mp4: MemoryError'
        assert [job.path for job, item in loaded if isinstance(item, View)] == ['half.mp4', CAT]
    assert [item for _, item in here if isinstance(item, Failure)] == [
        item for _, item in there if isinstance(item, Failure)
    ]
    with pytest.raises(ImportError, match='pip install'):  # the fault of no file
        load([CAT, 'library'], num_workers=0)


def decoders():
    children = psutil.Process().children()
    return [process for process in children if any('import decode' in word for word in process.cmdline())]


def test_a_process_that_ends_costs_the_file_that_it_reads(faulty, tmp_path):
    paths = ['prints', 'second', CAT, 'dies', CAT, 'library']
    with closing(load_views([Job(i, path) for i, path in enumerate(paths)], SMALL, num_workers=1)) as views:
        loaded = [next(views)]
        while not (tmp_path / 'done').exists():
            time.sleep(0.05)
        time.sleep(0.2)  # two files are read ahead; now it waits
        (decoder,) = decoders()
        decoder.kill()  # which is the fault of no file
        decoder.wait(60)
        with pytest.raises(ImportError, match='pip install'):
            for item in views:
                loaded.append(item)
    (failure,) = [item for _, item in loaded if isinstance(item, Failure)]
    assert failure.reason == 'dies: the decoder crashed (exit code 9)'
    assert [job.index for job, item in loaded if isinstance(item, View)] == [0, 1, 2, 4]


def test_a_view_that_memory_has_no_room_for_costs_its_file(monkeypatch):
    plain, sizes = torch.empty, iter([True, False])

    def empty(*args, **kwargs):
        if next(sizes):
            raise MemoryError
        return plain(*args, **kwargs)

    monkeypatch.setattr(torch, 'empty', empty)
    monkeypatch.delattr(os, 'memfd_create', raising=False)  # shared memory has room
    loaded = load([CAT, CAT])
    assert [type(item) for _, item in loaded] == [Failure, View, type(None)]
    assert loaded[0][1].reason == f'{CAT}: MemoryError'


@pytest.mark.parametrize('through', ['shared memory', 'pipe'])
def test_views_arrive_as_they_were_read_and_stay_so(through, monkeypatch):
    """More views are kept than shared memory has slots for; none is overwritten by a later one."""
    if through == 'pipe':
        monkeypatch.delattr(os, 'memfd_create', raising=False)
    clips = [str(path) for path in sorted((CLIPS / 'pans').rglob('*.mp4'))]
    paths = [clips[k % len(clips)] for k in range(transport.NUM_SLOTS + 3)]
    gc.collect()  # what earlier tests have left
    open_files = psutil.Process().num_fds()
    assert shared_while_compared(paths) == (through == 'shared memory')
    gc.collect()
    assert not shared_memory()  # it goes with the last view
    assert psutil.Process().num_fds() <= open_files


@pytest.mark.parametrize('module, name', [(os, 'ftruncate'), (transport.mmap, 'mmap')])
def test_where_shared_memory_is_not_to_be_had_a_pipe_does(module, name, monkeypatch):
    def refused(*args):
        raise OSError(errno.ENOMEM, 'Cannot allocate memory')  # as `ulimit` has it

    gc.collect()  # what earlier tests have left
    open_files = psutil.Process().num_fds()
    monkeypatch.setattr(module, name, refused)
    assert not shared_while_compared([CAT, CAT])
    assert psutil.Process().num_fds() == open_files


def shared_while_compared(paths):
    here, there = ([item for _, item in load(paths, num_workers=number) if item] for number in (0, 1))
    copies = [view.x.clone() for view in there]
    assert len(there) == len(paths)
    for view, copy, expected in zip(there, copies, here, strict=True):
        assert torch.equal(view.x, expected.x) and torch.equal(view.x, copy)
        assert view[1:] == expected[1:]
    return bool(shared_memory())


@pytest.mark.skipif(not hasattr(os, 'memfd_create'), reason='the system has no anonymous shared memory')
def test_slots_are_used_again_when_nothing_shows_them():
    with transport.shared_slots(SMALL) as (slots, shared):
        theirs = transport.Slots(*shared)
    full = [theirs.put(torch.full((3, 16, 56, 56), float(k))) for k in range(transport.NUM_SLOTS + 1)]
    assert full == [*range(transport.NUM_SLOTS), None]
    x = slots.get(2, (3, 16, 56, 56))
    part = x[0, 0]
    del x
    assert theirs.put(torch.zeros(3, 16, 56, 56)) is None  # a part of the view is there still
    assert part.eq(2).all()
    del part
    assert theirs.put(torch.zeros(3, 16, 56, 56)) == 2
    assert theirs.put(torch.zeros(3, 16, 112, 112)) is None
    for slot, shape in ((-1, (1,)), (transport.NUM_SLOTS, (1,)), (0, (3, 16, 112, 112)), (0, (-1,))):
        with pytest.raises(ValueError, match='no slot'):
            slots.get(slot, shape)


def shared_memory():
    return [line for line in open('/proc/self/maps') if 'memfd:videozoo' in line] if sys.platform == 'linux' else []


def test_signals_to_all_are_the_parents(tmp_path):
    hanging_video(tmp_path / 'waits.mp4')
    with closing(
        load_views([Job(0, CAT), Job(1, str(tmp_path / 'waits.mp4')), Job(2, CAT)], SMALL, num_workers=1, time_limit=5)
    ) as loaded:
        next(loaded)
        (decoder,) = decoders()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            decoder.send_signal(number)
        _, failure = list(loaded)[1]
        assert 'gave nothing for 5 s' in failure.reason
    assert not psutil.pid_exists(decoder.pid)
    assert not any(thread.name.startswith('videozoo') for thread in threading.enumerate())


@pytest.mark.skipif(os.name == 'nt', reason='there it ends when it has imported')
def test_a_process_ends_with_its_parent_even_while_it_imports(tmp_path, monkeypatch):
    (tmp_path / 'slow_import.py').write_text("open('begun', 'w').close()\nimport time\ntime.sleep(600)\n")
    monkeypatch.setattr(sys, 'path', [str(tmp_path), *sys.path])
    process = processes.start_python('slow_import:main', stdin=subprocess.PIPE, cwd=tmp_path)
    while not (tmp_path / 'begun').exists():
        time.sleep(0.05)
    process.stdin.close()  # as the system does for a parent that is killed
    assert process.wait(120) == 1


KILLED = """
import os, random, signal, sys, time
import videozoo_timm
from videozoo_timm import load_model
from videozoo_timm.analysis import embed
video, out, marker = sys.argv[1:]
model = load_model('vit_shapes_motion')
def run():
    return embed(model, [video], stride=0.05, batch_size=2, out=out, num_workers=1)
for moment in sorted(random.Random(0).uniform(0, 5) for _ in range(10)):
    child = os.fork()
    if child == 0:
        try:
            run()
        finally:
            os._exit(0)
    time.sleep(moment)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print(f'killed {moment:.1f}', flush=True)
def left():
    mine = os.getpid()
    for name in filter(str.isdigit, os.listdir('/proc')):
        try:
            if int(name) != mine and marker.encode() in open(f'/proc/{name}/environ', 'rb').read():
                yield open(f'/proc/{name}/cmdline').read()
        except OSError:
            pass
end = time.monotonic() + 60
while (still := list(left())) and time.monotonic() < end:
    time.sleep(0.1)
print(*(f'left {command}' for command in still))
print('again', len(run().features), flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='by what Linux tells of processes and shared memory')
def test_killed_at_ten_random_moments_nothing_is_left(tmp_path):
    for name in ('run', 'temporary'):
        (tmp_path / name).mkdir()
    out, marker = tmp_path / 'run' / 'features.npz', f'videozoo{os.getpid()}'
    before = set(os.listdir('/dev/shm'))
    environment = dict(MARKER=marker, TMPDIR=str(tmp_path / 'temporary'), PYTHONPATH=str(REPOSITORY))
    told = python(['-c', KILLED, CAT, str(out), marker], tmp_path, **environment)
    assert told.stdout.count('killed') == 10 and 'left' not in told.stdout, told
    assert int(told.stdout.split('again')[1]) > 10  # what the killed runs have done is continued
    assert [path.name for path in (tmp_path / 'run').iterdir()] == ['features.npz']
    assert not any((tmp_path / 'temporary').iterdir())
    assert set(os.listdir('/dev/shm')) <= before


@pytest.mark.slow
def test_the_benchmark_for_gpus_runs_without_one(tmp_path):
    told = python([str(REPOSITORY / 'benchmarks' / 'gpu.py'), '--device', 'cpu', '--small'], tmp_path)
    rows = [line for line in told.stdout.splitlines() if line.startswith('| ')]
    assert told.returncode == 0 and len(rows) > 12, told
    assert not any('failed' in row or 'left out' in row or 'not measured' in row for row in rows), told.stdout
