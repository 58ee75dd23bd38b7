"""What can be read out of a model's frozen features: linear, nearest-neighbor and attentive probes."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import NotFiniteError
from ..files import check_own_folder, remove_known, save_json
from ..inference.checks import checked_model
from ..inference.losses import losses_of
from ..inference.pipeline import RowBatch, evaluating, groups_of, placement_of, process, views_of
from ..inference.reporting import Reporter, with_fields
from ..video import IN_THIS_PROCESS, ClassFolders, Reading, Views, class_folders
from ._inputs import WARNING, none_read
from .evaluation import TABLES, Evaluation, check_same_classes

__all__ = [
    'PROBES',
    'FrozenFeatures',
    'ProbeResult',
    'check_classes',
    'check_folder',
    'check_linear',
    'frozen_features',
    'probe',
    'save_probes',
]

PROBES = ('linear', 'neighbours', 'attentive')
SUMMARY = 'probes.json'
_HALF = torch.finfo(torch.float16).max  # the patch tokens are kept in float16, in which more would be infinity
REGULARIZATIONS = tuple(10.0**k for k in range(-4, 4))  # C of scikit-learn's logistic regression


class FrozenFeatures(NamedTuple):
    """Features of files of known classes.

    Attributes:
        features: float32 [N, C], what a head would get: of the published ViTs the class token after the final norm.
        tokens: float16 [N, L, C], the patch tokens after the final norm; None unless asked for.
        files: The files that could be read, and their classes.
        failed: Files that could not be read, with the reason.
    """

    features: torch.Tensor
    tokens: torch.Tensor | None
    files: ClassFolders
    failed: list[tuple[str, str]]

    def __repr__(self) -> str:
        tokens = '' if self.tokens is None else f', tokens={list(self.tokens.shape)}'
        failed = f', failed={len(self.failed)}' if self.failed else ''
        return f'FrozenFeatures(features={list(self.features.shape)}{tokens}{failed})'


@dataclass(repr=False)
class ProbeResult:
    """How well a probe predicts held-out files.

    Attributes:
        probe: One of `PROBES`.
        evaluation: The predictions for the held-out files.
        settings: What was chosen: `C`, `k`, epochs.
    """

    probe: str
    evaluation: Evaluation
    settings: dict[str, Any]

    def __repr__(self) -> str:
        settings = ''.join(f', {key}={value}' for key, value in self.settings.items())
        return f'ProbeResult({self.probe}{settings}, {self.evaluation!r})'

    def _repr_png_(self) -> bytes | None:
        return self.evaluation._repr_png_()

    def summary(self) -> dict[str, Any]:
        """Accuracies with their 95% intervals (`wilson_interval`), and the settings."""
        accuracies = {key: value for key, value in self.evaluation.summary().items() if key.startswith('top')}
        return dict(probe=self.probe, **self.settings, **accuracies)


def frozen_features(
    model: nn.Module,
    files: ClassFolders | str | os.PathLike[str],
    views: Views | None = None,
    *,
    tokens: bool = False,
    batch_size: int = 4,
    compile: bool = False,
    reading: Reading = IN_THIS_PROCESS,
    reporter: Reporter = WARNING,
    **fields: Any,
) -> FrozenFeatures:
    """Features of the centered clip (or of the image) of each file, in one pass.

    Args:
        model: A model of this package.
        files: What `class_folders` finds, or the folder where it looks.
        views: One view per file; the centered one if None.
        tokens: Keep the patch tokens too; they stay in memory, 2 bytes a value.
        batch_size: Files at a time.
        compile: As in `embed`.
        reading: How the files are read.
        reporter: How progress is reported, and files that cannot be read: by default a warning is logged for each.
        **fields: Fields of `reading` and `reporter` to replace.

    Raises:
        ValueError: None of the files could be read.
    """
    reading, reporter = with_fields(reading, reporter, fields)
    timm_model = checked_model(model)
    if isinstance(views, str):
        raise TypeError(f'views={views!r}: a probe takes one view of each file, as views_of(model) gives it')
    views = views or views_of(timm_model)
    files = files if isinstance(files, ClassFolders) else class_folders(files)

    def compute(x: torch.Tensor) -> torch.Tensor:
        output = timm_model.forward_features(x)
        pooled = timm_model.forward_head(output, pre_logits=True)  # [B, C]
        if not tokens:
            return pooled.unsqueeze(1)
        if output.ndim == 4:  # a ResNet's maps
            patches = output.flatten(2).transpose(1, 2)
        else:
            patches = output[:, timm_model.num_prefix_tokens :]
        return torch.cat([pooled.unsqueeze(1), patches], dim=1)  # [B, 1 + L, C]

    features: list[torch.Tensor] = []
    patches: torch.Tensor | None = None
    kept: list[int] = []
    failed: dict[int, str] = {}
    read_rows: list[RowBatch] = []  # without their values
    groups = groups_of(len(files.paths), views, batch_size)
    with evaluating(timm_model, compile):
        for batch in process(
            compute,
            groups,
            files.paths,
            views,
            batch_size=batch_size,
            whole=compile,
            what='features',
            reading=reading,
            reporter=reporter,
            **placement_of(timm_model),
        ):
            failed |= batch.failed
            read_rows.append(batch._replace(values=torch.empty(0)))
            rows = [k for k, file in enumerate(batch.files) if file not in failed]
            if not rows:
                continue
            kept += [batch.files[k] for k in rows]
            features.append(batch.values[rows, 0].float())
            if tokens:
                if patches is None:  # at once, so that memory holds them once
                    patches = torch.empty(len(files.paths), *batch.values[0, 1:].shape, dtype=torch.float16)
                patches[len(kept) - len(rows) : len(kept)] = batch.values[rows, 1:].clamp(-_HALF, _HALF)
    for path, reason in losses_of(read_rows, files.paths):
        reporter.lose(path, reason)
    if not kept:
        raise ValueError(none_read(len(files.paths), failed.values(), files.folder))
    read = files._replace(paths=[files.paths[k] for k in kept], targets=[files.targets[k] for k in kept])
    return FrozenFeatures(
        torch.cat(features),
        None if patches is None else patches[: len(kept)],
        read,
        [(files.paths[k], reason) for k, reason in sorted(failed.items())],
    )


def probe(
    name: str,
    train: FrozenFeatures,
    held_out: FrozenFeatures,
    *,
    epochs: int = 30,
    seed: int = 0,
    device: torch.device | str = 'cpu',
    progress: Callable[[int], Any] = lambda epochs: None,
) -> ProbeResult:
    """Fit a probe on features and predict held-out ones.

    Args:
        name: 'linear': logistic regression on standardized features, its regularization chosen on a fifth of the
            training files. 'neighbours': the 20 nearest by cosine, each weighted by exp(similarity / 0.07), as DINO was
            evaluated. 'attentive': an attention-pooling block over the patch tokens, and a linear layer.
        train: What to fit; with tokens for the attentive probe.
        held_out: What to predict.
        epochs: Of the attentive probe.
        seed: Random seed.
        device: Where the attentive probe is trained.
        progress: Told the number of epochs that was just done.

    Raises:
        TypeError: `train` or `held_out` is not what `frozen_features` gives.
        ValueError: No such probe, classes that differ, or a class with too few files to fit.
        NotFiniteError: The probe's predictions are NaN.
        ImportError: scikit-learn is not installed (for 'linear').
    """
    if name not in PROBES:
        raise ValueError(f'no probe {name!r}; there are {list(PROBES)}')
    for argument, features in (('train', train), ('held_out', held_out)):
        if not isinstance(features, FrozenFeatures):
            kind = type(features).__name__
            raise TypeError(f'{argument} must be features, got {kind}; frozen_features(model, folder) gives them')
    check_classes(train.files, held_out.files)
    if name == 'linear':
        log_probabilities, settings = _linear(train, held_out, seed)
    elif name == 'neighbours':
        log_probabilities, settings = _neighbours(train, held_out)
    else:
        log_probabilities, settings = _attentive(train, held_out, epochs, seed, device, progress)
    if log_probabilities.isnan().any():
        raise NotFiniteError(
            f'the {name} probe gives NaN: its features are too large, or its training diverged; nothing is measured'
        )
    files = held_out.files
    evaluation = Evaluation(
        files.classes, files.paths, torch.tensor(files.targets), log_probabilities.float(), held_out.failed
    )
    return ProbeResult(name, evaluation, settings)


def check_classes(train: ClassFolders, held_out: ClassFolders) -> None:
    """Raise a ValueError unless both have the same classes, at least two, and files to fit of all that are held out."""
    check_same_classes(train, held_out)
    if len(set(train.targets)) < 2:
        raise ValueError(f'{train.folder} has files of one class only; a probe tells classes apart')
    lacking = sorted(set(held_out.targets) - set(train.targets))
    if lacking:
        raise ValueError(
            f'{train.folder} has no files of the class {train.classes[lacking[0]]!r}, {held_out.folder} has'
        )


def check_folder(folder: Path) -> None:
    """Raise a ValueError if what stands where the tables of a probe go is a link, or another user's."""
    for name in PROBES:
        if os.path.lexists(folder / name):
            check_own_folder(folder / name, 'the tables of a probe')


def save_probes(probes: Sequence[ProbeResult], folder: Path, about: dict[str, Any]) -> None:
    """Write `probes.json`, and of the last probe a folder with the tables of an evaluation.

    Called after each probe, it keeps what is done; tables of other probes are removed with the first.

    Raises:
        ValueError: A link, or something of another user, stands in the way.
        OSError: The disk is full, or not to be written.
    """
    check_folder(folder)
    if len(probes) == 1:
        for name in PROBES:
            remove_known(folder / name, TABLES)
            with suppress(OSError):  # something else is in it, or there is none
                (folder / name).rmdir()
    folder.mkdir(parents=True, exist_ok=True)
    content = dict(about, probes=[probed.summary() for probed in probes])
    save_json(content, folder / SUMMARY)  # first: it tells whose the others are
    probes[-1].evaluation.save(folder / probes[-1].probe, dict(about, **probes[-1].settings))


def check_linear(train: ClassFolders) -> None:
    """Refuse what a linear probe cannot be fitted to.

    Raises:
        ImportError: scikit-learn is not installed.
        ValueError: A class has a single file.
    """
    try:
        import sklearn as sklearn
    except ImportError as error:
        raise ImportError("the linear probe needs scikit-learn: pip install 'videozoo-timm[probe]'") from error
    alone = [name for k, name in enumerate(train.classes) if train.targets.count(k) == 1]
    if alone:
        raise ValueError(
            f'{train.folder} has a single file of the class {alone[0]!r}; the linear probe needs two of each, to '
            f'choose its regularization; the other probes (neighbours, attentive) do not'
        )


def _linear(train, held_out, seed):
    check_linear(train.files)
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedShuffleSplit
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = train.features.double().numpy(), torch.tensor(train.files.targets).numpy()
    # A fifth of the files, but of each class one; of equally good regularizations the strongest.
    held = max(len(y) // 5, len(set(train.files.targets)))
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
        {'logisticregression__C': REGULARIZATIONS},
        cv=StratifiedShuffleSplit(1, test_size=held, random_state=seed),
    )
    search.fit(x, y)
    given = torch.from_numpy(search.predict_log_proba(held_out.features.double().numpy()))
    # A class without files to fit has no probability.
    answers = torch.full((len(given), len(train.files.classes)), -float('inf'), dtype=torch.float64)
    answers[:, torch.from_numpy(search.classes_)] = given
    return answers, dict(C=search.best_params_['logisticregression__C'])


def _neighbours(train, held_out, k=20, temperature=0.07):
    k = min(k, len(train.features))
    known, targets = F.normalize(train.features, dim=1), torch.tensor(train.files.targets)
    votes = known.new_zeros(len(held_out.features), len(train.files.classes))
    for i, rows in enumerate(F.normalize(held_out.features, dim=1).split(1024)):
        similarity, nearest = (rows @ known.T).topk(k)  # [n, k] both
        weights = ((similarity - 1) / temperature).exp()
        votes[1024 * i : 1024 * i + len(rows)].scatter_add_(1, targets[nearest], weights)
    return votes.double().clamp(min=1e-30).log().log_softmax(dim=1), dict(k=k)


def _attentive(train, held_out, epochs, seed, device, progress):
    from timm.layers import AttentionPoolLatent  # pyright: ignore[reportPrivateImportUsage]  # timm has no __all__
    from timm.optim import create_optimizer_v2  # pyright: ignore[reportPrivateImportUsage]  # timm has no __all__

    if train.tokens is None or held_out.tokens is None:
        raise ValueError('the attentive probe needs the patch tokens: frozen_features(tokens=True)')
    if epochs < 1:
        raise ValueError(f'epochs={epochs}: must be at least 1')
    width, num_classes = train.tokens.shape[-1], len(train.files.classes)
    num_heads = next((heads for heads in (16, 12, 8, 6, 4, 3, 2) if width % heads == 0 and width // heads >= 32), 1)
    targets, single = torch.tensor(train.files.targets), torch.float32
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = nn.Sequential(
            nn.LayerNorm(width, dtype=single),
            AttentionPoolLatent(width, num_heads=num_heads, mlp_ratio=4.0, norm_layer=nn.LayerNorm, dtype=single),
            nn.LayerNorm(width, dtype=single),
            nn.Linear(width, num_classes, dtype=single),
        ).to(device)
        optimizer = create_optimizer_v2(head, opt='adamw', lr=1e-3, weight_decay=0.05)
        batch_size = min(64, len(targets))
        steps = epochs * -(-len(targets) // batch_size)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-3, total_steps=steps, pct_start=0.1)
        for _ in range(epochs):
            for rows in torch.randperm(len(targets)).split(batch_size):
                logits = head(train.tokens[rows].to(device).float())
                loss = F.cross_entropy(logits, targets[rows].to(device), label_smoothing=0.1)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(head.parameters(), 1.0)
                optimizer.step()
                schedule.step()
            progress(1)
    head.eval()
    with torch.no_grad():
        logits = torch.cat([head(rows.to(device).float()).cpu() for rows in held_out.tokens.split(64)])
    return logits.double().log_softmax(dim=1), dict(epochs=epochs)
