"""Processes of their own, sooner than by `python -c`: forked from one that has imported PyTorch and torchvision."""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import types
from pathlib import Path

_FORKS = multiprocessing.get_context('forkserver')
_FORKS.set_forkserver_preload(['torch', 'torch._dynamo', 'torchvision.models.feature_extraction'])


def run_forked(arguments, code, environment, folder, timeout=600):
    """What `python -m videozoo_timm ARGUMENTS`, or `python -c CODE` if that is given, answers there."""
    with tempfile.TemporaryDirectory() as said:
        out, err = Path(said, 'out'), Path(said, 'err')
        arguments = [str(argument) for argument in arguments]
        process = _FORKS.Process(target=_be_python, args=(arguments, code, environment, folder, out, err))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(arguments or code, timeout, out.read_text(), err.read_text())
        return subprocess.CompletedProcess(arguments or code, process.exitcode, out.read_text(), err.read_text())


def _be_python(arguments, code, environment, folder, out, err):
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
    try:
        if code:
            sys.argv = ['-c']
            sys.modules['__main__'] = types.ModuleType('__main__')
            exec(compile(code, '<string>', 'exec'), vars(sys.modules['__main__']))
        else:
            sys.argv = ['videozoo_timm', *arguments]
            runpy.run_module('videozoo_timm', run_name='__main__', alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # which a forked process leaves out
