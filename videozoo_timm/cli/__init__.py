"""The `videozoo` command; also `python -m videozoo_timm`.

Exit codes: 0 all done; 1 done, but something was skipped (listed on standard error); 2 nothing could be done; 130,
143 or 129 stopped by Ctrl-C, by the batch system, or as the terminal was closed.

The modules here import PyTorch and what needs it inside their functions, so that help, lists and mistakes are there at
once.
"""

import io
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Any

import click
from click.shell_completion import shell_complete

from .. import __version__
from ..text import printable
from . import (
    again,
    attend,
    bench,
    classify,
    compare,
    complete,
    convert,
    download,
    draw,
    embed,
    evaluate,
    explore,
    export,
    fid,
    finetune,
    generate,
    info,
    list_models,
    methods,
    offer,
    pca,
    pin,
    pretrain,
    pretrain_prior,
    pretrain_tokenizer,
    probe,
    propagate,
    publish,
    reconstruct,
    run,
    similar,
    surprise,
    verify,
)
from .base import Commands, Settings, flag_of
from .inputs import unquoted
from .output import ERRORS, complain, worded

__all__ = ['commands', 'main']

_COMPLETION = '_VIDEOZOO_COMPLETE'  # the variable by which a shell asks for completions

commands = Commands(
    'videozoo',
    help='The models of HVM-1, video-models, silicon-menagerie and humanlike-vits: list, download, run and train them.',
    examples="""
        videozoo complete VIDEOS --out completions
        videozoo embed VIDEOS --model vit_hvm1_none --out features.npz
        videozoo COMMAND --help
    """,
    no_args_is_help=False,
    params=[
        click.Option(
            ['--version'],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            help='Show the version and exit.',
            callback=lambda ctx, param, value: value and _print_version(ctx),
        )
    ],
    debug_help='Show the traceback of an error, also behind the command; as VIDEOZOO_DEBUG=1 does.',
    sections={
        'Models': [list_models.list_models, info.info, download.download, verify.verify, convert.convert, pin.pin],
        'Look inside': [
            explore.explore,
            complete.complete,
            attend.attend,
            pca.pca,
            similar.similar,
            propagate.propagate,
            surprise.surprise,
        ],
        'Features': [embed.embed, compare.compare, export.export],
        'Accuracy': [classify.classify, evaluate.evaluate, probe.probe],
        'Train': [
            pretrain.pretrain,
            finetune.finetune,
            pretrain_tokenizer.pretrain_tokenizer,
            pretrain_prior.pretrain_prior,
            draw.draw,
        ],
        'Generators': [generate.generate, reconstruct.reconstruct, fid.fid],
        'What was done': [again.again, methods.methods],
        'Use elsewhere': [run.run, bench.bench, publish.publish, offer.offer],
    },
)


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
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors='backslashreplace')  # names of files need not be text
    code = _result(argv)
    if sys.stdout is None:
        return code
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes again, and would exit with 120
        if code != 2 and not isinstance(error, BrokenPipeError):
            complain(f'standard output: {error.strerror}')
            return 2
    return code


def _result(argv: list[str]) -> int | Callable[[], int]:
    """What a command returns, or the exit code of what it raises, which is told in a line."""
    settings = Settings(debug=os.environ.get('VIDEOZOO_DEBUG', '0') not in ('', '0'))
    try:
        with commands.make_context('videozoo', argv, obj=settings) as ctx:
            return commands.invoke(ctx)
    except SystemExit:
        raise
    except click.exceptions.Exit as done:  # --help, --version
        return done.exit_code
    except click.UsageError as error:
        _fail(_worded(error), argv)
        return 2
    except KeyboardInterrupt as error:
        number = error.args[0] if error.args and error.args[0] in _ENDS else signal.SIGINT
        complain(_ENDS.get(number, 'interrupted'))
        return 128 + number
    except BrokenPipeError:  # the reader (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except BaseException as error:  # what is written in Rust raises such as are no Exception
        if settings.debug:
            print(printable(traceback.format_exc(), lines=True), file=sys.stderr)
        if isinstance(error, OSError) and error.filename is not None and error.strerror:
            _fail(f'{error.filename}: {error.strerror}', argv)
        elif isinstance(error, MemoryError):
            complain('memory ran out')
        elif isinstance(error, ERRORS) and str(error):
            _fail(_with_flag(worded(error), argv), argv)
        else:
            what = ' '.join(f'{type(error).__name__}: {error}'.split()).removesuffix(':')
            complain(f'internal error: {what}' + ('' if settings.debug else ' (--debug shows the traceback)'))
        return 2


def _fail(text: str, argv: list[str]) -> None:
    """Tell why a command ends; perhaps it is a path that the shell has cut at its spaces."""
    hint = unquoted(argv)
    complain(printable(f'{text}; {hint}' if hint else text))


def _with_flag(text: str, argv: list[str]) -> str:
    """An error of the library that begins with a parameter and its value: as it is typed in this command."""
    command = next((commands.commands[word] for word in argv if word in commands.commands), None)
    match = re.match(r"(\w+)=(\[[^]]*\]|'[^']*'|[^\s:]+)(?=: )", text)
    param = next((p for p in command.params if match and p.name == match[1]), None) if command else None
    if match is None or not isinstance(param, click.Option):
        return text
    value = match[2].strip("[]'").replace(', ', ',')
    return f'{flag_of(param)} {value}{text[match.end() :]}'


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


_ENDS = {signal.SIGTERM: 'terminated'}
if hasattr(signal, 'SIGHUP'):
    _ENDS[signal.SIGHUP] = 'hung up'


@contextmanager
def _signals() -> Iterator[None]:
    """Turn the signals that end a job into an exception, so that temporary files are removed.

    Batch systems send SIGTERM, a terminal that closes SIGHUP.
    """
    before = {}
    try:
        for number in _ENDS:
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
                before[number] = signal.signal(number, _terminated)
    except ValueError:  # not in the main thread
        pass
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) == _terminated:  # otherwise one has come, and the process is about to end
                signal.signal(number, handler)


def _terminated(number: int, frame: Any) -> None:
    for other in _ENDS:  # they often come together, and the next one must not end the removal of temporary files
        signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt(number)
