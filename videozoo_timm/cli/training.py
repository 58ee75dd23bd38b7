"""The commands that train: pretrain, finetune; and draw, which makes videos to train on."""
import argparse
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch

from ..factory import recognise, timm_name_of
from ..synthetic import MAX_SIZE, MAX_VIDEOS, MOTIONS, RATE, SIZE, make_scene
from ..video import RECOGNITION, Augmentation, find_videos
from ..video.transforms import RAND_AUGMENT
from ..video.writing import save_video
from ..weights import read_weights
from .common import (
    add_command,
    add_files,
    add_model,
    add_reading,
    add_span,
    check_out,
    check_trainable,
    complain,
    count,
    files,
    load_trainable,
    number,
    pick_device,
    sizes,
    tell_shared,
)


def add_to(commands: Any) -> None:
    """Add these commands to the parser."""
    sub = add_command(commands, _pretrain, 'Train a masked autoencoder on videos.', shared=True)
    add_files(sub, 'video files')
    _add_trained_model(sub)
    sub.add_argument('--init', choices=['published', 'local'], default='published',
                     help='random weights as the published code draws them, or such that tokens attend to their '
                          'neighbours, from which small models learn far sooner (default: %(default)s)')
    group = _add_training(sub, 'pretrained', lr=1e-4, betas=(0.9, 0.95), clip_grad=0.1, epochs=100.0, batch_size=16)
    group.add_argument('--mask-type', nargs='+', default=['random'], metavar='TYPE',
                       help='random, temporal, center; of several one is drawn for each batch (default: random)')
    group.add_argument('--mask-ratio', nargs='+', type=float, default=[0.9], metavar='SHARE',
                       help='share of the tokens that is dropped; one for all, or one for each type (default: 0.9)')
    _add_augmentation(sub, repeat_aug=16, auto_augment='')
    sub.add_argument('--pictures-every', type=partial(count, least=0), default=1000, metavar='STEPS',
                     help='draw completions of the first video; 0: never (default: %(default)s)')

    sub = add_command(commands, _finetune, 'Train a video ViT to name classes.', shared=True)
    group = sub.add_argument_group('the videos (or images)')
    group.add_argument('--train', required=True, metavar='DIR', help='a folder with one subfolder for each class')
    group.add_argument('--val', metavar='DIR', help='the same classes, to validate on')
    group.add_argument('--shots', type=count, metavar='N',
                       help='train on so many files of each class, drawn with --seed')
    add_reading(group)
    _add_trained_model(sub)
    group = _add_training(sub, 'finetuned', lr=5e-4, betas=(0.9, 0.999), clip_grad=1.0, epochs=30.0, batch_size=16)
    group.add_argument('--layer-decay', type=number(0, 1), default=0.75, metavar='FACTOR',
                       help='of the learning rate from each block to the one before it; 1: one rate '
                            '(default: %(default)s)')
    group.add_argument('--mixup', type=number(0), default=0.8, metavar='ALPHA', help='0: none (default: %(default)s)')
    group.add_argument('--cutmix', type=number(0), default=1.0, metavar='ALPHA', help='0: none (default: %(default)s)')
    group.add_argument('--smoothing', type=number(0, 1, below=True), default=0.1, metavar='SHARE',
                       help='label smoothing (default: %(default)s)')
    group.add_argument('--drop-path', type=number(0, 1, below=True), default=0.1, metavar='SHARE',
                       help='stochastic depth (default: %(default)s)')
    group.add_argument('--drop', type=number(0, 1, below=True), default=0.3, metavar='SHARE',
                       help='dropout before the head (default: %(default)s)')
    group.add_argument('--patch-drop', type=number(0, 1, below=True), default=0.0, metavar='SHARE',
                       help='of the tokens that is left out of each training clip, for speed (default: %(default)s)')
    group.add_argument('--matched', action='store_true',
                       help='files of one name in several classes are one scene: they come together, under the same '
                            'random view, so that they differ in nothing but the class (in one batch, if '
                            '--batch-size is a multiple of the number of classes times --repeat-aug)')
    group.add_argument('--validate-every', type=count, metavar='STEPS', help='default: once an epoch')
    how = group.add_mutually_exclusive_group()
    how.add_argument('--freeze', action='store_true', help='train the head alone')
    how.add_argument('--lora', type=count, metavar='RANK', help='train low-rank adapters and the head (needs peft)')
    _add_augmentation(sub, repeat_aug=1, auto_augment=RAND_AUGMENT)

    sub = add_command(commands, _draw, 'Draw videos of moving shapes, in folders named by their motion.')
    sub.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder to write')
    sub.add_argument('--num', '-n', type=count, default=80, metavar='N', help='videos (default: %(default)s)')
    sub.add_argument('--seed', type=int, default=0, help='another one draws other videos (default: %(default)s)')
    sub.add_argument('--size', type=int, default=SIZE, metavar='PIXELS', help='height and width (default: %(default)s)')
    sub.add_argument('--motion', nargs='+', choices=MOTIONS, metavar='MOTION',
                     help=f'only these: {", ".join(MOTIONS)}')


def _add_trained_model(sub: argparse.ArgumentParser) -> None:
    add_model(sub, dtype=None)
    sub.add_argument('--from-scratch', action='store_true', help='begin with random weights')


def _add_training(sub: argparse.ArgumentParser, out: str, **defaults: Any) -> Any:
    group = sub.add_argument_group('training')
    group.add_argument('--out', type=Path, default=Path(out), metavar='DIR',
                       help='folder for the model, checkpoints and logs (default: %(default)s)')
    how = group.add_mutually_exclusive_group()
    how.add_argument('--resume', action='store_true', help='go on from the last checkpoint in DIR, if there is one')
    how.add_argument('--force', action='store_true', help='start over, whatever DIR holds of another run')
    length = group.add_mutually_exclusive_group()
    length.add_argument('--epochs', type=float, default=defaults['epochs'], metavar='N',
                        help='times that each file is read (default: %(default)g)')
    length.add_argument('--steps', type=count, metavar='N', help='updates of the weights instead')
    group.add_argument('--batch-size', type=count, default=defaults['batch_size'], metavar='N',
                       help='clips a batch, in each process (default: %(default)s)')
    group.add_argument('--accumulate', type=count, default=1, metavar='N', help='batches an update (default: 1)')
    group.add_argument('--lr', type=number(0), default=defaults['lr'], help='learning rate (default: %(default)g)')
    group.add_argument('--min-lr', type=number(0), default=0.0, help='at the end of its cosine (default: 0)')
    group.add_argument('--warmup', type=number(0, 1), default=0.05, metavar='SHARE',
                       help='of the steps, in which the rate rises (default: %(default)s)')
    group.add_argument('--weight-decay', type=number(0), default=0.05,
                       help='off biases, norms, tokens and positions (default: %(default)s)')
    group.add_argument('--betas', type=number(0, 1, below=True), nargs=2, default=defaults['betas'],
                       metavar=('B1', 'B2'), help='of AdamW (default: {} {})'.format(*defaults['betas']))
    group.add_argument('--clip-grad', type=number(0), default=defaults['clip_grad'], metavar='NORM',
                       help='longest gradient; 0: any (default: %(default)s)')
    group.add_argument('--grad-checkpointing', action='store_true', help='less memory for more time')
    group.add_argument('--seed', type=int, default=0, help='of everything that is random (default: %(default)s)')
    group.add_argument('--checkpoint-every', type=count, default=500, metavar='STEPS', help='(default: %(default)s)')
    group.add_argument('--keep', type=count, default=2, metavar='N', help='checkpoints (default: the last %(default)s)')
    group.add_argument('--log-every', type=count, default=10, metavar='STEPS', help='rows of log.csv '
                                                                                  '(default: %(default)s)')
    group.add_argument('--max-failed', type=number(0, 1), default=0.1, metavar='SHARE',
                       help='stop when more of the files than this cannot be read (default: %(default)s)')
    return group


def _add_augmentation(sub: argparse.ArgumentParser, repeat_aug: int, auto_augment: str) -> None:
    group = sub.add_argument_group('random views, alike in all frames of a clip')
    add_span(group, RECOGNITION.span)
    group.add_argument('--repeat-aug', type=count, default=repeat_aug, metavar='N',
                       help='views of each clip that is decoded (default: %(default)s)')
    group.add_argument('--crop-scale', type=float, nargs=2, default=(0.5, 1.0), metavar=('MIN', 'MAX'),
                       help="share of the frame's area that is cropped (default: 0.5 1)")
    group.add_argument('--hflip', type=number(0, 1), default=0.5, metavar='SHARE',
                       help='how often a clip is mirrored; 0 where left and right matter (default: %(default)s)')
    group.add_argument('--aa', default=auto_augment, metavar='CONFIG',
                       help=f"timm's AutoAugment or RandAugment, '' for none (default: {auto_augment or 'none'})")


def _pretrain(args: argparse.Namespace) -> int:
    from ..analysis.completion import check_mae
    from ..inference.pipeline import sampling_of
    from ..models.video_mae import initialize_local
    from ..training.pretrain import pretrain
    accelerator = _accelerator(args)
    paths, missing = files(args, find_videos)
    model, name = _model(args, 'mae_shapes_none')
    if args.init == 'local':
        if not args.from_scratch:
            raise ValueError('--init is for random weights (--from-scratch)')
        check_mae(model)
        initialize_local(model)
        name += ', local'
    steps = _steps(args, accelerator, len(paths))
    with _progress(accelerator, steps) as progress:
        path = pretrain(
            accelerator, model, paths, _schedule(args, steps), _keeping(args, accelerator), batch_size=args.batch_size,
            augmentation=_augmentation(args), sampling=sampling_of(model, args.span),
            mask_types=args.mask_type, mask_ratios=args.mask_ratio, pictures_every=args.pictures_every,
            seed=args.seed, about=dict(model=name), progress=progress, **_reading(args))
    return _done(accelerator, path, missing)


def _finetune(args: argparse.Namespace) -> int:
    from ..analysis.evaluation import class_folders
    from ..inference.pipeline import sampling_of
    from ..training.finetune import add_lora, few_shots, finetune, freeze_all_but_head, matched_names
    accelerator = _accelerator(args)
    train = class_folders(args.train)
    if args.shots is not None:
        train = few_shots(train, args.shots, args.seed, args.matched)
    held_out = None if args.val is None else class_folders(args.val)
    if held_out and accelerator.is_main_process:
        tell_shared(train.paths, held_out.paths)
    if args.model is None and args.weights is not None:  # what `pretrain` results in is finetuned as a ViT
        args.model = _vit_of(recognise(read_weights(args.weights, mapped=True).tensors))
    if args.matched and accelerator.is_main_process:
        names, common = {os.path.basename(path) for path in train.paths}, matched_names(train)
        if len(common) < len(names):
            complain(f'--matched: of {len(names)} names {len(common)} are in all {len(train.classes)} classes; the '
                     f'files of the others come with fewer classes in a batch')
        if args.batch_size % (views := len(train.classes) * args.repeat_aug):
            complain(f'--matched: --batch-size {args.batch_size} is no multiple of the {views} views of a scene, so '
                     f'scenes are split between batches')
    frozen = args.freeze or args.lora
    model, name = _model(
        args, 'vit_shapes_motion', num_classes=len(train.classes), drop_rate=args.drop,
        drop_path_rate=0.0 if args.freeze else args.drop_path, patch_drop_rate=args.patch_drop)
    model.reset_classifier(len(train.classes))  # a new one, also where the number of classes is that of the old
    # Of zeros: a random one could be the very one that the model was finetuned from, with the same seed.
    torch.nn.init.zeros_(model.head.weight)
    torch.nn.init.zeros_(model.head.bias)
    if args.freeze:
        freeze_all_but_head(model)
    if args.lora is not None:
        model = add_lora(model, args.lora)
    steps = _steps(args, accelerator, len(train.paths))
    layer_decay = None if frozen or args.layer_decay == 1 else args.layer_decay
    every = args.validate_every or max(1, round(_steps_an_epoch(args, accelerator, len(train.paths))))
    with _progress(accelerator, steps) as progress:
        path = finetune(
            accelerator, model, train, held_out, _schedule(args, steps, layer_decay), _keeping(args, accelerator),
            batch_size=args.batch_size, augmentation=_augmentation(args),
            sampling=sampling_of(model, args.span), mixup=args.mixup, cutmix=args.cutmix,
            smoothing=args.smoothing, validate_every=every, matched=args.matched, seed=args.seed,
            about=dict(model=name, drop=args.drop, drop_path=args.drop_path, patch_drop=args.patch_drop,
                       freeze=args.freeze, lora=args.lora),
            progress=progress, **_reading(args))
    return _done(accelerator, path, 0)


def _draw(args: argparse.Namespace) -> int:
    from tqdm import tqdm
    if not 16 <= args.size <= MAX_SIZE or args.size % 2:
        raise ValueError(f'--size {args.size}: must be an even number of 16 to {MAX_SIZE:,} pixels')
    if args.num > MAX_VIDEOS:
        raise ValueError(f'--num {args.num}: must be at most {MAX_VIDEOS:,}')
    if abs(args.seed) >= 10 ** 18:
        raise ValueError('--seed: must have at most 18 digits')
    check_out(args.out)
    motions = list(dict.fromkeys(args.motion or MOTIONS))
    for k in tqdm(range(args.num), unit=' videos'):
        motion = motions[k % len(motions)]
        folder, scene = args.out / motion, k // len(motions)
        folder.mkdir(parents=True, exist_ok=True)
        save_video(
            make_scene(args.seed, scene, motion).images(args.size), folder / f'{args.seed}_{scene:06}.mp4', RATE,
            quality=18)
    print(f'{args.out}: {args.num} videos in {min(args.num, len(motions))} folders')
    return 0


def _vit_of(architecture: str | None) -> str | None:
    return 'vit_' + architecture.removeprefix('mae_') if architecture and architecture.startswith('mae_') else None


def _accelerator(args: argparse.Namespace) -> Any:
    from ..training.loop import make_accelerator
    if args.device is not None:
        pick_device(args.device)  # refused in the words of the command line
    return make_accelerator(args.device, args.dtype, args.accumulate)


def _model(args: argparse.Namespace, default: str, **kwargs: Any) -> tuple[torch.nn.Module, str]:
    """The model to train, on the CPU in float32, with the same new weights in all processes."""
    check_trainable(args)
    torch.manual_seed(args.seed)
    if args.force and args.weights is not None and args.out.resolve() in args.weights.resolve().parents:
        raise ValueError(f'--force would remove --weights {args.weights}: name another --out')
    if args.from_scratch:
        if args.weights is not None:
            raise ValueError('--from-scratch and --weights contradict each other')
        name = timm_name_of(args.model or default, args.zoo)
        model, name = timm.create_model(name, **sizes(args), **kwargs), f'{name.split(".")[0]} from scratch'
    else:
        model, name = load_trainable(args, default, **kwargs)
    if args.grad_checkpointing:
        model.set_grad_checkpointing()
    return model, name


def _steps_an_epoch(args: argparse.Namespace, accelerator: Any, num_files: int) -> float:
    return num_files * args.repeat_aug / (args.batch_size * accelerator.num_processes * args.accumulate)


def _steps(args: argparse.Namespace, accelerator: Any, num_files: int) -> int:
    if args.steps is not None:
        return args.steps
    if not 0 < args.epochs < math.inf:
        raise ValueError(f'--epochs {args.epochs:g}: must be a number above 0')
    return max(1, round(args.epochs * _steps_an_epoch(args, accelerator, num_files)))


def _schedule(args: argparse.Namespace, steps: int, layer_decay: float | None = None) -> Any:
    from ..training.schedule import Schedule
    return Schedule(
        steps=steps, lr=args.lr, min_lr=args.min_lr, warmup=args.warmup, weight_decay=args.weight_decay,
        betas=tuple(args.betas), layer_decay=layer_decay, clip_grad=args.clip_grad, accumulate=args.accumulate)


def _keeping(args: argparse.Namespace, accelerator: Any) -> Any:
    from ..training.run_folder import Keeping, last_checkpoint
    check_out(args.out)
    keeping = Keeping(
        folder=args.out, every=args.checkpoint_every, last=args.keep, log_every=args.log_every,
        resume=args.resume, force=args.force, max_failed=args.max_failed)
    if args.resume and accelerator.is_main_process and last_checkpoint(keeping) is None:
        complain(f'--resume: there is no checkpoint in {args.out}; the run starts at its beginning')
    return keeping


def _augmentation(args: argparse.Namespace) -> Augmentation:
    return Augmentation(
        scale=tuple(args.crop_scale), hflip=args.hflip, auto_augment=args.aa, repeats=args.repeat_aug)


def _reading(args: argparse.Namespace) -> dict[str, Any]:
    return dict(num_workers=args.num_workers, time_limit=args.time_limit, report=lambda path, reason: complain(reason),
                say=complain)


@contextmanager
def _progress(accelerator: Any, steps: int) -> Iterator[Any]:
    """A bar of the steps with the latest figures; in a log, a line every half minute."""
    import sys

    from tqdm import tqdm

    from ..training.signals import Stopped
    interval = 0.1 if sys.stderr.isatty() else 30
    with tqdm(total=steps, unit=' steps', mininterval=interval, disable=not accelerator.is_main_process) as bar:
        shown: dict[str, str] = {}

        def update(step: int, row: dict[str, float]) -> None:
            shown.update({key: f'{value:.4g}' for key, value in row.items() if key in ('loss', 'lr', 'top1')})
            bar.set_postfix(shown, refresh=False)
            if bar.n == 0 and step > 1:
                bar.initial = step - 1  # resumed
            bar.update(step - bar.n)

        try:
            yield update
        except Stopped:
            if accelerator.is_main_process:
                complain(f'stopped after step {bar.n}, which is in a checkpoint: the same with --resume goes on')
            raise


def _done(accelerator: Any, path: Path, missing: int) -> int:
    if accelerator.is_main_process:
        from ..training.log import read_log
        rows = read_log(path.parent / 'log.csv')
        if rows:
            missing += int(rows[-1]['failed'])
            print(f'{path}: {rows[-1]["step"]} steps, loss {float(rows[-1]["loss"]):.4f}, '
                  f'{rows[-1]["failed"]} files could not be read')
        rows = read_log(path.parent / 'validation.csv')
        if rows:
            missing += int(rows[-1]['failed'])
            best = max(rows, key=lambda row: float(row['top1']))
            print(f'top-1 {100 * float(rows[-1]["top1"]):.2f}% at the end, {100 * float(best["top1"]):.2f}% at step '
                  f'{best["step"]} (best.safetensors)')
    return 1 if missing else 0
