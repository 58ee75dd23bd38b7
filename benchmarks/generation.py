"""Drawing codes with and without the cache of keys and values, in one run, on the CPU. Random weights.

    python benchmarks/generation.py
    python benchmarks/generation.py --videos

The `alef` size draws 4 samples of 256 codes, uncached in float32 once from start to end. The `gimel` size draws 4
samples of the 1024 codes of the 32x32 grid; its uncached time is summed from steps measured at a few lengths. Memory is
that of a process of its own, above what its imports take. bfloat16 is measured where the processor has instructions.

`--videos` samples 4 clips of the published 8 x 16 x 16 grid (2,048 codes) with the GPT of 24 blocks, in float32, and
encodes a clip with its VQGAN, beside the same convolutions alone.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

BATCH = 4
MEMORY = """
import json, torch
from videozoo_timm import catalogue
from videozoo_timm.models import GPT, VQGAN, ImageGenerator
from videozoo_timm.models.gpt import Cache
def memory(field):
    return 1024 * int(next(line for line in open('/proc/self/status') if line.startswith(field)).split()[1])
record = catalogue.find_generator({name!r})
before = memory('VmRSS')
gpt = GPT(**record.gpt_args, dtype=torch.{dtype}).eval()
generator = ImageGenerator(gpt, VQGAN(**record.vqgan_args).eval())
weights = sum(p.nbytes for p in generator.parameters())
generator.generate({batch}, seed=0)
print(json.dumps(dict(peak=memory('VmHWM') - before, weights=weights, cache=Cache(gpt, {batch}).nbytes)))
"""


VIDEO_MEMORY = """
import json, torch
from videozoo_timm.models import GPT
from videozoo_timm.models.gpt import Cache
def memory(field):
    return 1024 * int(next(line for line in open('/proc/self/status') if line.startswith(field)).split()[1])
before = memory('VmRSS')
gpt = GPT(**{args!r}).eval()
weights = sum(p.nbytes for p in gpt.parameters())
start = torch.zeros({batch}, 1, dtype=torch.int64)
gpt.sample(start, gpt.block_size + 1, seed=0, top_k=2048, top_p=0.92)
peak = memory('VmHWM') - before
print(json.dumps(dict(peak=peak, weights=weights, cache=Cache(gpt, {batch}).nbytes)))
"""


def sample(gpt, use_cache: bool = True, batch: int = BATCH) -> list[float]:
    """Times at which each code was there, in seconds from the start."""
    times, start = [], time.perf_counter()
    gpt.sample(
        torch.zeros(batch, 1, dtype=torch.int64),
        gpt.block_size + 1,
        use_cache=use_cache,
        generator=torch.Generator().manual_seed(0),
        progress=lambda codes: times.append(time.perf_counter() - start),
    )
    return times


def uncached_by_steps(gpt, lengths: int = 5, batch: int = BATCH) -> float:
    """Seconds of all steps, by the trapezoidal rule over steps of some lengths."""
    places = [round(1 + k * (gpt.block_size - 1) / (lengths - 1)) for k in range(lengths)]
    costs = []
    with torch.inference_mode():
        gpt(torch.zeros(batch, 1, dtype=torch.int64))
        for place in places:
            codes = torch.zeros(batch, place, dtype=torch.int64)
            start = time.perf_counter()
            gpt.head(gpt.forward_features(codes)[:, -1])
            costs.append(time.perf_counter() - start)
    return sum((b - a) * (x + y) / 2 for a, b, x, y in zip(places, places[1:], costs, costs[1:], strict=False))


def videos(batch: int) -> None:
    """The video GPT with and without its cache, its memory, and the VQGAN against its convolutions alone."""
    from videozoo_timm.models import GPT, VideoVQGAN, VideoVQGANConfig

    args: dict[str, int] = dict(vocab_size=16384, block_size=2048, depth=24, num_heads=16, embed_dim=1024)
    torch.manual_seed(0)
    gpt = GPT(**args).eval()
    plain = uncached_by_steps(gpt, 4, batch)
    times = sample(gpt, batch=batch)
    growth = (times[-1] - times[-101]) / (times[100] - times[0])
    print(
        f'{batch} clips of 2,048 codes, GPT of 24 blocks, float32: uncached {plain:.0f} s, cached {times[-1]:.0f} s, '
        f'{plain / times[-1]:.0f} times; last hundred codes against the first {growth:.2f}',
        flush=True,
    )
    del gpt
    code = VIDEO_MEMORY.format(args=args, batch=batch)
    env = dict(os.environ, PYTHONPATH=str(REPOSITORY))
    done = subprocess.run([sys.executable, '-c', code], env=env, text=True, capture_output=True, check=True)
    r = json.loads(done.stdout.splitlines()[-1])
    share = r['peak'] / (r['weights'] + r['cache'])
    print(
        f'peak {r["peak"] / 1e9:.2f} GB, weights {r["weights"] / 1e9:.2f} GB, cache {r["cache"] / 1e9:.2f} GB: '
        f'{share:.2f} times the two',
        flush=True,
    )
    vqgan = VideoVQGAN(VideoVQGANConfig()).eval()
    clip = torch.rand(1, 3, 16, 256, 256) - 0.5
    calls = convolutions(vqgan, clip)
    whole, alone = [], []
    with torch.inference_mode():
        for _ in range(5):  # in turns, as the machine may be busy
            whole.append(seconds(lambda: vqgan.pre_quantized(clip)))
            alone.append(seconds(lambda: [call() for call in calls]))
    told = f'encoding {min(whole):.2f} s of CPU time, its conv3d calls alone {min(alone):.2f} s'
    print(f'{told}: {min(alone) / min(whole):.0%}')


def convolutions(vqgan, clip: torch.Tensor) -> list:
    """Calls of conv3d of the shapes that encoding a clip takes, without padding."""
    calls, hooks = [], []
    for module in vqgan.modules():
        if isinstance(module, torch.nn.Conv3d):
            hooks.append(module.register_forward_hook(lambda conv, inputs, _: calls.append((conv, inputs[0]))))
    with torch.inference_mode():
        vqgan.pre_quantized(clip)
    for hook in hooks:
        hook.remove()
    conv3d = torch.nn.functional.conv3d
    return [lambda conv=conv, x=x: conv3d(x, conv.weight, conv.bias, conv.stride) for conv, x in calls]


def seconds(call) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--runs', type=int, default=3)
    parser.add_argument('--videos', action='store_true')
    parser.add_argument('--batch', type=int, default=BATCH, help='samples at a time, with --videos')
    args = parser.parse_args()
    if args.videos:
        videos(args.batch)
        return
    from videozoo_timm import catalogue
    from videozoo_timm.models.attention import fast_in_bfloat16
    from videozoo_timm.models.gpt import GPT

    fast = fast_in_bfloat16(torch.device('cpu'))
    if not fast:
        print('this processor has no instructions for bfloat16: everything is measured in float32\n')
    print(f'{BATCH} samples, torch {torch.__version__}, {os.cpu_count()} cores\n')
    print('| | dtype | seconds | against uncached float32 | last hundred codes against the first |')
    print('|---|---|---|---|---|')
    for name, codes in (('imagenet100_alef', 256), ('say_gimel', 1024)):
        torch.manual_seed(0)
        gpt = GPT(**catalogue.find_generator(name).gpt_args).eval()
        plain = sample(gpt, use_cache=False)[-1] if codes == 256 else uncached_by_steps(gpt)
        print(f'| `{name}`, {codes} codes, uncached | float32 | {plain:.1f} | 1 | |', flush=True)
        for dtype in ('float32', 'bfloat16')[: 1 + fast] if codes == 256 else ('bfloat16' if fast else 'float32',):
            gpt = gpt.to(getattr(torch, dtype))
            sample(gpt) if codes == 256 else None
            runs = [sample(gpt) for _ in range(args.runs if codes == 256 else 1)]
            times = min(runs, key=lambda run: run[-1]) if len(runs) < 3 else sorted(runs, key=lambda run: run[-1])[1]
            growth = (times[-1] - times[-101]) / (times[100] - times[0])
            ratio = plain / times[-1]
            print(f'| the same, cached | {dtype} | {times[-1]:.1f} | {ratio:.1f} | {growth:.2f} |', flush=True)
        del gpt
    env = dict(os.environ, PYTHONPATH=str(REPOSITORY))
    for name, dtype in (('imagenet100_alef', 'float32'), ('say_gimel', 'bfloat16' if fast else 'float32')):
        code = MEMORY.format(name=name, dtype=dtype, batch=BATCH)
        done = subprocess.run([sys.executable, '-c', code], env=env, text=True, capture_output=True, check=True)
        r = json.loads(done.stdout.splitlines()[-1])
        share = r['peak'] / (r['weights'] + r['cache'])
        print(
            f'\n{name}, {dtype}: peak {r["peak"] / 1e9:.2f} GB, weights {r["weights"] / 1e9:.2f} GB, cache '
            f'{r["cache"] / 1e9:.2f} GB: {share:.2f} times the two'
        )


if __name__ == '__main__':
    main()
