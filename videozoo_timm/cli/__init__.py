"""The `videozoo` command; also `python -m videozoo_timm`.

Exit codes: 0 all done; 1 done, but something was left out (listed on standard error); 2 nothing could be done; 130
or 143 stopped by Ctrl-C or by the batch system.
"""
import argparse
import difflib
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from typing import Any

from .. import __version__
from . import analysis, deployment, generation, models, training
from .common import ERRORS, complain

__all__ = ['main']


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(
        prog='videozoo',
        description='The models of HVM-1, video-models and silicon-menagerie: list, fetch, run and train them.')
    parser.add_argument('--version', action='version', version=f'videozoo-timm {__version__}')
    commands = parser.add_subparsers(required=True, metavar='COMMAND')
    models.add_to(commands)
    analysis.add_to(commands)
    training.add_to(commands)
    generation.add_to(commands)
    deployment.add_to(commands)
    argv = list(sys.argv[1:] if argv is None else argv)
    script = argv[2:] if argv[1:2] == ['--'] else argv[1:]
    if argv[:1] == ['run'] and script and not script[0].startswith('-'):
        return deployment.run_script(script)
    try:
        args, rest = parser.parse_known_args(_spelled(argv))
        _take_rest(args, rest)
    except SystemExit as done:  # --help, --version, and words that are not understood
        return done.code
    with redirect_stderr(sys.stderr and _Unheard(sys.stderr)):
        return _answer(args)


def _answer(args: argparse.Namespace) -> int:
    """Run a command; its exit code."""
    if hasattr(sys.stdout, 'reconfigure'):
        sys.stdout.reconfigure(errors='backslashreplace')  # names of files need not be text
    try:
        # Batch systems end a job with this signal; as an exception it lets temporary files be removed.
        signal.signal(signal.SIGTERM, _terminated)
    except ValueError:  # not in the main thread
        pass
    try:
        return args.run(args)
    except KeyboardInterrupt as error:
        complain('terminated' if error.args else 'interrupted')
        return 143 if error.args else 130
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ERRORS as error:
        told_by_system = isinstance(error, OSError) and error.filename is not None and error.strerror
        complain(f'{error.filename}: {error.strerror}' if told_by_system else error)
        return 2


class _Unheard:
    """Standard error whose reader may be gone: Ctrl-C ends `tee` too, and a run must not lose its checkpoint by it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._try(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, call: Callable[..., Any], *args: Any) -> None:
        try:
            call(*args)
        except OSError:  # on Windows it is no BrokenPipeError
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


def _spelled(argv: Sequence[str]) -> list[str]:
    """Words as argparse understands them."""
    words = []
    for word in argv:
        if '--' in words:  # behind it are PATH...
            words.append(word)
        elif words and words[-1].startswith('--') and re.fullmatch(r'-\d+(,-?\d+)+', word):
            words[-1] += f'={word}'  # a list that begins with a negative number is no flag
        else:
            # The published scripts spell their flags with underscores.
            words.append(re.sub(r'^--\w+', lambda flag: flag[0].replace('_', '-'), word))
    return words


def _take_rest(args: argparse.Namespace, rest: list[str]) -> None:
    """What argparse leaves: PATH... that stand behind options, and what no option is called."""
    end = rest.index('--') if '--' in rest else len(rest)  # behind it are PATH... that begin with a dash
    flags = [word.split('=')[0] for word in rest[:end] if word.startswith('-')]
    rest = rest[:end] + rest[end + 1:]
    if flags:
        near = difflib.get_close_matches(flags[0], re.findall(r'--[a-z-]+', args.parser.format_help()), n=1)
        args.parser.error(f'no option {flags[0]}' + (f'; did you mean {near[0]}?' if near else ''))
    if rest and not hasattr(args, 'paths'):
        args.parser.error(f'what is meant by {" ".join(rest)}?')
    if rest:
        args.paths += rest


def _terminated(number: int, frame: Any) -> None:
    raise KeyboardInterrupt(number)
