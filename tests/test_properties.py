"""What holds for any header, any plain pickle and any text that hypothesis comes up with."""

import json
import math
import pickle
import unicodedata
import zipfile

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from videozoo_timm.synthetic import drawn_videos
from videozoo_timm.text import printable
from videozoo_timm.weights import load_inert, read_header

EXAMPLES = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
FEW = settings(EXAMPLES, max_examples=15)  # each starts a process

numbers = st.integers(-(2**70), 2**70) | st.floats()
plain = st.none() | st.booleans() | numbers | st.text(max_size=8)
values = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@EXAMPLES
@given(
    field=st.sampled_from(['name', 'zoo', 'architecture', 'input_size', 'mean', 'std', 'interpolation', 'label_names']),
    value=values,
)
def test_a_header_is_refused_or_right(tmp_path, field, value):
    path = tmp_path / 'x.safetensors'
    save_file({'x': torch.zeros(1)}, path, metadata={field: value if isinstance(value, str) else json.dumps(value)})
    try:
        told = read_header(path)
    except ValueError as error:
        assert field in str(error) and 'x.safetensors' in str(error)
        return
    assert set(told) <= {field}
    if field in told and field in ('mean', 'std'):
        assert len(told[field]) in (1, 3) and all(math.isfinite(number) for number in told[field])
        assert field == 'mean' or all(number > 0 for number in told[field])
    if field in told and field == 'input_size':
        assert len(told[field]) == 3 and all(isinstance(side, int) and side > 0 for side in told[field])
    if field in told and field == 'label_names':
        assert all(isinstance(name, str) for name in told[field])


@FEW
@given(
    values=st.dictionaries(
        st.text(max_size=5),
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=8),
        max_size=4,
    ),
    shape=st.lists(st.integers(1, 3), max_size=4),
)
def test_what_is_plain_in_a_checkpoint_comes_back(tmp_path, values, shape):
    tensor = torch.arange(float(math.prod(shape))).reshape(shape)
    torch.save({'model': {'x': tensor}, 'values': values}, tmp_path / 'x.pth')
    held = load_inert(tmp_path / 'x.pth')
    assert torch.equal(held['model']['x'], tensor) and held['model']['x'].dtype == tensor.dtype
    assert held['values'] == values


@FEW
@given(data=st.binary(max_size=60), protocol=st.sampled_from([b'', b'\x80\x02', b'\x80\x04']))
def test_any_bytes_as_a_pickle_are_refused_or_inert(tmp_path, data, protocol):
    path = tmp_path / 'x.pth'
    with zipfile.ZipFile(path, 'w') as archive:
        for name, content in (('data.pkl', protocol + data + b'.'), ('version', b'3'), ('byteorder', b'little')):
            archive.writestr(f'x/{name}', content)
    try:
        held = load_inert(path)
    except ValueError as error:
        assert 'x.pth' in str(error)
        return
    assert type(held).__module__ in ('builtins', 'videozoo_timm.weights.pickles')


@EXAMPLES
@given(st.text(st.characters(), max_size=40))
def test_text_of_strangers_moves_no_cursor(text):
    told = printable(text)
    assert not any(unicodedata.category(c) in ('Cc', 'Cs', 'Zl', 'Zp') for c in told)  # steers a terminal
    turns = ('LRE', 'RLE', 'LRO', 'RLO', 'PDF', 'LRI', 'RLI', 'FSI')
    assert not any(unicodedata.bidirectional(c) in turns for c in told)
    assert told == printable(told)
    if text.isprintable():
        assert told == text


@EXAMPLES
@given(st.integers(1, 30), st.integers(0, 10**18 - 1))
def test_names_of_scenes_are_as_many_as_asked_for(count, seed):
    names = list(map(str, drawn_videos(f'drawn:{count}@{seed}')))
    assert len(names) == len(set(names)) == count
    assert names == list(map(str, drawn_videos(f'drawn:{count}@{seed}')))


def test_a_pickle_of_a_program_is_no_plain_pickle(tmp_path):
    """The properties above would not hold of pickle itself."""

    class Program:
        def __reduce__(self):
            return eval, ('1 + 1',)

    torch.save({'model': {'x': torch.zeros(1)}, 'values': Program()}, tmp_path / 'x.pth')
    assert pickle.loads(pickle.dumps(Program())) == 2
    assert load_inert(tmp_path / 'x.pth')['values'] != 2
