"""RDMs and RSA of 10 files of 1,000 stimuli x 12 blocks x 1,280 features, with a bootstrap over stimuli; memory.

    python benchmarks/compare.py                          # minutes
    python benchmarks/compare.py --files 3 --stimuli 200 --bootstraps 100

A plain NumPy loop does the same for one pair of representations and one sample of the stimuli after the other:
dissimilarities of a sample by its rows and columns, ranks by sorting, Pearson's r. It is timed on a few and counted up.
So is a loop that ranks each representation once a sample.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from videozoo_timm.analysis import compare

STEPS = 5  # samples from which the loops are counted up


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--files', type=int, default=10)
    parser.add_argument('--stimuli', type=int, default=1000)
    parser.add_argument('--blocks', type=int, default=12)
    parser.add_argument('--features', type=int, default=1280)
    parser.add_argument('--bootstraps', type=int, default=1000)
    return parser.parse_args()


def write(path, seed, args):
    rng = np.random.default_rng(seed)
    shape = args.stimuli, args.blocks, args.features
    paths = np.array([f'{k:06}.mp4' for k in range(args.stimuli)])
    np.savez(
        path,
        features=rng.standard_normal(shape, dtype=np.float32),
        video_index=np.arange(args.stimuli),
        time=np.zeros(args.stimuli),
        blocks=np.arange(args.blocks),
        paths=paths,
    )


def rdm_of(features):
    return 1 - np.corrcoef(features)


def ranks_of(values):
    ranks = np.empty(len(values))
    ranks[np.argsort(values)] = np.arange(len(values))
    return ranks


def sampled(rdm, rows, pairs):
    i, j = rows[pairs[0]], rows[pairs[1]]
    return rdm[i[i != j], j[i != j]]


def loops(args, times=STEPS):
    """CPU seconds of the two loops, counted up from a few steps: each pair anew, each representation once a sample."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((2, args.stimuli, args.features))
    pairs, number = np.triu_indices(args.stimuli, 1), args.files * args.blocks
    steps = {}
    start = time.process_time()
    rdms = [rdm_of(rows) for rows in features]
    steps['rdm'] = (time.process_time() - start) / 2
    start = time.process_time()
    for _ in range(times):
        rows = rng.integers(args.stimuli, size=args.stimuli)
        ranks = [ranks_of(sampled(rdm, rows, pairs)) for rdm in rdms]
    steps['rank'] = (time.process_time() - start) / times / 2
    start = time.process_time()
    for _ in range(times):
        np.corrcoef(*ranks)
    steps['correlate'] = (time.process_time() - start) / times
    compared, samples = number * (number - 1) // 2, args.bootstraps + 1
    each = number * steps['rdm'] + samples * compared * (2 * steps['rank'] + steps['correlate'])
    once = number * steps['rdm'] + samples * (number * steps['rank'] + compared * steps['correlate'])
    return each, once


def main():
    args = parse_args()
    each, once = loops(args)
    print(
        f'counted up from {STEPS} samples of two representations: a plain NumPy loop over pairs {each / 3600:.1f} h, a '
        f'loop that ranks each representation once a sample {once / 3600:.2f} h',
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f'{k}.npz' for k in range(args.files)]
        for seed, path in enumerate(paths):
            write(path, seed, args)
        start, wall = time.process_time(), time.perf_counter()
        compare(paths, measures=['spearman'], bootstraps=args.bootstraps)
        used, wall = time.process_time() - start, time.perf_counter() - wall
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # of Linux, in kB
    print(
        f'{args.files} files of {args.stimuli} stimuli x {args.blocks} blocks x {args.features} features, '
        f'{args.bootstraps} bootstraps:\n'
        f'compare {used:.0f} s of CPU time ({wall:.0f} s), at most {memory:.2f} GB\n'
        f'the loop over pairs takes {each / used:.0f} times as long, the other one {once / used:.1f} times'
    )


if __name__ == '__main__':
    main()
