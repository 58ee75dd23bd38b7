"""Fixtures: a loopback Hub, caches of their own, checkpoints of the published layout."""

import argparse
import json
import os
import signal
from pathlib import Path

import pytest
import torch
from forked_python import run_forked
from golden import recipe
from loopback_hub import LoopbackHub
from safetensors.torch import load_file

if 'PYTEST_XDIST_WORKER' in os.environ:  # the workers share the cores, and so do the processes that tests start
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    os.environ.setdefault('TORCHINDUCTOR_COMPILE_THREADS', '1')  # in the process itself
    torch.set_num_threads(int(os.environ['OMP_NUM_THREADS']))

if hasattr(signal, 'SIGHUP') and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # as nohup has it
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start what runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests press Ctrl-C

HERE = Path(__file__).parent
GOLDEN = HERE / 'golden'
CLIPS = HERE / 'clips'
REPOSITORY = HERE.parent
MANIFEST = json.loads((GOLDEN / 'manifest.json').read_text())

# How the goldens' small models are made of the small architectures.
TINY_VIT = dict(img_size=56, num_frames=4, num_classes=7, embed_dim=48, depth=3, num_heads=4)
TINY_MAE = dict(
    img_size=56, embed_dim=48, depth=2, num_heads=4, decoder_embed_dim=32, decoder_depth=2, decoder_num_heads=4
)


def golden(name):
    return load_file(GOLDEN / f'{name}.safetensors')


def published(name):
    """The tensors of a golden checkpoint, in the published layout."""
    tensors = recipe.fill(MANIFEST['shapes'][name])
    if 'codebook.N' in tensors:  # as the goldens of the video VQGANs were made
        tensors['codebook.N'] = torch.ones_like(tensors['codebook.N'])
        tensors |= {k: v.abs() + 0.5 for k, v in tensors.items() if k.endswith('running_var')}
    return tensors


def save_published(tensors, path, **torch_save):
    """Write a checkpoint as published: the model among an optimizer's state and a Namespace."""
    optimizer = {'state': {0: {'step': 3, 'exp_avg': torch.zeros(5)}}, 'param_groups': [{'lr': 1e-4, 'params': [0]}]}
    args = argparse.Namespace(lr=1e-4, output_dir='somewhere', dtype=torch.float32)
    checkpoint = {'model': tensors, 'optimizer': optimizer, 'epoch': 7, 'scaler': {'scale': 1.0}, 'args': args}
    torch.save(checkpoint, path, **torch_save)
    return path


def hanging_video(path):
    """Write a video that takes minutes: behind its frames lie 64 GB of zeros, of which the disk keeps nothing."""
    from test_video import write_video

    video = write_video(path.with_suffix('.mpg'), 30, codec='mpeg2video')
    os.truncate(video, 2**36)
    return video.rename(path)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    torch.manual_seed(0)  # what a fixture draws is the same, whichever test needs it first


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    torch.manual_seed(0)  # and what a test draws, whichever fixtures were drawn for it


@pytest.fixture(autouse=True)
def decoding_here(monkeypatch):
    """Commands that are called decode in this process if not told otherwise: a process that decodes imports PyTorch."""
    monkeypatch.setattr('videozoo_timm.cli.options.default_workers', lambda: 0)


ERRORS = {}  # of each test the largest relative error so far


def relative_error(ours, theirs):
    error = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    test = os.environ['PYTEST_CURRENT_TEST'].removesuffix(' (call)')
    ERRORS[test] = max(error, ERRORS.get(test, 0))
    return error


def pytest_addoption(parser):
    parser.addoption('--errors', action='store_true', help='with -n 0: print the largest relative error of each test')


def pytest_terminal_summary(terminalreporter, config):
    if config.option.errors:
        for test, error in ERRORS.items():
            terminalreporter.write_line(f'{error:.0e}  {test}')


@pytest.fixture
def hub():
    """A Hub on loopback."""
    server = LoopbackHub()
    server.start()
    yield server
    server.stop()


def hub_environment(hub, folder):
    """Environment of a process that sees the loopback Hub, and caches in `folder`."""
    return dict(
        os.environ,
        HF_ENDPOINT=hub.url,
        HF_HOME=str(folder / 'hf'),
        TORCH_HOME=str(folder / 'torch'),
        HF_HUB_DISABLE_TELEMETRY='1',
        HF_HUB_DISABLE_PROGRESS_BARS='1',
        NO_PROXY='127.0.0.1',
        PYTHONPATH=str(REPOSITORY),
    )


@pytest.fixture
def environment(hub, tmp_path):
    """Environment of a process that sees the loopback Hub, and empty caches."""
    return hub_environment(hub, tmp_path)


@pytest.fixture
def run(environment, tmp_path):
    """Run Python code, or a videozoo command, in a process of its own that sees the loopback Hub."""

    def run(*args, code=None, check=True, **extra):
        done = run_forked(args, code, dict(environment, **extra), tmp_path)
        if check:
            assert done.returncode == 0, done.stderr
        return done

    return run
