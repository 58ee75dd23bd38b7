"""Checkpoints of training: written completely or not at all, with digests of their files, which are checked on reading.

Accelerate continues silently where random states are truncated or missing, and no format of its files detects a flipped
bit.
"""

import hashlib
import json
import logging
import math
import os
import pickle
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from enum import EnumMeta
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from .run_folder import (
    PARTIAL,
    Keeping,
    behind,
    checkpoints_in,
    distributed_errors,
    read_record,
    remove_folder,
    writing,
)
from .stream import Stream

_logger = logging.getLogger(__name__)

_STATE, _DIGESTS = 'training.json', 'digests.json'


def save_checkpoint(
    accelerator: Any,
    keeping: Keeping,
    run: str,
    stream: Stream,
    num_bytes: int = 0,
    **state: Any,
) -> None:
    """Write a checkpoint, completely or not at all, and remove the oldest ones.

    Args:
        accelerator: All of its processes must call this.
        keeping: The folder, and the number of checkpoints that are kept.
        run: The run's id.
        stream: The stream of batches, with its position.
        num_bytes: Size of the checkpoint, approximately.
        **state: `step`, `hooks_done`, `losses`.

    Raises:
        OSError: The disk is full, or the folder cannot be written; the earlier checkpoints stay.
    """
    from accelerate.utils import broadcast_object_list, gather_object

    target, made = keeping.checkpoints / f'step_{state["step"]:08}', ['']
    try:
        with writing(accelerator, target, num_bytes):
            if accelerator.is_main_process:
                for left in keeping.checkpoints.glob('.step_*.partial'):  # of a killed run
                    if PARTIAL.fullmatch(left.name) and not left.is_symlink():
                        shutil.rmtree(left)
                made[0] = tempfile.mkdtemp('.partial', f'.{target.name}.', keeping.checkpoints)
        broadcast_object_list(made)
        partial = Path(made[0])
        with writing(accelerator, target, num_bytes, partial):
            accelerator.save_state(str(partial))
        places = gather_object([(list(stream.position), sorted(stream.failed))])
        with writing(accelerator, target, num_bytes, partial):
            if accelerator.is_main_process:
                positions, failed = zip(*places, strict=True)
                (partial / _STATE).write_text(
                    json.dumps(dict(state, positions=positions, failed=failed, digests=_DIGESTS))
                )
                _write_digests(partial, run)
                umask = os.umask(0)
                os.umask(umask)
                partial.chmod(0o777 & ~umask)  # it was made for the owner alone
                if target.exists():
                    remove_folder(target)
                os.replace(partial, target)
                for old in checkpoints_in(keeping)[: -keeping.last]:
                    remove_folder(old)
    except BaseException:
        if accelerator.is_main_process and made[0]:
            shutil.rmtree(made[0], ignore_errors=True)
        raise


def load_checkpoint(accelerator: Any, keeping: Keeping, run: str, path: Path) -> dict[str, Any]:
    """Continue from a checkpoint.

    Nothing in it is executed, and its digests are compared before anything is loaded. Checkpoints of version 0.1.0 have
    no digests; they are loaded with a warning in the log.

    Args:
        accelerator: Its model, optimizer and random states are restored, in all of its processes.
        keeping: The folder of the run.
        run: The run's id.
        path: The checkpoint.

    Returns:
        The `state` of `save_checkpoint`, and of each process its position in the stream (`positions`) and the files
        that it could not read (`failed`).

    Raises:
        ValueError: It is damaged, of another run, or not a checkpoint; says how to continue without it.
    """
    from accelerate.utils import gather_object

    state: dict[str, Any] = {}
    problem: str | None = None
    cause: Exception | None = None
    rank, size = accelerator.process_index, accelerator.num_processes
    for read in (
        lambda: check_checkpoint(path, run, rank, size),
        lambda: _load(accelerator, path),
    ):
        try:
            state = read()
        except Exception as error:  # of as many kinds as files
            reason = (str(error).strip() or 'no reason is given').splitlines()[0]
            problem, cause = reason if isinstance(error, ValueError) else f'{type(error).__name__}: {reason}', error
        problems = [problem for problem in gather_object([problem]) if problem]
        if problems:
            before = checkpoints_in(keeping)[:-1]
            way = f'from the one before it, {before[-1].name}' if before else 'from the beginning'
            raise UserError(
                'the checkpoint {} cannot be read ({}); remove it, and {resume} continues {}',
                path,
                problems[0],
                way,
                resume=True,
            ) from cause
    return state


def check_checkpoint(path: Path, run: str | None = None, rank: int = 0, size: int = 1) -> dict[str, Any]:
    """Compare the files of a checkpoint with the digests that it was written with.

    Args:
        path: The checkpoint.
        run: The id of the run that it must belong to; None for any.
        rank: Index of this process; each process compares its fraction of the files.
        size: Number of processes.

    Returns:
        Its `training.json`.

    Raises:
        ValueError: A file is damaged, missing or unknown, or the checkpoint is of another run.
        OSError: A file cannot be read.
    """
    files = dict(_files_of(path))
    if _STATE not in files:
        raise ValueError(f'{_STATE} is missing')
    state = _state_of(path, size)
    missing = [name for name in (f'random_states_{k}.pkl' for k in range(size)) if name not in files]
    if missing:
        raise ValueError(f'{missing[0]} is missing')
    if _DIGESTS in files:
        expected = _read_digests(path, run)
        for name in sorted(expected.keys() - files.keys()):
            raise ValueError(f'{name} is missing')
        for name in sorted(files.keys() - expected.keys() - {_DIGESTS}):
            raise ValueError(f'{name} is not of this checkpoint')
        for name in sorted(expected):
            if files[name] != expected[name]['size']:
                raise ValueError(f'{name} is damaged: {files[name]} of {expected[name]["size"]} bytes')
        names = sorted(expected, key=lambda name: -files[name])[rank::size]
        for name, digest in zip(names, _digests(path, names), strict=True):
            if digest != expected[name]['sha256']:
                raise ValueError(f'{name} is damaged: its sha256 is not the one that it was written with')
    elif 'digests' in state:
        raise ValueError(f'{_DIGESTS} is missing')
    else:
        from accelerate.utils import load

        random_states = path / f'random_states_{rank}.pkl'
        try:  # Accelerate does not check it
            load(random_states)
        except Exception as error:
            raise ValueError(f'{random_states.name} is damaged: {error}') from error
        if rank == 0:
            _logger.warning(
                'the checkpoint %s has no digests, as it was written by videozoo-timm 0.1.0: damage to it may not be '
                'detected',
                path,
            )
    for name in files:
        if name.endswith('.metadata'):
            _check_pickle(path / name)
    return state


def _load(accelerator: Any, path: Path) -> dict[str, Any]:
    from accelerate.utils import patch_environment

    # Distributed checkpoints hold pickles that torch would execute.
    with patch_environment(TORCH_FORCE_WEIGHTS_ONLY_LOAD='1', TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD='0'):
        try:
            accelerator.load_state(str(path))
        except distributed_errors() as error:
            raise ValueError(f'{behind(error)}') from error
    return _state_of(path, accelerator.num_processes)


def _files_of(folder: Path) -> Iterator[tuple[str, int]]:
    """Name and size of each file of a checkpoint.

    Raises:
        ValueError: It is not a folder, or something in it is neither a file nor a folder.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise ValueError('it is not a folder')
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(place) / name
            status, shown = path.lstat(), path.relative_to(folder).as_posix()
            if stat.S_ISREG(status.st_mode):
                yield shown, status.st_size
            elif not stat.S_ISDIR(status.st_mode):
                raise ValueError(f'{shown} is not a file')


def _state_of(path: Path, num_processes: int) -> dict[str, Any]:
    state = read_record(path / _STATE)
    losses, positions, failed = state.get('losses'), state.get('positions'), state.get('failed')
    is_sound = (
        _is_count(state.get('step'))
        and isinstance(state.get('hooks_done', True), bool)
        and isinstance(losses, list)
        and all(type(x) in (int, float) and math.isfinite(x) for x in losses)
        and isinstance(positions, list)
        and len(positions) == num_processes
        and all(isinstance(p, list) and len(p) == 2 and all(map(_is_count, p)) for p in positions)
        and isinstance(failed, list)
        and len(failed) == num_processes
        and all(isinstance(part, list) and all(isinstance(name, str) for name in part) for part in failed)
    )
    if not is_sound or state['step'] != int(path.name.removeprefix('step_')):
        raise ValueError(f'{_STATE} does not hold the state of a run')
    return state


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 53


def _write_digests(folder: Path, run: str) -> None:
    names = [name for name, _ in sorted(_files_of(folder), key=lambda item: -item[1])]
    # On the disk before the folder has its name, as a machine may go down.
    with ThreadPoolExecutor(4) as pool:
        synced = pool.map(_sync, (folder / name for name in names))
        digests = _digests(folder, names)  # meanwhile
        list(synced)
    files = {
        name: dict(size=(folder / name).stat().st_size, sha256=digest)
        for name, digest in zip(names, digests, strict=True)
    }
    record: dict[str, Any] = dict(run=run, files=dict(sorted(files.items())))
    with open(folder / _DIGESTS, 'w', encoding='utf-8') as file:
        json.dump(dict(record, sha256=_digest_of(record)), file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _read_digests(folder: Path, run: str | None) -> dict[str, dict[str, Any]]:
    record = read_record(folder / _DIGESTS)
    stated, files = record.pop('sha256', None), record.get('files')
    if (
        stated != _digest_of(record)
        or not isinstance(files, dict)
        or not all(
            isinstance(entry, dict) and _is_count(entry.get('size')) and isinstance(entry.get('sha256'), str)
            for entry in files.values()
        )
    ):
        raise ValueError(f'{_DIGESTS} is damaged')
    if run is not None and record.get('run') != run:
        raise ValueError('it is of another run')
    return files


def _digest_of(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _sync(path: Path) -> None:
    with open(path, 'rb+') as file:
        os.fsync(file.fileno())


def _digests(folder: Path, names: list[str]) -> list[str]:
    """The sha256 of files, several at once."""

    def digest_of(name: str) -> str:
        digest, buffer = hashlib.sha256(), bytearray(1 << 20)
        with open(folder / name, 'rb', buffering=0) as file:
            while count := file.readinto(buffer):
                digest.update(memoryview(buffer)[:count])
        return digest.hexdigest()

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(digest_of, names))


class _Described(pickle.Unpickler):
    """Reads the table of contents of a distributed checkpoint, which needs no other classes than those listed."""

    def find_class(self, module: str, name: str) -> Any:
        if name in _DESCRIBED_BY.get(module, ()) or (
            module == 'torch' and isinstance(getattr(torch, name, None), torch.dtype)
        ):
            return super().find_class(module, name)
        if (module, name) == ('builtins', 'getattr'):  # as some versions of Python pickle members of enumerations
            return _member
        raise ValueError(f'it asks for {f"{module}.{name}"!a}')


def _member(kind: Any, name: str) -> Any:
    if not isinstance(kind, EnumMeta) or name not in kind.__members__:
        raise ValueError(f'it asks for {name!a} of {kind!a}')
    return kind[name]


_DESCRIBED_BY = {
    'pathlib': ('Path', 'PosixPath', 'WindowsPath'),
    'pathlib._local': ('Path', 'PosixPath', 'WindowsPath'),
    'collections': ('OrderedDict',),
    'torch': ('Size',),
    'torch.serialization': ('_get_layout',),
    'torch.distributed.checkpoint.filesystem': ('_StorageInfo', '_StoragePrefix'),
    'torch.distributed.checkpoint.metadata': (
        'BytesStorageMetadata',
        'ChunkStorageMetadata',
        'Metadata',
        'MetadataIndex',
        'StorageMeta',
        'TensorProperties',
        'TensorStorageMetadata',
        '_MEM_FORMAT_ENCODING',
    ),
}


def _check_pickle(path: Path) -> None:
    with open(path, 'rb') as file:
        try:
            _Described(file).load()
        except Exception as error:
            raise ValueError(f'{path.name} is not a table of contents: {error}') from error
