"""How far what a model expects is from what comes, for a batch of windows.

Papers: https://arxiv.org/abs/2205.09113 (the reconstruction loss),
https://arxiv.org/abs/2502.11831 (the normalized L1).
"""

from collections.abc import Sequence
from typing import Any, cast

import torch

from ..inference.checks import checked_model, name_of
from ..inference.pipeline import takes_clips
from ..models.masked_autoencoder import patch_statistics
from ..models.masking import published_order
from ..models.protocols import LikelihoodModel

__all__ = ['MASKS', 'SCORES', 'LikelihoodScores', 'MaskedScores']

SCORES = ('mse', 'l1', 'nll')
MASKS = ('context', 'random', 'temporal', 'center')


class MaskedScores:
    """Errors of a masked autoencoder's predictions.

    Args:
        model: A masked autoencoder of clips.
        score: 'mse', the reconstruction loss; or 'l1', of pixels in [0, 1] normalized in each tubelet and channel.
        contexts: Numbers of visible frames, each a mask of all later ones; empty for other masks.
        mask_type: 'context', or 'random', 'temporal' or 'center' as published.
        mask_ratio: Fraction of the tokens that these mask; None is what the model was trained with.
        num_masks: Random masks to average over.
        seed: Random seed of the first; the same masks serve all windows and files.
        norm_pix_loss: Compare with pixels normalized in each tubelet, as a model predicts that was trained so; None is
            what the model says.

    Attributes:
        baselines: What the scores of other predictions stand beside the model's: 'zero', which predicts zeros on the
            scale that is compared; and of contexts 'copy', which predicts that the last visible frame stays.
        grid: Tokens of a window along time, height and width.

    Raises:
        ValueError: The model is no such model, or an option is invalid.
    """

    def __init__(
        self,
        model: Any,
        score: str = 'mse',
        contexts: Sequence[int] = (),
        mask_type: str = 'context',
        mask_ratio: float | None = None,
        num_masks: int = 1,
        seed: int = 0,
        norm_pix_loss: bool | None = None,
    ) -> None:
        self.model = self.mae = mae = checked_model(model)
        if not hasattr(mae, 'forward_decoder') or not takes_clips(mae):
            raise ValueError(
                f"score={score!r}: {name_of(mae)} predicts no pixels of clips; take a masked autoencoder ('mae_..._st')"
            )
        if norm_pix_loss is not None and score != 'mse':
            raise ValueError(f'norm_pix_loss={norm_pix_loss} is of the score mse; {score} normalizes pixels by itself')
        if mask_type not in MASKS:
            raise ValueError(f'mask_type={mask_type!r}: must be one of {list(MASKS)}')
        if num_masks < 1 or (num_masks > 1 and mask_type != 'random'):
            raise ValueError(f'num_masks={num_masks}: must be at least 1, and 1 unless mask_type is random')
        if mask_ratio is not None and mask_type == 'context':
            raise ValueError(f'mask_ratio={mask_ratio} is of other masks than the contexts: give one of them')
        self.score = score
        self.norm_pix_loss = mae.norm_pix_loss if norm_pix_loss is None else norm_pix_loss
        self.grid: tuple[int, int, int] = tuple(mae.patch_embed.video_grid_size)
        self.contexts = tuple(contexts) if mask_type == 'context' else ()
        self.baselines = ('zero', 'copy') if mask_type == 'context' else ('zero',)
        steps = torch.arange(self.grid[0]).repeat_interleave(self.grid[1] * self.grid[2])  # [N]
        if mask_type == 'context':
            check_contexts(self.contexts, mae.num_frames, mae.tubelet_size)
            self.masks = [[steps >= context // mae.tubelet_size] for context in self.contexts]
        else:
            ratio = mae.default_mask_ratio if mask_ratio is None else mask_ratio
            self.masks = [[_published_mask(len(steps), ratio, mask_type, seed + k) for k in range(num_masks)]]
            if not self.masks[0][0].any():
                raise ValueError(f'mask_ratio={mask_ratio} masks nothing, so that nothing is predicted')

    def __call__(self, x: torch.Tensor, maps: bool = False) -> torch.Tensor:
        """Scores of windows.

        Args:
            x: Normalized [B, C, T, H, W].
            maps: Also the error of each token.

        Returns:
            float32 [B, K, 1 + baselines]: of each context (or of the mask) the score of the model, then those of the
            baselines; with `maps` [B, K, 1 + baselines + N], 0 where a token is visible.
        """
        target = self.mae.patchify(x)  # [B, N, P]
        rows = []
        for k, masks in enumerate(self.masks):
            copied = None
            if self.contexts:
                copied = self.mae.patchify(x[:, :, self.contexts[k] - 1])  # of a still [B, C, H, W]
            rows.append(self._row(x, target, copied, [mask.to(x.device) for mask in masks], maps))
        return torch.stack(rows, dim=1)

    def _row(
        self, x: torch.Tensor, target: torch.Tensor, copied: torch.Tensor | None, masks: list[torch.Tensor], maps: bool
    ) -> torch.Tensor:
        """Scores under one mask, [B, 1 + baselines (+ N)], or their mean over several."""
        total = target.new_zeros((len(x), target.shape[1]), dtype=torch.float32)  # [B, N]
        scores = []
        for mask in masks:
            wanted = self._scaled(target[:, mask].float())  # [B, M, P]
            predicted = self._predict(x, target, mask).float()
            expected = [self._scaled(predicted) if self.score == 'l1' else predicted, torch.zeros_like(wanted)]
            if copied is not None:
                expected.append(self._scaled(copied[:, mask].float()))
            errors = [self._error(one, wanted) for one in expected]  # [B, M] each
            scores.append(torch.stack([error.mean(dim=1) for error in errors], dim=1))
            total[:, mask] += errors[0]
        result = torch.stack(scores).mean(dim=0)
        if not maps:
            return result
        times = torch.stack(masks).sum(dim=0).clamp(min=1)  # that a token is masked, [N]
        return torch.cat([result, total / times], dim=1)

    def _predict(self, x: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Predicted pixels of the masked tokens [B, M, P]; of windows that look the same the model sees one."""
        distinct, place = _distinct(target[:, ~mask].flatten(1))
        own = mask.unflatten(0, self.grid).expand(len(distinct), *self.grid)
        latent, _, ids_restore = self.mae.forward_encoder(x[distinct], mask=own)
        return self.mae.forward_decoder(latent, ids_restore, self.grid)[:, mask][place]

    def expected(self, x: torch.Tensor, column: int) -> torch.Tensor:
        """The windows [B, C, T, H, W] with the model's predictions in place of what is masked (by the first mask)."""
        target, mask = self.mae.patchify(x), self.masks[column][0].to(x.device)
        predicted = self._predict(x, target, mask)
        if self.norm_pix_loss:
            center, spread = patch_statistics(target[:, mask])
            predicted = predicted * spread + center
        whole = target.clone()
        whole[:, mask] = predicted
        return self.mae.unpatchify(whole, self.grid)

    def _scaled(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels of tokens [B, M, P] on the scale on which they are compared."""
        if self.score == 'l1':
            config = self.mae.pretrained_cfg
            mean, std = (torch.tensor(config[name], device=pixels.device) for name in ('mean', 'std'))
            colors = pixels.unflatten(2, (-1, len(mean))) * std + mean  # [B, M, t * h * w, C] in [0, 1]
            center, spread = colors.mean(dim=2, keepdim=True), colors.std(dim=2, keepdim=True)
            return ((colors - center) / (spread + 1e-6)).flatten(2)
        if self.norm_pix_loss:
            center, spread = patch_statistics(pixels)
            return (pixels - center) / spread
        return pixels

    def _error(self, expected: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        difference = expected - wanted
        return (difference.abs() if self.score == 'l1' else difference.square()).mean(dim=2)


class LikelihoodScores:
    """Negative log-likelihood of the codes of later frames given those of the visible ones, in nats a code.

    Args:
        model: A generator of videos (`models.protocols.LikelihoodModel`).
        contexts: Numbers of visible frames.

    Attributes:
        baselines: 'copy', the fraction of the later codes that differ from the last visible one at their place: how
            often is wrong who expects these to stay.
        grid: Codes of a window along time, height and width.

    Raises:
        ValueError: The model has no likelihood of clips, or a context is no whole number of its codes.
    """

    baselines = ('copy',)

    def __init__(self, model: Any, contexts: Sequence[int]) -> None:
        if not hasattr(model, 'log_likelihood_of_codes') or not takes_clips(model):
            raise ValueError(f"score='nll': {name_of(model)} has no likelihood of clips; take a generator of videos")
        self.model = model
        self.likely = cast('LikelihoodModel', model)
        self.grid = self.likely.grid_size
        self.contexts = tuple(contexts)
        check_contexts(self.contexts, self.likely.num_frames, self.likely.num_frames // self.grid[0])

    def expected(self, x: torch.Tensor, column: int) -> None:
        """Nothing: a likelihood is of codes, not of one picture."""

    def __call__(self, x: torch.Tensor, maps: bool = False) -> torch.Tensor:
        """As `MaskedScores`: [B, K, 2], with `maps` [B, K, 2 + T' * H' * W']; one pass serves all contexts."""
        codes = self.likely.encode(x)  # [B, T', H', W']
        nats = -self.likely.log_likelihood_of_codes(codes).float()
        rows = []
        for context in self.contexts:
            first = context * self.grid[0] // self.likely.num_frames
            changed = (codes[:, first:] != codes[:, first - 1 : first]).float()
            row = torch.stack([part.mean(dim=(1, 2, 3)) for part in (nats[:, first:], changed)], dim=1)
            seen = torch.zeros_like(nats[:, :first])
            rows.append(torch.cat([row, torch.cat([seen, nats[:, first:]], dim=1).flatten(1)], dim=1) if maps else row)
        return torch.stack(rows, dim=1)


def check_contexts(contexts: Sequence[int], num_frames: int, unit: int) -> None:
    """Raise a ValueError unless the contexts are distinct and leave something to predict, in whole steps of `unit`."""
    most = num_frames - unit
    if not contexts:
        raise ValueError(f'contexts: none is given; {unit} to {most} frames may be visible')
    for context in contexts:
        if not unit <= context <= most or context % unit:
            raise ValueError(
                f'context={context}: the visible frames must be a multiple of {unit}, at least {unit} and at most '
                f'{most} of the {num_frames}'
            )
    if len(set(contexts)) < len(contexts):
        raise ValueError(f'contexts={list(contexts)}: each once')


def _published_mask(num_tokens: int, mask_ratio: float, mask_type: str, seed: int) -> torch.Tensor:
    """Which tokens a published mask hides, bool [N]."""
    noise = torch.rand(1, num_tokens, generator=torch.Generator().manual_seed(seed)) if mask_type == 'random' else None
    order, num_kept = published_order(1, num_tokens, mask_ratio, mask_type, torch.device('cpu'), noise)
    return torch.ones(num_tokens, dtype=torch.bool).index_fill(0, order[0, :num_kept], False)


def _distinct(rows: torch.Tensor) -> tuple[list[int], list[int]]:
    """Indices of the rows [B, M] that differ from all before, and for each row its place among these."""
    distinct: list[int] = []
    place: list[int] = []
    by_sum: dict[float, list[int]] = {}
    for k, total in enumerate(rows.sum(dim=1, dtype=torch.float32).tolist()):
        alike = by_sum.setdefault(total, [])
        same = next((j for j in alike if torch.equal(rows[distinct[j]], rows[k])), None)
        if same is None:
            same = len(distinct)
            alike.append(same)
            distinct.append(k)
        place.append(same)
    return distinct, place
