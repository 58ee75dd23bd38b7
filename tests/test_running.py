"""Batches on a device: each may be started before the results of the one before are there; and compiled models."""

import functools
import time

import pytest
import torch
from conftest import relative_error

from videozoo_timm import load_model
from videozoo_timm.analysis import embed
from videozoo_timm.analysis.evaluation import predict
from videozoo_timm.cli import main
from videozoo_timm.inference import pipeline, running
from videozoo_timm.inference.journal import journal_folder
from videozoo_timm.inference.pipeline import groups_of, process
from videozoo_timm.video import Reading, Sampling, Views, find_media, load_views

VIEWS = Views(size=16, mean=(0.45,) * 3, std=(0.225,) * 3, sampling=Sampling(2, 8), num_clips=2)


class Device:
    """A device that reads its input, computes and fails as late as it can: when its results are asked for."""

    def __init__(self, monkeypatch):
        monkeypatch.setattr(running, 'is_asynchronous', lambda device: True)
        start = running.Runner.start

        def late(runner):
            function, runner.function = runner.function, lambda x: x
            buffer = runner._buffers[-1] if runner._buffers else None
            number = runner._number
            batch = start(runner)
            runner.function = function
            return Late(function, buffer, number) if number else batch

        monkeypatch.setattr(running.Runner, 'start', late)


class Late(running.Launched):
    def __init__(self, function, buffer, number):
        self.function, self.buffer, self.number = function, buffer, number

    def values(self):
        return self.function(self.buffer[: self.number]).clone()


def files():
    paths = [str(path) for path in find_media('drawn:7@3')]
    return [*paths[:2], 'gone.mp4', *paths[2:5], 'gone too.mp4', *paths[5:]]


def means(x):
    return x.mean(dim=(2, 3, 4))


def run(function=means, batch_size=3, views=VIEWS, told=None, **options):
    paths = files()
    return list(
        process(
            function,
            groups_of(len(paths), views, batch_size),
            paths,
            views,
            device=torch.device('cpu'),
            dtype=torch.float32,
            batch_size=batch_size,
            report=lambda path, reason: (told if told is not None else []).append(path),
            **options,
        )
    )


def as_lists(batches):
    return [batch._replace(values=batch.values.tolist()) for batch in batches]


@pytest.mark.parametrize('batch_size', [1, 3, 4])
def test_late_results_are_the_same_in_the_same_order(batch_size, monkeypatch):
    told = [], []
    at_once = run(batch_size=batch_size, told=told[0])
    Device(monkeypatch)
    late = run(batch_size=batch_size, told=told[1])
    assert as_lists(late) == as_lists(at_once) and sum(len(batch.files) for batch in late) == 14
    assert told[0] == told[1] == ['gone.mp4', 'gone too.mp4']


def test_a_fault_found_late_is_that_of_its_file(monkeypatch):
    want = run()
    bad = want[3].values[-1] if len(want[3].values) else want[2].values[-1]

    def function(x):
        rows = means(x)
        rows[(rows == bad).all(dim=1)] = float('nan')
        return rows

    at_once = run(function)
    Device(monkeypatch)
    late = run(function)
    for one, other in zip(late, at_once, strict=True):
        assert one.failed == other.failed and one.files == other.files
    failed = {file: reason for batch in late for file, reason in batch.failed.items()}
    named = [file for batch in want for file, row in zip(batch.files, batch.values, strict=True) if row.equal(bad)]
    assert named and failed.keys() == {2, 6, *named} and 'NaN' in failed[named[0]]


@pytest.mark.parametrize('when', ['started', 'fetched'])
def test_what_was_done_before_an_error_is_not_lost(when, monkeypatch):
    want = run(batch_size=2)
    fatal = 9  # whose first clip is like no other

    def failing(x):
        if means(x)[0].equal(want[fatal].values[0]):
            raise RuntimeError('the device is gone')
        return means(x)

    if when == 'fetched':
        Device(monkeypatch)
    else:
        monkeypatch.setattr(running, 'is_asynchronous', lambda device: True)
    rows, paths = [], files()
    placed = dict(device=torch.device('cpu'), dtype=torch.float32, batch_size=2)
    with pytest.raises(RuntimeError, match='the device is gone'):
        for batch in process(failing, groups_of(len(paths), VIEWS, 2), paths, VIEWS, **placed):
            rows.append(batch)  # `extend` keeps none if there is an error
    assert as_lists(rows) == as_lists(want[:fatal])


def test_the_next_batch_is_started_before_results_are_fetched(monkeypatch):
    Device(monkeypatch)
    order = []
    start, values = running.Runner.start, Late.values

    def started(runner):
        order.extend(['start'] * bool(runner._number))
        return start(runner)

    def fetched(batch):
        order.append('values')
        return values(batch)

    monkeypatch.setattr(running.Runner, 'start', started)
    monkeypatch.setattr(Late, 'values', fetched)
    run(batch_size=2)
    assert order == ['start', *['start', 'values'] * (len(order) // 2 - 1), 'values']


def test_while_a_batch_computes_the_next_one_is_decoded(monkeypatch):
    """As many files as it has, not two; and no more, as memory is bounded."""
    begun, most_at_first = [], []

    def counted(jobs, *args, **kwargs):
        return load_views((begun.append(job) or job for job in jobs), *args, **kwargs)

    def waits(x):
        until = time.monotonic() + 60
        while not most_at_first and len(begun) < 12 and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.3)
        most_at_first.append(len(begun))
        return means(x)

    paths = [str(path) for path in find_media('drawn:18@3')]
    views = Views(size=16, mean=(0.45,) * 3, std=(0.225,) * 3, sampling=Sampling(2, 8))
    monkeypatch.setattr(pipeline, 'load_views', counted)
    options = dict(device=torch.device('cpu'), dtype=torch.float32, batch_size=6, reading=Reading(num_workers=1))
    list(process(waits, groups_of(len(paths), views, 6), paths, views, **options))
    assert most_at_first[0] == 12


def test_a_function_may_give_a_part_of_its_input():
    batches = run(lambda x: x[:, :, 0, 8])  # whose memory the next batch gets
    again = run(lambda x: x[:, :, 0, 8].clone())
    assert as_lists(batches) == as_lists(again)
    for batch in run(lambda x: (x * 2)[:, :, 0, 8]):  # keeps no more than that part
        assert batch.values.untyped_storage().nbytes() == batch.values.nbytes


def test_batches_grow_to_their_size_and_are_whole_where_asked_for(monkeypatch):
    want = run(batch_size=5)
    monkeypatch.setattr(running, '_FIRST_ROWS', 1)
    assert as_lists(run(batch_size=5)) == as_lists(want)
    sizes = set()
    whole = run(lambda x: (sizes.add(len(x)), means(x))[1], batch_size=5, whole=True)
    assert as_lists(whole) == as_lists(want) and sizes == {5}
    assert len(run(batch_size=10**9)) == 1  # of which nothing is allocated in advance


@pytest.fixture(scope='module')
def model():
    return load_model('vit_shapes_motion')


def compiled_quickly(monkeypatch):
    """Compiled by what takes no minute; `test_compiled_for_the_machine` takes it."""
    monkeypatch.setattr(torch, 'compile', functools.partial(torch.compile, backend='eager'))


def test_compiled_rows_are_those_of_the_model(model, monkeypatch, tmp_path):
    compiled_quickly(monkeypatch)
    frames = []
    torch._dynamo.utils.counters.clear()
    for compute in (
        lambda **options: embed(model, 'drawn:3@7', batch_size=2, **options).features,
        lambda **options: predict(model, 'drawn:3@7', batch_size=2, **options)[0][2],
    ):
        assert relative_error(compute(compile=True), compute()) < 1e-5
        frames.append(sum(torch._dynamo.utils.counters['frames'].values()))
    assert frames[0] > 0  # it was compiled
    assert not any('forward' in vars(block) for block in model.blocks)  # and is as it was


def test_compiled_and_other_rows_do_not_mix(model, monkeypatch, tmp_path):
    compiled_quickly(monkeypatch)
    out = tmp_path / 'a.npz'
    embed(model, 'drawn:2@7', out=out)
    with pytest.raises(ValueError, match='compile'):
        embed(model, 'drawn:2@7', out=out, compile=True)
    embed(model, 'drawn:2@7', out=out, compile=True, start_over=True)
    with pytest.raises(ValueError, match='compile'):
        embed(model, 'drawn:2@7', out=out)


def test_without_a_compiler_it_says_so_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('CXX', 'no-such-compiler')
    out = tmp_path / 'a.npz'
    assert main(['embed', 'drawn:2@7', '--compile', '--out', str(out)]) == 2
    error = capsys.readouterr().err
    assert 'no-such-compiler' in error and '--compile' in error and 'Traceback' not in error
    assert not out.exists() and not journal_folder(out).exists()


@pytest.mark.slow
def test_compiled_for_the_machine(model):
    want = embed(model, 'drawn:3@7', batch_size=2).features
    assert relative_error(embed(model, 'drawn:3@7', batch_size=2, compile=True).features, want) < 1e-5
