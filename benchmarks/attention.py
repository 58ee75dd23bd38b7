"""Attention of the class token in one large image: this package against the N x N way, in one run, on the CPU.

    python benchmarks/attention.py [--size 1400]

ViT-B/14, random weights, float32. The N x N way is the published one: every block makes the whole matrix of attention
weights, the last one returns it. Each way is a process of its own; memory is the peak above the loaded model.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

MEASURE = """
import json, time, torch, timm, videozoo_timm
from videozoo_timm.analysis.attention import attend
def memory(field):
    return 1024 * int(next(line for line in open('/proc/self/status') if line.startswith(field)).split()[1])

def matrices(model, x):
    x = model._embed(x)
    for block in model.blocks:
        attn = block.attn
        qkv = attn.qkv(block.norm1(x)).unflatten(-1, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
        weights = (qkv[0] @ qkv[1].transpose(-2, -1) * attn.scale).softmax(dim=-1)
        if block is model.blocks[-1]:
            return weights
        x = x + attn.proj((weights @ qkv[2]).transpose(1, 2).flatten(2))
        x = x + block.mlp(block.norm2(x))

torch.manual_seed(0)
model = timm.create_model('vit_b14_im').eval()
x = torch.randn(3, {size}, {size})
with torch.inference_mode():
    model(torch.randn(1, 3, 224, 224))  # the libraries' own buffers
before, start = memory('VmRSS'), time.perf_counter()
with torch.inference_mode():
    rows = {rows}
seconds = time.perf_counter() - start
print(json.dumps(dict(seconds=seconds, memory=memory('VmHWM') - before, sum=rows.double().sum().item())))
"""
WAYS = {'`attend`': 'attend(model, x).weights', 'N x N': 'matrices(model, x[None])[0, :, 0, 1:]'}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--size', type=int, default=1400, help='height and width in pixels')
    parser.add_argument('--runs', type=int, default=3)
    args = parser.parse_args()
    env = dict(os.environ, PYTHONPATH=str(REPOSITORY))
    results = {}
    for way, rows in WAYS.items():
        code = MEASURE.format(size=args.size, rows=rows)
        runs = [
            json.loads(
                subprocess.run(
                    [sys.executable, '-c', code], env=env, text=True, capture_output=True, check=True
                ).stdout.splitlines()[-1]
            )
            for _ in range(args.runs)
        ]
        results[way] = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    ours, theirs = results.values()
    assert abs(ours['sum'] - theirs['sum']) < 1e-3, 'the two ways differ'
    print(f'{args.size} x {args.size} pixels, {(args.size // 14) ** 2 + 1} tokens, median of {args.runs} runs\n')
    print('| | time | peak memory above the model |')
    print('|---|---|---|')
    for way, r in results.items():
        print(f'| {way} | {r["seconds"]:.1f} s | {r["memory"] / 1e9:.2f} GB |')
    print(f'\nmemory 1/{theirs["memory"] / ours["memory"]:.1f}, time {ours["seconds"] / theirs["seconds"]:.2f}')


if __name__ == '__main__':
    main()
