"""How well a model recognizes."""

import os
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from ..figures import confusion_figure, figure_png, save_confusion
from ..files import save_csv, save_json
from ..inference.checks import checked_model, name_of
from ..inference.losses import losses_of
from ..inference.pipeline import ProcessGroup, RowBatch, evaluating, groups_of, placement_of, process, views_of
from ..inference.reporting import Reporter, with_fields
from ..paths import as_path
from ..text import counted
from ..video import IN_THIS_PROCESS, ClassFolders, Reading, Views, class_folders, is_image
from ._inputs import WARNING, Paths, listed, none_read
from .intervals import wilson_interval
from .labels import known_labels

__all__ = [
    'PUBLISHED_JITTER',
    'TABLES',
    'ClassFolders',
    'Evaluation',
    'NothingEvaluatedError',
    'check_head',
    'check_same_classes',
    'class_folders',
    'evaluate',
    'parse_views',
    'predict',
]

PUBLISHED_JITTER = (256, 320)  # short sides, in pixels, that the published evaluation samples from at 224 px


@dataclass(repr=False)
class Evaluation:
    """Predictions for files of known classes.

    Attributes:
        classes: Names of the classes, in the order of the model's head.
        paths: The files that could be read.
        targets: int64 [N], their classes.
        log_probabilities: float32 [N, C], natural logarithm of the softmax, which is averaged over a file's views.
        failed: Files that could not be read, with the reason.
    """

    classes: list[str]
    paths: list[str]
    targets: torch.Tensor
    log_probabilities: torch.Tensor
    failed: list[tuple[str, str]] = field(default_factory=list)

    def __repr__(self) -> str:
        failed = f', failed={len(self.failed)}' if self.failed else ''
        return (
            f'Evaluation({counted(len(self.paths), "file")}, {counted(len(self.classes), "class")}, '
            f'top1={self.top(1):.1%}, top5={self.top(5):.1%}{failed})'
        )

    def _repr_png_(self) -> bytes | None:
        return figure_png(lambda: confusion_figure(self.confusion.numpy(), self.classes))

    def top(self, k: int) -> float:
        """Fraction of the files whose class is among the k most probable."""
        return self.hits(k).double().mean().item()

    def hits(self, k: int) -> torch.Tensor:
        """bool [N], whether a file's class is among the k most probable."""
        best = self.log_probabilities.topk(min(k, len(self.classes))).indices  # [N, k]
        return (best == self.targets.unsqueeze(1)).any(dim=1)

    @property
    def loss(self) -> float:
        """Mean cross-entropy, in nats."""
        return -self.log_probabilities.double().gather(1, self.targets.unsqueeze(1)).mean().item()

    @property
    def confusion(self) -> torch.Tensor:
        """int64 [C, C], files by true class and by the most probable one."""
        num_classes = len(self.classes)
        index = self.targets * num_classes + self.log_probabilities.argmax(dim=1)
        return index.bincount(minlength=num_classes**2).view(num_classes, num_classes)

    def per_class(self) -> list[dict[str, Any]]:
        """Name, number of files, top-1 and top-5 of each class with their intervals; None where a class has no file."""
        hits = {f'top{k}': self.hits(k) for k in (1, 5)}
        rows = []
        for index, name in enumerate(self.classes):
            mine = self.targets == index
            row = {'class': name, 'files': int(mine.sum())}
            for key, right in hits.items():
                row |= _with_interval(key, right[mine])
            rows.append(row)
        return rows

    def summary(self) -> dict[str, Any]:
        """Numbers of files and classes, top-1 and top-5 with their 95% intervals (`wilson_interval`), and loss."""
        return dict(
            files=len(self.paths),
            failed=len(self.failed),
            classes=len(self.classes),
            **_with_interval('top1', self.hits(1)),
            **_with_interval('top5', self.hits(5)),
            loss=self.loss,
        )

    def save(self, folder: str | os.PathLike[str], about: dict[str, Any] | None = None) -> None:
        """Write `summary.json`, `per_class.csv`, `predictions.csv`, `confusion.csv` and `confusion.png`.

        Args:
            folder: Folder to write to; created if it does not exist.
            about: More entries of `summary.json`.
        """
        folder = as_path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_json({**self.summary(), **(about or {})}, folder / SUMMARY)  # first: it tells whose the others are
        save_csv(self.per_class(), folder / 'per_class.csv')
        probabilities, best = self.log_probabilities.exp().topk(min(5, len(self.classes)))  # [N, 5] both
        save_csv(
            [
                {
                    'path': path,
                    'class': self.classes[target],
                    'loss': -self.log_probabilities[n, target].item(),
                    **{f'predicted {k + 1}': self.classes[index] for k, index in enumerate(best[n].tolist())},
                    **{f'probability {k + 1}': value for k, value in enumerate(probabilities[n].tolist())},
                }
                for n, (path, target) in enumerate(zip(self.paths, self.targets.tolist(), strict=True))
            ],
            folder / 'predictions.csv',
        )
        confusion = self.confusion.numpy()
        save_csv(
            [
                {'true \\ predicted': name, **dict(zip(self.classes, row.tolist(), strict=True))}
                for name, row in zip(self.classes, confusion, strict=True)
            ],
            folder / 'confusion.csv',
        )
        save_confusion(confusion, self.classes, folder / 'confusion.png')


def _with_interval(name: str, hits: torch.Tensor) -> dict[str, float | None]:
    """The fraction of hits bool [N], and the ends of its interval; None of no files."""
    if not len(hits):
        return dict.fromkeys((name, f'{name}_low', f'{name}_high'))
    low, high = wilson_interval(int(hits.sum()), len(hits))
    return {name: hits.double().mean().item(), f'{name}_low': low, f'{name}_high': high}


# What `Evaluation.save` writes.
SUMMARY = 'summary.json'
TABLES = (SUMMARY, 'per_class.csv', 'predictions.csv', 'confusion.csv', 'confusion.png')


class NothingEvaluatedError(ValueError):
    """None of the files could be used.

    Attributes:
        failed: The files, with the reasons.
    """

    def __init__(self, text: str, failed: list[tuple[str, str]]) -> None:
        super().__init__(text, failed)
        self.failed = failed

    def __str__(self) -> str:
        return self.args[0]


def parse_views(protocol: str, views: Views, jitter: tuple[int, int] | None = None, seed: int = 0) -> Views:
    """The views of an evaluation protocol.

    Args:
        protocol: 'CxK' for C clips spread evenly over a video, each under K crops: '1x1' is the centered clip and the
            center crop; with 3 crops along the longer side the short side is the input size, as published. Or 'random':
            one clip anywhere under one random crop, as the published evaluation script samples it.
        views: The model's centered view.
        jitter: Range of short sides that 'random' samples from, in pixels; 256 to 320 at 224 px, as published, if None.
        seed: Random seed of 'random'.

    Raises:
        ValueError: No such protocol.
    """
    if protocol == 'random':
        return replace(
            views, jitter=jitter or tuple(round(side * views.size / 224) for side in PUBLISHED_JITTER), seed=seed
        )
    num_clips, _, num_crops = protocol.partition('x')
    if not num_clips.isdecimal() or int(num_clips) < 1 or num_crops not in ('1', '3'):
        raise ValueError(
            f"views={protocol!r}: must be 'CxK' with C clips and K = 1 or 3 crops, for instance 5x3, or 'random'"
        )
    if num_crops == '1':
        return replace(views, num_clips=int(num_clips))
    return replace(views, num_clips=int(num_clips), crops=(0, 1, 2), short_side=views.size)


def _views_for(model: nn.Module, views: Views | str | None) -> Views:
    center = views_of(checked_model(model))
    return parse_views(views, center) if isinstance(views, str) else views or center


def predict(
    model: nn.Module,
    paths: Paths,
    views: Views | str | None = None,
    *,
    batch_size: int = 4,
    compile: bool = False,
    team: ProcessGroup | None = None,
    reading: Reading = IN_THIS_PROCESS,
    reporter: Reporter = WARNING,
    **fields: Any,
) -> tuple[dict[int, torch.Tensor], dict[int, str]]:
    """Class probabilities of files, averaged over their views.

    Args:
        model: A model with a classification head.
        paths: Videos, or images: a list, or one path; folders and patterns stand for their files (`find_media`).
        views: Which views of each, or a protocol (`parse_views`); the centered one if None.
        batch_size: Views at a time.
        compile: As in `embed`.
        team: The processes that share the work; all get the whole result.
        reading: How the files are read.
        reporter: How progress is reported, and files that cannot be read: by default a warning is logged for each.
        **fields: Fields of `reading` and `reporter` to replace.

    Returns:
        Natural logarithms of the probabilities, float32 [C], by the files' indices; and why files failed.

    Raises:
        ValueError: The model has no head, or there are no files.
    """
    check_head(model)
    reading, reporter = with_fields(reading, reporter, fields)
    views, placement = _views_for(model, views), placement_of(model)
    files = listed(paths)
    team = team or ProcessGroup()
    groups = groups_of(len(files), views, batch_size)[team.rank :: team.size]
    with evaluating(model, compile):
        batches: list[RowBatch] = list(
            process(
                model,
                groups,
                files,
                views,
                batch_size=batch_size,
                # In float64, so that the loss is as exact as the logits.
                finish=lambda logits: logits.double().log_softmax(dim=-1),
                whole=compile,
                what='class scores',
                reading=reading,
                reporter=reporter,
                **placement,
            )
        )
    failed = {file: reason for batch in batches for file, reason in batch.failed.items()}
    rows: dict[int, list[torch.Tensor]] = {}
    for batch in batches:
        for file, row in zip(batch.files, batch.values, strict=True):
            rows.setdefault(file, []).append(row)
    answers = {
        file: (torch.stack(views).double().logsumexp(dim=0) - torch.tensor(float(len(views))).log()).float()
        for file, views in rows.items()
        if file not in failed
    }
    pieces = team.gather([(answers, failed, losses_of(batches, files))])
    if team.is_main:
        for path, reason in (one for *_, lost in pieces for one in lost):
            reporter.lose(path, reason)
    return (
        {file: row for piece, *_ in pieces for file, row in piece.items()},
        {file: reason for _, piece, _ in pieces for file, reason in piece.items()},
    )


def evaluate(
    model: nn.Module,
    files: ClassFolders | str | os.PathLike[str],
    views: Views | str | None = None,
    **options: Any,
) -> Evaluation:
    """Accuracy on files of known classes.

    Args:
        model: A model with a classification head.
        files: What `class_folders` finds, or the folder where it looks.
        views: Which views of each file, or a protocol (`parse_views`); the centered one if None.
        **options: `batch_size`, `compile`, `team`, `reading`, `reporter` and their fields, as in `predict`.

    Raises:
        ValueError: The classes are not as many as the model's; or, with the attribute `failed`, none of the files could
            be read, or all class scores are NaN or infinite.
    """
    check_head(model)
    classes, paths, targets, folder = files if isinstance(files, ClassFolders) else class_folders(files)
    views = _views_for(model, views)
    num_classes = checked_model(model).num_classes
    if len(classes) != num_classes:
        lacking = [name for name in known_labels(model) or () if name not in classes]
        hint = f'; there is none for {", ".join(lacking[:5])}{", ..." if len(lacking) > 5 else ""}' if lacking else ''
        raise ValueError(
            f'{folder} has {counted(len(classes), "class folder")}, the model has {counted(num_classes, "class")}{hint}'
        )
    if any(map(is_image, paths)) and (views.jitter or views.num_clips > 1 or len(views.crops) > 1):
        raise ValueError('images have one view each, the center crop: leave views at 1x1')
    answers, failed = predict(model, paths, views, **options)
    if not answers:
        raise NothingEvaluatedError(
            none_read(len(paths), failed.values(), folder), [(paths[file], reason) for file, reason in failed.items()]
        )
    read = sorted(answers)
    return Evaluation(
        classes,
        [paths[file] for file in read],
        torch.tensor([targets[file] for file in read]),
        torch.stack([answers[file] for file in read]),
        [(paths[file], reason) for file, reason in sorted(failed.items())],
    )


def check_same_classes(train: ClassFolders, held_out: ClassFolders) -> None:
    """Raise a ValueError unless both have the same classes."""
    if train.classes != held_out.classes:
        differ = [
            f'{one.folder} alone has {", ".join(names[:5])}' + (', ...' if len(names) > 5 else '')
            for one, other in ((train, held_out), (held_out, train))
            if (names := sorted(set(one.classes) - set(other.classes)))
        ]
        raise ValueError(f'{held_out.folder} has other classes than {train.folder}: {"; ".join(differ)}')


def check_head(model: nn.Module) -> None:
    """Raise a ValueError unless the model has a classification head."""
    if not getattr(checked_model(model), 'num_classes', 0):
        raise ValueError(
            f'this {name_of(model)} has no classification head: take a finetuned model (`videozoo list` shows their '
            f'classes)'
        )
