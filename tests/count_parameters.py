"""Counts the parameters of all published models, which are built without memory.

python tests/count_parameters.py > videozoo_timm/data/num_params.json
"""

import json

import timm
from torch import nn

from videozoo_timm.catalogue import CHECKPOINTS, GENERATORS, WHOLE, video_generators
from videozoo_timm.factory import load_model
from videozoo_timm.models import GPT, VQGAN


def count_parameters() -> dict[str, int]:
    """By what tells them apart: architecture, input size and classes; of a generator's parts size and codes."""
    counts = {}
    for c in (*CHECKPOINTS, *WHOLE):
        key = f'{c.architecture} {c.img_size} {c.num_classes}'
        if key not in counts:
            counts[key] = _count(timm.create_model(c.timm_name, device='meta', weight_init='skip'))
    for g in GENERATORS:
        codes = g.vqgan_args['num_codes']
        for key, model, args in (
            (f'gpt {g.name.rsplit("_", 1)[1]} {codes}', GPT, g.gpt_args),
            (f'vqgan {codes}', VQGAN, g.vqgan_args),
        ):
            if key not in counts:
                counts[key] = _count(model(**args, device='meta'))
    for generator in video_generators():
        counts[generator.name] = _count(load_model(generator.name))
    return counts


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


if __name__ == '__main__':
    print(json.dumps(count_parameters(), indent=1))
