"""The schedule of a run: its steps, their learning rate and the optimizer."""

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..models.attention import fast_in_bfloat16

OPTIMIZERS = ('adamw', 'muon')


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
        optimizer: `'adamw'`; or `'muon'` for matrices and kernels, beside AdamW at half the learning rate for all else:
            embeddings, heads, biases and norms (https://kellerjordan.github.io/posts/muon/).
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
    optimizer: str = 'adamw'

    def __post_init__(self) -> None:
        if self.steps < 1 or self.accumulate < 1:
            raise ValueError(f'steps and accumulate must be at least 1, got {self.steps} and {self.accumulate}')
        if not 0 <= self.warmup <= 1:
            raise ValueError(f'warmup must be a fraction of the steps from 0 to 1, got {self.warmup}')
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f'optimizer={self.optimizer!r}: must be one of {list(OPTIMIZERS)}')

    @property
    def record(self) -> dict[str, Any]:
        """The settings as runs note them; AdamW is not mentioned, as runs of version 0.1.0 knew no other."""
        return {key: value for key, value in vars(self).items() if (key, value) != ('optimizer', 'adamw')}


def make_optimizer(model: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    """AdamW or Muon on timm's parameter groups."""
    from timm.optim import create_optimizer_v2  # pyright: ignore[reportPrivateImportUsage]  # timm has no __all__

    own: dict[str, Any] = dict(fused=True)  # one pass over the weights instead of ten
    if schedule.optimizer == 'muon':
        own = dict(fallback_no_weight_decay=True, fallback_list=['head.*', '*.head.*'], fallback_lr_scale=0.5)
    optimizer = create_optimizer_v2(
        model,
        schedule.optimizer,
        lr=schedule.lr,
        weight_decay=schedule.weight_decay,
        betas=schedule.betas,
        layer_decay=schedule.layer_decay,
        **own,
    )
    if schedule.optimizer == 'muon':
        _multiply_in_float32(optimizer)
    return optimizer


def _multiply_in_float32(optimizer: torch.optim.Optimizer) -> None:
    """Let timm's Muon multiply in float32 on a device without bfloat16, where a step would take a minute otherwise.

    Its products are in bfloat16, which no argument changes. Between the steps timm is left as it is.
    """
    from timm.optim import muon

    step = optimizer.step

    @functools.wraps(step)
    def step_in_float32(*args: Any, **kwargs: Any) -> Any:
        if fast_in_bfloat16(optimizer.param_groups[0]['params'][0].device):
            return step(*args, **kwargs)
        in_bfloat16 = muon.zeropower_via_newtonschulz
        muon.zeropower_via_newtonschulz = functools.partial(in_bfloat16, dtype=torch.float32)
        try:
            return step(*args, **kwargs)
        finally:
            muon.zeropower_via_newtonschulz = in_bfloat16

    optimizer.step = step_in_float32
