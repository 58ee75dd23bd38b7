"""Converting a published checkpoint of full size: this package against PyTorch's own reader, in one run.

    python benchmarks/convert.py [--against CHECKOUT] [--folder /tmp]

The plain way reads the file with `torch.load(mmap=True)`, which trusts it, and writes the tensors with safetensors.
Another checkout of this package can be timed in turn. Every figure is a process of its own, timed after the imports,
with warm files. Weights are made on the spot (5 GB of disk, removed at the end).
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
MEASURE = """
import json, sys, time, torch
from pathlib import Path
from safetensors.torch import save_file
from videozoo_timm.weights import convert, to_timm
published, target = map(Path, sys.argv[1:])
start = time.perf_counter()
{way}
print(json.dumps(time.perf_counter() - start))
"""
OURS = "convert(published, target, dict(source='a/b', source_sha256='0' * 64))"
PLAIN = """
tensors = torch.load(published, map_location='cpu', mmap=True, weights_only=False)['model']
save_file({k: v.contiguous() for k, v in to_timm(tensors).items()}, target)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--against', type=Path, metavar='CHECKOUT', help='another checkout to time in turn')
    parser.add_argument('--folder', help='where the weights are made')
    parser.add_argument('--runs', type=int, default=5)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=args.folder))
    try:
        measure(folder, args.against, args.runs)
    finally:
        shutil.rmtree(folder)


def measure(folder: Path, against: Path | None, runs: int) -> None:
    sys.path[:0] = [str(REPOSITORY / 'tests' / 'golden')]
    import recipe
    import torch

    shapes = json.loads((REPOSITORY / 'tests' / 'golden' / 'manifest.json').read_text())['shapes']['vit_huge_224']
    published, target = folder / 'published.pth', folder / 'converted.safetensors'
    torch.save({'model': recipe.fill(shapes), 'args': argparse.Namespace(lr=1e-4)}, published)
    size = published.stat().st_size
    ways = {'this package': (OURS, REPOSITORY), 'the plain way': (PLAIN, REPOSITORY)}
    if against:
        ways[str(against)] = OURS, against.resolve()
    times: dict[str, list[float]] = {way: [] for way in ways}
    for run in range(runs + 1):
        for way, (code, checkout) in ways.items():
            done = subprocess.run(
                [sys.executable, '-c', MEASURE.format(way=code), published, target],
                text=True,
                capture_output=True,
                check=True,
                env=dict(os.environ, PYTHONPATH=str(checkout)),
                cwd=folder,
            )
            target.unlink()
            if run:  # the first one warms the file cache
                times[way].append(json.loads(done.stdout.splitlines()[-1]))
    print(f'checkpoint {size / 1e9:.2f} GB, median of {runs} runs, torch {torch.__version__}, {os.cpu_count()} cores\n')
    median = {way: statistics.median(seconds) for way, seconds in times.items()}
    for way, seconds in median.items():
        print(f'{way}: {seconds:.2f} s ({min(times[way]):.2f} to {max(times[way]):.2f})')
    for way in list(ways)[1:]:
        print(f'this package takes {median["this package"] / median[way]:.2f} times the time of {way}')


if __name__ == '__main__':
    main()
