"""Scoring a 10-second video with all contexts: `surprise` against a plain loop over windows and contexts.

    python benchmarks/surprise.py
    python benchmarks/surprise.py --model mae_h14_st.hvm1 --device cuda --dtype bfloat16

The plain loop reads each window, prepares it, and runs the model on it once for each context.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import timm
import torch

import videozoo_timm
from videozoo_timm.analysis import surprise
from videozoo_timm.inference.pipeline import placement_of
from videozoo_timm.video import prepare_clip, read_clip
from videozoo_timm.video.writing import save_video

CONTEXTS = (2, 4, 6, 8, 10)


def film(path, seconds, size):
    """A film of moving stripes and noise at 30 frames a second."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 60, (size[1], size[0], 3), dtype=np.uint8)
    columns = np.arange(size[0])[None, :, None]
    frames = (
        noise + (90 + 80 * np.sin((columns + 4 * k) / 25 + np.arange(3))).astype(np.uint8) for k in range(30 * seconds)
    )
    save_video(frames, path, 30, quality=23)


def plain(model, path, step, stride, read_once):
    """The scores of a plain loop, [W, K]."""
    placement = placement_of(model)
    number = 30 * 10 // step
    rows = []
    for start in range(0, number - 16, stride):
        row, x = [], None
        for context in CONTEXTS:
            if x is None or not read_once:
                sampling = videozoo_timm.video.Steps(16, 1, '', step / 30)
                frames = read_clip(path, sampling=sampling, start=start * step / 30).frames
                config = model.pretrained_cfg
                x = prepare_clip(frames, model.patch_embed.img_size[0], mean=config['mean'], std=config['std'])
            mask = torch.zeros(1, *model.patch_embed.video_grid_size, dtype=torch.bool)
            mask[:, context // model.tubelet_size :] = True
            row.append(model(x[None].to(**placement), mask=mask)[0].item())
        rows.append(row)
    return torch.tensor(rows)


def main():
    """Time both in turn and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--model', default='mae_t14_st.shapes')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--dtype', default='float32')
    parser.add_argument('--size', type=int, nargs=2, default=(640, 360), help='width and height of the video')
    parser.add_argument('--frame-step', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=3)
    args = parser.parse_args()
    model = timm.create_model(args.model, pretrained=True).to(args.device, getattr(torch, args.dtype)).eval()
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder, 'film.mp4')
        film(path, 10, args.size)
        ways = {
            'surprise': lambda: surprise(model, path, frame_step=args.frame_step).series[0].scores,
            'loop that reads a window once': lambda: plain(model, path, args.frame_step, 2, True),
            'plain loop': lambda: plain(model, path, args.frame_step, 2, False),
        }
        taken = {name: ([], []) for name in ways}
        scores = {}
        for _ in range(args.rounds):
            for name, way in ways.items():
                before = time.process_time(), time.perf_counter()
                scores[name] = way()
                taken[name][0].append(time.process_time() - before[0])
                taken[name][1].append(time.perf_counter() - before[1])
    ours = [statistics.median(times) for times in taken['surprise']]
    error = max(float((scores['surprise'] / scores[name] - 1).abs().max()) for name in ways)
    print(f'{args.model}, 10 s at {args.size[0]} x {args.size[1]}, {scores["surprise"].numel()} scores', end=', ')
    print(f'largest difference {error:.0e} of a score')
    for name, times in taken.items():
        cpu, wall = map(statistics.median, times)
        print(f'{name:30} {cpu:7.2f} s CPU ({cpu / ours[0]:.1f}x)  {wall:7.2f} s ({wall / ours[1]:.1f}x)')


if __name__ == '__main__':
    main()
