"""What a model did not expect: how far its predictions are from what comes, along each video."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import NotFiniteError
from ..inference.checks import checked_model
from ..inference.journal import Journal
from ..inference.losses import losses_of
from ..inference.pipeline import Group, ProcessGroup, RowBatch, evaluating, groups_of, placement_of, process, views_of
from ..inference.provenance import versions, weights_of
from ..inference.reporting import Reporter, with_fields
from ..inference.unfinished import resumed, state_of
from ..outputs import Output
from ..text import counted
from ..video import IN_THIS_PROCESS, Reading, VideoError, Windows, probe, sliding
from ._inputs import WARNING, Paths, listed, none_read
from .surprise_files import RECORD, TABLE, save_run, save_table
from .surprise_pictures import SurprisePicture
from .surprise_scores import SCORES, LikelihoodScores, MaskedScores

__all__ = ['Series', 'Surprise', 'surprise']

CONTEXTS = (2, 4, 6, 8, 10)


@dataclass(repr=False)
class Series:
    """The scores of one video, window by window.

    W windows; K contexts, or 1 of other masks.

    Attributes:
        path: The video.
        starts: Start of each window, in seconds from the first frame.
        ends: End of each window.
        scores: float32 [W, K], the higher the less expected.
        baselines: The same of predictions without a model: 'zero' (not of generators), and of contexts 'copy' (the last
            visible frame stays; of generators the fraction of codes that do not).
        maps: float32 [W, K, T', H', W'], the error of each token, 0 where it was visible; None unless asked for.
        duration: Of the video, in seconds.
        padded: Fraction of each window's frames that repeat the last one.
        damaged: Fraction of each window's frames that are damaged or did not decode.
        views: How its windows were read.
    """

    path: str
    starts: list[float]
    ends: list[float]
    scores: torch.Tensor
    baselines: dict[str, torch.Tensor]
    maps: torch.Tensor | None
    duration: float
    padded: list[float]
    damaged: list[float]
    views: Windows

    def times(self, context: int = 0) -> np.ndarray:
        """The middle of what is predicted in each window, after so many visible frames, in seconds: float64 [W]."""
        seen = context * self.views.step
        return (np.array(self.starts) + seen + np.array(self.ends)) / 2

    def __repr__(self) -> str:
        return f'Series({self.path!r}, {counted(len(self.starts), "window")}, mean {self.scores.mean():.4g})'


@dataclass(repr=False)
class Surprise:
    """The series of videos.

    Attributes:
        series: Of each video that could be scored, in the order in which they were given.
        score: 'mse', 'l1' or 'nll'.
        contexts: Visible frames of each column; empty of other masks, which have one column.
        failed: The videos without scores, with the reasons in words.
        lost: The videos of which a part is missing, with what.
        scorer: What scores windows, with the model.
    """

    series: list[Series]
    score: str
    contexts: tuple[int, ...]
    failed: list[tuple[str, str]]
    lost: list[tuple[str, str]]
    scorer: MaskedScores | LikelihoodScores

    def __repr__(self) -> str:
        return f'Surprise({self.score}, {counted(len(self.series), "video")}, contexts={list(self.contexts)})'

    def picture(self, *numbers: int, **options: Any) -> SurprisePicture:
        """The picture of a video, or of several to compare.

        Args:
            *numbers: Their places in `series`.
            **options: `labels`, `events` (seconds to mark), `pixels` and `window`, as in `SurprisePicture`.
        """
        return SurprisePicture(self, numbers or (0,), **options)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the series as a table: a row for each window and context, `.csv`.

        Raises:
            ValueError: Another ending, or nothing can be written there.
        """
        Output(Path(path), out='path').check_file(('.csv',))
        save_table(self.series, self.contexts, Path(path))


def surprise(
    model: nn.Module,
    videos: Paths,
    *,
    score: str = 'mse',
    norm_pix_loss: bool | None = None,
    contexts: Sequence[int] = CONTEXTS,
    mask_type: str = 'context',
    mask_ratio: float | None = None,
    num_masks: int = 1,
    seed: int = 0,
    frame_step: int = 4,
    frame_rate: float | None = 30.0,
    stride: int = 2,
    offset: float | Sequence[float] = 0.0,
    frames: str = '',
    maps: bool = False,
    batch_size: int = 8,
    out: str | os.PathLike[str] | None = None,
    about: Mapping[str, Any] | None = None,
    start_over: bool = False,
    keep_journal: bool = False,
    team: ProcessGroup | None = None,
    reading: Reading = IN_THIS_PROCESS,
    reporter: Reporter = WARNING,
    **fields: Any,
) -> Surprise | None:
    """How far videos are from what a model expects of them, window by window.

    A window has as many frames as the model takes, `frame_step` frames of the video apart. Its first frames are
    visible, the model predicts the others, and the score says how wrong it is. With `out` what is done is kept if the
    run is killed, and the same call goes on from there.

    Args:
        model: A masked autoencoder of clips, or for 'nll' a generator of videos.
        videos: Video files: a list, or one path; folders and patterns stand for their files (`find_media`).
        score: 'mse': the reconstruction loss as published, mean squared error of the masked pixels. 'l1': mean absolute
            error of pixels in [0, 1], those that come and those that are predicted each normalized in their tubelet and
            channel (arXiv 2502.11831). 'nll': negative log-likelihood in nats a code.
        norm_pix_loss: Of 'mse': compare with pixels normalized in each tubelet, as a model predicts that was trained
            so; None is what the model says.
        contexts: Numbers of visible frames; each gives a column of scores.
        mask_type: 'context' masks all frames after the visible ones. 'random', 'temporal' and 'center' are the masks of
            training, and give one column.
        mask_ratio: Fraction of the tokens that these mask; None is what the model was trained with.
        num_masks: Random masks to average over, the same for all windows and videos.
        seed: Random seed of the first random mask; those of the others follow.
        frame_step: Frames of the video from one frame of a window to the next.
        frame_rate: Frames a second that a video is taken to have, so that steps last equally long in all; None is what
            each file says.
        stride: Frames of a window from its start to that of the next one.
        offset: Start of the first window, in seconds from the first frame; or one of each file.
        frames: The order of the frames in each window, as in `Sampling`: '', 'shuffled', 'reversed' or 'static'.
        maps: Keep the error of each token.
        batch_size: Windows at a time.
        out: Folder for the series as a table, `surprise.csv`, and for all that decides about them, `surprise.json`.
        about: What else the latter tells; `model` says which model it is.
        start_over: Replace results of other settings in `out`, and throw away what an unfinished run has left of them.
        keep_journal: Keep in `out` by what an unfinished run goes on: the same call then gives its result without doing
            it again, until `inference.journal.remove_journal` removes it.
        team: The processes that share the work; with `out` only.
        reading: How the files are read.
        reporter: How progress and files without scores are reported.
        **fields: Fields of `reading` and `reporter` to replace.

    Returns:
        The series. None in all processes of a team but the first.

    Raises:
        VideoError: None of the videos could be read, or all are shorter than a window.
        NotFiniteError: All scores are NaN or infinite.
        ValueError: An option that the model does not allow, or another call's results or unfinished run in `out`, in
            words.
    """
    model = checked_model(model)
    reading, reporter = with_fields(reading, reporter, fields)
    files = listed(videos)
    if score not in SCORES:
        raise ValueError(f'score={score!r}: must be one of {list(SCORES)}')
    scorer: MaskedScores | LikelihoodScores
    if score == 'nll':
        if mask_type != 'context' or mask_ratio is not None or norm_pix_loss is not None:
            raise ValueError("score='nll' has no masks and no pixels: contexts say how much is given")
        scorer = LikelihoodScores(model, contexts)
    else:
        scorer = MaskedScores(model, score, contexts, mask_type, mask_ratio, num_masks, seed, norm_pix_loss)
    views = _views(model, files, frame_step, frame_rate, stride, offset, frames)
    groups = groups_of(len(files), views[0], batch_size)

    def batches_of(groups: list[Group]) -> Iterator[RowBatch]:
        with evaluating(model):
            yield from process(
                lambda x: scorer(x, maps),
                groups,
                files,
                views,
                batch_size=batch_size,
                what='scores',
                reading=reading,
                reporter=reporter,
                **placement_of(model),
            )

    if out is None:
        return _collect(batches_of(groups), files, views, score, scorer, maps, reporter)
    out, team = Path(out), team or ProcessGroup()
    settings = dict(
        score=score,
        norm_pix_loss=norm_pix_loss,
        contexts=list(contexts),
        mask_type=mask_type,
        mask_ratio=mask_ratio,
        num_masks=num_masks,
        seed=seed,
        frame_step=frame_step,
        frame_rate=frame_rate,
        stride=stride,
        offset=list(offset) if isinstance(offset, Sequence) else offset,
        frames=frames,
        size=views[0].size,
        num_frames=views[0].sampling.num_frames,
        **asdict(reading.pixels),
        batch_size=batch_size,
    )
    now = dict(about or {}, **weights_of(model), **settings, videos=files)
    Output(out, force='start_over').check_recorded(RECORD, now, start_over)
    is_new = team.is_main and not out.exists()
    if team.is_main:
        out.mkdir(parents=True, exist_ok=True)
    team.wait()
    placed = dict(device=placement_of(model)['device'].type, versions=versions())
    rows = dict(maps=maps, baselines=list(scorer.baselines), videos=[state_of(path) for path in files])
    journal = Journal(out / TABLE, dict(now, **placed, **rows))
    run = resumed(journal, out / TABLE, groups, batches_of, team, reporter, start_over, keep=keep_journal)
    try:
        with run as done:
            if done is None:
                return None
            result = _collect(done, files, views, score, scorer, maps, reporter)
            save_run(out, dict(now, **placed), result)
    except VideoError:
        if is_new:
            with suppress(OSError):  # something else is in it
                out.rmdir()
        raise
    return result


def _views(
    model: Any,
    files: list[str],
    frame_step: int,
    frame_rate: float | None,
    stride: int,
    offset: float | Sequence[float],
    frames: str,
) -> list[Windows]:
    """The windows of each file."""
    offsets = list(offset) if isinstance(offset, Sequence) else [offset] * len(files)
    if len(offsets) != len(files):
        raise ValueError(
            f'offset: {len(offsets)} numbers for {counted(len(files), "file")}; give one, or one of each file'
        )
    if frame_step < 1:
        raise ValueError(f'frame_step={frame_step}: must be at least 1 frame')
    if frame_rate is not None and not frame_rate > 0:
        raise ValueError(f'frame_rate={frame_rate}: must be more than 0 frames a second, or None')
    own = views_of(model)
    rates = [_rate_of(path) if frame_rate is None else frame_rate for path in files]
    return [sliding(own, frame_step / rate, stride, begin, frames) for rate, begin in zip(rates, offsets, strict=True)]


def _rate_of(path: str) -> float:
    """Frames a second of a file; any of one that cannot be read, which is told when it is."""
    try:
        return probe(path).fps
    except (OSError, ValueError, VideoError):
        return 30.0


def _collect(
    batches: Iterable[RowBatch],
    files: list[str],
    views: list[Windows],
    score: str,
    scorer: MaskedScores | LikelihoodScores,
    maps: bool,
    reporter: Reporter,
) -> Surprise:
    """The series in the order of the files, without those of files that failed; what is missing is told."""
    batches = list(batches)
    failed = {file: reason for batch in batches for file, reason in batch.failed.items()}
    lost = losses_of(batches, files)
    for path, reason in lost:
        reporter.lose(path, reason)
    by_file: dict[int, list[tuple[RowBatch, int]]] = {}
    for batch in batches:
        for row, file in enumerate(batch.files):
            by_file.setdefault(file, []).append((batch, row))
    series = [
        _series(files[file], views[file], rows, scorer, maps)
        for file, rows in sorted(by_file.items())
        if file not in failed
    ]
    if not series:
        is_finite = all(np.isfinite(np.asarray(batch.values)).all() for batch in batches)
        raise (VideoError if is_finite else NotFiniteError)(none_read(len(files), failed.values()))
    failures = [(files[file], reason) for file, reason in sorted(failed.items())]
    return Surprise(series, score, scorer.contexts, failures, lost, scorer)


def _series(path: str, views: Windows, rows: list[tuple[RowBatch, int]], scorer: Any, maps: bool) -> Series:
    values = torch.from_numpy(np.stack([np.asarray(batch.values[row]) for batch, row in rows]))  # [W, K, 1 + ...]
    first = 1 + len(scorer.baselines)
    return Series(
        path,
        [batch.starts[row] for batch, row in rows],
        [batch.ends[row] for batch, row in rows],
        values[..., 0].contiguous(),
        {name: values[..., 1 + k].contiguous() for k, name in enumerate(scorer.baselines)},
        values[..., first:].unflatten(2, scorer.grid).contiguous() if maps else None,
        rows[0][0].durations[rows[0][1]],
        [batch.padded[row] for batch, row in rows],
        [batch.damaged[row] for batch, row in rows],
        views,
    )
