"""Training a tokenizer: a 3-D VQGAN that turns clips into grids of codes and back.

The method and its settings: https://arxiv.org/abs/2204.03638 (TATS) and https://github.com/eminorhan/vqgan-gpt-video.
"""

import math
import random
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import UserError
from ..inference.reporting import SILENT, Reporter, with_fields
from ..models.generator_files import save_video_generator
from ..models.video_vqgan import VideoCodebook, VideoVQGAN, VideoVQGANConfig
from ..video import IN_THIS_PROCESS, Augmentation, Job, Reading, Sampling, View, Views, load_views
from .adversaries import PatchDiscriminator, load_lpips
from .loop import Hook, train
from .pictures import save_pictures
from .run_folder import MODEL, Keeping, writing
from .schedule import Schedule
from .stream import Batch

PUBLISHED = Augmentation(scale=(1.0, 1.0), ratio=(1.0, 1.0), hflip=0.0)
SPAN = 57  # frames at 30 a second, so that 16 frames come at the published 8 a second


@dataclass(frozen=True)
class TokenizerLoss:
    """What a tokenizer is trained for, and how its codes follow; the defaults are the published ones.

    Attributes:
        reconstruction: Weight of the mean absolute error of the pixels.
        commitment: Weight of the mean squared distance between what is rounded to codes and these codes.
        decay: Of the moving averages from which the codes are computed.
        restart: A code that is used less often than so many times a batch, by these averages, is moved to a vector of
            the batch; 0 for never, as published.
        image_gan: Weight of a discriminator of single frames; published: 1.
        video_gan: Weight of a discriminator of clips; published: 1.
        feature_matching: Weight of the difference between what their layers make of clips and of reconstructions.
        gan_start: Step from which the discriminators count, and learn.
        perceptual: Weight of LPIPS on one random frame of each clip; published: 4.
    """

    reconstruction: float = 4.0
    commitment: float = 0.25
    decay: float = 0.99
    restart: float = 0.0
    image_gan: float = 0.0
    video_gan: float = 0.0
    feature_matching: float = 4.0
    gan_start: int = 26_000
    perceptual: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f'decay={self.decay}: must be at least 0 and below 1')
        wrong = [name for name, value in vars(self).items() if not value >= 0]
        if wrong:
            raise ValueError(f'{wrong[0]}={getattr(self, wrong[0])}: must be at least 0')


def pretrain_tokenizer(
    accelerator: Any,
    vqgan: VideoVQGAN,
    paths: Sequence[str],
    schedule: Schedule,
    keeping: Keeping,
    *,
    loss: TokenizerLoss | None = None,
    batch_size: int = 8,
    augmentation: Augmentation = PUBLISHED,
    span: int = SPAN,
    crop: Sequence[int] | None = None,
    pictures_every: int = 1000,
    seed: int = 0,
    about: Mapping[str, Any] | None = None,
    reading: Reading = IN_THIS_PROCESS,
    reporter: Reporter = SILENT,
    **fields: Any,
) -> Path:
    """Train a 3-D VQGAN to reconstruct clips through its codes.

    The log has the columns of `train`, the two losses of the row's last batch, and of the codebook's moving averages
    the perplexity and the number of dead codes.

    Args:
        accelerator: The result of `make_accelerator`.
        vqgan: Trained in place.
        paths: Videos.
        schedule: The optimizer and its learning rate. Published: betas 0.5 and 0.9, no weight decay.
        keeping: What the run writes, where and when.
        loss: What it is trained for.
        batch_size: Clips per batch, in each process.
        augmentation: Augmentation of the clips.
        span: Time that a clip spans, in frames at 30 a second; the number of frames is the model's.
        crop: Train on a random box of each clip, of so many frames, rows and columns, multiples of `downsample`: more
            steps in the same time. None for whole clips, as published.
        pictures_every: Steps between reconstructions of the first videos, as pictures and animations; 0 for none.
        seed: Random seed.
        about: As in `train`.
        reading: How the files are read.
        reporter: As in `train`.
        **fields: Fields of `reading` and `reporter` to replace.

    Returns:
        The trained model's file, `model.safetensors` in the folder.

    Raises:
        ValueError: `crop` does not fit; and as `train`.
        FloatingPointError: The loss is not finite.
    """
    check_crop(crop, vqgan.config)
    reading, reporter = with_fields(reading, reporter, fields)
    loss = loss or TokenizerLoss()
    views = clip_views(vqgan.config, span, augmentation, seed)
    about = dict(about or {}, **augmentation.record, span=span, tokenizer=asdict(vqgan.config), loss=asdict(loss))
    about['crop'] = crop and list(crop)
    rank = accelerator.process_index

    def loss_of(model: nn.Module, batch: Batch) -> torch.Tensor:
        x = random_boxes(batch.x, crop, f'{seed} {batch.number} {rank}') if crop else batch.x
        x = x.to(memory_format=torch.channels_last_3d)
        return model(x, batch.number // schedule.accumulate)

    def plot(step: int, model: nn.Module) -> None:
        clips = first_clips(paths, clip_views(vqgan.config, span), reading)
        if clips is not None:
            again = reconstruct(vqgan.eval(), clips.to(accelerator.device)).cpu()
            rows = [row for pair in zip(clips, again, strict=True) for row in pair]
            title = f'step {step}, PSNR {psnr(again, clips).mean():.2f} dB'
            names = ('original', 'reconstructed') * len(clips)
            save_pictures(accelerator, keeping.folder, f'step_{step:08}_reconstructed', rows, names, title, span)

    def save(model: nn.Module) -> None:
        with writing(accelerator, keeping.folder / MODEL):
            if accelerator.is_main_process:
                save_video_generator(vqgan, keeping.folder / MODEL, dict(span=span))

    # Convolutions of few channels take half the time where a pixel's channels are neighbors.
    trained = TokenizerStep(vqgan.to(memory_format=torch.channels_last_3d), loss)
    train(
        accelerator,
        trained,
        paths,
        views,
        loss_of,
        schedule,
        keeping,
        batch_size=batch_size,
        seed=seed,
        about=about,
        hooks=[Hook(pictures_every, plot)] if pictures_every else [],
        measure=lambda model: trained.measured(),
        finish=save,
        reading=reading,
        reporter=reporter,
    )
    return keeping.folder / MODEL


class TokenizerStep(nn.Module):
    """A VQGAN with its loss; in training mode each forward pass updates the codebook.

    Args:
        vqgan: The model.
        loss: What it is trained for.
    """

    def __init__(self, vqgan: VideoVQGAN, loss: TokenizerLoss) -> None:
        super().__init__()
        self.vqgan, self.loss = vqgan, loss
        channels = vqgan.config.in_channels
        self.image_discriminator = PatchDiscriminator(2, channels) if loss.image_gan else None
        self.video_discriminator = PatchDiscriminator(3, channels) if loss.video_gan else None
        self._lpips = [load_lpips()] if loss.perceptual else []  # in a list, so that it is in no checkpoint
        self.parts: dict[str, torch.Tensor] = {}

    def forward(self, x: torch.Tensor, step: int = 0) -> torch.Tensor:
        """Clips [B, 3, T, H, W] in [-0.5, 0.5] -> the loss, a scalar; `step` says whether discriminators count."""
        book = self.vqgan.codebook
        z = self.vqgan.pre_quantized(x)
        with torch.autocast(x.device.type, enabled=False):  # distances need float32
            z = z.float()
            if self.training and not book.N.any():
                start_codebook(book, z)
            codes = self.vqgan.quantize(z.detach())
            nearest = book.look_up(codes)
            commitment = F.mse_loss(z, nearest)
            if self.training:
                update_codebook(book, z, codes, self.loss)
        # The gradient passes the rounding as if it were none.
        again = self.vqgan.decode_embedded(z + (nearest - z).detach()).float()
        reconstruction = F.l1_loss(again, x)
        self.parts = dict(l1=reconstruction.detach(), commitment=commitment.detach())
        loss = self.loss.reconstruction * reconstruction + self.loss.commitment * commitment
        return loss + self._judged(x, again, step)

    def _judged(self, x: torch.Tensor, again: torch.Tensor, step: int) -> torch.Tensor:
        """What the optional parts add to the loss: of discriminators, what both sides learn from, in one step."""
        total = torch.zeros((), device=x.device)
        if not self._lpips and not self.image_discriminator and not self.video_discriminator:
            return total
        chosen = torch.randint(x.shape[2], (len(x),), device=x.device)
        index = torch.arange(len(x), device=x.device)
        frame, frame_again = x[index, :, chosen], again[index, :, chosen]  # [B, C, H, W]
        for lpips in self._lpips:  # its pixels are in [-1, 1]
            distance = lpips.to(x.device)(2 * frame, 2 * frame_again).mean()
            total = total + self.loss.perceptual * distance
            self.parts['lpips'] = distance.detach()
        for name, weight, discriminator, real, ours in (
            ('image', self.loss.image_gan, self.image_discriminator, frame, frame_again),
            ('video', self.loss.video_gan, self.video_discriminator, x, again),
        ):
            if discriminator is None:
                continue
            if step < self.loss.gan_start:  # each parameter needs a gradient where several processes train
                total = total + 0.0 * sum(parameter.sum() for parameter in discriminator.parameters())
                hinge = torch.ones(())
            else:
                told = discriminator.judge(real, ours)
                total = total + weight * (told.generator + told.discriminator)
                total = total + self.loss.feature_matching * told.features
                hinge = told.discriminator.detach()
            self.parts[f'{name}_discriminator'] = hinge
        return total

    def measured(self) -> dict[str, float]:
        """The losses of the last batch, and how the codes are used."""
        used = self.vqgan.codebook.N / self.vqgan.codebook.N.sum().clamp(min=1e-9)
        entropy = -torch.special.xlogy(used, used).sum()
        # A code that is used once in a hundred batches is as good as none.
        dead = int((self.vqgan.codebook.N < 0.01).sum())
        return {**{k: float(v) for k, v in self.parts.items()}, 'perplexity': float(entropy.exp()), 'dead_codes': dead}


@torch.no_grad()
def start_codebook(book: VideoCodebook, z: torch.Tensor) -> None:
    """Put the codes on vectors of the first batch [B, C, T', H', W'], as published."""
    from accelerate.utils import broadcast

    rows = z.movedim(1, -1).flatten(0, -2)  # [B * T' * H' * W', C]
    copies = math.ceil(len(book.N) / len(rows))
    if copies > 1:  # so that no two codes are equal
        rows = rows.repeat(copies, 1)
        rows = rows + 0.01 / math.sqrt(rows.shape[1]) * torch.randn_like(rows)
    chosen: Any = broadcast(rows[torch.randperm(len(rows), device=rows.device)[: len(book.N)]])
    book.embeddings.copy_(chosen)
    book.z_avg.copy_(chosen)
    book.N.fill_(1)


@torch.no_grad()
def update_codebook(book: VideoCodebook, z: torch.Tensor, codes: torch.Tensor, loss: TokenizerLoss) -> None:
    """Move each code to the mean of the vectors that it stands for, by moving averages over all processes' batches.

    Args:
        book: Changed in place.
        z: What was rounded [B, C, T', H', W'].
        codes: To which codes, int64 [B, T', H', W'].
        loss: `decay` and `restart` of it count.
    """
    from accelerate.utils import broadcast, reduce

    rows, flat = z.movedim(1, -1).flatten(0, -2), codes.flatten()
    counts: Any = reduce(torch.bincount(flat, minlength=len(book.N)).to(book.N), 'sum')
    sums: Any = reduce(torch.zeros_like(book.z_avg).index_add_(0, flat, rows), 'sum')
    book.N.lerp_(counts, 1 - loss.decay)
    book.z_avg.lerp_(sums, 1 - loss.decay)
    total = book.N.sum()
    weights = (book.N + 1e-7) / (total + 1e-7 * len(book.N)) * total
    book.embeddings.copy_(book.z_avg / weights.unsqueeze(1))
    dead = book.N < loss.restart
    if dead.any():
        of_all: Any = broadcast(rows[torch.randint(len(rows), (len(book.N),), device=rows.device)])
        chosen = of_all[dead]
        book.embeddings[dead] = chosen
        book.N[dead] = 2 * loss.restart  # it is left in peace until it has had the time to be used
        book.z_avg[dead] = 2 * loss.restart * chosen


def check_crop(crop: Sequence[int] | None, config: VideoVQGANConfig) -> None:
    """Raise a ValueError unless boxes of this size can be cut out of the clips, and have whole codes."""
    if crop is not None and not (
        len(crop) == 3
        and all(
            0 < n <= size and n % step == 0
            for n, size, step in zip(crop, config.clip_size, config.downsample, strict=True)
        )
    ):
        raise UserError(
            '{crop}: must be frames, rows and columns, multiples of {} and at most {}',
            config.downsample,
            config.clip_size,
            crop=crop,
        )


def random_boxes(x: torch.Tensor, size: Sequence[int], seed: str) -> torch.Tensor:
    """A random box of each clip [B, C, T, H, W]: [B, C, *size]."""
    rng = random.Random(seed)
    boxes = []
    for clip in x:
        for axis, length in enumerate(size, 1):
            clip = clip.narrow(axis, rng.randint(0, clip.shape[axis] - length), length)
        boxes.append(clip)
    return torch.stack(boxes)


def clip_views(config: VideoVQGANConfig, span: int, augmentation: Augmentation | None = None, seed: int = 0) -> Views:
    """The views that a tokenizer takes: pixels in [-0.5, 0.5], the short side at its resolution, the center crop."""
    return Views(
        size=config.resolution,
        mean=(0.5,) * config.in_channels,
        std=(1.0,) * config.in_channels,
        short_side=config.resolution,
        sampling=Sampling(config.num_frames, span),
        augmentation=augmentation,
        seed=seed,
    )


def first_clips(paths: Sequence[str], views: Views, reading: Reading, number: int = 2) -> torch.Tensor | None:
    """The centered clips [N, C, T, H, W] of the first files that can be read; a few are tried."""
    jobs = [Job(k, path) for k, path in enumerate(paths[:8])]
    found: list[torch.Tensor] = []
    with closing(load_views(jobs, views, reading, num_workers=min(1, reading.num_workers))) as loaded:
        for _, item in loaded:
            if isinstance(item, View):
                found.append(item.x)
            if len(found) == number:
                break
    return torch.stack(found) if found else None


@torch.no_grad()
def reconstruct(vqgan: VideoVQGAN, clips: torch.Tensor) -> torch.Tensor:
    """Clips [N, C, T, H, W] in [-0.5, 0.5] through the codes and back, one at a time."""
    return torch.cat([vqgan(clip).clamp(-0.5, 0.5) for clip in clips.split(1)])


def psnr(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB of each clip [N, ...], whose pixels span 1: [N]."""
    return -10 * (ours - theirs).square().flatten(1).mean(dim=1).clamp(min=1e-10).log10()
