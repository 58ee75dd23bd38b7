"""What a model card claims: a published model is one whose tensors are the published ones, whatever a file says."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file as read_safetensors
from safetensors.torch import save_file

import videozoo_timm
from videozoo_timm import catalogue
from videozoo_timm.cli import main
from videozoo_timm.factory import load_file
from videozoo_timm.publishing import export, offer_safetensors, unproven

SHIPPED = catalogue.find('vit_shapes_motion').packaged
OF_THE_PUBLISHER = ('tag', 'license', 'description', 'hf_hub_id', 'origin_url', 'paper_name', 'paper_ids')


def _claiming(path, change):
    """A file with the shipped one's header, whose tensors are changed."""
    with safe_open(SHIPPED, 'pt') as file:
        header = file.metadata()
    save_file({key: change(key, value) for key, value in read_safetensors(SHIPPED).items()}, path, header)
    return path


@pytest.mark.parametrize(
    'change',
    [
        lambda key, value: value + 0.5,
        lambda key, value: value.flip(0) if key == 'head.weight' else value,  # another order of the classes
        lambda key, value: torch.nextafter(value, value + 1) if key == 'norm.bias' else value,
    ],
    ids=['all', 'head', 'last bit'],
)
def test_a_file_that_only_says_what_it_is_claims_nothing(change, tmp_path, monkeypatch, caplog, capsys):
    monkeypatch.chdir(tmp_path)
    mine = _claiming(tmp_path / 'mine.safetensors', change)
    publish = ['publish', '--weights', str(mine), '--to', 'me/x', '--dry-run']
    assert main(publish) == 2 and not (tmp_path / 'x').exists()
    assert 'the license of these weights is not given: --license states it' in capsys.readouterr().err
    assert main([*publish, '--license', 'cc-by-4.0']) == 0
    assert 'x: vit_t14_st, README.md' in capsys.readouterr().out
    assert 'not identified as vit_shapes_motion of shapes: they are not the published ones' in caplog.text
    card, config = (tmp_path / 'x/README.md').read_text(), json.loads((tmp_path / 'x/config.json').read_text())
    assert 'weights:** of the owner of this repository\n' in card and 'license: cc-by-4.0' in card
    for claim in (
        'publisher',
        'shapes',
        'pipeline_tag',
        'published as',
        'training:',
        'trained ',
        'load_model',
        'mit',
        'original',
        '@article',
    ):
        assert claim not in card, claim
    assert config['pretrained_cfg'].pop('license') == 'cc-by-4.0'
    assert not set(OF_THE_PUBLISHER) & config['pretrained_cfg'].keys()
    with safe_open(tmp_path / 'x/model.safetensors', 'pt') as file:
        assert not {'name', 'zoo', 'source', 'source_sha256'} & file.metadata().keys()
    # Their answers differ in the last bit where the tensors of mapped files are aligned otherwise.
    theirs, ours = (load_file(file).state_dict() for file in (tmp_path / 'x/model.safetensors', mine))
    assert theirs.keys() == ours.keys() and all(torch.equal(theirs[key], ours[key]) for key in ours)


def test_what_is_published_is_claimed_in_any_precision(tmp_path):
    record = catalogue.find('vit_shapes_motion')
    model = videozoo_timm.load_model(record.name)
    assert unproven(model, record) is None and unproven(model.bfloat16(), record) is None
    card = (export(model, tmp_path / 'half', name=record.name) / 'README.md').read_text()
    assert 'published as:** `vit_shapes_motion` of shapes' in card and 'license: mit' in card
    card = (export(model, tmp_path / 'mine', name=record.name, license='cc-by-4.0') / 'README.md').read_text()
    assert 'cc-by-4.0, according to the owner of this repository; mit' in card  # the publisher's own word stays
    with torch.no_grad():
        model.norm.bias[0] += 1
    card = (export(model, tmp_path / 'changed', name=record.name) / 'README.md').read_text()
    assert 'published as' not in card and 'license:' not in card  # of a license that is not known nothing is said


def test_what_cannot_be_compared_is_not_claimed(tmp_path, monkeypatch):
    """A Hub model, small for the test: nothing in the cache, then our own conversion there, then another file."""
    monkeypatch.setenv('HF_HOME', str(tmp_path / 'hf'))
    monkeypatch.setenv('VIDEOZOO_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path / 'hf' / 'hub'))
    from videozoo_timm.factory import find_source

    record = catalogue.find('resnext50_im.dino_s')
    model = videozoo_timm.load_model(record.name, pretrained=False)
    assert 'is not on this machine' in unproven(model, record)
    assert 'videozoo download resnext50_im.dino_s' in unproven(model, record)
    converted = find_source(record.timm_name).converted
    converted.parent.mkdir(parents=True)
    save_file(dict(model.state_dict()), converted)
    assert unproven(model, record) is None
    save_file({key: value + 1 for key, value in model.state_dict().items()}, converted)
    assert 'are not the published ones' in unproven(model, record)


def test_files_that_are_shared_tell_nothing_of_the_machine(tmp_path, monkeypatch):
    home = tmp_path / 'alice' / 'secret-project'
    home.mkdir(parents=True)
    shutil.copy(SHIPPED, home / 'mine.safetensors')
    save_file(
        {key: value + 1 for key, value in read_safetensors(SHIPPED).items()},
        home / 'plain.safetensors',
        dict(architecture='vit_t14_st', source=str(home), file=str(home), name=str(home)),
    )
    monkeypatch.chdir(home)
    for name, extra in (('mine.safetensors', []), ('plain.safetensors', ['vit_t14_st', '--license', 'mit'])):
        out = tmp_path / f'from_{name}'
        assert (
            main(['publish', *extra, '--weights', str(home / name), '--to', 'me/x', '--dry-run', '--out', str(out)])
            == 0
        )
        for path in out.iterdir():
            assert b'alice' not in path.read_bytes() and b'secret-project' not in path.read_bytes(), path.name


def test_an_altered_conversion_is_not_offered(tmp_path, monkeypatch):
    """What lies in the cache may say that it was made of the published file, and not be."""
    uploaded = []

    class Api:
        def __init__(self, **options):
            pass

        def list_repo_files(self, repo):
            return ['dino_s_vits16.pth']

        def upload_file(self, **options):
            uploaded.append(options['path_in_repo'])

    def verify(source):
        raise ValueError('norm.bias differs')

    monkeypatch.setattr('huggingface_hub.HfApi', Api)
    monkeypatch.setattr('videozoo_timm.publishing.check_login', lambda repo: None)
    monkeypatch.setattr('videozoo_timm.publishing.locate', lambda source, **options: tmp_path / 'converted')
    monkeypatch.setattr('videozoo_timm.publishing.verify', verify)
    assert offer_safetensors('eminorhan/dino_s_vits16') == ['dino_s_vits16.pth: norm.bias differs'] and not uploaded
    monkeypatch.setattr('videozoo_timm.publishing.verify', lambda source: ['equal'])
    assert offer_safetensors('eminorhan/dino_s_vits16') == [] and uploaded == ['dino_s_vits16.safetensors']


def test_a_part_of_a_published_model_is_not_the_published_one():
    model = videozoo_timm.load_model('vit_shapes_motion')
    model.blocks = model.blocks[:2]
    assert 'is missing' in unproven(model, catalogue.find('vit_shapes_motion'))
