"""One training step of the MAE against the plain way, and whether decoding keeps the model busy, in one run.

    python benchmarks/training.py

The model has the width of ViT-H, 4 blocks and the published decoder; a step is forward, backward and AdamW on 2 clips
of which 90% is dropped. The plain way embeds every token with a 3-D convolution, then drops, with separate query, key
and value products, in float32. Every row is a process of its own; memory is its peak above what the imports take. The
last figure is the rate of `pretrain` on videos, 16 views of each decoded clip, over that of the same steps on a batch
that is there already.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

START = """
import json, statistics, sys, time, torch, timm, videozoo_timm
from plain_mae import plain_loss
from videozoo_timm.training.loop import Schedule, make_optimizer
def memory(field):
    return 1024 * int(next(line for line in open('/proc/self/status') if line.startswith(field)).split()[1])
imports = memory('VmRSS')
def make():
    torch.manual_seed(0)
    return timm.create_model('mae_h14_st', depth=4).train()
"""
STEPS = (
    START
    + """
model = make()
clips, noise = torch.randn(2, 3, 16, 224, 224), torch.rand(2, 2048)
optimizer = make_optimizer(model, Schedule(steps=1, lr=1e-4))
weights = dict(model.named_parameters())
def step():
    if {plain}:
        loss = plain_loss(weights, clips, noise, 16, 16)
    else:
        with torch.autocast('cpu', torch.bfloat16, enabled={bf16}):
            loss = model(clips, noise=noise)[0]
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()
loss, times = step(), []
for _ in range({runs}):
    start = time.perf_counter()
    step()
    times.append(time.perf_counter() - start)
print(json.dumps(dict(time=statistics.median(times), memory=memory('VmHWM') - imports, loss=loss)))
"""
)
PRETRAIN = (
    START
    + """
from pathlib import Path
from videozoo_timm.training.loop import Keeping, make_accelerator, read_log
from videozoo_timm.training import pretrain
from videozoo_timm.video import find_videos
def main():
    paths = [str(path) for path in find_videos({videos!r})]
    pretrain.pretrain(
        make_accelerator('cpu'), make(), paths, Schedule(steps={steps}, lr=1e-4, clip_grad=0.1),
        Keeping(Path(sys.argv[1]), every=10 ** 6, log_every=1), batch_size=2, pictures_every=0, num_workers={workers})
    rows = read_log(Path(sys.argv[1]) / 'log.csv')[2:]  # the first ones wait for the first clips
    print(json.dumps(dict(rate=len(rows) / sum(1 / float(row['clips_per_second']) for row in rows))))
if __name__ == '__main__':
    main()
"""
)
ALONE = """
from videozoo_timm.training import stream
first = stream.Stream.__next__
def again(self, kept=[]):
    if not kept:
        kept.append(first(self))
        self._loaded.close()
    return kept[0]
stream.Stream.__next__ = again
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--runs', type=int, default=3)
    parser.add_argument('--steps', type=int, default=18, help='of pretraining')
    args = parser.parse_args()
    import tempfile

    import torch

    env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(REPOSITORY), str(REPOSITORY / 'tests')]))

    def process(code: str) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder) / 'script.py'
            script.write_text(code)
            done = subprocess.run(
                [sys.executable, script, Path(folder) / 'run'], env=env, text=True, stdout=subprocess.PIPE, check=True
            )
        return json.loads(done.stdout.splitlines()[-1])

    ways = {
        'plain, float32': dict(plain=True, bf16=False),
        'ours, float32': dict(plain=False, bf16=False),
        'ours, bfloat16': dict(plain=False, bf16=True),
    }
    rows = {name: process(STEPS.format(runs=args.runs, **way)) for name, way in ways.items()}
    print(f'median of {args.runs} steps, torch {torch.__version__}, {os.cpu_count()} cores\n')
    print('| | step | peak memory |')
    print('|---|---|---|')
    for name, row in rows.items():
        print(f'| {name} | {row["time"]:.2f} s | {row["memory"] / 1e9:.2f} GB |')
    plain, ours, bf16 = rows.values()
    print(
        f'\nours takes {ours["time"] / plain["time"]:.2f} of the plain time and '
        f'{ours["memory"] / plain["memory"]:.2f} of its memory in float32; '
        f'in bfloat16 it is {ours["time"] / bf16["time"]:.2f} times as fast'
    )

    videos = str(REPOSITORY / 'tests' / 'clips' / 'pans')
    rates = {'fed': [], 'alone': []}
    for _ in range(args.runs):
        for name, patch in (('fed', ''), ('alone', ALONE)):
            code = PRETRAIN.replace('def main', patch + 'def main', 1)
            rates[name].append(process(code.format(videos=videos, steps=args.steps, workers=1))['rate'])
    fed, alone = statistics.median(rates['fed']), statistics.median(rates['alone'])
    print(
        f'pretraining on decoded videos: {fed:.2f} clips a second, {alone:.2f} on a batch that is there already: '
        f'{100 * fed / alone:.0f}%'
    )


if __name__ == '__main__':
    main()
