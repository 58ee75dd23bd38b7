"""videozoo run."""

import functools
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

from .base import argument, command
from .types import FILE


@command(
    shared=True,
    context_settings=dict(allow_interspersed_args=False),
    examples="""
    videozoo run train.py --model vit_h14_st.hvm1 --pretrained
""",
)
@argument('script', metavar='SCRIPT', type=FILE, help='Python script.')
@argument('arguments', nargs=-1, metavar='[ARGS]...', help='Its arguments.')
def run(script: Path, arguments: tuple[str, ...]) -> Callable[[], int]:
    """Run a Python script that knows only timm, with the models of this package registered."""
    if not script.is_file():
        raise FileNotFoundError(f'no script {script}' + (', which is a folder' if script.is_dir() else ''))
    return functools.partial(_run, script, arguments)


def _run(script: Path, arguments: tuple[str, ...]) -> int:
    """As `python SCRIPT ARGS...` would: its flags, signals and errors are its own."""
    from .. import models as models  # registers them

    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.resolve().parent))  # as for `python SCRIPT`
    runpy.run_path(str(script), run_name='__main__')
    return 0
