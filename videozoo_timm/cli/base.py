"""What the commands are made of: commands and options, in sections, with examples."""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import click

from .recording import HASH, WORDS, record_run

_SETTINGS = dict(
    help_option_names=['-h', '--help'],
    max_content_width=100,
    show_default=True,
    token_normalize_func=lambda word: word.replace('_', '-'),  # the published scripts' flags have underscores
)


@dataclass
class Settings:
    """What holds for every command; the `obj` of its context."""

    debug: bool = False


def _debug_option(**settings: Any) -> click.Option:
    def turn_on(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if value:
            ctx.ensure_object(Settings).debug = True

    return click.Option(['--debug'], is_flag=True, expose_value=False, callback=turn_on, **settings)


def _hash_option() -> click.Option:
    return Option(
        ['--hash-inputs', HASH],
        is_flag=True,
        expose_value=False,
        callback=lambda ctx, param, value: ctx.meta.__setitem__(HASH, value),
        section='Record',
        help='Put a digest of the contents of all input files into the record of this run, which reads them once more; '
        'otherwise, where there are many, names and sizes tell.',
    )


class Command(click.Command):
    """A command whose help shows its options in sections and ends with examples.

    Args:
        examples: Command lines, one a line.
        shared: Of several processes all run it, as they share its work; otherwise the first one alone does.
        results: The parameter that says where its results go, of which a record is then kept; '' if it gives none that
            a paper would show.
    """

    def __init__(self, *args: Any, examples: str = '', shared: bool = False, results: str = '', **kwargs: Any) -> None:
        super().__init__(*args, context_settings=_SETTINGS | kwargs.pop('context_settings', {}), **kwargs)
        self.params.append(_debug_option(hidden=True))  # the help of `videozoo` has it
        self.examples, self.shared, self.results = examples.strip().splitlines(), shared, results
        if results:
            self.params.append(_hash_option())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[WORDS] = tuple(args)
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # whose help is pointed to
            raise

    def invoke(self, ctx: click.Context) -> Any:
        elsewhere = int(os.environ.get('WORLD_SIZE', '1')) > 1 and os.environ.get('RANK', '0') != '0'
        if elsewhere or not self.results:
            return 0 if elsewhere and not self.shared else super().invoke(ctx)
        return record_run(ctx, lambda: click.Command.invoke(self, ctx))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = None if isinstance(param, click.Argument) else param.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(param, 'section', 'Options'), []).append(record)
        for section in ('Options', *(section for section in sections if section != 'Options')):
            with formatter.section(section):
                formatter.write_dl(sections[section])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.examples:
            with formatter.section('Examples'):
                formatter.write('\n'.join(f'  {line.strip()}' for line in self.examples) + '\n')


class Commands(click.Group):
    """The commands, listed in sections."""

    def __init__(
        self, *args: Any, sections: dict[str, list[click.Command]], debug_help: str, examples: str = '', **kwargs: Any
    ) -> None:
        super().__init__(*args, context_settings=_SETTINGS, **kwargs)
        self.params.append(_debug_option(help=debug_help))
        self.sections, self.examples = sections, examples.strip().splitlines()
        for command in (command for commands in sections.values() for command in commands):
            self.add_command(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.commands))
        for section, commands in self.sections.items():
            with formatter.section(section):
                formatter.write_dl(
                    [((command.name or '').ljust(width), command.get_short_help_str(limit=100)) for command in commands]
                )

    format_epilog = Command.format_epilog


class Option(click.Option):
    """An option.

    Args:
        section: Under which heading the help shows it.
        instead_of: Option that it cannot be given together with, or several.
    """

    def __init__(
        self, *args: Any, section: str = 'Options', instead_of: str | tuple[str, ...] = (), **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.section = section
        self.instead_of = {instead_of} if isinstance(instead_of, str) else set(instead_of)

    def handle_parse_result(self, ctx: click.Context, opts: Any, args: list[str]) -> Any:
        others = [p for p in ctx.command.params if self.instead_of.intersection(p.opts) and p.name in opts]
        if others and self.name in opts:
            other = others[0]
            raise click.UsageError(f'{flag_of(self)} and {flag_of(other)} exclude each other: give one of them', ctx)
        return super().handle_parse_result(ctx, opts, args)

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        flags = {flag for param in ctx.command.params if isinstance(param, click.Option) for flag in param.opts}
        normalize = ctx.token_normalize_func or str
        for word in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(word, str) and word.startswith('--') and normalize(word) in flags:
                raise click.UsageError(f'{flag_of(self)} needs a value, but the option {word} follows it', ctx)
        return super().process_value(ctx, value)

    def get_help_extra(self, ctx: click.Context) -> Any:
        extra = super().get_help_extra(ctx)
        if isinstance(self.show_default, str):
            extra['default'] = self.show_default  # without the brackets of click
        elif isinstance(self.default, float):
            extra['default'] = f'{self.default:g}'
        return extra


class Several(Option):
    """An option that takes all words up to the next option, and may be repeated as well."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, multiple=True, **kwargs)

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        super().add_to_parser(parser, ctx)
        option = parser._long_opt[self.opts[0]]  # click has no public way, other than one word for each option
        take_one = option.process

        def take(value: str, state: Any) -> None:
            take_one(value, state)
            while state.rargs and not state.rargs[0].startswith('-'):
                take_one(state.rargs.pop(0), state)

        option.process = take

    def make_metavar(self, ctx: click.Context) -> str:
        return f'{super().make_metavar(ctx)}...'


command = functools.partial(click.command, cls=Command)
option = functools.partial(click.option, cls=Option)
argument = click.argument


def flag_of(param: click.Parameter) -> str:
    """What a user calls a parameter: its long flag, or the metavar of its place."""
    if isinstance(param, click.Argument):
        return param.human_readable_name.strip('[].')
    return max(param.opts, key=lambda flag: flag.startswith('--'))


def family(name: str, record: type, *options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Options that travel together: the command gets them as one record.

    Args:
        name: Of the command's argument.
        record: Dataclass; an option for each of its fields but such as have a default.
        *options: Decorators that declare these options, in the order of the help.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def gather(**given: Any) -> Any:
            values = {field.name: given.pop(field.name) for field in fields(record) if field.name in given}
            return function(**{name: record(**values)}, **given)

        for add in reversed(options):
            gather = add(gather)
        return gather

    return decorate
