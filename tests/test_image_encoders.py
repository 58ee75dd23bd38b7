"""The image encoders of silicon-menagerie: published answers, files, sizes, timm's contract, and the commands."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from conftest import GOLDEN, MANIFEST, REPOSITORY, golden, published, relative_error
from golden import recipe
from golden.recipe import clip
from PIL import Image
from timm.models import get_pretrained_cfg

import videozoo_timm
from videozoo_timm import catalogue
from videozoo_timm.analysis.attention import attend, strongest_head
from videozoo_timm.cli import main
from videozoo_timm.weights import convert, read_weights

SMALL = dict(img_size=64, embed_dim=48, depth=3, num_heads=3)
VITS = {
    'dino_vits16': 'vit_s16_im',
    'dino_vitb16': 'vit_b16_im',
    'dino_vitb14': 'vit_b14_im',
    'mae_vits16': 'vit_s16_im',
    'mae_vitb16': 'vit_b16_im',
}


def as_dino(tensors):
    """A checkpoint as DINO and Mugs are published: teacher and student, each with a projection head."""
    held = {f'module.backbone.{k}': v for k, v in tensors.items()}
    head = {'module.head.mlp.0.weight': torch.zeros(8, 8), 'module.head.last_layer.weight_g': torch.ones(8, 1)}
    student = {k: torch.zeros_like(v) for k, v in list(held.items())[:3]}
    return {'student': student, 'teacher': {**held, **head}, 'epoch': 3, 'optimizer': {'state': {}}}


def as_mae(tensors):
    """A checkpoint as the image MAE is published: with its decoder."""
    decoder = {
        'mask_token': torch.zeros(1, 1, 8),
        'decoder_pos_embed': torch.zeros(1, 5, 8),
        'decoder_embed.weight': torch.zeros(8, 8),
        'decoder_blocks.0.norm1.weight': torch.ones(8),
        'decoder_norm.bias': torch.zeros(8),
        'decoder_pred.weight': torch.zeros(8, 8),
    }
    return {'model': {**tensors, **decoder}, 'epoch': 3}


def small(name='vit_t16_im', **kwargs):
    torch.manual_seed(0)
    return timm.create_model(name, **(SMALL | kwargs)).eval()


@pytest.mark.parametrize('name', VITS)
def test_published_answers(name, tmp_path):
    tensors, want = published(name), golden(name)
    file = tmp_path / 'checkpoint.pth'
    torch.save(as_mae(tensors) if name.startswith('mae') else as_dino(tensors), file)
    architecture = VITS[name]
    model = timm.create_model(architecture, pretrained=True, pretrained_cfg_overlay=dict(file=str(file))).eval()
    patch = model.patch_embed.patch_size[0]
    x, big = clip(name, (1, 3, 224, 224)), clip(f'{name}_big', (1, 3, 20 * patch, 28 * patch))
    with torch.inference_mode():
        rows = model.get_last_selfattention(x)[:, :, 0]
        layers = torch.stack(model.get_published_intermediate_layers(x, 2))[..., :64]
        big_rows = model.get_last_selfattention(big)[:, :, 0]
        answers = dict(
            output=model(x),
            last_attention_cls=rows,
            intermediate_last2_first_64=layers,
            big_last_attention_cls=big_rows,
            big_output=model(big),
        )
        # The same without the matrix, and with positions that were resampled once.
        assert relative_error(model.cls_attention(big).flatten(2), big_rows[..., 1:]) < 1e-6
        resized = timm.create_model(
            architecture,
            pretrained=True,
            img_size=big.shape[2:],
            dynamic_img_size=False,
            pretrained_cfg_overlay=dict(file=str(file)),
        ).eval()
        assert relative_error(resized(big), answers['big_output']) < 1e-6
    for key, value in want.items():
        assert relative_error(answers[key].reshape(value.shape), value) < 1e-5, key


def test_published_answer_of_the_resnext(tmp_path):
    file = tmp_path / 'checkpoint.pth'
    torch.save(as_dino(published('dino_resnext50')), file)
    model = timm.create_model('resnext50_im', pretrained=True, pretrained_cfg_overlay=dict(file=str(file))).eval()
    with torch.inference_mode():
        output = model(clip('dino_resnext50', (2, 3, 224, 224)))
    assert relative_error(output, golden('dino_resnext50')['output']) < 1e-5


@pytest.mark.parametrize(
    'name, architecture',
    [
        ('dino_vits16', 'vit_s16_im'),
        ('dino_vitb16', 'vit_b16_im'),
        ('dino_vitb14', 'vit_b14_im'),
        ('dino_vitl16', 'vit_l16_im'),
        ('mae_vits16', 'vit_s16_im'),
        ('mae_vitb16', 'vit_b16_im'),
        ('mae_vitl16', 'vit_l16_im'),
        ('dino_resnext50', 'resnext50_im'),
    ],
)
def test_key_tables(name, architecture):
    model = timm.create_model(architecture, device='meta')
    table = {k: tuple(v) for k, v in MANIFEST['shapes'][name].items()}
    assert {k: tuple(v.shape) for k, v in model.state_dict().items()} == table
    record = catalogue.find(architecture)
    assert sum(p.numel() for p in model.parameters()) == record.num_params


def test_every_encoder_is_a_tag_with_its_repo_and_file():
    names = videozoo_timm.get_available_models('silicon-menagerie')
    want = json.loads((GOLDEN / 'published.json').read_text())['silicon-menagerie encoders']
    assert names[:51] == want and len(want) == 51
    names = want
    for name in names:
        method, data, size = name.split('_')
        tag = f'{method}_{data}'.replace('-', '_')
        c = catalogue.find(name)
        assert c.timm_name == f'{catalogue.IMAGE_ARCHITECTURES[size]}.{tag}'
        cfg = get_pretrained_cfg(c.timm_name)
        assert (cfg.hf_hub_id, cfg.hf_hub_filename) == (f'eminorhan/{name}', f'{name}.safetensors')
        assert (c.filename, cfg.num_classes, cfg.interpolation) == (f'{name}.pth', 0, 'bicubic')
        assert cfg.mean == (0.485, 0.456, 0.406) and '2305.15372' in cfg.paper_ids
    listed = [n for n in timm.list_pretrained() if re.search('^vit_.*_im|resnext50_im|_st[.]', n)]
    assert len([n for n in listed if 'shapes' not in n and 'humanlike' not in n]) == 96


def test_old_spellings_and_what_was_never_published():
    assert catalogue.find('dino_imagenet_10_vitb14').name == 'dino_imagenet10_vitb14'
    assert catalogue.find('vit_b14_im.dino_imagenet_100').name == 'dino_imagenet100_vitb14'
    for name in ('dino_imagenet_3_vitb14', 'dino_imagenet3_vitb14'):
        with pytest.raises(ValueError, match='announced but never published'):
            videozoo_timm.load_model(name)
    with pytest.raises(ValueError, match="did you mean 'dino_say_vitb14'"):
        videozoo_timm.load_model('dino_sai_vitb14')
    with pytest.raises(ValueError, match='no weights are published'):
        timm.create_model('vit_t16_im', pretrained=True)


def test_three_doors_through_the_hub(hub, run, tmp_path):
    name = 'dino_say_vits16'
    torch.save(as_dino(published('dino_vits16')), tmp_path / f'{name}.pth')
    hub.add(f'eminorhan/{name}', f'{name}.pth', tmp_path / f'{name}.pth')
    run(
        code=f"""
import timm, torch, videozoo_timm
models = [torch.hub.load({str(REPOSITORY)!r}, {name!r}, source='local'), videozoo_timm.load_model({name!r}),
          timm.create_model('vit_s16_im.dino_say', pretrained=True).eval()]
states = [model.state_dict() for model in models]
assert all(torch.equal(v, other[k]) for other in states[1:] for k, v in states[0].items())
assert not models[0].training and models[0](torch.zeros(1, 3, 224, 224)).shape == (1, 384)
"""
    )
    assert [p for _, p in hub.requests].count(f'/eminorhan/{name}/resolve/main/{name}.pth') >= 1


@pytest.mark.slow
def test_one_of_each_method_and_size_loads_through_the_hub(hub, run, tmp_path):
    """Of full width and of two blocks: twelve or twenty-four have no keys of another kind."""
    names = {}
    for c in catalogue.CHECKPOINTS:
        if c.repo == f'eminorhan/{c.name}':
            method, _, size = c.name.split('_')
            names.setdefault((size, method), c.name)
    for (size, method), name in names.items():
        shapes = {
            k: v for k, v in MANIFEST['shapes'][f'dino_{size}'].items() if not re.match(r'blocks\.(\d\d|[2-9])\.', k)
        }
        tensors = recipe.fill(shapes)
        torch.save(as_mae(tensors) if method == 'mae' else as_dino(tensors), tmp_path / name)
        hub.add(f'eminorhan/{name}', f'{name}.pth', tmp_path / name)
    done = run(
        code=f"""
import os, shutil, videozoo_timm
from videozoo_timm.models.image_encoders import BASE, BASE_14, LARGE, SMALL
for size in (BASE, BASE_14, LARGE, SMALL):
    size['depth'] = 2
first = {{}}
for name in {list(names.values())}:
    model = videozoo_timm.load_model(name)
    norm = sum(p.double().norm() for p in model.parameters()).item()
    assert first.setdefault(name.split('_')[2], norm) == norm, name
    del model
    shutil.rmtree(os.environ['HF_HOME'])
print(len(first))
"""
    )
    shutil.rmtree(tmp_path)
    assert len(names) > 8 and done.stdout.strip() == '5'


def test_what_a_file_may_have_and_what_not(tmp_path):
    tensors = small().state_dict()
    file = tmp_path / 'a.pth'

    def load(checkpoint):
        torch.save(checkpoint, file)
        return timm.create_model('vit_t16_im', pretrained=True, pretrained_cfg_overlay=dict(file=str(file)), **SMALL)

    encoder = {f'encoder.{k}': v for k, v in tensors.items()}
    for checkpoint in (
        tensors,
        as_dino(tensors),
        as_mae(tensors),
        {'state_dict': encoder},
        {'teacher': {**encoder, 'encoder_head.weight': torch.ones(3), 'head.0.weight': torch.ones(3)}},
    ):
        loaded = load(checkpoint).state_dict()
        assert all(torch.equal(loaded[k], v) for k, v in tensors.items())
    with pytest.raises(ValueError, match=r'blocks\.1\.attn\.qkv\.bias is missing'):
        load(as_dino({k: v for k, v in tensors.items() if k != 'blocks.1.attn.qkv.bias'}))
    with pytest.raises(ValueError, match=r'blocks\.7\.norm1\.bias .* has no place in the model'):
        load(as_dino({**tensors, 'blocks.7.norm1.bias': torch.ones(3)}))


def test_state_dicts_of_either_layout(tmp_path):
    want = small().state_dict()
    for k, checkpoint in enumerate((as_dino(want), as_mae(want), as_dino(want)['teacher'], as_mae(want)['model'])):
        torch.manual_seed(5)
        model = timm.create_model('vit_t16_im', **SMALL)
        model.load_state_dict(checkpoint.get('model', checkpoint))
        assert all(torch.equal(v, want[name]) for name, v in model.state_dict().items())
        torch.save(checkpoint, tmp_path / f'{k}.pth')
        model = timm.create_model('vit_t16_im', checkpoint_path=str(tmp_path / f'{k}.pth'), **SMALL)
        assert all(torch.equal(v, want[name]) for name, v in model.state_dict().items())


@pytest.mark.parametrize(
    'prefix', ['module.backbone._orig_mod.{}', '_orig_mod.module.backbone.{}', 'module._orig_mod.{}']
)
def test_wrapped_keys_of_published_layouts(prefix, tmp_path):
    path, (model, x) = tmp_path / 'x.pth', (small(), torch.randn(1, 3, 64, 64))
    torch.save({'teacher': {prefix.format(k): v for k, v in model.state_dict().items()}}, path)
    for loaded in (
        timm.create_model('vit_t16_im', checkpoint_path=str(path), **SMALL),
        timm.create_model('vit_t16_im', pretrained=True, pretrained_cfg_overlay=dict(file=str(path)), **SMALL),
    ):
        assert torch.equal(loaded.eval()(x), model(x))


@pytest.mark.parametrize('key', ['state_dict_ema', 'model_ema'])
def test_averaged_weights_are_taken_through_every_door(key, tmp_path):
    """As timm's `checkpoint_path` takes them; the overlay took those that were trained."""
    path, (model, x) = tmp_path / 'x.pth', (small(), torch.randn(1, 3, 64, 64))
    averaged = {f'module.{k}': v for k, v in model.state_dict().items()}
    torch.save({'state_dict': {k: v * 0 for k, v in averaged.items()}, key: averaged}, path)
    for loaded in (
        timm.create_model('vit_t16_im', checkpoint_path=str(path), **SMALL),
        timm.create_model('vit_t16_im', pretrained=True, pretrained_cfg_overlay=dict(file=str(path)), **SMALL),
    ):
        assert torch.equal(loaded.eval()(x), model(x))


def test_no_naflex_variant_is_refused_in_words():
    assert timm.create_model('vit_t16_im', depth=1, use_naflex=False)
    with pytest.raises(ValueError, match='vit_t16_im has no NaFlex variant; dynamic_img_size=True'):
        timm.create_model('vit_t16_im', use_naflex=True)


def test_video_training_refuses_image_encoders(tmp_path, capsys):
    out = ['--out', str(tmp_path / 'out'), '--steps', '1']
    for model in ('vit_t16_im', 'resnext50_im', 'say_gimel'):
        assert main(['finetune', '--train', 'drawn:8', '--model', model, '--from-scratch', *out]) == 2
        assert 'what is trained here are video models' in capsys.readouterr().err


def test_new_heads_channels_and_sizes(tmp_path):
    file = tmp_path / 'a.pth'
    for name, sizes in (('vit_t16_im', SMALL), ('resnext50_im', {})):
        torch.save(as_dino(timm.create_model(name, **sizes).state_dict()), file)
        overlay = dict(pretrained_cfg_overlay=dict(file=str(file)))
        model = timm.create_model(name, pretrained=True, num_classes=5, in_chans=1, **overlay, **sizes).eval()
        assert model(torch.zeros(2, 1, 64, 64)).shape == (2, 5)
        assert model.get_classifier().weight.abs().sum() > 0
        features = timm.create_model(name, pretrained=True, features_only=True, out_indices=[1, 2], **overlay, **sizes)
        maps = features(torch.zeros(2, 3, 64, 64))
        assert [m.shape[1] for m in maps] == features.feature_info.channels() and len(maps) == 2
    small_file = tmp_path / 'b.pth'
    torch.save(as_dino(small().state_dict()), small_file)
    assert main(['convert', str(small_file), str(tmp_path / 'b.safetensors')]) == 0
    resized = timm.create_model(
        'vit_t16_im',
        pretrained=True,
        pretrained_cfg_overlay=dict(file=str(tmp_path / 'b.safetensors')),
        **(SMALL | dict(img_size=96)),
    )
    assert resized.pos_embed.shape == (1, 37, 48)


def test_sizes_at_run_time():
    model = small()
    x = torch.randn(2, 3, 96, 80)
    with torch.inference_mode():
        want = model(x)
        other = small()
        other.set_input_size((96, 80))
        assert relative_error(other(x), want) < 1e-6
        assert model.forward_intermediates(x, intermediates_only=True)[-1].shape == (2, 48, 6, 5)
        assert model.cls_attention(x).shape == (2, 3, 6, 5)
        row = model.get_last_selfattention(x)[:, :, 0]
        assert relative_error(model.cls_attention(x).flatten(2), row[..., 1:]) < 1e-6
    with pytest.raises(ValueError, match='patch_size=8'):
        model.set_input_size(64, patch_size=8)
    with pytest.raises(ValueError, match='multiples of the patch'):
        model.set_input_size(100)
    with pytest.raises(AssertionError, match='divisible'):
        model(torch.zeros(1, 3, 70, 64))
    with pytest.raises(ValueError, match='3 blocks'):
        model.get_published_intermediate_layers(x, 4)


def test_compile_export_and_trace():
    model, x = small(), torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        want, bigger = model(x), torch.randn(2, 3, 96, 64)
        assert relative_error(torch.compile(model, backend='eager', fullgraph=True)(x), want) < 1e-6
        traced = torch.fx.symbolic_trace(model)
        assert relative_error(traced(bigger), model(bigger)) < 1e-6
    batch = torch.export.Dim('batch', min=1, max=8)
    exported = torch.export.export(model, (x,), dynamic_shapes=({0: batch},)).module()
    assert relative_error(exported(x[:1]), model(x[:1])) < 1e-5


SIZES = ((64, 96), (96, 64), (64, 64), (32, 128))


@pytest.mark.parametrize('size', SIZES[:3])
def test_traced_at_one_size_it_is_right_at_others(size):
    for kwargs in ({}, dict(no_embed_class=True, reg_tokens=1)):
        model = small(**kwargs)
        with torch.inference_mode():
            traced = torch.jit.trace(model, torch.randn(1, 3, *size))
            for other in SIZES:
                x = torch.randn(2, 3, *other)
                assert relative_error(traced(x), model(x)) < 1e-5, other


def test_exported_for_sizes_of_any_kind():
    model = small()
    sides = {axis: 16 * torch.export.Dim(name, min=2, max=32) for axis, name in ((2, 'rows'), (3, 'columns'))}
    exported = torch.export.export(model, (torch.randn(2, 3, 64, 64),), dynamic_shapes=(sides,)).module()
    with torch.inference_mode():
        for size in SIZES:
            x = torch.randn(2, 3, *size)
            assert relative_error(exported(x), model(x)) < 1e-5, size
    program = torch.export.export(model, (torch.randn(2, 3, 64, 64),))
    assert not [n for n in program.graph.nodes if 'grid_sample' in str(n.target) or 'upsample' in str(n.target)]


def test_embeddings_as_those_of_timm():
    x = torch.randn(2, 3, 64, 64)
    for kwargs in (
        {},
        dict(dynamic_img_size=True),
        dict(pos_embed='none'),
        dict(pos_embed='none', class_token=False, global_pool='avg', dynamic_img_size=True),
    ):
        ours = small(**(dict(dynamic_img_size=False) | kwargs))
        theirs = timm.create_model('vit_tiny_patch16_224', num_classes=0, **(SMALL | kwargs)).eval()
        theirs.load_state_dict(ours.state_dict())
        assert torch.equal(ours.patch_embed(x), theirs.patch_embed(x))
        assert ours.patch_embed(x).ndim == (4 if kwargs.get('dynamic_img_size') else 3)
        assert relative_error(ours(x), theirs(x)) < 1e-6
    other = small(pos_embed='none')
    other.set_input_size((96, 80))
    assert other(torch.zeros(1, 3, 96, 80)).shape == (1, 48)


def test_timm_saves_and_reloads(tmp_path):
    from timm.models import save_for_hf

    model = small(num_classes=4)
    model.set_input_size((96, 64))
    save_for_hf(model, tmp_path / 'saved', model_args=dict(SMALL, img_size=[96, 64]))
    loaded = timm.create_model(f'local-dir:{tmp_path / "saved"}', pretrained=True).eval()
    x = torch.randn(1, 3, 96, 64)
    assert torch.equal(loaded(x), model(x))


def test_the_strongest_head_colors_each_pixel():
    torch.manual_seed(0)
    maps = torch.rand(6, 9, 7)
    picture = strongest_head(maps)
    highest = maps.max(dim=0).values.flatten().quantile(0.995).item()
    for i in range(9):
        for j in range(7):
            values = maps[:, i, j].tolist()
            k = values.index(max(values))
            angle = 2 * np.pi * k / 6
            hue = [min(max(0.5 + np.cos(angle + shift), 0), 1) for shift in (0, -2 * np.pi / 3, 2 * np.pi / 3)]
            want = np.array(hue) * min(values[k] / highest, 1)
            assert np.allclose(picture[:, i, j].numpy(), want, atol=1e-6)
    apart = torch.eye(6).view(6, 6, 1)
    colors = strongest_head(apart)[:, :, 0].T
    assert torch.cdist(colors, colors).fill_diagonal_(9).min() > 0.4


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    """Crops of scikit-image's sample photographs, a folder each, to train on and held out."""
    from skimage import data

    folder = tmp_path_factory.mktemp('photos')
    rng = np.random.default_rng(0)
    for name in ('astronaut', 'chelsea', 'coffee', 'rocket'):
        picture = Image.fromarray(getattr(data, name)())
        for split, number in (('train', 6), ('val', 3)):
            (folder / split / name).mkdir(parents=True)
            for k in range(number):
                left, top = (int(rng.integers(0, side - 200)) for side in picture.size)
                picture.crop((left, top, left + 200, top + 160)).save(folder / split / name / f'{k}.png')
    return folder


@pytest.fixture(scope='module')
def encoder(tmp_path_factory):
    """A published-layout file of the tiny architecture, with random weights."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp('encoder') / 'tiny.pth'
    torch.save(as_dino(timm.create_model('vit_t16_im').state_dict()), file)
    return file


def test_attention_of_whole_photographs(photos, encoder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo = photos / 'train' / 'chelsea' / '0.png'
    given = ['--model', 'vit_t16_im', '--weights', str(encoder), '--num-workers', '0', '--img-size', '240']
    assert main(['attend', str(photo), *given]) == 0
    assert main(['attend', str(photo), *given, '--heads', '--threshold', '0.6']) == 0
    # 200 x 160 pixels become 300 x 240, and the remainder of the patch is cut off: 288 x 240.
    assert (Image.open('attention/0_vit_t16_im_attention_block11.jpg').width - 8) // 4 >= 288
    heads = Image.open('attention/0_vit_t16_im_attention_block11_heads_top60.jpg')
    assert heads.height >= 2 * 240  # three heads in two rows
    model = videozoo_timm.factory.load_file(encoder, 'vit_t16_im')
    pixels = torch.from_numpy(np.array(Image.open(photo).resize((300, 240), Image.Resampling.BILINEAR)))[:, :288]
    mean, std = (torch.tensor(model.pretrained_cfg[key]) for key in ('mean', 'std'))
    x = ((pixels.float() / 255 - mean) / std).permute(2, 0, 1)
    from videozoo_timm.inference.pipeline import views_of
    from videozoo_timm.video import Job, read_views

    view = next(read_views(Job(0, str(photo)), views_of(model, size=240, whole=16)))
    assert view.x.shape == (3, 240, 288) and relative_error(view.x, x) < 0.02  # a gray level of PIL's rounding
    assert attend(model, view.x).weights.shape == (3, 1, 15, 18)


def test_odd_pictures(photos, encoder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    photo = Image.open(photos / 'train' / 'coffee' / '0.png').convert('L')
    photo.save('gray.png')
    Image.fromarray(np.array(photo).astype(np.uint16) * 257).save('grey16.png')
    from videozoo_timm.video import read_image

    assert torch.equal(read_image('grey16.png'), read_image('gray.png'))
    Image.new('RGB', (452, 6)).save('strip.png')
    given = ['--model', 'vit_t16_im', '--weights', str(encoder), '--num-workers', '0', '--img-size', '32']
    assert main(['attend', 'strip.png', *given]) == 0  # 2400 x 32 pixels, four below each other
    assert Image.open('attention/strip_vit_t16_im_attention_block11.jpg').height > 4 * 32
    assert main(['info', 'vit_t16_im', '--weights', str(encoder)]) == 0
    assert main(['embed', 'gray.png', '--model', 'say_gimel']) == 2
    assert 'is an image generator' in capsys.readouterr().err


def test_features_and_maps_of_photographs(photos, encoder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = ['--model', 'vit_t16_im', '--weights', str(encoder), '--num-workers', '0']
    assert main(['embed', str(photos / 'val'), *given, '--img-size', '96', '--tokens', 'all']) == 0
    assert np.load('features.npz')['features'].shape == (12, 6, 6, 192)
    assert main(['pca', str(photos / 'val' / 'coffee'), *given]) == 0
    assert len(list((tmp_path / 'pca').glob('*.jpg'))) == 3
    assert main(['embed', 'drawn:2', *given, '--stride', '1', '--out', 'time.npz']) == 0  # single frames of videos
    course = np.load('time.npz')
    assert course['features'].shape == (10, 192) and course['time'][:5].tolist() == [0, 1, 2, 3, 4]
    capsys.readouterr()
    for command, words in (
        (['embed', '--img-size', '100'], 'multiple of the patch size'),
        (['attend', '--num-frames', '4'], 'images'),
        (['classify'], 'no classification head'),
        (['complete'], 'no decoder'),
        (['complete', 'drawn:1'], 'no decoder'),
    ):
        paths = [] if 'drawn:1' in command else [str(photos / 'val' / 'coffee')]
        assert main([command[0], *paths, *given, *command[1:]]) == 2
        assert words in capsys.readouterr().err
    torch.save(as_dino(timm.create_model('resnext50_im').state_dict()), tmp_path / 'resnext.pth')
    given = ['--model', 'resnext50_im', '--weights', 'resnext.pth', '--num-workers', '0']
    coffee = str(photos / 'val' / 'coffee')
    assert main(['attend', coffee, *given]) == 2 and 'no class token' in capsys.readouterr().err
    assert main(['embed', coffee, *given, '--blocks', '3,4', '--tokens', 'mean', '--out', 'r.npz']) == 2
    assert 'one at a time' in capsys.readouterr().err
    assert main(['embed', coffee, *given, '--blocks', '4', '--tokens', 'mean', '--out', 'r.npz']) == 0
    assert np.load('r.npz')['features'].shape == (3, 1, 2048)


def test_probes_of_photographs(photos, encoder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = ['--model', 'vit_t16_im', '--weights', str(encoder), '--num-workers', '0', '--img-size', '96']
    folders = ['--train', str(photos / 'train'), '--val', str(photos / 'val')]
    assert main(['probe', *folders, *given, '--epochs', '20']) == 0
    told = capsys.readouterr()
    assert 'linear' in told.out and 'in --train too' not in told.err
    content = json.loads((tmp_path / 'probe' / 'probes.json').read_text())
    assert [row['probe'] for row in content['probes']] == ['linear', 'neighbours', 'attentive']
    for row in content['probes']:
        assert row['top1'] >= 0.5  # twice chance: colors alone tell four photographs apart
        assert row['top1_low'] <= row['top1'] <= row['top1_high'] and row['top5'] == 1
        assert (tmp_path / 'probe' / row['probe'] / 'confusion.png').exists()
    assert main(['probe', *folders, *given, '--seed', '1']) == 2 and '--force' in capsys.readouterr().err
    assert main(['probe', *folders, *given[:-1], '112']) == 2 and 'size' in capsys.readouterr().err
    assert main(['probe', *folders[:3], folders[1], *given, '--probes', 'neighbours', '--out', 'same']) == 0
    assert 'files of --val are in --train too' in capsys.readouterr().err
    shutil.copytree(photos, tmp_path / 'few')
    for k in range(1, 6):
        (tmp_path / 'few' / 'train' / 'coffee' / f'{k}.png').unlink()
    few = ['--train', 'few/train', '--val', 'few/val', '--out', 'few/out']
    assert main(['probe', *few, *given]) == 2
    assert "a single file of the class 'coffee'" in capsys.readouterr().err
    assert main(['probe', *few, *given, '--probes', 'neighbours']) == 0
    (tmp_path / 'few' / 'train' / 'coffee' / '0.png').unlink()
    assert main(['probe', *few, *given, '--probes', 'neighbours', '--force']) == 2
    assert "the class folder 'coffee' is empty: fill it or remove it\n" in capsys.readouterr().err
    shutil.copytree(photos / 'val', tmp_path / 'other')
    (tmp_path / 'other' / 'coffee').rename(tmp_path / 'other' / 'tea')
    assert main(['probe', '--train', str(photos / 'train'), '--val', 'other', *given]) == 2
    message = capsys.readouterr().err
    assert 'train alone has coffee' in message and 'other alone has tea' in message


def test_a_probe_of_videos(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert (
        main(
            [
                'probe',
                '--train',
                'drawn:48@5',
                '--val',
                'drawn:32@6',
                '--probes',
                'linear',
                'neighbours',
                '--json',
                '--num-workers',
                '0',
            ]
        )
        == 0
    )
    content = json.loads(capsys.readouterr().out)
    assert content['probes'][0]['top1'] > 0.5  # chance is 0.125


def test_a_converted_file_says_what_it_is(tmp_path, encoder):
    convert(encoder, tmp_path / 'a.safetensors', dict(architecture='vit_t16_im'))
    assert 'head' not in ' '.join(read_weights(tmp_path / 'a.safetensors').tensors)
    env = dict(os.environ, PYTHONPATH=str(REPOSITORY))
    done = subprocess.run(
        [sys.executable, '-m', 'videozoo_timm', 'info', str(encoder)], env=env, text=True, capture_output=True
    )
    assert 'vit_t16_im' in done.stdout
