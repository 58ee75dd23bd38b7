"""Long runs: killed and started again, shared by several processes, with files that hang."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from array import array
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from conftest import CLIPS, REPOSITORY, hanging_video
from forked_python import ForkedPython, ForkedRanks, run_forked, run_ranks
from safetensors.torch import save_file

from videozoo_timm.analysis.embedding import embed
from videozoo_timm.inference.journal import Journal, remaining
from videozoo_timm.inference.pipeline import Group, RowBatch
from videozoo_timm.inference.reporting import SILENT

# The last bits of a matrix product depend on the number of threads.
ENVIRONMENT = dict(os.environ, PYTHONPATH=str(REPOSITORY), OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('small') / 'vit.safetensors'
    save_file(timm.create_model('vit_t14_st', num_classes=2).state_dict(), path)
    return path


def long_command(small):
    return [
        'embed',
        CLIPS,
        '--model',
        'vit_t14_st',
        '--weights',
        small,
        '--stride',
        '0.4',
        '--batch-size',
        '2',
        '--blocks',
        '1,-1',
        '--num-workers',
        '2',
        '--out',
        'features.npz',
    ]


@pytest.fixture
def command(small):
    return long_command(small)


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory, small):
    folder = tmp_path_factory.mktemp('uninterrupted')
    finish(long_command(small), folder)
    return folder


def start(command, folder):
    return ForkedPython(command, None, ENVIRONMENT, folder)


def finish(command, folder, launcher=None):
    if launcher:
        module = ['-m', 'videozoo_timm', *map(str, command)]
        done = subprocess.run([*launcher, *module], cwd=folder, env=ENVIRONMENT, text=True, capture_output=True)
    else:
        done = run_forked(command, None, ENVIRONMENT, folder)
    assert done.returncode in (0, 1), done.stderr  # 1: some of the odd files are broken
    return done.stdout, done.stderr


def same(folder, other, name='features.npz'):
    ours, theirs = np.load(folder / name), np.load(other / name)
    assert ours.files == theirs.files
    return all(np.array_equal(ours[key], theirs[key]) for key in ours.files)  # to the bit


def rows_done(folder):
    return sum(len(path.read_text().splitlines()) for path in folder.glob('.features.npz.unfinished/*.jsonl'))


def kill_and_resume(command, folder, moments):
    """Kill the command once it has written so many batches more, or after some seconds; then let it finish."""
    for moment in moments:
        before = rows_done(folder)
        process = start(command, folder)
        begin = time.monotonic()
        while process.poll() is None:
            time.sleep(0.01)
            if rows_done(folder) >= before + moment if isinstance(moment, int) else time.monotonic() > begin + moment:
                process.kill()
                break
        code, is_over = process.wait(), (folder / 'features.npz').exists()
        if is_over and not isinstance(moment, int):
            break  # this machine is fast; it has been killed before
        assert code == -signal.SIGKILL and not is_over, 'the run was over before it was killed'
    return finish(command, folder)


def test_a_killed_run_goes_on_where_it_was(command, uninterrupted, tmp_path):
    _, told = kill_and_resume(command, tmp_path, [20])
    assert 'going on with the unfinished run' in told
    assert same(tmp_path, uninterrupted)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['features.npz', 'features.npz.run.json']
    parts = json.loads((tmp_path / 'features.npz.run.json').read_text())['parts']
    assert len(parts) == 2 and 'end' not in parts[0] and parts[1]['end']  # the first was killed


@pytest.mark.slow
def test_killed_at_random_moments(command, uninterrupted, tmp_path):
    rng = random.Random(0)
    moments = [rng.randrange(1, 10) for k in range(3)] + [rng.uniform(0, 3) for k in range(3)]
    kill_and_resume([*command, '--num-workers', '0'], tmp_path, moments)  # the test above kills one that has decoders
    assert same(tmp_path, uninterrupted)


@pytest.mark.slow
def test_another_command_is_refused_and_force_starts_over(command, tmp_path):
    (tmp_path / 'videos').symlink_to(CLIPS / 'pans')
    command[1] = 'videos'
    process = start(command, tmp_path)
    while rows_done(tmp_path) < 5:
        time.sleep(0.01)
        assert process.poll() is None
    process.send_signal(signal.SIGSTOP)
    busy = run_forked(command, None, ENVIRONMENT, tmp_path)
    assert busy.returncode == 2 and 'is being written by another run' in busy.stderr
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    assert process.wait() == 143
    done = rows_done(tmp_path)
    changed = [*command, '--batch-size', '3', '--align', 'start', '--blocks', '1', '--video-dir', CLIPS / 'odd']
    other = run_forked(changed, None, ENVIRONMENT, tmp_path)
    assert other.returncode == 2
    assert 'going on' not in other.stderr
    for words in (
        'batch_size was 2, is 3',
        'align was center, is start',
        'blocks was [1, 4], is [1]',
        'files: 4, 4 of them the same in the now 16',
        'repeat that command',
    ):
        assert words in other.stderr
    assert rows_done(tmp_path) == done  # nothing is lost by the attempt
    finish([*command, '--stride', '1', '--force'], tmp_path)
    assert len(np.load(tmp_path / 'features.npz')['features']) < 30


@pytest.mark.slow
def test_two_processes_give_the_same_features(small, tmp_path):
    command = [
        'embed',
        CLIPS / 'pans',
        '--model',
        'vit_t14_st',
        '--weights',
        small,
        '--num-clips',
        '3',
        '--batch-size',
        '2',
        '--num-workers',
        '0',
    ]
    launcher = [Path(sys.executable).with_name('accelerate'), 'launch', '--multi_gpu', '--num_processes', '2']
    out, _ = finish([*command, '--out', 'two.npz'], tmp_path, launcher)
    assert out.count('12 rows') == 1
    finish([*command, '--out', 'one.npz'], tmp_path)
    one, two = np.load(tmp_path / 'one.npz'), np.load(tmp_path / 'two.npz')
    assert all(np.array_equal(one[key], two[key]) for key in one.files)  # to the bit


@pytest.mark.slow
def test_two_processes_give_the_same_accuracy(small, tmp_path):
    command = [
        'evaluate',
        CLIPS / 'pans',
        '--model',
        'vit_t14_st',
        '--weights',
        small,
        '--num-workers',
        '0',
        '--batch-size',
        '2',
        '--json',
    ]
    two = run_ranks(2, [*command, '--out', 'two'], ENVIRONMENT, tmp_path)
    assert two.returncode == 0, two.stderr
    one, _ = finish([*command, '--out', 'one'], tmp_path)
    assert json.loads(one) == json.loads(two.stdout) and json.loads(one)['files'] == 4
    assert (tmp_path / 'one' / 'predictions.csv').read_text() == (tmp_path / 'two' / 'predictions.csv').read_text()


@pytest.mark.slow
def test_two_processes_that_are_killed_go_on_as_one(command, uninterrupted, tmp_path):
    ranks = ForkedRanks(2, command, ENVIRONMENT, tmp_path)
    while rows_done(tmp_path) < 10:
        time.sleep(0.01)
        assert ranks.poll() is None
    ranks.kill_group()
    finish(command, tmp_path)
    assert same(tmp_path, uninterrupted)


def test_a_file_that_hangs_costs_itself(small, tmp_path):
    hanging_video(tmp_path / 'hangs.mp4')
    command = [
        'embed',
        CLIPS / 'pans',
        'hangs.mp4',
        CLIPS / 'odd',
        '--model',
        'vit_t14_st',
        '--weights',
        small,
        '--time-limit',
        '12',
        '--num-workers',
        '2',
    ]
    _, err = finish(command, tmp_path)
    assert 'hangs.mp4: gave nothing for 12 s' in err and '5 of 17 files could not be read' in err
    assert len(np.load(tmp_path / 'features.npz')['features']) == 12


FULL_DISK = """
import resource, signal, sys
from videozoo_timm.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
sys.exit(main(sys.argv[1:]))
"""


def test_a_disk_that_fills_up_loses_nothing(command, tmp_path):
    done = run_forked(command, FULL_DISK, ENVIRONMENT, tmp_path)
    assert done.returncode == 2 and 'features.npz: rows could not be written' in done.stderr, done.stderr
    assert 'the same command continues' in done.stderr and rows_done(tmp_path) > 3


# What a journal may look like after a crash


def batch(group, number, last, files, failed=None, value=0.0):
    times = array('d', map(float, range(len(files))))
    return RowBatch(group, number, last, files, *[times] * 8, failed or {}, torch.full((len(files), 3), value))


def test_what_remains_of_a_journal(tmp_path):
    groups = [Group(0, [0, 1, 2]), Group(1, [3, 4]), Group(2, [5])]
    done = [batch(0, 0, False, [0, 0]), batch(0, 1, False, [0, 1]), batch(1, 0, True, [4], {3: 'broken'})]
    assert remaining(groups, done) == [Group(0, [1, 2], skip=1, number=2), Group(2, [5])]
    journal = Journal(tmp_path / 'x.npz', dict(a=1))
    journal.open()
    for entry in done:
        journal.add(entry)
    journal.close()
    (lines,) = journal.folder.glob('*.jsonl')
    rows = lines.with_suffix('.rows')
    assert [b._replace(values=None) for b in journal.batches()] == [b._replace(values=None) for b in done]
    with open(lines, 'a') as file:
        file.write('{"group": 2, "numb')  # killed within a line
    assert len(journal.batches()) == 3
    with open(rows, 'r+b') as file:
        file.truncate(4 * 3 * 4)  # the machine went down before all rows were on the disk
    assert [(b.group, b.number) for b in journal.batches()] == [(0, 0), (0, 1)]
    (journal.folder / 'copy.rows').write_bytes(rows.read_bytes())
    (journal.folder / 'copy.jsonl').write_text(lines.read_text())
    assert [(b.group, b.number) for b in journal.batches()] == [(0, 0), (0, 1)]  # each once
    again = Journal(tmp_path / 'x.npz', dict(a=2))
    with pytest.raises(ValueError, match='a was 1, is 2'):
        again.open()
    again.open(start_over=True)
    assert again.batches() == []
    again.remove()
    assert list(tmp_path.iterdir()) == []


def test_files_that_fail_half_way_leave_no_rows():
    from videozoo_timm.analysis._inputs import Stimuli
    from videozoo_timm.analysis.embedding import _collect

    batches = [batch(0, 0, False, [0, 0], value=1.0), batch(0, 1, True, [1], {0: 'hung after two clips'}, value=2.0)]
    result = _collect(batches, Stimuli(['a', 'b']), None, np.empty, 'first-frame', False, lambda *_: '', SILENT)
    assert result.paths == ['b'] and result.features.tolist() == [[2.0] * 3] and result.video_index.tolist() == [0]
    assert result.failed == [('a', 'hung after two clips')]


def test_changed_weights_are_another_command(tmp_path):
    torch.manual_seed(0)
    model, path = timm.create_model('vit_t14_st', num_classes=0).eval(), str(CLIPS / 'pans' / 'things' / 'cat.mp4')

    def interrupt(files):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed(model, [path, path], batch_size=1, out=tmp_path / 'x.npz', progress=lambda n: n and interrupt(n))
    with torch.no_grad():
        model.blocks[2].mlp.fc1.bias[0] += 1
    with pytest.raises(ValueError, match='weights was'):
        embed(model, [path, path], batch_size=1, out=tmp_path / 'x.npz')
    embed(model, [path, path], batch_size=1, out=tmp_path / 'x.npz', start_over=True)
