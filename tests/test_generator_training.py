"""Training of the generators of videos: the tokenizer's and the prior's losses, runs that go on, what they leave."""

import argparse
import re
import shutil
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from conftest import relative_error
from safetensors.torch import load_file
from timm.optim import muon

from videozoo_timm import load_generator
from videozoo_timm.cli import main
from videozoo_timm.models import attention
from videozoo_timm.models.generator_files import read_video_parts, save_video_generator
from videozoo_timm.models.gpt import GPT
from videozoo_timm.models.video_generator import VideoGenerator
from videozoo_timm.models.video_vqgan import PaddedConvTranspose3d, VideoVQGAN, VideoVQGANConfig
from videozoo_timm.training import Keeping, Schedule, adversaries, loop, make_accelerator, read_log, schedule, stream
from videozoo_timm.training.loop import make_optimizer
from videozoo_timm.training.prior import PriorStep, pretrain_prior, sine_positions, with_beginnings_alone
from videozoo_timm.training.tokenizer import (
    TokenizerLoss,
    TokenizerStep,
    clip_views,
    pretrain_tokenizer,
    psnr,
    random_boxes,
    reconstruct,
)
from videozoo_timm.video import Augmentation, Reading, find_videos, load_views

DRAWN = [str(path) for path in find_videos('drawn:16')]
TINY = VideoVQGANConfig(num_codes=24, embed_dim=8, ch=4, downsample=(2, 4, 4), num_frames=4, resolution=16)


def tokenizer():
    torch.manual_seed(0)
    return VideoVQGAN(TINY)


def train_tokenizer(folder, steps, resume=False, every=2, loss=None):
    keeping = Keeping(folder, every=every, log_every=1, resume=resume)
    published = Schedule(steps=6, lr=3e-3, warmup=0.0, weight_decay=0.0, betas=(0.5, 0.9))
    options = dict(
        loss=loss or TokenizerLoss(restart=0.5), crop=(4, 8, 16), batch_size=4, span=33, seed=3, pictures_every=0
    )
    if steps < 6:  # as a kill leaves it: the checkpoint of this step, and nothing later
        options |= dict(progress=lambda step, row: stop() if step > steps else None)
    return pretrain_tokenizer(make_accelerator('cpu'), tokenizer(), DRAWN, published, keeping, **options)


def stop():
    raise KeyboardInterrupt


def with_codes_in_use(vqgan):
    """The tokenizer with vectors of clips as its codes; of random ones a single one is the nearest to all."""
    with torch.no_grad():
        rows = vqgan.eval().pre_quantized(clips(number=64)).movedim(1, -1).flatten(0, -2)
        vqgan.codebook.embeddings.copy_(rows[torch.randperm(len(rows))[:24]])
    return vqgan


def clips(seed=0, number=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(number, 3, 4, 16, 16, generator=generator) - 0.5


def test_the_loss_of_a_tokenizer_is_the_published_one():
    step, x = TokenizerStep(tokenizer(), TokenizerLoss()), clips()
    book = step.vqgan.codebook
    loss = step(x)
    loss.backward()
    z = step.vqgan.pre_quantized(x)  # batch norm in training mode: the batch's own statistics, as in the step
    rows = z.detach().movedim(1, -1).flatten(0, -2)
    assert rows.shape == (96, 8)
    first = load_first_codes(rows)
    codes = torch.cdist(rows, first).argmin(dim=1)
    nearest = first[codes].view(3, 2, 4, 4, 8).movedim(-1, 1)
    l1 = (step.vqgan.decode_embedded(nearest) - x).abs().mean()
    assert relative_error(loss, 4 * l1 + 0.25 * (z - nearest).square().mean()) < 1e-4
    # The gradient goes through the rounding to the encoder, and the commitment pulls it to the codes.
    assert step.vqgan.encoder.conv_first.conv.weight.grad.abs().sum() > 0
    # The codebook follows by averages with a memory of 0.99, from counts of 1 and the first codes.
    counts = torch.bincount(codes, minlength=24).float()
    assert relative_error(book.N, 0.99 + 0.01 * counts) < 1e-5
    sums = torch.zeros(24, 8).index_add_(0, codes, rows)
    assert relative_error(book.z_avg, 0.99 * first + 0.01 * sums) < 1e-4
    assert relative_error(book.embeddings, book.z_avg / book.N.unsqueeze(1)) < 1e-4


def load_first_codes(rows):
    """The vectors of the first batch that become codes, by the same draw."""
    torch.manual_seed(0)
    VideoVQGAN(TINY)
    return rows[torch.randperm(len(rows))[:24]]


def test_evaluation_leaves_the_codebook_alone_and_unused_codes_are_restarted_on_demand():
    step = TokenizerStep(tokenizer(), TokenizerLoss(restart=0.5))
    step(clips())
    before = step.vqgan.codebook.embeddings.clone()
    step.eval()(clips(1))
    assert torch.equal(before, step.vqgan.codebook.embeddings)
    book = step.vqgan.codebook
    for restart in (0.0, 0.5):
        with torch.no_grad():
            book.embeddings[5], book.z_avg[5], book.N[5] = 100.0, 100.0 * 1e-3, 1e-3  # far away, hardly used
        assert step.measured()['dead_codes'] == 1
        step.loss = TokenizerLoss(restart=restart)
        step.train()(clips(2))
        assert (book.embeddings[5].abs().max() < 10) == bool(restart), restart
    assert step.measured()['dead_codes'] == 0 and 1 < step.measured()['perplexity'] <= 24


def test_the_loss_of_a_prior_is_the_likelihood_behind_a_start_token():
    torch.manual_seed(0)
    step, codes = PriorStep(GPT(24, 32, 1, 2, 16)), torch.randint(24, (3, 32))
    logits = step.gpt(torch.cat([torch.zeros(3, 1, dtype=torch.int64), codes[:, :-1]], dim=1))
    assert relative_error(step(codes), F.cross_entropy(logits.flatten(0, 1), codes.flatten())) < 1e-6
    groups = make_optimizer(step, Schedule(steps=1, lr=1.0, weight_decay=0.01)).param_groups
    decayed = {id(p) for group in groups if group['weight_decay'] for p in group['params']}
    for name, parameter in step.named_parameters():
        off = name.endswith('bias') or '.ln' in name or 'emb' in name
        assert (id(parameter) in decayed) != off, name


def test_muon_is_for_matrices_within_and_adamw_for_all_else():
    step, rate = PriorStep(GPT(24, 32, 2, 2, 16)), 0.1
    optimizer = make_optimizer(step, Schedule(steps=1, lr=rate, weight_decay=0.0, optimizer='muon'))
    before = {name: parameter.detach().clone() for name, parameter in step.named_parameters()}
    step(torch.randint(24, (3, 32), generator=torch.Generator().manual_seed(0))).backward()
    optimizer.step()
    for name, parameter in step.named_parameters():
        change = (parameter - before[name]).detach()
        if '.blocks.' in name and parameter.ndim == 2:  # nearly orthogonal: most directions change by so much
            sizes = torch.linalg.svdvals(change) / (0.2 * rate * max(change.shape) ** 0.5)
            assert 0.9 < sizes.median() < 1.1 and sizes.max() < 1.2, name
        else:  # the first step of Adam has one size
            assert (change.abs() < 0.5001 * rate).all() and change.abs().max() > 0.49 * rate, name
    with pytest.raises(ValueError, match="optimizer='adam': must be one of"):
        Schedule(steps=1, lr=1.0, optimizer='adam')


@pytest.mark.parametrize('fast', [True, False])
def test_muon_multiplies_in_float32_where_bfloat16_is_slow(fast, monkeypatch):
    dtypes = []

    def orthogonalized(gradient, *args, dtype=torch.bfloat16, **kwargs):
        dtypes.append(dtype)
        return gradient

    monkeypatch.setattr(muon, 'zeropower_via_newtonschulz', orthogonalized)
    monkeypatch.setattr(schedule, 'fast_in_bfloat16', lambda device: fast)
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 2))
    optimizer = make_optimizer(model, Schedule(steps=1, lr=1e-2, optimizer='muon'))
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    assert set(dtypes) == {torch.bfloat16 if fast else torch.float32}
    assert muon.zeropower_via_newtonschulz is orthogonalized  # for others' optimizers

    def fails(gradient, *args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(muon, 'zeropower_via_newtonschulz', fails)
    with pytest.raises(MemoryError):
        optimizer.step()
    assert muon.zeropower_via_newtonschulz is fails


def test_sines_tell_where_a_code_is():
    found = sine_positions((2, 4, 8), 32)
    assert found.shape == (1, 64, 32) and abs(found.std() - 0.02) < 0.005
    assert torch.pdist(found[0]).min() > 1e-3  # each place has its own
    grid = found.view(2, 4, 8, 32)
    near, far = (grid[0, 0, 0] - grid[0, 0, 1]).norm(), (grid[0, 0, 0] - grid[0, 0, 6]).norm()
    assert near < far
    assert torch.allclose(grid[1, 2, 3] - grid[1, 2, 5], grid[0, 1, 3] - grid[0, 1, 5])  # alike in all rows and frames


def test_a_stopped_run_of_a_tokenizer_goes_on_as_if_it_had_not_been(tmp_path):
    whole = load_file(train_tokenizer(tmp_path / 'whole', 6))
    with pytest.raises(KeyboardInterrupt):
        train_tokenizer(tmp_path / 'parts', 3)
    parts = load_file(train_tokenizer(tmp_path / 'parts', 6, resume=True))
    assert whole.keys() == parts.keys() and all(torch.equal(whole[k], parts[k]) for k in whole)
    columns = ('loss', 'l1', 'commitment', 'perplexity', 'dead_codes')
    logs = [[[row[k] for k in columns] for row in read_log(tmp_path / name / 'log.csv')] for name in ('whole', 'parts')]
    assert logs[0] == logs[1] and len(logs[0]) == 6
    assert float(logs[0][-1][0]) < 0.8 * float(logs[0][0][0])


def test_a_stopped_run_of_a_prior_goes_on_as_if_it_had_not_been(tmp_path):
    vqgan, other = with_codes_in_use(tokenizer()), with_codes_in_use(tokenizer())
    other.codebook.embeddings[3, 2] += 1

    def run(name, stop_after=6, resume=False, vqgan=vqgan, optimizer='adamw'):
        torch.manual_seed(0)
        schedule = Schedule(steps=6, lr=1e-2, optimizer=optimizer)
        gpt, keeping = GPT(24, 32, 1, 2, 16), Keeping(tmp_path / name, every=2, log_every=1, resume=resume)
        options = dict(batch_size=4, span=33, pictures_every=0, progress=lambda step, row: step > stop_after and stop())
        options |= dict(encode_alone=0.5)
        return pretrain_prior(make_accelerator('cpu'), gpt, vqgan, DRAWN, schedule, keeping, **options)

    for optimizer in ('muon', 'adamw'):
        whole = load_file(run(optimizer, optimizer=optimizer))
        with pytest.raises(KeyboardInterrupt):
            run('parts', stop_after=3, optimizer=optimizer)
        if optimizer == 'muon':
            with pytest.raises(ValueError, match='optimizer was muon'):
                run('parts', resume=True)
            parts = load_file(run('parts', resume=True, optimizer=optimizer))
            assert whole.keys() == parts.keys() and all(torch.equal(whole[k], parts[k]) for k in whole)
            shutil.rmtree(tmp_path / 'parts')
    with pytest.raises(ValueError, match='tokenizer_sha256'):  # its codes mean something else
        run('parts', resume=True, vqgan=other)
    parts = load_file(run('parts', resume=True))
    assert whole.keys() == parts.keys() and all(torch.equal(whole[k], parts[k]) for k in whole)


def test_a_generator_is_made_by_two_commands(tmp_path, capsys):
    shared = ['--batch-size', '4', '--device', 'cpu', '--num-workers', '0', '--log-every', '1', '--steps', '8']
    sizes = ['--img-size', '16', '--num-frames', '4', '--downsample', '2', '4', '4']
    sizes += ['--channels', '4', '--num-codes', '24', '--code-dim', '8']
    out, prior = tmp_path / 'tokenizer', tmp_path / 'prior'
    first = ['pretrain-tokenizer', 'drawn:8', *sizes, '--lr', '3e-3', '--span', '33', '--latest-start', '0.5', *shared]
    assert main([*first, '--out', str(out), '--pictures-every', '4']) == 0
    assert {path.name for path in (out / 'pictures').iterdir()} == {
        f'step_0000000{n}_reconstructed.{ending}' for n in (4, 8) for ending in ('jpg', 'gif')
    }
    vqgan = read_video_parts(out / 'model.safetensors')['vqgan']
    assert vqgan.config == TINY
    second = ['pretrain-prior', 'drawn:8', '--tokenizer', str(out / 'model.safetensors'), '--lr', '1e-2', *shared]
    second += ['--depth', '1', '--heads', '2', '--width', '16', '--out', str(prior), '--pictures-every', '8']
    second += ['--opt', 'muon', '--positions', 'sines']
    assert main(second) == 0
    assert {path.name for path in (prior / 'pictures').iterdir()} == {
        f'step_00000008_sampled.{ending}' for ending in ('jpg', 'gif')
    }
    still = [*second, '--steps', '1', '--lr', '0', '--out', str(tmp_path / 'still')]
    assert main(still) == 0  # with nothing learned, what it began from
    assert torch.equal(load_generator(tmp_path / 'still/model.safetensors').gpt.pos_emb, sine_positions((2, 4, 4), 16))
    losses = [float(row['loss']) for row in read_log(prior / 'log.csv')]
    assert losses[-1] < 0.9 * losses[0] and abs(losses[0] - torch.tensor(24.0).log()) < 0.5
    generator = load_generator(prior / 'model.safetensors')
    assert generator.span == 33  # the tokenizer's
    x = clips()
    assert torch.equal(generator.encode(x + 0.5), vqgan.encode(x))  # the tokenizer stays as it is
    assert generator.generate(1, seed=0).shape == (1, 3, 4, 16, 16)
    nats = -generator.log_likelihood(x + 0.5).mean()
    assert relative_error(nats, PriorStep(generator.gpt)(vqgan.encode(x).flatten(1))) < 1e-5
    capsys.readouterr()
    assert main([*second, '--width', '32', '--resume']) == 2
    assert 'prior' in capsys.readouterr().err
    assert main(['pretrain-prior', 'drawn:8', '--tokenizer', str(out / 'run.json')]) == 2
    assert 'run.json' in capsys.readouterr().err
    assert main([*second, '--heads', '3']) == 2
    assert '--width 16: must be a multiple of --heads 3' in capsys.readouterr().err
    settings = dict(n_codes=24, embedding_dim=8, n_hiddens=4, downsample=(2, 4, 4), norm_type='batch')
    settings |= dict(resolution=16, sequence_length=4)
    published = {'state_dict': vqgan.state_dict(), 'hyper_parameters': {'args': argparse.Namespace(**settings)}}
    torch.save(published, tmp_path / 'vqgan.ckpt')
    capsys.readouterr()
    assert main([*second, '--tokenizer', str(tmp_path / 'vqgan.ckpt'), '--span', '33', '--resume']) == 0
    assert main([*second, '--tokenizer', str(tmp_path / 'vqgan.ckpt'), '--resume']) == 2
    assert 'span was 33, is 57' in capsys.readouterr().err  # which the file does not say: the published one


def test_a_tokenizer_goes_on_from_a_file(tmp_path, capsys):
    path = tmp_path / 'first.safetensors'
    trained = tokenizer()
    trained.codebook.N.fill_(1)
    trained.codebook.z_avg.copy_(trained.codebook.embeddings)
    save_video_generator(trained, path, dict(span=33))
    book = read_video_parts(path)['vqgan'].codebook.embeddings
    command = ['pretrain-tokenizer', 'drawn:8', '--weights', str(path), '--batch-size', '4', '--device', 'cpu']
    command += ['--num-workers', '0', '--steps', '1', '--lr', '0', '--pictures-every', '0']
    assert main([*command, '--img-size', '16', '--out', str(tmp_path / 'more')]) == 0
    more = read_video_parts(tmp_path / 'more/model.safetensors')
    assert more['vqgan'].config == TINY and more['span'] == 33
    first = read_video_parts(path)['vqgan'].encoder.state_dict()
    weights = {k: v for k, v in more['vqgan'].encoder.state_dict().items() if 'running' not in k and 'num_b' not in k}
    assert all(torch.equal(v, first[k]) for k, v in weights.items())
    moved = (more['vqgan'].codebook.embeddings - book).abs().max()
    assert 0 < moved < 0.5 * book.abs().max()  # by a moving average, not anew
    assert main([*command, '--lr', '1e-3', '--out', str(tmp_path / 'learns')]) == 0
    learned = read_video_parts(tmp_path / 'learns/model.safetensors')['vqgan'].encoder.state_dict()
    assert 0 < max((v - first[k]).abs().max() for k, v in learned.items() if k in weights) < 0.1
    capsys.readouterr()
    assert main([*command, '--channels', '8', '--out', str(tmp_path / 'other')]) == 2
    assert re.search('--channels 8: the tokenizer in .*first.safetensors has 4', capsys.readouterr().err)
    gpt = tmp_path / 'gpt.safetensors'
    save_video_generator(GPT(24, 32, 1, 2, 16), gpt, {})
    assert main([*command, '--weights', str(gpt), '--out', str(tmp_path / 'other')]) == 2
    assert 'gpt.safetensors holds no tokenizer' in capsys.readouterr().err
    save_video_generator(VideoGenerator(GPT(24, 32, 1, 2, 16), trained, 33), path, {})  # a whole one has a tokenizer
    assert main([*command, '--out', str(tmp_path / 'whole')]) == 0
    assert read_video_parts(tmp_path / 'whole/model.safetensors')['span'] == 33
    save_video_generator(VideoVQGAN(TINY), path, dict(span=33))
    assert main([*command, '--out', str(tmp_path / 'more'), '--resume']) == 2
    assert 'from_sha256' in capsys.readouterr().err


def test_a_prior_goes_on_from_a_file(tmp_path, capsys):
    path, alone = tmp_path / 'first.safetensors', tmp_path / 'gpt.safetensors'
    torch.manual_seed(0)
    first = VideoGenerator(GPT(24, 32, 1, 2, 16), tokenizer(), 33)
    save_video_generator(first, path, {})
    save_video_generator(first.gpt, alone, {})
    save_video_generator(first.vqgan, tmp_path / 'vqgan.safetensors', dict(span=33))
    command = ['pretrain-prior', 'drawn:8', '--batch-size', '4', '--device', 'cpu', '--num-workers', '0']
    command += ['--pictures-every', '0', '--steps', '2']
    whole, out = ['--weights', str(path)], ['--out', str(tmp_path / 'more')]
    own = ['--tokenizer', str(tmp_path / 'vqgan.safetensors')]  # the same, with the sums that a whole generator lacks
    assert main([*command, *whole, *own, '--out', str(tmp_path / 'own'), '--lr', '0']) == 0
    assert main([*command, *whole, *out, '--lr', '0', '--width', '16']) == 0
    more = load_generator(tmp_path / 'more/model.safetensors')
    assert more.span == 33 and all(torch.equal(v, more.gpt.state_dict()[k]) for k, v in first.gpt.state_dict().items())
    with_both = ['--weights', str(alone), '--tokenizer', str(tmp_path / 'vqgan.safetensors')]
    learned = ['--lr', '1e-3', '--out', str(tmp_path / 'learns')]
    assert main([*command, *with_both, *learned, '--encode-alone', '0.5']) == 0
    capsys.readouterr()
    assert main(['methods', str(tmp_path / 'learns')]) == 0
    methods = capsys.readouterr().out
    assert 'as a GPT over the codes of a tokenizer, going on from gpt.safetensors, on the synthetic videos' in methods
    assert 'With a probability of 0.5, the first frames of a clip (a random number of them in each batch)' in methods
    moved = load_generator(tmp_path / 'learns/model.safetensors').gpt.head.weight - first.gpt.head.weight
    assert 0 < moved.abs().max() < 0.1
    capsys.readouterr()
    torch.manual_seed(1)
    save_video_generator(VideoVQGAN(TINY), tmp_path / 'other.safetensors', dict(span=33))
    save_video_generator(VideoVQGAN(replace(TINY, num_frames=8)), tmp_path / 'longer.safetensors', dict(span=33))
    for wrong, words in {
        (*whole, '--tokenizer', str(tmp_path / 'other.safetensors')): 'comes with another, whose codes mean something',
        ('--weights', str(alone)): 'gpt.safetensors is a prior without its tokenizer: name that with --tokenizer',
        ('--weights', str(tmp_path / 'vqgan.safetensors')): '--weights .*vqgan.safetensors holds no prior',
        (*whole, '--depth', '2'): '--depth 2: the prior in .*first.safetensors has 1; leave the option out',
        (
            *whole,
            '--positions',
            'sines',
        ): '--positions sines: the prior in .* has its own; leave the option out',
        (
            *with_both[:3],
            str(tmp_path / 'longer.safetensors'),
        ): 'clips have 64 of 24 codes, the prior .* reads 32 of 24',
        (): '--tokenizer: name the file',
        (*whole, '--encode-alone', '1.5'): '--encode-alone',
    }.items():
        assert main([*command, *wrong, '--out', str(tmp_path / 'wrong')]) == 2
        assert re.search(words, ' '.join(capsys.readouterr().err.split())), wrong
    assert not (tmp_path / 'wrong').exists()
    torch.manual_seed(1)
    save_video_generator(VideoGenerator(GPT(24, 32, 1, 2, 16), first.vqgan, 33), path, {})
    assert main([*command, *whole, *out, '--lr', '0', '--resume']) == 2
    assert 'from_sha256' in capsys.readouterr().err


def test_some_clips_begin_as_those_to_be_continued_do(tmp_path):
    vqgan, x = with_codes_in_use(tokenizer()), clips(number=64)
    with torch.no_grad():
        whole, alone = vqgan.encode(x), vqgan.encode(x[:, :, :2])
        mixed = with_beginnings_alone(vqgan, x, whole, 0.5, 'seed')
    assert torch.equal(mixed[:, 1:], whole[:, 1:])  # of two codes in time the first is the beginning
    own = (mixed[:, 0] == alone[:, 0]).flatten(1).all(dim=1)
    others = (mixed[:, 0] == whole[:, 0]).flatten(1).all(dim=1)
    assert (own | others).all() and 16 < own.sum() < 48 and 16 < others.sum() < 48
    assert torch.equal(mixed, with_beginnings_alone(vqgan, x, whole, 0.5, 'seed'))
    assert torch.equal(whole, with_beginnings_alone(vqgan, x, whole, 0.0, 'seed'))

    def losses(name, encode_alone):
        torch.manual_seed(0)
        keeping = Keeping(tmp_path / name, log_every=1)
        options = dict(batch_size=4, span=33, pictures_every=0, encode_alone=encode_alone)
        gpt, schedule = GPT(24, 32, 1, 2, 16), Schedule(steps=2, lr=1e-2)
        pretrain_prior(make_accelerator('cpu'), gpt, vqgan, DRAWN, schedule, keeping, **options)
        return [row['loss'] for row in read_log(tmp_path / name / 'log.csv')]

    assert losses('never', 0.0) != losses('always', 1.0)


def test_published_settings_are_the_defaults(capsys):
    for command, defaults in (
        ('pretrain-tokenizer', {'--lr': '5e-05', '--betas': '0.5, 0.9', '--weight-decay': '0', '--restart': '0'}),
        ('pretrain-prior', {'--betas': '0.9, 0.95', '--weight-decay': '0.01', '--depth': '24', '--width': '1024'}),
    ):
        assert main([command, '--help']) == 0
        text = ' '.join(capsys.readouterr().out.split())
        for option, default in defaults.items():
            assert re.search(rf' {option} [^\[]*\[default: {re.escape(default)}\]', text), option
    assert (TokenizerLoss().reconstruction, TokenizerLoss().commitment, TokenizerLoss().decay) == (4, 0.25, 0.99)


def test_discriminators_count_from_their_step_on_and_each_side_learns_its_own(monkeypatch):
    monkeypatch.setattr(adversaries, '_WIDTHS', (4, 8, 8, 8))
    step, x = TokenizerStep(tokenizer(), TokenizerLoss(image_gan=1, video_gan=1, gan_start=3)), clips()
    losses = []
    for trained in (step, TokenizerStep(tokenizer(), TokenizerLoss())):
        torch.manual_seed(0)  # the first codes are drawn
        losses.append(trained(x, 2))
    assert torch.equal(*losses)
    real, ours = x, (x + 0.1).requires_grad_()
    for discriminator, of in (
        (step.video_discriminator, lambda x: x),
        (step.image_discriminator, lambda x: x[:, :, 0]),
    ):
        weights = list(discriminator.parameters())
        told = discriminator.judge(of(real), of(ours))
        *layers, logits = discriminator(of(ours))
        *wanted, real_logits = discriminator(of(real))
        assert relative_error(told.generator, -logits.mean()) < 1e-5
        hinge = 0.5 * (F.relu(1 - real_logits).mean() + F.relu(1 + logits).mean())
        assert relative_error(told.discriminator, hinge) < 1e-5
        matching = sum((a - b).abs().mean() for a, b in zip(layers, wanted, strict=True))
        assert relative_error(told.features, matching) < 1e-5
        for loss, to_ours in ((told.generator, True), (told.features, True), (told.discriminator, False)):
            found = torch.autograd.grad(loss, [ours, *weights], allow_unused=True, retain_graph=True)
            assert (found[0] is not None) == to_ours and all((g is not None) != to_ours for g in found[1:])
    loss = step(x, 3)
    parts = {k: float(v) for k, v in step.measured().items()}
    assert {'image_discriminator', 'video_discriminator'} <= parts.keys() and parts['video_discriminator'] != 1
    loss.backward()
    assert all(p.grad is not None for p in step.parameters())


def test_the_perceptual_loss_says_what_it_lacks(monkeypatch):
    monkeypatch.setitem(sys.modules, 'lpips', None)
    with pytest.raises(ImportError, match=r'pip install .videozoo-timm\[lpips\]'):
        TokenizerStep(tokenizer(), TokenizerLoss(perceptual=4))

    def offline(net, verbose):
        raise OSError('no network')

    monkeypatch.setitem(sys.modules, 'lpips', SimpleNamespace(LPIPS=offline))
    with pytest.raises(OSError, match='weights of VGG-16.*no network'):
        TokenizerStep(tokenizer(), TokenizerLoss(perceptual=4))


@pytest.mark.parametrize('stride', [(2, 2, 2), (1, 2, 2), (2, 1, 1)])
def test_in_training_a_transposed_convolution_is_the_same_in_a_faster_way(stride):
    torch.manual_seed(0)
    layer, x = PaddedConvTranspose3d(5, 4, 4, stride), torch.randn(2, 5, 3, 4, 6, requires_grad=True)
    found = []
    for model in (layer.train(), layer.eval()):
        y = model(x)
        found.append([y, *torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])])
    assert found[0][0].shape == found[1][0].shape
    assert all(relative_error(ours, theirs) < 1e-5 for ours, theirs in zip(*found, strict=True))


def test_boxes_are_of_the_clips_and_the_same_for_the_same_seed():
    x = torch.arange(2 * 3 * 4 * 8 * 8.0).view(2, 3, 4, 8, 8)
    boxes = random_boxes(x, (2, 4, 8), 'a')
    assert boxes.shape == (2, 3, 2, 4, 8) and torch.equal(boxes, random_boxes(x, (2, 4, 8), 'a'))
    found = [(t, y) for t in range(3) for y in range(5) if torch.equal(x[0, :, t : t + 2, y : y + 4], boxes[0])]
    assert len(found) == 1
    assert len({random_boxes(x, (2, 4, 4), str(k))[0, 0, 0, 0, 0].item() for k in range(20)}) > 5


def test_a_crop_without_whole_codes_is_refused(tmp_path, capsys):
    command = ['pretrain-tokenizer', 'drawn:8', '--img-size', '16', '--downsample', '2', '4', '4', '--channels', '4']
    assert (
        main([*command, '--device', 'cpu', '--steps', '1', '--out', str(tmp_path / 'a'), '--crop', '2', '6', '8']) == 2
    )
    error = capsys.readouterr().err
    assert '--crop' in error and '(2, 4, 4)' in error


@pytest.mark.parametrize(
    ('wrong', 'words'),
    [
        (['--img-size', '18'], '--img-size 18: must be a multiple'),
        (['--channels', '4', '--norm', 'group'], '--channels 4: must be a multiple of 16'),
        (['--code-dim', '9999999'], '--code-dim 9999999: must be'),
    ],
)
def test_settings_of_a_tokenizer_are_refused_in_the_words_of_the_command(wrong, words, tmp_path, capsys):
    assert main(['pretrain-tokenizer', 'drawn:8', '--out', str(tmp_path / 'run'), *wrong]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / 'run').exists()


def test_psnr_is_of_pixels_that_span_1():
    x = clips()
    assert torch.allclose(psnr(x, x + 0.1), torch.full((3,), 20.0), atol=1e-3)
    assert reconstruct(tokenizer().eval(), x).shape == x.shape


def test_while_a_step_computes_the_next_batch_is_decoded(monkeypatch):
    """As many clips as it has: of 32 small boxes, two that were ready left a core idle for half of the time."""
    begun = []

    def counted(jobs, *args, **kwargs):
        return load_views((begun.append(job) or job for job in jobs), *args, **kwargs)

    monkeypatch.setattr(stream, 'load_views', counted)
    views = clip_views(TINY, 33, Augmentation())
    batches = stream.Stream(DRAWN, views, 6, reading=Reading(num_workers=1))
    try:
        assert len(next(batches).x) == 6
        until = time.monotonic() + 60
        while len(begun) < 12 and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.3)
        assert len(begun) == 12  # and no more: memory is bounded
    finally:
        batches.close()


@pytest.mark.parametrize(
    'command', ['pretrain-tokenizer', 'pretrain-prior', 'finetune', 'reconstruct', 'generate', 'surprise']
)
def test_a_dtype_that_is_slow_here_is_told_of(command, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(attention, 'fast_in_bfloat16', lambda device: False)
    # Accelerate keeps the first precision of a process for all that comes after.
    monkeypatch.setattr(loop, 'make_accelerator', lambda *args: SimpleNamespace(device=torch.device('cpu')))
    path = tmp_path / 'generator.safetensors'
    save_video_generator(VideoGenerator(GPT(24, 32, 1, 2, 16), VideoVQGAN(TINY)), path, {})
    given = {
        'pretrain-tokenizer': ['nowhere'],
        'pretrain-prior': ['nowhere', '--tokenizer', str(path)],
        'finetune': ['--train', 'nowhere'],
        'reconstruct': ['drawn:1', '--weights', str(path)],
        'generate': ['-n', '1', '--weights', str(path)],
        'surprise': ['drawn:1', '--score', 'nll', '--contexts', '2', '--no-pictures', '--weights', str(path)],
    }[command]
    out = tmp_path / ('out.gif' if command == 'generate' else 'out')
    main([command, *given, '--out', str(out), '--num-workers', '0', '--device', 'cpu', '--dtype', 'bfloat16'])
    assert '--dtype bfloat16: this cpu seems to have no instructions for it' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('command', 'option'),
    [('pretrain-tokenizer', '--weights'), ('pretrain-prior', '--tokenizer'), ('pretrain-prior', '--weights')],
)
def test_starting_over_does_not_remove_what_a_run_begins_from(command, option, tmp_path, capsys):
    path = tmp_path / 'model.safetensors'
    save_video_generator(tokenizer(), path, {})
    assert main([command, 'drawn:8', option, str(path), '--out', str(tmp_path), '--force', '--device', 'cpu']) == 2
    assert f'--force would remove {option} {path}' in capsys.readouterr().err and path.exists()
