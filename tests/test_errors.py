"""Whatever a command raises ends it with an exit code and one line; and what is no video is read as carefully."""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from videozoo_timm import cli
from videozoo_timm.analysis.completion import read_mask
from videozoo_timm.analysis.labels import read_labels
from videozoo_timm.cli import generate_images, images, list_models, main
from videozoo_timm.files import atomic_write as atomic
from videozoo_timm.text import counted


class Panic(BaseException):
    """As code in Rust raises it."""


@pytest.fixture
def raising(monkeypatch):
    """Make `videozoo list` raise an error; its exit code and what it says."""

    def run(error, capsys, *flags):
        def fail(*args, **kwargs):
            if callable(error):
                return error()
            raise error

        monkeypatch.setattr(list_models, 'table', fail)
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
        try:
            return main([*flags]), capsys.readouterr().err
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    return run


@pytest.mark.parametrize(
    'error, words',
    [
        (TypeError('of no\ntype'), 'internal error: TypeError: of no type (--debug shows the traceback)'),
        (KeyError('x'), "internal error: KeyError: 'x' (--debug shows the traceback)"),
        (AssertionError(), 'internal error: AssertionError (--debug shows the traceback)'),
        (Panic('in Rust'), 'internal error: Panic: in Rust (--debug shows the traceback)'),
        (ValueError(), 'internal error: ValueError (--debug shows the traceback)'),
        (MemoryError(), 'memory ran out'),
        (RecursionError('too deep'), 'too deep'),
        (ValueError('in words'), 'in words'),
        (PermissionError(13, 'Permission denied', 'x.npz'), 'x.npz: Permission denied'),
    ],
)
def test_whatever_is_raised_is_one_line(error, words, raising, capsys):
    assert raising(error, capsys, 'list') == (2, f'videozoo: {words}\n')


@pytest.mark.parametrize('flags', [['--debug', 'list'], ['list', '--debug'], ['list']])
def test_the_traceback_is_there_for_those_who_ask(flags, raising, capsys, monkeypatch):
    if '--debug' not in flags:
        monkeypatch.setenv('VIDEOZOO_DEBUG', '1')
    code, told = raising(TypeError('of no type'), capsys, *flags)
    assert code == 2 and told.startswith('Traceback')
    assert told.endswith('\nvideozoo: internal error: TypeError: of no type\n')
    code, told = raising(ValueError('in words'), capsys, *flags)
    assert code == 2 and told.startswith('Traceback') and told.endswith('videozoo: in words\n')


@pytest.mark.parametrize(
    'error, code, words',
    [
        (KeyboardInterrupt(), 130, 'interrupted'),
        (KeyboardInterrupt(signal.SIGTERM), 143, 'terminated'),
        (KeyboardInterrupt(signal.SIGHUP), 129, 'hung up'),
        (KeyboardInterrupt('odd'), 130, 'interrupted'),
    ],
)
def test_interruptions_have_their_codes(error, code, words, raising, capsys):
    assert raising(error, capsys, 'list') == (code, f'videozoo: {words}\n')


@pytest.mark.parametrize('first, code', [('SIGHUP', 129), ('SIGTERM', 143)])
def test_a_closed_terminal_cleans_up(first, code, raising, capsys, tmp_path):
    other = {'SIGHUP': signal.SIGTERM, 'SIGTERM': signal.SIGHUP}[first]

    def write():
        with atomic(tmp_path / 'x.csv'):
            try:
                os.kill(os.getpid(), getattr(signal, first))
            finally:
                os.kill(os.getpid(), other)  # they come together, also while what is unfinished is removed

    assert raising(write, capsys, 'list')[0] == code
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('number, after', [(None, signal.SIG_DFL), (signal.SIGTERM, signal.SIG_IGN)])
def test_handlers_are_put_back_unless_the_process_ends(number, after, monkeypatch):
    seen = []
    monkeypatch.setattr(
        list_models,
        'table',
        lambda *args: (seen.append(signal.getsignal(signal.SIGTERM)), number and os.kill(os.getpid(), number)),
    )
    before = {other: signal.signal(other, signal.SIG_DFL) for other in (signal.SIGTERM, signal.SIGHUP)}
    try:
        assert main(['list']) == (143 if number else 0)
        assert callable(seen[0]) and signal.getsignal(signal.SIGTERM) == signal.getsignal(signal.SIGHUP) == after
    finally:
        for other, handler in before.items():
            signal.signal(other, handler)


def test_nohup_is_heeded(raising, capsys, monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert raising(lambda: os.kill(os.getpid(), signal.SIGHUP), capsys, 'list')[0] == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_script_that_is_run_has_its_own_debug_flag(monkeypatch, tmp_path):
    seen = []
    (tmp_path / 'train.py').touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli.run, '_run', lambda *script: seen.append(script) or 0)
    assert main(['run', 'train.py', '--debug']) == main(['--debug', 'run', 'train.py', '--debug']) == 0
    assert seen == [(Path('train.py'), ('--debug',))] * 2


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='of Linux')
def test_what_cannot_be_printed_is_told(monkeypatch, capsys):
    with open('/dev/full', 'w') as full:
        monkeypatch.setattr(sys, 'stdout', full)
        assert main(['list', '--zoo', 'shapes']) == 2
        assert capsys.readouterr().err == 'videozoo: standard output: No space left on device\n'
    with open('/dev/full', 'w') as full:
        monkeypatch.setattr(sys, 'stdout', full)
        assert main(['list']) == 2  # more than is buffered
        assert capsys.readouterr().err == 'videozoo: standard output: No space left on device\n'
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, 'w') as pipe:
        monkeypatch.setattr(sys, 'stdout', pipe)
        assert main(['list']) == 0  # the reader has seen enough
    assert capsys.readouterr().err == ''


# Files that are no videos


def npy(shape='(1, 2, 2)', descr="'|b1'", data=b'\1\0\0\0'):
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b'\x93NUMPY\1\0' + len(header).to_bytes(2, 'little') + header + data


@pytest.mark.parametrize(
    'content',
    [
        b'',
        b'PK\3\4' + bytes(50),
        b'\x93NUMPY\1\0\xff\xff',
        npy(descr="'|O'"),
        npy(shape='(1, 2, 1000000000000)'),
        npy(shape='(1, 2, 2, 1)'),
        npy(shape='(1, 2, -2)'),
        npy(descr="'<f4'", data=bytes(16)),
        npy(shape='(' * 5000),
        npy(data=b'\1\0'),
        npy(data=b'\1\1\1\1'),
        npy(shape="(1, 2, 'x')"),
        b'\x80\x04cos\nsystem\n.',
    ],
    ids=lambda content: repr(content)[:30],
)
def test_masks_that_cannot_be(tmp_path, content):
    (tmp_path / 'mask.npy').write_bytes(content)
    with pytest.raises(ValueError, match='mask.npy'):
        read_mask(tmp_path / 'mask.npy', (1, 2, 2))


def test_masks(tmp_path):
    mask = np.array([[[True, False], [False, True]]])
    np.save(tmp_path / 'mask.npy', mask)
    assert torch.equal(read_mask(tmp_path / 'mask.npy', (1, 2, 2)), torch.from_numpy(mask))
    (tmp_path / 'odd.npy').write_bytes(npy(data=b'\2\0\xff\0'))
    assert read_mask(tmp_path / 'odd.npy', (1, 2, 2)).view(torch.uint8).tolist() == [[[1, 0], [1, 0]]]
    os.mkfifo(tmp_path / 'pipe.npy')
    for name, error in (('pipe.npy', ValueError), ('.', ValueError), ('nowhere.npy', FileNotFoundError)):
        with pytest.raises(error):
            read_mask(tmp_path / name, (1, 2, 2))


@pytest.mark.parametrize(
    'content',
    [
        '{"a": 1e999, "b": 1, "c": 2}',
        '{"a": NaN, "b": 1, "c": 2}',
        '{"a": 0.5, "b": 1, "c": 2}',
        '{"a": false, "b": 1, "c": 2}',
        '{"a": -1, "b": 0, "c": 1}',
        '{"a": null, "b": 1, "c": 2}',
        '{"a": [0], "b": 1, "c": 2}',
        f'{{"a": {"9" * 5000}, "b": 1, "c": 2}}',
        '{"a": "zero", "b": 1, "c": 2}',
        '{"0": null, "1": "b", "2": "c"}',
        '{"0": ["a"], "1": "b", "2": "c"}',
        '{"0": "a", "1": "a", "2": "c"}',
        '["a", null, "c"]',
        '["a", true, "c"]',
        '["a", ["b"], "c"]',
        '"abc"',
        '3',
        'null',
        '[' * 100_000,
        '{"a":' * 100_000,
        '',
        '["a", "b", "c"',
        '["a"]',
    ],
    ids=lambda content: content[:30],
)
def test_labels_that_cannot_be(tmp_path, content):
    (tmp_path / 'labels.json').write_text(content)
    with pytest.raises(ValueError, match='labels.json'):
        read_labels(tmp_path / 'labels.json', 3)


def test_labels_that_are_no_text_file(tmp_path):
    for content in ({'b': '0', 'a': 1, 'c': 2}, {'0': 'b', '1': 'a', '2': 'c'}, ['b', 'a', 'c']):
        (tmp_path / 'good.json').write_text(json.dumps(content))
        assert read_labels(tmp_path / 'good.json', 3) == ['b', 'a', 'c']
    os.mkfifo(tmp_path / 'pipe.json')
    with open(tmp_path / 'large.txt', 'wb') as file:
        file.truncate(1 << 30)
    (tmp_path / 'latin.txt').write_bytes(b'\xe9\n')
    for name, words in (('pipe.json', 'neither a file'), ('large.txt', 'larger than 16 MB'), ('latin.txt', 'utf-8')):
        with pytest.raises(ValueError, match=words):
            read_labels(tmp_path / name, 3)


def test_pictures_that_raise_cost_themselves(tmp_path, monkeypatch, capsys):
    for name in 'abc':
        Image.new('RGB', (40, 30)).save(tmp_path / f'{name}.png')
    plain = images.read_image

    def read(path):
        if path.endswith('b.png'):
            raise OverflowError('too large')
        return plain(path)

    monkeypatch.setattr(images, 'read_image', read)
    paths = [str(tmp_path / f'{name}.png') for name in 'abc']
    read_images, kept = generate_images._read(paths, 16)
    assert read_images.shape == (2, 3, 16, 16) and kept == [paths[0], paths[2]]
    files = images.ImageFiles(paths)
    assert (files.paths, files.failed, len(files[1])) == (kept, 1, 3)
    assert capsys.readouterr().err.count('b.png: OverflowError: too large') == 2
    (tmp_path / 'c.png').unlink()
    with pytest.raises(ValueError, match=r'c\.png was readable before'):
        files[1]


@pytest.mark.parametrize(
    'number, name, words',
    [
        (1, 'file', '1 file'),
        (2000, 'file', '2,000 files'),
        (0, 'stimulus', '0 stimuli'),
        (3, 'class', '3 classes'),
        (np.int64(2), 'row', '2 rows'),
        (None, 'step', 'steps'),
    ],
)
def test_things_are_counted(number, name, words):
    assert counted(number, name) == words
