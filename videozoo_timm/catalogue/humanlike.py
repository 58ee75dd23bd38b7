"""The series of humanlike-vits: architectures x fractions of the video x random seeds.

A published name reads `x_y_z`, `vith14@476_0.01_3`: architecture (with the size in pixels unless it is 224), fraction
of the video, seed. `x_y_z_in1k` names what its publisher loads as `load_model('x_y_z', finetuned=True)`.
"""

import re

SIZES = ('vits14', 'vitb14', 'vitl14', 'vith14', 'vith14@448', 'vith14@476')
SEEDS = {'1.0': (1,), '0.1': (1, 2, 3), '0.01': (1, 2, 3), '0.001': (1, 2, 3), '0.0001': (1, 2, 3)}  # of each fraction
FINETUNED = '_in1k'
NAMES = tuple(f'{size}_{fraction}_{seed}' for size in SIZES for fraction in SEEDS for seed in SEEDS[fraction])


def file_of(name: str) -> str:
    """The published file of a name, with its folder."""
    published = name.removesuffix(FINETUNED)
    size = published.split('_')[0]
    return f'{"finetuned_" if name.endswith(FINETUNED) else ""}{size}/{published}.pth'


def why_not(name: str) -> str | None:
    """Why there is no model of a name that looks as if it were of this series; None if it does not look so."""
    published = name.removesuffix(FINETUNED)
    if re.search(r'imagenet[_-]?[\d.]+pt', name):
        of = f'load_model({NAMES[0]!r}, finetuned=True), {NAMES[0] + FINETUNED!r}'
        return (
            f'models finetuned on this fraction of ImageNet were never published under such a name; those of '
            f'humanlike-vits are finetuned on 2% of it ({of}), hvm-1 has vit_hvm1_imagenet-2pt'
        )
    match = re.fullmatch(r'(vit[a-z]\d+(?:@\d+)?)_([\d.]+)(?:_(\d+))?(_\w+)?', published)
    if not match:
        return None
    size, fraction, seed, ending = match.groups()
    if size not in SIZES:
        return f'humanlike-vits was published in the sizes {", ".join(SIZES)}'
    if fraction not in SEEDS:
        return f'humanlike-vits was trained on the fractions {", ".join(SEEDS)} of its video'
    seeds = ', '.join(map(str, SEEDS[fraction]))
    if seed and int(seed) in SEEDS[fraction] and ending:
        return f'its names end with the seed, or with {FINETUNED} of the models that were finetuned on ImageNet'
    if seed:
        told = f'seeds {seeds} were' if len(SEEDS[fraction]) > 1 else f'seed {seeds} alone was'
        return f'of {size}_{fraction} {told} published'
    return f'a name ends with its seed: {seeds}'
