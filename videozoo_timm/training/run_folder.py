"""What a run writes into its folder: the model, the log, checkpoints, and the record of what the run is."""
import csv
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..files import atomic_write, save_csv, save_tensors

MODEL, BEST = 'model.safetensors', 'best.safetensors'  # what a run results in


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


def prepare_folder(accelerator, keeping, about):
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


def save_checkpoint(accelerator, keeping, stream, **state):
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
