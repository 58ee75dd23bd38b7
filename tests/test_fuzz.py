"""What strangers wrote gives a documented error or a right result, within memory and time."""

import os
import time
from itertools import islice

import pytest
from fuzzing import TARGETS, mutations


@pytest.mark.parametrize('name', list(TARGETS))
def test_changed_files(name, tmp_path):
    """A few; `pytest -m fuzz` tries many."""
    _fuzz(name, tmp_path, seed=0, number=40 if name in ('weights', 'clips') else 300)


@pytest.mark.fuzz
@pytest.mark.parametrize('name', list(TARGETS))
def test_many_changed_files(name, tmp_path):
    seconds = float(os.environ.get('VIDEOZOO_FUZZ_SECONDS', 60))
    tried = _fuzz(name, tmp_path, seed=1, seconds=seconds)
    print(f'{name}: {tried} inputs in {seconds:g} s')


def _fuzz(name, folder, seed, number=None, seconds=float('inf')):
    target, tried, end = TARGETS[name], 0, time.monotonic() + seconds
    try:
        for data in islice(mutations(target.seeds(folder), seed), number):
            try:
                target(data, folder)
            except Exception as error:
                kept = folder / f'found{target.ending}'  # pytest keeps the folder
                kept.write_bytes(data)
                what = f'{type(error).__name__}: {error}'
                raise AssertionError(f'input {tried} of seed {seed} ({kept}): {what}') from error
            tried += 1
            if time.monotonic() > end:
                break
    finally:
        target.close()
    return tried
