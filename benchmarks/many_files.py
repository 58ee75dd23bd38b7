"""What 100,000 files cost beside decoding and the model: planning, each file, memory, starting again after a kill.

    python benchmarks/many_files.py [--folder /tmp] [--files 100000] [--read-all] [--profile]

The files are hard links to one tiny video, in folders of a thousand. `videozoo embed` runs in one process with the
smallest model at its smallest size. It is killed when 19 of 20 files are done, and the same command goes on to the end.
As all files are the same, it is read once and shown for all (--read-all reads each): reading does not count here.
Planning is the time from the start of the command to the first file, imports and model included. What a file costs is
CPU time of the process, without that in which files are read and prepared and in which the model computes.
"""

import argparse
import cProfile
import json
import os
import pstats
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

_LINKS = 30_000  # file systems allow some 65,000 of one file


def make_folder(folder: Path, number: int) -> None:
    """Hard links to copies of one video of four frames."""
    import av
    import numpy as np

    original = folder / 'original.mp4'
    with av.open(str(original), 'w') as container:
        stream = container.add_stream('libx264', rate=30, options=dict(preset='veryfast'))
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        for k in range(4):
            image = np.full((48, 64, 3), 60 * k, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
        container.mux(stream.encode())
    videos, source = folder / 'videos', original
    for k in range(number):
        if k % _LINKS == 0:
            source = shutil.copy(original, folder / f'copy {k}.mp4')
        if k % 1000 == 0:
            (videos / f'{k // 1000:03}').mkdir(parents=True)
        os.link(source, videos / f'{k // 1000:03}' / f'{k:06}.mp4')


class _Clocks:
    """CPU time of the process, of which some is spent on files and in the model."""

    def __init__(self, kill_at: int | None) -> None:
        self.kill_at, self.done = kill_at, 0
        self.peak = 0
        self.elsewhere = 0.0  # CPU time spent on files and in the model
        self.begin, self.first = (time.perf_counter(), 0.0), (0.0, 0.0)  # wall and CPU time

    def reading(self, read: Any, read_all: bool) -> Any:
        shown: list[Any] = []

        def timed(*args: Any) -> Iterator[Any]:
            if self.done == 0:
                self.first = time.perf_counter(), time.process_time()
                self.peak = _peak()
            before = time.process_time()
            if read_all or not shown:
                shown[:] = read(*args)
            self.elsewhere += time.process_time() - before
            self.done += 1
            if self.done == self.kill_at:
                self.tell()
                os.kill(os.getpid(), signal.SIGKILL)
            yield from shown

        return timed

    def computing(self, function: Any) -> Any:
        def timed(*args: Any) -> Any:
            before = time.process_time()
            try:
                return function(*args)
            finally:
                self.elsewhere += time.process_time() - before

        return timed

    def tell(self) -> None:
        beside = time.process_time() - self.first[1] - self.elsewhere
        print(
            json.dumps(
                dict(
                    start=self.first[0] - self.begin[0],
                    cpu=self.first[1],
                    planned=self.peak,
                    files=self.done,
                    beside=beside,
                    spent=self.elsewhere,
                    peak=_peak(),
                )
            ),
            flush=True,
        )


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run(folder: Path, kill_at: int | None, read_all: bool, profile: bool) -> None:
    """In a process of its own: the command, with clocks."""
    clocks = _Clocks(kill_at)
    from videozoo_timm.analysis.features import Features
    from videozoo_timm.cli import main
    from videozoo_timm.video import workers

    workers.read_views = clocks.reading(workers.read_views, read_all)
    Features.compute = clocks.computing(Features.compute)
    model = ['--model', 'vit_t14_st', '--from-scratch', '--img-size', '28', '--num-frames', '2', '--device', 'cpu']
    profiler = cProfile.Profile()
    if profile:
        profiler.enable()
    how = ['--batch-size', '16', '--num-workers', '0', '--out', str(folder / 'features.npz')]
    code = main(['embed', str(folder / 'videos'), *model, *how])
    profiler.disable()
    clocks.tell()
    if profile:
        pstats.Stats(profiler, stream=sys.stderr).sort_stats('tottime').print_stats(35)
    sys.exit(code)


def measure(folder: Path, number: int, kill_at: int | None, flags: list[str]) -> dict[str, Any]:
    command = [sys.executable, __file__, '--run', str(folder), '--files', str(number)]
    command += ['--kill-at', str(kill_at)] if kill_at else []
    result = subprocess.run([*command, *flags], stdout=subprocess.PIPE, text=True)
    if result.returncode not in (0, -signal.SIGKILL):
        raise SystemExit(f'the command ended with exit code {result.returncode}')
    return json.loads(next(line for line in result.stdout.splitlines() if line.startswith('{')))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--folder', help='where the files are made')
    parser.add_argument('--files', type=int, default=100_000)
    parser.add_argument('--read-all', action='store_true', help='read every file, which takes far longer')
    parser.add_argument('--profile', action='store_true', help='also show where the time goes')
    parser.add_argument('--run', type=Path, help=argparse.SUPPRESS)
    parser.add_argument('--kill-at', type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        run(args.run, args.kill_at, args.read_all, args.profile)
    folder = Path(tempfile.mkdtemp(dir=args.folder))
    try:
        make_folder(folder, args.files)
        flags = ['--read-all'] * args.read_all + ['--profile'] * args.profile
        first = measure(folder, args.files, args.files * 19 // 20, flags)
        again = measure(folder, args.files, None, flags)
    finally:
        shutil.rmtree(folder)
    rows = [
        ('planning', first['start'], 's', 10),
        ('  of which CPU time', first['cpu'], 's', 10),
        ('a file, beside reading and model', 1000 * (first['beside'] + again['beside']) / args.files, 'ms', 2),
        ('peak memory', max(first['peak'], again['peak']) / 1e9, 'GB', 1),
        ('  of which when planned', first['planned'] / 1e9, 'GB', 1),
        ('starting again after a kill', again['start'], 's', 15),
        ('  of which CPU time', again['cpu'], 's', 15),
    ]
    spent = 1000 * (first['spent'] + again['spent']) / args.files
    print(f'{args.files} files, of which each takes {spent:.2f} ms to read and to compute')
    for name, value, unit, target in rows:
        print(f'  {name:34} {value:7.2f} {unit:2} (target at most {target})')


if __name__ == '__main__':
    main()
