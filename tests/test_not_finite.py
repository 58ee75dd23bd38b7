"""What is not a number is no result: it is told with its file and place, and left out of everything."""

import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

import videozoo_timm
from videozoo_timm.analysis import attend, complete, embed, evaluate, frozen_features, patch_tokens, pca_colors, predict
from videozoo_timm.analysis import probe as fit
from videozoo_timm.analysis.evaluation import ClassFolders
from videozoo_timm.cli import main
from videozoo_timm.errors import NotFiniteError
from videozoo_timm.models.gpt import sample_codes
from videozoo_timm.text import to_json


def blind_to_white(model, value=torch.nan):
    """A model that gives no numbers for bright clips."""

    def spoil(module, args, output):
        bright = args[0].flatten(1).mean(dim=1) > 0  # [B]
        return output.masked_fill(bright.view(-1, *(1,) * (output.ndim - 1)), value)

    model.patch_embed.register_forward_hook(spoil)
    return model.eval()


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('images')
    for name, shade in {'black': 0, 'gray': 60, 'white': 255, 'bright': 240}.items():
        Image.new('RGB', (120, 112), (shade,) * 3).save(folder / f'{name}.png')
    return folder


@pytest.fixture(scope='module')
def vit():
    return blind_to_white(timm.create_model('vit_t14_st', num_classes=2, img_size=56, depth=3))


@pytest.fixture(scope='module')
def overflowing(tmp_path_factory):
    """A file of weights with activations beyond what float16 holds, as large models have them."""
    model = videozoo_timm.load_model('vit_shapes_motion')
    with torch.no_grad():
        model.blocks[1].mlp.fc2.weight *= 3000
        model.blocks[1].mlp.fc2.bias *= 3000
    path = tmp_path_factory.mktemp('weights') / 'large.safetensors'
    save_file(model.state_dict(), path, dict(architecture='vit_t14_st'))
    return path


def test_rows_that_are_not_finite_are_left_out(vit, images, caplog):
    paths = [str(images / f'{name}.png') for name in ('black', 'white', 'gray')]
    result = embed(vit, paths, blocks=[0, -1])
    assert result.paths == [paths[0], paths[2]] and result.features.isfinite().all()
    assert result.video_index.tolist() == [0, 1]
    assert [path for path, _ in result.failed] == [paths[1]]
    assert f'{paths[1]}: features of block 0: ' in result.failed[0][1] == caplog.messages[0]
    assert 'values are NaN or infinite; the model computes in float32, so its weights' in caplog.messages[0]
    assert torch.equal(result.features[1:], embed(vit, paths[2], blocks=[0, -1]).features)  # whatever stood beside it


def test_one_clip_that_is_not_finite_is_named_and_its_file_left_out(vit):
    calls = []

    def spoil(module, args, output):
        calls.append(len(output))
        return output * (torch.inf if len(calls) == 2 else 1)

    handle = vit.norm.register_forward_hook(spoil)
    try:
        result = embed(vit, ['drawn:0/left/000000', 'drawn:0/up/000000'], stride=1.0, align='start', batch_size=2)
    finally:
        handle.remove()
    assert calls == [2, 2, 1, 2, 2, 1] and result.paths == ['drawn:0/up/000000'] and len(result.features) == 5
    assert 'drawn:0/left/000000: features of the clip at 2.00 s: 128 of 128 values' in result.failed[0][1]


@pytest.mark.parametrize('value', [torch.nan, torch.inf])
def test_no_accuracy_is_made_of_nan(images, value):
    vit = blind_to_white(timm.create_model('vit_t14_st', num_classes=2, img_size=56, depth=1), value)
    names = ['black', 'gray', 'white', 'bright']
    paths = [str(images / f'{name}.png') for name in names]
    folders = ClassFolders(['a', 'b'], paths, [0, 1, 0, 1], str(images))
    answers, failed = predict(vit, paths)
    assert sorted(answers) == [0, 1] and sorted(failed) == [2, 3] and 'class scores: ' in failed[2]
    result = evaluate(vit, folders)
    assert result.paths == paths[:2] and result.summary()['failed'] == 2 and result.loss < 10
    frozen = frozen_features(vit, folders, tokens=True)
    assert frozen.features.isfinite().all() and len(frozen.tokens) == 2 and frozen.files.paths == paths[:2]
    assert not np.isnan(fit('neighbours', frozen, frozen).evaluation.loss)
    with pytest.raises(ValueError, match=r'none of 2 files in \S+ gave a result: .*white.png: class scores'):
        evaluate(vit, ClassFolders(['a', 'b'], paths[2:], [0, 1], str(images)))
    with pytest.raises(ValueError, match='none of 2 files'):
        frozen_features(vit, ClassFolders(['a', 'b'], paths[2:], [0, 1], str(images)))
    with pytest.raises(NotFiniteError, match='the neighbours probe gives NaN'):
        fit('neighbours', frozen._replace(features=frozen.features * value), frozen)


def test_no_earlier_result_stands_where_none_came(vit, images, tmp_path):
    out = tmp_path / 'features.npz'
    with pytest.raises(NotFiniteError, match='none of 1 file gave a result: .*white.png: features'):
        embed(vit, images / 'white.png', out=out)
    with np.load(out) as arrays:
        assert arrays['features'].shape == (0, 128) and arrays['paths'].tolist() == []
    assert [path.name for path in tmp_path.iterdir()] == ['features.npz']  # no unfinished run is left


def test_pictures_are_not_made_of_nan(vit):
    clip = torch.ones(3, 16, 56, 56)
    with pytest.raises(NotFiniteError, match=r'the attention in block 2: [\d,]+ of [\d,]+ values are NaN'):
        attend(vit, clip)
    with pytest.raises(NotFiniteError, match='the patch tokens of block 1: '):
        patch_tokens(vit, clip, block=1)
    with pytest.raises(NotFiniteError, match=r'tokens\[1\] holds NaN'):
        pca_colors([torch.randn(2, 3, 3, 5), torch.full((2, 3, 3, 5), torch.inf)])
    with pytest.raises(NotFiniteError, match='the attention in block 2.*; the clip itself is not finite'):
        attend(vit, clip * torch.nan)
    mae = timm.create_model('mae_t14_st', img_size=56).eval()
    torch.nn.init.constant_(mae.decoder_pred.bias, torch.inf)  # which pixels would show as white
    with pytest.raises(NotFiniteError, match='the completion: '):
        complete(mae, -clip)


def test_commands_say_that_float16_overflows(overflowing, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ['--model', 'vit_t14_st', '--weights', str(overflowing), '--dtype', 'float16', '--num-workers', '0']
    for command in (['attend', 'drawn:1'], ['pca', 'drawn:1'], ['embed', 'drawn:1']):
        assert main([*command, *options]) == 2
        err = capsys.readouterr().err
        assert 'are NaN or infinite; float16 overflows above 65,504, bfloat16 and float32 do not' in err, err
    assert not list(tmp_path.rglob('*.jpg'))
    assert main(['evaluate', 'drawn:8', '--json', *options]) == 2
    said = capsys.readouterr()
    content = json.loads(said.out, parse_constant=pytest.fail)
    assert (content['files'], content['failed'], content['top1'], content['loss']) == (0, 8, None, None)
    assert len(content['failed_files']) == 8 and 'float16 overflows' in said.err
    assert main(['probe', '--train', 'drawn:8', '--val', 'drawn:8@2', '--probes', 'neighbours', *options]) == 2
    assert 'none of 8 files in drawn:8 gave a result' in capsys.readouterr().err


def test_one_picture_without_numbers_leaves_the_others(vit, images, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr('videozoo_timm.cli.attend.load', lambda chosen: (vit, 'blind'))
    assert main(['attend', str(images), '--out', str(tmp_path), '--num-workers', '0']) == 1
    said = capsys.readouterr()
    assert len(list(tmp_path.glob('*.jpg'))) == 2 and '2 of 4 files could not be read or gave no result' in said.err
    assert f'{images / "white.png"}: the attention' in said.err


def test_generators_do_not_sample_from_nan():
    logits = torch.randn(2, 9)
    logits[1, 3] = torch.nan
    for temperature in (0, 1):  # the most probable code would be the one whose logit is NaN
        with pytest.raises(NotFiniteError, match='logits of the GPT'):
            sample_codes(logits, temperature)


def test_json_has_no_word_for_nan():
    text = to_json(dict(a=float('nan'), b=[1.5, float('inf')], c=dict(d=(-float('inf'), 'NaN')), e=None))
    assert json.loads(text) == dict(a=None, b=[1.5, None], c=dict(d=[None, 'NaN']), e=None)
