"""Training a masked autoencoder on video.

The method and its settings: https://arxiv.org/abs/2205.09113; the published models were trained in the same way.
"""
import random
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..analysis.completion import check_mae, complete
from ..files import atomic_write
from ..inference.pipeline import views_of
from ..models.masking import MASK_TYPES
from ..video import RECOGNITION, Augmentation, Job, Sampling, View, load_views
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
        **options: Any,
) -> Path:
    """Train a masked autoencoder to fill in what is dropped.

    Args:
        accelerator: Of `make_accelerator`.
        model: A masked autoencoder of this package, changed in place.
        paths: Videos.
        schedule: How the weights change.
        keeping: What is written, and when.
        batch_size: Views a batch, in each process.
        augmentation: Of the views; `repeats` are drawn of each clip that is decoded.
        sampling: Time between the frames; their number is the model's.
        mask_types: One of these is drawn for each batch; naming one twice makes it twice as likely.
        mask_ratios: Share of the tokens that each drops, or one for all.
        pictures_every: Steps between completions that are drawn of the first video that can be read.
        seed: Of everything that is random.
        **options: `about`, `num_workers`, `time_limit`, `progress`, `report`, `say` of `train`.

    Returns:
        The trained model's file, `model.safetensors` in the folder.

    Raises:
        ValueError: The model is no masked autoencoder; a mask that cannot be; and as `train`.
        FloatingPointError: The loss is not finite.
    """
    check_mae(model)
    masks = _masks(mask_types, mask_ratios)
    views = views_of(model, sampling, augmentation=augmentation, seed=seed)
    about = dict(
        options.pop('about', {}), **vars(augmentation), span=sampling.span, masks=masks, size=views.size,
        num_frames=model.num_frames)
    rank, size = accelerator.process_index, accelerator.num_processes
    num_tokens = model.patch_embed.num_patches

    def loss_of(model: nn.Module, batch: Batch) -> torch.Tensor:
        rng = random.Random(f'{seed} mask {batch.number}')
        mask_type, mask_ratio = rng.choice(masks)
        # Of all processes together, so that the masks do not depend on how many there are.
        generator = torch.Generator().manual_seed(rng.getrandbits(63))
        noise = torch.rand(size * len(batch.x), num_tokens, generator=generator)
        noise = noise[rank * len(batch.x):(rank + 1) * len(batch.x)].to(batch.x.device)
        return model(batch.x, mask_ratio=mask_ratio, mask_type=mask_type, noise=noise)[0]

    def draw(step: int, model: nn.Module) -> None:
        view = _first_view(
            paths, views_of(model, sampling), options.get('num_workers', 0), options.get('time_limit', 60.0))
        if view is None:
            return
        for mask_type, mask_ratio in dict.fromkeys(masks):
            result = complete(model, view.x, mask_type=mask_type, mask_ratio=mask_ratio, seed=seed)
            target = keeping.folder / 'pictures' / f'step_{step:08}_{mask_type}{100 * mask_ratio:g}.jpg'
            with writing(accelerator, target):
                if not accelerator.is_main_process:
                    continue
                make_folder(target.parent)
                title = (f'step {step}, mask: {mask_type}, {100 * mask_ratio:g}% dropped, PSNR of the dropped pixels '
                         f'{result.psnr:.2f} dB')
                with atomic_write(target) as partial:
                    result.picture(title).save(partial)

    def save(model: nn.Module) -> None:
        save_model(accelerator, model, keeping.folder / MODEL)

    train(
        accelerator, model, paths, views, loss_of, schedule, keeping, batch_size=batch_size, seed=seed, about=about,
        hooks=[Hook(pictures_every, draw)] if pictures_every else [], finish=save, **options)
    return keeping.folder / MODEL


def _masks(types, ratios):
    unknown = [name for name in types if name not in MASK_TYPES]
    if unknown or not types:
        raise ValueError(f'mask types {list(types)}: each must be one of {list(MASK_TYPES)}')
    if len(ratios) == 1:
        ratios = list(ratios) * len(types)
    if len(ratios) != len(types):
        raise ValueError(f'{len(types)} mask types and {len(ratios)} mask ratios: give one ratio, or one for each')
    wrong = [ratio for ratio in ratios if not 0 < ratio < 1]
    if wrong:
        raise ValueError(f'mask ratio {wrong[0]}: must be above 0 and below 1')
    return list(zip(types, ratios, strict=True))


def _first_view(paths, views, num_workers, time_limit):
    """The centred view of the first of the files that can be read; a few are tried."""
    jobs = [Job(k, path) for k, path in enumerate(paths[:8])]
    with closing(load_views(jobs, views, num_workers=min(1, num_workers), time_limit=time_limit)) as loaded:
        return next((item for _, item in loaded if isinstance(item, View)), None)
