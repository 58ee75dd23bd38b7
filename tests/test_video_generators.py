"""The video generators: published answers, the cache, files."""

import pytest
import torch
from conftest import MANIFEST, golden, published, relative_error
from golden.recipe import clip

from videozoo_timm.models.gpt import GPT
from videozoo_timm.models.video_vqgan import VideoVQGAN, VideoVQGANConfig
from videozoo_timm.weights import to_timm


def config_of(name, **fields):
    told = MANIFEST['configs'][name]
    return VideoVQGANConfig(
        num_codes=told['n_codes'],
        embed_dim=told['embedding_dim'],
        ch=told['n_hiddens'],
        downsample=tuple(told['downsample']),
        norm=told['norm_type'],
        padding=told['padding_type'],
        num_frames=told['sequence_length'],
        resolution=told['resolution'],
        **fields,
    )


def vqgan_of(name):
    vqgan = VideoVQGAN(config_of(name), device='meta').eval()
    vqgan.load_state_dict(published(name), assign=True)
    return vqgan


def gpt_of(name='video_gpt_tiny'):
    told = MANIFEST['configs'][name]
    gpt = GPT(told['vocab_size'], told['block_size'], told['n_layer'], told['n_head'], told['n_embd']).eval()
    gpt.load_state_dict(to_timm(published(name)))
    return gpt


@pytest.mark.parametrize(
    ('name', 'shape'),
    [
        ('video_vqgan_tiny', (2, 3, 8, 32, 32)),
        ('video_vqgan_tiny_group', (1, 3, 8, 16, 16)),
        ('video_vqgan_8x16x16_16384', (1, 3, 4, 64, 64)),
    ],
)
@torch.inference_mode()
def test_the_published_answers_of_the_video_vqgans(name, shape):
    want, vqgan = golden(name), vqgan_of(name)
    x = clip(name, shape).clamp(-2, 2) / 4
    before = vqgan.pre_quantized(x)
    assert relative_error(before[:, :16], want['pre_quantized']) < 1e-5
    assert torch.equal(vqgan.quantize(before), want['indices']) and torch.equal(vqgan.encode(x), want['indices'])
    decoded = vqgan.decode(want['tokens'])
    assert decoded.shape == x.shape
    if name == 'video_vqgan_8x16x16_16384':
        decoded = torch.nn.functional.avg_pool3d(decoded, (1, 4, 4))
    assert relative_error(decoded, want['decoded']) < 1e-5


@torch.inference_mode()
def test_the_published_answers_of_the_video_gpt():
    want, gpt = golden('video_gpt_tiny'), gpt_of()
    codes = torch.nn.functional.pad(want['codes'], (1, 0))  # behind the start token
    logits = gpt(codes[:, :-1])
    assert relative_error(logits, want['logits']) < 1e-5
    nll = torch.nn.functional.cross_entropy(logits.transpose(1, 2), codes[:, 1:], reduction='none')
    assert relative_error(nll, want['nll']) < 1e-5
    greedy = gpt.sample(codes[:, :17], 65, temperature=0)
    assert torch.equal(greedy[:, 17:], want['greedy_after_16'])
    torch.manual_seed(0)
    drawn = gpt.sample(codes[:, :1], 65, top_k=16, top_p=0.92)
    assert torch.equal(drawn[:, 1:], want['top_k_16_top_p_92_seed_0'])
