"""Journals of unfinished runs: what is damaged, of another run or of another user is never taken for a result."""

import errno
import json
import logging
import os
import random
import shutil
from array import array

import numpy as np
import pytest
import torch
from filelock import FileLock

import videozoo_timm
from videozoo_timm.analysis.embedding import embed
from videozoo_timm.inference import journal as module
from videozoo_timm.inference.journal import Journal, checksum_of, digest_of, journal_folder
from videozoo_timm.inference.pipeline import Group, RowBatch
from videozoo_timm.video import find_videos

COMMAND = dict(weights='a', files=[['x.mp4', 1, 2]] * 6)
GROUPS = [Group(k, [2 * k, 2 * k + 1]) for k in range(3)]


def batch(group, failed=None):
    files = [2 * group, 2 * group + 1]
    times = array('d', [0.25, 0.5])
    return RowBatch(group, 0, True, files, *[times] * 8, failed or {}, torch.randn(2, 3))


BATCHES = [batch(0), batch(1, {3: 'broken } 0123456789abcdef0123456789abcdef {'}), batch(2)]


def written(folder, command=COMMAND, batches=BATCHES):
    journal = Journal(folder / 'x.npz', command)
    journal.open()
    for one in batches:
        journal.add(one)
    journal.close()
    return journal


def paths_of(journal):
    (lines,) = journal.folder.glob('*.jsonl')
    return lines, lines.with_suffix('.rows')


def whole(journal):
    """Which batches are there, all of them as they were."""
    found = journal.batches(GROUPS)
    for one in found:
        before = BATCHES[one.group]
        assert one._replace(values=None) == before._replace(values=None)
        assert np.array_equal(one.values, before.values.numpy())
    return [one.group for one in found]


def flipped(content, bit):
    content = bytearray(content)
    content[bit // 8] ^= 1 << bit % 8
    return bytes(content)


def test_every_flipped_bit_costs_one_batch_at_most(tmp_path):
    journal = written(tmp_path)
    assert whole(journal) == [0, 1, 2] and journal.damaged == 0
    rng = random.Random(0)
    for path in paths_of(journal):
        before = path.read_bytes()
        for _ in range(200):
            path.write_bytes(flipped(before, rng.randrange(8 * len(before))))
            found = whole(journal)
            assert len(found) >= 2
            assert len(found) == 3 or journal.damaged in (1, 2), journal.damaged  # 2: a bit has made two lines of one
        path.write_bytes(before)
    lines, _ = paths_of(journal)
    content = lines.read_bytes()
    for place, byte in enumerate(content[:-1]):
        if byte == ord('\n'):
            lines.write_bytes(flipped(content, 8 * place))
            assert whole(journal) == [0, 1, 2]  # an end of a line says nothing


def test_cut_at_every_byte(tmp_path):
    journal = written(tmp_path)
    for path in paths_of(journal):
        before = path.read_bytes()
        counts = set()
        for length in range(len(before)):
            path.write_bytes(before[:length])
            found = whole(journal)
            assert found == list(range(len(found)))
            counts.add(len(found))
        assert counts >= {0, 1, 2}
        path.write_bytes(before)
    assert whole(journal) == [0, 1, 2]


@pytest.mark.parametrize('which', [0, 1], ids=['lines', 'rows'])
def test_zeros_garbage_and_files_that_are_gone(which, tmp_path):
    journal = written(tmp_path)
    path, size = paths_of(journal)[which], paths_of(journal)[which].stat().st_size
    before = path.read_bytes()
    path.write_bytes(before[: size // 2] + bytes(size - size // 2))  # after a power cut
    assert whole(journal) == [0] and journal.damaged > 0
    path.write_bytes(bytes(size))
    assert whole(journal) == [] and journal.damaged > 0
    path.write_bytes(random.Random(0).randbytes(size))
    assert whole(journal) == [] and journal.damaged > 0
    path.unlink()
    assert whole(journal) == [] and (journal.damaged == 3) == (which == 1)


def test_damage_is_told_once(tmp_path):
    journal = written(tmp_path)
    lines, rows = paths_of(journal)
    rows.write_bytes(flipped(rows.read_bytes(), 0))
    lines.write_bytes(lines.read_bytes()[:-5])
    assert [one.group for one in journal.batches(GROUPS, mend=True)] == [1] and journal.damaged == 2
    assert [one.group for one in journal.batches(GROUPS)] == [1] and journal.damaged == 0


def test_rows_of_another_run_are_none_of_this(tmp_path):
    journal = written(tmp_path)
    for k, command in enumerate((dict(COMMAND, weights='b'), dict(COMMAND, files=[]))):
        other = tmp_path / str(k)
        other.mkdir()
        for path in paths_of(written(other, command)):
            shutil.copy(path, journal.folder)
    assert whole(journal) == [0, 1, 2] and journal.damaged == 6
    # Rows of another run beneath lines of this one.
    rows = next(
        lines.with_suffix('.rows')
        for lines in journal.folder.glob('*.jsonl')
        if journal._is_whole(lines.read_bytes().split(b'\n')[0])
    )
    rows.write_bytes(np.zeros(rows.stat().st_size, np.uint8).tobytes())
    assert whole(journal) == []


@pytest.mark.parametrize(
    'changes',
    [
        dict(group=3),
        dict(group=-1),
        dict(group=True),
        dict(group=0.0),
        dict(group='0'),
        dict(number=None),
        dict(number=-1),
        dict(last=1),
        dict(last=False, files=[], shape=[0], starts=[], ends=[], times=[], durations=[]),
        dict(files=[0, 2]),
        dict(files=[0, -1]),
        dict(files=[0, 10**30]),
        dict(files=[0]),
        dict(files=0),
        dict(files=[0, [1]]),
        dict(starts=[0.0]),
        dict(ends=['0', '1']),
        dict(times={}),
        dict(durations=[True, 0.0]),
        dict(padded=[0.5]),
        dict(damaged=['0', '1']),
        dict(clock_offsets=[None, 0.0]),
        dict(lost=0.0),
        dict(failed=[]),
        dict(failed={'5': 'of another group'}),
        dict(failed={'x': ''}),
        dict(failed={'1': 1}),
        dict(failed={'1' * 5000: ''}),
        dict(shape=[2, -3]),
        dict(shape=[3, 2]),
        dict(shape=[]),
        dict(shape=[2, 10**30]),
        dict(shape=[2, 3.0]),
        dict(offset=-24),
        dict(offset=10**30),
        dict(offset=0.0),
        dict(rows=None),
        dict(rows=5),
        dict(more=1),
    ],
    ids=str,
)
def test_fields_of_a_line_are_checked_whoever_wrote_it(changes, tmp_path):
    journal = written(tmp_path)
    lines, _ = paths_of(journal)
    first, rest = lines.read_bytes().split(b'\n', 1)
    text = json.dumps(json.loads(first.partition(b' ')[2]) | changes).encode()
    lines.write_bytes(module._digest(text, journal._key).encode() + b' ' + text + b'\n' + rest)
    assert whole(journal) == [1, 2] and journal.damaged == 1


def test_a_line_that_claims_more_rows_than_there_are(tmp_path):
    journal = written(tmp_path)
    lines, rows = paths_of(journal)
    first, rest = lines.read_bytes().split(b'\n', 1)
    claim = dict(shape=[2, 100], rows=module._digest(rows.read_bytes(), journal._key))
    text = json.dumps(json.loads(first.partition(b' ')[2]) | claim).encode()
    lines.write_bytes(module._digest(text, journal._key).encode() + b' ' + text + b'\n' + rest)
    assert whole(journal) == [1, 2] and journal.damaged == 1


@pytest.mark.parametrize('text', [b'5', b'[]', b'null', b'"x"', b'[' * 100_000, b'\xff', b''])
def test_lines_that_are_no_record(text, tmp_path):
    journal = written(tmp_path)
    with open(paths_of(journal)[0], 'ab') as file:
        file.write(module._digest(text, journal._key).encode() + b' ' + text)
    assert whole(journal) == [0, 1, 2] and journal.damaged == 1


# The record that says whose rows they are


def refused(folder, words, command=COMMAND):
    before = {path: path.read_bytes() for path in journal_folder(folder / 'x.npz').iterdir()}
    with pytest.raises(ValueError, match=words):
        Journal(folder / 'x.npz', command).open()
    assert {path: path.read_bytes() for path in journal_folder(folder / 'x.npz').iterdir()} == before


def test_a_damaged_record_is_refused_and_force_starts_over(tmp_path):
    record = written(tmp_path).folder / 'command.json'
    before = record.read_bytes()
    rng = random.Random(0)
    contents = [before[:length] for length in range(0, len(before), 7)]
    contents += [flipped(before, rng.randrange(8 * len(before))) for _ in range(50)]
    contents += [
        bytes(len(before)),
        b'5',
        b'[]',
        b'[1, "checksum"]',
        b'"checksum"',
        b'[' * 100_000,
        b'{"checksum": 1}',
        b'{"checksum": 1, "command": {}}',
        b'{"command": []}',
    ]
    for content in contents:
        record.write_bytes(content)
        refused(tmp_path, 'it is not known whose rows are in .*command.json there is .*start_over=True')
    record.unlink()
    refused(tmp_path, 'command.json there is missing; name another out, or start_over=True')
    journal = Journal(tmp_path / 'x.npz', COMMAND)
    journal.open(start_over=True)
    assert journal.batches() == [] and not journal.goes_on
    journal.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_journal_of_version_0_1_0_is_refused_in_words(tmp_path):
    record = written(tmp_path).folder / 'command.json'
    record.write_text(json.dumps(COMMAND))
    refused(tmp_path, 'was written by an earlier version, without checksums')


@pytest.mark.parametrize('content', [None, b'', b'{"weig', json.dumps(COMMAND).encode()], ids=str)
def test_without_rows_it_starts_over(content, tmp_path):
    folder = journal_folder(tmp_path / 'x.npz')
    folder.mkdir()
    (folder / 'a.rows').touch()
    if content is not None:
        (folder / 'command.json').write_bytes(content)
    journal = written(tmp_path)
    assert not journal.goes_on and whole(journal) == [0, 1, 2]
    again = Journal(tmp_path / 'x.npz', COMMAND)
    again.open()
    assert again.goes_on
    again.close()


# Shared folders


def test_a_link_in_the_journal_s_place_is_refused(tmp_path):
    mine = written(tmp_path).folder.rename(tmp_path / 'mine')
    (mine / 'thesis.tex').write_text('precious')
    before = sorted(mine.iterdir())
    journal = Journal(tmp_path / 'x.npz', COMMAND)
    for target in (mine, tmp_path / 'nowhere', mine / 'thesis.tex'):
        journal.folder.symlink_to(target)
        for start_over in (False, True):
            with pytest.raises(ValueError, match='unfinished is a link'):
                journal.open(start_over)
        journal.folder.unlink()
    journal.folder.write_text('')
    with pytest.raises(ValueError, match='is not a folder'):
        journal.open(start_over=True)
    assert sorted(mine.iterdir()) == before


@pytest.mark.parametrize('name', ['lock', 'command.json', 'collected.npy', 'a.rows', 'a.jsonl', 'a.tmp'])
def test_links_in_a_journal_are_refused(name, tmp_path):
    journal = written(tmp_path)
    (tmp_path / 'thesis.tex').write_text('precious')
    for kind in ('link', 'folder'):
        (journal.folder / name).unlink(missing_ok=True)
        (journal.folder / name).symlink_to(tmp_path / 'thesis.tex') if kind == 'link' else (
            (journal.folder / name).mkdir()
        )
        for start_over in (False, True):
            with pytest.raises(ValueError, match=f'{name} is a link, not a file, or of another user'):
                Journal(tmp_path / 'x.npz', COMMAND).open(start_over)
    assert (tmp_path / 'thesis.tex').read_text() == 'precious'


@pytest.mark.skipif(not hasattr(os, 'geteuid') or os.geteuid() != 0, reason='needs to give files away')
def test_what_is_of_another_user_is_refused(tmp_path):
    journal = written(tmp_path)
    _, rows = paths_of(journal)
    os.chown(rows, 12345, 12345)
    refused(tmp_path, 'of another user')
    os.chown(journal.folder, 12345, 12345)
    with pytest.raises(ValueError, match='belongs to another user .number 12345.'):
        Journal(tmp_path / 'x.npz', COMMAND).open(start_over=True)
    assert rows.exists()


def test_what_no_journal_writes_is_not_removed(tmp_path):
    journal = written(tmp_path)
    (journal.folder / 'thesis.tex').write_text('precious')
    (journal.folder / '@eaDir').mkdir()
    journal = Journal(tmp_path / 'x.npz', COMMAND)
    journal.open(start_over=True)
    journal.add(BATCHES[0])
    journal.remove()
    assert sorted(path.name for path in journal.folder.iterdir()) == ['@eaDir', 'thesis.tex']
    assert journal.folder.stat().st_mode & 0o077 == 0


def test_one_owner_at_a_time_or_a_word(tmp_path, monkeypatch, caplog):
    first = Journal(tmp_path / 'x.npz', COMMAND)
    first.open()
    with pytest.raises(ValueError, match='is being written by another run'):
        Journal(tmp_path / 'x.npz', COMMAND).open(start_over=True)
    first.close()

    def no_locks(self, timeout):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(FileLock, 'acquire', no_locks)
    assert whole(written(tmp_path)) == [0, 1, 2]
    assert 'has no locks' in caplog.text


# Full disks


def test_space_is_taken_before_it_is_mapped(tmp_path, monkeypatch):
    journal = Journal(tmp_path / 'x.npz', COMMAND)
    journal.open()
    journal.add(BATCHES[0])
    array = journal.array((1000, 500), np.float32)
    assert array.shape == (1000, 500) and (journal.folder / 'collected.npy').stat().st_blocks * 512 >= 2_000_000
    array[:] = 1
    assert np.load(journal.folder / 'collected.npy').sum() == 500_000
    assert journal.array((0, 3), np.float32).shape == (0, 3)

    def full(file, size):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(module, 'allocate', full)
    with pytest.raises(
        OSError,
        match=r'x.npz could not be written: the disk mounted at .* is full \(2.0 MB needed, '
        r'.* free\); once there is room, the same command continues',
    ):
        journal.array((1000, 500), np.float32)
    assert not (journal.folder / 'collected.npy').exists() and whole(journal) == [0]  # they stay
    journal.remove()


# Whole runs


@pytest.fixture(scope='module')
def files():
    return list(map(str, find_videos('drawn:6@3')))


@pytest.fixture(scope='module')
def model():
    return videozoo_timm.load_model('vit_shapes_motion')


def interrupted(model, files, out):
    done = []

    def stop(number):
        done.append(number)
        if sum(done) > 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed(model, files, out=out, batch_size=1, progress=stop)
    return journal_folder(out)


def test_damage_costs_its_rows_and_is_told(model, files, tmp_path, caplog):
    folder = interrupted(model, files, tmp_path / 'x.npz')
    shutil.copytree(folder, tmp_path / '.y.npz.unfinished')
    (rows,) = folder.glob('*.rows')
    rows.write_bytes(flipped(rows.read_bytes(), 8 * 600))
    (lines,) = (tmp_path / '.y.npz.unfinished').glob('*.jsonl')
    lines.write_bytes(lines.read_bytes()[:-40])
    expected = embed(model, files, batch_size=1).features
    for name in ('x', 'y'):
        told, done = [], []
        with caplog.at_level(logging.WARNING):
            result = embed(
                model, files, out=tmp_path / f'{name}.npz', batch_size=1, say=told.append, progress=done.append
            )
        assert torch.equal(result.features, expected)
        assert told and '1 batch of an unfinished run was damaged and is computed again' in caplog.text
        assert done[0] == 4  # the rest was kept
        caplog.clear()
    assert sorted(path.name for path in tmp_path.iterdir()) == ['x.npz', 'y.npz']


def test_weights_that_differ_anywhere_are_other_weights(model, files, tmp_path):
    folder = interrupted(model, files, tmp_path / 'x.npz')
    before = model.state_dict()
    name = 'blocks.1.mlp.fc1.weight'
    changed = {k: v.clone() for k, v in before.items()}
    changed[name][100, 50] += 1
    assert digest_of(changed.items()) == digest_of(before.items())  # it looks at the ends alone
    assert checksum_of(changed.items()) != checksum_of(before.items())
    other = videozoo_timm.load_model('vit_shapes_motion')
    other.load_state_dict(changed)
    with pytest.raises(ValueError, match='another run, which is unfinished .*checksum was'):
        embed(other, files, out=tmp_path / 'x.npz', batch_size=1)
    (folder / 'command.json').unlink()
    with pytest.raises(ValueError, match='it is not known whose rows'):
        embed(other, files, out=tmp_path / 'x.npz', batch_size=1)
    embed(model, files[:1], out=tmp_path / 'x.npz', batch_size=1, start_over=True)
    with pytest.raises(ValueError, match='results of another run .*checksum was'):
        embed(other, files[:1], out=tmp_path / 'x.npz', batch_size=1)


def test_folders_are_made_and_an_empty_one_is_filled(model, files, tmp_path):
    (tmp_path / 'empty').mkdir()
    for out in (tmp_path / 'empty', tmp_path / 'a' / 'b'):
        embed(model, files[:1], out=out)
        assert (out / 'about.json').is_file() and [path.name for path in out.parent.glob('.*')] == []
        shutil.rmtree(out.parent if out.parent != tmp_path else out)
        embed(model, files[:1]).save(out)
        assert (out / 'about.json').is_file()
    (out / 'about.json').unlink()  # arrays of these names, of whatever
    with pytest.raises(ValueError, match='holds other things than features'):
        embed(model, files[:1], out=out, start_over=True)


def test_results_of_unknown_origin_are_not_replaced(model, files, tmp_path):
    record = tmp_path / 'x' / 'about.json'
    embed(model, files[:1], out=tmp_path / 'x')
    about = json.loads(record.read_text())
    damaged = [json.dumps(about | dict(paths=paths)) for paths in (5, None, [[1]], [1], {})]
    for text in ('[]', '5', '{', '[' * 100_000, *damaged):
        record.write_text(text)
        with pytest.raises(ValueError, match='results of another run'):
            embed(model, files[:1], out=tmp_path / 'x')
        assert record.read_text() == text
    record.write_text(json.dumps({k: v for k, v in about.items() if k != 'checksum'}))  # as version 0.1.0 wrote it
    embed(model, files[:1], out=tmp_path / 'x')
    assert json.loads(record.read_text()) == about


def test_the_path_of_version_0_1_0_stays():
    with pytest.warns(DeprecationWarning, match='is now videozoo_timm.inference.journal'):
        from videozoo_timm.analysis.journal import journal_folder as before
    assert before is journal_folder
