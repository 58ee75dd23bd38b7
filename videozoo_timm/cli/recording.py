"""The record of a run that gives results: what `base.Command` keeps of each command that says where its results are."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from ..notes import PARTS, Notes, listening, tell_recorded

WORDS, HASH = 'videozoo.words', 'hash_inputs'  # in the `meta` of a context: what was typed, and an option
_open: list['Recording'] = []  # the innermost comes last


class Recording(Notes):
    """A run that is going on; its record is written when it has ended.

    Args:
        words: Of the command line, its name first, that give these results alone.
        ctx: Of the command.
        place: Where the results go, if that is known.
        series: What was typed, where that is a series of runs and this is one of them.
        inputs: What tells the files that are read.
    """

    def __init__(
        self,
        words: list[str],
        ctx: click.Context,
        place: Path | None,
        inputs: list[dict[str, Any]],
        series: list[str] | None = None,
    ) -> None:
        from ..records.record import now

        super().__init__(place=place)
        self.words, self.ctx, self.inputs, self.series = words, ctx, inputs, series
        self.own: dict[str, Any] = {}  # options of a run of a series, which were not typed
        self.has_parts = False  # runs of a series have records of their own
        self.parts: list[dict[str, Any]] = [dict(start=now())]
        self._folder: Path | None = None

    def listed(self, table: Path, files: Sequence[str]) -> None:
        from ..records.inputs import describe_listed

        self.inputs.append(describe_listed(str(table), files, bool(self.ctx.meta.get(HASH))))

    def resumable(self, folder: Path, goes_on: bool) -> None:
        """Note beside what is kept of the run when this part of it began."""
        self._folder = folder
        if goes_on:
            known = {part['start'] for part in self.parts}
            self.parts[:0] = [part for part in _parts_in(folder) if part['start'] not in known]
        self._keep_parts()

    def _keep_parts(self) -> None:
        from ..files import save_json

        if self._folder is not None and self._folder.is_dir():
            save_json(self.parts, self._folder / PARTS)

    def stop(self) -> None:
        """The run was interrupted or has failed: no record of it, and none of results that it has replaced."""
        from ..records.record import forget, now

        self.parts[-1]['end'] = now()
        with suppress(OSError):  # a full disk has been told
            self._keep_parts()
            if self.place is not None and not self.has_parts:
                forget(self.place, self.written)

    def end(self, code: int) -> None:
        """Write the record, if there are results."""
        from ..records.machine import this_machine, versions_in_use
        from ..records.record import FORMAT, KEY, describe_outputs, now, save, without_secrets

        if self._folder is not None:
            (self._folder / PARTS).unlink(missing_ok=True)
        if self.place is None or self.has_parts or not (outputs := describe_outputs(self.written, self.place)):
            return
        self.parts[-1]['end'] = now()
        params = [param for param in self.ctx.command.params if param.expose_value]
        options = {key_of(param): plain(self.ctx.params.get(param.name or '')) for param in params}
        options.update(self.own)
        chosen = [key_of(param) for param in params if _is_given(self.ctx, param)]
        record = {
            KEY: FORMAT,
            'command': ['videozoo', *self.words],
            **({'series': ['videozoo', *self.series]} if self.series else {}),
            'folder': os.getcwd(),
            'start': self.parts[0]['start'],
            'end': self.parts[-1]['end'],
            'parts': self.parts,
            'exit_code': code,
            'options': options,
            'given': chosen,
            'seed': self.settings.get('seed', options.get('seed')),
            'settings': plain(self.settings),
            'models': self.models,
            'inputs': self.inputs,
            'outputs': outputs,
            'versions': versions_in_use(),
            'machine': this_machine(),
        }
        tell_recorded(save(without_secrets(record), self.place))


def _parts_in(folder: Path) -> list[dict[str, Any]]:
    """The earlier parts of a run, which may have a record already; one that was killed has no end."""
    from ..files import check_regular
    from ..records.record import read

    with suppress(OSError, ValueError, RecursionError):
        if os.path.lexists(folder / PARTS):
            check_regular(folder / PARTS)
            told = json.loads((folder / PARTS).read_bytes())
        else:
            told = read(folder)[0]['parts']
        return [dict(part) for part in told if isinstance(part, dict) and isinstance(part.get('start'), str)]
    return []


def record_run(ctx: click.Context, run: Callable[[], Any]) -> Any:
    """Run a command and keep the record of it. Its exit code."""
    from ..records.inputs import describe_inputs
    from ..records.origin import origin_of

    out = ctx.params.get(getattr(ctx.command, 'results', ''))
    contents = bool(ctx.meta.get(HASH))
    inputs = describe_inputs(_inputs_of(ctx), out, contents)
    for entry in inputs:
        if entry.get('files') and (origin := origin_of(entry)):
            entry['made_by'] = origin
    words = [ctx.info_name or '', *ctx.meta.get(WORDS, ())]
    with _recorded(Recording(words, ctx, out, inputs)) as result:
        result.append(run())
    return result[0]


@contextmanager
def _recorded(recording: Recording) -> Iterator[list[Any]]:
    """Record what happens within, whose exit code is appended to the list."""
    code: list[Any] = []
    _open.append(recording)
    try:
        with listening(recording):
            try:
                yield code
            except BaseException:
                recording.stop()
                raise
            if code[-1] in (0, 1):
                recording.end(code[-1])
            else:
                recording.stop()
    finally:
        _open.remove(recording)


def record_part(name: str, out: Path, run: Callable[[], int]) -> int:
    """One run of a series: with a record of its own, whose command gives these results alone."""
    if not _open:
        return run()
    whole = _open[-1]
    whole.has_parts = True
    words = with_options(_without(whole.words, '--models', '--out'), '--model', name, '--out', str(out))
    part = Recording(words, whole.ctx, out, whole.inputs, whole.words)
    part.own = dict(models=[], model=name, out=str(out))
    with _recorded(part) as result:
        result.append(run())
    return result[0]


def with_options(words: list[str], *options: str) -> list[str]:
    """Words of a command line with more options behind the others, which they replace."""
    end = words.index('--') if '--' in words else len(words)
    return [*words[:end], *options, *words[end:]]


def _without(words: list[str], *flags: str) -> list[str]:
    """Words of a command line without these options, each of one value."""
    left: list[str] = []
    skip = False
    for word in words:
        if not skip and word.partition('=')[0] not in flags:
            left.append(word)
        skip = not skip and word in flags
    return left


def key_of(param: click.Parameter) -> str:
    """What a record calls an option: its flag without the hyphens before it."""
    from .base import flag_of

    return (param.name or '') if isinstance(param, click.Argument) else flag_of(param).lstrip('-')


def _is_given(ctx: click.Context, param: click.Parameter) -> bool:
    return ctx.get_parameter_source(param.name or '') is click.core.ParameterSource.COMMANDLINE


def _inputs_of(ctx: click.Context) -> list[str]:
    """The paths of all arguments and options that take files or folders, but that of the results."""
    paths: list[str] = []
    for param in ctx.command.params:
        value = ctx.params.get(param.name or '')
        if isinstance(param.type, click.Path) and param.name != getattr(ctx.command, 'results', '') and value:
            paths += map(str, value) if isinstance(value, (tuple, list)) else [str(value)]
    return paths


def plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(one) for one in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
