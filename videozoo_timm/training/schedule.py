"""How the weights change: the steps, their learning rate and the optimizer."""
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Schedule:
    """How the weights change.

    Attributes:
        steps: Updates of the weights.
        lr: Highest learning rate.
        min_lr: At the end of the cosine.
        warmup: Share of the steps in which the rate rises.
        weight_decay: Off biases, norms, tokens and position embeddings.
        betas: Of AdamW.
        layer_decay: Factor of the learning rate from each block to the one before it; None for one rate.
        clip_grad: Longest gradient; 0 for any.
        accumulate: Batches an update.
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

    def __post_init__(self):
        if self.steps < 1 or self.accumulate < 1:
            raise ValueError(f'steps and accumulate must be at least 1, got {self.steps} and {self.accumulate}')
        if not 0 <= self.warmup <= 1:
            raise ValueError(f'warmup must be a share of the steps from 0 to 1, got {self.warmup}')


def make_optimizer(model: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    """AdamW on timm's parameter groups."""
    from timm.optim import create_optimizer_v2
    return create_optimizer_v2(
        model, 'adamw', lr=schedule.lr, weight_decay=schedule.weight_decay, betas=schedule.betas,
        layer_decay=schedule.layer_decay, fused=True)  # one pass over the weights instead of ten
