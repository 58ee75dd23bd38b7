"""A model over the views of many files, in batches that do not depend on how the work is split.

Files are put into groups, and a batch never crosses the border of its group. So a row is computed in the same batch
whether one process does all the work, several share it, or a killed run continues.
"""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, TypedDict

import torch
from timm.data.config import resolve_model_data_config
from timm.models import get_model_input_config
from torch import nn

from ..notes import tell_settings
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
from .batches import Group, RowBatch, one_behind, started_batches
from .checks import fault_of_values
from .reporting import SILENT, Pace, Reporter, with_fields
from .running import Runner, compiled_blocks


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
    views = Views(**{**fields, **getattr(model, 'view_fields', {}), **changes})
    tell_settings(**{'training_views' if views.augmentation else 'views': asdict(views)})
    return views


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
    views: Views | Sequence[Views],
    *,
    device: torch.device,
    dtype: torch.dtype,
    batch_size: int,
    times: Mapping[str, Times] | None = None,
    what: str | Sequence[str] = 'the output of the model',
    finish: Callable[[torch.Tensor], torch.Tensor] | None = None,
    whole: bool = False,
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
        views: Which views of each file; or of every single one, all of one size and number of frames.
        device: Of the function's input.
        dtype: Of the function's input.
        batch_size: Views per batch.
        times: Of each file, when its views have their times, instead of what `views` says.
        what: What a row holds, for errors; or each entry of its first dimension.
        finish: What is made of the rows on the CPU, float32 [B, ...].
        whole: Fill every batch up to `batch_size` for the function, as a compiled one wants.
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
    jobs = _Jobs(groups, paths, views, times)
    reading, reporter = with_fields(reading, reporter, fields)

    def fault_of(row: torch.Tensor, view: View) -> str | None:
        where = f' of the clip at {view.start:.2f} s' if view.duration else ''
        return fault_of_values(row, what, view.x, dtype, where)

    runner, watch = Runner(function, device, dtype, batch_size, whole), _Stopwatch()
    # The next batch, and the file whose last view was taken, but not its end.
    ahead = 1 + max((len(group.files) for group in groups), default=0)
    with closing(load_views(jobs, views if isinstance(views, Views) else views[0], reading, ahead=ahead)) as loaded:
        started = started_batches(runner, groups, watch.waits_for(loaded), paths, batch_size, reporter)
        for batch in one_behind(started) if runner.is_ahead else started:
            yield batch.rows(finish, fault_of)
    reporter.pace(watch.pace(reading.num_workers))


@dataclass(frozen=True)
class _Jobs:
    """The files of groups; there may be many, so that each job is made when its turn comes."""

    groups: Sequence[Group]
    paths: Sequence[str]
    views: Views | Sequence[Views]
    times: Mapping[str, Times] | None

    def __len__(self) -> int:
        return sum(len(group.files) for group in self.groups)

    def __iter__(self) -> Iterator[Job]:
        for group in self.groups:
            for k, file in enumerate(group.files):
                yield Job(
                    file,
                    self.paths[file],
                    group.skip if k == 0 else 0,
                    times=self.times[self.paths[file]] if self.times else None,
                    views=None if isinstance(self.views, Views) else self.views[file],
                )


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


@contextmanager
def evaluating(model: nn.Module, compile: bool = False) -> Iterator[None]:
    """Eval mode without gradients, and with compiled blocks if asked for; the model is restored afterwards.

    Results are ordinary tensors, unlike those of inference mode, which can be neither changed nor trained on.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), compiled_blocks(model) if compile else nullcontext():
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
