"""Loading a checkpoint of full size: this package against the plain way, in one run.

    python benchmarks/load.py [--model vit_hvm1_none] [--folder /tmp]

The plain way builds the model with random initialization, reads the checkpoint with `torch.load` and copies it in with
`load_state_dict`. Every row is a process of its own; times start after the imports, memory is above what the imports
take. "Cold" means that the file had been evicted from the file cache. Weights are made on the spot (5 GB of disk for
the video ViT, removed at the end).
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
import json, sys, time, torch, timm, videozoo_timm
def memory(field):
    return 1024 * int(next(line for line in open('/proc/self/status') if line.startswith(field)).split()[1])
imports, start = memory('VmRSS'), time.perf_counter()
{load}
loaded = time.perf_counter() - start
with torch.inference_mode():
    model(torch.zeros(1, 3, 224, 224) if {still} else torch.zeros(1, 3, 16, 224, 224))
print(json.dumps(dict(load=loaded, forward=time.perf_counter() - start, memory=memory('VmHWM') - imports)))
"""
MODELS = {'vit_hvm1_none': 'vit_huge_224', 'dino_say_vitl16': 'dino_vitl16'}  # and their tables of keys
OURS = 'model = videozoo_timm.load_model({name!r})'
PLAIN = """
model = timm.create_model({architecture!r})
model.load_state_dict(torch.load({path!r}, map_location='cpu')['model'])
model.eval()
"""
IMPORTS = """
import json, time
start = time.perf_counter(); import timm
middle = time.perf_counter(); import videozoo_timm
print(json.dumps(dict(timm=middle - start, ours=time.perf_counter() - middle)))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', choices=list(MODELS), default='vit_hvm1_none')
    parser.add_argument('--folder', help='where the weights are made')
    parser.add_argument('--runs', type=int, default=3)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=args.folder))
    try:
        measure(args.model, folder, args.runs)
    finally:
        shutil.rmtree(folder)


def measure(name: str, folder: Path, runs: int) -> None:
    sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / 'tests' / 'golden')]
    import recipe
    import torch
    from safetensors.torch import save_file

    from videozoo_timm import catalogue
    from videozoo_timm.weights import to_timm

    record = catalogue.find(name)
    shapes = json.loads((REPOSITORY / 'tests' / 'golden' / 'manifest.json').read_text())['shapes'][MODELS[name]]
    tensors = to_timm(recipe.fill(shapes))
    ours = folder / record.repo.replace('/', '--') / record.safetensors
    plain = folder / record.filename
    ours.parent.mkdir()
    save_file(tensors, ours, metadata={'format': 'pt'})
    torch.save({'model': tensors}, plain)
    del tensors
    size = ours.stat().st_size
    env = dict(os.environ, VIDEOZOO_CACHE=str(folder), HF_HUB_OFFLINE='1', PYTHONPATH=str(REPOSITORY))

    def process(code: str) -> dict[str, float]:
        done = subprocess.run([sys.executable, '-c', code], env=env, text=True, capture_output=True, check=True)
        return json.loads(done.stdout.splitlines()[-1])

    def median(code: str, path: Path, cold: bool) -> dict[str, float]:
        results = []
        for _ in range(runs):
            with open(path, 'rb') as file:
                os.fsync(file.fileno())
                if cold:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                else:
                    while file.read(1 << 24):
                        pass
            results.append(process(code))
        return {key: statistics.median(r[key] for r in results) for key in results[0]}

    how = dict(still=record.is_image_encoder)
    loads = {
        'load_model': OURS.format(name=name),
        'plain': PLAIN.format(architecture=record.architecture, path=str(plain)),
    }
    ways = {
        way: (MEASURE.format(load=load, **how), dict(load_model=ours, plain=plain)[way]) for way, load in loads.items()
    }
    rows = {(way, cold): median(code, path, cold) for cold in (False, True) for way, (code, path) in ways.items()}
    print(f'checkpoint {size / 1e9:.2f} GB, median of {runs} runs, torch {torch.__version__}, {os.cpu_count()} cores\n')
    print('| | file cache | load | load and one forward | peak memory / checkpoint |')
    print('|---|---|---|---|---|')
    for (way, cold), r in rows.items():
        print(
            f'| {"`load_model`" if way == "load_model" else "the plain way"} | {"cold" if cold else "warm"} '
            f'| {r["load"]:.2f} s | {r["forward"]:.1f} s | {r["memory"] / size:.2f} |'
        )
    ratio = {cold: rows['plain', cold]['load'] / rows['load_model', cold]['load'] for cold in (False, True)}
    print(f'\nload_model takes 1/{ratio[False]:.0f} of the plain time (warm), 1/{ratio[True]:.0f} (cold)')
    imports = [process(IMPORTS) for _ in range(2 * runs + 1)]
    share = statistics.median(r['ours'] / r['timm'] for r in imports)
    print(f'import videozoo_timm adds {100 * share:.1f}% to import timm')


if __name__ == '__main__':
    main()
