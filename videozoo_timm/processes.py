"""Python processes that this package starts, to decode videos for instance."""

import os
import select
import subprocess
import sys
import sysconfig
import threading
from multiprocessing import spawn
from typing import Any

from .errors import NoInterpreterError


def start_python(target: str, **popen: Any) -> subprocess.Popen[bytes]:
    """Start a Python process that calls a function of this package and imports nothing from the current folder.

    It imports no script of the user's and registers no models. It ends when the pipe to its standard input is closed.

    Args:
        target: 'package.module:function', which takes no arguments.
        **popen: As in `subprocess.Popen`, but `env`.

    Raises:
        NoInterpreterError: This program has no interpreter that could be started.
    """
    executable = spawn.get_executable()  # `sys.executable`, or what `multiprocessing.set_executable` says
    if not executable or getattr(sys, 'frozen', False):
        raise NoInterpreterError(
            'no Python interpreter is known that a process could be started with (this one is part of another '
            'program): {num_workers} decodes in this process',
            num_workers=0,
        )
    module, _, function = target.partition(':')
    # Until its first statement such a process imports nothing from the '' that -c puts in front, as `sys` is built in.
    code = (
        f'import sys; sys.path[:] = sys.argv[1:]; from {__name__} import end_with_parent; end_with_parent(); '
        f'from {module} import {function}; {function}()'
    )
    left_out = ('PYTHONPATH', 'PYTHONINSPECT')  # an empty entry of the first is the current folder
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    return subprocess.Popen[bytes](
        [executable, *_interpreter_options(), '-c', code, *import_path()],
        env=dict(environment, VIDEOZOO_NO_MODELS='1'),
        **popen,
    )


def end_with_parent() -> None:
    """End this process once the pipe to its standard input is closed, even while it is still importing.

    Without `poll` (Windows) it ends when it reads from there.
    """
    if not hasattr(select, 'poll'):
        return
    watched = select.poll()
    watched.register(0, 0)  # hang-ups alone, which are told in any case

    def watch() -> None:
        watched.poll()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _interpreter_options() -> list[str]:
    """The -W, -X, -I ... of this interpreter."""
    return subprocess._args_from_interpreter_flags()  # pyright: ignore[reportAttributeAccessIssue]  # nothing public


def import_path() -> list[str]:
    """`sys.path` without the current folder; but at its end if this package or Python itself lies in it."""
    path = [entry for entry in sys.path if isinstance(entry, str) and entry]
    try:
        here = _place(os.getcwd())
    except FileNotFoundError:  # it has been removed
        return path
    path = [entry for entry in path if _place(entry) != here]
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if here in map(_place, (ours, *sysconfig.get_paths().values())):
        path.append(here)
    elif ours not in path:  # an import hook has found it, as some editable installations have one
        path.append(ours)
    return path


def _place(path: str) -> str:
    return os.path.normcase(os.path.realpath(path))
