"""The folder of a run: its files, its owner, and the errors of writing into it."""

import json
import logging
import os
import re
import shutil
import socket
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from safetensors import SafetensorError
from torch import nn

from ..errors import UserError
from ..files import atomic_write, explain_write_errors
from ..notes import tell_resumable, tell_written
from ..outputs import Output
from ..weights.writing import save_tensors

_logger = logging.getLogger(__name__)

MODEL, BEST = 'model.safetensors', 'best.safetensors'  # the results of a run
RECORD, DONE = 'run.json', 'record'  # settings of a run, and the key for what was done, which `records` adds

# Files of a run. The record comes last, so that an interrupted removal still leaves a run.
_RESULTS = ('pictures/step_*.*', 'log.csv', 'validation.csv', MODEL, BEST)
_LIKE_OURS = ('checkpoints/step_*', 'checkpoints/.step_*.partial', 'tensorboard/*/events.*', *_RESULTS, RECORD)
CHECKPOINT, PARTIAL = re.compile(r'step_\d{8,}'), re.compile(r'\.step_\d{8,}(\.\w+)?\.partial')
_OURS = re.compile(
    rf'checkpoints/({CHECKPOINT.pattern}|{PARTIAL.pattern})|tensorboard/(log|validation)/events\.out\.tfevents\..+|'
    r'pictures/step_\d{8,}_[a-z]+[\d.e+-]*\.(jpg|gif)|(log|validation)\.csv|(model|best)\.safetensors|run\.json'
)
_REMEDY = 'make room there (keeping fewer checkpoints helps) and resume the run: it continues from the last checkpoint'
_MOMENT = 8  # seconds that the processes of a killed run may take to end
_ALWAYS_RECORDED = {'steps', 'batch_size', 'seed', 'files', 'files_sha256', 'processes', 'precision'}


@dataclass(frozen=True)
class Keeping:
    """What a run writes, where and when.

    Attributes:
        folder: Folder of everything that the run writes.
        every: Steps between checkpoints.
        last: Number of checkpoints that are kept.
        log_every: Steps between the rows of the log.
        resume: Continue from the last checkpoint, if there is one.
        force: Start over, and remove the files of another run from the folder.
        max_failed: Fraction of the files that may be unreadable.
    """

    folder: Path
    every: int = 500
    last: int = 2
    log_every: int = 10
    resume: bool = False
    force: bool = False
    max_failed: float = 0.1

    def __post_init__(self) -> None:
        if min(self.every, self.last, self.log_every) < 1:
            raise ValueError(f'every={self.every}, last={self.last}, log_every={self.log_every}: must be at least 1')
        if not 0 <= self.max_failed <= 1:
            raise ValueError(f'max_failed must be a fraction from 0 to 1, got {self.max_failed}')

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints of the run are."""
        return self.folder / 'checkpoints'


@contextmanager
def run_folder(accelerator: Any, keeping: Keeping, about: Mapping[str, Any]) -> Iterator[str]:
    """The folder of a run, which belongs to it alone until the end.

    Args:
        accelerator: All of its processes must enter; the first one decides for all.
        keeping: The folder, and whether a run that is there is continued or replaced.
        about: All settings that decide the result of the run.

    Yields:
        The run's id.

    Raises:
        ValueError: The folder belongs to another run, or holds files of no run.
        OSError: The disk is full, or the folder cannot be written.
    """
    from accelerate.utils import broadcast_object_list

    with ExitStack() as stack:
        answer: list[Any] = [None, None]
        if accelerator.is_main_process:
            try:
                answer = [None, _enter(stack, keeping, about)]
            except (ValueError, RuntimeError) as error:
                answer = [error, None]
            except OSError as error:
                answer = [could_not_write(keeping.folder, error), None]
        broadcast_object_list(answer)
        error, run = answer
        if error is not None:
            raise error
        yield run


@contextmanager
def writing(accelerator: Any, target: Path, num_bytes: int = 0, partial: Path | None = None) -> Iterator[None]:
    """Writing by several processes: an error in one of them is raised in all.

    Args:
        accelerator: All of its processes must enter.
        target: The file or folder that is written.
        num_bytes: Its size, approximately.
        partial: Its temporary name.

    Raises:
        OSError: The disk is full, or the folder cannot be written.
    """
    from accelerate.utils import gather_object

    error: Exception | None = None
    cause: BaseException | None = None
    try:
        yield
    except (OSError, RuntimeError, ValueError, SafetensorError, *distributed_errors()) as caught:
        error, cause = could_not_write(target, behind(caught), num_bytes, partial), caught
    errors = [error for error in gather_object([error]) if error is not None]
    if errors:
        raise errors[0] from cause


def distributed_errors() -> tuple[type[BaseException], ...]:
    """The errors of distributed checkpoints, which are not derived from `Exception`."""
    try:
        from torch.distributed.checkpoint.api import CheckpointException
    except ImportError:
        return ()
    return (CheckpointException,)


def behind(error: BaseException) -> BaseException:
    """The cause of a distributed checkpoint's error in the first process that failed; any other error unchanged."""
    return next((failure for failure, _ in getattr(error, 'failures', {}).values()), error)


def could_not_write(target: Path, error: BaseException, num_bytes: int = 0, partial: Path | None = None) -> Exception:
    """The error that says why `target` could not be written, and what to do; other errors come back unchanged."""
    try:
        with explain_write_errors(target, num_bytes or None, _REMEDY, partial):
            raise error
    except Exception as worded:
        return worded


def save_model(
    accelerator: Any,
    model: nn.Module,
    path: Path,
    label_names: Sequence[str] = (),
    state_dict: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write a model as safetensors in timm's layout, with its configuration in the header.

    Args:
        accelerator: All of its processes must call this; the first writes.
        model: A model of this package.
        path: `.safetensors`.
        label_names: Names of the classes of its head.
        state_dict: The tensors to write; the model's own if None.

    Raises:
        OSError: The disk is full, or the folder cannot be written.
    """
    tensors = accelerator.get_state_dict(model) if state_dict is None else state_dict
    with writing(accelerator, path, sum(v.numel() * v.element_size() for v in tensors.values())):
        if accelerator.is_main_process:
            own: Any = model  # nn.Module tells type checkers that its attributes are tensors
            config, embed = own.pretrained_cfg, own.patch_embed
            header: dict[str, Any] = dict(
                format='pt',
                architecture=config['architecture'],
                input_size=[tensors['patch_embed.proj.weight'].shape[1], *embed.img_size],
                mean=config['mean'],
                std=config['std'],
                interpolation=config['interpolation'],
            )
            if label_names:
                header['label_names'] = list(label_names)
            save_tensors({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, path, header)


def checkpoints_in(keeping: Keeping) -> list[Path]:
    """The checkpoints of a run, the latest last."""
    found = [path for path in keeping.checkpoints.glob('step_*') if CHECKPOINT.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix('step_')))


def last_checkpoint(keeping: Keeping) -> Path | None:
    """The latest checkpoint of a run."""
    return max(checkpoints_in(keeping), default=None, key=lambda path: int(path.name.removeprefix('step_')))


def make_folder(path: Path) -> Path:
    """Make a folder for a run; it may be a link (to a larger disk), unless another user has made the link.

    Raises:
        ValueError: Another user has made the link.
    """
    if path.is_symlink() and not _is_mine(path.lstat()):
        raise UserError(
            '{} is a link that another user has made; remove it, or name another {folder}', path, folder=None
        )
    path.mkdir(parents=True, exist_ok=True)
    return path


def read_record(path: Path, max_bytes: int = 1 << 28) -> dict[str, Any]:
    """A JSON object that a run has written.

    Raises:
        ValueError: It is not a JSON object, larger than `max_bytes`, or not a file.
    """
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f'{path.name} is not a file')
    if status.st_size > max_bytes:
        raise ValueError(f'{path.name} has {status.st_size} bytes, more than {max_bytes}')
    try:
        record = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path.name} is not JSON: {error}') from error
    if not isinstance(record, dict):
        raise ValueError(f'{path.name} is not a JSON object')
    return record


def remove_folder(path: Path) -> None:
    """Remove a folder under a temporary name, so that a kill leaves no incomplete checkpoint."""
    if path.name.startswith('step_'):
        path = path.rename(path.with_name(f'.{path.name}.{uuid4().hex}.partial'))
    shutil.rmtree(path)


def _enter(stack: ExitStack, keeping: Keeping, about: Mapping[str, Any]) -> str:
    folder = keeping.folder
    _refuse_unknown(folder)  # before anything is written there
    make_folder(folder)
    stack.enter_context(_ownership(folder))
    before = _refuse_unknown(folder)
    before.pop(DONE, None)  # it decides about nothing
    if keeping.force and before:
        _remove_run(keeping, before)
        before = {}
    elif before:
        if not keeping.resume:
            raise UserError(
                '{} holds a run; {resume} continues it, {force} replaces it', folder, resume=True, force=True
            )
        Output(folder, 'folder').refuse_other(dict(before, id=None, pyav=about.get('pyav')), about)
    run = before.get('id') or uuid4().hex
    if before != (now := dict(about, id=run)):
        with atomic_write(folder / RECORD, durable=True) as partial:
            partial.write_text(json.dumps(now, indent=2) + '\n')
    tell_resumable(folder, goes_on=bool(before))
    for pattern in _RESULTS if before else ():  # an earlier part has written them
        for path in folder.glob(pattern):
            tell_written(path)
    if make_folder(keeping.checkpoints).is_symlink():  # where another run's may lead too
        stack.enter_context(_ownership(keeping.checkpoints))
    return run


def _refuse_unknown(folder: Path) -> dict[str, Any]:
    """The record of the run in a folder; empty if there is no run.

    Raises:
        ValueError: There are files like those of a run, but no record, or one that is not of a run.
    """
    there = [path for pattern in _LIKE_OURS for path in sorted(folder.glob(pattern))]
    record = folder / RECORD
    if not there:
        return {}
    if not os.path.lexists(record):
        raise UserError(
            '{} is there, of no run that is known (there is no {}): name another {folder}, or move it away',
            there[0],
            record,
            folder=None,
        )
    try:
        before = read_record(record)
        if not _ALWAYS_RECORDED <= before.keys() or not isinstance(before.get('id', ''), str):
            raise ValueError('it lacks the settings of a run')
    except ValueError as error:
        raise UserError(
            '{} is damaged, or not of a run ({}): name another {folder}, or move {} away',
            record,
            str(error),
            folder,
            folder=None,
        ) from error
    return before


@contextmanager
def _ownership(folder: Path) -> Iterator[None]:
    """Lock a folder for one run; the operating system releases the lock of a killed one."""
    from filelock import FileLock, Timeout

    path, owner = folder / '.lock', folder / '.owner'
    if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        raise UserError('{} is not a file of a run; remove it, or name another {folder}', path, folder=None)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=_MOMENT)
    except NotImplementedError:
        _logger.warning('%s is on a file system without locks: make sure that no other run writes there', folder)
    except Timeout as error:
        name = 'which has just begun'
        with suppress(OSError, ValueError):
            told = read_record(owner, 1 << 12)
            name = f'process {int(told["pid"])} on {str(told["host"])!a}'
        raise UserError(
            '{} belongs to a run that is not over, {}: wait for its end, or name another {folder}',
            folder,
            name,
            folder=None,
        ) from error
    try:
        with atomic_write(owner) as partial:
            partial.write_text(json.dumps(dict(host=socket.gethostname(), pid=os.getpid())))
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def _remove_run(keeping: Keeping, before: Mapping[str, Any]) -> None:
    """Remove what a run has written; nothing, if any of it could belong to somebody else."""
    found = [
        path
        for pattern in _LIKE_OURS
        for path in sorted(keeping.folder.glob(pattern))
        if _OURS.fullmatch(path.relative_to(keeping.folder).as_posix())
    ]
    for path in found:
        if reason := _not_ours(path, keeping, before):
            raise UserError(
                '{force}: {} {}, so it is not removed: move it away, or name another {folder}',
                path,
                reason,
                folder=None,
                force=True,
            )
    for path in found:
        if path.parent == keeping.checkpoints:
            remove_folder(path)
        else:
            path.unlink()


def _not_ours(path: Path, keeping: Keeping, before: Mapping[str, Any]) -> str | None:
    """Why a file or folder may not be one of the run's; None if it is."""
    status, is_checkpoint = path.lstat(), path.parent == keeping.checkpoints
    if stat.S_ISLNK(status.st_mode):
        return 'is a link'
    if not (stat.S_ISDIR if is_checkpoint else stat.S_ISREG)(status.st_mode):
        return f'is not a {"folder" if is_checkpoint else "file"}'
    if not _is_mine(status):
        return 'belongs to another user'
    links = [parent for parent in path.relative_to(keeping.folder).parents if (keeping.folder / parent).is_symlink()]
    if not is_checkpoint and any(str(link) != '.' for link in links):
        return 'is reached by a link'
    if is_checkpoint and any(str(link) != '.' for link in links):  # to a larger disk, where others may be
        try:
            if read_record(path / 'digests.json').get('run') != before.get('id', ''):
                return 'is behind a link, and of another run'
        except (OSError, ValueError):
            return 'is behind a link, and not known to be of this run'
    return None


def _is_mine(status: os.stat_result) -> bool:
    return not hasattr(os, 'geteuid') or status.st_uid == os.geteuid()
