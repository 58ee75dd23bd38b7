"""The `videozoo` command; also `python -m videozoo_timm`.

Exit codes: 0 all done; 1 done, but something was left out (listed on standard error); 2 nothing could be done; 130,
143 or 129 stopped by Ctrl-C, by the batch system, or as the terminal was closed.
"""
import argparse
import difflib
import os
import re
import signal
import sys
import traceback
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
    parser.add_argument('--debug', action='store_true',
                        help='show the traceback of an error, as the environment variable VIDEOZOO_DEBUG=1 does')
    commands = parser.add_subparsers(required=True, metavar='COMMAND')
    models.add_to(commands)
    analysis.add_to(commands)
    training.add_to(commands)
    generation.add_to(commands)
    deployment.add_to(commands)
    argv, debug = _without_debug(sys.argv[1:] if argv is None else argv)
    script = argv[2:] if argv[1:2] == ['--'] else argv[1:]
    if argv[:1] == ['run'] and script and not script[0].startswith('-'):
        return deployment.run_script(script)
    try:
        args, rest = parser.parse_known_args(_spelled(argv))
        _take_rest(args, rest)
    except SystemExit as done:  # --help, --version, and words that are not understood
        return done.code
    with redirect_stderr(sys.stderr and _Unheard(sys.stderr)):
        return _answer(args, debug or args.debug)


def _answer(args: argparse.Namespace, debug: bool) -> int:
    """Run a command; its exit code."""
    if hasattr(sys.stdout, 'reconfigure'):
        sys.stdout.reconfigure(errors='backslashreplace')  # names of files need not be text
    try:
        # Batch systems end a job with SIGTERM, a terminal that closes with SIGHUP; as an exception they let temporary
        # files be removed.
        signal.signal(signal.SIGTERM, _terminated)
        if hasattr(signal, 'SIGHUP') and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup has it
            signal.signal(signal.SIGHUP, _terminated)
    except ValueError:  # not in the main thread
        pass
    code = _exit_code(args, debug)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes again, and would exit with 120
        if code < 2 and not isinstance(error, BrokenPipeError):
            complain(f'standard output: {error.strerror}')
            return 2
    return code


def _exit_code(args: argparse.Namespace, debug: bool) -> int:
    """Run a command; its exit code, or that of what it raises, which is told in a line."""
    try:
        return args.run(args)
    except SystemExit:
        raise
    except KeyboardInterrupt as error:
        number = error.args[0] if error.args and error.args[0] in _ENDS else signal.SIGINT
        complain(_ENDS.get(number, 'interrupted'))
        return 128 + number
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except BaseException as error:  # what is written in Rust raises such as are no Exception
        if debug:
            traceback.print_exc()
        if isinstance(error, OSError) and error.filename is not None and error.strerror:
            complain(f'{error.filename}: {error.strerror}')
        elif isinstance(error, MemoryError):
            complain('memory ran out')
        elif isinstance(error, ERRORS) and str(error):
            complain(error)
        else:
            what = ' '.join(f'{type(error).__name__}: {error}'.split()).removesuffix(':')
            complain(f'internal error: {what}' + (' (--debug shows the traceback)' if not debug else ''))
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


def _without_debug(argv: Sequence[str]) -> tuple[list[str], bool]:
    """The words without --debug, wherever it stands; but a script that is run has its own."""
    end = min(list(argv).index(word) if word in argv else len(argv) for word in ('--', 'run'))
    words = [word for word in argv[:end] if word != '--debug']
    return [*words, *argv[end:]], len(words) < end or os.environ.get('VIDEOZOO_DEBUG', '0') not in ('', '0')


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


_ENDS = {signal.SIGTERM: 'terminated'}
if hasattr(signal, 'SIGHUP'):
    _ENDS[signal.SIGHUP] = 'hung up'


def _terminated(number: int, frame: Any) -> None:
    for other in _ENDS:  # they often come together, and the next one must not end the removal of temporary files
        signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt(number)
