"""Clips out of files, against torchcodec and decord2: CPU time and wall time, one thread each, in one run.

    pip install torchcodec decord2   # torchcodec needs the libraries of FFmpeg, Debian's `ffmpeg` for instance
    python benchmarks/decoding.py [--folder /tmp] [--clips 12] [--runs 5]

H.264 videos of 20 s at 30 frames per second, with a key frame every 30 and every 250 frames, at 640x360 and 1920x1080.
Each clip is 16 frames spread over 128, at a random place, opened anew, as uint8. The peers get the numbers of the
frames, torchcodec in the faster of its two modes of seeking. The peers' clips are compared with ours.
"""

import argparse
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from videos import RATE, SECONDS, make_video

from videozoo_timm.video import RECOGNITION, read_clip

Read = Callable[[str, float], torch.Tensor]


def ours(path: str, start: float) -> torch.Tensor:
    # The peers take untagged videos of every size for BT.601.
    return read_clip(path, start=start, num_threads=1, color='published').frames  # [T, H, W, C]


def torchcodec(mode: str) -> Read:
    from torchcodec.decoders import VideoDecoder

    def read(path: str, start: float) -> torch.Tensor:
        decoder = VideoDecoder(path, num_ffmpeg_threads=1, seek_mode=mode, dimension_order='NHWC')
        return decoder.get_frames_at(indices(start)).data

    return read


def decord2() -> Read:
    import decord

    def read(path: str, start: float) -> torch.Tensor:
        reader = decord.VideoReader(path, num_threads=1)
        return torch.from_numpy(reader.get_batch(indices(start)).asnumpy())

    return read


def indices(start: float) -> list[int]:
    return [int(start * RATE + k + 1e-6) for k in RECOGNITION.positions]


def time_of(read: Read, clips: list[tuple[str, float]]) -> tuple[float, float]:
    """CPU and wall seconds a clip."""
    wall, cpu = time.perf_counter(), time.process_time()
    for path, start in clips:
        read(path, start)
    return (time.process_time() - cpu) / len(clips), (time.perf_counter() - wall) / len(clips)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--folder', help='where the videos are made')
    parser.add_argument('--clips', type=int, default=12)
    parser.add_argument('--runs', type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    readers = {
        'ours': ours,
        'torchcodec, exact': torchcodec('exact'),
        'torchcodec, approximate': torchcodec('approximate'),
        'decord2': decord2(),
    }
    folder = Path(tempfile.mkdtemp(dir=args.folder))
    rng = random.Random(0)
    try:
        for size in ((640, 360), (1920, 1080)):
            for interval in (30, 250):
                paths = [folder / f'{size[1]} {interval} {k}.mp4' for k in range(2)]
                for k, path in enumerate(paths):
                    make_video(path, k, size, dict(g=str(interval), preset='veryfast', bf='3'))
                starts = [rng.randrange(int((SECONDS - RECOGNITION.seconds) * RATE)) / RATE for _ in range(args.clips)]
                clips = [(str(paths[k % len(paths)]), start) for k, start in enumerate(starts)]
                for name, read in readers.items():
                    apart = (read(*clips[0]).float() - ours(*clips[0]).float()).abs().mean()
                    assert apart < 3, f'{name} shows other frames ({apart:.1f} levels apart)'
                rows = [{name: time_of(read, clips) for name, read in readers.items()} for _ in range(args.runs)]
                print(f'{size[0]}x{size[1]}, a key frame every {interval} frames', flush=True)
                for name in readers:
                    cpu, wall = (statistics.median(row[name][k] for row in rows) for k in (0, 1))
                    ratio = statistics.median(row[name][0] / row['ours'][0] for row in rows)
                    print(f'  {name:24} {cpu:.3f} s of CPU, {wall:.3f} s a clip: {ratio:.2f} times ours', flush=True)
                for path in paths:
                    path.unlink()
    finally:
        shutil.rmtree(folder)


if __name__ == '__main__':
    main()
