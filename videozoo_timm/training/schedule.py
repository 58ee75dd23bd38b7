"""The schedule of a run: its steps, their learning rate and the optimizer."""

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Schedule:
    """The optimizer and its learning rate over a run.

    Attributes:
        steps: Updates of the weights.
        lr: Peak learning rate.
        min_lr: Learning rate at the end of the cosine.
        warmup: Fraction of the steps in which the learning rate rises.
        weight_decay: Weight decay; not applied to biases, norms, tokens and position embeddings.
        betas: Betas of AdamW.
        layer_decay: Factor of the learning rate from each block to the one before it; None for one learning rate.
        clip_grad: Maximum gradient norm; 0 for no clipping.
        accumulate: Batches per update.
    """

    steps: int
    lr: float
    min_lr: float = 0.0
    warmup: float = 0.05
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    layer_decay: float | None = None
    clip_grad: float = 0.0
    accumulate: int = 1

    def __post_init__(self) -> None:
        if self.steps < 1 or self.accumulate < 1:
            raise ValueError(f'steps and accumulate must be at least 1, got {self.steps} and {self.accumulate}')
        if not 0 <= self.warmup <= 1:
            raise ValueError(f'warmup must be a fraction of the steps from 0 to 1, got {self.warmup}')


def make_optimizer(model: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    """AdamW on timm's parameter groups."""
    from timm.optim import create_optimizer_v2  # pyright: ignore[reportPrivateImportUsage]  # timm has no __all__

    return create_optimizer_v2(
        model,
        'adamw',
        lr=schedule.lr,
        weight_decay=schedule.weight_decay,
        betas=schedule.betas,
        layer_decay=schedule.layer_decay,
        fused=True,
    )  # one pass over the weights instead of ten
