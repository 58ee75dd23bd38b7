"""The image generators: published answers, the cache, files, and the command."""

import dataclasses
import importlib
import json
import pickle
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import GOLDEN, MANIFEST, REPOSITORY, golden, published, relative_error
from golden.recipe import clip
from PIL import Image

import videozoo_timm
from videozoo_timm import catalogue
from videozoo_timm.cli import main
from videozoo_timm.contents import Contents
from videozoo_timm.models import GPT, VQGAN, ImageGenerator, SamplingConfig
from videozoo_timm.models.gpt import Cache, Linear
from videozoo_timm.models.sampling import sample_codes
from videozoo_timm.weights import read_weights, to_timm

TINY_VQGAN = dict(
    z_channels=16, embed_dim=16, resolution=32, ch=32, ch_mult=(1, 2), num_res_blocks=1, attn_resolutions=(16,)
)

TINY_ZOO = f"""
from videozoo_timm import catalogue
for size in catalogue.GPT_SIZES:
    catalogue.GPT_SIZES[size] = dict(depth=2, num_heads=4, embed_dim=32)
for size in catalogue.VQGAN_SIZES:
    catalogue.VQGAN_SIZES[size] = dict(num_codes=64, **{TINY_VQGAN!r})
catalogue.Generator.gpt_args = property(lambda self: dict(
    depth=2, num_heads=4, embed_dim=32, vocab_size=64, block_size=63))
"""


def save_lightning(tensors, path, monkeypatch):
    """A VQGAN as published: a Lightning pickle whose callbacks name classes that are not installed where it is read."""
    module = types.ModuleType('pytorch_lightning_of_old')
    module.ModelCheckpoint = type('ModelCheckpoint', (), {'__module__': module.__name__})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    loss = {
        'loss.discriminator.main.0.weight': torch.zeros(4, 3, 4, 4),
        'loss.perceptual_loss.lin0.model.1.weight': torch.zeros(1, 64, 1, 1),
    }
    torch.save(
        {
            'epoch': 3,
            'pytorch-lightning_version': '1.0.8',
            'state_dict': {**tensors, **loss},
            'callbacks': {
                module.ModelCheckpoint: {'best_model_path': 'somewhere', 'monitor': module.ModelCheckpoint()}
            },
            'optimizer_states': [{'state': {}}],
            'lr_schedulers': [],
        },
        path,
    )
    monkeypatch.delitem(sys.modules, module.__name__)
    return path


def tiny_gpt():
    gpt = GPT(64, 63, 2, 4, 32).eval()
    gpt.load_state_dict(to_timm(published('gpt_tiny')))
    return gpt


def tiny_vqgan():
    vqgan = VQGAN(64, **TINY_VQGAN).eval()
    vqgan.load_state_dict(to_timm(published('vqgan_tiny')))
    return vqgan


@pytest.fixture(scope='module')
def generator():
    """A small one whose two halves fit: 256 codes of 64."""
    torch.manual_seed(0)
    gpt = GPT(64, 255, 2, 4, 32).eval()
    for block in gpt.blocks:  # far from uniform
        block.attn.qkv.weight.data.mul_(20)
    gpt.head.weight.data.mul_(40)
    return ImageGenerator(gpt, tiny_vqgan())


def test_published_answers_of_the_gpt():
    gpt, want = tiny_gpt(), golden('gpt_tiny')
    tokens = want['tokens']
    with torch.inference_mode():
        logits = gpt(tokens[:, :-1])
    assert relative_error(logits, want['logits']) < 1e-5
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction='none').mean(dim=1)
    assert relative_error(losses, want['unreduced_loss']) < 1e-5
    assert relative_error(losses.mean(), want['loss'][0]) < 1e-5
    for use_cache in (True, False):
        greedy = gpt.sample(tokens[:, :5], 45, temperature=0, use_cache=use_cache)
        drawn = gpt.sample(tokens[:, :5], 45, top_k=16, generator=torch.Generator().manual_seed(0), use_cache=use_cache)
        assert torch.equal(greedy, want['greedy']) and torch.equal(drawn, want['top_k_16_seed_0'])


def test_cached_and_uncached_logits_agree_at_every_position():
    gpt, tokens = tiny_gpt(), golden('gpt_tiny')['tokens']
    with torch.inference_mode():
        want, cache = gpt(tokens), Cache(gpt, 2)
        one_by_one = torch.cat([gpt(tokens[:, k : k + 1], cache) for k in range(40)], dim=1)
        assert (one_by_one - want).abs().max() < 1e-4
        cache = Cache(gpt, 2)
        in_pieces = torch.cat([gpt(piece, cache) for piece in tokens.split([5, 1, 20, 14], dim=1)], dim=1)
        assert (in_pieces - want).abs().max() < 1e-4


def test_published_answers_of_the_small_vqgan():
    vqgan, want = tiny_vqgan(), golden('vqgan_tiny')
    with torch.inference_mode():
        codes = vqgan.encode(clip('vqgan_tiny', (2, 3, 32, 32)).clamp(-1, 1))
        assert torch.equal(codes.flatten(1), want['indices'])
        assert relative_error(vqgan.quantize.look_up(codes), want['quantized']) < 1e-5
        assert relative_error(vqgan.decode(codes), want['decoded']) < 1e-5


@pytest.mark.parametrize('size', ['32x32_8192', '16x16_16384'])
def test_published_answers_of_the_vqgans(size):
    name = f'vqgan_{size}'
    vqgan, want = VQGAN(**catalogue.VQGAN_SIZES[size]).eval(), golden(name)
    vqgan.load_state_dict(to_timm(published(name)))
    with torch.inference_mode():
        x = clip(name, (1, 3, 256, 256)).clamp(-1, 1)
        before = vqgan.quant_conv(vqgan.encoder(x))[:, :16]
        assert relative_error(before, want['pre_quantized']) < 1e-5
        image = vqgan.decode(want['tokens'].view(1, vqgan.grid_size, vqgan.grid_size))
        assert relative_error(torch.nn.functional.avg_pool2d(image, 4), want['decoded']) < 1e-5
    config = MANIFEST['configs'][name]
    ours = catalogue.VQGAN_SIZES[size]
    assert list(ours['ch_mult']) == config['ddconfig']['ch_mult'] and ours['num_codes'] == config['n_embed']
    assert list(ours['attn_resolutions']) == config['ddconfig']['attn_resolutions']


@pytest.mark.parametrize(
    'name', ['say_gimel', 'imagenet10_gimel', 'imagenet100_alef', 'imagenet100_bet', 'imagenet100_dalet']
)
def test_key_tables(name):
    record = catalogue.find_generator(name)
    with torch.device('meta'):
        gpt, vqgan = videozoo_timm.load_model(name, pretrained=False)
    size, grid = name.split('_')[1], record.vqgan.split('_', 1)[1]
    tables = {f'gpt_{size}_{grid}': gpt, f'vqgan_{grid}': vqgan}
    for table, model in tables.items():
        theirs = to_timm({k: torch.empty(v, device='meta') for k, v in MANIFEST['shapes'][table].items()})
        assert {k: v.shape for k, v in model.state_dict().items()} == {k: v.shape for k, v in theirs.items()}
    assert sum(p.numel() for p in gpt.parameters()) == record.num_params


def test_every_published_name(monkeypatch):
    names = json.loads((GOLDEN / 'published.json').read_text())
    generators = names['silicon-menagerie generators']
    assert [g.name for g in catalogue.GENERATORS] == generators and len(generators) == 26
    assert videozoo_timm.get_available_models('silicon-menagerie') == names['silicon-menagerie encoders'] + generators
    monkeypatch.syspath_prepend(str(REPOSITORY))
    hubconf = importlib.import_module('hubconf')
    listed = {n for n in dir(hubconf) if callable(getattr(hubconf, n)) and not n.startswith('_')}
    distinct = {n for zoo in names.values() for n in zoo}
    assert len(distinct) == 116 and distinct <= listed
    vqgans = {g.name: g.vqgan for g in catalogue.GENERATORS}
    assert vqgans['imagenet1+konkleiid_gimel'] == 'imagenet_16x16_16384'
    assert vqgans['a+konklenonvehicle_gimel'] == 'a_32x32_8192'
    assert vqgans['konkleiid_gimel'] == vqgans['konklenonvehicle_gimel'] == 'say_32x32_8192'
    assert catalogue.find_generator('imagenet_10+konkleiid_gimel').name == 'imagenet10+konkleiid_gimel'
    with pytest.raises(ValueError, match="it is in 'silicon-menagerie'"):
        videozoo_timm.load_model('say_gimel', zoo='hvm-1')
    with pytest.raises(ValueError, match="did you mean 'say_gimel'"):
        videozoo_timm.load_model('say_gimmel')


def test_a_lightning_pickle_and_a_gpt_through_the_hub(hub, run, tmp_path, monkeypatch):
    """Small halves under published names, in the published layouts."""
    gpt = {'model_state_dict': published('gpt_tiny'), 'optimizer_state_dict': {'state': {}}, 'epoch': 2}
    torch.save(gpt, tmp_path / 'gpt.pt')
    save_lightning(published('vqgan_tiny'), tmp_path / 'vqgan.ckpt', monkeypatch)
    with pytest.raises((ModuleNotFoundError, AttributeError, pickle.UnpicklingError)):
        torch.load(tmp_path / 'vqgan.ckpt', weights_only=False)
    hub.add('eminorhan/gpt_saycam', 'gpt_pretrained_models/say_gimel.pt', tmp_path / 'gpt.pt')
    hub.add('eminorhan/gpt_saycam', 'vqgan_pretrained_models/say_32x32_8192.ckpt', tmp_path / 'vqgan.ckpt')
    code = (
        TINY_ZOO
        + f"""
import torch
from videozoo_timm import load_model
gpt, vqgan = load_model('say_gimel', part='gpt'), torch.hub.load(
    {str(REPOSITORY)!r}, 'say_gimel', source='local', part='vqgan')
assert not gpt.training and not vqgan.training
torch.save([gpt.state_dict(), vqgan.state_dict()], 'states.pt')
from videozoo_timm.cli import main
from videozoo_timm.contents import Contents
assert main(['verify', 'say_gimel']) == 0
import os; os.environ['HF_HUB_OFFLINE'] = '1'
load_model('say_gimel', part='gpt')
"""
    )
    run(code=code)
    states = torch.load(tmp_path / 'states.pt')
    for state, table in zip(states, ('gpt_tiny', 'vqgan_tiny'), strict=True):
        want = to_timm(published(table))
        assert state.keys() == want.keys() and all(torch.equal(state[k], v) for k, v in want.items())
    paths = [path for _, path in hub.requests]
    assert any(path.endswith('gpt_pretrained_models/say_gimel.safetensors') for path in paths)  # asked for first
    assert any(path.endswith('say_32x32_8192.ckpt') for path in paths)


def test_all_26_load_through_the_hub(hub, run, tmp_path, monkeypatch):
    torch.save({'model_state_dict': published('gpt_tiny')}, tmp_path / 'gpt.pt')
    vqgan = save_lightning(published('vqgan_tiny'), tmp_path / 'vqgan.ckpt', monkeypatch)
    for record in catalogue.GENERATORS:
        hub.add(record.repo, record.gpt_filename, tmp_path / 'gpt.pt')
        hub.add(record.repo, record.vqgan_filename, vqgan)
    run(
        code=TINY_ZOO
        + """
from videozoo_timm import load_model
for g in catalogue.GENERATORS:
    assert load_model(g.name, part='gpt').vocab_size == load_model(g.name, part='vqgan').num_codes == 64
"""
    )
    asked = {path for _, path in hub.requests if '/main/' in path and path.endswith(('.pt', '.ckpt'))}
    assert len(asked) == 26 + len({g.vqgan for g in catalogue.GENERATORS})


@pytest.mark.slow
def test_a_generator_of_full_size_through_the_hub(hub, run, tmp_path, monkeypatch):
    record = catalogue.find_generator('imagenet100_alef')
    torch.save({'model_state_dict': published('gpt_alef_16x16_16384')}, tmp_path / 'gpt.pt')
    hub.add(record.repo, record.gpt_filename, tmp_path / 'gpt.pt')
    vqgan = save_lightning(published('vqgan_16x16_16384'), tmp_path / 'vqgan.ckpt', monkeypatch)
    hub.add(record.repo, record.vqgan_filename, vqgan)
    run('download', 'imagenet100_alef')
    told = run('generate', '--model', 'imagenet100_alef', '-n', '2', '--seed', '0', HF_HUB_OFFLINE='1').stdout
    assert 'images a minute' in told and Image.open(tmp_path / 'samples.png').size == (2 * 258 + 2, 258 + 2)
    shutil.rmtree(tmp_path)


def test_images_are_drawn(generator):
    told = []
    images = generator.generate(3, seed=5, progress=told.append)
    assert images.shape == (3, 3, 32, 32) and images.min() >= 0 and images.max() <= 1
    assert abs(sum(told) - 3) < 1e-6
    assert torch.equal(images, generator.generate(3, seed=5))
    assert not torch.equal(images, generator.generate(3, seed=6))
    assert not torch.equal(images[0], images[1])
    uncached = generator.generate(3, seed=5, use_cache=False)
    assert relative_error(uncached, images) < 1e-4
    told.clear()
    batches = list(generator.batches(3, seed=5, batch_size=2, progress=told.append))
    assert [len(batch) for batch in batches] == [2, 1] and abs(sum(told) - 3) < 1e-6
    assert torch.equal(torch.cat(batches), generator.generate(3, seed=5, batch_size=2))
    gpt, vqgan = generator
    assert isinstance(gpt, GPT) and isinstance(vqgan, VQGAN)


def test_images_are_completed(generator):
    torch.manual_seed(1)
    codes = torch.randint(64, (2, 16, 16))
    images = generator.decode(codes)
    codes = generator.encode(images)
    originals, samples = generator.complete(images, keep=0.25, samples=3, seed=2)
    assert torch.equal(originals, images) and samples.shape == (2, 3, 3, 32, 32)
    rows = generator.rows_kept(0.25)
    assert rows == 4
    given = codes[:, :rows].flatten(1).repeat_interleave(3, dim=0)
    completed = generator.gpt.sample(given, 256, generator=torch.Generator().manual_seed(2)).view(6, 16, 16)
    # The given rows are the same codes in all samples.
    assert torch.equal(completed.view(2, 3, 16, 16)[:, :, :rows], codes[:, None, :rows].expand(-1, 3, -1, -1))
    assert torch.equal(generator.decode(completed).view_as(samples), samples)
    assert len({tuple(c.flatten().tolist()) for c in completed[:3]}) == 3


def test_likelihoods_and_embeddings(generator):
    torch.manual_seed(0)
    images = torch.rand(5, 3, 32, 32)
    codes = generator.encode(images).flatten(1)
    with torch.inference_mode():
        log_probabilities = generator.gpt(codes[:, :-1]).double().log_softmax(dim=-1)
    want = log_probabilities.gather(2, codes[:, 1:, None]).squeeze(2).mean(dim=1)
    assert relative_error(generator.log_likelihood(images).double(), want) < 1e-5
    assert generator.embed(images).shape == (5, 32)
    hidden = generator.gpt.forward_features(codes[:, :-1])
    assert relative_error(generator.embed(images), hidden.mean(dim=1)) < 1e-5


def test_how_codes_are_drawn():
    torch.manual_seed(0)
    logits = torch.randn(1, 50).expand(20000, 50) * 2
    probabilities = logits[0].softmax(dim=0)
    ordered, order = probabilities.sort(descending=True)
    assert set(sample_codes(logits, top_k=5).tolist()) == set(order[:5].tolist())
    held = int((ordered.cumsum(0) < 0.7).sum()) + 1
    assert set(sample_codes(logits, top_p=0.7).tolist()) == set(order[:held].tolist())
    frequencies = sample_codes(logits).bincount(minlength=50) / len(logits)
    assert (frequencies - probabilities).abs().max() < 0.02
    for lowest in (0, 1e-45, 1e-40, 1e-20):
        assert set(sample_codes(logits, temperature=lowest).tolist()) == {order[0].item()}
    sharper = sample_codes(logits, temperature=0.5).bincount(minlength=50) / len(logits)
    assert (sharper - (2 * logits[0]).softmax(dim=0)).abs().max() < 0.02


def test_settings_of_sampling_are_one_record(generator):
    config = SamplingConfig(temperature=0.7, top_k=16, seed=3)
    assert SamplingConfig() == SamplingConfig(1.0, 128, None, None)  # as published
    want = generator.generate(2, temperature=0.7, top_k=16, seed=3)
    assert torch.equal(generator.generate(2, sampling=config), want)
    assert torch.equal(torch.cat(list(generator.batches(2, sampling=config))), want)
    assert torch.equal(generator.generate(2, sampling=SamplingConfig(0.7, 16), seed=3), want)
    assert not torch.equal(generator.generate(2, sampling=config, seed=4), want)
    (_, samples), (_, same) = (
        generator.complete(want, samples=1, sampling=config),
        generator.complete(want, samples=1, temperature=0.7, top_k=16, seed=3),
    )
    assert torch.equal(samples, same)
    prefix = torch.zeros(2, 1, dtype=torch.int64)
    codes = generator.gpt.sample(prefix, 9, sampling=config)
    assert torch.equal(codes, generator.gpt.sample(prefix, 9, temperature=0.7, top_k=16, seed=3))
    assert torch.equal(
        codes, generator.gpt.sample(prefix, 9, temperature=0.7, top_k=16, generator=config.generator('cpu'))
    )
    torch.manual_seed(5)  # without a seed PyTorch's own decides, as it did
    first = generator.gpt.sample(prefix, 9)
    torch.manual_seed(5)
    assert torch.equal(first, generator.gpt.sample(prefix, 9))
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 4
    with pytest.raises(TypeError, match='temprature'):
        generator.generate(1, temprature=1)


def test_wrong_input_is_named(generator):
    gpt, vqgan = generator
    for call, words in (
        (lambda: gpt(torch.tensor([[64]])), 'codes from 64 to 64: must be in 0 to 63'),
        (lambda: gpt(torch.zeros(1, 256, dtype=torch.int64)), '256 codes are more than'),
        (lambda: gpt.sample(torch.zeros(1, 300, dtype=torch.int64), 301), 'at most 256 codes'),
        (lambda: gpt.sample(torch.zeros(1, 0, dtype=torch.int64), 9), 'prefix is empty'),
        (lambda: gpt.sample(torch.zeros(1, 9, dtype=torch.int64), 9), 'nothing to sample'),
        (lambda: vqgan.decode(torch.full((1, 16, 16), 64)), 'this codebook has 0 to 63'),
        (lambda: generator.decode(torch.zeros(1, 8, 8, dtype=torch.int64)), r'\[N, 16, 16\]'),
        (lambda: generator.encode(torch.rand(1, 3, 64, 64)), r'\[N, 3, 32, 32\]'),
        (lambda: generator.encode(2 * torch.rand(1, 3, 32, 32)), r'must be in \[0, 1\]'),
        (lambda: generator.encode(torch.full((1, 3, 32, 32), float('nan'))), r'must be in \[0, 1\]'),
        (lambda: generator.encode(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)), 'float'),
        (lambda: gpt(torch.zeros(1, 2, dtype=torch.int64), Cache(gpt, 1, 1)), 'room for 1 more'),
        (lambda: gpt(torch.zeros(1, 2, dtype=torch.int64), Cache(gpt, 4)), '4 sequences'),
        (lambda: generator.encode(torch.zeros(0, 3, 32, 32)), 'no images'),
        (lambda: generator.decode(torch.zeros(1, 16, 16)), 'whole numbers'),
        (lambda: generator.generate(1, temperature=float('nan')), 'temperature=nan'),
        (lambda: generator.generate(0), 'num_images=0'),
        (lambda: generator.generate(1, top_k=0), 'top_k=0'),
        (lambda: generator.generate(1, top_p=1.5), 'top_p=1.5'),
        (lambda: generator.generate(1, temperature=-1), 'temperature=-1'),
        (lambda: generator.complete(torch.rand(1, 3, 32, 32), keep=1.0), 'keep=1.0'),
        (lambda: ImageGenerator(tiny_gpt(), vqgan), 'this GPT samples 64 of 64 codes'),
        (lambda: videozoo_timm.load_model('say_gimel', part='decoder'), "part='decoder'"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    with pytest.raises(ValueError, match='is an image generator'):
        catalogue.find('say_gimel')


def test_a_half_precision_gpt_is_near(generator):
    gpt = GPT(64, 255, 2, 4, 32).eval()
    gpt.load_state_dict(generator.gpt.state_dict())
    half = ImageGenerator(gpt.bfloat16(), generator.vqgan)
    images = torch.rand(2, 3, 32, 32)
    assert relative_error(half.log_likelihood(images), generator.log_likelihood(images)) < 0.05
    assert half.generate(2, seed=0).shape == (2, 3, 32, 32)


def test_the_command_draws_and_completes(generator, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = lambda name, **kwargs: generator  # noqa: E731
    monkeypatch.setattr('videozoo_timm.factory.load_model', small)
    assert main(['generate', '--model', 'say_gimel', '-n', '5', '--seed', '1', '--dtype', 'float32']) == 0
    assert 'seed 1, ' in capsys.readouterr().out
    about = json.loads(Image.open('samples.png').info['Comment'])
    assert about['seed'] == 1 and about['batch_size'] == 5  # as many as fit, which differs between machines
    assert Image.open('samples.png').size == (3 * 34 + 2, 2 * 34 + 2)
    first = Path('samples.png').read_bytes()
    draw = ['generate', '--model', 'say_gimel', '-n', '5', '--dtype', 'float32', '--out', 'samples.png']
    assert main([*draw, '--seed', '1']) == 0 and Path('samples.png').read_bytes() == first  # its own
    for other, differs in (
        (['--seed', '2'], 'seed was 1, is 2'),
        ([], 'seed was 1, is '),
        (['--seed', '1', '--temperature', '0.5'], 'temperature was 1.0, is 0.5'),
        (['--seed', '1', '--dtype', 'bfloat16'], 'dtype was float32, is bfloat16'),
        (['--seed', '1', '--batch-size', '2'], 'batch_size was 5, is 2'),
    ):
        capsys.readouterr()
        assert main([*draw, *other]) == 2 and Path('samples.png').read_bytes() == first
        err = capsys.readouterr().err
        assert 'samples.png holds the results of another run' in err and differs in err and 'or --force replaces' in err
    with torch.no_grad():
        parameter = next(generator.parameters())
        parameter += 1
        assert main([*draw, '--seed', '1']) == 2 and 'weights was' in capsys.readouterr().err
        parameter -= 1
    shutil.copy(REPOSITORY / 'docs' / 'static' / 'clip.jpg', 'mine.jpg')
    assert main([*draw[:-1], 'mine.jpg']) == 2 and 'it is not known of which' in capsys.readouterr().err
    assert main([*draw, '--seed', '2', '--force']) == 0 and Path('samples.png').read_bytes() != first
    assert main(['generate', '--model', 'say_gimel', '-n', '3', '--out', 'many']) == 0
    assert {p.name for p in (tmp_path / 'many').iterdir()} == {*(f'{k:06}.png' for k in range(3)), 'run.json'}
    (tmp_path / 'given').mkdir()
    for k in range(2):
        Image.fromarray(np.full((50, 40, 3), 100 * k, np.uint8)).save(tmp_path / 'given' / f'{k}.png')
    (tmp_path / 'given' / 'broken.png').write_bytes(b'no image')
    assert main(['generate', '--model', 'say_gimel', '--complete', 'given', '--samples', '3', '--out', 'c.png']) == 1
    assert 'broken.png' in capsys.readouterr().err
    picture = Image.open('c.png')
    assert picture.size == (4 * 34 + 2, 2 * 34 + 2)
    border = [picture.getpixel((34 + 10, 2 + 16 + dy)) for dy in (-1, 0)]
    assert (255, 0, 0) in border  # between what was given and what was drawn
    (tmp_path / 'twice' / 'a').mkdir(parents=True)
    shutil.copy('given/0.png', 'twice/a/0.png')
    shutil.copy('given/1.png', 'twice/0.png')
    assert main(['generate', '--model', 'say_gimel', '--complete', 'twice', '--out', 'apart']) == 0
    assert len(list((tmp_path / 'apart').glob('*.png'))) == 4
    monkeypatch.setattr('videozoo_timm.factory.load_model', None)  # refused before anything is loaded
    for wrong, words in (
        (['-n', '0'], '--num-images: 0'),
        (['--out', 'a.xyz'], '.png'),
        (['--top-k', '0'], '--top-k: 0'),
        (['--samples', '0'], '--samples: 0'),
        (['--complete', 'nowhere'], 'nowhere'),
        (['--keep', '1'], '--keep 1'),
        (['--complete', '.', '-n', '3'], '-n 3: --complete takes all images'),
        (['--temperature', 'nan'], '--temperature nan'),
        (['--out', 'many'], 'many is not empty; name another --out'),
        (['--out', 'nowhere/a.png'], 'no folder nowhere'),
    ):
        assert main(['generate', '--model', 'say_gimel', *wrong]) == 2
        assert words in capsys.readouterr().err
    assert main(['generate']) == 2 and '--model' in capsys.readouterr().err
    assert main(['generate', '--model', 'vit_say_none']) == 2
    assert 'no image generator' in capsys.readouterr().err


def test_distances_between_folders(tmp_path, monkeypatch, capsys):
    torch_fidelity = pytest.importorskip('torch_fidelity')
    from urllib.error import URLError

    monkeypatch.chdir(tmp_path)
    for folder in ('real', 'generated'):
        (tmp_path / folder).mkdir()
        for k in range(3):
            Image.fromarray(np.full((300 + k, 280, 3), 60 * k, np.uint8)).save(tmp_path / folder / f'{k}.png')

    def out_of_reach(*args, **kwargs):
        raise URLError('no route')

    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setattr('torch.hub.download_url_to_file', out_of_reach)
    assert main(['fid', 'real', 'generated', '--device', 'cpu']) == 2
    told = capsys.readouterr().err
    assert 'cannot be fetched' in told and '3 images; with fewer than 2048' in told

    def metrics(input1, input2, fid, cuda, **kwargs):
        assert fid and not cuda and len(input1) == len(input2) == 3
        assert all(image.shape == (3, 256, 256) and image.dtype == torch.uint8 for image in input1)
        return {'frechet_inception_distance': 12.5}

    monkeypatch.setattr(torch_fidelity, 'calculate_metrics', metrics)
    assert main(['fid', 'real', 'generated', '--device', 'cpu']) == 0
    assert 'FID 12.500 (3 generated images, 3 real ones)' in capsys.readouterr().out
    assert main(['fid', 'real', 'nowhere']) == 2 and 'nowhere: no such folder' in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, 'torch_fidelity', None)
    assert main(['fid', 'real', 'generated']) == 2 and 'videozoo-timm[fid]' in capsys.readouterr().err


def test_files_of_generators_are_recognized(tmp_path, capsys, monkeypatch):
    shapes = MANIFEST['shapes']['gpt_alef_16x16_16384']
    torch.save({'model_state_dict': {k: torch.zeros(1).expand(v) for k, v in shapes.items()}}, tmp_path / 'gpt.pt')
    monkeypatch.setattr('videozoo_timm.weights.read_weights', lambda path, mapped: weights)
    weights = videozoo_timm.weights.Weights({k: torch.empty(v, device='meta') for k, v in shapes.items()}, {})
    contents = Contents(tmp_path / 'gpt.pt')
    assert contents.recognized == contents.part_of(catalogue.find_generator('imagenet100_alef')) == 'gpt'
    with pytest.raises(ValueError, match='gpt.pt is neither the GPT nor the VQGAN of say_gimel'):
        contents.part_of(catalogue.find_generator('say_gimel'))
    assert main(['info', 'say_gimel']) == 0 and 'say_32x32_8192.ckpt' in capsys.readouterr().out
    assert main(['list', '--zoo', 'silicon-menagerie']) == 0 and 'say_gimel' in capsys.readouterr().out


def test_files_hold_what_is_read(tmp_path, monkeypatch):
    path = save_lightning(published('vqgan_tiny'), tmp_path / 'a.ckpt', monkeypatch)
    tensors = to_timm(read_weights(path).tensors)
    assert not [k for k in tensors if k.startswith('loss.')] and 'encoder.conv_in.weight' in tensors


@pytest.mark.parametrize('bias', [True, False])
def test_products_of_few_rows_are_the_same(bias):
    ours, theirs = Linear(24, 40, bias=bias), torch.nn.Linear(24, 40, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    for shape in ((24,), (4, 1, 24), (2, 3, 24), (70, 24), (2, 0, 24)):
        x = torch.randn(shape)
        assert ours(x).shape == theirs(x).shape and ours(x).is_contiguous()
        assert torch.allclose(ours(x), theirs(x), atol=1e-5)
