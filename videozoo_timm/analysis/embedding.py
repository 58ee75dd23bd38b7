"""Features of videos and images."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from ..errors import NotFiniteError, UserError
from ..files import release
from ..inference.checks import checked_model
from ..inference.journal import COLUMNS, Journal
from ..inference.losses import losses_of
from ..inference.pipeline import Group, ProcessGroup, RowBatch, evaluating, groups_of, placement_of, process, views_of
from ..inference.provenance import compiled, weights_of
from ..inference.reporting import Reporter, with_fields
from ..inference.running import check_compiler
from ..inference.unfinished import resumed, state_of
from ..outputs import Output
from ..text import counted
from ..video import IN_THIS_PROCESS, RECOGNITION, Reading, Sampling, VideoError, pyav_version
from ._inputs import WARNING, Paths, Stimuli, none_read, stimuli_of
from .feature_files import Embeddings, check_output, read_origin
from .features import Features
from .stimulus_tables import At, Manifest, TimesOfFiles

__all__ = ['embed']

CLOCKS = ('first-frame', 'file')  # what the times of rows count from


def embed(
    model: nn.Module,
    paths: Paths = (),
    *,
    manifest: Manifest | str | os.PathLike[str] | None = None,
    at: At | TimesOfFiles | None = None,
    tokens: str = 'class',
    blocks: Sequence[int] | int | None = None,
    norm: bool = False,
    num_clips: int = 1,
    stride: float | None = None,
    align: str = 'center',
    offset: float = 0.0,
    clock: str = 'first-frame',
    strict: bool = False,
    sampling: Sampling = RECOGNITION,
    size: int | None = None,
    batch_size: int = 4,
    compile: bool = False,
    out: str | os.PathLike | None = None,
    about: dict[str, str] | None = None,
    start_over: bool = False,
    skip_done: bool = False,
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
        paths: Video files, or image files: a list, or one path; folders and patterns stand for their files
            (`find_media`).
        manifest: Somebody else's list of stimuli, a table with a column of files and perhaps one of identifiers
            (`read_manifest`), whose order the rows have; `paths` are then folders from which its paths go, if any.
        at: Times of the rows: a file with one column of seconds, or columns `file` and `time`, or `onset` (a BIDS
            `events.tsv`); or seconds for each video; or these by file; or what `times_of` made of it. A time outside
            of its video has no row, which is told (`lost`). Not together with `num_clips` or `stride`.
        tokens: As in `Features`.
        blocks: As in `Features`.
        norm: As in `Features`.
        num_clips: As in `Views`.
        stride: As in `Views`; not together with `num_clips`.
        align: As in `Views`.
        offset: As in `Views`; with `stride` only.
        clock: Whether times count from each video's first frame ('first-frame') or are those of its file ('file'), on
            whose clock the first frame comes at `clock_offset`; those of `at` too.
        strict: Leave out rows with frames that repeat the video's first or last one, are damaged or did not decode.
        sampling: The time that a clip spans; the number of frames is the model's.
        size: Height and width in pixels; only of image encoders, if not their own.
        batch_size: Clips at a time.
        compile: Compile the blocks of the model (`torch.compile`), which takes a minute at first and needs a C++
            compiler. The rows differ in their last digits from others, and so are those of another run.
        out: `.npz`, `.safetensors`, `.csv`, `.parquet` or a folder to write, as in `Embeddings.save`.
        about: Strings to store in `out`; `model` says which model it is.
        start_over: Replace `out` even if it holds other results, and throw away what an unfinished run has left of it.
        skip_done: Compute nothing if `out` holds all that this very call would give; what it says of files that failed
            or lack a part is reported again.
        team: The processes that share the work; with `out` only.
        reading: How the files are read.
        reporter: As in `predict`, of this process; its `say` is called if an unfinished run continues.
        **fields: Fields of `reading` and `reporter` to replace.

    Returns:
        The features; with `out` they are mapped from the disk and vanish with this object. None in all processes of a
        team but the first, and if nothing was to be done (`skip_done`).

    Raises:
        VideoError: None of the files could be read.
        NotFiniteError: All features are NaN or infinite; `out` is written without rows, so that none of an earlier run
            are taken for these.
        ValueError: An option that the model or the files do not allow, a table with an error in it, or another call's
            results or unfinished run in `out`, in words.
    """
    model = checked_model(model)
    reading, reporter = with_fields(reading, reporter, fields)
    if stride is not None and num_clips != 1:
        raise ValueError(f'stride={stride} and num_clips={num_clips} both say which clips are taken: give one of them')
    if clock not in CLOCKS:
        raise ValueError(f'clock={clock!r}: must be one of {list(CLOCKS)}')
    if at is not None and (stride is not None or num_clips != 1):
        name = 'num_clips' if stride is None else 'stride'
        raise UserError(f'{{at}} and {{{name}}} both say which clips are taken: give one', at=None, **{name: None})
    stimuli = stimuli_of(paths, manifest, at, clock == 'file')
    files = stimuli.files
    features = Features(tokens, cast('Any', blocks), norm)
    resolved = features.resolved(model)
    own_size = {} if size is None else dict(size=size)
    views = views_of(model, sampling, num_clips=num_clips, stride=stride, align=align, offset=offset, **own_size)
    placement = placement_of(model)
    groups = groups_of(len(files), views, batch_size, alone=at is not None)

    def batches_of(groups: list[Group]) -> Iterator[RowBatch]:
        with evaluating(model, compile):
            yield from process(
                lambda x: features.compute(model, x),
                groups,
                files,
                views,
                batch_size=batch_size,
                whole=compile,
                times=stimuli.times,
                what='features' if resolved is None else [f'features of block {block}' for block in resolved],
                reading=reading,
                reporter=reporter,
                **placement,
            )

    def lacks(path: str, duration: float, clock_offset: float) -> str:
        if stimuli.times is None:
            return ''
        inside = views.inside(duration, stimuli.times[path], clock_offset)
        return stimuli.times[path].outside(inside, duration, clock_offset)

    def tell_lacks() -> None:
        for path, reason in stimuli.left_out:
            reporter.report(path, reason)
        if stimuli.extra:
            reporter.say(f'{counted(len(stimuli.extra), "file")} not in the manifest; the first is {stimuli.extra[0]}')

    if out is None:
        tell_lacks()
        return _checked(_collect(batches_of(groups), stimuli, resolved, np.empty, clock, strict, lacks, reporter))
    out, team = Path(out), team or ProcessGroup()
    check_output(out, tokens)
    if compile:
        check_compiler()  # before anything is written
    provenance = weights_of(model)
    settings = dict(
        tokens=tokens,
        blocks=resolved,
        norm=norm,
        views=asdict(views),
        clock=clock,
        strict=strict,
        **stimuli.settings,
        **asdict(reading.pixels),
        batch_size=batch_size,
        dtype=provenance.pop('dtype'),
        **compiled(compile),
    )
    journal = Journal(
        out,
        dict(
            {name: value for name, value in settings.items() if name != 'strict'},  # which rows are kept in the end
            about=about,
            **provenance,
            device=placement['device'].type,
            torch=torch.__version__,
            pyav=pyav_version(),
            files=[state_of(path) for path in files],
            **({} if stimuli.ids is None else dict(ids=stimuli.ids)),
        ),
    )
    about = dict(about or {}, **provenance, settings=json.dumps(settings))
    if not start_over:
        _refuse_other_results(out, about, files)
    about['pyav'] = pyav_version()  # which an update of PyAV may change
    about['run'] = journal.digest
    if skip_done and not start_over and not journal.folder.exists() and _is_done(out, about, team, reporter):
        reporter.progress(len(files) / team.size)
        return None
    with resumed(journal, out, groups, batches_of, team, reporter, start_over, tell_lacks) as done:
        if done is None:
            return None
        result = _collect(done, stimuli, resolved, journal.array, clock, strict, lacks, reporter)
        about |= {name: json.dumps(told) for name in _LEFT_OUT if (told := getattr(result, name))}
        result._save(out, about, f'once there is room, the same command goes on (all rows are in {journal.folder})')
    return _checked(result)


def _refuse_other_results(out: Path, about: Mapping[str, str], paths: list[str]) -> None:
    """A call made again may replace its own result, of fewer files too, but nothing else."""
    if origin := read_origin(out):
        origin.setdefault('checksum', about['checksum'])  # results of version 0.1.0 have `weights` alone
        if set(origin['paths']) <= set(paths):
            origin['paths'] = paths
    before, now = (_settings(stored, about) for stored in (origin, dict(about, paths=paths)))
    Output(out, force='start_over').refuse_other(before, now)


_LEFT_OUT = dict(failed='report', lost='lose')  # fields of `Embeddings` that are stored, and who is told of them


def _is_done(out: Path, about: Mapping[str, Any], team: ProcessGroup, reporter: Reporter) -> bool:
    """Whether the results of this very run are there; then what they lack is told."""
    origin = read_origin(out) if out.exists() else {}
    if any(origin.get(name) != about[name] for name in ('run', 'settings')):
        return False
    if team.is_main:
        reporter.say(f'{out} is there, of this very run: nothing to do')
        for name, tell in _LEFT_OUT.items():
            for path, reason in json.loads(origin.get(name, '[]')):
                getattr(reporter, tell)(path, reason)
    return True


def _settings(stored: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """What decides about rows, of all that is stored about them."""
    chosen = {name: stored[name] for name in (*names, 'paths') if name in stored}
    with suppress(KeyError, TypeError, ValueError, RecursionError):  # of unknown origin
        chosen['settings'] = json.loads(chosen['settings'])
    return chosen


def _collect(
    batches: Iterable[RowBatch],
    stimuli: Stimuli,
    blocks: list[int] | None,
    allocate: Callable[[tuple[int, ...], type], np.ndarray],
    clock: str,
    strict: bool,
    lacks: Callable[[str, float, float], str],
    reporter: Reporter,
) -> Embeddings:
    """All rows in the order of the files, without those of files that failed; what else is missing is told."""
    batches, paths, ids = list(batches), stimuli.files, stimuli.ids
    failed = {file: reason for batch in batches for file, reason in batch.failed.items()}
    lost = losses_of(batches, paths, lacks)
    for path, reason in lost:
        reporter.lose(path, reason)
    if strict:
        batches = [_sound_rows(batch) for batch in batches]
        left = {file for batch in batches for file in batch.files}
        for file in sorted(set(range(len(paths))) - failed.keys() - left):
            failed[file] = f'{paths[file]}: all its clips repeat a frame at an end of the video or lack some: left out'
            reporter.report(paths[file], failed[file])
    readable = [file for file in range(len(paths)) if file not in failed]
    if not readable and all(np.isfinite(np.asarray(batch.values)).all() for batch in batches):
        raise VideoError(none_read(len(paths), failed.values()))
    kept = [(batch, [k for k, file in enumerate(batch.files) if file not in failed]) for batch in batches]
    shape = next(batch.values.shape[1:] for batch in batches if batch.files)
    number = sum(len(rows) for _, rows in kept)
    features = (allocate if number else np.empty)((number, *shape), np.float32)
    row, place = 0, {file: k for k, file in enumerate(readable)}
    for batch, rows in kept:
        if rows:
            features[row : row + len(rows)] = np.asarray(batch.values)[rows]
            row += len(rows)
            release(batch.values)
            release(features)

    def column(name: str) -> list[Any]:
        return [getattr(batch, name)[k] for batch, rows in kept for k in rows]

    def seconds(name: str) -> torch.Tensor:
        return torch.tensor(column(name), dtype=torch.float64)

    offsets = seconds('clock_offsets')
    zero = offsets if clock == 'file' else torch.zeros_like(offsets)
    return Embeddings(
        torch.from_numpy(features),
        torch.tensor([place[file] for file in column('files')]),
        seconds('times') + zero,
        seconds('starts') + zero,
        seconds('ends') + zero,
        seconds('durations'),
        seconds('padded'),
        seconds('damaged'),
        offsets,
        [paths[file] for file in readable],
        stimuli.left_out + [(paths[file], reason) for file, reason in sorted(failed.items())],
        blocks,
        lost,
        None if ids is None else [ids[file] for file in readable],
    )


def _sound_rows(batch: RowBatch) -> RowBatch:
    """The rows of a batch whose frames are all their own."""
    kept = [k for k in range(len(batch.files)) if not batch.padded[k] and not batch.damaged[k]]
    if len(kept) == len(batch.files):
        return batch
    columns = {name: [getattr(batch, name)[k] for k in kept] for name in ('files', *COLUMNS)}
    return batch._replace(values=np.asarray(batch.values)[kept], **columns)


def _checked(result: Embeddings) -> Embeddings:
    if not result.paths:
        raise NotFiniteError(none_read(len(result.failed), [reason for _, reason in result.failed]))
    return result
