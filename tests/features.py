"""Files of features with given numbers, as `embed` writes them."""

import numpy as np
import torch

from videozoo_timm.analysis import Embeddings


def embeddings(features, paths=None, times=None, blocks=None):
    """Features [R, ...], a row a stimulus unless `paths` (one for each row) has repeats."""
    paths = paths or [f'videos/{k:02}.mp4' for k in range(len(features))]
    once = list(dict.fromkeys(paths))
    columns = {name: torch.zeros(len(features), dtype=torch.float64) for name in ('padded', 'damaged', 'clock_offset')}
    time = torch.as_tensor(np.ones(len(features)) if times is None else np.asarray(times), dtype=torch.float64)
    return Embeddings(
        torch.tensor(np.array(features), dtype=torch.float32),
        torch.tensor([once.index(path) for path in paths]),
        time,
        time - 1,
        time + 1,
        torch.full_like(time, 9.0),
        paths=once,
        blocks=blocks,
        **columns,
    )


def save(path, features, paths=None, times=None, blocks=None, **about):
    embeddings(features, paths, times, blocks).save(path, dict(model='a model', **about))
    return path
