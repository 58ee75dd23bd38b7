"""Processes of their own, sooner than by `python -c`: forked from one that has imported PyTorch and torchvision."""

import atexit
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import types
from pathlib import Path

_FORKS = multiprocessing.get_context('forkserver')
_FORKS.set_forkserver_preload(['torch', 'torch._dynamo', 'torchvision.models.feature_extraction'])


class ForkedPython:
    """`python -m videozoo_timm ARGUMENTS`, or `python -c CODE ARGUMENTS`, with the methods of `subprocess.Popen`."""

    def __init__(self, arguments, code, environment, folder, own_group=False):
        self.arguments = [str(argument) for argument in arguments]
        self._said = tempfile.TemporaryDirectory()
        self._out, self._err = Path(self._said.name, 'out'), Path(self._said.name, 'err')
        settings = (self.arguments, code, environment, folder, self._out, self._err, own_group)
        self._process = _FORKS.Process(target=_be_python, args=settings)
        self._process.start()
        self.pid = self._process.pid
        self.kill = self._process.kill

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def wait(self, timeout=600):
        self._process.join(timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired(self.arguments, timeout, *self._texts())
        return self.returncode

    def communicate(self, timeout=600):
        self.wait(timeout)
        return self._texts()

    def kill_group(self):
        """Kill it with the processes that it has started, if it leads a group of its own."""
        os.killpg(self.pid, signal.SIGKILL)
        self.wait()

    def _texts(self):
        return self._out.read_text(), self._err.read_text()


class ForkedRanks:
    """The processes that `torchrun --nproc_per_node NUMBER -m videozoo_timm ARGUMENTS`, or CODE in a file, starts."""

    def __init__(self, number, arguments, environment, folder, code=None):
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            address = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free.getsockname()[1]))
        sizes = dict(WORLD_SIZE=str(number), LOCAL_WORLD_SIZE=str(number))
        self.ranks = [
            ForkedPython(
                arguments,
                code,
                {**environment, **address, **sizes, 'RANK': str(rank), 'LOCAL_RANK': str(rank)},
                folder,
                own_group=True,
            )
            for rank in range(number)
        ]

    @property
    def returncode(self):
        codes = [rank.returncode for rank in self.ranks]
        return None if None in codes else max(codes, key=abs)

    def poll(self):
        return self.returncode

    def communicate(self, timeout=600):
        out, err = zip(*(rank.communicate(timeout) for rank in self.ranks), strict=True)
        return ''.join(out), ''.join(err)

    def kill_group(self):
        for rank in self.ranks:
            os.killpg(rank.pid, signal.SIGKILL)
        for rank in self.ranks:
            rank.wait()


def run_forked(arguments, code, environment, folder, timeout=600):
    """What `python -m videozoo_timm ARGUMENTS`, or `python -c CODE ARGUMENTS` if that is given, answers there."""
    process = ForkedPython(arguments, code, environment, folder)
    try:
        out, err = process.communicate(timeout)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.arguments or code, process.returncode, out, err)


def run_ranks(number, arguments, environment, folder, code=None):
    """What `torchrun --nproc_per_node NUMBER` answers."""
    ranks = ForkedRanks(number, arguments, environment, folder, code)
    out, err = ranks.communicate()
    return subprocess.CompletedProcess(arguments or code, ranks.returncode, out, err)


def _be_python(arguments, code, environment, folder, out, err, own_group):
    if own_group:
        os.setsid()
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    multiprocessing.set_start_method(None, force=True)  # the system's own, not that of this process
    assert not any(name.startswith(('timm', 'huggingface_hub', 'videozoo_timm')) for name in sys.modules)
    sys.path[:] = [
        '',
        *environment.get('PYTHONPATH', '').split(os.pathsep),
        *(path for path in sys.path if path != str(Path(__file__).parent)),
    ]
    if 'OMP_NUM_THREADS' in environment:  # which PyTorch has read when it was imported
        sys.modules['torch'].set_num_threads(int(environment['OMP_NUM_THREADS']))
    try:
        if code:
            sys.argv = ['-c', *arguments]
            sys.modules['__main__'] = types.ModuleType('__main__')
            exec(compile(code, '<string>', 'exec'), vars(sys.modules['__main__']))
        else:
            sys.argv = ['videozoo_timm', *arguments]
            runpy.run_module('videozoo_timm', run_name='__main__', alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # which a forked process leaves out
