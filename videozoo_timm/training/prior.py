"""Training a prior: a GPT over the codes of a tokenizer, which then generates videos with it.

The method and its settings: https://arxiv.org/abs/2204.03638 (TATS) and https://github.com/eminorhan/vqgan-gpt-video.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import UserError
from ..inference.journal import checksum_of
from ..inference.reporting import SILENT, Reporter, with_fields
from ..models.generator_files import save_video_generator
from ..models.gpt import GPT
from ..models.video_generator import VideoGenerator
from ..models.video_vqgan import VideoVQGAN
from ..video import IN_THIS_PROCESS, Augmentation, Reading
from .loop import Hook, train
from .pictures import save_pictures
from .run_folder import MODEL, Keeping, writing
from .schedule import Schedule
from .stream import Batch
from .tokenizer import PUBLISHED, SPAN, clip_views

SAMPLES = 4  # clips of a picture


def pretrain_prior(
    accelerator: Any,
    gpt: GPT,
    vqgan: VideoVQGAN,
    paths: Sequence[str],
    schedule: Schedule,
    keeping: Keeping,
    *,
    batch_size: int = 8,
    augmentation: Augmentation = PUBLISHED,
    span: int = SPAN,
    encode_alone: float = 0.0,
    pictures_every: int = 1000,
    seed: int = 0,
    about: Mapping[str, Any] | None = None,
    reading: Reading = IN_THIS_PROCESS,
    reporter: Reporter = SILENT,
    **fields: Any,
) -> Path:
    """Train a GPT to predict each code of a clip from all codes before it.

    Args:
        accelerator: The result of `make_accelerator`.
        gpt: Trained in place; its vocabulary is the codebook, its block size the number of codes of a clip.
        vqgan: The tokenizer, which stays as it is.
        paths: Videos.
        schedule: The optimizer and its learning rate. Published: betas 0.9 and 0.95, weight decay 0.01.
        keeping: What the run writes, where and when.
        batch_size: Clips per batch, in each process.
        augmentation: Augmentation of the clips.
        span: Time that a clip spans, in frames at 30 a second; that of the tokenizer's clips.
        encode_alone: Probability that the first frames of a clip are encoded alone, a random number of them that is the
            same in a batch, as those of a clip that is to be continued. The last codes before what is sampled then are
            not those of a whole clip, whose encoder looks ahead. 0 as published.
        pictures_every: Steps between samples, as pictures and animations; 0 for none.
        seed: Random seed.
        about: As in `train`.
        reading: How the files are read.
        reporter: As in `train`.
        **fields: Fields of `reading` and `reporter` to replace.

    Returns:
        The generator's file, `model.safetensors` in the folder, which holds the tokenizer too.

    Raises:
        ValueError: The two do not belong together, or `encode_alone` is none or of a clip that is one code long; and as
            `train`.
        FloatingPointError: The loss is not finite.
    """
    reading, reporter = with_fields(reading, reporter, fields)
    length = math.prod(vqgan.grid_size)
    if gpt.vocab_size != vqgan.num_codes or gpt.block_size != length:
        raise UserError(
            'this GPT reads {} of {} codes, a clip of this tokenizer has {} of {}',
            gpt.block_size,
            gpt.vocab_size,
            length,
            vqgan.num_codes,
        )
    if not 0 <= encode_alone <= 1:
        raise UserError('{encode_alone}: must be from 0 to 1', encode_alone=encode_alone)
    if encode_alone and vqgan.grid_size[0] < 2:
        told = '{encode_alone}: a clip of this tokenizer is one code long, and has no beginning; leave the option out'
        raise UserError(told, encode_alone=encode_alone)
    generator = VideoGenerator(gpt, vqgan, span)
    vqgan = vqgan.to(accelerator.device).to(memory_format=torch.channels_last_3d).eval().requires_grad_(False)
    views = clip_views(vqgan.config, span, augmentation, seed)
    about = dict(about or {}, **augmentation.record, span=span, tokenizer=asdict(vqgan.config), prior=gpt.config)
    if encode_alone:
        about['encode_alone'] = encode_alone
    about['tokenizer_sha256'] = checksum_of(vqgan.state_dict().items())  # it is in no checkpoint of the run
    rank = accelerator.process_index

    def loss_of(model: nn.Module, batch: Batch) -> torch.Tensor:
        with torch.no_grad():
            codes = vqgan.encode(batch.x)
            if encode_alone:
                codes = with_beginnings_alone(vqgan, batch.x, codes, encode_alone, f'{seed} {batch.number} {rank}')
        return model(codes.flatten(1))

    def plot(step: int, model: nn.Module) -> None:
        clips = generator.eval().generate(SAMPLES, seed=seed, top_k=None, top_p=None) - 0.5
        names = [f'sample {k + 1}' for k in range(SAMPLES)]
        save_pictures(accelerator, keeping.folder, f'step_{step:08}_sampled', list(clips), names, f'step {step}', span)

    def save(model: nn.Module) -> None:
        with writing(accelerator, keeping.folder / MODEL):
            if accelerator.is_main_process:
                save_video_generator(generator, keeping.folder / MODEL, {})

    train(
        accelerator,
        PriorStep(gpt),
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


def with_beginnings_alone(
    vqgan: VideoVQGAN, x: torch.Tensor, codes: torch.Tensor, probability: float, seed: str
) -> torch.Tensor:
    """Codes of clips [B, C, T, H, W], the first of some replaced by those that these frames have alone.

    How many frames is the same in all of them.

    Args:
        vqgan: The tokenizer.
        x: The clips.
        codes: Of the whole clips, int64 [B, T', H', W'].
        probability: That a clip is one of them.
        seed: Of which clips, and of the number of frames.
    """
    rng = random.Random(seed)
    given = rng.randrange(1, codes.shape[1])
    chosen = [k for k in range(len(x)) if rng.random() < probability]
    if chosen:
        codes = codes.clone()
        codes[chosen, :given] = vqgan.encode(x[chosen, :, : given * vqgan.config.downsample[0]])
    return codes


def sine_positions(grid: tuple[int, int, int], width: int) -> torch.Tensor:
    """Position embeddings to start from that tell of a code where it is: sines of its time, row and column.

    From zeros, as published, a GPT first has to find out which of its positions are neighbors.

    Args:
        grid: Codes along time, height and width.
        width: Width of a token.

    Returns:
        [1, N, width], as large as the embeddings of codes are at first (a standard deviation of 0.02). Wavelengths are
        from 2 codes to twice the side.
    """
    bands = width // 6
    parts = []
    for axis, size in enumerate(grid):
        wavelengths = 2 * size ** torch.linspace(0, 1, bands)
        angles = 2 * math.pi * torch.arange(size).unsqueeze(1) / wavelengths  # [size, bands]
        shape = [size if k == axis else 1 for k in range(3)]
        parts.append(torch.cat([angles.sin(), angles.cos()], dim=1).view(*shape, -1).expand(*grid, -1))
    waves = F.pad(torch.cat(parts, dim=3), (0, width - 6 * bands))  # [T', H', W', width]
    return 0.02 * math.sqrt(2) * waves.view(1, -1, width)


class PriorStep(nn.Module):
    """A GPT with its loss."""

    def __init__(self, gpt: GPT) -> None:
        super().__init__()
        self.gpt = gpt

    def no_weight_decay(self) -> set[str]:
        """The parameters that timm's groups would decay, and the published training does not."""
        return {'gpt.tok_emb.weight', 'gpt.pos_emb'}

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes int64 [B, N] -> the mean negative log-likelihood of a code in nats, a scalar."""
        seen = F.pad(codes[:, :-1], (1, 0), value=0)  # the start token
        logits = self.gpt(seen).float()
        return F.cross_entropy(logits.transpose(1, 2), codes)
