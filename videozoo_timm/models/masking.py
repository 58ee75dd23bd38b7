"""Which tokens a masked autoencoder keeps: the published masks, and a caller's own mask.

A mask is True (or 1) where a token is masked: the encoder does not see it, and the decoder predicts it. "Masked" is the
word in help texts, pictures and tables too; what is "dropped" is dropped in training, for speed or as regularization.

Papers: https://arxiv.org/abs/2205.09113 (`random`), https://arxiv.org/abs/2402.00300 (`temporal`, `center`).
"""

import torch

MASK_TYPES = ('random', 'temporal', 'center')


def published_order(
    num_batch: int,
    num_tokens: int,
    mask_ratio: float,
    mask_type: str,
    device: torch.device,
    noise: torch.Tensor | None,
) -> tuple[torch.Tensor, int]:
    """Tokens in the order in which they are kept, [B, N], and how many are."""
    if mask_type not in MASK_TYPES:
        raise ValueError(f'mask_type={mask_type!r}: must be one of {list(MASK_TYPES)}')
    if not 0 <= mask_ratio < 1:
        raise ValueError(f'mask_ratio={mask_ratio}: must be at least 0 and below 1')
    num_kept = int(num_tokens * (1 - mask_ratio))
    if num_kept == 0:
        raise ValueError(f'mask_ratio={mask_ratio} masks all {num_tokens} tokens; the largest is {1 - 1 / num_tokens}')
    position = torch.arange(num_tokens, device=device)
    if mask_type == 'random':
        rank = torch.rand(num_batch, num_tokens, device=device, dtype=torch.float32) if noise is None else noise
        if rank.shape != (num_batch, num_tokens):
            raise ValueError(f'noise must be [B, N] = {[num_batch, num_tokens]}, got {list(rank.shape)}')
    elif mask_type == 'temporal':
        rank = position.expand(num_batch, -1)
    else:  # the ends first; equal distances in the order of the clip
        rank = torch.minimum(position, num_tokens - 1 - position).expand(num_batch, -1)
    return rank.argsort(dim=1, stable=True), num_kept


def _axes(shape: tuple[int, ...]) -> str:
    return "[B, T', H', W']" if len(shape) == 4 else "[B, H', W']"


def order_of(mask: torch.Tensor, shape: tuple[int, ...], device: torch.device) -> tuple[torch.Tensor, int]:
    """The same for a mask [B, T', H', W'] (of images [B, H', W']) of a caller's own, boolean or of 0 and 1."""
    mask = torch.as_tensor(mask, device=device)
    kind, given = str(mask.dtype).removeprefix('torch.'), list(mask.shape)
    if tuple(given) != shape:
        remedy = '; with a batch dimension: mask.unsqueeze(0)' if (1, *given) == shape else ''
        raise ValueError(
            f'mask must be {_axes(shape)} = {list(shape)}, True where a token is masked; got {kind} {given}{remedy}'
        )
    if mask.dtype != torch.bool:
        if not ((mask == 0) | (mask == 1)).all():
            raise ValueError(f'mask must be boolean, or of zeros and ones; got {kind} with other values')
        mask = mask == 1
    mask = mask.flatten(1)
    counts = mask.sum(dim=1).tolist()
    if len(set(counts)) > 1:
        raise ValueError(f'mask covers {counts} tokens of the samples; every sample must have the same number masked')
    num_kept = mask.shape[1] - counts[0]
    if num_kept == 0:
        raise ValueError(f'mask covers all {mask.shape[1]} tokens; leave at least one')
    return mask.to(torch.uint8).argsort(dim=1, stable=True), num_kept
