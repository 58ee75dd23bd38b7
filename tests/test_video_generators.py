"""The video generators: published answers, the cache, sampling, files, commands."""

import argparse
import csv
import dataclasses
import importlib
import json
import re
import sys
import types
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import MANIFEST, REPOSITORY, golden, published, relative_error
from golden.recipe import clip
from PIL import Image
from test_video import write_video

import videozoo_timm
from videozoo_timm import catalogue, clip_transform, load_generator
from videozoo_timm.analysis import frechet_distance, reconstruct
from videozoo_timm.cli import main
from videozoo_timm.models import GPT, VideoGenerator, VideoVQGAN, VideoVQGANConfig
from videozoo_timm.models.generator_files import save_video_generator
from videozoo_timm.models.gpt import Cache
from videozoo_timm.video import probe, read_clip
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


def save_lightning(name, path, monkeypatch):
    """A part as published: a Lightning pickle with its configuration in a Namespace, and all that training needs."""
    told = argparse.Namespace(**MANIFEST['configs'][name], lr=3e-5, gpus=[0, 1], base_lr=None, vqvae='/somewhere')
    module = types.ModuleType('lightning_of_old')
    module.Callback = type('Callback', (), {'__module__': module.__name__})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    if 'gpt' in name:
        told.n_unmasked, told.vtokens_pos = 0, False
        tensors = {f'transformer.{k}': v for k, v in published(name).items()}
        tensors |= {f'first_stage_model.{k}': v for k, v in published('video_vqgan_tiny').items()}
        tensors |= {'first_stage_model.perceptual_model.lin0.model.1.weight': torch.zeros(1, 64, 1, 1)}
        settings = {'args': told, 'pkeep': 1.0, 'ignore_keys': []}
    else:
        told.image_channels, told.sample_every_n_frames = 3, 1
        tensors = published(name) | {
            'image_discriminator.model0.0.weight': torch.zeros(8, 3, 4, 4),
            'video_discriminator.model0.0.weight': torch.zeros(8, 3, 4, 4, 4),
            'perceptual_model.net.slice1.0.weight': torch.zeros(8, 3, 3, 3),
        }
        settings = {'args': told}
    torch.save(
        {
            'epoch': 3,
            'pytorch-lightning_version': '1.5.4',
            'state_dict': tensors,
            'callbacks': {module.Callback: {'monitor': module.Callback()}},
            'optimizer_states': [{'state': {}}],
            'hparams_name': 'kwargs',
            'hyper_parameters': settings,
        },
        path,
    )
    monkeypatch.delitem(sys.modules, module.__name__)
    return path


@pytest.fixture(scope='module')
def generator():
    return VideoGenerator(gpt_of(), vqgan_of('video_vqgan_tiny')).eval()


@pytest.fixture
def clips(generator):
    return torch.rand(3, 3, 8, 32, 32)


@pytest.mark.parametrize(
    ('name', 'shape'),
    [
        ('video_vqgan_tiny', (2, 3, 8, 32, 32)),
        ('video_vqgan_tiny_group', (1, 3, 8, 16, 16)),
        pytest.param('video_vqgan_8x16x16_16384', (1, 3, 4, 64, 64), marks=pytest.mark.slow),
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


@pytest.mark.parametrize(
    'name',
    ['video_gpt_24_16_1024_block_1024', 'video_gpt_24_16_1024_block_2048', 'video_gpt_28_20_1280_block_4608'],
)
def test_key_tables_of_the_video_gpts(name):
    told, shapes = MANIFEST['configs'][name], MANIFEST['shapes'][name]
    args = told['vocab_size'], told['block_size'], told['n_layer'], told['n_head'], told['n_embd']
    ours = GPT(*args, device='meta').state_dict()
    theirs = to_timm({f'transformer.{k}': torch.empty(v, device='meta') for k, v in shapes.items()})
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


def test_key_table_of_the_video_vqgan():
    name = 'video_vqgan_8x16x16_16384'
    vqgan = VideoVQGAN(config_of(name), device='meta')
    assert {k: list(v.shape) for k, v in vqgan.state_dict().items()} == MANIFEST['shapes'][name]
    assert vqgan.grid_size == (8, 16, 16)
    assert VideoVQGANConfig() == vqgan.config  # the defaults are the published ones


@pytest.mark.parametrize('padding', ['constant', 'reflect', 'circular'])
def test_other_paddings_and_grids(padding):
    config = VideoVQGANConfig(
        num_codes=9, embed_dim=5, ch=2, downsample=(1, 4, 2), padding=padding, num_frames=3, resolution=8
    )
    vqgan = VideoVQGAN(config).eval()
    codes = vqgan.encode(torch.rand(2, 3, 3, 8, 8) - 0.5)
    assert codes.shape == (2, 3, 2, 4) and vqgan.decode(codes).shape == (2, 3, 3, 8, 8)
    other = VideoVQGAN(dataclasses.replace(config, padding='replicate')).eval()
    other.load_state_dict(vqgan.state_dict())
    x = torch.rand(1, 3, 3, 8, 8) - 0.5
    assert not torch.allclose(vqgan.pre_quantized(x), other.pre_quantized(x))
    assert torch.allclose(vqgan.decode(codes), other.decode(codes))  # the decoder replicates in any case


def test_the_cache_gives_the_same_logits_at_every_position():
    gpt, codes = gpt_of(), torch.nn.functional.pad(golden('video_gpt_tiny')['codes'], (1, 0))[:, :-1]
    with torch.inference_mode():
        whole, cache = gpt(codes), Cache(gpt, 2)
        parts = [gpt(codes[:, a:b], cache) for a, b in pairwise([0, 1, 17, 18, 40, *range(41, 65)])]
    assert relative_error(torch.cat(parts, dim=1), whole) < 1e-5


def test_clips_are_drawn(generator):
    told = []
    clips = generator.generate(3, seed=5, progress=told.append)
    assert clips.shape == (3, 3, 8, 32, 32) and clips.min() >= 0 and clips.max() <= 1 and abs(sum(told) - 3) < 1e-6
    assert torch.equal(clips, generator.generate(3, seed=5)) and not torch.equal(clips[0], clips[1])
    assert not torch.equal(clips, generator.generate(3, seed=6))
    assert torch.equal(clips, generator.generate(3, seed=5, top_k=2048, top_p=0.92))  # as published
    assert relative_error(generator.generate(3, seed=5, use_cache=False), clips) < 1e-4
    torch.manual_seed(5)
    start = torch.zeros(3, 1, dtype=torch.int64)
    codes = generator.gpt.sample(start, 65, top_k=2048, top_p=0.92, seed=5)[:, 1:].unflatten(1, (4, 4, 4))
    assert torch.equal(generator.decode(codes), clips)
    batches = list(generator.batches(3, seed=5, batch_size=2))
    assert [len(batch) for batch in batches] == [2, 1]
    assert generator.generate(1, num_frames=3).shape == (1, 3, 3, 32, 32)
    gpt, vqgan = generator
    assert isinstance(gpt, GPT) and isinstance(vqgan, VideoVQGAN)


@pytest.mark.parametrize(('window', 'kept'), [(None, 3), (1, 1), (2, 2)])
def test_longer_clips_slide_a_window(generator, monkeypatch, window, kept):
    seen, sample = [], generator.gpt.sample

    def spy(prefix, length, **options):
        result = sample(prefix, length, **options)
        seen.append((prefix, result))
        return result

    monkeypatch.setattr(generator.gpt, 'sample', spy)
    told = []
    clips = generator.generate(2, num_frames=13, window=window, seed=0, progress=told.append)
    assert clips.shape == (2, 3, 13, 32, 32) and abs(sum(told) - 2) < 1e-6
    first, *later = seen
    assert first[0].shape == (2, 1) and first[1].shape == (2, 1 + 16 * kept) and len(later) == 7 - kept
    frames = list(first[1][:, 1:].split(16, dim=1))
    for prefix, result in later:  # each latent frame is drawn behind a start token and those before it
        assert torch.equal(prefix, torch.cat([torch.zeros(2, 1, dtype=torch.int64), *frames[-kept:]], dim=1))
        frames.append(result[:, -16:])
    grids = torch.cat(frames, dim=1).unflatten(1, (7, 4, 4))
    assert torch.equal(generator.decode(grids)[:, :, :13], clips)


def test_clips_are_continued(generator, clips):
    result = generator.continue_(clips, context=4, samples=2, seed=1)
    assert torch.equal(result.given, clips[:, :, :4])
    assert result.drawn.shape == (3, 2, 3, 4, 32, 32) and result.decoded.shape == (3, 2, 3, 8, 32, 32)
    assert torch.equal(result.drawn, result.decoded[:, :, :, 4:])
    assert not torch.equal(result.drawn[:, 0], result.drawn[:, 1])
    # What follows is not looked at: other later frames, or none, change nothing.
    other = torch.cat([clips[:, :, :4], 1 - clips[:, :, 4:]], dim=2)
    for same in (other, clips[:, :, :4]):
        assert torch.equal(generator.continue_(same, context=4, samples=2, seed=1).decoded, result.decoded)
    whole = generator.continue_(clips, context=4, seed=1, encode_whole=True)
    given = generator.encode(clips)[:, :2]
    assert not torch.equal(given, generator.encode(clips[:, :, :4]))
    codes = generator.gpt.sample(torch.nn.functional.pad(given.flatten(1), (1, 0)), 65, top_k=2048, top_p=0.92, seed=1)[
        :, 1:
    ].unflatten(1, (4, 4, 4))
    assert torch.equal(codes[:, :2], given) and torch.equal(generator.decode(codes), whole.decoded[:, 0])
    assert generator.continue_(clips[:1], seed=1).given.shape[2] == 4  # half
    assert generator.continue_(clips[:1], context=6, num_frames=12, seed=1).drawn.shape == (1, 1, 3, 6, 32, 32)


def test_log_likelihoods_sum_to_the_cross_entropy(generator, clips):
    codes = generator.encode(clips)
    flat = torch.nn.functional.pad(codes.flatten(1), (1, 0))
    with torch.inference_mode():
        logits = generator.gpt(flat[:, :-1]).double()
    want = torch.nn.functional.cross_entropy(logits.transpose(1, 2), flat[:, 1:], reduction='sum')
    ours = generator.log_likelihood(clips)
    assert ours.shape == codes.shape == (3, 4, 4, 4) and (ours <= 0).all()
    assert abs(-ours.double().sum() / want - 1) < 1e-6
    # Each is given the codes before it, and no later one: fewer frames have the same beginning.
    assert relative_error(generator.log_likelihood_of_codes(codes[:, :2]), ours[:, :2]) < 1e-4
    assert generator.embed(clips).shape == (3, 32)
    half = VideoGenerator(gpt_of().bfloat16(), generator.vqgan)
    assert relative_error(half.log_likelihood(clips), ours) < 0.05 and half.generate(1).shape == (1, 3, 8, 32, 32)


def test_codes_do_not_depend_on_the_batch(generator):
    clips = torch.rand(8, 3, 8, 32, 32)
    together = generator.encode(clips)
    assert torch.equal(together, torch.cat([generator.encode(one[None]) for one in clips]))
    assert torch.equal(generator.reconstruct(clips), generator.decode(together))


def test_clips_of_files_are_prepared_as_published(generator):
    transform = clip_transform(generator)
    x = transform.read('drawn:7/left/000000')
    assert x.shape == (3, 8, 32, 32) and 0 <= x.min() and x.max() <= 1
    frames = read_clip('drawn:7/left/000000', sampling=transform.sampling).frames  # 128 x 128 pixels
    want = torch.nn.functional.interpolate(frames.permute(0, 3, 1, 2).float() / 255, (32, 32), mode='bilinear')
    assert relative_error(x.transpose(0, 1), want) < 1e-6  # the whole frame: the short side is the crop
    result = reconstruct(generator, x)
    assert result.codes.shape == (4, 4, 4) and 'dB' in repr(result) and result.nats > 0


def last_code(code):
    codes = torch.zeros(1, 4, 4, 4, dtype=torch.int64)
    codes[..., -1, -1] = code
    return codes


def one_frame_gpt(generator):
    return GPT(**{**generator.gpt.config, 'block_size': 16})


def test_wrong_input_is_named(generator, clips):
    other = VideoVQGAN(dataclasses.replace(generator.vqgan.config, num_codes=32), device='meta')
    for call, words in (
        (lambda: generator.encode(clips[:, :, :7]), r'T a multiple of 2, got \[3, 3, 7, 32, 32\]'),
        (lambda: generator.encode(clips[..., :16]), r'\[N, 3, T, 32, 32\]'),
        (lambda: generator.encode(2 * clips + 1), r'must be in \[0, 1\]'),
        (lambda: generator.encode((255 * clips).to(torch.uint8)), 'float'),
        (lambda: generator.decode(torch.zeros(1, 4, 4, dtype=torch.int64)), "T', 4, 4"),
        (lambda: generator.decode(torch.full((1, 4, 4, 4), 64)), 'this codebook has 0 to 63'),
        (lambda: generator.log_likelihood(torch.rand(1, 3, 10, 32, 32)), '8 frames'),
        (lambda: generator.generate(0), 'num_videos=0'),
        (lambda: generator.generate(1, num_frames=0), 'num_frames=0'),
        (lambda: generator.generate(1, num_frames=12, window=4), 'window=4: must be from 1 to 3'),
        (lambda: generator.generate(1, window=4), 'window=4: must be from 1 to 3'),
        (lambda: generator.generate(1, batch_size=0), 'batch_size=0'),
        (lambda: generator.log_likelihood_of_codes(last_code(64)), 'must be in 0 to 63'),
        (lambda: generator.log_likelihood_of_codes(last_code(-100)), 'must be in 0 to 63'),  # PyTorch's "ignore"
        (lambda: generator.log_likelihood_of_codes(last_code(0).float()), 'whole numbers'),
        (lambda: VideoGenerator(one_frame_gpt(generator), generator.vqgan).generate(1, num_frames=3), 'sees 2 at once'),
        (lambda: generator.continue_(clips, context=3), 'context=3'),
        (lambda: generator.continue_(clips, context=8), 'less than 8'),
        (lambda: generator.continue_(clips[:, :, :2], context=4), 'have 2 frames'),
        (lambda: generator.continue_(clips, samples=0), 'samples=0'),
        (lambda: VideoGenerator(generator.gpt, other), '64 of 64 codes, this VQGAN has 4 x 4 x 4 of 32'),
        (lambda: generator.vqgan.encode(torch.rand(1, 3, 8, 30, 32)), 'multiples of'),
        (lambda: VideoVQGANConfig(downsample=(3, 8, 8)), r'downsample=\(3, 8, 8\)'),
        (lambda: VideoVQGANConfig(downsample=(2.0, 16.0, 16.0)), r'downsample=\(2.0, 16.0, 16.0\)'),
        (lambda: VideoVQGANConfig(downsample=(True, 16, 16)), r'downsample=\(True, 16, 16\)'),
        (lambda: VideoVQGANConfig(downsample=16), 'downsample=16: must be three'),
        (lambda: VideoVQGANConfig(norm='layer'), "norm='layer'"),
        (lambda: VideoVQGANConfig(norm='group', ch=8), 'ch=8'),
        (lambda: VideoVQGANConfig(padding='zeros'), "padding='zeros'"),
        (lambda: VideoVQGANConfig(resolution=100), 'resolution=100'),
        (lambda: load_generator(), 'name one file'),
        (lambda: load_generator(gpt='gpt.ckpt'), 'name one file'),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_published_lightning_files_through_the_hub(hub, run, tmp_path, monkeypatch):
    save_lightning('video_gpt_tiny', tmp_path / 'gpt.ckpt', monkeypatch)
    save_lightning('video_vqgan_tiny', tmp_path / 'vqgan.ckpt', monkeypatch)
    for name in ('gpt.ckpt', 'vqgan.ckpt'):
        hub.add('somebody/videos', f'runs/{name}', tmp_path / name)
    run(
        code="""
import torch
from videozoo_timm import load_generator
there = 'hf-hub:somebody/videos/runs/'
model = load_generator(gpt=there + 'gpt.ckpt', vqgan=there + 'vqgan.ckpt')
assert not model.training and model.grid_size == (4, 4, 4) and model.num_frames == 8
torch.save(model.state_dict(), 'state.pt')
import os; os.environ['HF_HUB_OFFLINE'] = '1'
load_generator(gpt=there + 'gpt.ckpt', vqgan=there + 'vqgan.ckpt')
"""
    )
    state = torch.load(tmp_path / 'state.pt')
    local = load_generator(gpt=tmp_path / 'gpt.ckpt', vqgan=tmp_path / 'vqgan.ckpt')
    want = {f'gpt.{k}': v for k, v in to_timm(published('video_gpt_tiny')).items()}
    want |= {f'vqgan.{k}': v for k, v in published('video_vqgan_tiny').items()}
    for found in (state, local.state_dict()):
        assert found.keys() == want.keys() and all(torch.equal(found[k], v) for k, v in want.items())
    assert local.vqgan.config == config_of('video_vqgan_tiny') and local.gpt.num_heads == 4


def test_own_files_hold_the_same(generator, clips, tmp_path, monkeypatch, capsys):
    save_video_generator(generator, tmp_path / 'both.safetensors', {'name': 'mine', 'source': 'a test'})
    for kind, part in zip(('gpt', 'vqgan'), generator, strict=True):
        save_video_generator(part, tmp_path / f'{kind}.safetensors', {})
    files = {kind: tmp_path / f'{kind}.safetensors' for kind in ('gpt', 'vqgan')}
    for again in (load_generator(tmp_path / 'both.safetensors'), load_generator(**files)):
        assert torch.equal(again.generate(2, seed=3), generator.generate(2, seed=3)) and again.span == generator.span
    half = load_generator(tmp_path / 'both.safetensors', dtype=torch.bfloat16, span=30)
    assert half.gpt.head.weight.dtype == torch.bfloat16 and half.vqgan.post_vq_conv.conv.weight.dtype == torch.float32
    assert half.span == 30
    for span, word in ((33, ''), ('1e9', 'span is 1e9, must be a whole number'), (0, 'span is 0, must')):
        save_video_generator(generator.vqgan, tmp_path / 'spanned.safetensors', {'span': span})
        if not word:  # as its tokenizer was trained
            assert load_generator(gpt=files['gpt'], vqgan=tmp_path / 'spanned.safetensors').span == span
            continue
        with pytest.raises(ValueError, match=word):
            load_generator(gpt=files['gpt'], vqgan=tmp_path / 'spanned.safetensors')
    for repo in ('hf-hub:somebody/videos', 'hf-hub:somebody'):
        with pytest.raises(ValueError, match=f'{repo}.?: name a file'):
            load_generator(repo)
    with pytest.raises(FileNotFoundError, match='^gen_shapes_64: no such file; it is the name of a model'):
        load_generator('gen_shapes_64')
    with pytest.raises(ValueError, match='holds no gpt'):
        load_generator(gpt=files['vqgan'], vqgan=files['vqgan'])
    with pytest.raises(ValueError, match='holds no part of a video generator'):
        load_generator(gpt=catalogue.PACKAGED / 'vit_shapes_motion.safetensors', vqgan=files['vqgan'])
    for name, words in (('both', 'a video generator'), ('vqgan', 'the VQGAN of a'), ('gpt', 'the GPT of a')):
        assert main(['info', str(tmp_path / f'{name}.safetensors')]) == 0
        assert re.search(f'recognized as +{words}', capsys.readouterr().out)
    with pytest.raises(ValueError, match='load_generator'):
        videozoo_timm.factory.load_file(files['gpt'])
    damaged = {'state_dict': published('video_vqgan_tiny'), 'hyper_parameters': argparse.Namespace(n_codes=64)}
    torch.save(damaged, tmp_path / 'old.ckpt')
    deep = published('video_gpt_tiny') | {f'blocks.{k}.ln1.bias': torch.zeros(1) for k in range(2000)}
    torch.save({'state_dict': deep, 'hyper_parameters': {'n_head': 2}}, tmp_path / 'deep.ckpt')
    with pytest.raises(ValueError, match='2000 blocks, more than 1000'):
        load_generator(gpt=tmp_path / 'deep.ckpt', vqgan=files['vqgan'])
    with pytest.raises(ValueError, match='does not say downsample, embedding_dim'):
        load_generator(gpt=files['gpt'], vqgan=tmp_path / 'old.ckpt')


def test_a_packaged_generator_is_known_everywhere(generator, tmp_path, monkeypatch, capsys):
    from videozoo_timm.catalogue import generators

    record = catalogue.PackagedGenerator('gen_tiny', 8, 32, (4, 4, 4), 64)
    monkeypatch.setattr(generators, 'PACKAGED', tmp_path)
    monkeypatch.setattr(generators, '_VIDEO_GENERATORS', (record,))
    monkeypatch.setattr(generators, 'num_params', lambda: {'gen_tiny': 12345})
    save_video_generator(generator, record.packaged, {'name': 'gen_tiny', 'zoo': 'shapes'})
    assert 'gen_tiny' in videozoo_timm.get_available_models('shapes')
    monkeypatch.syspath_prepend(str(REPOSITORY))
    monkeypatch.delitem(sys.modules, 'hubconf', raising=False)
    for loaded in (videozoo_timm.load_model('gen_tiny'), importlib.import_module('hubconf').gen_tiny()):
        assert torch.equal(loaded.generate(1, seed=0), generator.generate(1, seed=0)) and not loaded.training
    monkeypatch.delitem(sys.modules, 'hubconf')
    fresh = videozoo_timm.load_model('gen_tiny', pretrained=False)
    assert not torch.equal(fresh.gpt.head.weight, generator.gpt.head.weight)
    assert videozoo_timm.load_model('gen_tiny', part='gpt').block_size == 64
    assert main(['list', '--zoo', 'shapes']) == 0 and 'gen_tiny' in capsys.readouterr().out
    assert main(['info', 'gen_tiny']) == 0 and '4 x 4 x 4 of 64' in capsys.readouterr().out
    assert main(['embed', 'drawn:2@7', '--model', 'gen_tiny']) == 2
    assert 'is a video generator' in capsys.readouterr().err


@pytest.fixture
def weights(generator, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_video_generator(generator, tmp_path / 'model.safetensors', {})
    return ['--weights', 'model.safetensors', '--dtype', 'float32']


def test_the_command_draws_videos(weights, tmp_path, capsys):
    draw = ['generate', *weights, '-n', '3', '--out', 'a.mp4']
    assert main([*draw, '--seed', '1']) == 0 and 'seed 1, ' in capsys.readouterr().out
    first = (tmp_path / 'a.mp4').read_bytes()
    info = probe('a.mp4')
    assert (info.width, info.height) == (2 * 34 + 2, 2 * 34 + 2)
    assert json.loads(Image.open('a.png').info['Comment'])['seed'] == 1  # the contact sheet
    assert main([*draw, '--seed', '2']) == 2 and 'seed was 1, is 2' in capsys.readouterr().err
    assert main([*draw, '--seed', '1']) == 0 and (tmp_path / 'a.mp4').read_bytes() == first
    assert main(['generate', *weights, '-n', '1', '--num-frames', '12', '--out', 'b.gif']) == 0
    assert Image.open('b.gif').n_frames == 12
    assert main(['generate', *weights, '-n', '1', '--num-frames', '1', '--out', 'still.mp4']) == 0
    assert main(['generate', *weights, '-n', '2', '--out', 'many']) == 0
    made = {'000000.mp4', '000001.mp4', 'contact_sheet.png', 'run.json'}
    assert {p.name for p in (tmp_path / 'many').iterdir()} == made
    capsys.readouterr()
    for wrong, words in (
        (['--complete', 'many'], '--continue takes some'),
        (['--context', '4'], 'is of --continue'),
        (['--samples', '4'], 'is of --continue'),
        (['--continue', 'drawn:2@7', '-n', '4'], '--samples 4 continues'),
        (['--keep', '0.5'], 'is of --complete'),
        (['--seed', '99999999999999999999'], '--seed 99999999999999999999: must fit'),
        (['--window', '9'], '--window 9: must be from 1 to'),
        (['--gpt', 'model.safetensors'], '--weights holds both models'),
        (['--out', 'a.xyz'], '.mp4'),
        (['--model', 'say_gimel'], 'contradict'),
        (['--continue', 'nowhere'], 'nowhere'),
    ):
        assert main(['generate', *weights, *wrong]) == 2 and words in capsys.readouterr().err
    assert main(['generate', '--gpt', 'model.safetensors']) == 2 and '--vqgan' in capsys.readouterr().err
    assert main(['generate', '--model', 'say_gimel', '--num-frames', '8']) == 2
    assert '--num-frames 8: say_gimel generates images' in capsys.readouterr().err


def test_a_run_without_a_seed_is_repeated_with_the_one_that_it_chose(weights, capsys):
    assert main(['generate', *weights, '-n', '2', '--out', 'a.gif']) == 0
    capsys.readouterr()
    assert main(['again', 'a.gif']) == 0
    told = capsys.readouterr()
    assert 'a.gif: the same to the byte' in told.out and '--seed ' in told.err and '--batch-size 2' in told.err


def test_the_command_continues_and_reconstructs_videos(weights, tmp_path, capsys):
    reading = ['--num-workers', '0']
    given = ['generate', *weights, '--continue', 'drawn:2@7', '--context', '4', *reading]
    assert main([*given, '--samples', '2', '--seed', '0', '--out', 'c.gif']) == 0
    animation = Image.open('c.gif').convert('RGB')
    assert animation.size == (3 * 34 + 2, 2 * 34 + 2)  # the original and two continuations of each
    picture = Image.open('c.gif')
    above = []
    for frame in range(8):
        picture.seek(frame)
        red, green, blue = picture.convert('RGB').getpixel((34 + 16, 2))
        above.append(red > 200 and green < 60 and blue < 60)
    assert above == [False] * 4 + [True] * 4  # what was drawn is marked
    assert main([*given, '--out', 'apart']) == 0 and len(list((tmp_path / 'apart').glob('*.mp4'))) == 2
    assert main(['reconstruct', 'drawn:2@7', *weights, *reading, '--out', 'r', '--animate', 'gif']) == 0
    told = capsys.readouterr().out
    with open(tmp_path / 'r' / 'reconstructions.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 and float(rows[0]['nats']) > 0 and f'{float(rows[0]["psnr"]):.2f}' in told
    assert (tmp_path / 'r' / rows[0]['picture']).is_file() and len(list((tmp_path / 'r').glob('*.gif'))) == 2
    for results in ('c.gif', 'apart', 'r'):
        code, told = main(['again', results]), capsys.readouterr()
        assert code == 0 and 'all equal' in told.out, told


def test_clips_that_go_on_where_their_videos_end_are_told(weights, tmp_path, capsys):
    (tmp_path / 'short').mkdir()
    for k in range(2):
        write_video(tmp_path / 'short' / f'{k}.mkv', 20)
    for command, out in (
        (['reconstruct', 'short', *weights], 'r'),
        (['generate', '--continue', 'short', *weights], 'c.gif'),
        (['complete', 'short'], 'f'),
        (['fid', 'short', 'drawn:2@7', '--features', 'vit_shapes_motion'], 'd.json'),
    ):
        command = [*command, '--num-workers', '0', '--device', 'cpu', '--out']
        assert main([*command, out]) == 0
        told = capsys.readouterr().err
        assert told.count('2 of 2 clips reach beyond the ends of their videos') == 1, command
        assert main([*command, f'16{out}', '--span', '16']) == 0
        assert 'reach beyond' not in capsys.readouterr().err, command


def test_frechet_distance_is_that_of_torch_fidelity(capsys):
    metric = pytest.importorskip('torch_fidelity.metric_fid')
    for rows in (200, 12):  # and where the covariance has no full rank
        real, generated = torch.randn(rows, 24).double(), (torch.randn(rows, 24) * 1.5 + 0.3).double()
        statistics = [metric.fid_features_to_statistics(features) for features in (real, generated)]
        want = metric.fid_statistics_to_metric(*statistics, verbose=False)['frechet_inception_distance']
        assert abs(frechet_distance(real, generated) / want - 1) < 1e-4
        assert frechet_distance(real, real) < 1e-6
    shift = frechet_distance(real, real + 2)
    assert abs(shift - 4 * 24) < 1e-6
    with pytest.raises(ValueError, match='at least 2'):
        frechet_distance(np.zeros((1, 3)), np.zeros((5, 3)))
    with pytest.raises(ValueError, match='NaN'):
        frechet_distance(np.full((5, 3), np.nan), np.zeros((5, 3)))
    assert main(['fid', '--features', 'vit_shapes_motion', 'drawn:2@7', 'drawn:2@7', '--num-workers', '0']) == 0
    told = capsys.readouterr()
    assert 'Fréchet distance 0.0000' in told.out and 'far too large' in told.err
