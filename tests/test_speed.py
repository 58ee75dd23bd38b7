"""Attention on CPUs in bfloat16, and `videozoo bench`."""

import itertools
import json
import types

import pytest
import timm
import torch
import torch.nn.functional as F
from conftest import TINY_VIT, golden, published, relative_error
from golden import recipe

import videozoo_timm
from videozoo_timm import bench as speed_module
from videozoo_timm.bench import PlainViT, count_flops, matrix_product_rate, measure
from videozoo_timm.cli import main
from videozoo_timm.models import attention as attention_module
from videozoo_timm.models.attention import attention


@pytest.fixture
def calls(monkeypatch):
    """How often the products of single heads were taken, as on a processor with instructions for bfloat16."""
    calls = []
    monkeypatch.setattr(attention_module, 'fast_in_bfloat16', lambda device: device.type == 'cpu')
    by_heads = attention_module._attention_by_heads
    monkeypatch.setattr(attention_module, '_attention_by_heads', lambda *qkv: calls.append(1) or by_heads(*qkv))
    return calls


def test_attention_in_bfloat16_is_as_exact_as_the_fused_one(calls):
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(2, 600, 3, 2, 40, generator=generator).bfloat16()
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # as a model makes them: no head lies contiguously
    exact = F.scaled_dot_product_attention(q.double(), k.double(), v.double())
    with torch.no_grad():
        ours = attention(q, k, v)
    assert calls and ours.dtype == torch.bfloat16 and ours.shape == exact.shape
    fused = F.scaled_dot_product_attention(q, k, v)
    error, theirs = ((x.double() - exact).norm() / exact.norm() for x in (ours, fused))
    assert error < 0.01 and error < 2.5 * theirs


def test_where_attention_is_that_of_pytorch(calls):
    def tensors(n, dtype):
        return [torch.randn(1, 2, n, 16).to(dtype) for _ in range(3)]

    for n, dtype in ((100, torch.bfloat16), (600, torch.float32), (600, torch.float16)):
        q, k, v = tensors(n, dtype)
        assert torch.equal(attention(q, k, v), F.scaled_dot_product_attention(q, k, v))
    q, k, v = tensors(600, torch.bfloat16)
    assert torch.equal(attention(q.requires_grad_(), k, v), F.scaled_dot_product_attention(q, k, v))  # to be trained
    assert not calls


def test_where_bfloat16_is_slow_attention_is_that_of_pytorch(monkeypatch):
    monkeypatch.setattr(attention_module, 'fast_in_bfloat16', lambda device: False)
    monkeypatch.setattr(attention_module, '_attention_by_heads', None)
    q, k, v = (torch.randn(1, 2, 600, 16).bfloat16() for _ in range(3))
    assert torch.equal(attention(q, k, v), F.scaled_dot_product_attention(q, k, v))


def test_a_model_in_bfloat16_takes_it(calls):
    model = videozoo_timm.load_model('vit_shapes_motion')
    x = torch.randn(2, 3, 16, 112, 112, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact = model(x)
        assert not calls
        assert relative_error(model.bfloat16()(x.bfloat16()).float(), exact) < 0.06
    assert len(calls) == len(model.blocks)


@pytest.mark.parametrize(
    'x',
    [recipe.clip('video_vit_tiny', (2, 3, 4, 56, 56)), recipe.clip('video_vit_tiny', (2, 3, 4, 56, 56))[:, :, 0]],
    ids=['clips', 'images'],
)
def test_the_plain_implementation_gives_the_same(x):
    overlay = dict(state_dict=published('video_vit_tiny'), num_classes=7)
    model = timm.create_model('vit_t14_st', pretrained=True, pretrained_cfg_overlay=overlay, **TINY_VIT).eval()
    with torch.no_grad():
        assert relative_error(PlainViT(model)(x), model(x)) < 1e-5
        if x.ndim == 5:
            assert relative_error(PlainViT(model)(x), golden('video_vit_tiny')['logits']) < 1e-5


def test_the_plain_implementation_of_image_encoders():
    model = timm.create_model('vit_t16_im', depth=2, num_classes=3).eval()
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        assert relative_error(PlainViT(model)(x), model(x)) < 1e-5


def test_operations_are_counted():
    model = timm.create_model('vit_t14_st', num_classes=8)
    tokens, width, depth = 513, 128, 5
    block = 2 * tokens * 12 * width**2 + 4 * tokens**2 * width
    expected = depth * block + 2 * 512 * 2 * 14 * 14 * 3 * width + 2 * width * 8
    assert count_flops(model, torch.empty(1, 3, 16, 112, 112)) == expected
    assert count_flops(model, torch.empty(3, 3, 16, 112, 112)) == 3 * expected
    assert count_flops(model.bfloat16(), torch.empty(1, 3, 16, 112, 112, dtype=torch.bfloat16)) == expected


def test_speed_is_measured(monkeypatch):
    ticks = itertools.count(step=0.5)  # each product, and each run of the model, takes half a second
    monkeypatch.setattr(speed_module, 'time', types.SimpleNamespace(perf_counter=lambda: next(ticks)))
    rate = matrix_product_rate(torch.device('cpu'), torch.float32, runs=1)
    assert rate == 4 * 2048**3
    speed = measure(torch.nn.Linear(512, 512), torch.randn(64, 512), rate, runs=3)
    assert speed.flops == 2 * 64 * 512 * 512 and speed.latency == speed.fastest == speed.slowest == 0.5
    assert speed.rate == 128 and speed.share == pytest.approx(64 * 512 * 512 / 2048**3)
    assert speed.peak_memory > 1e8


def test_bench(capsys):
    assert (
        main(
            [
                'bench',
                '--model',
                'vit_shapes_motion',
                '--against',
                'plain',
                '--runs',
                '1',
                '--batch-size',
                '2',
                '--json',
            ]
        )
        == 0
    )
    result = json.loads(capsys.readouterr().out)
    assert result['shape'] == [2, 3, 16, 112, 112] and [r['variant'] for r in result['results']] == ['eager', 'plain']
    ours, plain = result['results']
    assert plain['difference'] < 1e-4 and plain['against_plain'] == 1
    assert ours['against_plain'] == pytest.approx(ours['rate'] / plain['rate'])
    assert main(['bench', '--model', 'mae_shapes_none', '--runs', '1']) == 0
    assert 'clips a second' in capsys.readouterr().out
    assert main(['bench', '--model', 'vit_t16_im', '--runs', '1', '--img-size', '64']) == 0
    assert '[1, 3, 64, 64]' in capsys.readouterr().out
    for wrong, message in (
        (['--model', 'mae_shapes_none', '--against', 'plain'], 'not of VideoMaskedAutoencoder'),
        (['--batch-size', '0'], 'at least 1'),
        (['--model', 'vit_shapes'], 'did you mean'),
    ):
        assert main(['bench', *wrong]) == 2
        assert message in capsys.readouterr().err
