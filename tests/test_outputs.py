"""May results be written here, are they of the same run: each rule once, in the one voice of all commands."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from videozoo_timm.cli import main
from videozoo_timm.cli.output import worded
from videozoo_timm.outputs import Output, differences

NOW = dict(model='vit', size=(112, 112), views=dict(clips=1, crops=3))


def refused(call):
    """The error's words for Python, and for the command line."""
    with pytest.raises(ValueError, match='.') as raised:
        call()
    return str(raised.value), worded(raised.value)


def no_writing(monkeypatch, folder):
    """The folder refuses writers, root among them."""

    def refuse(dir):
        if Path(dir) == folder:
            raise PermissionError(13, 'Permission denied')
        return open(os.devnull)

    monkeypatch.setattr('videozoo_timm.outputs.tempfile.TemporaryFile', refuse)


def test_files(tmp_path):
    endings = ('.npz', '.safetensors')
    Output(tmp_path / 'x.npz').check_file(endings)
    assert refused(lambda: Output(tmp_path / 'x.csv').check_file(endings)) == tuple(
        f'{tmp_path}/x.csv must end in .npz or .safetensors; name another {out}' for out in ('out', '--out')
    )
    assert 'or be a folder' in refused(lambda: Output(tmp_path / 'x').check_file(endings, or_folder=True))[0]
    (tmp_path / 'f.npz').mkdir()
    assert 'is a folder, not a file; name' in refused(lambda: Output(tmp_path / 'f.npz').check_file(endings))[0]
    assert (
        f'there is no folder {tmp_path}/no; name'
        in refused(lambda: Output(tmp_path / 'no' / 'x.npz').check_file(endings))[0]
    )
    # An argument of a command, which no dashes precede.
    assert refused(lambda: Output(tmp_path / 'x', 'target').check_file(endings))[1].endswith('; name another OUT')
    assert list(tmp_path.iterdir()) == [tmp_path / 'f.npz']


def test_folders(tmp_path):
    Output(tmp_path / 'a' / 'b' / 'c').check_folder()  # they can be made
    (tmp_path / 'file').touch()
    (tmp_path / 'lost').symlink_to('nowhere')
    for name, words in (
        ('file', 'is a file, not a folder'),
        ('lost', 'is a link to nothing'),
        ('file/a', f'cannot be written: {tmp_path}/file is no folder'),
    ):
        assert refused(lambda name=name: Output(tmp_path / name, 'folder').check_folder()) == tuple(
            f'{tmp_path}/{name} {words}; name another {out}' for out in ('folder', '--out')
        )
    (tmp_path / 'link').symlink_to(tmp_path)
    Output(tmp_path / 'link').check_folder()


def test_what_cannot_be_written_is_told_before_the_work(tmp_path, monkeypatch):
    no_writing(monkeypatch, tmp_path)
    (tmp_path / 'there').mkdir()
    Output(tmp_path / 'there').check_folder()
    for call in (
        lambda: Output(tmp_path / 'x' / 'y').check_folder(),
        lambda: Output(tmp_path / 'x.npz').check_file(['.npz']),
        lambda: Output(tmp_path / 'there').check_own_folder((), 'results'),
    ):  # replaced, in its parent
        assert f'cannot be written: {tmp_path} (Permission denied); name another out' in refused(call)[0]


def test_a_folder_is_replaced_only_if_all_of_it_is_ours(tmp_path, monkeypatch):
    output = Output(tmp_path / 'x', 'folder')
    for _ in range(2):  # not there; empty
        output.check_own_folder(('a', 'b'), 'a model')
        output.path.mkdir(exist_ok=True)
    (output.path / 'b').touch()
    assert '(no a); name' in refused(lambda: output.check_own_folder(('a', 'b'), 'a model'))[0]
    (output.path / 'a').touch()
    output.check_own_folder(('a', 'b'), 'a model')
    (output.path / 'thesis').touch()
    assert refused(lambda: output.check_own_folder(('a', 'b'), 'a model')) == tuple(
        f'{output.path} holds other things than a model (thesis); name another {out}' for out in ('folder', '--out')
    )
    (output.path / 'thesis').unlink()
    monkeypatch.chdir(output.path)
    for path in (output.path, Path()):
        assert 'is no folder of its own' in refused(lambda path=path: Output(path).check_own_folder('ab', 'it'))[0]


def test_what_is_there_is_replaced_if_the_caller_says_so(tmp_path):
    output = Output(tmp_path / 'x', force='start_over')
    output.refuse_existing(force=False)
    output.path.mkdir()
    output.refuse_existing(force=False)  # empty
    output.path.rmdir()
    for make in (output.path.touch, lambda: output.path.symlink_to('nowhere')):
        make()
        output.refuse_existing(force=True)
        assert refused(lambda: output.refuse_existing(force=False)) == tuple(
            f'{output.path} is there; {force} replaces it' for force in ('start_over=True', '--force')
        )
        output.path.unlink()


def test_another_run_is_refused_by_what_differs(tmp_path):
    output = Output(tmp_path / 'x', 'folder')
    before = dict(model='vit', size=[112, 112], views=dict(clips=5, crops=3))  # as JSON gives them
    output.refuse_other(before, NOW)  # nothing there
    output.path.touch()
    output.refuse_other(before | dict(views=dict(clips=1, crops=3)), NOW)  # the same run
    output.refuse_other(before, NOW, force=True)
    assert refused(lambda: output.refuse_other(before, NOW)) == tuple(
        f'{output.path} holds the results of another run (clips was 5, is 1); name another {out}, or {force} replaces '
        'them'
        for out, force in (('folder', 'force=True'), ('--out', '--force'))
    )
    assert '(it is not known of which);' in refused(lambda: output.refuse_other({}, NOW))[0]


@pytest.mark.parametrize(
    'text, words',
    [
        ('{"model": "vit", "size": [112, 112], "views": {"clips": 1, "crops": 3}, "top1": 0.5}', None),
        ('{"model": "mae", "size": [112, 112], "views": {"clips": 1, "crops": 3}}', 'model was mae, is vit'),
        ('{"size": [112, 112], "views": {"clips": 1, "crops": 3}}', 'model was None, is vit'),
        *(
            (text, 'it is not known of which')
            for text in ('', '{', '5', '[]', '[1]', '{"top1": 1}', '[' * 100_000, '\0')
        ),
    ],
)
def test_a_record_among_the_results(text, words, tmp_path):
    output = Output(tmp_path)
    (tmp_path / 'notes.txt').touch()
    output.check_recorded('summary.json', NOW, force=False)  # of no run
    (tmp_path / 'summary.json').write_text(text)
    output.check_recorded('summary.json', NOW, force=True)
    if words is None:
        output.check_recorded('summary.json', NOW, force=False)
    else:
        assert f'another run ({words});' in refused(lambda: output.check_recorded('summary.json', NOW, False))[0]


def test_files_beside_no_record_are_somebody_elses(tmp_path):
    output, others = Output(tmp_path), ['pairs.csv', 'map.pdf']
    (tmp_path / 'notes.txt').touch()
    output.check_recorded('summary.json', NOW, False, others)
    (tmp_path / 'map.pdf').symlink_to('nowhere')
    for force in (False, True):
        told = refused(lambda force=force: output.check_recorded('summary.json', NOW, force, others))[0]
        assert told.endswith(
            'holds map.pdf, but no summary.json: it is of something else, and would be replaced; name another out'
        )
    (tmp_path / 'summary.json').write_text(json.dumps(NOW))
    output.check_recorded('summary.json', NOW, False, others)


def test_differences():
    assert differences(dict(a=1, b=None), dict(a=1)) == ''  # a setting of a later version that does nothing
    assert differences(dict(frames=''), dict(frames='static')) == "frames was '', is static"
    assert differences(dict(a=1, b=dict(c=2, d=3)), dict(a=2, b=dict(c=2, d=4))) == 'a was 1, is 2; d was 3, is 4'
    long = [f'video{k}.mp4' for k in range(8)]
    assert differences(dict(files=long), dict(files=long[:3])) == 'files: 8, 3 of them the same in the now 3'


@pytest.mark.parametrize(
    'command, there, record',
    [
        (['evaluate', 'train'], 'predictions.csv', 'summary.json'),
        (
            ['probe', '--train', 'train', '--val', 'val', '--probes', 'neighbours'],
            'linear/confusion.png',
            'probes.json',
        ),
    ],
)
def test_tables_that_no_run_has_written_stay(command, there, record, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ('train/a/0', 'train/b/1', 'val/a/2', 'val/b/3'):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (32, 32)).save(f'{name}.png')
    (tmp_path / 'out' / there).parent.mkdir(parents=True)
    (tmp_path / 'out' / there).write_text('mine')
    assert main([*command, '--model', 'vit_shapes_motion', '--out', 'out', '--force', '--num-workers', '0']) == 2
    assert f'out holds {there}, but no {record}: it is of something else' in capsys.readouterr().err
    assert (tmp_path / 'out' / there).read_text() == 'mine'
