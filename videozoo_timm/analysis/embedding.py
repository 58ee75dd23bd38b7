"""Features of videos and images."""
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..files import MAKE_ROOM, atomic_write, check_regular
from ..inference.checks import checked_model
from ..inference.journal import Journal, checksum_of, digest_of, remaining
from ..inference.pipeline import Group, ProcessGroup, RowBatch, evaluating, groups_of, placement_of, process, views_of
from ..inference.reporting import Reporter, with_fields
from ..outputs import Output
from ..video import IN_THIS_PROCESS, RECOGNITION, Reading, Sampling, VideoError
from ..weights.writing import save_tensors
from ._inputs import WARNING, listed, none_read

__all__ = ['Embeddings', 'Features', 'check_output', 'embed', 'num_blocks', 'read_origin']

_logger = logging.getLogger(__name__)

TOKENS = ('class', 'mean', 'all')
_COLUMNS = ('video_index', 'time', 'start', 'end', 'duration')


@dataclass(repr=False)
class Embeddings:
    """Features of clips (or images), one row a clip.

    Attributes:
        features: float32 [R, C]; with `tokens='all'` [R, T', H', W', C] of clips, [R, H', W', C] of images; with
            `blocks` these have the blocks as their second dimension, [R, K, ...].
        video_index: int64 [R], which of `paths` a row is of.
        time: float64 [R], the time that a row stands for, in seconds from the video's first frame.
        start: float64 [R], start of the row's window.
        end: float64 [R], end of the window.
        duration: float64 [R], of the row's video. A window that begins before 0 or ends later than this repeats the
            first or the last frame.
        paths: The files that could be read.
        failed: Those that could not, with the reason.
        blocks: The blocks asked for, counted from 0, in the order of the request.
    """
    features: torch.Tensor
    video_index: torch.Tensor
    time: torch.Tensor
    start: torch.Tensor
    end: torch.Tensor
    duration: torch.Tensor
    paths: list[str]
    failed: list[tuple[str, str]] = field(default_factory=list)
    blocks: list[int] | None = None

    def __repr__(self) -> str:
        parts = [f'{len(self.paths)} files', f'features={list(self.features.shape)}']
        told = dict(blocks=self.blocks, failed=len(self.failed) or None)
        parts += [f'{name}={value}' for name, value in told.items() if value is not None]
        return f'Embeddings({", ".join(parts)})'

    def save(self, out: str | os.PathLike, about: dict[str, str] | None = None) -> None:
        """Write `.npz`, `.safetensors` or, with a name without ending, a folder of `.npy` files; whole or not at all.

        `paths` and the strings of `about` stand in the header of a `.safetensors` file and in `about.json` of a folder.

        Args:
            out: File or folder to write.
            about: Strings to store beside them: which model, for instance.

        Raises:
            ValueError: Another ending.
            OSError: The disk is full, or not to be written.
        """
        out = Path(out)
        check_output(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        self._save(out, about or {}, MAKE_ROOM)

    def _save(self, out: Path, about: dict[str, str], remedy: str) -> None:
        options: dict[str, Any] = dict(remedy=remedy, durable=True)  # a journal is removed for it
        arrays = dict(features=self.features, **{name: getattr(self, name) for name in _COLUMNS})
        if self.blocks is not None:
            arrays['blocks'] = torch.tensor(self.blocks)
        if out.suffix == '.safetensors':
            save_tensors(arrays, out, {'paths': self.paths, **about}, **options)
            return
        with atomic_write(out, sum(array.nbytes for array in arrays.values()), **options) as partial:
            if out.suffix == '.npz':
                content: dict[str, Any] = {**{key: array.numpy() for key, array in arrays.items()}, **about}
                with open(partial, 'wb') as file:
                    np.savez(file, **content, paths=np.array(self.paths))
                return
            partial.mkdir()
            for name, array in arrays.items():
                np.save(partial / f'{name}.npy', array.numpy())
            (partial / 'about.json').write_text(json.dumps({'paths': self.paths, **about}, indent=1))


def check_output(out: Path) -> None:
    """Raise a ValueError unless features can be written there."""
    output = Output(out, force='start_over')
    if out.suffix:
        output.check_file(('.npz', '.safetensors'), or_folder=True)
    else:
        arrays = [f'{name}.npy' for name in ('features', 'blocks', *_COLUMNS)]
        output.check_own_folder(('about.json', *arrays), 'features')


def read_origin(out: Path) -> dict[str, Any]:
    """What is stored about features beside them: `paths`, `settings`, `model`; nothing of any other file."""
    try:
        check_regular(out if out.suffix else out / 'about.json')
        if out.suffix == '.npz':
            with np.load(out) as arrays:
                keys = [key for key in arrays.files if key not in ('features', 'blocks', *_COLUMNS)]
                if sum(arrays.zip.getinfo(f'{key}.npy').file_size for key in keys) > 1 << 30:
                    return {}
                about = {key: str(text) for key in keys if (text := arrays[key]).dtype.kind == 'U'}
                paths = arrays['paths'].tolist()
        elif out.suffix == '.safetensors':
            from safetensors import safe_open
            with safe_open(out, 'pt') as file:
                about = file.metadata()
            paths = json.loads(about['paths'])
        else:
            about = json.loads((out / 'about.json').read_text())
            paths = about['paths']
    except Exception:  # whatever it is, it is not ours
        return {}
    is_ours = isinstance(paths, list) and all(isinstance(path, str) for path in paths)
    return dict(about, paths=paths) if is_ours else {}


@dataclass(frozen=True)
class Features:
    """Which features of a model.

    Attributes:
        tokens: 'class' (the class token; without `blocks` what the model's head would get: of the published ViTs the
            class token after the final norm), 'mean' (of the patch tokens) or 'all' (the patch tokens as a map).
        blocks: Of which blocks, negative ones counted from the end; None for the model's end, after its final norm.
        norm: Apply the final norm to the tokens of every block.
    """
    tokens: str = 'class'
    blocks: tuple[int, ...] | None = None
    norm: bool = False

    def __post_init__(self):
        if self.tokens not in TOKENS:
            raise ValueError(f'tokens must be one of {list(TOKENS)}, got {self.tokens!r}')

    def resolved(self, model: nn.Module) -> list[int] | None:
        """The blocks counted from 0, in the order of the request.

        Raises:
            ValueError: No such block in the model, or one named twice; or no class token.
        """
        if self.blocks is None:
            return None
        depth = num_blocks(model)
        if not self.blocks or not all(-depth <= block < depth for block in self.blocks):
            raise ValueError(f'blocks={list(self.blocks)}: the model has blocks 0 to {depth - 1}, or -{depth} to -1')
        blocks = [block % depth for block in self.blocks]
        if len(set(blocks)) < len(blocks):
            raise ValueError(f'blocks={list(self.blocks)} names a block twice')
        if len(blocks) > 1 and not hasattr(model, 'blocks'):
            raise ValueError(f"blocks={blocks}: a ResNet's stages differ in width and size, take one at a time")
        if self.tokens == 'class' and not getattr(model, 'num_prefix_tokens', 0):
            raise ValueError("the model has no class token: take tokens='mean'")
        return blocks

    def compute(self, model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """Features of clips [B, C, T, H, W] or images [B, C, H, W]: [B, ...] as `Embeddings.features`."""
        blocks, timm_model = self.resolved(model), checked_model(model)
        if blocks is None and self.tokens == 'class':
            return timm_model.forward_head(timm_model.forward_features(x), pre_logits=True)
        wanted = [num_blocks(model) - 1] if blocks is None else blocks
        ascending = sorted(wanted)  # the order in which timm gives them
        with_prefix = dict(return_prefix_tokens=True) if hasattr(model, 'blocks') else {}
        outputs = timm_model.forward_intermediates(
            x, indices=ascending, norm=self.norm or blocks is None, intermediates_only=True, stop_early=True,
            **with_prefix)
        rows = []
        for block in wanted:
            output = outputs[ascending.index(block)]
            maps = output[0] if isinstance(output, tuple) else output  # [B, C, (T',) H', W']
            if self.tokens == 'class':
                rows.append(output[1][:, 0])  # [B, P, C]
            elif self.tokens == 'mean':
                rows.append(maps.flatten(2).mean(dim=2))
            else:
                rows.append(maps.movedim(1, -1))
        return rows[0] if blocks is None else torch.stack(rows, dim=1)


def num_blocks(model: nn.Module) -> int:
    """Blocks of a ViT; the stem and the stages of a ResNet."""
    timm_model = checked_model(model)
    return len(timm_model.blocks if hasattr(timm_model, 'blocks') else timm_model.feature_info)


def embed(
        model: nn.Module,
        paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        tokens: str = 'class',
        blocks: Sequence[int] | None = None,
        norm: bool = False,
        num_clips: int = 1,
        stride: float | None = None,
        align: str = 'center',
        sampling: Sampling = RECOGNITION,
        size: int | None = None,
        batch_size: int = 4,
        out: str | os.PathLike | None = None,
        about: dict[str, str] | None = None,
        start_over: bool = False,
        team: ProcessGroup | None = None,
        reading: Reading = IN_THIS_PROCESS,
        reporter: Reporter = WARNING,
        **fields: Any,
) -> Embeddings | None:
    """Features of videos (or of images), by default of the centered recognition clip of each.

    With `out` the rows are collected in a folder beside it and never held in memory together. What is done is kept if
    the run is killed, and the same call goes on from there.

    Args:
        model: A model of this package.
        paths: Video files, or image files; folders stand for those in them (`find_media`).
        tokens: As in `Features`.
        blocks: As in `Features`.
        norm: As in `Features`.
        num_clips: As in `Views`.
        stride: As in `Views`; not together with `num_clips`.
        align: As in `Views`.
        sampling: The time that a clip spans; the number of frames is the model's.
        size: Height and width in pixels; only of image encoders, if not their own.
        batch_size: Clips at a time.
        out: `.npz`, `.safetensors` or a folder to write, as in `Embeddings.save`.
        about: Strings to store in `out`; `model` says which model it is.
        start_over: Replace `out` even if it holds other results, and throw away what an unfinished run has left of it.
        team: The processes that share the work; with `out` only.
        reading: How the files are read.
        reporter: As in `predict`, of this process; its `say` is called if an unfinished run continues.
        **fields: Fields of `reading` and `reporter` to replace.

    Returns:
        The features; with `out` they are mapped from the disk and vanish with this object. None in all processes of a
        team but the first.

    Raises:
        VideoError: None of the files could be read.
        ValueError: An option that the model or the files do not allow, or another call's results or unfinished run in
            `out`, in words.
    """
    checked_model(model)
    reading, reporter = with_fields(reading, reporter, fields)
    if stride is not None and num_clips != 1:
        raise ValueError(f'stride={stride} and num_clips={num_clips} both say which clips are taken: give one of them')
    files = listed(paths)
    features = Features(tokens, None if blocks is None else tuple(blocks), norm)
    resolved = features.resolved(model)
    own_size = {} if size is None else dict(size=size)
    views = views_of(model, sampling, num_clips=num_clips, stride=stride, align=align, **own_size)
    placement = placement_of(model)
    groups = groups_of(len(files), views, batch_size)

    def batches_of(groups: list[Group]) -> Iterator[RowBatch]:
        with evaluating(model):
            yield from process(
                lambda x: features.compute(model, x), groups, files, views, batch_size=batch_size,
                reading=reading, reporter=reporter, **placement)

    if out is None:
        return _collect(batches_of(groups), files, resolved, np.empty)
    out, team = Path(out), team or ProcessGroup()
    check_output(out)
    settings = dict(
        tokens=tokens, blocks=resolved, norm=norm, views=asdict(views), batch_size=batch_size,
        dtype=str(placement['dtype']).removeprefix('torch.'))
    weights = digest_of(model.state_dict().items())
    checksum = checksum_of(model.state_dict().items())
    journal = Journal(out, dict(
        settings, about=about, weights=weights, checksum=checksum, device=placement['device'].type,
        torch=torch.__version__, files=[_state_of(path) for path in files]))
    about = dict(about or {}, weights=weights, checksum=checksum, settings=json.dumps(settings))
    if not start_over:
        _refuse_other_results(out, about, files)
    try:
        _open(journal, team, start_over)
        if team.is_main and journal.goes_on:
            reporter.say(f'going on with the unfinished run in {journal.folder}')
        todo = remaining(groups, journal.batches(groups, mend=team.is_main))
        if team.is_main and journal.damaged:
            _logger.warning(
                '%s: %d %s of an unfinished run %s damaged and %s computed again', out, journal.damaged,
                *(('batch', 'was', 'is') if journal.damaged == 1 else ('batches', 'were', 'are')))
        reporter.progress((len(files) - sum(len(group.files) for group in todo)) / team.size)
        team.wait()  # nobody writes before all have read
        for batch in batches_of(todo[team.rank::team.size]):
            journal.add(batch)
        journal.stop_writing()
        team.wait()
        if not team.is_main:
            return None
        try:
            done = journal.batches(groups)
            if lost := remaining(groups, done):
                raise OSError(
                    f'{out}: rows of {sum(len(group.files) for group in lost)} files were lost in {journal.folder}; '
                    f'the same command computes them again')
            result = _collect(done, files, resolved, journal.array)
            result._save(out, about, f'once there is room, the same command goes on (all rows are in {journal.folder})')
        except VideoError:
            journal.remove()  # there is nothing in it
            raise
        journal.remove()
        return result
    finally:
        journal.close()


def _refuse_other_results(out: Path, about: Mapping[str, str], paths: list[str]) -> None:
    """A call made again may replace its own result, of fewer files too, but nothing else."""
    if origin := read_origin(out):
        origin.setdefault('checksum', about['checksum'])  # results of version 0.1.0 have `weights` alone
        if set(origin['paths']) <= set(paths):
            origin['paths'] = paths
    before, now = (_settings(stored, about) for stored in (origin, dict(about, paths=paths)))
    Output(out, force='start_over').refuse_other(before, now)


def _settings(stored: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """What decides about rows, of all that is stored about them."""
    chosen = {name: stored[name] for name in (*names, 'paths') if name in stored}
    with suppress(KeyError, TypeError, ValueError, RecursionError):  # of unknown origin
        chosen['settings'] = json.loads(chosen['settings'])
    return chosen


def _open(journal: Journal, team: ProcessGroup, start_over: bool) -> None:
    """The first process opens the journal; what is wrong with it is told to all."""
    problem = None
    if team.is_main:
        try:
            journal.open(start_over)
        except (ValueError, OSError) as error:
            problem = error
    for error in team.gather([problem]):
        if error:
            raise error


def _state_of(path: str) -> list[Any]:
    """What tells a file from another one of its name."""
    try:
        state = os.stat(path)
    except OSError:
        return [path]
    return [path, state.st_size, state.st_mtime_ns]


def _collect(
        batches: Iterable[RowBatch],
        paths: list[str],
        blocks: list[int] | None,
        allocate: Callable[[tuple[int, ...], type], np.ndarray],
) -> Embeddings:
    """All rows in the order of the files, without those of files that failed."""
    batches = list(batches)
    failed = {file: reason for batch in batches for file, reason in batch.failed.items()}
    readable = [file for file in range(len(paths)) if file not in failed]
    if not readable:
        raise VideoError(none_read(len(paths), failed.values()))
    kept = [(batch, [k for k, file in enumerate(batch.files) if file not in failed]) for batch in batches]
    shape = next(batch.values.shape[1:] for batch, rows in kept if rows)
    features = allocate((sum(len(rows) for _, rows in kept), *shape), np.float32)
    row, place = 0, {file: k for k, file in enumerate(readable)}
    for batch, rows in kept:
        if rows:
            features[row:row + len(rows)] = np.asarray(batch.values)[rows]
            row += len(rows)

    def column(name: str) -> list[Any]:
        return [getattr(batch, name)[k] for batch, rows in kept for k in rows]

    def seconds(name: str) -> torch.Tensor:
        return torch.tensor(column(name), dtype=torch.float64)

    return Embeddings(
        torch.from_numpy(features), torch.tensor([place[file] for file in column('files')]), seconds('times'),
        seconds('starts'), seconds('ends'), seconds('durations'), [paths[file] for file in readable],
        [(paths[file], reason) for file, reason in sorted(failed.items())], blocks)
