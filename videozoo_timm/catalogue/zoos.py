"""The zoos, and what their models have in common."""

import difflib
import json
import re
from functools import lru_cache
from pathlib import Path

ZOOS = ('hvm-1', 'video-models', 'silicon-menagerie', 'humanlike-vits', 'shapes')
DEFAULT_ZOO = 'video-models'  # the zoo of a bare name that is in two
PAPERS = {
    'hvm-1': (
        'HVM-1: Large-scale video models pretrained with nearly 5000 hours of human-like video data',
        '2407.18067',
    ),
    'video-models': ("Self-supervised learning of video representations from a child's perspective", '2402.00300'),
    'silicon-menagerie': (
        "Learning high-level visual representations from a child's perspective without strong inductive biases",
        '2305.15372',
    ),
    'humanlike-vits': (
        'Scaling may be all you need for achieving human-level object recognition capacity with human-like visual '
        'experience',
        '2308.03712',
    ),
}
SAYCAM = ('say', 's', 'a', 'y')  # all three children, and each alone
OLD_SPELLING = re.compile(r'imagenet_(100|10|1)(?=[_+]|$)')  # of fractions of ImageNet
CLASSES = {'none': 0, 'ssv2': 174, 'kinetics': 700, 'imagenet': 1000, 'motion': 8}
CLASS_NAMES = {0: '', 174: 'SSV2', 700: 'Kinetics-700', 1000: 'ImageNet-1k', 8: 'motions'}
# Classes of the synthetic videos, in the order of their folders.
MOTIONS = ('down', 'grow', 'left', 'right', 'rotate', 'shrink', 'still', 'up')
PACKAGED = Path(__file__).parents[1] / 'data'  # weights that come with this package


@lru_cache(maxsize=1)
def num_params() -> dict[str, int]:
    """What `tests/count_parameters.py` has counted, so that a list of models needs none of them."""
    return json.loads((PACKAGED / 'num_params.json').read_text())


def check_zoo(zoo: str) -> None:
    """Raise a ValueError, with the nearest name, unless there is such a zoo."""
    if zoo not in ZOOS:
        near = difflib.get_close_matches(zoo, ZOOS, n=1)
        hint = f'did you mean {near[0]!r}? ' if near else ''
        raise ValueError(f'no zoo {zoo!r}; {hint}there are {list(ZOOS)}')
