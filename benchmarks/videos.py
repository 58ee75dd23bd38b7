"""From files to features: decoding, the whole pipeline, bfloat16. Ratios in one run, on the CPU.

    python benchmarks/videos.py [--folder /tmp] [--videos 60] [--no-huge]

Decoding: clips a second from file to normalized tensor, of twenty-second H.264 videos at 640x360, by two worker
processes, against a plain loop (PyAV, decode the whole file, convert every frame, float bilinear); and CPU time of both
in one process, which tells on a busy machine. Transport: CPU time of the main process for each clip that it takes from
two workers and copies into a batch. The pipeline: features of a small model, against decoding alone and the model
alone. The model alone takes its clips from memory. All times start when the processes are there. bfloat16: the ViT-H/14
at 224 px, one clip at a time, random weights.
"""

import argparse
import math
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

SIZE, SECONDS, RATE = (640, 360), 20, 30


def make_video(path: Path, seed: int, size: tuple[int, int] = SIZE, options: dict[str, str] | None = None) -> None:
    """A camera that moves over a noisy texture."""
    import av
    from PIL import Image

    rng = np.random.default_rng(seed)
    width, height = size
    coarse = Image.fromarray(rng.integers(0, 256, (90, 160, 3), dtype=np.uint8))
    texture = np.array(coarse.resize((2 * width, 2 * height), Image.BICUBIC)).astype(np.int16)
    texture = (texture + rng.integers(-6, 7, texture.shape)).clip(0, 255).astype(np.uint8)
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, 'yuv420p'
        for n in range(SECONDS * RATE):
            x, y = int((np.sin(n / 70 + seed) + 1) * 0.45 * width), int((np.cos(n / 90) + 1) * 0.45 * height)
            image = np.ascontiguousarray(texture[y : y + height, x : x + width])
            frame = av.VideoFrame.from_ndarray(image, format='rgb24')
            frame.pts, frame.time_base = n, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def plain_loop(paths: list[str], size: int) -> None:
    """The centered clip of each file as most people write it."""
    import av

    for path in paths:
        with av.open(path) as container:
            frames = np.stack([frame.to_ndarray(format='rgb24') for frame in container.decode(video=0)])
        start = (len(frames) - 128) // 2
        chosen = frames[start + np.linspace(0, 127, 16).astype(int)]  # [T, H, W, C]
        x = (torch.from_numpy(chosen).float() / 255 - 0.45) / 0.225
        short = size + 32
        x = torch.nn.functional.interpolate(
            x.permute(0, 3, 1, 2), (short, short * SIZE[0] // SIZE[1]), mode='bilinear'
        )  # [T, C, H, W]
        left = (x.shape[-1] - size) // 2
        x = x[..., 16 : 16 + size, left : left + size].transpose(0, 1).contiguous()
        assert x.shape == (3, 16, size, size)


def seconds(function: Callable[[], object]) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def benchmark_decoding(paths: list[str], size: int, plain_files: int) -> None:
    from videozoo_timm.video import Job, View, Views, load_views, read_views

    views, few = Views(size, (0.45,) * 3, (0.225,) * 3), paths[:plain_files]
    cpu = time.process_time()
    plain = plain_files / seconds(lambda: plain_loop(few, size))
    plain_cpu, cpu = time.process_time() - cpu, time.process_time()
    for k, path in enumerate(few):
        list(read_views(Job(k, path), views))
    cpu = time.process_time() - cpu
    ours = []
    for _ in range(3):
        # The first file says that the processes are there.
        loaded = load_views([Job(i, path) for i, path in enumerate([paths[0], paths[1], *paths])], views, num_workers=2)
        found = 0
        while found < 2:
            found += isinstance(next(loaded)[1], View)
        begin, number = time.perf_counter(), 0
        for _, item in loaded:
            number += isinstance(item, View)
        ours.append(number / (time.perf_counter() - begin))
    ours = statistics.median(ours)
    print(
        f'decoding at {size} px: {ours:.1f} clips a second with two workers, plain loop {plain:.1f}: '
        f'{ours / plain:.1f} times (target 14)\n'
        f'  CPU time in one process: {cpu / plain_files:.3f} s a clip, plain loop {plain_cpu / plain_files:.3f}: '
        f'{plain_cpu / cpu:.1f} times'
    )


def benchmark_transport(paths: list[str], size: int) -> None:
    from videozoo_timm.video import Job, View, Views, load_views

    views = Views(size, (0.45,) * 3, (0.225,) * 3, num_clips=4)
    batch, spent, copying, before = torch.empty(8, 3, 16, size, size), [], [], math.nan
    for _, item in load_views([Job(k, path) for k, path in enumerate(paths)], views, num_workers=2):
        if isinstance(item, View):
            begin = time.thread_time()
            batch[len(spent) % len(batch)] = item.x
            copying.append(time.thread_time() - begin)
            del item
            spent.append(time.process_time() - before)
            before = time.process_time()
    spent, copying = (statistics.median(values[16:]) for values in (spent, copying))  # once memory has been touched
    print(
        f'transport at {size} px: {1000 * spent:.2f} ms of the main process a clip, of which {1000 * copying:.2f} copy '
        f'it (target at most 2)'
    )


def benchmark_pipeline(paths: list[str], runs: int) -> None:
    import timm

    from videozoo_timm.analysis.features import Features
    from videozoo_timm.inference.pipeline import evaluating, groups_of, placement_of, process, views_of
    from videozoo_timm.video import Job, View, load_views

    torch.manual_seed(0)
    model = timm.create_model('vit_t14_st').eval()
    views = views_of(model, num_clips=4)
    clips = torch.randn(4, 3, 16, views.size, views.size)
    warm = [paths[0], paths[1]]

    def timed(items: object, is_one: Callable[[object], int]) -> tuple[float, int]:
        """Seconds from when the processes are there, and the number of clips."""
        number, begin = 0, None
        for item in items:
            number += is_one(item)
            if begin is None and number >= 4:
                begin, number = time.perf_counter(), 0
        return time.perf_counter() - begin, number

    def decoding() -> tuple[float, int]:
        jobs = [Job(i, path) for i, path in enumerate([*warm, *paths])]
        return timed(load_views(jobs, views, num_workers=2), lambda item: isinstance(item[1], View))

    def pipeline() -> tuple[float, int]:
        files = [*warm, *paths]
        with evaluating(model):
            return timed(
                process(
                    lambda x: Features().compute(model, x),
                    groups_of(len(files), views, 4),
                    files,
                    views,
                    batch_size=4,
                    num_workers=2,
                    **placement_of(model),
                ),
                lambda batch: len(batch.files),
            )

    def alone(number: int) -> float:
        with evaluating(model):
            return seconds(lambda: [Features().compute(model, clips) for _ in range(number // 4)])

    rows = []
    alone(40)
    for _ in range(runs):
        whole, number = pipeline()
        decode, other = decoding()
        rows.append((whole, decode * number / other, alone(number)))
    whole, decode, model_alone = (statistics.median(row[k] for row in rows) for k in range(3))
    ratio = statistics.median(row[0] / (row[1] + row[2]) for row in rows)
    print(
        f'pipeline, small model, {number} clips: {whole:.2f} s; decoding alone {decode:.2f} s, model alone '
        f'{model_alone:.2f} s: {ratio:.2f} times their sum (target at most 1.1)'
    )


def benchmark_bfloat16(runs: int) -> None:
    import timm

    import videozoo_timm  # noqa: F401  registers the models

    clip = torch.randn(1, 3, 16, 224, 224)
    model = timm.create_model('vit_h14_st', weight_init='skip').eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.02)

    def time_of(dtype: torch.dtype) -> float:
        model.to(dtype)
        x = clip.to(dtype)
        with torch.inference_mode():
            model(x)
            return statistics.median(seconds(lambda: model(x)) for _ in range(runs))

    single, half = time_of(torch.float32), time_of(torch.bfloat16)
    print(
        f'ViT-H/14 at 224 px: {single:.2f} s a clip in float32, {half:.2f} s in bfloat16: '
        f'{single / half:.2f} times as fast'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--folder', help='where the videos are made')
    parser.add_argument('--videos', type=int, default=60)
    parser.add_argument('--plain', type=int, default=12, help='files of the plain loop')
    parser.add_argument('--runs', type=int, default=3)
    parser.add_argument('--no-huge', action='store_true', help='leave the full-size model out')
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=args.folder))
    print(
        f'torch {torch.__version__}, {os.cpu_count()} cores, {args.videos} videos of {SECONDS} s at '
        f'{SIZE[0]}x{SIZE[1]}',
        flush=True,
    )
    try:
        different = min(args.videos, 6)
        paths = []
        for k in range(args.videos):
            paths.append(str(folder / f'{k:02}.mp4'))
            if k < different:
                make_video(Path(paths[-1]), seed=k)
            else:
                shutil.copy(paths[k % different], paths[-1])
        benchmark_decoding(paths, 224, min(args.plain, args.videos))
        benchmark_transport(paths, 224)
        benchmark_pipeline(paths, args.runs)
    finally:
        shutil.rmtree(folder)
    if not args.no_huge:
        benchmark_bfloat16(args.runs)


if __name__ == '__main__':
    main()
