"""The loop over batches on Accelerate that pretraining and finetuning share: steps, checkpoints, logs.

What a run decides is written down with it, so that a killed run goes on as if it had not been: order of the files and
their random views follow from the seed and the position in the stream, the rest is in the checkpoint.
"""
import csv
import hashlib
import json
import math
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ..files import atomic_write, save_csv, save_tensors
from ..video import Views, load_views
from .stream import Batch, Stream, check_files

MODEL, BEST = 'model.safetensors', 'best.safetensors'  # what a run results in
PRECISIONS = {'float32': 'no', 'bfloat16': 'bf16', 'float16': 'fp16'}


@dataclass(frozen=True)
class Schedule:
    """How the weights change.

    Attributes:
        steps: Updates of the weights.
        lr: Highest learning rate.
        min_lr: At the end of the cosine.
        warmup: Share of the steps in which the rate rises.
        weight_decay: Off biases, norms, tokens and position embeddings.
        betas: Of AdamW.
        layer_decay: Factor of the learning rate from each block to the one before it; None for one rate.
        clip_grad: Longest gradient; 0 for any.
        accumulate: Batches an update.
    """
    steps: int
    lr: float
    min_lr: float = 0.0
    warmup: float = 0.05
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    layer_decay: float | None = None
    clip_grad: float = 0.0
    accumulate: int = 1

    def __post_init__(self):
        if self.steps < 1 or self.accumulate < 1:
            raise ValueError(f'steps and accumulate must be at least 1, got {self.steps} and {self.accumulate}')
        if not 0 <= self.warmup <= 1:
            raise ValueError(f'warmup must be a share of the steps from 0 to 1, got {self.warmup}')


@dataclass(frozen=True)
class Keeping:
    """What is written, and when.

    Attributes:
        folder: For everything that a run writes.
        every: Steps between checkpoints.
        last: Checkpoints that are kept.
        log_every: Steps between the rows of the log.
        resume: Go on from the last checkpoint, if there is one.
        force: Start over, whatever the folder holds of another run.
        max_failed: Share of the files that may be unreadable.
    """
    folder: Path
    every: int = 500
    last: int = 2
    log_every: int = 10
    resume: bool = False
    force: bool = False
    max_failed: float = 0.1

    def __post_init__(self):
        if min(self.every, self.last, self.log_every) < 1:
            raise ValueError('steps between checkpoints and log rows, and checkpoints to keep, must be at least 1')
        if not 0 <= self.max_failed <= 1:
            raise ValueError(f'max_failed must be a share from 0 to 1, got {self.max_failed}')

    @property
    def checkpoints(self) -> Path:
        return self.folder / 'checkpoints'


class Hook(NamedTuple):
    """Something to do every so many steps, and after the last: `call(step, model)`, in all processes."""
    every: int
    call: Callable[[int, nn.Module], Any]


class Stopped(KeyboardInterrupt):
    """A signal came; what was done is in a checkpoint."""


def make_accelerator(device: str | None = None, precision: str | None = None, accumulate: int = 1) -> Any:
    """Accelerate's door to devices, processes and precisions.

    Args:
        device: 'cpu', 'cuda:1' and the like; None leaves it to Accelerate.
        precision: 'float32', 'bfloat16', 'float16'; None leaves it to `accelerate launch`.
        accumulate: Batches an update.

    Raises:
        ImportError: Accelerate is not installed.
        ValueError: FSDP in its first version.
    """
    try:
        from accelerate import Accelerator
        from accelerate.utils import (
            DistributedType,
            GradientAccumulationPlugin,
            InitProcessGroupKwargs,
            patch_environment,
        )
    except ImportError as error:
        raise ImportError("training needs Accelerate: pip install 'videozoo-timm[training]'") from error
    wanted = {} if device in (None, 'cpu') else {'ACCELERATE_TORCH_DEVICE': device}
    with patch_environment(**wanted):
        accelerator = Accelerator(
            cpu=device == 'cpu' or not torch.cuda.is_available() and not torch.backends.mps.is_available(),
            mixed_precision=PRECISIONS[precision] if precision else None,
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=accumulate, sync_with_dataloader=False),
            # The first process may validate or draw for long while the others wait.
            kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=12))])
    if accelerator.distributed_type == DistributedType.FSDP and not accelerator.is_fsdp2:
        raise ValueError('FSDP is taken in its version 2: accelerate launch --fsdp_version 2')
    return accelerator


def make_optimizer(model: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    """AdamW on timm's parameter groups."""
    from timm.optim import create_optimizer_v2
    return create_optimizer_v2(
        model, 'adamw', lr=schedule.lr, weight_decay=schedule.weight_decay, betas=schedule.betas,
        layer_decay=schedule.layer_decay, fused=True)  # one pass over the weights instead of ten


def train(
        accelerator: Any,
        model: nn.Module,
        paths: Sequence[str],
        views: Views,
        loss_of: Callable[[nn.Module, Batch], torch.Tensor],
        schedule: Schedule,
        keeping: Keeping,
        *,
        batch_size: int,
        seed: int = 0,
        about: Mapping[str, Any] | None = None,
        hooks: Sequence[Hook] = (),
        matched: bool = False,
        num_workers: int = 0,
        time_limit: float = 60.0,
        progress: Callable[[int, Mapping[str, float]], Any] = lambda step, row: None,
        report: Callable[[str, str], Any] = lambda path, reason: None,
        say: Callable[[str], Any] = lambda text: None,
) -> nn.Module:
    """Train a model on the views of files.

    Args:
        accelerator: Of `make_accelerator`.
        model: Model, changed in place; of several processes all have the same.
        paths: Videos, or images.
        views: Training views of each.
        loss_of: The loss of a batch, a scalar.
        schedule: How the weights change.
        keeping: What is written, and when.
        batch_size: Views a batch, in each process.
        seed: Of everything that is random.
        about: What decides the result, beside these arguments; another run's checkpoints are refused by it.
        hooks: What else to do every so many steps, before the checkpoint of that step.
        matched: As in `Stream`.
        num_workers: As in `load_views`.
        time_limit: As in `load_views`.
        progress: Told the step that is done, and the latest row of the log.
        report: Told of each file that cannot be read.
        say: Told when a signal has come.

    Returns:
        The trained model, without Accelerate's wrapping.

    Raises:
        ValueError: The folder holds another run, or too many files cannot be read.
        FloatingPointError: The loss is not finite; names the step and the files.
        Stopped: SIGINT or SIGTERM came; a checkpoint has been written.
    """
    from accelerate.utils import set_seed
    from timm.scheduler import CosineLRScheduler
    about = json.loads(json.dumps(dict(
        about or {}, **vars(schedule), matched=matched, batch_size=batch_size, seed=seed,
        processes=accelerator.num_processes, precision=accelerator.mixed_precision, files=len(paths),
        files_sha256=hashlib.sha256('\n'.join(paths).encode('utf-8', 'surrogateescape')).hexdigest())))
    check_files(paths, batch_size, matched)
    if accelerator.gradient_accumulation_steps != schedule.accumulate:
        raise ValueError(
            f'the accelerator accumulates {accelerator.gradient_accumulation_steps} batches, the schedule '
            f'{schedule.accumulate}: make_accelerator(accumulate={schedule.accumulate})')
    optimizer = make_optimizer(model, schedule)
    model.train()
    model, optimizer = accelerator.prepare(model, optimizer)
    set_seed(seed, device_specific=True)
    load_views([], views, num_workers=num_workers, time_limit=time_limit)  # refuses what cannot be
    start = _prepare_folder(accelerator, keeping, about)  # after all that may be refused, as it may start over
    warmup = round(schedule.warmup * schedule.steps)
    rates = CosineLRScheduler(
        optimizer, t_initial=max(2, schedule.steps + 1 - warmup), lr_min=schedule.min_lr, t_in_epochs=False,
        warmup_t=warmup, warmup_prefix=True)  # of one step, timm warns of a cosine that is none
    state = dict(
        step=0, hooks_done=True, losses=[], positions=[[0, 0]] * accelerator.num_processes,
        failed=[[]] * accelerator.num_processes)
    if start is not None:
        try:
            accelerator.load_state(str(start))
            state |= json.loads((start / 'training.json').read_text())
        except Exception as error:  # of as many kinds as files
            raise ValueError(
                f'the checkpoint {start} cannot be read ({type(error).__name__}: {error}); remove it, and --resume '
                f'goes on from the one before it') from error
    step, rank = state['step'], accelerator.process_index
    stream = Stream(
        paths, views, batch_size, seed=seed, rank=rank, size=accelerator.num_processes,
        number=step * schedule.accumulate, position=tuple(state['positions'][rank]), matched=matched,
        num_workers=num_workers, time_limit=time_limit, report=report)
    stream.failed.update(dict.fromkeys(state['failed'][rank], 'as before'))
    with ExitStack() as stack:
        stack.enter_context(closing(stream))
        stop = stack.enter_context(_signals(say if accelerator.is_main_process else lambda text: None))
        log = stack.enter_context(closing(Log(keeping.folder, step, accelerator.is_main_process)))
        steps_an_epoch = len(paths) * views.augmentation.repeats / (
            batch_size * accelerator.num_processes * schedule.accumulate)
        losses, norm = state['losses'], torch.tensor(math.nan)
        before = len(losses)  # of the run that goes on; they took none of this one's time
        if not state['hooks_done']:
            progress(step, {})
            with stop.at_once(accelerator):
                _call(_due(hooks, step, schedule), step, accelerator.unwrap_model(model))
        since = time.monotonic()
        while step < schedule.steps:
            rates.step_update(step + 1)
            for _ in range(schedule.accumulate):
                batch = next(stream)
                with accelerator.accumulate(model):
                    loss = loss_of(model, batch._replace(x=batch.x.to(accelerator.device)))
                    losses.append(_agree(accelerator, loss, step, stream, batch, stop, keeping))
                    accelerator.backward(loss)
                    if accelerator.sync_gradients:
                        norm = accelerator.clip_grad_norm_(model.parameters(), schedule.clip_grad or math.inf)
                    optimizer.step()
                    optimizer.zero_grad()
            step += 1
            last = step == schedule.steps
            if last or step % keeping.log_every == 0:
                now = time.monotonic()
                row = dict(
                    step=step, epoch=round(step / steps_an_epoch, 4), loss=sum(losses) / len(losses),
                    lr=max(group['lr'] for group in optimizer.param_groups), grad_norm=float(norm),
                    clips_per_second=round(
                        (len(losses) - before) * batch_size * accelerator.num_processes / (now - since), 3),
                    failed=len(stop.failed))
                log.add(row)
                losses, before, since = [], 0, now
                progress(step, row)
            else:
                progress(step, {})
            hooks_done = True
            if due := _due(hooks, step, schedule):
                paused = time.monotonic()
                try:
                    with stop.at_once(accelerator):
                        _call(due, step, accelerator.unwrap_model(model))
                except Stopped:  # what was learned is kept first; --resume calls them again
                    stop.asked, hooks_done = True, False
                since += time.monotonic() - paused  # not spent on training
            if last or stop.asked or step % keeping.every == 0:
                _save_checkpoint(accelerator, keeping, stream, step=step, losses=losses, hooks_done=hooks_done)
            if stop.asked and not (last and hooks_done):
                raise Stopped(*stop.number)
    return accelerator.unwrap_model(model)


class Log:
    """`log.csv`, and TensorBoard's files where it is installed, up to a step; rows behind it are dropped."""

    def __init__(self, folder: Path, step: int, is_main: bool, name: str = 'log') -> None:
        self.path, self.board, self.is_main = folder / f'{name}.csv', None, is_main
        if not is_main:
            return
        self.rows = [row for row in read_log(self.path) if int(row['step']) <= step]
        if self.rows:
            save_csv(self.rows, self.path)
        else:
            self.path.unlink(missing_ok=True)
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self.board = SummaryWriter(str(folder / 'tensorboard' / name), purge_step=step + 1 if step else None)

    def add(self, row: Mapping[str, float]) -> None:
        """Append a row."""
        if not self.is_main:
            return
        new = not self.path.exists()
        with open(self.path, 'a', newline='', encoding='utf-8') as file:
            writer = csv.DictWriter(file, row.keys())
            if new:
                writer.writeheader()
            writer.writerow(row)
        if self.board:
            for key, value in row.items():
                if key != 'step':
                    self.board.add_scalar(key, value, row['step'])

    def close(self) -> None:
        if self.board:
            self.board.close()


def read_log(path: Path) -> list[dict[str, str]]:
    """The whole rows of a log; a process that was killed may have left a part of one."""
    if not path.exists():
        return []
    with open(path, newline='', encoding='utf-8') as file:
        return [row for row in csv.DictReader(file) if None not in row.values() and row.get('step', '').isdecimal()]


def save_model(
        accelerator: Any,
        model: nn.Module,
        path: Path,
        label_names: Sequence[str] = (),
        state_dict: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write a model as safetensors in timm's layout; its header says what it is.

    Args:
        accelerator: All of its processes must call this; the first writes.
        model: A model of this package.
        path: `.safetensors`.
        label_names: Of the classes of its head.
        state_dict: What to write, if not the model's own.
    """
    tensors = accelerator.get_state_dict(model) if state_dict is None else state_dict
    if accelerator.is_main_process:
        config, embed = model.pretrained_cfg, model.patch_embed
        header = dict(
            format='pt', architecture=config['architecture'],
            input_size=[embed.in_chans, *embed.img_size], mean=config['mean'],
            std=config['std'], interpolation=config['interpolation'])
        if label_names:
            header['label_names'] = list(label_names)
        save_tensors({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, path, header)
    accelerator.wait_for_everyone()


def last_checkpoint(keeping: Keeping) -> Path | None:
    """The latest whole checkpoint of a run."""
    return max(_checkpoints(keeping), default=None)


def _checkpoints(keeping):
    return [path for path in keeping.checkpoints.glob('step_*') if (path / 'training.json').exists()]


# What a run writes into its folder; the record comes last, so that what is left of a removal is still known as a run.
_RECORD = 'run.json'
_WRITTEN = ('checkpoints/step_*', 'checkpoints/.step_*.partial', 'tensorboard/*/events.*', 'pictures/step_*.jpg',
            'log.csv', 'validation.csv', MODEL, BEST, _RECORD)


def _prepare_folder(accelerator, keeping, about):
    """Refuse a folder that holds another run; the checkpoint to go on from."""
    from accelerate.utils import broadcast_object_list
    answer = [None, None]
    if accelerator.is_main_process:  # it alone looks, so that all do the same
        try:
            answer = [None, _start_or_resume(keeping, about)]
        except (ValueError, OSError) as error:
            answer = [error, None]
    broadcast_object_list(answer)
    error, start = answer
    if error is not None:
        raise error
    return start


def _start_or_resume(keeping, about):
    record = keeping.folder / _RECORD
    there = [path for pattern in _WRITTEN for path in sorted(keeping.folder.glob(pattern))]
    if there and not record.exists():
        raise ValueError(
            f'{there[0]} is there, of no run that is known (there is no {record}): name another --out, or move it away')
    if keeping.force:
        for path in there:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    elif there:
        if not keeping.resume:
            raise ValueError(f'{keeping.folder} holds a run; --resume goes on with it, --force starts over')
        try:
            before = json.loads(record.read_text())
        except ValueError as error:
            raise ValueError(f'{record} is damaged ({error}); --force starts over') from error
        differ = [f'{k} was {before.get(k)}, is {about.get(k)}' for k in {**before, **about}
                  if before.get(k) != about.get(k)]
        if differ:
            raise ValueError(
                f'{keeping.folder} holds another run ({"; ".join(differ)}); name another --out, or --force starts over')
    keeping.folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(record) as partial:
        partial.write_text(json.dumps(about, indent=2) + '\n')
    keeping.checkpoints.mkdir(exist_ok=True)
    return last_checkpoint(keeping)


def _due(hooks, step, schedule):
    return [hook for hook in hooks if step == schedule.steps or step % hook.every == 0]


def _call(hooks, step, model):
    for hook in hooks:
        hook.call(step, model)
        model.train()


def _save_checkpoint(accelerator, keeping, stream, **state):
    """Write all that is needed to go on, whole or not at all, and drop the oldest checkpoints."""
    from accelerate.utils import gather_object
    step = state['step']
    target = keeping.checkpoints / f'step_{step:08}'
    partial = target.with_name(f'.{target.name}.partial')
    if accelerator.is_main_process:
        for left in keeping.checkpoints.glob('.step_*.partial'):  # of a killed run
            shutil.rmtree(left)
        partial.mkdir()
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    places = gather_object([(list(stream.position), sorted(stream.failed))])
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        positions, failed = zip(*places, strict=True)
        (partial / 'training.json').write_text(
            json.dumps(dict(state, positions=positions, failed=failed)))
        for path in partial.rglob('*'):  # on the disk before the folder has its name, as a machine may go down
            if path.is_file():
                with open(path, 'rb+') as file:
                    os.fsync(file.fileno())
        if target.exists():
            shutil.rmtree(target)
        os.replace(partial, target)
        for old in sorted(_checkpoints(keeping))[:-keeping.last]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def _agree(accelerator, loss, step, stream, batch, stop, keeping):
    """The mean loss of all processes; stops all of them where one has a reason to."""
    from accelerate.utils import gather_object
    values = accelerator.gather(torch.tensor(
        [[loss.detach().float(), len(stream.failed), stop.noted]], device=accelerator.device)).tolist()
    if not all(math.isfinite(value) for value, *_ in values):
        names = list(dict.fromkeys(stream.paths[file] for file in batch.files))
        names = [name for is_finite, part in gather_object([(math.isfinite(loss.item()), names)]) if not is_finite
                 for name in part]
        raise FloatingPointError(
            f'the loss is not finite at step {step + 1}; the files of its batch: {", ".join(names)}. A lower --lr, '
            f'--dtype float32, or leaving a file out may help, in a run of its own (another --out, or --force)')
    stop.asked |= any(noted for *_, noted in values)
    counts = sum(failed for _, failed, _ in values)
    if counts > stop.counts:  # a file may have failed in several processes
        stop.counts, stop.failed = counts, frozenset(
            path for part in gather_object([sorted(stream.failed)]) for path in part)
        if len(stop.failed) > keeping.max_failed * len(stream.paths):
            named = sorted(stop.failed)
            raise ValueError(
                f'{len(named)} of {len(stream.paths)} files could not be read so far, more than --max-failed '
                f'{keeping.max_failed:g} allows: {", ".join(named[:3])}{", ..." * (len(named) > 3)}. With a larger '
                f'share --resume goes on; without these files it is another run (--force, or another --out)')
    return sum(value for value, *_ in values) / len(values)


class _Stop:
    """What the processes agree on (`asked`, `failed`), and what this one has noted since (`noted`)."""
    now = False
    noted = asked = False
    number: tuple[int, ...] = ()
    failed: frozenset[str] = frozenset()
    counts = 0

    @contextmanager
    def at_once(self, accelerator: Any) -> Iterator[None]:
        """In here a signal raises `Stopped`. Several processes wait for each other instead, and go on to the end."""
        self.now = accelerator.num_processes == 1
        try:
            if self.now and self.noted:
                raise Stopped(*self.number)
            yield
        finally:
            self.now = False


@contextmanager
def _signals(say: Callable[[str], Any]) -> Iterator[_Stop]:
    """Notes SIGINT and SIGTERM, so that a step is never left half-way; the second Ctrl-C interrupts at once."""
    stop = _Stop()

    def note(number, frame):
        if stop.noted and number == signal.SIGINT:
            raise KeyboardInterrupt
        # A launcher passes on the SIGTERM that the batch system has sent to all.
        is_first, stop.noted = not stop.noted, True
        stop.number = (number,) if number == signal.SIGTERM else ()
        if is_first:
            with suppress(RuntimeError):  # it came while something else was being said
                say('stopping after this step; a second Ctrl-C ends at once, and loses the steps since the last '
                    'checkpoint')
        if stop.now:
            raise Stopped(*stop.number)

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
