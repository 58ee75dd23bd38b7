"""What is fuzzed: for each entry its seeds, and what must hold whatever bytes it is given.

`test_fuzz.py` tries mutations that follow from a seed, `fuzz_atheris.py` lets a coverage-guided fuzzer find them:

    pytest -m fuzz                                   # a minute each
    VIDEOZOO_FUZZ_SECONDS=3600 pytest -m fuzz -n 0
    pip install atheris && python tests/fuzz_atheris.py weights -max_total_time=3600
"""

import io
import math
import pickle
import random
import resource
import shutil
import time
import warnings
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from conftest import CLIPS, save_published
from PIL import Image
from safetensors.torch import save as save_safetensors

from videozoo_timm.inference.journal import Journal, journal_folder
from videozoo_timm.inference.pipeline import RowBatch
from videozoo_timm.video import Failure, Job, Sampling, VideoError, View, Views, load_views, read_image
from videozoo_timm.weights import read_header, read_weights

SECONDS, MEMORY = 30, 1 << 30  # that one input may take; far above what honest ones of this size do
_INTERESTING = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, (1 << 64) - 1]


@dataclass
class Target:
    """An entry that takes what strangers wrote.

    Attributes:
        ending: Of the file that is tried.
        seeds: Makes files that are right, or nearly so.
        check: Raises an AssertionError, or what no user should see, if the entry does with a file what it must not.
    """

    ending: str
    seeds: Callable[[Path], list[bytes]]
    check: Callable[[Path], None]
    state: dict = field(default_factory=dict)

    def __call__(self, data: bytes, folder: Path) -> None:
        """Try one input, within memory and time."""
        path = folder / f'input{self.ending}'
        path.write_bytes(data)
        before, start = _peak(), time.monotonic()
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            self.check(path)
        taken, grown = time.monotonic() - start, _peak() - before
        assert taken < SECONDS, f'took {taken:.1f} s'
        assert grown < MEMORY, f'took {grown / 1e9:.1f} GB'

    def close(self) -> None:
        """End what it has started."""
        if 'loaded' in self.state:
            self.state['loaded'].close()
        self.state.clear()


def mutations(seeds: list[bytes], seed: int) -> Iterator[bytes]:
    """The seeds themselves, then changes of them without end."""
    yield from seeds
    rng = random.Random(seed)
    while True:
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
            _mutate(data, seeds, rng)
        yield bytes(data)


def _mutate(data: bytearray, seeds: list[bytes], rng: random.Random) -> None:
    at = min(int(rng.random() ** 3 * len(data)), max(len(data) - 1, 0))  # headers stand at the beginning
    kind = rng.randrange(7)
    if kind == 0 and data:
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1 and data:
        data[at] = rng.randrange(256)
    elif kind == 2:  # a number that is special somewhere
        size, order = rng.choice((1, 2, 4, 8)), rng.choice(('little', 'big'))
        data[at : at + size] = (rng.choice(_INTERESTING) & ((1 << 8 * size) - 1)).to_bytes(size, order)
    elif kind == 3:
        del data[at : at + rng.choice((1, 4, 64, 4096))]
    elif kind == 4:
        del data[rng.randrange(len(data) + 1) :]
    elif kind == 5:  # a piece of another one
        other = rng.choice(seeds)
        begin = rng.randrange(len(other) + 1)
        data[at:at] = other[begin : begin + rng.choice((1, 8, 64, 1024))]
    else:
        data[at : at + rng.choice((1, 8, 512))] = bytes(rng.choice((1, 8, 512)))


def _peak() -> int:
    """Highest memory of this process and of its children so far, in bytes."""
    return 1024 * sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def _small_tensors() -> dict[str, torch.Tensor]:
    return {
        'patch_embed.proj.weight': torch.arange(24.0).reshape(2, 3, 2, 2),
        'pos_embed': torch.ones(1, 5, 2),
        'blocks.0.attn.q.weight': torch.eye(2),
        'blocks.0.attn.k.weight': torch.eye(2),
        'blocks.0.attn.v.weight': torch.eye(2),
        'half': torch.ones(3, dtype=torch.float16),
    }


def _weights_seeds(folder: Path) -> list[bytes]:
    path = folder / 'seed.pth'
    zipped = save_published(_small_tensors(), path).read_bytes()
    old = save_published(_small_tensors(), path, _use_new_zipfile_serialization=False).read_bytes()
    return [zipped, old, *_header_seeds(folder), pickle.dumps({'model': {'x': 1}}, 2)]


def _check_weights(path: Path) -> None:
    try:
        tensors = read_weights(path).tensors
    except (ValueError, OSError):
        return
    held = sum(tensor.nbytes for tensor in tensors.values())
    assert held <= 64 * path.stat().st_size, f'{held} bytes out of a file of {path.stat().st_size}'
    for tensor in tensors.values():
        tensor.double().sum()  # each value is there


def _header_seeds(folder: Path) -> list[bytes]:
    about = dict(
        name='vit_shapes_motion',
        zoo='shapes',
        architecture='vit_t14_st',
        input_size='[3,112,112]',
        mean='[0.45,0.45,0.45]',
        std='[0.225,0.225,0.225]',
        label_names='["down","up"]',
        source='a/b',
    )
    plain = {'x': torch.zeros(2)}
    return [save_safetensors(plain, about), save_safetensors(_small_tensors(), {'format': 'pt'})]


def _check_header(path: Path) -> None:
    try:
        header = read_header(path)
    except (ValueError, OSError):
        return
    for key in ('mean', 'std'):
        assert all(math.isfinite(value) for value in header.get(key, ()))
    assert all(value > 0 for value in header.get('std', ()))
    assert all(isinstance(value, int) and value > 0 for value in header.get('input_size', ()))
    assert all(isinstance(name, str) for name in header.get('label_names', ()))


def _image_seeds(folder: Path) -> list[bytes]:
    pixels = Image.fromarray(np.arange(64 * 48 * 3, dtype=np.uint32).astype(np.uint8).reshape(64, 48, 3))
    exif = Image.Exif()
    exif[0x112] = 6
    wide = Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8))
    made = []
    for kind, image, options in (
        ('JPEG', pixels, dict(exif=exif)),
        ('PNG', pixels, {}),
        ('PNG', pixels.convert('P'), {}),
        ('PNG', pixels.convert('RGBA'), {}),
        ('BMP', pixels, {}),
        ('TIFF', pixels, {}),
        ('TIFF', wide, {}),
        ('WEBP', pixels, {}),
        ('TIFF', pixels.convert('F'), {}),
    ):
        file = io.BytesIO()
        image.save(file, kind, **options)
        made.append(file.getvalue())
    return made


def _check_image(path: Path) -> None:
    try:
        frames = read_image(path)
    except VideoError as error:
        assert path.name in str(error)
        return
    assert frames.dtype == torch.uint8 and frames.ndim == 4 and frames.shape[0] == 1 and frames.shape[3] == 3


def _clip_seeds(folder: Path) -> list[bytes]:
    names = ('five_frames.mp4', 'one_frame.mp4', 'tiny_34x18.mp4', 'truncated.mp4', 'variable_rate.mkv', 'bit_rot.mkv')
    return [(CLIPS / 'odd' / name).read_bytes() for name in names]


def _check_clips(path: Path) -> None:
    """In a worker process, as FFmpeg may crash: then that is the file's failure."""
    state = TARGETS['clips'].state
    if not state:
        state['files'] = []

        def jobs():
            while True:
                yield Job(0, state['files'][-1])

        views = Views(size=32, mean=(0.45,) * 3, std=(0.225,) * 3, sampling=Sampling(4, 16))
        state['jobs'], state['views'] = jobs, views
    state['files'] = [str(path)]
    loaded = state.get('loaded') or load_views(state['jobs'](), state['views'], num_workers=1, time_limit=SECONDS - 5)
    # Two files are asked for ahead of time, so the answers to this one come behind those to the one before.
    state['loaded'] = loaded
    for _ in range(3):
        for _, item in loaded:
            if not isinstance(item, View):
                break
            assert item.x.shape == (3, 4, 32, 32) and torch.isfinite(item.x).all()
            assert math.isfinite(item.start) and math.isfinite(item.duration)
        assert item is None or (isinstance(item, Failure) and path.name in item.reason), item


_COMMAND = dict(model='a model', files=['a', 'b'])


def _row_batches() -> list[RowBatch]:
    times = [array('d', pair) for pair in ((0.0, 1.0), (1.0, 2.0), (0.5, 1.5), (2.0, 2.0))]
    return [RowBatch(0, k, k == 2, [0, 1], *times, *times, {}, torch.full((2, 3), k + 0.5)) for k in range(3)]


def _journal_seeds(folder: Path) -> list[bytes]:
    """The files of a journal, each behind a byte that says which it is."""
    out = folder / 'out.npz'
    journal = Journal(out, _COMMAND)
    journal.open()
    for batch in _row_batches():
        journal.add(batch)
    journal.close()
    state = TARGETS['journal'].state
    state['files'] = {
        path.name: path.read_bytes() for path in sorted(journal_folder(out).iterdir()) if path.name != 'lock'
    }
    shutil.rmtree(journal_folder(out))
    return [bytes([k]) + content for k, content in enumerate(state['files'].values())]


def _check_journal(path: Path) -> None:
    """Rows are those that were written, or gone."""
    data, kept = path.read_bytes(), TARGETS['journal'].state['files']
    out = path.with_name('out.npz')
    folder = journal_folder(out)
    folder.mkdir()
    try:
        for k, (name, content) in enumerate(kept.items()):
            (folder / name).write_bytes(data[1:] if data and data[0] % len(kept) == k else content)
        journal = Journal(out, _COMMAND)
        try:
            journal.open()
        except ValueError:
            return
        try:
            written = {(batch.group, batch.number): batch for batch in _row_batches()}
            for batch in journal.batches():
                truth = written[batch.group, batch.number]
                assert torch.equal(torch.tensor(np.array(batch.values)), truth.values)
                assert list(batch[:-1]) == list(truth[:-1])
        finally:
            journal.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


TARGETS = {
    'weights': Target('.pth', _weights_seeds, _check_weights),
    'header': Target('.safetensors', _header_seeds, _check_header),
    'image': Target('.png', _image_seeds, _check_image),
    'clips': Target('.mp4', _clip_seeds, _check_clips),
    'journal': Target('.bin', _journal_seeds, _check_journal),
}
