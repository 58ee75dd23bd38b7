"""Files of features with given numbers, as `embed` writes them."""

import numpy as np
import torch

from videozoo_timm.analysis import Embeddings


def embeddings(features, paths=None, times=None, blocks=None, ids=None):
    """Features [R, ...], a row a stimulus unless `paths` or `ids` (one for each row) has repeats."""
    paths = paths or [f'videos/{k:02}.mp4' for k in range(len(features))]
    stimuli = paths if ids is None else list(zip(paths, ids, strict=True))
    once = list(dict.fromkeys(stimuli))
    columns = {name: torch.zeros(len(features), dtype=torch.float64) for name in ('padded', 'damaged', 'clock_offset')}
    time = torch.as_tensor(np.ones(len(features)) if times is None else np.asarray(times), dtype=torch.float64)
    return Embeddings(
        torch.tensor(np.array(features), dtype=torch.float32),
        torch.tensor([once.index(stimulus) for stimulus in stimuli]),
        time,
        time - 1,
        time + 1,
        torch.full_like(time, 9.0),
        paths=once if ids is None else [path for path, _ in once],
        blocks=blocks,
        ids=None if ids is None else [one for _, one in once],
        **columns,
    )


def save(path, features, paths=None, times=None, blocks=None, ids=None, **about):
    embeddings(features, paths, times, blocks, ids).save(path, dict(model='a model', **about))
    return path
