"""Publishing: folders and repositories that timm and transformers load, and .safetensors beside every .pth."""

import json
import re

import pytest
import timm
import torch
from conftest import published, save_published
from loopback_hub import TOKEN
from safetensors.torch import load_file as read_safetensors

import videozoo_timm
from videozoo_timm import cards, catalogue
from videozoo_timm.cli import main
from videozoo_timm.factory import load_file
from videozoo_timm.publishing import export, model_card, published_in

CLIP = torch.randn(1, 3, 16, 112, 112, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def publisher(run):
    """Commands of somebody who may write to the loopback Hub."""
    return lambda *args, **kwargs: run(*args, **dict(dict(HF_TOKEN=TOKEN, HF_HUB_DISABLE_XET='1'), **kwargs))


def several(*commands):
    """Code that runs commands one after the other; a process for each would take its time to import."""
    return f"""
import sys
from videozoo_timm.cli import main
for command in {commands!r}:
    code = main(command)
    print('->', code, flush=True)
    print('->', code, file=sys.stderr, flush=True)
"""


def ends(text):
    return [(int(code), said) for said, code in re.findall(r'(.*?)-> (\d+)\n', text, flags=re.S)]


def test_a_folder_is_what_it_was_made_of(tmp_path):
    model = videozoo_timm.load_model('vit_shapes_motion')
    folder = export(model, tmp_path / 'model', 'me/model', name='vit_shapes_motion')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['model']
    assert sorted(path.name for path in folder.iterdir()) == ['README.md', 'config.json', 'model.safetensors']
    again = timm.create_model(f'local-dir:{folder}', pretrained=True).eval()
    assert torch.equal(again(CLIP), model(CLIP))
    assert tuple(again.pretrained_cfg['label_names']) == model.pretrained_cfg['label_names']
    before, after = map(timm.data.resolve_model_data_config, (model, again))
    assert {k: v if isinstance(v, (str, float)) else tuple(v) for k, v in after.items()} == before
    assert torch.equal(load_file(folder / 'model.safetensors')(CLIP), model(CLIP))
    with pytest.raises(ValueError, match='is there; force=True'):
        export(model, folder)
    (folder / 'thesis.tex').write_text('years of work')
    with pytest.raises(ValueError, match='holds other things'):
        export(model, folder, force=True)
    assert (folder / 'thesis.tex').read_text() == 'years of work'
    (tmp_path / 'file').write_text('')
    with pytest.raises(ValueError, match='is a file'):
        export(model, tmp_path / 'file')
    for wrong, message in (
        (dict(name='mae_shapes_none'), 'the model is vit_t14_st with 8 classes'),
        (dict(label_names=['a', 'b']), '2 names of classes, the model has 8'),
    ):
        with pytest.raises(ValueError, match=message):
            export(model, tmp_path / 'other', **wrong)
    model.head = torch.nn.Linear(128, 5)
    with pytest.raises(ValueError, match='5 rows'):
        export(model, tmp_path / 'other')
    assert not (tmp_path / 'other').exists()


def test_what_was_changed_is_exported(tmp_path):
    model = timm.create_model(
        'vit_t14_st.shapes_motion', pretrained=True, num_classes=3, img_size=(56, 84), num_frames=4, global_pool='avg'
    ).eval()
    x = torch.randn(1, 3, 4, 56, 84)
    folder = export(model, tmp_path / 'model', dtype=torch.bfloat16)
    assert read_safetensors(folder / 'model.safetensors')['head.weight'].dtype == torch.bfloat16
    config, card = json.loads((folder / 'config.json').read_text()), (folder / 'README.md').read_text()
    assert 'label_names' not in config and not {'license', 'tag', 'description'} & config['pretrained_cfg'].keys()
    assert 'shapes_motion' not in card and 'license:' not in card  # nothing is claimed of other weights
    again = timm.create_model(f'local-dir:{folder}', pretrained=True).eval()
    assert torch.equal(again(x), model.bfloat16().float()(x))
    folder = export(model, tmp_path / 'mine', label_names=['a', 'b', 'c'], license='cc-by-4.0')
    assert json.loads((folder / 'config.json').read_text())['label_names'] == ['a', 'b', 'c']
    assert 'license: cc-by-4.0' in (folder / 'README.md').read_text()
    for other in (torch.nn.Linear(2, 2), timm.create_model('vit_t14_st', features_only=True)):
        with pytest.raises(ValueError, match='cannot be exported|no timm model'):
            export(other, tmp_path / 'other')


def test_files_of_ones_own_are_exported(tmp_path, capsys):
    packaged = catalogue.find('vit_shapes_motion').packaged
    export(load_file(packaged, num_classes=3), tmp_path / 'mine')
    for file, to, name in (
        (packaged, 'same', 'vit_t14_st.shapes_motion'),
        (tmp_path / 'mine' / 'model.safetensors', 'changed', 'vit_t14_st'),
    ):
        publish = ['publish', '--weights', str(file), '--to', f'me/{to}', '--dry-run', '--out', str(tmp_path / to)]
        if to == 'changed':
            assert main(publish) == 2 and '--license' in capsys.readouterr().err and not (tmp_path / to).exists()
            publish += ['--license', 'mit']
        assert main(publish) == 0
        assert f'{to}: {name}, README.md' in capsys.readouterr().out
        again = timm.create_model(f'local-dir:{tmp_path / to}', pretrained=True).eval()
        assert torch.equal(again(CLIP), load_file(file)(CLIP))
    for wrong, message in (
        (['--weights', 'nowhere.safetensors'], 'nowhere.safetensors'),
        (['mae_shapes_none', '--weights', str(packaged)], 'is not mae_t14_st.shapes'),
    ):
        assert main(['publish', *wrong, '--to', 'me/x', '--dry-run', '--out', str(tmp_path / 'x')]) == 2
        assert message in capsys.readouterr().err and not (tmp_path / 'x').exists()


@pytest.mark.parametrize('name', ['vit_h14_st.hvm1_448_imagenet_2pt', 'mae_h14_st.say', 'resnext50_im.dino_s'])
def test_model_cards_tell_what_a_model_is(name):
    record = catalogue.find(name)
    card = model_card(timm.create_model(name, device='meta'), 'me/model', record)
    for fact in (
        record.name,
        cards.trained_on(record),
        catalogue.PAPERS[record.zoo][1],
        'not stated by the publisher',
        f'{record.num_params:,} parameters',
        "timm.create_model('hf-hub:me/model'",
        record.architecture,
        '@article{',
    ):
        assert fact in card
    assert ('from transformers import' in card) != name.startswith('mae_h14')


@pytest.mark.parametrize(
    ('name', 'task'),
    [
        ('vit_h14_st.hvm1_ssv2_50shot', None),  # no pipeline that classifies videos takes timm's models
        ('vit_h14_st.hvm1_imagenet_2pt', 'image-classification'),
        ('vit_h14_st.hvm1', 'image-feature-extraction'),
        ('vit_b14_im.dino_say', 'image-feature-extraction'),
    ],
)
def test_a_card_names_a_pipeline_that_loads_the_model(name, task):
    card = model_card(timm.create_model(name, device='meta'), 'me/model', catalogue.find(name))
    assert re.findall('^pipeline_tag: (.*)$', card, flags=re.M) == ([task] if task else [])
    assert 'license:' not in card.split('---')[1]  # which its publisher has not stated


def test_what_nobody_has_stated_is_asked_for(tmp_path, capsys):
    publish = ['publish', 'vit_hvm1_none', '--to', 'me/x', '--dry-run', '--out', str(tmp_path / 'x')]
    assert main(publish) == 2 and not (tmp_path / 'x').exists()
    assert 'the license of vit_hvm1_none is not stated by the publisher: ask' in (err := capsys.readouterr().err)
    assert '--license states it' in err


def test_every_model_has_its_training_in_words():
    for record in catalogue.CHECKPOINTS:
        assert cards.trained_on(record).startswith('trained ')


def test_publishing_to_the_hub(publisher, hub):
    hub.fail('uploads', mode='unauthorized')
    done = publisher('publish', 'vit_shapes_motion', '--to', 'me/shapes', check=False)
    assert done.returncode == 2 and 'hf auth login' in done.stderr and 'is still empty' in done.stderr
    assert hub.files('me/shapes').keys() == {'.gitattributes'}  # nothing half-uploaded is to be seen
    hub.heal()
    done = publisher('publish', 'vit_shapes_motion', '--to', 'me/shapes')
    assert 'me/shapes' in done.stdout
    assert hub.files('me/shapes').keys() == {'.gitattributes', 'README.md', 'config.json', 'model.safetensors'}
    code = """
import timm, torch, videozoo_timm
from transformers import AutoImageProcessor, AutoModelForImageClassification
x = torch.ones(1, 3, 16, 112, 112)
model = timm.create_model('hf-hub:me/shapes', pretrained=True).eval()
assert torch.equal(model(x), videozoo_timm.load_model('vit_shapes_motion')(x))
same = AutoModelForImageClassification.from_pretrained('me/shapes').eval()
assert torch.equal(same(x).logits, model(x)) and same.config.id2label[0] == 'down'
"""
    publisher(code=code)
    hub.add('me/shapes', 'README.md', b'my own words')
    publish = ['publish', 'vit_shapes_motion', '--to', 'me/shapes']
    done = publisher(code=several(publish, [*publish, '--private'], [*publish, '--dtype', 'float16', '--force']))
    for (code, said), (expected, message) in zip(
        ends(done.stderr),
        ((2, 'holds a model already'), (2, 'is there and public'), (0, 'has a model card, which stays')),
        strict=True,
    ):
        assert code == expected and message in said
    assert hub.files('me/shapes')['README.md'] == b'my own words'
    assert len(hub.files('me/shapes')['model.safetensors']) < 2.5e6


def test_publishing_that_is_not_allowed_or_wrong(run, publisher, hub, tmp_path):
    done = run('publish', 'vit_shapes_motion', '--to', 'me/shapes', HF_HUB_DISABLE_XET='1', check=False)
    assert done.returncode == 2 and 'hf auth login' in done.stderr and not hub.files('me/shapes')
    wrong = {
        "did you mean 'vit_shapes_motion'": ['vit_shapes_motoin', '--to', 'a/b'],
        'must be ORGANIZATION/NAME': ['vit_shapes_motion', '--to', 'b/'],
        'name a model': ['--to', 'a/b'],
        'image generator': ['say_gimel', '--to', 'a/b'],
    }
    done = publisher(
        code=several(
            *(['publish', *args] for args in wrong.values()),
            ['publish', 'mae_shapes_none', '--to', 'me/shapes', '--dry-run'],
        )
    )
    *refused, (code, _) = ends(done.stderr)
    assert code == 0 and all(
        code == 2 and message in said for (code, said), message in zip(refused, wrong, strict=True)
    )
    assert 'shapes: mae_t14_st.shapes' in done.stdout and (tmp_path / 'shapes' / 'config.json').is_file()
    assert not any(method == 'POST' and path == '/api/repos/create' for method, path in hub.requests[1:])
    hub.stop()
    for offline, why in (('0', 'the Hub is out of reach'), ('1', 'HF_HUB_OFFLINE is set')):
        done = publisher('publish', 'vit_shapes_motion', '--to', 'me/shapes', check=False, HF_HUB_OFFLINE=offline)
        assert done.returncode == 2 and f'nothing was published to me/shapes, {why}' in done.stderr


def test_safetensors_are_offered_beside_every_pickle(run, publisher, hub, tmp_path):
    file = save_published(published('dino_vits16'), tmp_path / 'x.pth')
    repo = 'eminorhan/dino_s_vits16'
    hub.add(repo, 'dino_s_vits16.pth', file)
    hub.add(repo, 'optimizer.pth', b'something else')
    done = publisher('offer', repo, '--dry-run', check=False)
    assert done.returncode == 1 and 'would be made of dino_s_vits16.pth' in done.stdout
    assert 'optimizer.pth: no published model' in done.stderr
    assert 'dino_s_vits16.safetensors' not in hub.files(repo)
    done = run('offer', repo, HF_HUB_DISABLE_XET='1', check=False)
    assert done.returncode == 2 and 'hf auth login' in done.stderr
    assert not any(path.endswith('.pth') for _, path in hub.requests)  # nothing is fetched in vain
    done = publisher('offer', repo, check=False)
    assert done.returncode == 1 and f'dino_s_vits16.safetensors: uploaded to {repo}' in done.stdout
    hub.clear()
    assert 'is there already' in publisher('offer', repo, check=False).stdout
    assert not any(path.endswith('.pth') for _, path in hub.requests)  # nothing is fetched again
    code = """
import shutil, torch, videozoo_timm
from videozoo_timm.weights.source import cache_root
shutil.rmtree(cache_root())
assert videozoo_timm.load_model('dino_s_vits16')(torch.ones(1, 3, 224, 224)).shape == (1, 384)
"""
    publisher(code=code)
    assert not any(path.endswith('.pth') for _, path in hub.requests)
    wrong = {
        'eminorhan/hvm-1': ['eminorhan/hvm-2'],
        'nothing of it is on the Hub': ['shapes'],
        'offer one at a time': ['hvm-1', 'video-models', '--to', 'me/all'],
    }
    refused = ends(publisher(code=several(*(['offer', *args] for args in wrong.values()))).stderr)
    assert all(code == 2 and message in said for (code, said), message in zip(refused, wrong, strict=True))


def test_a_damaged_file_does_not_keep_the_others_from_being_offered(publisher, hub, tmp_path):
    repo = 'eminorhan/dino_s_vits16'
    hub.add(repo, 'dino_s_vits16.pth', b'damaged')
    file = save_published(published('dino_vits16'), tmp_path / 'x.pth')
    hub.add('eminorhan/dino_a_vits16', 'dino_a_vits16.pth', file)
    done = publisher('offer', repo, 'eminorhan/dino_a_vits16', check=False)
    assert done.returncode == 1 and 'dino_s_vits16.pth: ' in done.stderr
    assert 'dino_a_vits16.safetensors' in hub.files('eminorhan/dino_a_vits16')
    hub.add(repo, 'dino_s_vits16.pth', file)  # mended by its publisher
    assert publisher('offer', repo).returncode == 0 and 'dino_s_vits16.safetensors' in hub.files(repo)
    # What was converted before is not offered as what has been published since.
    hub.remove(repo, 'dino_s_vits16.safetensors')
    changed = {k: v + 1 for k, v in published('dino_vits16').items()}
    hub.add(repo, 'dino_s_vits16.pth', save_published(changed, tmp_path / 'changed.pth'))
    publisher('offer', repo)
    (tmp_path / 'offered.safetensors').write_bytes(hub.files(repo)['dino_s_vits16.safetensors'])
    assert torch.equal(read_safetensors(tmp_path / 'offered.safetensors')['cls_token'], changed['cls_token'])


def test_every_published_file_is_known_to_the_offer():
    repos = ('eminorhan/hvm-1', 'eminorhan/video-models', 'eminorhan/gpt_saycam')
    sources = {repo: published_in(repo) for repo in repos}
    assert {repo: len(files) for repo, files in sources.items()} == {
        'eminorhan/hvm-1': 18,
        'eminorhan/video-models': 20,
        'eminorhan/gpt_saycam': 31,
    }
    assert ['vqgan_pretrained_models/say_32x32_8192.ckpt'] in [s.pickles for s in sources['eminorhan/gpt_saycam']]
