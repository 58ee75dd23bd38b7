"""The record of a run: what it tells, that it repeats the run, what has changed since, and the methods section."""

import json
import os
import re
import shutil
import sys
import time
import tracemalloc
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file as read_safetensors
from safetensors.torch import save_file

from videozoo_timm import __version__, catalogue
from videozoo_timm.cli import again as again_module
from videozoo_timm.cli import commands, main
from videozoo_timm.cli.base import flag_of
from videozoo_timm.records.citations import CITED, bibtex_of, in_text
from videozoo_timm.records.differences import compare_files
from videozoo_timm.records.inputs import changes_of_inputs, describe_inputs
from videozoo_timm.records.methods import describe
from videozoo_timm.records.record import FORMAT, KEY, find, path_of, read, save, without_secrets
from videozoo_timm.records.sentences import SENTENCES
from videozoo_timm.weights.digests import hash_file

SHIPPED = catalogue.find('vit_shapes_motion').packaged
HERE = ['--num-workers', '0']
# Commands that give nothing that a paper would show, each with the reason.
NO_RESULTS = {
    'again': 'its results are those of another command',
    'bench': 'speed is of the machine at the moment',
    'classify': 'prints alone; evaluate is for a paper',
    'convert': 'a file with the content of another',
    'download': 'likewise',
    'draw': 'the names of drawn videos say everything',
    'explore': 'shows the commands whose records are kept',
    'info': 'what is known',
    'list': 'what is known',
    'methods': 'text from records',
    'offer': 'files of others',
    'pin': 'data of this package',
    'publish': 'a model that a training has recorded',
    'run': "somebody else's script",
    'verify': 'two files compared',
}


def content_of(path):
    return json.loads(Path(path).read_text())


@pytest.fixture
def images(tmp_path, monkeypatch):
    """A folder with three images, in the current one, which is new."""
    monkeypatch.chdir(tmp_path)
    Path('images').mkdir()
    for k in range(3):
        noise = np.random.default_rng(k).integers(0, 255, (120, 120, 3), np.uint8)
        Image.fromarray(noise).save(f'images/{k}.png')
    return Path('images')


@pytest.fixture
def features(images, capsys):
    """Features of these by weights of one's own, with their record."""
    shutil.copy(SHIPPED, 'mine.safetensors')
    assert main(['embed', 'images', '--weights', 'mine.safetensors', '--out', 'f.npz', '--tokens', 'mean', *HERE]) == 0
    capsys.readouterr()
    return Path('f.npz')


def again(capsys, *words):
    """Exit code, output and errors of videozoo again."""
    code = main(['again', *map(str, words)])
    return code, *capsys.readouterr()


# What is declared


def test_every_command_says_whether_it_gives_results():
    giving = {name: command.results for name, command in commands.commands.items() if command.results}
    assert giving.keys() | NO_RESULTS.keys() == commands.commands.keys() and not giving.keys() & NO_RESULTS.keys()
    assert len(giving) > 15
    for name, result in giving.items():
        (param,) = [param for param in commands.commands[name].params if param.name == result]
        assert isinstance(param.type, click.Path) and '--out' in param.opts  # by which it is repeated elsewhere
    assert SENTENCES.keys() == giving.keys()


def test_files_that_a_list_names_are_inputs(images, capsys):
    Path('list.csv').write_text('file\nimages/0.png\nimages/2.png\n')
    words = ['--model', 'vit_shapes_motion', '--manifest', 'list.csv', '--out', 'm.npz', *HERE]
    assert main(['embed', *words]) == 0
    assert 'the 2 stimuli that list.csv lists:' in describe([read('m.npz')[0]]).text
    capsys.readouterr()
    assert again(capsys, 'm.npz', '--check')[0] == 0
    Path('images/1.png').write_bytes(b'not listed')
    assert again(capsys, 'm.npz', '--check')[0] == 0
    shutil.copy('images/0.png', 'images/2.png')
    code, _, told = again(capsys, 'm.npz', '--check')
    assert code == 1 and 'what list.csv lists' in told
    Path('images/2.png').unlink()
    code, _, told = again(capsys, 'm.npz', '--check')
    assert code == 1 and 'what list.csv lists: had 2 files, has 1' in told
    Path('list.csv').unlink()
    code, _, told = again(capsys, 'm.npz', '--check')
    assert code == 2 and 'list.csv' in told and 'not there any more' in told


def test_a_command_that_this_version_cannot_read_is_told(features, capsys):
    record = content_of('f.npz.run.json')
    record['command'] += ['--bogus', '3']
    Path('f.npz.run.json').write_text(json.dumps(record))
    code, _, told = again(capsys, 'f.npz', '--check')
    assert code == 2 and '--bogus' in told
    *_, gap = describe([dict(record, command=['videozoo', 'embedd'])]).gaps
    assert 'embedd is no command' in gap


def test_what_is_cited_has_an_entry():
    for name in CITED:
        assert re.match(r'@\w+\{\w+,\n(  \w+ += .+,?\n)+\}$', bibtex_of(name)), name
    assert f'version = {{{__version__}}}' in bibtex_of('videozoo-timm') and in_text('timm') == ' (Wightman, 2019)'


# What is recorded


def test_the_record_tells_what_was_done(features):
    record = content_of('f.npz.run.json')
    assert record[KEY] == FORMAT and record['command'][:3] == ['videozoo', 'embed', 'images']
    assert record['folder'] == os.getcwd() and record['exit_code'] == 0
    options = {name.lstrip('-') for p in commands.commands['embed'].params for name in p.opts}
    assert record['options'].keys() <= options and len(record['options']) > 30
    assert record['options']['tokens'] == 'mean' and record['options']['span'] == 128
    assert {'paths', 'weights', 'out', 'tokens', 'num-workers'} == set(record['given'])
    assert record['outputs'] == [
        dict(path='f.npz', bytes=features.stat().st_size, sha256=hash_file(features)),
    ]
    folder, weights = record['inputs']
    assert (folder['path'], folder['files']) == ('images', 3) and len(folder['sha256']) == 64
    assert (weights['path'], weights['sha256']) == ('mine.safetensors', hash_file(SHIPPED))
    (model,) = record['models']
    with np.load(features) as arrays:
        assert model['checksum'] == str(arrays['checksum']) and model['architecture'] == 'vit_t14_st'
    assert (
        record['versions']['videozoo-timm'] == __version__ and {'python', 'torch', 'timm'} <= record['versions'].keys()
    )
    assert record['machine']['processor'] and record['machine']['cores'] >= 1
    assert record['settings']['views']['size'] == 112
    (part,) = record['parts']
    assert record['start'] == part['start'] <= part['end'] == record['end']


def test_a_series_has_a_record_for_each_of_its_results(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(['embed', 'drawn:1', '--models', '*shapes*', '--tokens', 'mean', '--out', 'all', *HERE]) == 0
    for name in ('mae_shapes_none', 'vit_shapes_motion'):
        record = content_of(f'all/{name}.npz.run.json')
        assert (
            record['command'][-4:] == ['--model', name, '--out', f'all/{name}.npz'] and '--models' in record['series']
        )
        assert '--models' not in record['command'] and record['options']['model'] == name
        assert [output['path'] for output in record['outputs']] == [f'{name}.npz'] and len(record['models']) == 1
    assert not Path('all/run.json').exists()
    before = Path('all/vit_shapes_motion.npz.run.json').read_text()
    assert main(['embed', 'drawn:1', '--models', '*shapes*', '--tokens', 'mean', '--out', 'all', *HERE]) == 0
    assert Path('all/vit_shapes_motion.npz.run.json').read_text() == before  # nothing was done
    capsys.readouterr()
    code, out, _ = again(capsys, 'all/vit_shapes_motion.npz')
    assert code == 0 and out.startswith('vit_shapes_motion.npz: the same to the byte\n1 result, all equal')


def test_a_run_that_was_stopped_has_no_record_and_then_all_its_parts(images, monkeypatch, capsys):
    command = ['embed', 'images', '--model', 'vit_shapes_motion', '--batch-size', '1', '--out', 'f.npz', *HERE]
    from videozoo_timm.inference.journal import Journal

    add = Journal.add

    def stop(self, batch):
        add(self, batch)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, 'add', stop)
        assert main(command) == 130 and not list(Path().glob('*.run.json'))
    assert main(command) == 0
    record = content_of('f.npz.run.json')
    assert len(record['parts']) == 2 and record['start'] == record['parts'][0]['start']
    assert all('end' in part for part in record['parts']) and not list(Path().glob('.*'))


def test_pictures_of_several_runs_have_a_record_each(images, capsys):
    command = ['attend', 'images', '--model', 'vit_shapes_motion', '--out', 'a', *HERE]
    assert main(command) == 0 and main([*command, '--threshold', '0.5', '--img-size', '126']) == 0
    assert main([*command, '--threshold', '0.5']) == 0  # of the names of the one before, so with a digest in theirs
    capsys.readouterr()
    code, out, errors = again(capsys, 'a')
    assert code == 0 and re.search('top50_[0-9a-f]{8}.jpg: the same to the byte', out), out + errors
    assert len(list(Path('a').glob('run*.json'))) == 3
    shutil.rmtree('a')
    assert main(command) == 0 and main([*command, '--block', '0']) == 0
    assert main(command) == 0  # the first again: its record is replaced
    records = sorted(path.name for path in Path('a').glob('run*.json'))
    assert len(records) == 2 and records[0] == 'run.json' and re.fullmatch(r'run_\d+T\d+(_2)?\.json', records[1])
    assert (
        '--block' in content_of(f'a/{records[1]}')['command'] and '--block' not in content_of('a/run.json')['command']
    )
    capsys.readouterr()
    code, out, _ = again(capsys, f'a/{records[1]}')
    assert code == 0 and '4 results, all equal' in out and 'attention.csv: the same numbers' in out


def test_the_run_json_of_somebody_else_stays(images):
    Path('a').mkdir()
    Path('a/run.json').write_text('{"mine": 1}')
    assert main(['attend', 'images', '--model', 'vit_shapes_motion', '--out', 'a', *HERE]) == 0
    assert Path('a/run.json').read_text() == '{"mine": 1}'
    (other,) = Path('a').glob('run_*.json')
    assert read(other)[0]['command'][1] == 'attend'


def test_the_record_of_a_file_replaces_nothing_of_somebody_else(images, capsys):
    Path('f.npz.run.json').write_text('{"mine": 1}')
    command = ['embed', 'images', '--model', 'vit_shapes_motion', '--out', 'f.npz', *HERE]
    assert main(command) == 0 and main([*command, '--batch-size', '2', '--force']) == 0
    assert Path('f.npz.run.json').read_text() == '{"mine": 1}'
    (other,) = Path().glob('f.npz.run_*.json')  # that of the first run is replaced, as its results are
    assert read('f.npz')[1] == other and '--batch-size' in read('f.npz')[0]['command']
    capsys.readouterr()
    code, out, errors = again(capsys, 'f.npz')
    assert code == 0 and 'f.npz: the same to the byte' in out, out + errors


def test_a_training_goes_on_and_has_its_record(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [
        '--steps',
        '2',
        '--batch-size',
        '2',
        '--repeat-aug',
        '1',
        '--pictures-every',
        '0',
        '--checkpoint-every',
        '1',
        '--out',
        't',
    ]
    command = ['pretrain', 'drawn:4', '--model', 'mae_shapes_none', *words, *HERE]
    assert main(command) == 0
    content = content_of('t/run.json')
    assert content['steps'] == 2 and {'id', 'files_sha256'} <= content.keys()  # as ever
    record, _ = read('t')
    assert {'log.csv', 'model.safetensors'} <= {output['path'] for output in record['outputs']}
    content.pop('record')
    Path('t/run.json').write_text(json.dumps(content))  # as version 0.1 left it
    with pytest.raises(ValueError, match=r'of a training that has not ended, or was run by version 0\.1'):
        read('t')
    assert main([*command, '--resume']) == 0 and 'another run' not in capsys.readouterr().err
    before = content_of('t/run.json')['record']
    assert main([*command, '--resume']) == 0  # with a record in it, too
    record, _ = read('t')
    assert record['start'] == before['start'] and len(record['parts']) == len(before['parts']) + 1
    assert {output['path'] for output in before['outputs']} <= {output['path'] for output in record['outputs']}
    code, out, errors = again(capsys, 't')
    assert code == 0 and 'model.safetensors: the same to the byte' in out, out + errors
    text = describe([read('t')[0]]).text
    assert 'We trained the model as a masked autoencoder on the synthetic videos drawn:4 for 2 steps' in text


def test_results_that_came_to_no_end_have_no_record(features, capsys):
    from videozoo_timm.analysis import feature_files

    weights = read_safetensors('mine.safetensors')
    with safe_open('mine.safetensors', 'pt') as file:
        header = file.metadata()
    weights['norm.weight'][:] = float('nan')
    save_file(weights, 'mine.safetensors', header)
    command = ['embed', 'images', '--weights', 'mine.safetensors', '--out', 'f.npz', '--tokens', 'mean', *HERE]
    assert main([*command, '--force']) == 2 and feature_files.read_origin(features)
    assert not Path('f.npz.run.json').exists()  # it was of the features that are gone


def test_nothing_secret_is_recorded():
    assert without_secrets('hf_abcdefghijklmnopqrstu') == '***'
    assert without_secrets('https://me:word@host/x') == 'https://***@host/x' and without_secrets('a@b.mp4') == 'a@b.mp4'
    assert without_secrets(dict(a=[1, 'x', {'b': 'https://me:word@host'}])) == dict(
        a=[1, 'x', {'b': 'https://***@host'}]
    )


def test_nothing_secret_is_recorded_of_inputs(images):
    token = 'hf_abcdefghijklmnopqrstu'
    shutil.copy('images/0.png', f'images/{token}.png')
    words = [f'images/{token}.png', '--model', 'vit_shapes_motion', '--out', 'f.npz', *HERE]
    assert main(['embed', *words]) == 0
    assert token not in Path('f.npz.run.json').read_text() and content_of('f.npz.run.json')['inputs'][0]['files'] == 1


# What has changed


def test_the_same_again(features, tmp_path, capsys):
    code, out, _ = again(capsys, 'f.npz.run.json', '--out', 'repeated')
    assert code == 0 and out.startswith('f.npz: the same to the byte\n1 result, all equal; in ')
    assert 'repeated' in out and Path('repeated/f.npz').read_bytes() == features.read_bytes()
    assert Path('repeated/f.npz.run.json').is_file()
    assert again(capsys, 'f.npz', '--check') == (0, f'{tmp_path}/f.npz.run.json: nothing has changed\n', '')
    os.chdir('images')  # paths go from where the run was started
    assert again(capsys, '../f.npz')[0] == 0 and os.path.basename(os.getcwd()) == 'images'


def test_changed_weights_are_told_and_so_is_how_far_results_are_off(features, capsys):
    weights = read_safetensors('mine.safetensors')
    with safe_open('mine.safetensors', 'pt') as file:
        header = file.metadata()
    weights['norm.weight'] *= 1 + 1e-3
    save_file(weights, 'mine.safetensors', header)
    code, out, errors = again(capsys, features)
    assert code == 1 and 'mine.safetensors: contents have changed, though names and sizes have not' in errors
    assert errors.index('vit_t14_st.shapes_motion: weights were') < errors.index('rows of')  # before the results
    found = re.match(r'f\.npz: differs by at most (\S+), (\S+) of the largest value, in features', out)
    assert found and 1e-5 < float(found[2]) < 1e-2 and '1 result, 1 differ' in out
    assert again(capsys, features, '--tolerance', '0.01')[0] == 0
    assert again(capsys, features, '--check')[0] == 1


def test_changed_inputs_options_and_versions_are_told(features, capsys, monkeypatch):
    record = content_of('f.npz.run.json')
    record['versions']['timm'], record['machine']['processes'] = '0.9.0', 2
    record['options'] |= dict(span=65, strict=True)  # as if the defaults had been other ones
    Path('f.npz.run.json').write_text(json.dumps(record))
    shutil.copy('images/0.png', 'images/3.png')
    code, out, errors = again(capsys, features)
    assert code == 1 and 'processes: was 2, is 1' in errors
    assert 'images: had 3 files, has 4' in errors and 'timm: was 0.9.0, is ' in errors
    assert '--span: its default was 65, is 128; 65 is taken' in errors
    assert '--strict: its default was True, is False, which is taken' in errors
    assert out.startswith('f.npz: features was [3, 128], is [4, 128]')
    os.remove('images/3.png')
    assert 'images' not in again(capsys, features, '--check')[2]
    shutil.move('images', 'elsewhere')
    code, _, errors = again(capsys, features)
    assert code == 2 and 'images: is not there any more' in errors and '--folder DIR' in errors
    Path('copy').mkdir()
    shutil.move('elsewhere', 'copy/images')
    shutil.copy('mine.safetensors', 'copy')
    record['options'] |= dict(span=128, strict=False)
    record['versions']['timm'], record['machine']['processes'] = '1', 1
    Path('f.npz.run.json').write_text(json.dumps(record))
    code, out, errors = again(capsys, features, '--folder', 'copy')
    assert code == 0 and 'all equal' in out, out + errors
    assert 'its default' not in errors


def test_one_process_repeats_a_run(features, monkeypatch, capsys):
    monkeypatch.setenv('WORLD_SIZE', '2')
    code, _, errors = again(capsys, features)
    assert code == 2 and 'by one process, not 2: start videozoo again without torchrun' in errors


def test_no_module_comes_from_where_paths_go_from(features, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'path', ['', *sys.path])
    monkeypatch.setattr(again_module, '_changes', lambda *args: [repr(sys.path[0])])
    Path('copy').mkdir()
    here = os.getcwd()
    assert again(capsys, features, '--check', '--folder', 'copy')[2] == f'videozoo: {here!r}\n'
    assert sys.path[0] == ''


@pytest.mark.parametrize(
    'change, words',
    [
        ({KEY: FORMAT + 1}, 'was written by a newer version'),
        (dict(command=['videozoo', 'run', 'script.py']), "'run' is no command that is repeated"),
        (dict(command=['rm', '-r']), 'is a damaged record: command is none of videozoo'),
        (dict(command=['videozoo', 'embed', '--help']), 'its command gave no results'),
        (dict(command=['videozoo', 'embed', 'images', '--modle', 'x']), 'no option --modle'),
        (dict(outputs=[dict(path='../f.npz', sha256='')]), 'is a damaged record: outputs holds'),
        (dict(outputs=[]), 'is a damaged record: outputs is empty'),
        (dict(given=5), 'is a damaged record: given is missing, or no list'),
        (dict(inputs=[dict(path='a', made_by=dict(command=['videozoo']))]), 'is a damaged record: made_by: '),
        (dict(folder='/nowhere'), 'there is no such folder, from which relative paths go'),
        (dict(models=None), 'is a damaged record: models is missing, or no list'),
    ],
)
def test_records_that_cannot_be_repeated(change, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    record = {KEY: FORMAT, 'command': ['videozoo', 'embed', 'drawn:1'], 'folder': str(tmp_path), 'options': {}}
    record |= dict(given=[], models=[], settings={}, inputs=[], versions={}, machine={}, parts=[])
    record['outputs'] = [dict(path='x.npz', sha256='')]
    Path('x.npz.run.json').write_text(json.dumps(record | change))
    code, out, errors = again(capsys, 'x.npz.run.json')
    assert code == 2 and words in errors and not out
    assert [path.name for path in tmp_path.iterdir()] == ['x.npz.run.json']


@pytest.mark.parametrize('command', ['again', 'methods'])
def test_what_is_no_record_is_told(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path('folder').mkdir()
    Path('outer/inner').mkdir(parents=True)
    Path('f.npz').write_text('')
    for name, text in (
        ('outer/inner/run.json', '{}'),
        ('list.json', '[1]'),
        ('cut.json', '{"videozoo_rec'),
        ('run.json', '{"mine": 1}'),
    ):
        Path(name).write_text(text)
    for path, words in (
        ('nothing.json', 'nothing.json: no such record'),
        ('folder', 'folder: there is no run.json in it; commands'),
        ('outer', f'outer: there is no run.json in it; {Path("outer/inner")} has one: name that'),
        ('f.npz', 'f.npz: there is no f.npz.run.json beside it'),
        ('list.json', 'list.json is no record of a run (it has no videozoo_record)'),
        ('cut.json', 'cut.json is no record of a run: it is damaged'),
        ('run.json', 'run.json is no record of a run (it has no videozoo_record)'),
    ):
        assert main([command, path]) == 2 and words in capsys.readouterr().err


def test_a_record_that_was_changed_is_told(features, capsys):
    record = content_of('f.npz.run.json')
    record['options']['stride'] = 'often'
    Path('f.npz.run.json').write_text(json.dumps(record))
    assert main(['methods', 'f.npz']) == 2
    assert 'the record of videozoo embed is damaged' in capsys.readouterr().err
    record['options'] |= dict(stride=None, weights='\x1b[2Jmine')
    record['outputs'][0]['path'] = '\x1b[2Jf.npz'
    Path('f.npz.run.json').write_text(json.dumps(record))
    assert main(['methods', 'f.npz']) == 0 and main(['again', 'f.npz']) == 1
    assert '\x1b' not in ''.join(capsys.readouterr())


def test_a_record_is_found_by_results_whose_name_is_like_that_of_one(features, capsys):
    for name in ('f.npz', 'f.npz.run.json'):
        os.rename(name, name.replace('f.npz', 'run2.json'))
    assert read('run2.json')[1] == Path('run2.json.run.json') and read('run2.json.run.json')


def test_results_within_the_folder_of_the_inputs_are_no_change(images, capsys):
    assert main(['embed', '.', '--model', 'vit_shapes_motion', '--out', 'f.npz', *HERE]) == 0
    capsys.readouterr()
    code, out, errors = again(capsys, 'f.npz', '--check')
    assert code == 0 and 'nothing has changed' in out, errors


def test_results_of_other_runs_in_the_folder_are_no_change(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('v.mp4', 'f.npz', 'a/x.jpg', 'a/x.csv', 'g/0.mp4', 'notes.txt'):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(name)
    told = lambda *given: [entry['files'] for entry in describe_inputs(given)]  # noqa: E731
    assert told('.', 'a', 'g') == [6, 2, 1]
    for place, names in (('f.npz', ['f.npz']), ('a', ['x.jpg', 'x.csv']), ('g', ['0.mp4'])):
        outputs = [dict(path=name, sha256='') for name in names]
        save({**record_of('export'), KEY: FORMAT, 'outputs': outputs, 'parts': []}, Path(place))
    assert told('.', 'a') == [3, 3]  # v.mp4, g/0.mp4, which is a video to read, and the notes; all of a run's folder
    os.remove('v.mp4')
    os.remove('g/0.mp4')
    assert told('.') == [2]  # now x.jpg is what would be read


# How far


def test_arrays_are_compared_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr('videozoo_timm.records.differences._PIECE', 1 << 14)
    x = np.zeros((80, 1 << 15), np.float32)
    np.savez(tmp_path / 'a.npz', x=x, fortran=np.asfortranarray(np.arange(6.0).reshape(2, 3)), one=np.array(3))
    x[-1, -1] = 2
    np.savez_compressed(tmp_path / 'b.npz', x=x, fortran=np.arange(6.0).reshape(2, 3), one=np.array(3))
    tracemalloc.start()
    found = compare_files(tmp_path / 'a.npz', tmp_path / 'b.npz')
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.absolute, found.where, found.reason) == (2, 'x', '') and not found.texts
    assert peak < x.nbytes / 2
    np.savez(tmp_path / 'b.npz', x=x[1:])
    assert compare_files(tmp_path / 'a.npz', tmp_path / 'b.npz').reason == 'x was [80, 32768], is [79, 32768]'


def test_how_far_numbers_are_off(tmp_path):
    old, new = tmp_path / 'old', tmp_path / 'new'
    old.mkdir()
    new.mkdir()
    a = np.array([[1.0, np.nan, -4.0], [0.0, np.inf, 2.0]])
    b = a + np.array([[0, 0, 0.5], [0.001, 0, 0]])

    def both(name, write):
        write(old / name, a)
        write(new / name, b)
        return compare_files(old / name, new / name)

    def write_csv(path, array):
        path.write_text('video,x,torch\n' + ''.join(f'v,{x},{path.parent.name}\n' for x in array.ravel() if x == x))

    def write_json(path, array):
        path.write_text(json.dumps(dict(rows=[dict(x=float(x)) for x in array.ravel() if np.isfinite(x)])))

    for found in (
        both('x.npy', np.save),
        both('x.npz', lambda path, array: np.savez(path, x=array, name=np.array('n'))),
        both('x.csv', write_csv),
        both('x.json', write_json),
    ):
        assert (found.absolute, found.relative) == pytest.approx((0.5, 0.125)) and not found.texts and not found.reason
        assert not found.within(0.12) and found.within(0.13) and not found.by_bytes
    assert 'apart from torch, which does not count' in str(both('x.csv', write_csv))
    found = both('x.csv', lambda path, array: path.write_text(f'label\n{path.parent.name}\n'))
    assert found.texts and not found.within(1)
    found = both('x.csv', lambda path, array: path.write_text(f'id\nstimulus {path.parent.name}\n'))
    assert found.texts  # identifiers of stimuli count
    assert str(both('x.bin', lambda path, array: path.write_bytes(path.parent.name.encode()))) == (
        'differs in 3 of 3 bytes'
    )
    assert 'had 3 rows, has 4' in str(
        both('x.csv', lambda path, array: path.write_text('x\n' + '1\n' * (3 + (path.parent == new))))
    )
    for path, value in ((old, 100), (new, 103)):
        Image.new('RGB', (4, 4), (value, 0, 0)).save(path / 'x.png')
    assert compare_files(old / 'x.png', new / 'x.png').absolute == 3


def test_inputs_are_told_by_few_numbers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('many/out').mkdir(parents=True)
    for k in range(2000):
        Path(f'many/{k}.mp4').touch()
    Path('many/out/x.jpg').write_bytes(b'x')
    start = time.process_time()
    (before,) = describe_inputs(['many'], Path('many/out'))
    assert time.process_time() - start < 0.2e-3 * 2000
    assert before['files'] == 2000 and 'sha256' not in before  # more than are read unasked
    assert describe_inputs(['many'], Path('many/out'), contents=True)[0]['sha256']
    Path('many/7.mp4').write_bytes(b'longer')
    assert changes_of_inputs([before], describe_inputs(['many'], Path('many/out'))) == ['many: had 0 bytes, has 6']
    assert describe_inputs(['drawn:4@7', 'no.mp4']) == [
        dict(path='drawn:4@7', drawn=True),
        dict(path='no.mp4', missing=True),
    ]
    os.rename('many/8.mp4', 'many/x.mp4')
    (renamed,) = describe_inputs(['many/*.mp4'])
    (file,) = describe_inputs(['many/7.mp4'])
    for name in ('0.jpg', '1.jpg', 'notes.txt'):
        Path('many/out', name).touch()
    stills, frames, videos = describe_inputs(['many/out', 'many/out:frames@2', 'many'])
    assert stills['images'] == 3 and not any('images' in told for told in (frames, videos))
    assert renamed['files'] == 2000 and file['sha256'] == hash_file(Path('many/7.mp4'))


# What a paper says


def record_of(command, model=None, **fields):
    params = {p.name: p for p in commands.commands[command].params if p.expose_value}
    defaults = {flag_of(p).lstrip('-'): p.default for p in params.values() if isinstance(p, click.Option)}
    options = {name: value for name, value in defaults.items() if not callable(value) and 'UNSET' not in repr(value)}
    options.update(fields.pop('options', {}))
    views = dict(size=224, interpolation='bilinear', short_side=None, sampling=dict(num_frames=16, span=128))
    models = [] if model is None else [dict(checksum='c0ffee' * 8, dtype='float32', parameters=632_000_000) | model]
    result = dict(command=['videozoo', command], folder='/', options=options, given=[], models=models, inputs=[])
    result['exit_code'] = 0
    versions = {'videozoo-timm': '9.8.7', 'torch': '2.9', 'timm': '1.1', 'av': '17', 'ffmpeg': '8', 'python': '3.13'}
    return (
        result
        | dict(settings=dict(views=views), versions=versions, machine=dict(system='Linux-6', processor='P'))
        | fields
    )


def test_the_methods_section_names_model_data_sampling_software_and_papers():
    model = dict(architecture='vit_h14_st', tag='hvm1_448')
    inputs = [dict(path='stimuli/videos', files=120)]
    options = dict(blocks=[8, -1], tokens='mean', stride=1.5, align='causal')
    described = describe([record_of('embed', model, options=options, inputs=inputs)])
    for words in (
        'the model vit_hvm1@448_none of the collection hvm-1 (Orhan, 2024; arXiv:2407.18067), a spatiotemporal ViT-H',
        '632 million parameters, SHA-256 of the weights c0ffeec0ffee',
        'about 5,000 hours of human-like, mostly egocentric video (HVM-1), at 448 x 448 pixels',
        '120 files (videos): the mean of the patch tokens of blocks 8, -1',
        'one clip every 1.5 s. The window of a row ends at its time.',
        '16 frames, spread evenly over 128 frames at 30 per second (4.27 s)',
        'to 224 x 224 pixels after scaling the short side to 256 pixels (bilinear)',
        'videozoo-timm 9.8.7, PyTorch 2.9 (Paszke et al., 2019), timm 1.1 (Wightman, 2019) and PyAV 17 with FFmpeg 8',
        'under Python 3.13 on Linux (P); computations were in float32.',
    ):
        assert words in described.text, (words, described.text)
    keys = [re.match(r'@\w+\{(\w+)', entry)[1] for entry in described.bibtex]
    assert keys == ['orhan2407_18067', 'paszke2019pytorch', 'wightman2019timm', 'videozoo_timm']
    assert 'version = {9.8.7}' in described.bibtex[-1] and not described.gaps


def test_a_control_for_time_is_told():
    for command, what in (('embed', 'clip'), ('evaluate', 'clip'), ('probe', 'clip'), ('surprise', 'window')):
        told = describe([record_of(command, options=dict(frames='reversed', contexts=[2]))]).text
        assert f'as a control for time, the frames of each {what} were in reversed order.' in told, told
        assert 'to 224 x 224 pixels' in told and ('spread evenly over 128' in told) == (command != 'surprise')


def test_every_command_has_its_sentences():
    models = {
        'complete': dict(architecture='mae_h14_st', tag='hvm1'),
        'generate': dict(architecture='ImageGenerator', tag=''),
        'attend': dict(architecture='vit_b14_im', tag='dino_say'),
    }
    cited = {'compare': 'Kornblith', 'propagate': 'Pont-Tuset', 'fid': 'Heusel'}
    told = {}
    for command in SENTENCES:
        given = dict(generate=dict(model='say_gimel'), export=dict(to='mat'), similar=dict(patch=[4, 8, 8]))
        options = given.get(command, {})
        record = record_of(command, models.get(command), options=options, inputs=[dict(path='drawn:4@7', drawn=True)])
        record['settings'].update(dict(number=3, top_k=128) if command == 'generate' else {})
        described = describe([record])
        told[command] = first = described.text.split('\n\n')[0]
        assert first.endswith('.') and len(first) > 30 and 'None' not in first and '  ' not in first, first
        assert 'clipped to 0.0' not in first and 'over 0%' not in first
        assert cited.get(command, '') in first and any(cited.get(command, '') in entry for entry in described.bibtex)
    assert 'the generator say_gimel of silicon-menagerie' in told['generate']
    assert 'patch (4, 8, 8)' in told['similar']
    assert "RSA by Spearman's rho (Kriegeskorte et al., 2008)" in told['compare']


def test_tables_are_told_by_their_names():
    """What a folder holds and a list does not was not embedded."""
    inputs = [dict(path='videos', files=8), dict(path='a/list.csv', files=1), dict(path='t.csv', files=1)]
    options = dict(manifest='a/list.csv', at='t.csv', tokens='class')
    text = describe([record_of('embed', options=options, inputs=inputs)]).text
    assert 'features of the stimuli that list.csv lists among 8 files (videos): the class token' in text
    assert 'one clip at each of the times that t.csv gives' in text
    options = dict(measures=['cka'], behavior='t.csv', features=['x', 'y'])
    record = record_of('compare', options=options, inputs=inputs)
    assert 'and with behavior (t.csv) (random' in describe([record]).text
    record['outputs'] = [dict(path='behavior_triplets.pdf')]
    assert 'and with behavior (t.csv) by how often the two most similar' in describe([record]).text


def test_what_was_found_by_comparing_is_told():
    settings = dict(rows=64, stimuli=16, noise_ceiling=[0.61, 0.72])
    options = dict(measures=['spearman'], features=['x'], behavior='t.csv', bootstraps=1000)
    described = describe([record_of('compare', options=options, settings=settings)])
    for words in (
        'We compared 1 file of features of 16 stimuli (64 rows) by RSA',
        '1,000 bootstrap samples of the stimuli (Schütt et al., 2023)',
        'The noise ceiling is 0.610 to 0.720',
    ):
        assert words in described.text, (words, described.text)
    assert any('schutt2023statistical' in entry for entry in described.bibtex)


def test_what_is_claimed_is_known(features, capsys):
    assert main(['methods', str(features)]) == 0
    out, errors = capsys.readouterr()
    assert 'Each image was repeated as the 16 frames of a clip; frames' in out and 'Of each video' not in out
    assert 'weights of our own (mine.safetensors)' in out and 'vit_shapes_motion' not in out
    assert 'the record does not tell how these weights were trained' in errors
    record = content_of('f.npz.run.json')
    record['inputs'][0]['made_by'] = dict(record, inputs=[])  # of the images, which says nothing of the weights
    Path('f.npz.run.json').write_text(json.dumps(record))
    assert main(['methods', str(features)]) == 0
    assert 'the record does not tell how these weights were trained' in capsys.readouterr().err
    assert main(['methods', str(features), '--bibtex']) == 0
    assert '@misc{wightman2019timm,' in capsys.readouterr().out


def test_what_made_the_inputs_comes_first(images, capsys):
    shutil.copy('images/0.png', 'images/3.png')
    for name, block in (('a', '0'), ('b', '-1')):
        command = ['embed', 'images', '--model', 'vit_shapes_motion', '--blocks', block, '--out', f'{name}.npz']
        assert main([*command, *HERE]) == 0
    words = ['--measures', 'cka', '--bootstraps', '0', '--format', 'svg', '--out', 'compared']
    assert main(['compare', 'a.npz', 'b.npz', *words]) == 0
    record, _ = read('compared')
    assert [entry['made_by']['command'][1] for entry in record['inputs']] == ['embed', 'embed']
    os.remove('a.npz.run.json')  # it stands in the other record
    capsys.readouterr()
    assert main(['methods', 'compared']) == 0
    text = capsys.readouterr().out
    assert (
        text.index('blocks 0')
        < text.index('blocks -1')
        < text.index('We compared 2 files of features of 4 stimuli by debiased')
    )
    assert text.count('We ran ') == 1
    code, out, errors = again(capsys, 'compared')
    assert code == 0 and 'all equal' in out, out + errors


def test_a_record_is_found_by_each_of_its_files(tmp_path):
    outputs = [dict(path=name, sha256='') for name in ('x.hdf5', 'x_rdms.hdf5')]
    record = {**record_of('export'), KEY: FORMAT, 'given': [], 'outputs': outputs, 'parts': []}
    for name in ('x.hdf5', 'x_rdms.hdf5', 'other.hdf5'):
        (tmp_path / name).write_text('')
    (tmp_path / 'a.run.json').write_text('{"record": 5, "outputs": 5}')
    save(record, tmp_path / 'x.hdf5')
    assert find(tmp_path / 'x_rdms.hdf5') == tmp_path / 'x.hdf5.run.json'
    with pytest.raises(FileNotFoundError, match='no other.hdf5.run.json beside it'):
        find(tmp_path / 'other.hdf5')


def test_a_record_has_its_place_by_one_rule(tmp_path):
    assert path_of(tmp_path) == tmp_path / 'run.json'
    assert path_of(tmp_path / 'f.npz') == tmp_path / 'f.npz.run.json'
