"""Clips whose frames are out of order: controls for what a model takes from time.

A model that answers the same when the frames are shuffled, reversed or all one frame has not used their order.
"""

import random
import re

import torch

ORDERS = ('shuffled', 'reversed', 'static')


def check_order(order: str) -> None:
    """Raise a ValueError unless it is '' (as they come) or one of `ORDERS`, 'shuffled' with a seed if need be."""
    if order and not re.fullmatch(r'shuffled(@\d+)?|reversed|static', order):
        raise ValueError(f'frames={order!r}: must be shuffled (or shuffled@7 with a random seed), reversed or static')


def reordered(frames: torch.Tensor, order: str, key: str) -> torch.Tensor:
    """Frames [T, ...] in another order; their number stays.

    Args:
        frames: Of one clip.
        order: 'shuffled' or 'shuffled@SEED', 'reversed', 'static' (the middle frame alone), or '' as they come.
        key: What tells this clip from others, for a shuffle of its own.
    """
    if not order:
        return frames
    indices = list(range(len(frames)))
    if order == 'reversed':
        indices.reverse()
    elif order == 'static':
        indices = [len(frames) // 2] * len(frames)
    else:
        random.Random(f'{order.partition("@")[2] or 0} {key}').shuffle(indices)
    return frames[indices]
