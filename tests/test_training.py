"""Training: the arithmetic of a step, runs that are stopped and go on, what a run leaves behind."""

import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from types import SimpleNamespace

import psutil
import pytest
import timm
import torch
from conftest import CLIPS, REPOSITORY, TINY_MAE, golden, hanging_video, published, relative_error
from forked_python import ForkedPython, ForkedRanks
from golden import recipe
from plain_mae import plain_loss
from safetensors.torch import load_file, save_file

from videozoo_timm.analysis.evaluation import class_folders, evaluate
from videozoo_timm.cli import main
from videozoo_timm.factory import load_file as load_model_file
from videozoo_timm.inference.pipeline import views_of
from videozoo_timm.models.video_mae import initialize_local
from videozoo_timm.training.finetune import add_lora, few_shots, finetune, freeze_all_but_head
from videozoo_timm.training.loop import (
    Hook,
    Keeping,
    Schedule,
    Stopped,
    make_accelerator,
    make_optimizer,
    read_log,
    train,
)
from videozoo_timm.training.pretrain import pretrain
from videozoo_timm.training.stream import Stream
from videozoo_timm.video import (
    Augmentation,
    Failure,
    Job,
    Sampling,
    augment_clip,
    find_videos,
    load_views,
    prepare_clip,
    read_clip,
    read_views,
)
from videozoo_timm.weights import read_header

DRAWN = [str(path) for path in find_videos('drawn:16')]
TWICE = Augmentation(repeats=2)


def small(name='mae_t14_st', **kwargs):
    torch.manual_seed(0)
    return timm.create_model(name, img_size=56, num_frames=4, embed_dim=32, depth=2, num_heads=2, **kwargs)


def run_pretrain(folder, model=None, paths=DRAWN, steps=6, resume=False, max_failed=0.1, log_every=1, **options):
    options = dict(dict(batch_size=4, augmentation=TWICE, pictures_every=0), **options)
    return load_file(
        pretrain(
            make_accelerator('cpu'),
            model or small(),
            paths,
            Schedule(steps=steps, lr=1e-3),
            Keeping(folder, every=2, log_every=log_every, resume=resume, max_failed=max_failed),
            **options,
        )
    )


def equal(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_loss_and_gradients_are_those_of_the_plain_computation():
    clips = recipe.clip('video_mae_tiny', (2, 3, 16, 56, 56))
    model = timm.create_model(
        'mae_t14_st', pretrained=True, pretrained_cfg_overlay=dict(state_dict=published('video_mae_tiny')), **TINY_MAE
    )
    torch.manual_seed(0)
    noise = torch.rand(2, model.patch_embed.num_patches)
    loss = model(clips, mask_ratio=0.9, noise=noise)[0]
    loss.backward()
    weights = {k: v.detach().clone().requires_grad_() for k, v in model.state_dict().items()}
    plain = plain_loss(weights, clips, noise, TINY_MAE['num_heads'], TINY_MAE['decoder_num_heads'])
    plain.backward()
    assert relative_error(loss, golden('video_mae_tiny')['random_90.loss']) < 1e-5
    assert relative_error(loss, plain) < 1e-5
    for name, parameter in model.named_parameters():
        assert relative_error(parameter.grad, weights[name].grad) < 1e-4, name


def test_a_step_is_the_plain_step(tmp_path):
    model, batches = small(), []
    before = {k: v.detach().clone().requires_grad_() for k, v in model.state_dict().items()}

    def loss_of(model, batch):
        batches.append(batch)
        return model(batch.x, noise=torch.rand(4, 32, generator=torch.Generator().manual_seed(1)))[0]

    schedule = Schedule(steps=1, lr=1e-3, warmup=0.0, weight_decay=0.05, betas=(0.9, 0.95), clip_grad=0.1)
    train(
        make_accelerator('cpu'),
        model,
        DRAWN,
        views_of(model, augmentation=TWICE),
        loss_of,
        schedule,
        Keeping(tmp_path),
        batch_size=4,
    )
    noise = torch.rand(4, 32, generator=torch.Generator().manual_seed(1))
    plain_loss(before, batches[0].x, noise, 2, 2).backward()
    norm = math.sqrt(sum(float(w.grad.square().sum()) for w in before.values()))
    assert norm > 0.1  # so that there is something to clip
    lr = 0.5 * 1e-3  # the cosine is half-way down at the only step
    for name, weight in before.items():
        gradient = weight.grad * 0.1 / (norm + 1e-6)
        no_decay = weight.ndim == 1 or 'token' in name or 'pos_embed' in name
        want = weight.detach() * (1 - lr * (0 if no_decay else 0.05))
        # AdamW's first step with its bias corrected: the gradient over its size.
        want = want - lr * gradient / (gradient.abs() + 1e-8)
        # Where a gradient is nearly 0 its sign is a matter of rounding.
        clear = gradient.abs() > 1e-6
        assert torch.allclose(model.state_dict()[name][clear], want[clear], atol=2e-6), name


def test_published_recipe_is_the_default(capsys):
    assert main(['pretrain', '--help']) == 0
    text = ' '.join(capsys.readouterr().out.split())
    for option, default in (
        ('--lr', '0.0001'),
        ('--betas', '0.9, 0.95'),
        ('--weight-decay', '0.05'),
        ('--span', '128'),
        ('--clip-grad', '0.1'),
        ('--repeat-aug', '16'),
        ('--mask-ratio', '0.9; of images 0.75'),
    ):
        assert re.search(rf' {option} [^\[]*\[default: {default}\]', text), option
    model = small()
    groups = make_optimizer(model, Schedule(steps=1, lr=1.0)).param_groups
    decayed = {id(p) for group in groups if group['weight_decay'] for p in group['params']}
    for name, parameter in model.named_parameters():
        off = name.endswith('bias') or 'norm' in name or 'pos_embed' in name or 'token' in name
        assert (id(parameter) in decayed) != off, name


def test_layer_decay_follows_the_blocks():
    model = small('vit_t14_st', num_classes=3)
    groups = make_optimizer(model, Schedule(steps=1, lr=1.0, layer_decay=0.5)).param_groups
    scale = {id(p): group['lr_scale'] for group in groups for p in group['params']}
    assert scale[id(model.head.weight)] == 1
    assert scale[id(model.blocks[1].mlp.fc1.weight)] == 2 * scale[id(model.blocks[0].mlp.fc1.weight)]
    assert (
        scale[id(model.pos_embed_spatial)]
        == scale[id(model.patch_embed.proj.weight)]
        < scale[id(model.blocks[0].mlp.fc1.weight)]
    )


def test_accumulating_and_decoding_ahead_change_nothing_but_rounding(tmp_path):
    whole = run_pretrain(tmp_path / 'a', mask_types=['center'], mask_ratios=[0.5])
    workers = run_pretrain(tmp_path / 'b', mask_types=['center'], mask_ratios=[0.5], num_workers=1)
    assert equal(whole, workers)
    halves = load_file(
        pretrain(
            make_accelerator('cpu', accumulate=2),
            small(),
            DRAWN,
            Schedule(steps=6, lr=1e-3, accumulate=2),
            Keeping(tmp_path / 'c'),
            batch_size=2,
            augmentation=TWICE,
            pictures_every=0,
            mask_types=['center'],
            mask_ratios=[0.5],
        )
    )
    assert all(torch.allclose(halves[k], whole[k], atol=1e-4) for k in whole)


class Crash(Exception):
    pass


def test_a_run_that_crashes_goes_on_to_the_same_weights(tmp_path):
    whole = run_pretrain(tmp_path / 'whole', mask_types=['random', 'temporal'], mask_ratios=[0.9, 0.5])

    options = dict(mask_types=['random', 'temporal'], mask_ratios=[0.9, 0.5])
    with pytest.raises(Crash):
        run_pretrain(tmp_path / 'crashed', progress=_crash_at(5), **options)
    left = sorted(p.name for p in (tmp_path / 'crashed' / 'checkpoints').iterdir())
    assert left == ['step_00000002', 'step_00000004']
    assert not (tmp_path / 'crashed' / 'model.safetensors').exists()
    torch.manual_seed(123)  # as another process would start
    random.seed(123)
    assert equal(run_pretrain(tmp_path / 'crashed', resume=True, **options), whole)
    log = read_log(tmp_path / 'crashed' / 'log.csv')
    assert [int(row['step']) for row in log] == [1, 2, 3, 4, 5, 6]
    assert [row['loss'] for row in log] == [row['loss'] for row in read_log(tmp_path / 'whole' / 'log.csv')]


def test_rows_of_the_log_are_the_same_over_a_crash(tmp_path):
    run_pretrain(tmp_path / 'whole', log_every=3)
    with pytest.raises(Crash):
        run_pretrain(tmp_path / 'crashed', log_every=3, progress=_crash_at(5))
    run_pretrain(tmp_path / 'crashed', log_every=3, resume=True)
    rows = [
        [(row['step'], row['loss']) for row in read_log(tmp_path / name / 'log.csv')] for name in ('whole', 'crashed')
    ]
    assert rows[0] == rows[1] and [step for step, _ in rows[0]] == ['3', '6']


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_serves(tmp_path):
    whole = run_pretrain(tmp_path / 'whole')
    with pytest.raises(Crash):
        run_pretrain(tmp_path / 'run', progress=_crash_at(5))
    last = tmp_path / 'run' / 'checkpoints' / 'step_00000004'
    for name in ('model.safetensors', 'optimizer.bin', 'training.json'):
        kept = (last / name).read_bytes()
        (last / name).write_bytes(b'')
        with pytest.raises(ValueError, match=f'{re.escape(str(last))} cannot be read .* remove it'):
            run_pretrain(tmp_path / 'run', resume=True)
        (last / name).write_bytes(kept)
    shutil.rmtree(last)
    assert equal(run_pretrain(tmp_path / 'run', resume=True), whole)
    (tmp_path / 'run' / 'run.json').write_text('')
    with pytest.raises(ValueError, match='run.json is damaged'):
        run_pretrain(tmp_path / 'run', resume=True)


def _crash_at(step):
    def progress(now, row):
        if now == step:
            raise Crash

    return progress


def test_random_state_is_part_of_a_checkpoint(tmp_path):
    """With dropout, mixup and stochastic depth, whose draws follow from no position."""
    files = class_folders('drawn:16')

    def run(folder, resume=False, progress=lambda step, row: None):
        model = small('vit_t14_st', num_classes=8, drop_rate=0.3, drop_path_rate=0.3)
        return load_file(
            finetune(
                make_accelerator('cpu'),
                model,
                files,
                None,
                Schedule(steps=5, lr=1e-3),
                Keeping(folder, every=2, resume=resume),
                batch_size=4,
                progress=progress,
                augmentation=Augmentation(auto_augment='rand-m7-n2-mstd0.5-inc1'),
            )
        )

    whole = run(tmp_path / 'whole')
    with pytest.raises(Crash):
        run(tmp_path / 'crashed', progress=_crash_at(3))
    assert equal(run(tmp_path / 'crashed', resume=True), whole)


def test_a_folder_with_another_run_is_refused(tmp_path):
    run_pretrain(tmp_path, steps=2)
    with pytest.raises(ValueError, match='holds a run; resume=True continues it, force=True replaces it'):
        run_pretrain(tmp_path, steps=2)
    with pytest.raises(ValueError, match='steps was 2, is 3'):
        run_pretrain(tmp_path, steps=3, resume=True)
    with pytest.raises(ValueError, match='files_sha256'):
        run_pretrain(tmp_path, steps=2, resume=True, paths=DRAWN[::-1])


def test_force_removes_what_runs_write_and_nothing_else(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ['pretrain', 'drawn:16', *COMMON, '--batch-size', '4', '--steps', '2', '--pictures-every', '1', '--force']
    for name in ('model.safetensors', 'log.csv', 'checkpoints/step_1'):  # of something else
        own = tmp_path / 'pretrained' / name
        own.parent.mkdir(parents=True, exist_ok=True)
        own.write_text('mine')
        for options in ([], ['--resume']):
            assert main([*command[:-1], *options] if options else command) == 2
            assert f'{name} is there, of no run that is known' in capsys.readouterr().err
        assert own.read_text() == 'mine' and not (tmp_path / 'pretrained' / 'run.json').exists()
        own.unlink()
    (tmp_path / 'pretrained' / 'checkpoints').rmdir()
    (tmp_path / 'scratch').mkdir()
    (tmp_path / 'pretrained' / 'checkpoints').symlink_to(tmp_path / 'scratch')  # a larger disk
    assert main(command[:-1]) == 0
    mine = [tmp_path / 'pretrained' / name for name in ('pictures/mine.jpg', 'notes.txt', 'checkpoints/mine.ckpt')]
    for path in mine:
        path.write_text('mine')
    before = (tmp_path / 'pretrained' / 'model.safetensors').read_bytes()
    for wrong, words in (
        (['--lr', '-1'], '--lr: -1: must be a number of at least 0'),
        (['--aa', 'nonsense'], "auto_augment='nonsense'"),
        (['--device', 'gpu'], '--device gpu'),
        (['--seed', '-1'], 'Seed must be between 0'),
        (['--time-limit', '0'], '--time-limit 0.0'),
        (['--num-workers', '-1'], '--num-workers: -1: must be a whole number of at least 0'),
        (['--pictures-every', '-1'], '--pictures-every: -1: must be'),
    ):
        assert main([*command, *wrong]) == 2 and words in capsys.readouterr().err
        assert (tmp_path / 'pretrained' / 'model.safetensors').read_bytes() == before
    assert main([*command, '--seed', '1']) == 0
    assert (tmp_path / 'pretrained' / 'model.safetensors').read_bytes() != before
    assert all(path.read_text() == 'mine' for path in mine)
    assert sorted(path.name for path in (tmp_path / 'scratch').iterdir()) == [
        '.lock',
        'mine.ckpt',
        'step_00000002',
    ]  # the lock of runs whose links lead there


def test_files_left_out_make_the_exit_code(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(['draw', '--num', '8', '--out', 'train', '--size', '64', '--motion', 'left', 'right']) == 0
    shutil.copytree('train', 'val')
    command = [
        'finetune',
        '--train',
        'train',
        '--val',
        'val',
        *COMMON,
        '--steps',
        '4',
        '--batch-size',
        '4',
        '--validate-every',
        '2',
        '--max-failed',
        '0.5',
    ]
    assert main(command) == 0
    shutil.copy(CLIPS / 'odd' / 'empty.mp4', 'val/left')
    assert main([*command, '--out', 'other']) == 1
    assert capsys.readouterr().err.count('empty.mp4') == 1  # of two validations


def test_a_file_that_hangs_delays_the_pictures_and_no_more(tmp_path):
    hanging_video(tmp_path / 'hangs.mp4')
    run_pretrain(
        tmp_path / 'run',
        paths=[str(tmp_path / 'hangs.mp4'), *DRAWN],
        steps=1,
        pictures_every=1,
        num_workers=1,
        time_limit=6.0,
    )
    assert len(list((tmp_path / 'run' / 'pictures').iterdir())) == 1


def test_a_loss_that_is_not_finite_names_step_and_files(tmp_path):
    model = small()

    def spoil(step, row):
        if step == 2:
            model.decoder_pred.weight.data.fill_(math.nan)

    with pytest.raises(FloatingPointError, match=r'not finite at step 3; .* drawn:0/\w+/0000\d\d, drawn:0/') as error:
        run_pretrain(tmp_path, model=model, progress=spoil)
    stream = Stream(DRAWN, views_of(model, augmentation=TWICE), 4)
    batches = [next(stream) for _ in range(3)]
    named = re.findall(r'drawn:0/\w+/\d+', str(error.value))
    assert named == list(dict.fromkeys(DRAWN[file] for file in batches[2].files))
    assert [p.name for p in (tmp_path / 'checkpoints').iterdir()] == ['step_00000002']


def test_a_gradient_that_is_not_finite_is_not_taken(tmp_path):
    """Of a finite loss, in the last step: the weights that are written would be NaN, and nothing would tell."""
    model = small()

    class Root(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x

        @staticmethod
        def backward(ctx, gradient):
            return gradient * math.inf

    def spoil(step, row):
        if step == 5:
            model.decoder_pred.register_forward_hook(lambda module, args, output: Root.apply(output))

    with pytest.raises(FloatingPointError, match='the gradient is not finite at step 6; .* drawn:0/'):
        run_pretrain(tmp_path, model=model, progress=spoil)
    assert not (tmp_path / 'model.safetensors').exists()


def test_unreadable_files_are_left_out_and_counted(tmp_path):
    bad = str(CLIPS / 'odd' / 'empty.mp4')
    reported = []
    run_pretrain(
        tmp_path / 'few',
        paths=[*DRAWN[:5], bad],
        steps=9,
        max_failed=0.2,
        report=lambda path, reason: reported.append(path),
    )
    assert reported == [bad] and read_log(tmp_path / 'few' / 'log.csv')[-1]['failed'] == '1'
    with pytest.raises(ValueError, match='1 of 6 files could not be read so far, more than max_failed=0.1'):
        run_pretrain(tmp_path / 'many', paths=[*DRAWN[:5], bad], steps=9)
    told = []
    for matched in (False, True):
        with closing(
            Stream(
                [*DRAWN[:5], bad],
                views_of(small(), augmentation=TWICE),
                12,
                matched=matched,
                report=lambda path, reason: told.append(reason),
            )
        ) as stream:
            next(stream)
    assert ['matched files are split' in reason for reason in told] == [False, True]
    with pytest.raises(ValueError, match='none of 1 file can be read'):
        run_pretrain(tmp_path / 'all', paths=[bad], max_failed=1.0)
    with pytest.raises(ValueError, match='no files to train on'):
        run_pretrain(tmp_path / 'none', paths=[])


@pytest.mark.parametrize('matched', [False, True])
def test_batches_of_two_processes_are_those_of_one_twice_as_large(matched):
    views = views_of(small(), augmentation=TWICE)
    whole = Stream(DRAWN, views, 8, matched=matched)
    halves = [Stream(DRAWN, views, 4, rank=rank, size=2, matched=matched) for rank in range(2)]
    for _ in range(5):  # beyond an epoch
        batch, parts = next(whole), [next(half) for half in halves]
        assert batch.files == parts[0].files + parts[1].files
        assert torch.equal(batch.x, torch.cat([part.x for part in parts]))
    files = [file for _ in range(4) for file in next(halves[0]).files]
    again = Stream(DRAWN, views, 4, rank=0, size=2, number=5, position=(10, 0), matched=matched)
    assert [file for _ in range(4) for file in next(again).files] == files


def are_pairs(files):
    return all(abs(a - b) == 6 for a, b in zip(files[::2], files[1::2], strict=True))


def least_difference_of_corners(a, b):
    """Some corner shows the background alone, which is the same under the same view."""
    return (a - b).abs().amax(dim=(0, 1))[[0, 0, -1, -1], [0, -1, 0, -1]].min()


def test_matched_files_come_together_under_the_same_view():
    paths = [f'drawn:0/{motion}/{number:06}' for motion in ('up', 'still') for number in range(6)]
    views = views_of(small(), augmentation=Augmentation())
    stream = Stream(paths, views, 6, matched=True)
    batches = [next(stream) for _ in range(4)]  # two epochs
    for batch in batches:
        assert are_pairs(batch.files)
        for up, still in zip(batch.x[::2], batch.x[1::2], strict=True):
            assert least_difference_of_corners(up, still) < 0.05 and (up - still).abs().max() > 0.5
    assert sorted(batches[0].files + batches[1].files) == sorted(batches[2].files + batches[3].files) == [*range(12)]
    assert batches[0].files != batches[2].files
    assert len({a < b for batch in batches for a, b in zip(batch.files[::2], batch.files[1::2], strict=True)}) == 2
    first, again = (
        next(x for b in two for x, file in zip(b.x, b.files, strict=True) if file == 0)
        for two in (batches[:2], batches[2:])
    )
    assert not torch.equal(first, again)  # another view in the next epoch
    with pytest.raises(ValueError, match='of 6 files no two have the same name'):
        Stream(paths[:6], views, 6, matched=True)
    batch = next(Stream(paths, views, 12))
    assert not are_pairs(batch.files)
    ordered = batch.x[torch.tensor(batch.files).argsort()]
    assert any(least_difference_of_corners(a, b) > 0.1 for a, b in zip(ordered[:6], ordered[6:], strict=True))


def test_a_stream_is_entered_in_the_middle_of_a_file():
    views = views_of(small(), augmentation=Augmentation(repeats=5))
    stream = Stream(DRAWN[:3], views, 3)
    next(stream)
    position, batch = stream.position, next(stream)
    assert position == (0, 3)
    again = next(Stream(DRAWN[:3], views, 3, number=1, position=position))
    assert torch.equal(batch.x, again.x) and batch.files == again.files and again.number == 1


def test_an_augmented_view_treats_all_frames_alike():
    frame = torch.randint(0, 256, (1, 60, 80, 3), dtype=torch.uint8)
    how = dict(mean=0.45, std=0.225)
    views = []
    for seed in range(6):
        for config in ('', 'rand-m9-n3-mstd0.5-inc1', 'original-mstd0.5'):
            augmentation = Augmentation(auto_augment=config)
            x = augment_clip(frame.expand(4, -1, -1, -1), 28, augmentation, seed, **how)
            assert x.shape == (3, 4, 28, 28) and x.dtype == torch.float32
            assert torch.equal(x, x[:, :1].expand(-1, 4, -1, -1)), (seed, config)
            assert torch.equal(x, augment_clip(frame.expand(4, -1, -1, -1), 28, augmentation, seed, **how))
            views.append(x)
    assert not any(torch.equal(a, b) for k, a in enumerate(views) for b in views[:k])


def test_flips_and_crops():
    ramp = torch.linspace(0, 255, 56).round().to(torch.uint8)
    frames = ramp.view(1, 1, -1, 1).expand(2, 56, -1, 3)
    how = dict(mean=0.45, std=0.225)
    for hflip, direction in ((0.0, 1), (1.0, -1)):
        x = augment_clip(frames, 28, Augmentation(hflip=hflip), 0, **how)
        assert ((x[0, 0, 0, 1:] - x[0, 0, 0, :-1]) * direction > 0).all()
    whole = augment_clip(frames, 56, Augmentation(scale=(1, 1), ratio=(1, 1), hflip=0), 0, **how)
    assert torch.equal(whole, prepare_clip(frames, 56, short_side=56, **how))
    narrow = augment_clip(frames, 28, Augmentation(scale=(0.1, 0.2), hflip=0), 0, **how)
    assert narrow.max() - narrow.min() < 0.6 * (whole.max() - whole.min())
    for wrong in (dict(scale=(0, 1)), dict(scale=(0.8, 0.5)), dict(hflip=2), dict(repeats=0), dict(ratio=(2, 1))):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Augmentation(**wrong)


def test_repeated_views_are_of_one_decoded_clip_of_a_real_video():
    path = str(CLIPS / 'pans' / 'things' / 'cat.mp4')
    views = views_of(
        small(), Sampling(4, 65), augmentation=Augmentation(scale=(1, 1), ratio=(1, 1), hflip=0.5, repeats=4)
    )
    got = list(read_views(Job(3, path), views))
    assert len(got) == 4 and len({view.start for view in got}) == 1 and got[0].start > 0
    assert torch.equal(got[2].x, next(read_views(Job(3, path, skip=2), views)).x)
    frames = read_clip(path, start=got[0].start, sampling=views.sampling).frames
    whole = prepare_clip(_square(frames), 56, short_side=56, mean=0.45, std=0.225)
    assert any(relative_error(view.x, whole) < 0.2 or relative_error(view.x.flip(-1), whole) < 0.2 for view in got)


def _square(frames):
    side = min(frames.shape[1:3])
    top, left = (frames.shape[1] - side) // 2, (frames.shape[2] - side) // 2
    return frames[:, top : top + side, left : left + side]


def test_finetuning_leaves_models_that_load_everywhere(tmp_path, capsys):
    files, held_out = (class_folders(folder)._replace(classes=list('abcdefgh')) for folder in ('drawn:16', 'drawn:8@1'))
    path = finetune(
        make_accelerator('cpu'),
        timm.create_model('vit_t14_st', img_size=56, num_frames=4, num_classes=8),
        files,
        held_out,
        Schedule(steps=4, lr=1e-3),
        Keeping(tmp_path / 'run'),
        batch_size=4,
        validate_every=2,
    )
    rows = read_log(tmp_path / 'run' / 'validation.csv')
    assert [row['step'] for row in rows] == ['2', '4'] and {row['files'] for row in rows} == {'8'}
    model = load_model_file(path)
    assert model.num_classes == 8 and model.num_frames == 4 and model.patch_embed.img_size == (56, 56)
    assert tuple(model.pretrained_cfg['label_names']) == tuple(files.classes)
    same = timm.create_model(
        'vit_t14_st', pretrained=True, pretrained_cfg_overlay=dict(file=str(path)), img_size=56, num_frames=4
    ).eval()
    x = torch.randn(1, 3, 4, 56, 56)
    assert torch.equal(model(x), same(x))
    assert list(same.pretrained_cfg['label_names']) == files.classes
    tensors = {k: v[:5] if k.startswith('head.') else v for k, v in load_file(path).items()}
    for header, names in (({}, None), ({'label_names': json.dumps(list('vwxyz'))}, tuple('vwxyz'))):
        save_file(tensors, tmp_path / 'five.safetensors', header)
        same = timm.create_model(
            'vit_t14_st',
            pretrained=True,
            pretrained_cfg_overlay=dict(file=str(tmp_path / 'five.safetensors')),
            img_size=56,
            num_frames=4,
            **({} if names else {'num_classes': 5}),
        )
        assert same.num_classes == 5 and same.pretrained_cfg.get('label_names') == names
    assert (tmp_path / 'run' / 'best.safetensors').exists()
    best = max(float(row['top1']) for row in rows)
    best_file, out = str(tmp_path / 'run' / 'best.safetensors'), str(tmp_path / 'evaluation')
    assert main(['evaluate', 'drawn:8@1', '--weights', best_file, '--json', '--num-workers=0', '--out', out]) == 0
    assert json.loads(capsys.readouterr().out)['top1'] == best
    converted = str(tmp_path / 'converted.safetensors')
    assert main(['convert', str(path), converted]) == 0
    assert equal(load_file(converted), load_file(path))
    assert main(['classify', DRAWN[0], '--weights', converted, '--num-workers=0']) == 0
    printed = capsys.readouterr().out
    assert any(f'%  {name}' in printed for name in files.classes)


def test_freezing_and_lora(tmp_path):
    pytest.importorskip('peft', reason='peft is not installed')
    files, changed = class_folders('drawn:16'), []
    for how in (lambda model: freeze_all_but_head(model) or model, lambda model: add_lora(model, 2)):
        model = small('vit_t14_st', num_classes=8)
        before = {k: v.clone() for k, v in model.state_dict().items()}
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        after = load_file(
            finetune(
                make_accelerator('cpu'),
                how(model),
                files,
                class_folders('drawn:8@1'),
                Schedule(steps=2, lr=1e-2, warmup=0),
                Keeping(folder),
                batch_size=4,
                mixup=0,
                cutmix=0,
                validate_every=1,
            )
        )
        assert after.keys() == before.keys()
        changed.append(
            {
                k.removeprefix('head.').split('.', 2)[-1]
                for k in after
                if not torch.allclose(after[k], before[k], atol=1e-6)
            }
        )
    head = {'weight', 'bias'}
    assert changed == [head, head | {'attn.qkv.weight', 'attn.proj.weight', 'mlp.fc1.weight', 'mlp.fc2.weight'}]


def test_images_are_still_clips(tmp_path):
    from PIL import Image

    for name, color in (('a', (200, 30, 30)), ('b', (30, 30, 200))):
        (tmp_path / 'data' / name).mkdir(parents=True)
        for k in range(4):
            Image.new('RGB', (60, 48), tuple(c + 5 * k for c in color)).save(tmp_path / 'data' / name / f'{k}.png')
    files = class_folders(tmp_path / 'data')
    finetune(
        make_accelerator('cpu'),
        small('vit_t14_st', num_classes=2),
        files,
        files,
        Schedule(steps=12, lr=3e-3),
        Keeping(tmp_path / 'run'),
        batch_size=4,
        mixup=0,
        cutmix=0,
        augmentation=Augmentation(),
        validate_every=12,
    )
    assert float(read_log(tmp_path / 'run' / 'validation.csv')[-1]['top1']) == 1.0


def test_few_shots():
    files = class_folders('drawn:80')
    some = few_shots(files, 3, seed=1)
    assert [some.targets.count(k) for k in range(8)] == [3] * 8 and set(some.paths) < set(files.paths)
    assert all(
        files.targets[files.paths.index(path)] == target for path, target in zip(some.paths, some.targets, strict=True)
    )
    assert few_shots(files, 3, seed=1) == some != few_shots(files, 3, seed=2)
    with pytest.raises(ValueError, match="10 files of the class 'down', fewer than 11"):
        few_shots(files, 11)
    matched = few_shots(files, 3, seed=1, matched=True)
    assert [matched.targets.count(k) for k in range(8)] == [3] * 8
    assert len({os.path.basename(path) for path in matched.paths}) == 3
    with pytest.raises(ValueError, match='10 names that all classes share, fewer than 11'):
        few_shots(class_folders('drawn:84'), 11, matched=True)  # the eleventh name is in four of the eight


def test_what_cannot_be_trained_is_refused(tmp_path):
    files = class_folders('drawn:16')
    options = dict(batch_size=3)
    accelerator, schedule, keeping = make_accelerator('cpu'), Schedule(steps=1, lr=1e-3), Keeping(tmp_path / 'run')
    with pytest.raises(ValueError, match='8 classes, the model has a head of 3'):
        finetune(accelerator, small('vit_t14_st', num_classes=3), files, None, schedule, keeping, **options)
    with pytest.raises(ValueError, match="2 files of the class 'down' are named '000000'"):
        twice = files._replace(paths=[path.replace('000001', '000000') for path in files.paths])
        model = small('vit_t14_st', num_classes=8)
        finetune(accelerator, model, twice, None, schedule, keeping, matched=True, **options)
    with pytest.raises(ValueError, match='accumulates 1 batches, the schedule 2'):
        pretrain(accelerator, small(), DRAWN, Schedule(steps=1, lr=1e-3, accumulate=2), keeping)
    with pytest.raises(ValueError, match='validate_every=0'):
        finetune(accelerator, small('vit_t14_st', num_classes=8), files, files, schedule, keeping, validate_every=0)
    with pytest.raises(ValueError, match='FSDP'):  # which needs a GPU
        finetune(
            SimpleNamespace(distributed_type='FSDP'),
            add_lora(small('vit_t14_st', num_classes=8), 2),
            files,
            None,
            schedule,
            keeping,
        )
    with pytest.raises(ValueError, match='must be even'):
        finetune(accelerator, small('vit_t14_st', num_classes=8), files, None, schedule, keeping, **options)
    with pytest.raises(ValueError, match='other classes than drawn:16: drawn:16 alone has up; drawn:16 alone has over'):
        other = files._replace(classes=[*files.classes[:-1], 'over'])
        finetune(accelerator, small('vit_t14_st', num_classes=8), files, other, schedule, keeping, **options)
    with pytest.raises(ValueError, match='no decoder'):
        pretrain(accelerator, small('vit_t14_st', num_classes=0), DRAWN, schedule, keeping)
    for wrong, words in (
        (dict(mask_types=['all']), 'must be one of'),
        (dict(mask_ratios=[1.0]), 'below 1'),
        (dict(mask_ratios=[0.5, 0.6]), '1 mask types and 2 mask ratios'),
    ):
        with pytest.raises(ValueError, match=words):
            pretrain(accelerator, small(), DRAWN, schedule, keeping, **wrong)
    with pytest.raises(ValueError, match='steps'):
        Schedule(steps=0, lr=1.0)
    assert not (tmp_path / 'run').exists()


def test_what_a_run_lacks_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ['finetune', '--train', 'drawn:12', *COMMON, '--matched', '--batch-size', '8', '--steps', '1', '--resume']
    assert main(command) == 0
    said = capsys.readouterr().err
    assert '--resume: there is no checkpoint in finetuned' in said
    assert '--matched: of 2 names 1 are in all 8 classes' in said
    assert '--batch-size 8 is no multiple of the 16 views of a scene' in said
    assert main([*command, '--seed', '1']) == 2
    assert 'another run (seed was 0, is 1); name another --out, or --force replaces them' in capsys.readouterr().err
    assert (
        main(
            [
                arg.replace('drawn:12', 'drawn:16').replace('8', '16') if arg in ('drawn:12', '8') else arg
                for arg in command
            ]
            + ['--out', 'other']
        )
        == 0
    )
    assert '--matched' not in capsys.readouterr().err


def test_hooks_see_every_so_many_steps_and_the_last(tmp_path):
    model, seen = small(), []
    train(
        make_accelerator('cpu'),
        model,
        DRAWN,
        views_of(model, augmentation=TWICE),
        lambda model, batch: model(batch.x)[0],
        Schedule(steps=5, lr=1e-3),
        Keeping(tmp_path),
        batch_size=4,
        hooks=[Hook(2, lambda step, model: seen.append(step))],
    )
    assert seen == [2, 4, 5]


def test_rates_rise_to_the_highest_and_fall_from_there(tmp_path):
    model = small()
    train(
        make_accelerator('cpu'),
        model,
        DRAWN,
        views_of(model, augmentation=TWICE),
        lambda model, batch: model(batch.x)[0],
        Schedule(steps=8, lr=1e-3, min_lr=1e-4, warmup=0.5),
        Keeping(tmp_path, log_every=1),
        batch_size=4,
    )
    rates = [float(row['lr']) for row in read_log(tmp_path / 'log.csv')]
    cosine = [1e-4 + 9e-4 * (1 + math.cos(math.pi * k / 5)) / 2 for k in range(5)]
    assert rates == pytest.approx([2.5e-4, 5e-4, 7.5e-4, *cosine])


def test_clips_a_second_are_those_of_training(tmp_path, monkeypatch):
    model, clock = small(), [0.0]
    monkeypatch.setattr('videozoo_timm.training.loop.time', SimpleNamespace(monotonic=lambda: clock[0]))

    def wait(seconds):
        clock[0] += seconds

    def loss_of(model, batch):
        wait(2)
        return model(batch.x)[0]

    train(
        make_accelerator('cpu'),
        model,
        DRAWN,
        views_of(model, augmentation=TWICE),
        loss_of,
        Schedule(steps=3, lr=1e-3),
        Keeping(tmp_path, log_every=1),
        batch_size=4,
        hooks=[Hook(1, lambda step, model: wait(1000))],
    )
    assert [row['clips_per_second'] for row in read_log(tmp_path / 'log.csv')] == ['2.0'] * 3


def test_pretraining_draws_completions_and_learns(tmp_path):
    model = small()
    initialize_local(model)
    pretrain(
        make_accelerator('cpu'),
        model,
        DRAWN,
        Schedule(steps=120, lr=5e-3),
        Keeping(tmp_path, log_every=10),
        batch_size=8,
        augmentation=TWICE,
        mask_ratios=[0.75],
        pictures_every=60,
    )
    assert sorted(p.name for p in (tmp_path / 'pictures').iterdir()) == [
        'step_00000060_random75.jpg',
        'step_00000120_random75.jpg',
    ]
    losses = [float(row['loss']) for row in read_log(tmp_path / 'log.csv')]
    assert losses[-1] < 0.8 * losses[0]
    assert list((tmp_path / 'tensorboard').iterdir())


COMMON = [
    '--from-scratch',
    '--img-size',
    '56',
    '--num-frames',
    '4',
    '--lr',
    '1e-3',
    '--repeat-aug',
    '2',
    '--num-workers',
    '0',
    '--checkpoint-every',
    '2',
    '--device',
    'cpu',
]
COMMANDS = {
    'pretrain': ['pretrain', 'drawn:16', *COMMON, '--pictures-every', '0'],
    'finetune': [
        'finetune',
        '--train',
        'drawn:16',
        '--val',
        'drawn:16@1',
        *COMMON,
        '--validate-every',
        '10',
        '--matched',
    ],
}


@pytest.fixture
def start(tmp_path):
    """Start a command in processes of their own; what a failed test leaves of them is ended."""
    started = []

    def start(*arguments, processes=1, command='pretrain', piped=False):
        decoders = '1' if processes == 1 else '0'
        arguments = [*COMMANDS[command], '--num-workers', decoders, '--log-every', '1', *arguments]
        environment = dict(os.environ, PYTHONPATH=str(REPOSITORY), OMP_NUM_THREADS='1')
        if piped:
            process = subprocess.Popen(
                [sys.executable, '-m', 'videozoo_timm', *arguments],
                cwd=tmp_path,
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        elif processes == 1:
            process = ForkedPython(arguments, None, environment, tmp_path, own_group=True)
        else:
            process = ForkedRanks(processes, arguments, environment, tmp_path)
        started.append(process)
        return process

    yield start
    for process in started:
        for leader in getattr(process, 'ranks', [process]):
            if leader.poll() is None:
                os.killpg(leader.pid, signal.SIGKILL)
                leader.wait()


def test_a_signal_leaves_a_checkpoint_and_no_half_step(start, tmp_path):
    process = start('--steps', '5000', '--batch-size', '4', '--checkpoint-every', '10000')
    wait_for_step(process, tmp_path / 'pretrained', 3)
    os.killpg(process.pid, signal.SIGTERM)  # as batch systems do, the decoders included
    text = ''.join(process.communicate())
    assert process.returncode == 143, text
    (checkpoint,) = (tmp_path / 'pretrained' / 'checkpoints').iterdir()
    step = int(checkpoint.name.split('_')[1])
    assert 'stopping after this step' in text
    assert f'stopped after step {step}, which is in a checkpoint: the same with --resume goes on' in text
    assert read_log(tmp_path / 'pretrained' / 'log.csv')[-1]['failed'] == '0'
    assert step == json.loads((checkpoint / 'training.json').read_text())['step'] >= 3
    assert not (tmp_path / 'pretrained' / 'model.safetensors').exists()


def test_ctrl_c_that_ends_the_reader_of_the_messages_too_leaves_a_checkpoint(start, tmp_path):
    process = start('--steps', '5000', '--batch-size', '4', '--checkpoint-every', '10000', piped=True)
    wait_for_step(process, tmp_path / 'pretrained', 3)
    process.stdout.close()  # as `2>&1 | tee log` does
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=300) == 130
    (checkpoint,) = (tmp_path / 'pretrained' / 'checkpoints').iterdir()
    assert json.loads((checkpoint / 'training.json').read_text())['step'] >= 3


def test_a_signal_during_a_validation_keeps_what_was_learned(tmp_path, monkeypatch):
    """The validation is left at once, and made up for by the run that goes on."""
    files = class_folders('drawn:16')

    def run(folder, resume=False, press_at=None):
        seen = []

        def progress(step, row):
            if 'top1' in row:
                seen.append(step)

        def evaluate_and_press(*args, **options):
            def read(number):
                if press_at == len(seen):
                    os.kill(os.getpid(), signal.SIGTERM)

            return evaluate(*args, **options, progress=read)

        monkeypatch.setattr('videozoo_timm.training.finetune.evaluate', evaluate_and_press)
        finetune(
            make_accelerator('cpu'),
            small('vit_t14_st', num_classes=8, drop_rate=0.3),
            files,
            files,
            Schedule(steps=4, lr=1e-3),
            Keeping(folder, every=100, resume=resume, log_every=1),
            batch_size=4,
            augmentation=Augmentation(),
            validate_every=2,
            progress=progress,
        )
        return seen

    assert run(tmp_path / 'whole') == [2, 4]
    for press_at in (0, 1):  # the second is the end of the run
        with pytest.raises(Stopped):
            run(tmp_path / f'{press_at}', press_at=press_at)
        assert not (tmp_path / f'{press_at}' / 'model.safetensors').exists()
        assert run(tmp_path / f'{press_at}', resume=True) == [2, 4][press_at:]
        assert equal(*(load_file(tmp_path / name / 'model.safetensors') for name in ('whole', f'{press_at}')))
        rows = [
            [row['top1'] for row in read_log(tmp_path / name / 'validation.csv')] for name in ('whole', f'{press_at}')
        ]
        assert rows[0] == rows[1] and len(rows[0]) == 2


def test_a_new_head_knows_nothing(tmp_path, monkeypatch):
    """Also where the seed is that of the run that the model comes from, whose head began as the same."""
    monkeypatch.chdir(tmp_path)
    assert (
        main(
            [
                'finetune',
                '--train',
                'drawn:16',
                '--val',
                'drawn:16@9',
                '--steps',
                '1',
                '--lr',
                '0',
                '--batch-size',
                '8',
                '--num-workers',
                '0',
            ]
        )
        == 0
    )
    (row,) = read_log(tmp_path / 'finetuned' / 'validation.csv')
    assert float(row['top1']) == 1 / 8 and float(row['loss']) == pytest.approx(math.log(8), abs=1e-4)


def test_what_is_pretrained_is_finetuned(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*COMMANDS['pretrain'], '--steps', '1', '--batch-size', '4']) == 0
    common = [option for option in COMMON if option != '--from-scratch']
    assert (
        main(
            [
                'finetune',
                '--train',
                'drawn:16',
                '--val',
                'drawn:8',
                *common,
                '--steps',
                '1',
                '--batch-size',
                '4',
                '--weights',
                'pretrained/model.safetensors',
            ]
        )
        == 0
    )
    assert '8 of the 8 files of --val are in --train too' in capsys.readouterr().err
    header = read_header(tmp_path / 'finetuned' / 'model.safetensors')
    assert header['architecture'] == 'vit_t14_st' and len(header['label_names']) == 8


def test_decoders_leave_the_batch_systems_signal_to_their_parent():
    jobs = [Job(k, path) for k, path in enumerate(DRAWN[:6])]
    before = set(psutil.Process().children(recursive=True))
    with closing(load_views(jobs, views_of(small(), augmentation=TWICE), num_workers=1)) as loaded:
        got = [next(loaded)]
        for child in set(psutil.Process().children(recursive=True)) - before:
            with suppress(psutil.NoSuchProcess):
                child.terminate()
        got += loaded
    assert [item for _, item in got if isinstance(item, Failure)] == [] and len(got) == 6 * 3


def test_decoders_leave_ctrl_c_to_their_parent_while_they_start():
    done = threading.Event()

    before = set(psutil.Process().children())

    def press():
        while not done.wait(0.02):
            for child in set(psutil.Process().children()) - before:
                with suppress(psutil.NoSuchProcess):
                    child.send_signal(signal.SIGINT)

    pressing = threading.Thread(target=press)
    pressing.start()
    try:
        with closing(load_views([Job(0, DRAWN[0])], views_of(small()), num_workers=1)) as loaded:
            items = [item for _, item in loaded]
    finally:
        done.set()
        pressing.join()
    assert items and not any(isinstance(item, Failure) for item in items)


def wait_for_step(process, folder, step):
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        rows = read_log(folder / 'log.csv')
        if rows and int(rows[-1]['step']) >= step:
            return
        time.sleep(0.1)
    raise AssertionError(f'never came to step {step}: {process.poll()}')


@pytest.mark.slow
@pytest.mark.parametrize('command, processes', [('finetune', 1), ('pretrain', 2)])  # their loop is the same
def test_killed_at_random_moments_and_resumed_ends_with_the_same_weights(start, tmp_path, command, processes):
    """The whole command, one process and two; two also against one with twice the batch."""

    def run(name, processes, kills=0):
        arguments = ['--steps', '20', '--batch-size', str(4 // processes), '--out', name, '--resume']
        rng = random.Random(processes)
        for step in sorted(rng.sample(range(1, 12), kills)):
            process = start(*arguments, processes=processes, command=command)
            wait_for_step(process, tmp_path / name, step)
            time.sleep(rng.uniform(0, 0.3))
            assert process.poll() is None
            process.kill_group()
        process = start(*arguments, processes=processes, command=command)
        text = ''.join(process.communicate())
        assert process.returncode == 0, text
        return load_file(tmp_path / name / 'model.safetensors')

    whole = run('whole', processes)
    assert equal(run('killed', processes, kills=3 - processes), whole)
    assert not list((tmp_path / 'killed' / 'checkpoints').glob('.*'))
    for log, number in ('log', 20), ('validation', 2 if command == 'finetune' else 0):
        rows = [
            [list(row.values())[:4] for row in read_log(tmp_path / name / f'{log}.csv')] for name in ('whole', 'killed')
        ]
        assert rows[0] == rows[1] and len(rows[0]) == number
    if processes == 2 and command == 'pretrain':
        alone = run('alone', 1)
        assert all(torch.allclose(whole[k], alone[k], atol=1e-3) for k in alone)
