"""The program that unpickles: PyTorch's checkpoint on standard input -> a table of what it holds, on standard output.

It runs in a process of its own, `python -I -S pickle_child.py MEGABYTES SECONDS`, without PyTorch and with limits of
memory and time, since a small pickle can be made to take any of both. Nothing that a pickle names is imported or
called: tensors become rows of numbers that say where in the file they are, all else inert placeholders.

The answer is lines of JSON: `{"error": words}` alone, `{"limit": "memory"}` alone, or

    ["storage", start, length, method, nbytes]          bytes in the file, zip's compression method, bytes unpacked
    ["tensor", dtype, storage, offset, shape, stride]   offset and stride in elements; storages are counted from 0
    ["dict", key, value, key, value, ...]               a value is a scalar, or `[n]`: the n-th line but storages
    ["list", value, ...]                                of tuples and sets too
    ["inert", name, state]                              what is no tensor: what it was, and what it was given

The objects' first line is the checkpoint itself. No object stands there twice, so that what refers to one thing many
times costs no more than the thing.
"""

import io
import json
import os
import pickle
import signal
import struct
import sys
import zipfile
import zlib

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of the format before PyTorch 1.6
_TYPED = {  # storages by name: dtype, bytes an element; the quantized ones are known so that they can be skipped
    'DoubleStorage': ('float64', 8),
    'FloatStorage': ('float32', 4),
    'HalfStorage': ('float16', 2),
    'BFloat16Storage': ('bfloat16', 2),
    'LongStorage': ('int64', 8),
    'IntStorage': ('int32', 4),
    'ShortStorage': ('int16', 2),
    'CharStorage': ('int8', 1),
    'ByteStorage': ('uint8', 1),
    'BoolStorage': ('bool', 1),
    'ComplexFloatStorage': ('complex64', 8),
    'ComplexDoubleStorage': ('complex128', 16),
    'QInt8Storage': ('qint8', 1),
    'QUInt8Storage': ('quint8', 1),
    'QInt32Storage': ('qint32', 4),
    'QUInt4x2Storage': ('quint4x2', 1),
    'QUInt2x4Storage': ('quint2x4', 1),
}
_LOCAL_HEADER = struct.Struct('<4s22xHH')  # signature, lengths of the name and of the extra field


class Refused(Exception):
    """Why a file is not read, in words."""


class TooLarge(Exception):
    """More than the limit of memory would hold by the time that it is handed over."""


class Placeholder:
    """What a pickle names that is no tensor. Accepts whatever a pickle does to an object, and does nothing."""

    called = ''
    state = items = None

    def __new__(cls, *args, **kwargs):
        return object.__new__(cls)

    def __init__(self, *args, **kwargs):
        pass

    def __call__(self, *args, **kwargs):
        return self

    def __setstate__(self, *state):
        if state:
            self.state = state[0]

    def __setitem__(self, key, value):
        self.items = {} if self.items is None else self.items
        self.items[key] = value

    def ignore(self, *args, **kwargs):
        pass

    append = extend = add = update = ignore


class Dict(dict):
    """An OrderedDict, which a pickle may give attributes (as PyTorch does: `_metadata`)."""

    def __setstate__(self, *state):
        pass


class Storage:
    def __init__(self, name, key, dtype, shift):
        self.name, self.key, self.dtype, self.shift = name, key, dtype, shift  # shift in elements: a view's begin


class Tensor:
    def __init__(self, *row):
        self.row = row


class Builder:
    """A function of PyTorch's that rebuilds tensors."""

    __slots__ = ('build',)

    def __init__(self, build):
        self.build = build

    def __call__(self, *args):
        return self.build(*args)

    def __setstate__(self, *state):
        pass


def named(name):
    return type('Placeholder', (Placeholder,), {'called': name})


def rebuild_tensor(storage, offset, size, stride, requires_grad=False, hooks=None, metadata=None):
    return rebuild_typed(storage, offset, size, stride, requires_grad, hooks, None, metadata)


def rebuild_typed(storage, offset, size, stride, requires_grad, hooks, dtype, metadata=None):
    if not isinstance(storage, Storage):  # one that is not supported
        return storage
    if metadata:
        return named('a tensor that is to be conjugated or negated')
    dtype = storage.dtype if dtype is None else getattr(dtype, 'called', '')[len('torch.') :]
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or len(size) > 64 or not all(type(n) is int and 0 <= n < 1 << 63 for n in numbers):
        raise Refused('a tensor in it has sizes or strides that no tensor has')
    return Tensor(dtype, storage.key, offset + storage.shift, list(size), list(stride))


def rebuild_subclass(build, kind, args, state):
    return build(*args) if isinstance(build, Builder) else named('torch.Tensor of another class')


BUILDERS = {
    ('torch._utils', '_rebuild_tensor'): rebuild_tensor,
    ('torch._utils', '_rebuild_tensor_v2'): rebuild_tensor,
    ('torch._utils', '_rebuild_tensor_v3'): rebuild_typed,
    ('torch._utils', '_rebuild_parameter'): lambda data, *rest: data,
    ('torch._utils', '_rebuild_parameter_with_state'): lambda data, *rest: data,
    ('torch._tensor', '_rebuild_from_type_v2'): rebuild_subclass,
}


class Unpickler(pickle.Unpickler):
    """Finds no class, and asks `find_storage(key, nbytes)` for storages."""

    def __init__(self, file, find_storage):
        super().__init__(file, encoding='utf-8', errors='surrogateescape')  # strings of Python 2
        self.find_storage, self.classes = find_storage, {}

    def find_class(self, module, name):
        if (module, name) not in self.classes:
            known = BUILDERS.get((module, name))
            self.classes[module, name] = (
                Builder(known)
                if known
                else (Dict if (module, name) == ('collections', 'OrderedDict') else named(f'{module}.{name}'))
            )
        return self.classes[module, name]

    def persistent_load(self, told):
        kind = told[0] if type(told) is tuple and told else None
        if kind == 'module':  # the source code of a class, in the old format
            return told[1] if len(told) > 1 else None
        if kind != 'storage' or len(told) not in (5, 6) or not isinstance(told[2], str):
            raise Refused('it refers to something that is no storage')
        (_, type_of, key, _, number), view = told[:5], told[5] if len(told) == 6 else None
        name = getattr(type_of, 'called', '')
        if name in ('torch.storage.UntypedStorage', 'torch.UntypedStorage'):
            dtype, itemsize = None, 1
        elif name.startswith('torch.') and name[len('torch.') :] in _TYPED:
            dtype, itemsize = _TYPED[name[len('torch.') :]]
        else:
            return named(name or 'something else')
        shift = 0 if view is None else view[1]
        if not all(type(n) is int and 0 <= n < 1 << 60 for n in (number, shift)):
            raise Refused('a storage in it has a size that no storage has')
        self.find_storage(key, number * itemsize)
        return Storage(name, key, dtype, shift)


def read_archive(file, size, most):
    """What a file in the zip format holds, and its storages; one reader of the table of contents decides both."""
    archive = zipfile.ZipFile(file)
    records, names = {}, [record.filename for record in archive.infolist()]
    for record in archive.infolist():
        if record.filename in records:
            raise Refused(f'its table of contents lists {record.filename!r} twice')
        records[record.filename] = record
    if not records or min(record.header_offset for record in records.values()) != 0:
        raise Refused('its table of contents is not of this file: something was put before or behind it')
    if any(name.endswith('constants.pkl') for name in names):
        raise Refused('a TorchScript archive, not a checkpoint')
    folder = names[0].split('/')[0]
    if f'{folder}/data.pkl' not in records:
        raise Refused('a zip archive that holds no data.pkl')

    def locate(record):
        if record.flag_bits & 1:
            raise Refused(f'{record.filename!r} in it is encrypted')
        if record.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Refused(f'{record.filename!r} in it is compressed by method {record.compress_type}')
        file.seek(record.header_offset)
        header = file.read(_LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size or header[:4] != b'PK\3\4':
            raise Refused(f'{record.filename!r} is not where its table of contents says')
        start = record.header_offset + _LOCAL_HEADER.size + sum(_LOCAL_HEADER.unpack(header)[1:])
        stored = record.compress_type == zipfile.ZIP_STORED
        if start + record.compress_size > size or (stored and record.compress_size != record.file_size):
            raise Refused(f'{record.filename!r} in it is longer than the file')
        return [start, record.compress_size, record.compress_type, record.file_size]

    def read(name):
        start, length, method, nbytes = locate(records[name])
        if max(length, nbytes) > most:
            raise TooLarge
        file.seek(start)
        data = file.read(length)
        if method != zipfile.ZIP_STORED:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, nbytes or 1)
        if len(data) != nbytes:
            raise Refused(f'{name!r} in it is damaged')
        return data

    if f'{folder}/byteorder' in records:
        check_order(read(f'{folder}/byteorder').decode('ascii', 'replace'))
    storages = {}

    def find_storage(key, nbytes):
        if key not in storages:
            if f'{folder}/data/{key}' not in records:
                raise Refused(f'it lacks the values of storage {key!r}')
            storages[key] = locate(records[f'{folder}/data/{key}'])
        if nbytes > storages[key][3]:
            raise Refused(f'storage {key!r} is to have {nbytes} bytes, {storages[key][3]} are stored')

    return Unpickler(io.BytesIO(read(f'{folder}/data.pkl')), find_storage).load(), storages


def read_sequence(file, size):
    """What a file in the format before PyTorch 1.6 holds, several pickles and then the storages."""
    wanted = {}

    def find_storage(key, nbytes):
        if wanted.setdefault(key, nbytes) != nbytes:
            raise Refused(f'storage {key!r} is to have {wanted[key]} bytes and {nbytes} bytes')

    def load():
        return Unpickler(file, find_storage).load()

    magic = load()
    if type(magic) is not int or magic != _MAGIC:
        raise Refused('another kind of file, or a damaged one')
    protocol = load()
    if type(protocol) is not int or protocol != _PROTOCOL:
        raise Refused('its format is of another version')
    system = load()
    if isinstance(system, dict):
        check_order('little' if system.get('little_endian', True) is True else 'big')
    whole, listed, storages = load(), load(), {}
    for key in listed if isinstance(listed, list) else ():
        if not isinstance(key, str) or key not in wanted or key in storages:
            raise Refused('its list of storages is damaged')
        file.seek(8, 1)  # the number of elements, which the pickle has told
        start = file.tell()
        if start + wanted[key] > size:
            raise Refused(f'storage {key!r} is longer than the file')
        storages[key] = [start, wanted[key], zipfile.ZIP_STORED, wanted[key]]
        file.seek(start + wanted[key])
    for key in wanted.keys() - storages.keys():
        raise Refused(f'it lacks the values of storage {key!r}')
    return whole, storages


def check_order(order):
    if order != sys.byteorder:
        raise Refused(f'its numbers are {order!r}-endian, those of this machine {sys.byteorder}-endian')


def table(whole, storages, most):
    """Lines of JSON. Walks without recursion, and visits each object once."""
    lines, places, queue, number = [], {}, [], 0
    rows = {key: i for i, key in enumerate(storages)}

    def told(value, is_key=False):
        kind = type(value)
        if value is None or kind in (bool, str, float) or (kind is int and -1 << 63 <= value < 1 << 63):
            return value
        if is_key and not isinstance(value, Placeholder):  # what is nested is no name of anything
            value = named(f'builtins.{kind.__name__}')
        if id(value) not in places:
            places[id(value)] = len(queue)
            queue.append(value)  # which keeps it, so that its id stays its own
        return [places[id(value)]]

    def add(line):
        nonlocal most, number
        number += len(line)
        lines.append(json.dumps(line, separators=(',', ':')).encode())
        most -= 4 * len(lines[-1]) + 500 * len(line)  # about what the other side needs to read and hold it
        if most < 0:
            raise TooLarge

    for storage in storages.values():
        add(['storage', *storage])
    if told(whole) != [0]:
        whole = Placeholder.__new__(named(f'builtins.{type(whole).__name__}'))
        told(whole)
    for value in queue:  # which grows meanwhile
        if isinstance(value, dict):
            add(['dict', *(part for key, held in value.items() for part in (told(key, True), told(held)))])
        elif isinstance(value, (list, tuple, set, frozenset)):
            add(['list', *map(told, value)])
        elif isinstance(value, Tensor):
            dtype, key, *view = value.row
            add(['tensor', dtype, rows[key], *view])
        elif isinstance(value, Placeholder):
            state, items = value.state, value.items
            state = {**state, **items} if items and isinstance(state, dict) else items or state
            add(['inert', value.called, told(state)])
        elif isinstance(value, type) and issubclass(value, Placeholder):
            add(['inert', value.called, None])
        else:
            add(['inert', f'builtins.{type(value).__name__}', None])
    return lines


def limit(megabytes, seconds):
    """Let the system end this process beyond its limits, where it has such limits."""
    try:
        import resource
    except ImportError:  # Windows; the other side ends it after a while
        return
    for kind, soft in (('RLIMIT_AS', megabytes << 20), ('RLIMIT_CPU', seconds), ('RLIMIT_CORE', 0)):
        try:
            hard = resource.getrlimit(getattr(resource, kind))[1]
            soft = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
            resource.setrlimit(getattr(resource, kind), (soft, hard))
        except (AttributeError, ValueError, OSError):  # not every system has every limit
            pass
    signal.alarm(min(60 * seconds, 2**31 - 1))  # if the other side was killed while a disk does not answer


def answer(file, megabytes):
    most = megabytes << 20
    start = file.read(512)
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        if start[:4] == b'PK\3\4':
            whole, storages = read_archive(file, size, most // 4)
        elif start[257:262] == b'ustar':
            raise Refused('a tar archive')
        else:
            whole, storages = read_sequence(file, size)
        return table(whole, storages, most)
    except (MemoryError, TooLarge):
        return [b'{"limit":"memory"}']
    except Refused as error:
        return [json.dumps({'error': str(error)[:500]}).encode()]
    except Exception as error:  # whatever a damaged pickle makes of the reader
        return [json.dumps({'error': 'another kind of file, or a damaged one', 'why': repr(error)[:500]}).encode()]


def main():
    megabytes, seconds = map(int, sys.argv[1:3])
    limit(megabytes, seconds)
    try:
        with open(0, 'rb', closefd=False) as file:
            lines = answer(file, megabytes)
    except MemoryError:  # the limit is below what this program itself takes
        lines = [b'{"limit":"memory"}']
    with open(1, 'wb', closefd=False) as out:
        for line in lines:
            out.write(line + b'\n')
    os._exit(0)  # at once: taking apart what was built can take as long as building it


if __name__ == '__main__':
    main()
