"""The published answers at full size, through the whole path: published file -> Hub -> conversion -> three doors.

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
from conftest import CLIPS, GOLDEN, MANIFEST, REPOSITORY, golden, published, relative_error, save_published
from loopback_hub import LoopbackHub
from PIL import Image
from safetensors.torch import load_file

from videozoo_timm.models.attention import fast_in_bfloat16

# For what need not be exact; without instructions for bfloat16 a clip would take an hour.
DTYPE = 'bfloat16' if fast_in_bfloat16(torch.device('cpu')) else 'float32'

THREE_DOORS = """
import sys, timm, torch, videozoo_timm
sys.path.insert(0, {golden!r})
from recipe import clip
from safetensors.torch import save_file
name, timm_name, answers = {name!r}, {timm_name!r}, {{}}
model = torch.hub.load({repository!r}, name, source='local')
doors = timm.create_model(timm_name, pretrained=True).eval(), videozoo_timm.load_model(name)
for other in doors:
    ours, theirs = model.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(v, theirs[k]) for k, v in ours.items())
with torch.inference_mode():
    {check}
save_file(answers, 'answers.safetensors')
"""


@pytest.fixture
def through_the_hub(tmp_path):
    """Publish a checkpoint's .pth on a loopback Hub, load it through three doors and return what the model answers."""

    def answers(tensors, filename, name, timm_name, check, repo='eminorhan/hvm-1'):
        path = save_published(tensors, tmp_path / 'published.pth')
        hub = LoopbackHub()
        hub.add(repo, filename, path)
        hub.start()
        try:
            code = THREE_DOORS.format(
                golden=str(GOLDEN), name=name, timm_name=timm_name, repository=str(REPOSITORY), check=check
            )
            env = dict(
                os.environ,
                HF_ENDPOINT=hub.url,
                HF_HOME=str(tmp_path / 'hf'),
                NO_PROXY='127.0.0.1',
                PYTHONPATH=str(REPOSITORY),
            )
            done = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, env=env, text=True, capture_output=True)
            assert done.returncode == 0, done.stderr
            assert [path for _, path in hub.requests if path.endswith('.safetensors')]  # asked for first
        finally:
            hub.stop()
        return load_file(tmp_path / 'answers.safetensors')

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
def test_finetuned_vit_at_224(through_the_hub, tmp_path):
    ours = through_the_hub(
        published('vit_huge_224_ssv2'),
        'hvm1_ssv2-50shot.pth',
        'vit_hvm1_ssv2-50shot',
        'vit_h14_st.hvm1_ssv2_50shot',
        "answers['output'] = model(clip('vit_huge_224_ssv2', (1, 3, 16, 224, 224)))",
    )
    assert relative_error(ours['output'], golden('vit_huge_224_ssv2')['output']) < 1e-5
    shutil.rmtree(tmp_path / 'hf')
    model = ('--model', 'vit_hvm1_ssv2-50shot', '--weights', 'published.pth', '--dtype', DTYPE)
    for k in range(174):
        (tmp_path / 'val' / f'class {k:03}').mkdir(parents=True)
    shutil.copy(CLIPS / 'pans' / 'things' / 'cat.mp4', tmp_path / 'val' / 'class 007')
    results = json.loads(videozoo(tmp_path, 'evaluate', 'val', '--allow-empty', '--json', *model))
    assert results['files'] == 1 and results['classes'] == 174 and np.isfinite(results['loss'])


@pytest.mark.full
def test_vit_at_448(through_the_hub):
    ours = through_the_hub(
        published('vit_huge_448'),
        'hvm1@448_none.pth',
        'vit_hvm1@448_none',
        'vit_h14_st.hvm1_448',
        "answers['output'] = model(clip('vit_huge_448', (1, 3, 16, 448, 448)))",
    )
    assert relative_error(ours['output'], golden('vit_huge_448')['output']) < 1e-5


@pytest.mark.full
def test_an_image_encoder_of_humanlike_vits(through_the_hub):
    ours = through_the_hub(
        published('humanlike_vith14@476'),
        'vith14@476/vith14@476_1.0_1.pth',
        'vith14@476_1.0_1',
        'vit_h14_im.humanlike_476_1_0_1',
        "answers['output'] = model(torch.ones(1, 3, *model.pretrained_cfg['input_size'][1:]))",
        repo='eminorhan/humanlike-vits',
    )
    assert ours['output'].shape == (1, 1280) and ours['output'].isfinite().all()


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
