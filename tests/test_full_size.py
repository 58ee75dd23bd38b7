"""The published answers at full size: of one checkpoint through the whole path, published file -> Hub -> conversion ->
three doors, which is the same for the others; of those from the published file.

Weights are made from their names (2.5 GB a checkpoint) and removed at the end.
"""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import CLIPS, GOLDEN, MANIFEST, REPOSITORY, golden, relative_error, save_published
from golden import recipe
from loopback_hub import LoopbackHub
from PIL import Image
from safetensors.torch import load_file

import videozoo_timm
from videozoo_timm.models.attention import fast_in_bfloat16

# For what need not be exact; without instructions for bfloat16 a clip would take an hour.
DTYPE = 'bfloat16' if fast_in_bfloat16(torch.device('cpu')) else 'float32'

BEGIN = f"""
import sys, timm, torch, videozoo_timm
sys.path.insert(0, {str(GOLDEN)!r})
from recipe import clip
from safetensors.torch import save_file
answers = {{}}
"""
THREE_DOORS = """
model = torch.hub.load({repository!r}, {name!r}, source='local')
doors = timm.create_model({timm_name!r}, pretrained=True).eval(), videozoo_timm.load_model({name!r})
for other in doors:
    ours, theirs = model.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(v, theirs[k]) for k, v in ours.items())
"""
FROM_FILE = """
model = videozoo_timm.load_model({name!r}, pretrained_cfg_overlay=dict(file='published.pth'))
"""
ANSWER = """
with torch.inference_mode():
    {check}
save_file(answers, 'answers.safetensors')
"""
MADE = {}  # the checkpoints have most tensors in common, as these follow from their names


def published(name):
    shapes = MANIFEST['shapes'][name]
    MADE.update(recipe.fill({k: v for k, v in shapes.items() if k not in MADE or list(MADE[k].shape) != list(v)}))
    return {k: MADE[k] for k in shapes}


def answers_of(folder, code, **environment):
    environment = dict(os.environ, NO_PROXY='127.0.0.1', PYTHONPATH=str(REPOSITORY), **environment)
    done = subprocess.run([sys.executable, '-c', code], cwd=folder, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return load_file(folder / 'answers.safetensors')


@pytest.fixture
def through_the_hub(tmp_path):
    """Publish a checkpoint's .pth on a loopback Hub, load it through three doors and return what the model answers."""

    def answers(tensors, filename, name, timm_name, check):
        path = save_published(tensors, tmp_path / 'published.pth')
        code = BEGIN + THREE_DOORS.format(repository=str(REPOSITORY), name=name, timm_name=timm_name)
        with LoopbackHub() as hub:
            hub.add('eminorhan/hvm-1', filename, path)
            told = answers_of(
                tmp_path, code + ANSWER.format(check=check), HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path / 'hf')
            )
            assert [path for _, path in hub.requests if path.endswith('.safetensors')]  # asked for first
        return told

    yield answers
    shutil.rmtree(tmp_path)


@pytest.fixture
def from_the_file(tmp_path):
    """Load a checkpoint's .pth and return what the model answers."""

    def answers(tensors, name, check):
        save_published(tensors, tmp_path / 'published.pth')
        code = BEGIN + FROM_FILE.format(name=name) + ANSWER.format(check=check)
        return answers_of(tmp_path, code, HF_HUB_OFFLINE='1')

    yield answers
    shutil.rmtree(tmp_path)


def videozoo(folder, *args):
    """Run a command without a network; what it printed."""
    done = subprocess.run(
        [sys.executable, '-m', 'videozoo_timm', *args],
        cwd=folder,
        text=True,
        capture_output=True,
        env=dict(os.environ, PYTHONPATH=str(REPOSITORY), HF_HUB_OFFLINE='1'),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.full
def test_vit_and_mae_at_224(through_the_hub, tmp_path):
    # The checkpoints are made from their keys, so the MAE's file holds the very encoder of `vit_huge_224`.
    ours = through_the_hub(
        published('mae_huge_224'),
        'hvm1_none.pth',
        'vit_hvm1_none',
        'vit_h14_st.hvm1',
        """
    x = clip('vit_huge_224', (1, 3, 16, 224, 224))
    answers['output'] = model(x)
    from videozoo_timm.analysis.attention import attend
    attention = attend(model, x[0])
    answers['cls_rows'], answers['maps'] = attention.weights.unsqueeze(0), attention.maps()
    mae = videozoo_timm.load_model('mae_hvm1_none')
    x = clip('mae_huge_224', (1, 3, 16, 224, 224))
    for case, ratio in (('random', 0.9), ('center', 0.5)):
        torch.manual_seed(0)
        loss, pred, mask = mae(x, mask_ratio=ratio, mask_type=case)
        key = f'{case}_{round(100 * ratio)}'
        answers |= {f'{key}.loss': loss.reshape(1), f'{key}.mask': mask, f'{key}.pred_mean': pred.mean(-1)}
    """,
    )
    assert relative_error(ours['output'], golden('vit_huge_224')['output']) < 1e-5
    assert relative_error(ours['cls_rows'], golden('vit_huge_224_attention')['cls_rows']) < 1e-5
    # The averaged picture by the published arithmetic, from the published weights of attention.
    rows = golden('vit_huge_224_attention')['cls_rows'][0].mean(dim=0)  # [T', H', W']
    maps = torch.nn.functional.interpolate(rows.unsqueeze(1), (224, 224), mode='nearest-exact').squeeze(1)
    assert relative_error(ours['maps'][::2], maps) < 1e-5 and torch.equal(ours['maps'][::2], ours['maps'][1::2])
    want = golden('mae_huge_224')
    for key in ('random_90', 'center_50'):
        assert torch.equal(ours[f'{key}.mask'], want[f'{key}.mask'])
        assert relative_error(ours[f'{key}.loss'], want[f'{key}.loss']) < 1e-5
        assert relative_error(ours[f'{key}.pred_mean'], want[f'{key}.pred_mean']) < 1e-5

    shutil.rmtree(tmp_path / 'hf')
    # A command with the ViT and one with the MAE; the others are tested on small models.
    video = CLIPS / 'pans' / 'things' / 'cat.mp4', '--weights', 'published.pth', '--dtype', DTYPE
    videozoo(tmp_path, 'embed', *video, '--model', 'vit_hvm1_none')
    features = np.load(tmp_path / 'features.npz')['features']
    assert features.shape == (1, 1280) and np.isfinite(features).all()
    videozoo(tmp_path, 'complete', *video, '--model', 'mae_hvm1_none', '--mask-type', 'center', '--mask-ratio', '0.5')
    (picture,) = tmp_path.glob('completions/*.jpg')
    assert Image.open(picture).width > 16 * 224


@pytest.mark.full
def test_finetuned_vit_at_224(from_the_file, tmp_path):
    ours = from_the_file(
        published('vit_huge_224_ssv2'),
        'vit_hvm1_ssv2-50shot',
        "answers['output'] = model(clip('vit_huge_224_ssv2', (1, 3, 16, 224, 224)))",
    )
    assert relative_error(ours['output'], golden('vit_huge_224_ssv2')['output']) < 1e-5
    model = ('--model', 'vit_hvm1_ssv2-50shot', '--weights', 'published.pth', '--dtype', DTYPE)
    for k in range(174):
        (tmp_path / 'val' / f'class {k:03}').mkdir(parents=True)
    shutil.copy(CLIPS / 'pans' / 'things' / 'cat.mp4', tmp_path / 'val' / 'class 007')
    results = json.loads(videozoo(tmp_path, 'evaluate', 'val', '--allow-empty', '--json', *model))
    assert results['files'] == 1 and results['classes'] == 174 and np.isfinite(results['loss'])


@pytest.mark.full
def test_vit_at_448(from_the_file):
    ours = from_the_file(
        published('vit_huge_448'),
        'vit_hvm1@448_none',
        "answers['output'] = model(clip('vit_huge_448', (1, 3, 16, 448, 448)))",
    )
    assert relative_error(ours['output'], golden('vit_huge_448')['output']) < 1e-5


@pytest.mark.full
@pytest.mark.parametrize(
    'table, name',
    [
        ('humanlike_vitb14', 'vitb14_0.01_2'),
        ('humanlike_vitl14', 'vitl14_0.001_3'),
        ('humanlike_vith14', 'vith14_1.0_1'),
        ('humanlike_vith14@448', 'vith14@448_0.1_1'),
        ('humanlike_vith14@476', 'vith14@476_1.0_1'),
        ('image_mae_vits16', 'mae_s16_im.mae_say'),
        ('image_mae_vitb16', 'mae_b16_im.mae_say'),
        ('image_mae_vitl16', 'mae_l16_im.mae_say'),
        ('image_mae_vits14', 'mae_s14_im.humanlike_0_1_1'),
        ('image_mae_vith14', 'mae_h14_im.humanlike_1_0_1'),
    ],
)
def test_image_models_from_a_file_of_the_published_layout(table, name, tmp_path):
    shapes = MANIFEST['shapes'][table]
    # Made in place of their values, which would take a minute.
    path = save_published({k: torch.full(shape, 0.01) for k, shape in shapes.items()}, tmp_path / 'published.pth')
    model = videozoo_timm.load_model(name, pretrained_cfg_overlay=dict(file=str(path)))
    assert {k: list(v.shape) for k, v in model.state_dict().items()} == shapes
    assert all((p == 0.01).all() for p in model.parameters())
    size = 476 if '@476' in name else 4 * model.patch_embed.patch_size[0]  # of images of any size, once the largest
    with torch.inference_mode():
        answer = model(torch.rand(1, 3, size, size))
    output = answer[1] if name.startswith('mae_') else answer
    assert output.isfinite().all() and output.shape[-1] in (model.embed_dim, 3 * 14 * 14, 3 * 16 * 16)
    path.unlink()


@pytest.mark.parametrize(
    'name, timm_name',
    [
        ('vit_huge_224', 'vit_h14_st.hvm1'),
        ('vit_huge_224_ssv2', 'vit_h14_st.hvm1_ssv2_50shot'),
        ('vit_huge_448', 'vit_h14_st.hvm1_448'),
        ('mae_huge_224', 'mae_h14_st.hvm1'),
        ('mae_huge_448', 'mae_h14_st.hvm1_448'),
    ],
)
def test_key_tables(name, timm_name):
    import timm

    from videozoo_timm.weights import to_timm

    table = to_timm({k: torch.empty(shape, device='meta') for k, shape in MANIFEST['shapes'][name].items()})
    model = timm.create_model(timm_name, device='meta', weight_init='skip')
    assert {k: v.shape for k, v in table.items()} == {k: v.shape for k, v in model.state_dict().items()}
