"""Checkpoints as pickles: right ones are read as they are, others cost little and are refused in words."""

import argparse
import collections
import os
import pickle
import signal
import struct
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest
import torch

from videozoo_timm.weights import load_inert, pickles, read_weights


@pytest.fixture
def tight(monkeypatch):
    """Limits that are reached soon."""
    monkeypatch.setenv('VIDEOZOO_PICKLE_MEMORY', '256')
    monkeypatch.setenv('VIDEOZOO_PICKLE_SECONDS', '1')


# Pieces of pickles, as bytes.


def text(value):
    return b'X' + struct.pack('<I', len(value)) + value.encode()


def number(value):
    data = value.to_bytes(value.bit_length() // 8 + 1, 'little', signed=True)
    return b'\x8a' + bytes([len(data)]) + data


def named(module, name):
    return f'c{module}\n{name}\n'.encode()


def tuple_of(*parts):
    return b'(' + b''.join(parts) + b't'


def dict_of(**items):
    return b'}(' + b''.join(text(k) + v for k, v in items.items()) + b'u'


def tensor(kind='FloatStorage', numel=4, offset=0, size=(4,), stride=(1,), key='0', old=False, name=None):
    stored = tuple_of(
        name or text('storage'), named('torch', kind), text(key), text('cpu'), number(numel), *([b'N'] if old else [])
    )
    return (
        named('torch._utils', '_rebuild_tensor_v2')
        + tuple_of(
            stored + b'Q',
            number(offset),
            tuple_of(*map(number, size)),
            tuple_of(*map(number, stride)),
            b'\x89',
            named('collections', 'OrderedDict') + b')R',
        )
        + b'R'
    )


def archive(program, values=bytes(16), order=b'little', compression=zipfile.ZIP_STORED, **more):
    """Write `x.pth` in the zip format, its pickle being `program`."""
    with zipfile.ZipFile('x.pth', 'w', compression) as file:
        file.writestr('x/data.pkl', b'\x80\x02' + program + b'.')
        file.writestr('x/byteorder', order)
        for name, data in dict({'0': values}, **more).items():
            file.writestr(f'x/data/{name}', data)
    return Path('x.pth')


def sequence(program, listed=(), values=b'', little=True):
    """Write `x.pth` in the format before PyTorch 1.6."""
    system = dict(protocol_version=1001, little_endian=little, type_sizes={})
    parts = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, system)]
    Path('x.pth').write_bytes(b''.join(parts) + b'\x80\x02' + program + b'.' + pickle.dumps(list(listed), 2) + values)
    return Path('x.pth')


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize('mapped', [True, False])
@pytest.mark.parametrize('zipped', [True, False])
def test_what_is_saved_is_read_as_it_is(zipped, mapped):
    x = torch.arange(24.0).reshape(2, 3, 4)
    tensors = {
        'whole': x,
        'turned': x.permute(2, 0, 1),
        'part': x[1:, ::2],
        'number': torch.tensor(3.0),
        'empty': x[:0],
        'spread': x[0, 0, :1].expand(4),
        'parameter': torch.nn.Parameter(x),
    }
    for dtype in (
        'bool',
        'uint8',
        'int8',
        'int16',
        'uint16',
        'int32',
        'uint32',
        'int64',
        'uint64',
        'float16',
        'bfloat16',
        'float32',
        'float64',
        'complex64',
        'float8_e4m3fn',
        'float8_e5m2',
    ):
        tensors[dtype] = torch.ones(5).to(getattr(torch, dtype))
    attributed = torch.zeros(2)
    attributed.note = 'mine'
    ordered = torch.nn.Linear(2, 2).state_dict()  # an OrderedDict with an attribute
    checkpoint = {
        'model': tensors,
        'ordered': ordered,
        'attributed': attributed,
        'epoch': 7,
        'loss': float('inf'),
        'args': argparse.Namespace(lr=1e-4, betas=(0.9, 0.95), nested={'a': [None, True]}, dtype=torch.float32),
        'counts': collections.defaultdict(list, a=[1]),
        'callback': {'EarlyStopping': pytest.Item},
        3: 'three',
    }
    checkpoint['itself'] = checkpoint
    torch.save(checkpoint, 'x.pth', _use_new_zipfile_serialization=zipped)
    read = load_inert(Path('x.pth'), mapped)
    assert read['model'].keys() == tensors.keys()
    for key, value in tensors.items():
        ours = read['model'][key]
        assert ours.dtype == value.dtype and ours.shape == value.shape, key
        assert ours.contiguous().view(-1).tolist() == value.contiguous().view(-1).tolist(), key
    assert all(torch.equal(read['ordered'][k], v) for k, v in ordered.items())
    assert torch.equal(read['attributed'], attributed)
    assert read['epoch'] == 7 and read['loss'] == float('inf') and read[3] == 'three' and read['itself'] is read
    assert read['args'].name == 'argparse.Namespace' and read['args'].state['dtype'].name == 'torch.float32'
    assert {k: v for k, v in read['args'].state.items() if k != 'dtype'} == dict(
        lr=1e-4, betas=[0.9, 0.95], nested={'a': [None, True]}
    )
    assert read['counts'].state == {'a': [1]} and isinstance(read['callback']['EarlyStopping'], pickles.Inert)
    # What is shared stays shared, what is not stays apart, and the file stays as it is.
    before = Path('x.pth').read_bytes()
    read['model']['whole'].zero_()
    assert read['model']['turned'].sum() == 0 and read['model']['float32'].sum() == 5
    assert read['model']['float32'].untyped_storage().nbytes() == 20 and Path('x.pth').read_bytes() == before


@pytest.mark.parametrize(
    'program',
    [
        dict_of(
            model=named('collections', 'OrderedDict')
            + b']('
            + tuple_of(text('x'), tensor())
            + b'e\x85R'
            + dict_of(values=named('a', 'b'))
            + b'b'
        ),
        dict_of(
            model=dict_of(
                x=named('torch._utils', '_rebuild_parameter_with_state')
                + tuple_of(tensor(), b'\x89', b'}', dict_of(untyped_storage=named('a', 'b') + b')R'))
                + b'R'
            )
        ),
        dict_of(model=dict_of(x=tensor()), beside=tensor('QInt8Storage')),
        dict_of(model=dict_of(x=tensor()), beside=b']q\x01h\x01a'),
        dict_of(
            beside=b']q\x00' + b''.join(b'0](' + bytes([104, i]) * 9 + b'eq' + bytes([i + 1]) for i in range(60)),
            model=dict_of(x=tensor()),
        ),
        dict_of(beside=b']' * 20_000 + b'a' * 19_999, model=dict_of(x=tensor())),
        dict_of(beside=b'\x8b' + struct.pack('<i', 100_000) + b'\x7f' * 100_000, model=dict_of(x=tensor())),
    ],
    ids=[
        'values of an OrderedDict',
        'an attribute of a Parameter',
        'quantized beside the model',
        'itself in itself',
        'a billion laughs',
        'deep lists',
        'a long number',
    ],
)
def test_odd_but_right_ones_are_read(tight, program):
    values = torch.arange(4.0)
    read = read_weights(archive(program, values.numpy().tobytes())).tensors
    assert list(read) == ['x'] and torch.equal(read['x'], values)


def laughing(levels=40):
    return b')' + (b'q\x010(' + b'h\x01' * 10 + b't') * levels


@pytest.mark.parametrize(
    'write, program, words',
    [
        (archive, b'}' + laughing() + b'Ns', 'more than 1 s .*VIDEOZOO_PICKLE_SECONDS'),
        (sequence, b'}(' + b''.join(number(k * (2**61 - 1)) + b'N' for k in range(1, 30_000)) + b'u', 'PICKLE_SECONDS'),
        (archive, b'})' + b'\x85' * 1_000_000 + b'Ns', 'nested too deeply'),
        (sequence, b'})' + b'\x85' * 1_000_000 + b'Ns', 'nested too deeply'),
        (archive, b'Nr' + struct.pack('<I', 0x07FFFFFF), 'VIDEOZOO_PICKLE_MEMORY'),
        (sequence, b'Nr' + struct.pack('<I', 0x07FFFFFF), 'VIDEOZOO_PICKLE_MEMORY'),
        (archive, b'(' + b'N' * 1_500_000 + b'l', 'VIDEOZOO_PICKLE_MEMORY'),
        (archive, b'\x8e' + struct.pack('<Q', 2**40), 'another kind of file|VIDEOZOO_PICKLE_MEMORY'),
        (sequence, b'\x96' + struct.pack('<Q', 2**62), 'another kind of file|VIDEOZOO_PICKLE_MEMORY'),
        (archive, b'\x82\x01', 'another kind of file'),
        (sequence, b'N' + text('x') + b'R', 'another kind of file'),
    ],
    ids=[
        'laughing key',
        'keys that collide',
        'deep key',
        'deep key, old format',
        'memo',
        'memo, old format',
        'much of nothing',
        'text of a terabyte',
        'bytes of more',
        'an extension code',
        'what cannot be called',
    ],
)
def test_a_small_pickle_costs_little(tight, write, program, words):
    path, start = write(program), time.process_time()
    with pytest.raises(ValueError, match=f'x.pth is no readable PyTorch checkpoint.*({words})'):
        read_weights(path)
    assert time.process_time() - start < 3  # of this process; that of the other is limited


def test_archives_that_unpack_to_much_are_refused(tight):
    with zipfile.ZipFile('x.pth', 'w', zipfile.ZIP_DEFLATED) as file, file.open('x/data.pkl', 'w') as record:
        for _ in range(100):
            record.write(bytes(1 << 20))
    with pytest.raises(ValueError, match='VIDEOZOO_PICKLE_MEMORY'):
        read_weights(Path('x.pth'))
    numel = 20 << 20
    path = archive(
        dict_of(model=dict_of(x=tensor(numel=numel, size=(numel,)))), bytes(4 * numel), compression=zipfile.ZIP_DEFLATED
    )
    with pytest.raises(ValueError, match='84 MB of tensors are compressed to 0.1 MB, more than 20 to 1'):
        read_weights(path)


MODEL, OLD = (dict_of(model=dict_of(x=tensor(old=old))) for old in (False, True))


@pytest.mark.parametrize(
    'path, words',
    [
        (lambda: sequence(OLD), "lacks the values of storage '0'"),
        (lambda: sequence(OLD, ['0'], bytes(8)), "'0' is longer than the file"),
        (lambda: sequence(OLD, ['0', '1'], bytes(50)), 'list of storages is damaged'),
        (lambda: sequence(MODEL, ['0'], bytes(24), little=False), "'big'-endian"),
        (lambda: archive(MODEL, order=b'big'), "'big'-endian"),
        (lambda: archive(dict_of(model=dict_of(x=tensor(key='1')))), "lacks the values of storage '1'"),
        (lambda: archive(dict_of(model=dict_of(x=tensor(numel=5)))), 'to have 20 bytes, 16 are stored'),
        (lambda: archive(dict_of(model=dict_of(x=tensor(numel=2**62)))), 'a size that no storage has'),
        (lambda: archive(dict_of(model=dict_of(x=tensor(offset=1)))), 'outside of its storage of 16 bytes'),
        (lambda: archive(dict_of(model=dict_of(x=tensor(size=(2**40, 0, 2**40))))), 'sizes or strides'),
        (lambda: archive(dict_of(model=dict_of(x=tensor(size=(2**62, 2), stride=(0, 0))))), 'sizes or strides'),
        (lambda: archive(dict_of(model=dict_of(x=tensor(stride=(-1,), offset=3)))), 'sizes or strides'),
        (lambda: archive(dict_of(model=dict_of(x=tensor(size=(2**63,))))), 'sizes or strides'),
        (lambda: archive(dict_of(model=dict_of(x=tensor(size=(1,) * 100, stride=(1,) * 100)))), 'sizes or strides'),
        (
            lambda: archive(
                dict_of(model=dict_of(x=tensor(size=(100_000,) * 3, stride=(1,) * 3, numel=300_000))), bytes(1_200_000)
            ),
            "'x'.*is larger than what is stored",
        ),
        (lambda: archive(dict_of(model=dict_of(**{f'{i}': tensor() for i in range(17)}))), 'lie upon each other'),
        (
            lambda: archive(dict_of(model=dict_of(a=tensor(), x=tensor('QInt8Storage')))),
            "'x' .* no tensor but torch.qint8",
        ),
        (
            lambda: archive(dict_of(model=dict_of(a=tensor(), x=tensor('NoStorage')))),
            "'x' .* no tensor but torch.NoStor",
        ),
        (lambda: archive(dict_of(model=dict_of(x=tensor(name=text('else'))))), 'something that is no storage'),
        (lambda: archive(number(7) + b'Q'), 'something that is no storage'),
        (
            lambda: archive(dict_of(model=dict_of(a=tensor(), x=named('o\x1b[2Js', 'x')))),
            r'no tensor but o\\x1b\[2Js\.x',
        ),
        (lambda: archive(MODEL, compression=zipfile.ZIP_BZIP2), 'compressed by method 12'),
        (lambda: edited(archive(MODEL), b'PK\1\2', 8, b'\1'), 'is encrypted'),
        (lambda: edited(archive(MODEL), b'PK\1\2', 20, b'\xff\xff\xff\x7f' * 2), 'longer than the file'),
        (lambda: edited(archive(MODEL, **{'1': b'other'}), b'x/data/1', 0, b'x/data/0', every=True), 'twice'),
        (lambda: overlapping(), 'lie upon each other'),
        (lambda: prefixed(archive(MODEL)), 'something was put before|another kind of file'),
        (lambda: tar(), 'a tar archive'),
        (lambda: archive(MODEL, **{'../constants.pkl': b''}), 'TorchScript'),
    ],
)
def test_what_the_file_does_not_hold_is_refused(path, words):
    with pytest.raises(ValueError, match=f'x.pth.*{words}'):
        read_weights(path())


def edited(path, mark, offset, new, every=False):
    data = bytearray(path.read_bytes())
    at = data.find(mark)
    while at >= 0:
        data[at + offset : at + offset + len(new)] = new
        at = data.find(mark, at + 1) if every else -1
    path.write_bytes(data)
    return path


def overlapping():
    """Two entries of the table of contents for the same bytes."""
    model = dict_of(x=tensor(), y=tensor(key='1'))
    path = archive(dict_of(model=model), **{'1': bytes(16)})
    data = path.read_bytes()
    first, second = (data.rindex(f'x/data/{key}'.encode()) - 4 for key in '01')  # where entries say the place
    return edited(path, data[second : second + 12], 0, data[first : first + 4])


def prefixed(path):
    path.write_bytes(b'PK\3\4' + path.read_bytes())
    return path


def tar():
    Path('x.pth').write_bytes(bytes(257) + b'ustar' + bytes(1000))
    return Path('x.pth')


def test_compressed_records_are_read_right():
    values = torch.arange(100_000.0)
    read = read_weights(
        archive(
            dict_of(model=dict_of(x=tensor(numel=100_000, size=(100_000,)))),
            values.numpy().tobytes(),
            compression=zipfile.ZIP_DEFLATED,
        )
    ).tensors
    assert torch.equal(read['x'], values)


@pytest.mark.parametrize(
    'variable, value',
    [('VIDEOZOO_PICKLE_MEMORY', 'much'), ('VIDEOZOO_PICKLE_SECONDS', '0'), ('VIDEOZOO_PICKLE_SECONDS', '-1')],
)
def test_limits_are_numbers(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=f"{variable}='{value}': must be a whole number above 0"):
        load_inert(archive(MODEL))


def test_limits_can_be_raised(monkeypatch):
    path = archive(dict_of(beside=b'(' + b'N' * 500_000 + b'l', model=dict_of(x=tensor())))
    monkeypatch.setenv('VIDEOZOO_PICKLE_MEMORY', '100')
    with pytest.raises(ValueError, match='VIDEOZOO_PICKLE_MEMORY'):
        load_inert(path)
    monkeypatch.setenv('VIDEOZOO_PICKLE_MEMORY', '1000')
    assert len(load_inert(path)['beside']) == 500_000


def test_the_reader_imports_nothing_from_the_current_folder(monkeypatch):
    for name in ('pickle.py', 'zipfile.py', 'json.py', 'sitecustomize.py', 'struct.py'):
        Path(name).write_text('open("executed", "w")')
    monkeypatch.setenv('PYTHONPATH', '.')
    assert torch.equal(read_weights(archive(MODEL)).tensors['x'], torch.zeros(4))
    assert not Path('executed').exists()


@pytest.mark.parametrize('program', ['', '/nowhere/python'])
def test_without_a_process_the_reason_is_told(monkeypatch, program):
    monkeypatch.setattr(sys, 'executable', program)
    with pytest.raises(OSError, match='sys.executable is empty|/nowhere/python cannot be started'):
        load_inert(archive(MODEL))


@pytest.mark.parametrize(
    'reader, error, words',
    [
        ('import time; time.sleep(600)', ValueError, 'VIDEOZOO_PICKLE_SECONDS'),
        ('import os; os.abort()', ValueError, 'SIGABRT'),
        ('print("{")', OSError, 'ended with exit code 0'),
        ('raise SystemExit(3)', OSError, 'ended with exit code 3'),
    ],
)
def test_a_reader_that_fails_is_an_error(monkeypatch, reader, error, words):
    Path('reader.py').write_text(reader)
    monkeypatch.setattr(pickles, '_CHILD', Path('reader.py').resolve())
    monkeypatch.setattr(pickles, 'PATIENCE', 0.3 if 'sleep' in reader else 120)
    start = time.monotonic()
    with pytest.raises(error, match=words):
        load_inert(archive(MODEL))
    assert time.monotonic() - start < 120


def test_the_reader_ends_with_an_interrupted_call(monkeypatch):
    Path('reader.py').write_text('import os, time; open("pid", "w").write(f"{os.getpid()} "); time.sleep(600)')
    monkeypatch.setattr(pickles, '_CHILD', Path('reader.py').resolve())

    def interrupt():
        while not Path('pid').exists() or ' ' not in Path('pid').read_text():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    path = archive(MODEL)
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        load_inert(path)
    with pytest.raises(ProcessLookupError):
        os.kill(int(Path('pid').read_text()), 0)


def test_mapped_tensors_are_not_read(monkeypatch):
    torch.save({'model': {'x': torch.arange(1000.0), 'y': torch.ones(3, dtype=torch.int8)}}, 'x.pth')
    monkeypatch.setattr(pickles._Table, '_read', None)
    assert torch.equal(read_weights(Path('x.pth'), mapped=True).tensors['x'], torch.arange(1000.0))


@pytest.mark.parametrize(
    'lines',
    [
        [['storage', -1, 16, 0, 16], ['tensor', 'float32', 0, 0, [4], [1]]],
        [['storage', 0, 1 << 40, 0, 1 << 40], ['tensor', 'float32', 0, 0, [4], [1]]],
        [['storage', 0, 16, 0, 1 << 40], ['tensor', 'float32', 0, 0, [4], [1]]],
        [['storage', 0, 16, 0, 16], ['tensor', 'float32', 0, 2, [4], [1]]],
        [['storage', 0, 16, 0, 16], ['tensor', 'float32', 0, -1, [4], [1]]],
    ],
)
def test_what_the_reader_says_is_checked_again(monkeypatch, lines):
    Path('reader.py').write_text(f'import json\nfor line in {lines!r}: print(json.dumps(line))')
    monkeypatch.setattr(pickles, '_CHILD', Path('reader.py').resolve())
    with pytest.raises((ValueError, OSError)) as error:
        load_inert(archive(MODEL))
    assert 'outside' in str(error.value) or 'longer' in str(error.value) or 'sizes' in str(error.value)


def test_text_that_is_referred_to_many_times_costs_little(tmp_path, monkeypatch):
    """A thousand bytes that would be gigabytes where each reference is told."""
    text = b'X' + struct.pack('<I', 1 << 20) + b'x' * (1 << 20) + b'q\x00' + b'0'
    body = b'\x80\x02}X\x05\x00\x00\x00model(' + text + (b'(' + b'h\x00' * 8 + b'l') * 100 + b'ls.'
    with zipfile.ZipFile(tmp_path / 'x.pth', 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, content in (('data.pkl', body), ('version', b'3'), ('byteorder', b'little')):
            archive.writestr(f'x/{name}', content)
    assert (tmp_path / 'x.pth').stat().st_size < 5000
    with pytest.raises(ValueError, match='to unpickle'):
        load_inert(tmp_path / 'x.pth')


def test_a_shape_that_overflows_before_its_zero_is_refused(tmp_path):
    path = tmp_path / 'x.pth'
    torch.save({'model': {'x': torch.empty(5, 7, 0)}}, path)
    sizes = (5).to_bytes(1, 'little'), (7).to_bytes(1, 'little')
    data = path.read_bytes()
    assert load_inert(path)['model']['x'].shape == (5, 7, 0)
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    pickled = next(name for name in records if name.endswith('data.pkl'))
    huge = b'\x8a\x08' + (1 << 62).to_bytes(8, 'little')
    records[pickled] = records[pickled].replace(b'K' + sizes[0] + b'K' + sizes[1], huge + huge)
    with zipfile.ZipFile(path, 'w') as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    assert path.read_bytes() != data
    with pytest.raises(ValueError, match='x.pth'):
        load_inert(path)
