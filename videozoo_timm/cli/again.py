"""videozoo again."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import click

from ..notes import Notes, listening
from ..text import counted, printable
from .base import argument, command, flag_of, option
from .options import folder_option
from .output import complain, echo
from .recording import key_of, plain, with_options
from .types import FILE, Number

_SAY_NOTHING = ('--force', '--resume')  # of results that go into an empty folder


@command(
    examples="""
    videozoo again features.npz.run.json
    videozoo again evaluation/run.json --tolerance 1e-5
    videozoo again surprise --check
    videozoo again features.npz --folder /data/copy --out repeated
"""
)
@argument(
    'record',
    metavar='RECORD',
    type=FILE,
    help='Record of a run, RESULT.run.json or run.json in the folder of results; or these results.',
)
@option(
    '--check',
    is_flag=True,
    help='Tell only what has changed since: inputs, weights in files, versions. Compute nothing.',
)
@option(
    '--tolerance',
    type=Number(0),
    default=0.0,
    metavar='X',
    help='Numbers may differ by this fraction of the largest value of their array or column.',
)
@folder_option(
    '--out', show_default='a temporary one, which is removed', help='New folder for the results of the repetition.'
)
@folder_option(
    '--folder',
    show_default='where the run was started',
    help='Where paths of the command line go from, if the data are elsewhere now.',
)
def again(record: Path, check: bool, tolerance: float, out: Path | None, folder: Path | None) -> int:
    """Repeat a run by its record, and tell whether its results are the same.

    First it tells what has changed: inputs, weights, versions. Exit code 0 if all results are equal (within
    --tolerance), 1 if not, 2 if the run cannot be repeated.
    """
    from ..outputs import Output
    from ..records.record import read

    told, path = read(record)
    repeated = _command_of(told, path)
    if (processes := int(os.environ.get('WORLD_SIZE', '1'))) > 1:
        raise ValueError(f'a run is repeated by one process, not {processes}: start videozoo again without torchrun')
    if check and out is not None:
        raise ValueError('--check computes nothing, so there is nothing for --out')
    if out is not None:
        Output(out).check_folder()
        if Output(out).exists:
            raise Output(out).refusal('is not empty')
        out = out.absolute()
    path = path.absolute()
    with _inside(folder or Path(told['folder']), told, folder is not None):
        changes = _changes(told, path)
        for change in changes:
            complain(change)
        if check:
            with repeated.make_context(
                told['command'][1], told['command'][2:], parent=click.get_current_context().parent
            ):
                pass  # what this version cannot read is an error
            echo(f'{path}: {counted(len(changes), "change")}' if changes else f'{path}: nothing has changed')
            return int(bool(changes))
        with ExitStack() as stack:
            where = out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix='videozoo-again-')))
            where.mkdir(parents=True, exist_ok=True)
            new = _repeat(told, path, repeated, where)
            return _compare(told, path, new, tolerance, bool(out))


def _command_of(record: dict[str, Any], path: Path) -> click.Command:
    """The command of a record: one that gives results, so that no record makes anybody run or upload things."""
    from . import commands

    name = record['command'][1]
    found = commands.commands.get(name)
    if found is None or not getattr(found, 'results', ''):
        known = ', '.join(sorted(name for name, one in commands.commands.items() if getattr(one, 'results', '')))
        raise ValueError(f'{path}: {name!r} is no command that is repeated; these are: {known}')
    return found


@contextmanager
def _inside(folder: Path, record: dict[str, Any], is_given: bool) -> Iterator[None]:
    """Within, relative paths go from a folder, but those of modules: nothing there is ever imported."""
    before, modules = os.getcwd(), sys.path[:]
    if not folder.is_dir():
        way = 'name another one' if is_given else 'where are the data now? --folder DIR says it'
        raise FileNotFoundError(f'{folder}: there is no such folder, from which relative paths go; {way}')
    sys.path[:] = map(os.path.abspath, modules)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        sys.path[:] = modules


def _changes(record: dict[str, Any], path: Path) -> list[str]:
    """What has changed since a run, in words.

    Raises:
        FileNotFoundError: Inputs are not there.
    """
    from ..records.inputs import changes_of_inputs
    from ..records.machine import installed_version, this_machine
    from ..records.record import results_of

    results = results_of(path)
    old = [{name: value for name, value in entry.items() if name != 'made_by'} for entry in record['inputs']]
    new = [_described_again(entry, results) for entry in old]
    pairs = zip(old, new, strict=True)
    if gone := [now['path'] for before, now in pairs if now.get('missing') and not before.get('missing')]:
        raise FileNotFoundError(
            f'{", ".join(gone)}: {"is" if len(gone) == 1 else "are"} not there any more (from {os.getcwd()}); --folder '
            f'DIR says where relative paths go from'
        )
    told = changes_of_inputs(old, new)
    for name, version in record['versions'].items():
        if (now := installed_version(name)) != version:
            told.append(f'{name}: was {version}, is {now or "not installed"}')
    machine = this_machine()
    for name, otherwise in (('processor', None), ('processes', 1)):
        before, now = (of.get(name, otherwise) for of in (record['machine'], machine))
        if before != now:
            told.append(f'{name}: was {before}, is {now}')
    return told


def _described_again(entry: dict[str, Any], results: Path) -> dict[str, Any]:
    from ..analysis.stimulus_tables import read_manifest
    from ..records.inputs import describe_inputs, describe_listed

    path, contents = entry['path'], bool(entry.get('sha256'))
    if not entry.get('listed'):
        return describe_inputs([path], results, contents)[0]
    if not Path(path).exists():
        return dict(path=path, missing=True)
    return describe_listed(path, read_manifest(path).files, contents)


class _Watch(Notes):
    """Tells, before anything is computed, of weights that are not those of a record; notes where the new record is."""

    def __init__(self, record: dict[str, Any]) -> None:
        super().__init__()
        self.before, self.records = record['models'], list[Path]()

    def loaded(self, about: dict[str, Any]) -> None:
        number = len(self.models)
        super().loaded(about)
        if len(self.models) == number or number >= len(self.before):
            return
        old = self.before[number]
        name = '.'.join(filter(None, (str(about.get('architecture')), about.get('tag'))))
        for key, what in (
            ('checksum', 'weights'),
            ('weights', 'weights'),
            ('dtype', 'data type'),
            ('device', 'device'),
        ):
            if old.get(key) != about.get(key):
                values = (str(told.get(key))[:16] for told in (old, about))
                complain('{}: {} were {}, are {}'.format(name, what, *values))
                if what == 'weights':
                    break

    def recorded(self, path: Path) -> None:
        self.records.append(path)


def _repeat(record: dict[str, Any], path: Path, repeated: click.Command, where: Path) -> Path:
    """Run the command of a record once more, into a folder; the folder from which its new results are named."""
    from ..records.record import results_of

    results = results_of(path)
    target = where / ('results' if results == path.parent else results.name)
    words = [word for word in record['command'][2:] if word not in _SAY_NOTHING]
    words = with_options(words, *_defaults(record, repeated), *_chosen(record, repeated), '--out', str(target))
    complain(f'videozoo {record["command"][1]} {" ".join(words)}')
    watch = _Watch(record)
    parent = click.get_current_context().parent
    with redirect_stdout(sys.stderr), listening(watch):
        try:
            with repeated.make_context(record['command'][1], words, parent=parent) as ctx:
                if ctx.params.get(repeated.results) != target:  # pyright: ignore[reportAttributeAccessIssue]
                    raise ValueError(f'{path}: its command does not take --out behind its other words')
                _tell_other_defaults(record, ctx)
                code = repeated.invoke(ctx)
        except click.exceptions.Exit:
            code = 0
    if not watch.records:
        raise ValueError(f'{path}: its command gave no results (exit code {code})')
    return watch.records[-1].parent.absolute()


def _defaults(record: dict[str, Any], repeated: click.Command) -> list[str]:
    """Words for options that were not given and whose default is another one in this version."""
    added: list[str] = []
    for param in repeated.params:
        if not isinstance(param, click.Option) or not param.expose_value or callable(param.default):
            continue
        key = key_of(param)
        value = record['options'].get(key)
        if key in record['given'] or key not in record['options'] or key == 'out':
            continue
        default = param.default
        is_plain = isinstance(value, (int, float, str)) and not isinstance(value, bool) and not param.is_flag
        if is_plain and isinstance(default, (int, float, str)) and str(default) != str(value):
            complain(f'{flag_of(param)}: its default was {value}, is {default}; {value} is taken')
            added += [flag_of(param), str(value)]
    return added


def _tell_other_defaults(record: dict[str, Any], ctx: click.Context) -> None:
    """Tell of options that were not given and have another value now, as `_defaults` cannot word it."""
    for param in ctx.command.params:
        source, key = ctx.get_parameter_source(param.name or ''), key_of(param)
        if source is click.core.ParameterSource.DEFAULT and param.expose_value and key in record['options']:
            old, new = record['options'][key], plain(ctx.params.get(param.name or ''))
            is_same = new is None and str(old) == getattr(param, 'show_default', None)  # decided elsewhere since
            if (old or new) and old != new and not is_same and key not in record['given']:
                complain(f'{flag_of(param)}: its default was {old}, is {new}, which is taken')


def _chosen(record: dict[str, Any], repeated: click.Command) -> list[str]:
    """Words for what the run has chosen by itself, and what decides about random numbers."""
    added: list[str] = []
    for param in repeated.params:
        name = param.name or ''
        value = record['settings'].get(name)
        if name in ('seed', 'batch_size') and isinstance(value, int) and record['options'].get(key_of(param)) is None:
            added += [flag_of(param), str(value)]
    return added


def _compare(record: dict[str, Any], path: Path, new: Path, tolerance: float, is_kept: bool) -> int:
    """Tell of each result how far it is from the earlier one; the exit code."""
    from ..records.differences import compare_files, counterparts
    from ..weights.digests import hash_file

    old, apart = path.parent, 0
    written = [file.relative_to(new).as_posix() for file in sorted(new.rglob('*')) if file.is_file()]
    called = counterparts([output['path'] for output in record['outputs']], written)
    before_of = {now: name for name, now in called.items()}

    def renamed(text: str) -> str:
        text = before_of.get(text, text)
        text = text.replace(str(new), str(old))
        return text if os.getcwd() in (record['folder'], os.sep) else text.replace(os.getcwd(), record['folder'])

    for output in record['outputs']:
        name, before, after = output['path'], old / output['path'], new / called[output['path']]
        if not after.is_file():
            words, is_equal = 'was not written again', False
        elif (digest := hash_file(after)) == output['sha256']:
            words, is_equal = 'the same to the byte', True
        elif not before.is_file():
            words, is_equal = 'differs; the earlier one is gone, so that it cannot be told how far', False
        else:
            difference = compare_files(before, after, renamed)
            words, is_equal = str(difference), difference.within(tolerance)
            if (there := hash_file(before)) != output['sha256']:
                words += ' (the earlier one has changed since its run)' if there != digest else ''
        apart += not is_equal
        echo(printable(f'{name}: {words}'))
    number = counted(len(record['outputs']), 'result')
    within = f' within {tolerance:g}' if tolerance else ''
    echo(f'{number}, {f"{apart} differ" if apart else f"all equal{within}"}' + (f'; in {new}' if is_kept else ''))
    return int(bool(apart))
