"""The image MAEs whole: published answers, masks, sizes, names and files."""

import pytest
import timm
import torch
from conftest import GOLDEN, MANIFEST, golden, published, relative_error, save_published
from golden.recipe import clip

import videozoo_timm
from videozoo_timm import catalogue
from videozoo_timm.factory import load_file

TINY = MANIFEST['configs']['image_mae_tiny']


@pytest.fixture(scope='module')
def file(tmp_path_factory):
    return save_published(published('image_mae_tiny'), tmp_path_factory.mktemp('mae') / 'tiny.pth')


def tiny(file, name='mae_s14_im', **kwargs):
    overlay = dict(file=str(file))
    return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **(TINY | kwargs)).eval()


def images():
    return clip('image_mae_tiny', (2, 3, 56, 56))


def test_published_answers(file):
    want = golden('image_mae_tiny')
    with torch.inference_mode():
        torch.manual_seed(0)
        loss, pred, mask = tiny(file)(images(), mask_ratio=0.75)
        assert torch.equal(mask, want['mask'].reshape(mask.shape))
        assert relative_error(loss, want['loss'].reshape(())) < 1e-5
        assert relative_error(pred, want['pred']) < 1e-5
        torch.manual_seed(0)
        normalized = tiny(file, norm_pix_loss=True)(images())[0]  # 0.75 is the default
        assert relative_error(normalized, want['norm_pix_loss'].reshape(())) < 1e-5


def test_the_encoder_reads_the_same_file(file):
    mae = tiny(file)
    vit = timm.create_model(
        'vit_s14_im',
        pretrained=True,
        pretrained_cfg_overlay=dict(file=str(file)),
        img_size=56,
        embed_dim=48,
        depth=2,
        num_heads=4,
    ).eval()
    with torch.inference_mode():
        assert torch.equal(mae.forward_features(images()), vit.forward_features(images()))
        torch.manual_seed(1)
        whole = mae.forward_encoder(images(), mask_ratio=0.0)
        back = whole[0][:, 1:].gather(1, whole[2].unsqueeze(-1).expand(-1, -1, 48))
        assert relative_error(back, vit.forward_features(images())[:, 1:]) < 1e-5
    features = tiny(file, features_only=True, out_indices=(0, 1))(images())
    assert [tuple(x.shape) for x in features] == [(2, 48, 4, 4)] * 2


def test_masks_of_ones_own_and_what_is_refused(file):
    mae = tiny(file)
    mask = torch.zeros(2, 4, 4, dtype=torch.bool)
    mask[:, 1:3] = True
    with torch.inference_mode():
        _, pred, dropped, comparison = mae(images(), mask=mask, visualize=True)
        assert torch.equal(dropped.bool(), mask.flatten(1)) and comparison.shape == (2, 3, 3, 56, 56)
        assert torch.equal(comparison[:, 0], images()) and not comparison[:, 1, :, 14:42].any()
        assert torch.equal(comparison[:, 2, :, 14:42], mae.unpatchify(pred)[:, :, 14:42])
        assert torch.equal(comparison[:, 2, :, :14], images()[:, :, :14])
        assert torch.equal(mae.unpatchify(mae.patchify(images())), images())
    for kwargs, words in (
        (dict(mask=mask.unsqueeze(1)), r"\[B, H', W'\] = \[2, 4, 4\]"),
        (dict(mask_type='center'), 'masked at random'),
        (dict(mask_ratio=1.0), 'below 1'),
        (dict(noise=torch.zeros(2, 3)), 'noise'),
    ):
        with pytest.raises(ValueError, match=words):
            mae(images(), **kwargs)
    with pytest.raises(ValueError, match='no classification head'):
        timm.create_model('mae_t16_im', num_classes=3)


def test_other_sizes_compile_and_train(file):
    mae, big = tiny(file), clip('big', (2, 3, 84, 56))
    noise = torch.rand(2, 24)
    with torch.inference_mode():
        loss, pred, _ = mae(big, noise=noise)
        assert pred.shape == (2, 24, 588) and mae.unpatchify(pred, (6, 4)).shape == big.shape
        resized = tiny(file, img_size=(84, 56), dynamic_img_size=False)
        assert relative_error(resized(big, noise=noise)[1], pred) < 1e-5
        other = tiny(file)
        other.set_input_size((84, 56))
        assert relative_error(other(big, noise=noise)[1], pred) < 1e-5
        compiled = torch.compile(mae, backend='eager', fullgraph=True)
        assert relative_error(compiled(images(), noise=noise[:, :16])[1], mae(images(), noise=noise[:, :16])[1]) < 1e-6
    fresh = timm.create_model('mae_t16_im', img_size=64, embed_dim=48, depth=2, num_heads=3)
    x, losses = images()[:, :, :48, :48].sigmoid(), []
    optimizer = torch.optim.AdamW(fresh.parameters(), 1e-3)
    for _ in range(12):
        loss = fresh(x)[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert {'pos_embed', 'decoder_pos_embed', 'mask_token', 'cls_token'} <= fresh.no_weight_decay()


def test_the_published_initialization_of_positions():
    """The first and second halves of the channels are sines and cosines of the column and of the row."""
    positions = timm.create_model('mae_t16_im', img_size=64, embed_dim=48, num_heads=3, depth=1).pos_embed[0]
    assert not positions[0].any()
    grid = positions[1:].view(4, 4, 48)
    assert torch.allclose(grid[3, 2, 0], torch.tensor(2.0).sin()) and torch.allclose(
        grid[3, 2, 24], torch.tensor(3.0).sin()
    )
    assert torch.allclose(grid[3, 2, 12 + 6], (2 * torch.tensor(10000.0) ** -0.5).cos())
    assert torch.equal(grid[0, :, :24], grid[3, :, :24]) and torch.equal(grid[:, 0, 24:], grid[:, 3, 24:])


@pytest.mark.parametrize('size', ['vits16', 'vitb16', 'vitl16', 'vits14', 'vith14'])
def test_key_tables(size):
    from videozoo_timm.weights import to_timm

    name = f'mae_say_{size}' if size.endswith('16') else f'{size}_1.0_1'
    record = catalogue.whole_of(name)
    model = timm.create_model(record.timm_name, device='meta', weight_init='skip')
    table = {k: tuple(v) for k, v in MANIFEST['shapes'][f'image_mae_{size}'].items()}
    assert {k: tuple(v.shape) for k, v in model.state_dict().items()} == table
    stored = to_timm({k: torch.empty(shape, device='meta') for k, shape in table.items()})
    assert {k: tuple(v.shape) for k, v in stored.items()} == table
    assert catalogue.find(name).num_bytes == 4 * sum(p.numel() for p in model.parameters())


def test_names_of_the_wholes():
    assert len(catalogue.WHOLE) == 12 + 78 and len({c.timm_name for c in catalogue.WHOLE}) == 90
    assert {c.timm_name for c in catalogue.WHOLE} == set(timm.list_pretrained('mae_*_im.*'))
    assert catalogue.whole_of('vith14@476_0.1_3').timm_name == 'mae_h14_im.humanlike_476_0_1_3'
    assert catalogue.find('mae_say_vitl16').timm_name == 'vit_l16_im.mae_say'  # as published
    assert catalogue.find('mae_l16_im.mae_say').architecture == 'mae_l16_im'
    assert catalogue.whole_of('mae_hvm1_none').timm_name == 'mae_h14_st.hvm1'
    for name in ('dino_say_vitb14', 'vits14_1.0_1_in1k', 'vit_hvm1_ssv2-50shot'):
        with pytest.raises(ValueError, match='no decoder of it was published'):
            videozoo_timm.load_model(name, whole=True)


def test_through_the_hub_and_from_files(hub, run, file, tmp_path):
    hub.add('eminorhan/mae_say_vits16', 'mae_say_vits16.pth', file)
    code = f"""
import sys, timm, torch, videozoo_timm
from safetensors.torch import load_file
sys.path.insert(0, {str(GOLDEN)!r})
from recipe import clip
sizes = {TINY!r}
encoder = {{k: v for k, v in sizes.items() if not k.startswith('decoder_')}}
mae = videozoo_timm.load_model('mae_say_vits16', whole=True, **sizes)
assert type(mae).__name__ == 'ImageMaskedAutoencoder' and not mae.training
same = timm.create_model('mae_s16_im.mae_say', pretrained=True, **sizes)
vit = videozoo_timm.load_model('mae_say_vits16', **encoder)
assert torch.equal(mae.decoder_pred.weight, same.decoder_pred.weight) and torch.equal(mae.pos_embed, vit.pos_embed)
want = load_file({str(GOLDEN / 'image_mae_tiny.safetensors')!r})
torch.manual_seed(0)
with torch.inference_mode():
    answers = dict(zip(('loss', 'pred', 'mask'), mae(clip('image_mae_tiny', (2, 3, 56, 56)))))
for name, ours in answers.items():
    assert (ours - want[name].reshape(ours.shape)).abs().max() < 1e-5 * want[name].abs().max(), name
# The published name, which means the encoder everywhere else, is completed whole.
from videozoo_timm.cli import main
from videozoo_timm.models import image_encoders
image_encoders.SMALL.update(sizes)
assert main(['complete', 'drawn:1', '--model', 'mae_say_vits16', '--num-workers', '0']) == 0
"""
    run(code=code)
    assert list((tmp_path / 'completions').glob('*mae_say_vits16_random75.jpg'))
    assert [p for _, p in hub.requests].count('/eminorhan/mae_say_vits16/resolve/main/mae_say_vits16.pth') == 1
    from videozoo_timm.weights import convert

    for said in ('mae_s16_im', 'vit_s16_im'):  # now, and by version 0.1.0
        about = dict(name='mae_say_vits16', zoo='silicon-menagerie', architecture=said)
        path = convert(file, tmp_path / f'{said}.safetensors', about)
        assert load_file(path, 'mae_s16_im', **TINY).decoder_pred.out_features == 588
        encoder = {k: v for k, v in TINY.items() if not k.startswith('decoder_')}
        assert not hasattr(load_file(path, 'vit_s16_im', **encoder), 'decoder_pred')


@pytest.mark.parametrize(
    'command, told',
    [
        ('complete drawn:1 --model dino_say_vitb14', 'no decoder of it was published; take one whose name begins with'),
        ('complete drawn:1 --model dino_say_vitb16', "no decoder of it was published; take 'mae_say_vitb16'"),
        ('complete drawn:1 --model vits14_1.0_1_in1k', "take 'vits14_1.0_1'"),
        ('complete drawn:1 --model vit_hvm1_ssv2-50shot', "take 'mae_hvm1_none'"),
        ('complete drawn:1 --model vit_s14_im', 'vit_s14_im has no decoder: take mae_s14_im'),
        ('complete drawn:1 --model mae_t16_im', 'no weights are published for mae_t16_im: name a file with --weights'),
        ('surprise drawn:1 --model vit_hvm1_none', "take 'mae_hvm1_none'"),
        ('surprise drawn:1 --model mae_say_vits16', 'mae_say_vits16 takes images; surprise is measured along clips'),
    ],
)
def test_a_model_that_cannot_complete_is_told_before_it_is_downloaded(command, told, tmp_path, monkeypatch, capsys):
    from videozoo_timm.cli import main

    monkeypatch.chdir(tmp_path)
    assert main(command.split()) == 2
    assert told in capsys.readouterr().err


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """A published-layout file of the small architecture, with random weights."""
    torch.manual_seed(0)
    state = timm.create_model('mae_t16_im').state_dict()
    return save_published(state, tmp_path_factory.mktemp('mae') / 'small.pth')


def test_images_are_completed(weights, tmp_path, monkeypatch, capsys):
    import csv

    import numpy as np
    from PIL import Image

    from videozoo_timm.analysis import box_mask, complete
    from videozoo_timm.analysis.completion import mask_shape
    from videozoo_timm.cli import main

    monkeypatch.chdir(tmp_path)
    pixels = torch.randint(0, 256, (80, 120, 3), generator=torch.Generator().manual_seed(0)).byte()
    for name in ('a', 'b'):
        (tmp_path / 'photos').mkdir(exist_ok=True)
        Image.fromarray(pixels.numpy()).resize((480, 320)).save(tmp_path / 'photos' / f'{name}.png')
    given = ['--model', 'mae_t16_im', '--weights', str(weights), '--num-workers', '0', '--img-size', '96']
    assert main(['complete', 'photos', *given]) == 0
    assert main(['complete', 'photos/a.png', *given, '--mask-box', '0,40,32,96']) == 0
    mask = np.zeros((6, 6), bool)
    mask[2:] = True
    np.save('mask.npy', mask)
    assert main(['complete', 'photos/a.png', *given, '--mask-file', 'mask.npy']) == 0
    with open('completions/completions.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [float(row['masked']) for row in rows] == [0.75, 0.75, 12 / 36, 24 / 36]
    picture = Image.open('completions/a_mae_t16_im_random75.jpg')
    assert picture.width >= 3 * 96 and 96 < picture.height < 3 * 96  # beside each other
    capsys.readouterr()
    for arguments, words in (
        (['--mask-box', '0,16,0,96,0,96'], 'y0,y1,x0,x1, got 6'),
        (['--mask-box', '0,97,0,96'], 'the image is 96 x 96 pixels'),
        (['--mask-type', 'center'], 'masked at random'),
        (['--animate', 'gif'], '--animate is for clips'),
    ):
        assert main(['complete', 'photos/a.png', *given, *arguments]) == 2
        assert words in capsys.readouterr().err
    mae = load_file(weights, 'mae_t16_im')
    x = torch.randn(3, 64, 64)
    result = complete(mae, x, mask=box_mask(mae, (0, 16, 0, 64), 64))
    assert mask_shape(mae) == (14, 14) and result.mask.shape == (4, 4) and result.mask.sum() == 4
    assert result.original.shape == (3, 64, 64) and torch.equal(result.completed[:, 16:], result.original[:, 16:])
    assert result.mse > 0 and result.frames()[0].size == (192, 64)
    assert complete(mae, x).mask.double().mean() == 0.75
    with pytest.raises(ValueError, match='takes images'):
        complete(mae, torch.zeros(3, 16, 64, 64))


def test_pretraining_on_images(weights, tmp_path, monkeypatch, capsys):
    from PIL import Image
    from safetensors.torch import load_file as read

    from videozoo_timm.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / 'photos').mkdir()
    for k in range(4):
        noise = torch.randint(0, 60 * (k + 1), (5, 6, 3), generator=torch.Generator().manual_seed(k)).byte()
        Image.fromarray(noise.numpy()).resize((120, 100)).save(tmp_path / 'photos' / f'{k}.png')
    given = [
        '--model',
        'mae_t16_im',
        '--img-size',
        '64',
        '--num-workers',
        '0',
        '--batch-size',
        '4',
        '--repeat-aug',
        '2',
    ]
    given += ['--steps', '2', '--from-scratch']
    assert main(['pretrain', 'photos', *given, '--pictures-every', '2']) == 0
    assert read('pretrained/model.safetensors')['decoder_pos_embed'].shape == (1, 17, 96)
    assert list((tmp_path / 'pretrained' / 'pictures').glob('*_random75.jpg'))
    assert main(['complete', 'photos/0.png', '--weights', 'pretrained/model.safetensors', '--num-workers', '0']) == 0
    capsys.readouterr()
    for arguments, words in (
        (['pretrain', *given, '--init', 'local', '--out', 'b'], 'models of clips'),
        (['pretrain', '--model', 'vit_t16_im', '--from-scratch'], 'is an image encoder'),
        (['pretrain', *given, '--mask-type', 'center', '--out', 'c'], 'masked at random'),
        (['pretrain', 'photos', *given, '--num-frames', '4', '--out', 'd'], 'takes images; leave it out'),
    ):
        assert main([arguments[0], 'photos', *arguments[1:]]) == 2
        assert words in capsys.readouterr().err
