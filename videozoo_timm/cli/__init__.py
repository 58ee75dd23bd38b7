"""The `videozoo` command; also `python -m videozoo_timm`.

Exit codes: 0 all done; 1 done, but something was skipped (listed on standard error); 2 nothing could be done; 130
or 143 stopped by Ctrl-C or by the batch system.

The modules here import PyTorch and what needs it inside their functions, so that help, lists and mistakes are there at
once.
"""
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Any

import click
from click.shell_completion import shell_complete

from .. import __version__
from . import (
    attend,
    bench,
    classify,
    complete,
    convert,
    download,
    draw,
    embed,
    evaluate,
    fid,
    finetune,
    generate,
    info,
    list_models,
    offer,
    pca,
    pretrain,
    probe,
    publish,
    run,
    verify,
)
from .options import Commands, flag_of
from .output import ERRORS, complain

__all__ = ['commands', 'main']

_COMPLETION = '_VIDEOZOO_COMPLETE'  # the variable by which a shell asks for completions

commands = Commands(
    'videozoo',
    help='The models of HVM-1, video-models and silicon-menagerie: list, download, run and train them.',
    examples='''
        videozoo complete VIDEOS --out completions
        videozoo embed VIDEOS --model vit_hvm1_none --out features.npz
        videozoo COMMAND --help
    ''',
    no_args_is_help=False,
    params=[click.Option(
        ['--version'], is_flag=True, is_eager=True, expose_value=False, help='Show the version and exit.',
        callback=lambda ctx, param, value: value and _print_version(ctx))],
    sections={
        'Models': [list_models.list_models, info.info, download.download, verify.verify, convert.convert],
        'Look inside': [complete.complete, attend.attend, pca.pca],
        'Features': [embed.embed],
        'Accuracy': [classify.classify, evaluate.evaluate, probe.probe],
        'Train': [pretrain.pretrain, finetune.finetune, draw.draw],
        'Image generators': [generate.generate, fid.fid],
        'Use elsewhere': [run.run, bench.bench, publish.publish, offer.offer],
    })


def _print_version(ctx: click.Context) -> None:
    click.echo(f'videozoo-timm {__version__}')
    ctx.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    if instruction := os.environ.get(_COMPLETION):
        return shell_complete(commands, {}, 'videozoo', _COMPLETION, instruction)
    with redirect_stderr(sys.stderr and _Unheard(sys.stderr)), _signals():
        result = _answer(sys.argv[1:] if argv is None else list(argv))
    return result() if callable(result) else result  # of `run`, whose script has the process for itself


def _answer(argv: list[str]) -> int | Callable[[], int]:
    """Run a command; its exit code, or what is left to do outside of this command line."""
    if hasattr(sys.stdout, 'reconfigure'):
        sys.stdout.reconfigure(errors='backslashreplace')  # names of files need not be text
    try:
        with commands.make_context('videozoo', argv) as ctx:
            return commands.invoke(ctx)
    except click.exceptions.Exit as done:  # --help, --version
        return done.exit_code
    except click.UsageError as error:
        complain(_worded(error))
        return 2
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


def _worded(error: click.UsageError) -> str:
    """What is wrong with the words of a command, and the way out, in one line."""
    near = (getattr(error, 'possibilities', None) or [''])[0]
    if isinstance(error, click.NoSuchOption):
        text = f'no option {error.option_name}'
    elif isinstance(error, click.exceptions.NoSuchCommand):
        text = f'no command {error.command_name}'
    elif isinstance(error, click.MissingParameter) and error.param is not None:
        text = f'{flag_of(error.param)} is required'
    elif isinstance(error, click.BadParameter) and error.param is not None:
        text = f'{flag_of(error.param)}: {error.message}'
    else:
        text = error.format_message()
        text = text[:1].lower() + text[1:]
    text = f'{text}; did you mean {near}?' if near else text.rstrip('.')
    path = error.ctx.command_path if error.ctx else 'videozoo'
    return f'{text}{" See" if text.endswith("?") else "; see"} {path} --help'


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


@contextmanager
def _signals() -> Iterator[None]:
    """Batch systems end a job with SIGTERM; as an exception it lets temporary files be removed."""
    try:
        before = signal.signal(signal.SIGTERM, _terminated)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminated(number: int, frame: Any) -> None:
    raise KeyboardInterrupt(number)
