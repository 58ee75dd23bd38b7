"""A model over the views of many files, in batches that do not depend on how the work is split.

Files are put into groups, and a batch never crosses the border of its group. So a row is computed in the same batch
whether one process does all the work, several share it, or a killed run continues.
"""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any, NamedTuple, TypedDict

import torch
from timm.data.config import resolve_model_data_config
from timm.models import get_model_input_config
from torch import nn

from ..video import (
    IN_THIS_PROCESS,
    RECOGNITION,
    Failure,
    Job,
    Reading,
    Sampling,
    Times,
    View,
    Views,
    is_image,
    load_views,
)
from .checks import fault_of_values
from .reporting import SILENT, Pace, Reporter, with_fields


class Group(NamedTuple):
    """Files whose views are batched together.

    Attributes:
        index: Place among the groups.
        files: Indices of the files.
        skip: Views of the first file that are done already.
        number: Batches that are done already.
    """

    index: int  # pyright: ignore[reportIncompatibleMethodOverride]  # hides tuple.index, which nobody calls
    files: list[int]
    skip: int = 0
    number: int = 0


class RowBatch(NamedTuple):
    """The output of a model for a batch of views.

    Attributes:
        group: Index of the group.
        number: Position among the batches of the group.
        last: Whether it is the last batch of the group.
        files: Which file each row is of.
        starts: Start of each row's window, in seconds from the first frame.
        ends: End of each row's window.
        times: The time that each row stands for.
        durations: Of each row's video, in seconds.
        padded: Fraction of each row's frames that repeat the first or the last one of the video.
        damaged: Fraction of each row's frames that are damaged or did not decode.
        clock_offsets: Presentation time of the first frame on the clock of each row's file.
        lost: Seconds at the end of each row's video that the file lacks.
        failed: The group's files that could not be read, or not to their end, or for which the model gives numbers that
            are not finite, with the reasons; as far as known. Their rows are no results.
        values: float32 [R, ...] on the CPU, one row per view.
    """

    group: int
    number: int
    last: bool
    files: list[int]
    starts: list[float]
    ends: list[float]
    times: list[float]
    durations: list[float]
    padded: list[float]
    damaged: list[float]
    clock_offsets: list[float]
    lost: list[float]
    failed: dict[int, str]
    values: torch.Tensor


def takes_clips(model: nn.Module) -> bool:
    """Whether it is a video model; image encoders take single frames."""
    return hasattr(model, 'num_frames')


def sampling_of(model: nn.Module, span: int, frames: str = '') -> Sampling:
    """The sampling of clips for a model: as many frames as it takes, spread over `span` frames at 30 a second.

    For an image encoder a clip is one frame.

    Raises:
        ValueError: `frames`, their order, is none that there is, or the model takes one frame.
    """
    num_frames: Any = getattr(model, 'num_frames', None)
    if num_frames is None and frames:
        raise ValueError(f'frames={frames!r}: the model takes single frames, which have no order')
    return Sampling(1, 1) if num_frames is None else Sampling(num_frames, span, frames)


def views_of(model: nn.Module, sampling: Sampling = RECOGNITION, **changes: Any) -> Views:
    """The views that a model takes: the center crop of the centered clip, in its size and with its preprocessing.

    Args:
        model: A model of this package; an image encoder takes single frames of a video.
        sampling: Time that a clip spans; the number of frames is the model's.
        **changes: Other fields of `Views`. Image encoders take any `size` that is a multiple of their patch size.

    Raises:
        TypeError: `sampling` is no `Sampling`.
        ValueError: The model's input is not square, or `size` is not a multiple of the patch size.
    """
    if not isinstance(sampling, Sampling):
        raise TypeError(f'sampling={sampling!r}: Sampling(num_frames, span) is wanted, or RECOGNITION or COMPLETION')
    config = resolve_model_data_config(model)
    height, width = get_model_input_config(model)['input_size'][-2:]
    if height != width:
        raise ValueError(f'the model takes {height} x {width} pixels; files are prepared for square inputs only')
    fields = dict(
        size=height,
        mean=tuple(config['mean']),
        std=tuple(config['std']),
        interpolation=config['interpolation'],
        sampling=sampling_of(model, sampling.span, sampling.frames),
    )
    size, patch = changes.get('size'), getattr(getattr(model, 'patch_embed', None), 'patch_size', (1, 1))
    if size is not None and not changes.get('whole') and any(size % p for p in patch):
        raise ValueError(f'size={size}: must be a multiple of the patch size {patch[0]}')
    return Views(**{**fields, **getattr(model, 'view_fields', {}), **changes})


def groups_of(num_files: int, views: Views, batch_size: int, alone: bool = False) -> list[Group]:
    """All files in groups: single files (`alone`) for a time course, otherwise as many as fill a batch."""
    if batch_size < 1:
        raise ValueError(f'batch_size={batch_size}: must be at least 1')
    per_file = 1 if views.jitter else views.num_clips * len(views.crops)
    size = 1 if alone or views.stride is not None else math.ceil(batch_size / per_file)
    return [Group(k, list(range(i, min(i + size, num_files)))) for k, i in enumerate(range(0, num_files, size))]


def process(
    function: Callable[[torch.Tensor], torch.Tensor],
    groups: Sequence[Group],
    paths: Sequence[str],
    views: Views,
    *,
    device: torch.device,
    dtype: torch.dtype,
    batch_size: int,
    times: Mapping[str, Times] | None = None,
    what: str | Sequence[str] = 'the output of the model',
    reading: Reading = IN_THIS_PROCESS,
    reporter: Reporter = SILENT,
    **fields: Any,
) -> Iterator[RowBatch]:
    """Apply a function to the views of files, batch by batch.

    A file with a row that is not finite has failed, as one that cannot be read.

    Args:
        function: From a batch [B, C, T, H, W] (of images [B, C, H, W]) to one row per view.
        groups: The files, as indices into `paths`.
        paths: Videos, or images, not both.
        views: Which views of each file.
        device: Of the function's input.
        dtype: Of the function's input.
        batch_size: Views per batch.
        times: Of each file, when its views have their times, instead of what `views` says.
        what: What a row holds, for errors; or each entry of its first dimension.
        reading: How the files are read.
        reporter: How progress and files that have failed are reported.
        **fields: Fields of `reading` and `reporter` to replace.

    Yields:
        The batches of the groups, in order; every group ends with a batch whose `last` is true.

    Raises:
        ValueError: Videos and images together.
    """
    if len({is_image(path) for path in paths}) > 1:
        raise ValueError('videos and images have different shapes: pass either videos or images')
    jobs = [
        Job(file, paths[file], group.skip if k == 0 else 0, times=times[paths[file]] if times else None)
        for group in groups
        for k, file in enumerate(group.files)
    ]
    reading, reporter = with_fields(reading, reporter, fields)

    def rows_of(pending: list[tuple[int, View]]) -> torch.Tensor:
        if not pending:
            return torch.empty(0)
        x = torch.stack([view.x for _, view in pending]).to(device, dtype)  # [B, C, T, H, W]
        return function(x).float().cpu()

    def fault_of(row: torch.Tensor, view: View) -> str | None:
        where = f' of the clip at {view.start:.2f} s' if view.duration else ''
        return fault_of_values(row, what, view.x, dtype, where)

    watch = _Stopwatch()
    with closing(load_views(jobs, views, reading)) as loaded:
        timed = watch.waits_for(loaded)
        for group in groups:
            yield from _process_group(rows_of, fault_of, group, timed, paths, batch_size, reporter)
    reporter.pace(watch.pace(reading.num_workers))


class _Stopwatch:
    """Tells waiting for views from the rest of the time."""

    def __init__(self) -> None:
        self.start, self.waiting, self.views = time.monotonic(), 0.0, 0

    def waits_for(self, loaded: Iterator[tuple[Job, View | Failure | None]]) -> Iterator[tuple[Job, Any]]:
        while True:
            before = time.monotonic()
            item = next(loaded, None)
            self.waiting += time.monotonic() - before
            if item is None:
                return
            self.views += isinstance(item[1], View)
            yield item

    def pace(self, num_workers: int) -> Pace:
        return Pace(self.views, time.monotonic() - self.start, self.waiting, num_workers)


def _process_group(
    rows_of: Callable[[list[tuple[int, View]]], torch.Tensor],
    fault_of: Callable[[torch.Tensor, View], str | None],
    group: Group,
    loaded: Iterator[tuple[Job, View | Failure | None]],
    paths: Sequence[str],
    batch_size: int,
    reporter: Reporter,
) -> Iterator[RowBatch]:
    number, to_come = group.number, len(group.files)
    pending: list[tuple[int, View]] = []
    failed: dict[int, str] = {}

    def fail(file: int, reason: str) -> None:
        if file not in failed:
            failed[file] = reason
            reporter.report(paths[file], reason)

    def batch(last: bool) -> RowBatch:
        views, values = [view for _, view in pending], rows_of(pending)
        if not values.isfinite().all():
            for (file, view), row in zip(pending, values, strict=True):
                if fault := fault_of(row, view):
                    fail(file, f'{paths[file]}: {fault}')
        return RowBatch(
            group.index,
            number,
            last,
            files=[file for file, _ in pending],
            starts=[view.start for view in views],
            ends=[view.end for view in views],
            times=[view.time for view in views],
            durations=[view.duration for view in views],
            padded=[view.padded for view in views],
            damaged=[view.damaged for view in views],
            clock_offsets=[view.clock_offset for view in views],
            lost=[view.lost for view in views],
            failed=dict(failed),
            values=values,
        )

    while to_come:
        job, item = next(loaded)
        if isinstance(item, View):
            pending.append((job.index, item))
            reporter.progress(1 / item.total)
            if len(pending) == batch_size:
                yield batch(last=False)
                pending.clear()
                number += 1
            continue
        if isinstance(item, Failure):
            fail(job.index, item.reason)
            reporter.progress(1)
        to_come -= 1
    yield batch(last=True)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; the model's mode is restored afterwards.

    Results are ordinary tensors, unlike those of inference mode, which can be neither changed nor trained on.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


class Placement(TypedDict):
    """Where a model computes, and in which precision."""

    device: torch.device
    dtype: torch.dtype


def placement_of(model: nn.Module) -> Placement:
    """Device and dtype of a model."""
    parameter = next(model.parameters())
    return Placement(device=parameter.device, dtype=parameter.dtype)


# Of torchrun, and of Intel MPI, Open MPI and MVAPICH, which `accelerate launch --cpu` may use.
_WORLD_SIZES = ('WORLD_SIZE', 'PMI_SIZE', 'OMPI_COMM_WORLD_SIZE', 'MV2_COMM_WORLD_SIZE')


class ProcessGroup:
    """The processes that share the work: those that `accelerate launch` has started, or this one alone.

    Args:
        alone: This process does all the work, even if there are others.
    """

    def __init__(self, alone: bool = False) -> None:
        self.rank, self.size, self.device, self._state = 0, 1, None, None
        if not alone and any(int(os.environ.get(name, '1')) > 1 for name in _WORLD_SIZES):
            try:
                from accelerate import PartialState
            except ImportError as error:
                raise ImportError(
                    "several processes need Accelerate: pip install 'videozoo-timm[accelerate]'"
                ) from error
            # One process may be done long before another.
            self._state = PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=30))
            self.rank, self.size = self._state.process_index, self._state.num_processes
            self.device = self._state.device

    @property
    def is_main(self) -> bool:
        """Whether this is the first process, which writes the results."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait for all processes."""
        if self._state:
            self._state.wait_for_everyone()

    def together(self, work: Callable[[], Any]) -> Any:
        """What `work` gives; an error of one process is raised in all of them, so that none waits for it in vain."""
        result = problem = None
        try:
            result = work()
        except Exception as error:
            problem = error
        for error in self.gather([problem]):
            if error:
                raise error
        return result

    def gather(self, items: list[Any]) -> list[Any]:
        """The items of all processes, in each of them."""
        if not self._state:
            return items
        from accelerate.utils import gather_object

        return gather_object(items)
