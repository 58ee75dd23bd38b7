"""Training a masked autoencoder on video.

The method and its settings: https://arxiv.org/abs/2205.09113; the published models were trained in the same way.
"""

import random
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..analysis.completion import check_mae, complete
from ..files import atomic_write
from ..inference.pipeline import views_of
from ..inference.reporting import SILENT, Reporter, with_fields
from ..models.masking import MASK_TYPES
from ..video import IN_THIS_PROCESS, RECOGNITION, Augmentation, Job, Reading, Sampling, View, Views, load_views
from .loop import Hook, train
from .run_folder import MODEL, Keeping, make_folder, save_model, writing
from .schedule import Schedule
from .stream import Batch

PUBLISHED = Augmentation(repeats=16)


def pretrain(
    accelerator: Any,
    model: nn.Module,
    paths: Sequence[str],
    schedule: Schedule,
    keeping: Keeping,
    *,
    batch_size: int = 16,
    augmentation: Augmentation = PUBLISHED,
    sampling: Sampling = RECOGNITION,
    mask_types: Sequence[str] = ('random',),
    mask_ratios: Sequence[float] = (0.9,),
    pictures_every: int = 1000,
    seed: int = 0,
    about: Mapping[str, Any] | None = None,
    reading: Reading = IN_THIS_PROCESS,
    reporter: Reporter = SILENT,
    **fields: Any,
) -> Path:
    """Train a masked autoencoder to reconstruct the masked tokens.

    Args:
        accelerator: The result of `make_accelerator`.
        model: A masked autoencoder of this package, trained in place.
        paths: Videos; of a model of images, images.
        schedule: The optimizer and its learning rate.
        keeping: What the run writes, where and when.
        batch_size: Views per batch, in each process.
        augmentation: Augmentation of the views; each decoded clip gives `repeats` of them.
        sampling: Time that a clip spans; the number of frames is the model's.
        mask_types: One of these is sampled for each batch; naming one twice makes it twice as likely.
        mask_ratios: Fraction of the tokens that each type masks, or one for all types.
        pictures_every: Steps between pictures of a completion of the first video that can be read; 0 for none.
        seed: Random seed.
        about: As in `train`.
        reading: How the files are read.
        reporter: As in `train`.
        **fields: Fields of `reading` and `reporter` to replace.

    Returns:
        The trained model's file, `model.safetensors` in the folder.

    Raises:
        ValueError: The model is not a masked autoencoder; a mask type or ratio is invalid; and as `train`.
        FloatingPointError: The loss is not finite.
    """
    check_mae(model)
    reading, reporter = with_fields(reading, reporter, fields)
    masks = _masks(mask_types, mask_ratios)
    views = views_of(model, sampling, augmentation=augmentation, seed=seed)
    about = dict(
        about or {},
        **augmentation.record,
        span=sampling.span,
        masks=masks,
        size=views.size,
        num_frames=views.sampling.num_frames,
    )
    rank, size = accelerator.process_index, accelerator.num_processes
    patch_embed: Any = model.patch_embed
    num_tokens: int = patch_embed.num_patches

    def loss_of(model: nn.Module, batch: Batch) -> torch.Tensor:
        rng = random.Random(f'{seed} mask {batch.number}')
        mask_type, mask_ratio = rng.choice(masks)
        # Of all processes together, so that the masks do not depend on how many there are.
        generator = torch.Generator().manual_seed(rng.getrandbits(63))
        noise = torch.rand(size * len(batch.x), num_tokens, generator=generator)
        noise = noise[rank * len(batch.x) : (rank + 1) * len(batch.x)].to(batch.x.device)
        return model(batch.x, mask_ratio=mask_ratio, mask_type=mask_type, noise=noise)[0]

    def plot(step: int, model: nn.Module) -> None:
        view = _first_view(paths, views_of(model, sampling), reading)
        if view is None:
            return
        for mask_type, mask_ratio in dict.fromkeys(masks):
            result = complete(model, view.x, mask_type=mask_type, mask_ratio=mask_ratio, seed=seed)
            target = keeping.folder / 'pictures' / f'step_{step:08}_{mask_type}{100 * mask_ratio:g}.jpg'
            with writing(accelerator, target):
                if not accelerator.is_main_process:
                    continue
                make_folder(target.parent)
                title = (
                    f'step {step}, mask: {mask_type}, {100 * mask_ratio:g}% masked, PSNR of the masked pixels '
                    f'{result.psnr:.2f} dB'
                )
                with atomic_write(target) as partial:
                    result.picture(title).save(partial)

    def save(model: nn.Module) -> None:
        save_model(accelerator, model, keeping.folder / MODEL)

    train(
        accelerator,
        model,
        paths,
        views,
        loss_of,
        schedule,
        keeping,
        batch_size=batch_size,
        seed=seed,
        about=about,
        hooks=[Hook(pictures_every, plot)] if pictures_every else [],
        finish=save,
        reading=reading,
        reporter=reporter,
    )
    return keeping.folder / MODEL


def _masks(types: Sequence[str], ratios: Sequence[float]) -> list[tuple[str, float]]:
    unknown = [name for name in types if name not in MASK_TYPES]
    if unknown or not types:
        raise ValueError(f'mask types {list(types)}: each must be one of {list(MASK_TYPES)}')
    if len(ratios) == 1:
        ratios = list(ratios) * len(types)
    if len(ratios) != len(types):
        raise ValueError(f'{len(types)} mask types and {len(ratios)} mask ratios: pass one ratio, or one for each type')
    wrong = [ratio for ratio in ratios if not 0 < ratio < 1]
    if wrong:
        raise ValueError(f'mask ratio {wrong[0]}: must be above 0 and below 1')
    return list(zip(types, ratios, strict=True))


def _first_view(paths: Sequence[str], views: Views, reading: Reading) -> View | None:
    """The centered view of the first file that can be read; a few are tried."""
    jobs = [Job(k, path) for k, path in enumerate(paths[:8])]
    with closing(load_views(jobs, views, reading, num_workers=min(1, reading.num_workers))) as loaded:
        return next((item for _, item in loaded if isinstance(item, View)), None)
