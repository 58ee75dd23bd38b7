"""The zoo humanlike-vits: its names, published answers, the head with a batch norm, and what is not on the Hub."""

import json

import pytest
import timm
import torch
from conftest import GOLDEN, MANIFEST, REPOSITORY, golden, published, relative_error, save_published
from golden.recipe import clip
from timm.models import get_pretrained_cfg

import videozoo_timm
from videozoo_timm import catalogue, publishing
from videozoo_timm.catalogue import humanlike

SIZES = {
    'vits14': 'vit_s14_im',
    'vitb14': 'vit_b14_im',
    'vitl14': 'vit_l14_im',
    'vith14': 'vit_h14_im',
    'vith14@448': 'vit_h14_im',
    'vith14@476': 'vit_h14_im',
}
NARROW = dict(embed_dim=48, depth=2, num_heads=3, img_size=56)


def finetuned_checkpoint():
    """The golden's weights, in the published layout."""
    tensors = published('humanlike_vits14_finetuned')
    tensors['head.0.running_var'] = tensors['head.0.running_var'].abs() + 0.5
    return tensors


def test_the_series_is_a_rule():
    names = videozoo_timm.get_available_models('humanlike-vits')
    assert len(names) == 2 * 78 and names[:78] == list(humanlike.NAMES)
    assert names[0] == 'vits14_1.0_1' and {'vith14@476_1.0_1', 'vith14@476_0.0001_3_in1k'} <= set(names)
    assert not any('1.0_2' in name for name in names)
    listed = timm.list_pretrained('*humanlike*')
    for name in names:
        record = catalogue.find(name)
        size = name.split('_')[0]
        folder = f'finetuned_{size}' if name.endswith('_in1k') else size
        cfg = get_pretrained_cfg(record.timm_name)
        assert record.timm_name in listed and record.architecture == SIZES[size]
        assert record.filename == f'{folder}/{name.removesuffix("_in1k")}.pth'
        assert (cfg.hf_hub_id, cfg.hf_hub_filename) == (
            'eminorhan/humanlike-vits',
            record.filename[:-4] + '.safetensors',
        )
        assert cfg.input_size[-1] == int(size.partition('@')[2] or 224) and cfg.crop_pct == cfg.input_size[-1] / (
            cfg.input_size[-1] + 32
        )
        assert (cfg.license, cfg.interpolation, cfg.mean[0]) == ('mit', 'bicubic', 0.485)
        assert (len(cfg.label_names or ()), cfg.classifier) == ((1000, 'head.1') if 'in1k' in name else (0, 'head'))
    assert len({catalogue.find(name).filename for name in names}) == len(names)
    for name, timm_name in (
        ('vith14@476_1.0_1', 'vit_h14_im.humanlike_476_1_0_1'),
        ('vitb14_0.001_2_in1k', 'vit_b14_im.humanlike_0_001_2_in1k'),
    ):
        assert catalogue.find(name).timm_name == timm_name


def test_licenses_are_those_of_the_pages():
    said = {c.name for c in catalogue.CHECKPOINTS if c.repo and c.license == 'mit' and c.zoo != 'humanlike-vits'}
    assert said == {'dino_imagenet100_vitb14', 'dino_ego4d-200h_vitb14'}


@pytest.mark.parametrize('size', SIZES)
def test_key_tables(size):
    from videozoo_timm.weights import to_timm

    model = timm.create_model(catalogue.find(f'{size}_0.1_2').timm_name, device='meta', weight_init='skip')
    table = {k: tuple(v) for k, v in MANIFEST['shapes'][f'humanlike_{size}'].items()}
    assert {k: tuple(v.shape) for k, v in model.state_dict().items()} == table
    stored = to_timm({k: torch.empty(shape, device='meta') for k, shape in table.items()})
    assert {k: tuple(v.shape) for k, v in stored.items()} == table


def test_published_answers_of_a_finetuned_one(tmp_path):
    file = save_published(finetuned_checkpoint(), tmp_path / 'finetuned.pth')
    overlay = dict(file=str(file))
    model = videozoo_timm.load_model('vits14_1.0_1', finetuned=True, pretrained_cfg_overlay=overlay)
    x, want = clip('humanlike_vits14_finetuned', (2, 3, 224, 224)), golden('humanlike_vits14_finetuned')
    with torch.inference_mode():
        tokens = model.forward_features(x)
        assert relative_error(model(x), want['logits']) < 1e-5
        assert relative_error(model.forward_head(tokens, pre_logits=True), want['features']) < 1e-5
    assert 'tench' in model.pretrained_cfg['label_descriptions'][model.pretrained_cfg['label_names'][0]]
    with_ten = videozoo_timm.load_model('vits14_1.0_1_in1k', pretrained_cfg_overlay=overlay, num_classes=10)
    assert with_ten(x[:, :, :28, :28]).shape == (2, 10) and isinstance(with_ten.head[0], torch.nn.BatchNorm1d)
    without = videozoo_timm.load_model('vits14_1.0_1_in1k', pretrained_cfg_overlay=overlay, num_classes=0)
    assert torch.equal(without.norm.bias, model.norm.bias) and not list(without.head.parameters())
    # The file alone tells that its head has a norm.
    own = videozoo_timm.factory.load_file(file, 'vit_s14_im')
    assert (own.num_classes, own.head.out_features) == (1000, 1000) and torch.equal(
        own.head[0].running_mean, model.head[0].running_mean
    )


def narrow(**kwargs):
    torch.manual_seed(0)
    model = timm.create_model('vit_s14_im.humanlike_1_0_1_in1k', num_classes=5, **(NARROW | kwargs)).eval()
    model.head[0].running_mean.normal_()
    return model


def test_the_head_can_be_reset_compiled_and_exported():
    model, x = narrow(), torch.randn(3, 3, 56, 56)
    with torch.inference_mode():
        want = model(x)
        features = model.forward_head(model.forward_features(x), pre_logits=True)
        head = model.get_classifier()
        assert relative_error(head[1]((features - head[0].running_mean) / (1 + 1e-6) ** 0.5), want) < 1e-5
        assert relative_error(torch.compile(model, backend='eager', fullgraph=True)(x), want) < 1e-6
        assert relative_error(torch.fx.symbolic_trace(model)(x), want) < 1e-6
    batch = torch.export.Dim('batch', min=1, max=8)
    exported = torch.export.export(model, (x,), dynamic_shapes=({0: batch},)).module()
    assert relative_error(exported(x[:1]), want[:1]) < 1e-5
    assert narrow(global_pool='')(x).shape == (3, 17, 5)
    model.reset_classifier(0)
    assert torch.equal(model(x), features)
    model.reset_classifier(7)
    assert model(x).shape == (3, 7) and isinstance(model.head[0], torch.nn.BatchNorm1d)
    model.train()(x).sum().backward()
    assert model.head[0].running_mean.abs().sum() > 0


def test_timm_and_transformers_load_what_is_exported(tmp_path):
    from transformers import AutoModel, AutoModelForImageClassification

    model, x = narrow(), torch.randn(2, 3, 56, 56)
    publishing.export(model, tmp_path / 'out', label_names=list('abcde'))
    with torch.inference_mode():
        want = model(x)
        again = timm.create_model(f'local-dir:{tmp_path / "out"}', pretrained=True).eval()
        assert torch.equal(again(x), want)
        classifier = AutoModelForImageClassification.from_pretrained(tmp_path / 'out').eval()
        assert torch.equal(classifier(x).logits, want)
        backbone = AutoModel.from_pretrained(tmp_path / 'out').eval()
        assert torch.equal(backbone(x).pooler_output, model.forward_head(model.forward_features(x), pre_logits=True))


@pytest.mark.parametrize(
    'name, words',
    [
        ('vitb14_imagenet_1pt', 'never published'),
        ('vith14@476_imagenet_1pt', 'never published'),
        ('imagenet_1pt', "never published .*did you mean 'vit_hvm1_imagenet-2pt'"),
        ('vits14_1.0_2', 'of vits14_1.0 seed 1 alone was published; did you mean .*vits14_1.0_1'),
        ('vits14_0.1_4', 'of vits14_0.1 seeds 1, 2, 3 were published'),
        ('vits14_1.0_1_finetuned', "with _in1k of the models that were finetuned .*did you mean 'vits14_1.0_1_in1k'"),
        ('vits14_0.5_1', 'fractions 1.0, 0.1, 0.01, 0.001, 0.0001'),
        ('vitb14@448_1.0_1', 'sizes vits14, vitb14, .*vith14@476'),
        ('vits14_0.1', 'ends with its seed: 1, 2, 3'),
        ('vith14@476_1.0_1_in1', "did you mean 'vith14@476_1.0_1_in1k'"),
    ],
)
def test_what_was_never_published_is_told(name, words):
    with pytest.raises(ValueError, match=words):
        videozoo_timm.load_model(name)


def test_finetuned_is_for_this_zoo():
    with pytest.raises(ValueError, match='vit_say_ssv2-50shot'):
        videozoo_timm.load_model('vit_say_none', finetuned=True)
    assert catalogue.finetuned_of('vit_h14_im.humanlike_476_1_0_1') == 'vith14@476_1.0_1_in1k'
    assert catalogue.finetuned_of('vits14_1.0_1_in1k') == 'vits14_1.0_1_in1k'


def test_three_doors_and_a_file_that_is_not_there(hub, run, tmp_path):
    """The finetuned one, which has the name of another file, gives the published answers."""
    plain = timm.create_model('vit_s14_im', **NARROW).state_dict()
    for folder, tensors in (('vits14', plain), ('finetuned_vits14', finetuned_checkpoint())):
        path = save_published(tensors, tmp_path / f'{folder}.pth')
        hub.add('eminorhan/humanlike-vits', f'{folder}/vits14_0.1_1.pth', path)
    code = f"""
import hashlib, sys, timm, torch, videozoo_timm
from pathlib import Path
from safetensors.torch import load_file
sys.path.insert(0, {str(GOLDEN)!r})
from recipe import clip
from videozoo_timm.catalogue import digests
known = {{f'{{f}}/vits14_0.1_1.pth': hashlib.sha256(Path(f + '.pth').read_bytes()).hexdigest()
         for f in ('vits14', 'finetuned_vits14')}}
digests._pinned = lambda: {{'eminorhan/humanlike-vits': known}}
plain = videozoo_timm.load_model('vits14_0.1_1', **{NARROW!r})
assert plain.embed_dim == 48 and isinstance(plain.head, torch.nn.Identity)
models = [
    torch.hub.load({str(REPOSITORY)!r}, 'vits14_0.1_1', source='local', finetuned=True),
    torch.hub.load({str(REPOSITORY)!r}, 'vits14_0.1_1_in1k', source='local'),
    timm.create_model('vit_s14_im.humanlike_0_1_1_in1k', pretrained=True),
]
states = [model.state_dict() for model in models]
assert all(torch.equal(v, other[k]) for other in states[1:] for k, v in states[0].items())
want = load_file({str(GOLDEN / 'humanlike_vits14_finetuned.safetensors')!r})['logits']
with torch.inference_mode():
    logits = models[0](clip('humanlike_vits14_finetuned', (2, 3, 224, 224)))
assert (logits - want).abs().max() < 1e-5 * want.abs().max()
for name in ('vits14_0.1_2', 'vits14_0.1_2_in1k', 'vitb14_0.1_1'):
    try:
        videozoo_timm.load_model(name)
    except FileNotFoundError as error:
        print(error)
"""
    absent, absent_finetuned, other = run(code=code).stdout.splitlines()
    assert 'no file vits14/vits14_0.1_2.safetensors or vits14/vits14_0.1_2.pth: its name is known from' in absent
    assert 'of the same series vits14_0.1_1 is on this machine' in absent
    assert 'vits14_0.1_1_in1k is on this machine' in absent_finetuned and 'series none is on' in other


def test_the_list_groups_the_series(capsys):
    from videozoo_timm.cli import main

    assert main(['list']) == 0
    told = capsys.readouterr().out
    assert 'vith14@476_*_*_in1k' in told and 'vits14_0.1_1' not in told and '0.0001_3' in told
    assert main(['list', '--zoo', 'humanlike-vits']) == 0
    assert len(capsys.readouterr().out.splitlines()) == 157
    assert main(['list', '--zoo', 'humanlike-vits', '--markdown']) == 0
    table = capsys.readouterr().out
    assert all(f'| `{name}` |' in table for name in videozoo_timm.get_available_models('humanlike-vits'))
    assert main(['list', '--json']) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {'vith14@476_0.001_2', 'vith14@476_0.001_2_in1k'} <= {row['name'] for row in rows}


def test_info_names_the_siblings(capsys):
    from videozoo_timm.cli import main

    assert main(['info', 'vits14_0.1_1']) == 0
    told = capsys.readouterr().out
    assert 'vits14_0.1_1_in1k' in told and 'mae_s14_im.humanlike_0_1_1' in told and 'weights  mit' in told
    assert main(['info', 'mae_s14_im.humanlike_0_1_1']) == 0
    assert 'with its decoder' not in capsys.readouterr().out


def test_the_card_of_one_says_hours_seed_and_license():
    from videozoo_timm.cards import citation, model_card, trained_on

    record = catalogue.find('vits14_0.01_3_in1k')
    words = 'trained as a masked autoencoder on about 50 hours of human-like video, seed 3, then finetuned on 2% of'
    assert trained_on(record).startswith(words)
    assert '2308.03712' in citation(record)
    model = timm.create_model(record.timm_name, device='meta', weight_init='skip')
    assert 'license: mit' in model_card(model, 'me/model', record)
