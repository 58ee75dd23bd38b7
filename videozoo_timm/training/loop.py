"""The training loop on Accelerate that pretraining and finetuning share: steps, checkpoints, logs.

A killed run continues as if it had not been killed: the order of the files and their random views follow from the seed
and the position in the stream, everything else is in the checkpoint.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from datetime import timedelta
from typing import Any, NamedTuple

import torch
from torch import nn

from ..errors import DivergenceError, UserError
from ..inference.reporting import SILENT, Reporter, with_fields
from ..video import IN_THIS_PROCESS, Reading, Views, pyav_version
from .checkpoints import load_checkpoint, save_checkpoint
from .log import Log, read_log
from .run_folder import Keeping, last_checkpoint, run_folder, writing
from .schedule import Schedule, make_optimizer
from .signals import Stop, Stopped, signals
from .stream import Batch, Stream, check_files

__all__ = [
    'Hook',
    'Keeping',
    'Log',
    'Schedule',
    'Stopped',
    'last_checkpoint',
    'make_accelerator',
    'make_optimizer',
    'read_log',
    'train',
]

PRECISIONS = {'float32': 'no', 'bfloat16': 'bf16', 'float16': 'fp16'}


class Hook(NamedTuple):
    """A function that is called every `every` steps and after the last: `call(step, model)`, in all processes."""

    every: int
    call: Callable[[int, nn.Module], Any]


def make_accelerator(device: str | None = None, precision: str | None = None, accumulate: int = 1) -> Any:
    """An `accelerate.Accelerator` for a device, a precision and the processes that `accelerate launch` has started.

    Args:
        device: 'cpu', 'cuda:1' and the like; None leaves it to Accelerate.
        precision: 'float32', 'bfloat16', 'float16'; None leaves it to `accelerate launch`.
        accumulate: Batches per update.

    Raises:
        ImportError: Accelerate is not installed.
        ValueError: FSDP of version 1.
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
            cpu=device == 'cpu' or (not torch.cuda.is_available() and not torch.backends.mps.is_available()),
            mixed_precision=PRECISIONS[precision] if precision else None,
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=accumulate, sync_with_dataloader=False),
            # The first process may validate or plot for long while the others wait.
            kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=12))],
        )
    if accelerator.distributed_type == DistributedType.FSDP and not accelerator.is_fsdp2:
        raise ValueError('FSDP must be of version 2: set fsdp_version to 2 for `accelerate launch`')
    return accelerator


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
    measure: Callable[[nn.Module], Mapping[str, float]] = lambda model: {},
    matched: bool = False,
    finish: Callable[[nn.Module], Any] = lambda model: None,
    reading: Reading = IN_THIS_PROCESS,
    reporter: Reporter = SILENT,
    **fields: Any,
) -> nn.Module:
    """Train a model on the views of files.

    Args:
        accelerator: The result of `make_accelerator`.
        model: Model, trained in place; the same in all processes.
        paths: Videos, or images.
        views: Training views of each file.
        loss_of: From the model and a batch to its loss, a scalar.
        schedule: The optimizer and its learning rate.
        keeping: What the run writes, where and when.
        batch_size: Views per batch, in each process.
        seed: Random seed.
        about: Further settings that decide the result. A run with other settings is refused in the same folder.
        hooks: Functions that are called every so many steps, before the checkpoint of that step.
        measure: Further columns of the log, of the model as it is at a row; called in all processes.
        matched: As in `Stream`.
        finish: Called with the trained model, in all processes, while the run still owns the folder.
        reading: How the files are read.
        reporter: How progress, files that cannot be read, and signals are reported.
        **fields: Fields of `reading` and `reporter` to replace.

    Returns:
        The trained model, without Accelerate's wrapping.

    Raises:
        ValueError: The folder holds another run or a damaged checkpoint, or belongs to a run that is not over; or too
            many files cannot be read.
        OSError: The disk is full, or the folder cannot be written; the last checkpoint is kept.
        FloatingPointError: The loss or the gradient is not finite; names the step and the files.
        Stopped: SIGINT, SIGTERM or SIGHUP came; a checkpoint has been written.
    """
    from accelerate.utils import broadcast_object_list, set_seed
    from timm.scheduler.cosine_lr import CosineLRScheduler

    reading, reporter = with_fields(reading, reporter, fields)
    settings = json.loads(
        json.dumps(
            dict(
                about or {},
                **schedule.record,
                matched=matched,
                batch_size=batch_size,
                seed=seed,
                processes=accelerator.num_processes,
                precision=accelerator.mixed_precision,
                **asdict(reading.pixels),
                pyav=pyav_version(),
                files=len(paths),
                files_sha256=hashlib.sha256('\n'.join(paths).encode('utf-8', 'surrogateescape')).hexdigest(),
            )
        )
    )
    check_files(paths, batch_size, matched)
    if accelerator.gradient_accumulation_steps != schedule.accumulate:
        raise ValueError(
            f'the accelerator accumulates {accelerator.gradient_accumulation_steps} batches, the schedule '
            f'{schedule.accumulate}: make_accelerator(accumulate={schedule.accumulate})'
        )
    optimizer = make_optimizer(model, schedule)
    model.train()
    model, optimizer = accelerator.prepare(model, optimizer)
    set_seed(seed, device_specific=True)
    warmup = round(schedule.warmup * schedule.steps)
    rates = CosineLRScheduler(
        optimizer,
        t_initial=max(2, schedule.steps + 1 - warmup),
        lr_min=schedule.min_lr,
        t_in_epochs=False,
        warmup_t=warmup,
        warmup_prefix=True,
    )  # of one step, timm warns of a cosine that is none
    with ExitStack() as stack:
        # After all that may be refused, as it may start over.
        run = stack.enter_context(run_folder(accelerator, keeping, settings))
        state: dict[str, Any] = dict(
            step=0,
            hooks_done=True,
            losses=[],
            positions=[[0, 0]] * accelerator.num_processes,
            failed=[[]] * accelerator.num_processes,
        )
        start = broadcast_object_list([last_checkpoint(keeping)])[0]
        if start is not None:
            state |= load_checkpoint(accelerator, keeping, run, start)
        step, rank = state['step'], accelerator.process_index
        stream = Stream(
            paths,
            views,
            batch_size,
            seed=seed,
            rank=rank,
            size=accelerator.num_processes,
            number=step * schedule.accumulate,
            position=tuple(state['positions'][rank]),
            matched=matched,
            reading=reading,
            report=reporter.report,
        )
        stream.failed.update(dict.fromkeys(state['failed'][rank], 'as before'))
        stack.enter_context(closing(stream))
        stop = stack.enter_context(signals(reporter.say if accelerator.is_main_process else SILENT.say))
        with writing(accelerator, keeping.folder / 'log.csv'):
            log = stack.enter_context(closing(Log(keeping.folder, step, accelerator.is_main_process)))
        steps_an_epoch = len(paths) * stream.repeats / (batch_size * accelerator.num_processes * schedule.accumulate)
        losses, norm = state['losses'], torch.tensor(math.nan)
        before = len(losses)  # of the run that is continued; computing them took none of this run's time
        if not state['hooks_done']:
            reporter.progress(step, {})
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
                        # Of float16 the scaler looks for infinity itself, and leaves such a step out.
                        if accelerator.scaler is None and not math.isfinite(float(norm)):
                            raise _divergence('gradient', step, _names(stream, batch))
                    optimizer.step()
                    optimizer.zero_grad()
            step += 1
            last = step == schedule.steps
            if last or step % keeping.log_every == 0:
                now = time.monotonic()
                row = dict(
                    step=step,
                    epoch=round(step / steps_an_epoch, 4),
                    loss=sum(losses) / len(losses),
                    lr=max(group['lr'] for group in optimizer.param_groups),
                    grad_norm=float(norm),
                    clips_per_second=round(
                        (len(losses) - before) * batch_size * accelerator.num_processes / (now - since), 3
                    ),
                    failed=len(stop.failed),
                    **measure(accelerator.unwrap_model(model)),
                )
                with writing(accelerator, log.path):
                    log.add(row)
                losses, before, since = [], 0, now
                reporter.progress(step, row)
            else:
                reporter.progress(step, {})
            hooks_done = True
            if due := _due(hooks, step, schedule):
                paused = time.monotonic()
                try:
                    with stop.at_once(accelerator):
                        _call(due, step, accelerator.unwrap_model(model))
                except Stopped:  # the checkpoint comes first; the run that continues calls the hooks again
                    stop.asked, hooks_done = True, False
                since += time.monotonic() - paused  # not spent on training
            if last or stop.asked or step % keeping.every == 0:
                save_checkpoint(
                    accelerator,
                    keeping,
                    run,
                    stream,
                    _num_bytes(model, optimizer),
                    step=step,
                    losses=losses,
                    hooks_done=hooks_done,
                )
            if stop.asked and not (last and hooks_done):
                raise Stopped(*stop.number)
        trained = accelerator.unwrap_model(model)
        finish(trained)
    return trained


def _num_bytes(model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Size of a checkpoint, approximately."""
    of_optimizer = (x for state in optimizer.state.values() for x in state.values() if isinstance(x, torch.Tensor))
    return (1 << 20) + sum(x.numel() * x.element_size() for x in (*model.parameters(), *model.buffers(), *of_optimizer))


def _due(hooks: Sequence[Hook], step: int, schedule: Schedule) -> list[Hook]:
    return [hook for hook in hooks if step == schedule.steps or step % hook.every == 0]


def _call(hooks: Sequence[Hook], step: int, model: nn.Module) -> None:
    for hook in hooks:
        hook.call(step, model)
        model.train()


def _names(stream: Stream, batch: Batch) -> list[str]:
    return list(dict.fromkeys(stream.paths[file] for file in batch.files))


def _divergence(what: str, step: int, names: Sequence[str]) -> DivergenceError:
    return DivergenceError(
        'the {} is not finite at step {}; the files of its batch: {}. A lower learning rate, float32 or training '
        'without one of these files may help, as a new run: name another {folder}, or {force} starts over',
        what,
        step + 1,
        ', '.join(names),
        folder=None,
        force=True,
    )


def _agree(
    accelerator: Any,
    loss: torch.Tensor,
    step: int,
    stream: Stream,
    batch: Batch,
    stop: Stop,
    keeping: Keeping,
) -> float:
    """The mean loss of all processes; stops all of them where one has a reason to."""
    from accelerate.utils import gather_object

    values = accelerator.gather(
        torch.tensor([[loss.detach().float(), len(stream.failed), stop.noted]], device=accelerator.device)
    ).tolist()
    if not all(math.isfinite(value) for value, *_ in values):
        names = [
            name
            for is_finite, part in gather_object([(math.isfinite(loss.item()), _names(stream, batch))])
            if not is_finite
            for name in part
        ]
        raise _divergence('loss', step, names)
    stop.asked |= any(noted for *_, noted in values)
    counts = sum(failed for _, failed, _ in values)
    if counts > stop.counts:  # a file may have failed in several processes
        stop.counts, stop.failed = (
            counts,
            frozenset(path for part in gather_object([sorted(stream.failed)]) for path in part),
        )
        if len(stop.failed) > keeping.max_failed * len(stream.paths):
            named = sorted(stop.failed)
            raise UserError(
                '{} of {} files could not be read so far, more than {max_failed} allows: {}. With a larger fraction '
                '{resume} continues; without these files it is another run: name another {folder}, or {force} starts '
                'over',
                len(named),
                len(stream.paths),
                ', '.join(named[:3]) + ', ...' * (len(named) > 3),
                max_failed=keeping.max_failed,
                resume=True,
                folder=None,
                force=True,
            )
    return sum(value for value, *_ in values) / len(values)
