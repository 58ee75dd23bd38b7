"""A model over the views of many files, in batches that do not depend on how the work is split.

Files are put into groups, and a batch never crosses the border of its group. So a row is computed in the same batch
whether one process does all the work, several share it, or a killed run goes on.
"""
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import torch
from timm.data import resolve_model_data_config
from timm.models import get_model_input_config
from torch import nn

from ..video import RECOGNITION, Failure, Job, Sampling, View, Views, is_image, load_views


class Group(NamedTuple):
    """Files whose views are batched together.

    Attributes:
        index: Place among the groups.
        files: Indices of the files.
        skip: Views of the first file that are done already.
        number: Batches that are done already.
    """
    index: int
    files: list[int]
    skip: int = 0
    number: int = 0


class RowBatch(NamedTuple):
    """What a model made of a batch of views.

    Attributes:
        group: Index of the group.
        number: Place among the batches of the group.
        last: Whether the group is done with it.
        files: Which file each row is of.
        starts: Start of each row's window, in seconds from the first frame.
        ends: End of each row's window.
        times: The time that each row stands for.
        durations: Of each row's video, in seconds.
        failed: The group's files that could not be read, or not to their end, with the reasons; as far as known.
        values: float32 [R, ...] on the CPU, a row a view.
    """
    group: int
    number: int
    last: bool
    files: list[int]
    starts: list[float]
    ends: list[float]
    times: list[float]
    durations: list[float]
    failed: dict[int, str]
    values: torch.Tensor


def takes_clips(model: nn.Module) -> bool:
    """Whether it is a video model; an image encoder is given single frames."""
    return hasattr(model, 'num_frames')


def sampling_of(model: nn.Module, span: int) -> Sampling:
    """The frames of a clip for a model: its number of them, over so many at 30 a second; one for an image encoder."""
    return Sampling(model.num_frames, span) if takes_clips(model) else Sampling(1, 1)


def views_of(model: nn.Module, sampling: Sampling = RECOGNITION, **changes: Any) -> Views:
    """The views that a model takes: one centred clip under the centre crop, of its size and preprocessing.

    Args:
        model: A model of this package; to an image encoder the frames of a video are images.
        sampling: Time between the frames; their number is the model's.
        **changes: Other fields of `Views`; image encoders take any `size` that is a multiple of their patch.

    Raises:
        ValueError: The model's input is not square, or the size is no multiple of the patch.
    """
    config = resolve_model_data_config(model)
    height, width = get_model_input_config(model)['input_size'][-2:]
    if height != width:
        raise ValueError(f'the model takes {height} x {width} pixels; files are prepared for square inputs only')
    fields = dict(
        size=height, mean=tuple(config['mean']), std=tuple(config['std']), interpolation=config['interpolation'],
        sampling=sampling_of(model, sampling.span))
    size, patch = changes.get('size'), getattr(getattr(model, 'patch_embed', None), 'patch_size', (1, 1))
    if size is not None and not changes.get('whole') and any(size % p for p in patch):
        raise ValueError(f'size={size}: must be a multiple of the patch size {patch[0]}')
    return Views(**dict(fields, **changes))


def groups_of(num_files: int, views: Views, batch_size: int) -> list[Group]:
    """All files in groups: one of a time course, otherwise as many as fill a batch."""
    if batch_size < 1:
        raise ValueError(f'batch_size={batch_size}: must be at least 1')
    per_file = 1 if views.jitter else views.num_clips * len(views.crops)
    size = 1 if views.stride is not None else math.ceil(batch_size / per_file)
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
        num_workers: int = 0,
        time_limit: float = 60.0,
        progress: Callable[[float], Any] = lambda files: None,
        report: Callable[[str, str], Any] = lambda path, reason: None,
) -> Iterator[RowBatch]:
    """Apply a function to the views of files, batch by batch.

    Args:
        function: From a batch [B, C, T, H, W] (of images [B, C, H, W]) to a row for each.
        groups: Which files; indices into `paths`.
        paths: Videos, or images, not both.
        views: Which views of each.
        device: Where the function takes its input.
        dtype: Of the function's input.
        batch_size: Views at a time.
        num_workers: Processes that decode ahead, as in `load_views`.
        time_limit: As in `load_views`.
        progress: Told the number of files (or the share of one) that was just done.
        report: Told of each file that cannot be read, with the reason.

    Raises:
        ValueError: Videos and images together.
    """
    if len({is_image(path) for path in paths}) > 1:
        raise ValueError('videos and images are of different shape: give the one or the other')
    jobs = [
        Job(file, paths[file], group.skip if k == 0 else 0) for group in groups for k, file in enumerate(group.files)]
    with closing(load_views(jobs, views, num_workers=num_workers, time_limit=time_limit)) as loaded:
        for group in groups:
            yield from _process_group(function, group, loaded, paths, device, dtype, batch_size, progress, report)


def _process_group(function, group, loaded, paths, device, dtype, batch_size, progress, report):
    number, pending, failed, to_come = group.number, [], {}, len(group.files)

    def batch(last: bool) -> RowBatch:
        rows = torch.empty(0)
        if pending:
            x = torch.stack([view.x for _, view in pending]).to(device, dtype)  # [B, C, T, H, W]
            rows = function(x).float().cpu()
        columns = [[getattr(view, name) for _, view in pending] for name in ('start', 'end', 'time', 'duration')]
        return RowBatch(group.index, number, last, [file for file, _ in pending], *columns, dict(failed), rows)

    while to_come:
        job, item = next(loaded)
        if isinstance(item, View):
            pending.append((job.index, item))
            progress(1 / item.total)
            if len(pending) == batch_size:
                yield batch(last=False)
                pending.clear()
                number += 1
            continue
        if isinstance(item, Failure):
            failed[job.index] = item.reason
            report(paths[job.index], item.reason)
            progress(1)
        to_come -= 1
    yield batch(last=True)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; the model's mode is put back afterwards.

    What is computed are ordinary tensors, which inference mode's are not: those can be neither changed nor trained on.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def placement_of(model: nn.Module) -> dict[str, Any]:
    """Device and dtype of a model."""
    parameter = next(model.parameters())
    return dict(device=parameter.device, dtype=parameter.dtype)


# torchrun's, and those of Intel MPI, Open MPI and MVAPICH, which `accelerate launch --cpu` may use.
_WORLD_SIZES = ('WORLD_SIZE', 'PMI_SIZE', 'OMPI_COMM_WORLD_SIZE', 'MV2_COMM_WORLD_SIZE')


class ProcessGroup:
    """The processes that share the work: those that `accelerate launch` has started, or this one alone.

    Args:
        alone: Do all the work here, even if there are others.
    """

    def __init__(self, alone: bool = False) -> None:
        self.rank, self.size, self.device, self._state = 0, 1, None, None
        if not alone and any(int(os.environ.get(name, '1')) > 1 for name in _WORLD_SIZES):
            try:
                from accelerate import PartialState
            except ImportError as error:
                raise ImportError(
                    "several processes need Accelerate: pip install 'videozoo-timm[accelerate]'") from error
            # One process may be done long before another.
            self._state = PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=30))
            self.rank, self.size = self._state.process_index, self._state.num_processes
            self.device = self._state.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def wait(self) -> None:
        """Wait for all."""
        if self._state:
            self._state.wait_for_everyone()

    def gather(self, items: list[Any]) -> list[Any]:
        """The items of all, in all."""
        if not self._state:
            return items
        from accelerate.utils import gather_object
        return gather_object(items)
