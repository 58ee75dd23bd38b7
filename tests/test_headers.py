"""What files say of themselves is checked, and shown without control characters."""

import json
import os
import socket
import struct
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

import videozoo_timm
from videozoo_timm.cli import main
from videozoo_timm.factory import load_file
from videozoo_timm.files import check_regular
from videozoo_timm.text import printable
from videozoo_timm.weights import load_inert, read_header, read_weights

SHIPPED = Path(videozoo_timm.__file__).parent / 'data' / 'vit_shapes_motion.safetensors'


def told(path, **fields):
    """The shipped model with other words in its header; None leaves a field out."""
    raw = SHIPPED.read_bytes()
    size = int.from_bytes(raw[:8], 'little')
    header = json.loads(raw[8 : 8 + size])
    fields = {k: v for k, v in {**header['__metadata__'], 'name': None, 'zoo': None, **fields}.items() if v is not None}
    text = json.dumps({**header, '__metadata__': fields}).encode()
    path.write_bytes(struct.pack('<Q', len(text)) + text + raw[8 + size :])
    return path


@pytest.mark.parametrize(
    'field, value',
    [
        ('label_names', 'null'),
        ('label_names', '5'),
        ('label_names', '[1, 2]'),
        ('label_names', '{"a": 1}'),
        ('label_names', 'left'),
        ('label_names', '[' * 100_000),
        ('label_names', json.dumps(['x' * 5000])),
        ('input_size', 'null'),
        ('input_size', '["a","b","c"]'),
        ('input_size', '[3,null,null]'),
        ('input_size', '[3,112,112,1,1]'),
        ('input_size', '[3,112.0,112.0]'),
        ('input_size', '[3,true,112]'),
        ('input_size', '[3,-112,-112]'),
        ('input_size', '[3,0,0]'),
        ('input_size', '[3,1000000000,1000000000]'),
        ('mean', '[]'),
        ('mean', '[{},{},{}]'),
        ('mean', '["0.5"]'),
        ('mean', '[1e999]'),
        ('mean', '[' + '9' * 400 + ']'),
        ('mean', json.dumps('0.5')),
        ('std', '5'),
        ('std', '[0,0,0]'),
        ('std', '[NaN,NaN,NaN]'),
        ('std', '[-1,1,1]'),
        ('std', '[1e-300]'),
        ('std', '[Infinity]'),
        ('std', '[true]'),
        ('interpolation', 'magic'),
        ('interpolation', ''),
        ('name', 'x' * 5000),
        ('architecture', 'x' * 5000),
        ('source', 'x' * 5000),
    ],
)
def test_a_field_that_is_not_what_it_must_be_is_refused_in_words(tmp_path, field, value):
    path = told(tmp_path / 'x.safetensors', **{field: value})
    for read in (read_header, read_weights, load_file):
        with pytest.raises(ValueError, match=f'x.safetensors: .* invalid: {field} is .*, must be ') as error:
            read(path)
        assert printable(value, 80) in str(error.value) and len(str(error.value)) < 600


def test_what_is_right_is_believed(tmp_path):
    fields = dict(
        mean='[0.5]',
        std='[1, 0.5, 2]',
        label_names='["a", "\\u001b[2J", "c", "d", "e", "f", "g", "h"]',
        interpolation='bicubic',
        other='[',
    )
    header = read_header(told(tmp_path / 'x.safetensors', **fields))
    assert header['mean'] == (0.5,) and header['std'] == (1, 0.5, 2) and header['label_names'][1] == '\x1b[2J'
    assert header['input_size'] == (3, 112, 112) and header['other'] == '['


@pytest.mark.parametrize(
    'architecture', ['vit_t16_im', 'vit_s16_im', 'resnext50_im', 'mae_t14_st', 'vit_h14_st', 'gpt', '../x']
)
def test_a_claim_to_be_another_model_is_refused(tmp_path, architecture):
    with pytest.raises(ValueError, match='is no|does not fit|no model|no classification head'):
        load_file(told(tmp_path / 'x.safetensors', architecture=architecture))


@pytest.mark.parametrize(
    'shapes',
    [
        {'head.weight': (), 'patch_embed.proj.weight': (8, 3, 2, 14, 14)},
        {'patch_embed.proj.weight': (8, 3, 2, 14, 0)},
        {'patch_embed.proj.weight': ()},
        {'patch_embed.proj.weight': (8, 3, 2, 14, 14), 'pos_embed_temporal': (), 'pos_embed_spatial': (9,)},
        {
            'patch_embed.proj.weight': (8, 3, 2, 14, 14),
            'pos_embed_spatial': (1, 64, 8),
            'pos_embed_temporal': (1, 10**9, 0),
        },
    ],
)
@pytest.mark.parametrize('architecture', ['vit_t14_st', 'vit_t16_im'])
def test_tensors_of_other_ranks_are_refused(tmp_path, shapes, architecture):
    path = tmp_path / 'x.safetensors'
    save_file({k: torch.zeros(shape) for k, shape in shapes.items()}, path, metadata=dict(architecture=architecture))
    with pytest.raises(ValueError, match='x.safetensors'):
        load_file(path)


@pytest.mark.parametrize(
    'fields',
    [
        dict(std=[0, 0, 0]),
        dict(std=[float('nan')] * 3),
        dict(mean=[]),
        dict(mean='0.5'),
        dict(input_size=[3, '112', 112]),
        dict(interpolation='magic'),
        dict(crop_pct=0),
        dict(num_classes=-1),
    ],
)
def test_a_configuration_is_checked_too(tmp_path, fields):
    timm.create_model('vit_t14_st').eval()
    model = dict(architecture='vit_t14_st', pretrained_cfg=dict(tag='', **fields))
    (tmp_path / 'config.json').write_text(json.dumps(model))
    told(tmp_path / 'model.safetensors')
    with pytest.raises(ValueError, match=f'invalid: {next(iter(fields))} is .*, must be '):
        timm.create_model(f'local-dir:{tmp_path}', pretrained=True)


@pytest.mark.parametrize('mapped', [True, False])
def test_every_dtype_of_safetensors_is_read(tmp_path, mapped):
    for name, size in dict(F8_E4M3=1, F8_E5M2=1, U16=2, U32=4, U64=8, BF16=2, BOOL=1, C64=8, F64=8).items():
        entry = json.dumps({'x': dict(dtype=name, shape=[2], data_offsets=[0, 2 * size])}).encode()
        path = tmp_path / f'{name}.safetensors'
        path.write_bytes(struct.pack('<Q', len(entry)) + entry + bytes(2 * size))
        assert read_weights(path, mapped).tensors['x'].nbytes == 2 * size, name
    if mapped:
        return
    entry = json.dumps({'x': dict(dtype='F4', shape=[2], data_offsets=[0, 1])}).encode()
    path.write_bytes(struct.pack('<Q', len(entry)) + entry + bytes(1))
    with pytest.raises(ValueError, match='F64.safetensors'):
        read_weights(path, mapped)


def test_a_header_of_many_megabytes_is_refused(tmp_path):
    path = tmp_path / 'x.safetensors'
    text = json.dumps({'__metadata__': {'x': 'x' * (17 << 20)}}).encode()
    path.write_bytes(struct.pack('<Q', len(text)) + text)
    with pytest.raises(ValueError, match='its header has 18 MB, more than the 17 MB allowed'):
        read_header(path)


@pytest.mark.parametrize('kind', ['FIFO', 'link to a FIFO', 'socket', 'device', 'folder'])
def test_what_is_no_file_is_not_opened(tmp_path, monkeypatch, capsys, kind):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    path = Path('x.pth')
    if 'FIFO' in kind:
        os.mkfifo('fifo')
        path.symlink_to('fifo')
    elif kind == 'socket':
        socket.socket(socket.AF_UNIX).bind(str(path))
    elif kind == 'device':
        path.symlink_to('/dev/zero')
    else:
        path.mkdir()
    for read in (check_regular, read_header, load_inert):
        with pytest.raises(ValueError, match=f'x.pth is a {kind.split()[-1]}, not a file'):
            read(path)
    if kind != 'folder':
        assert main(['info', '--weights', str(path)]) == 2
        assert f'x.pth is a {kind.split()[-1]}, not a file' in capsys.readouterr().err


def test_text_is_shown_without_what_steers_a_terminal(tmp_path, capsys):
    assert printable('a\x1b[2J\x9b1m\r\n\u202egnp\ud800\x00b') == r'a\x1b[2J\x9b1m\r\n\u202egnp\ud800\x00b'
    assert printable('a\nb\t', lines=True) == 'a\nb\\t'
    for text in ('Müller', 'e\u0301', '漢字', '👩\u200d🔬', 'می\u200cخواهم', ''):
        assert printable(text) == text
    assert printable('x' * 1000, 30) == 'x' * 20 + '...' + 'x' * 10 and printable(None) == 'None'
    path = told(tmp_path / 'x.safetensors', source='\x1b]0;title\x07\u202ecod', source_sha256='\x9b2J')
    assert main(['info', '--weights', str(path)]) == 0
    shown = capsys.readouterr().out
    assert r'\x1b]0;title\x07\u202ecod' in shown and not set(shown) & set('\x1b\x07\u202e\x9b')
    save_file({'\x1b[2Jx': torch.zeros(1)}, path, metadata=dict(architecture='vit_t14_st'))
    assert main(['embed', 'drawn:1@1', '--weights', str(path), '--out', str(tmp_path / 'x.npz')]) == 2
    shown = capsys.readouterr().err
    assert r'\x1b[2Jx' in shown and '\x1b' not in shown
    assert main(['info', '--weights', str(tmp_path / 'no\x1b[2J.pth')]) == 2
    shown = capsys.readouterr().err
    assert r'no\x1b[2J.pth' in shown and '\x1b' not in shown
