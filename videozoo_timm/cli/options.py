"""What the commands are made of: commands, options, and the families of options that travel together.

A family is a decorator; the command gets its options as one record.
"""
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import catalogue
from .completion import complete_folder, complete_model
from .types import FILE, PATH, Choice, Count

if TYPE_CHECKING:
    from ..contents import Contents
    from ..identity import Resolved

RECOGNITION_SPAN, COMPLETION_SPAN = 128, 65  # of `video.RECOGNITION` and `video.COMPLETION`, without their imports
DTYPES = ('float32', 'bfloat16', 'float16')

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


class Command(click.Command):
    """A command whose help shows its options in sections and ends with examples.

    Args:
        examples: Command lines, one a line.
        shared: Of several processes all run it, as they share its work; otherwise the first one alone does.
    """

    def __init__(self, *args: Any, examples: str = '', shared: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, context_settings=_SETTINGS | kwargs.pop('context_settings', {}), **kwargs)
        self.params.append(_debug_option(hidden=True))  # the help of `videozoo` has it
        self.examples, self.shared = examples.strip().splitlines(), shared

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # whose help is pointed to
            raise

    def invoke(self, ctx: click.Context) -> Any:
        elsewhere = int(os.environ.get('WORLD_SIZE', '1')) > 1 and os.environ.get('RANK', '0') != '0'
        return 0 if elsewhere and not self.shared else super().invoke(ctx)

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
            self, *args: Any, sections: dict[str, list[click.Command]], debug_help: str, examples: str = '',
            **kwargs: Any) -> None:
        super().__init__(*args, context_settings=_SETTINGS, **kwargs)
        self.params.append(_debug_option(help=debug_help))
        self.sections, self.examples = sections, examples.strip().splitlines()
        for command in (command for commands in sections.values() for command in commands):
            self.add_command(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.commands))
        for section, commands in self.sections.items():
            with formatter.section(section):
                formatter.write_dl([
                    ((command.name or '').ljust(width), command.get_short_help_str(limit=100)) for command in commands])

    format_epilog = Command.format_epilog


class Option(click.Option):
    """An option.

    Args:
        section: Under which heading the help shows it.
        instead_of: Option that it cannot be given together with.
    """

    def __init__(self, *args: Any, section: str = 'Options', instead_of: str = '', **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section, self.instead_of = section, instead_of

    def handle_parse_result(self, ctx: click.Context, opts: Any, args: list[str]) -> Any:
        other = next((p for p in ctx.command.params if self.instead_of in p.opts), None)
        if other is not None and self.name in opts and other.name in opts:
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


# Families

def family(name: str, record: type, *options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Options that travel together: the command gets them as one record.

    Args:
        name: Of the command's argument.
        record: Dataclass; an option for each of its fields.
        *options: Decorators that declare these options, in the order of the help.
    """
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def gather(**given: Any) -> Any:
            values = {field.name: given.pop(field.name) for field in fields(record)}
            return function(**{name: record(**values)}, **given)

        for add in reversed(options):
            gather = add(gather)
        return gather
    return decorate


def zoo_option(
        help: str = 'Zoo to take the model from; needed for names that two zoos share.',
        section: str = 'Options',
) -> Callable[[Any], Any]:
    return option('--zoo', type=Choice(catalogue.ZOOS), section=section, help=help)


def folder_option(*flags: str, type: click.ParamType = FILE, **settings: Any) -> Callable[[Any], Any]:
    return option(*flags, type=type, metavar='DIR', shell_complete=complete_folder, **settings)


def device_option(devices: str = 'cpu, cuda, cuda:1 or mps', section: str = 'Options') -> Callable[[Any], Any]:
    return option('--device', section=section, metavar='DEVICE', show_default='the fastest available',
                  help=f'{devices}.')


@dataclass
class ModelOptions:
    """Which model, and how it runs."""
    model: str | None
    zoo: str | None
    weights: Path | None
    img_size: int | None
    num_frames: int | None
    device: str | None
    dtype: str | None

    @property
    def sizes(self) -> dict[str, int]:
        """The input size, as far as it is given."""
        return {name: value for name in ('img_size', 'num_frames') if (value := getattr(self, name)) is not None}

    @functools.cached_property
    def contents(self) -> 'Contents | None':
        """What --weights holds, opened once."""
        if self.weights is None:
            return None
        from .. import models  # noqa: F401 - by these files are recognized
        from ..contents import Contents
        return Contents(self.weights)

    @functools.cached_property
    def resolved(self) -> 'Resolved':
        """What --model and --weights name, asked once; not before one of them is there to stay."""
        from ..identity import resolve
        return resolve(self.model, self.contents, self.zoo)


def model_options(dtype: str | None = 'float32') -> Callable[[Any], Any]:
    """--model, --zoo, --weights, --img-size, --num-frames, --device, --dtype."""
    in_model = functools.partial(option, section='Model')
    return family(
        'chosen', ModelOptions,
        in_model('--model', '--model-name', 'model', metavar='NAME', shell_complete=complete_model,
                 show_default='a small model that comes with this package; with --weights, what the file says',
                 help='Published name or timm name.'),
        zoo_option(section='Model'),
        in_model('--weights', type=FILE, metavar='FILE', help='Local checkpoint, .pth or .safetensors.'),
        in_model('--img-size', type=Count(), metavar='PIXELS', help="Input size other than the model's own."),
        in_model('--num-frames', type=Count(), metavar='N', help="Number of frames other than the model's own."),
        device_option(section='Model'),
        in_model('--dtype', type=Choice(DTYPES), default=dtype,
                 show_default=True if dtype else "float32, or as accelerate's configuration says",
                 help='Data type of the model and its input.' if dtype else
                 'Data type of the computation; the weights stay float32.'),
    )


@dataclass
class ReadingOptions:
    """How files are read."""
    num_workers: int
    time_limit: float


def default_workers() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    return max(1, min(4, cores // int(os.environ.get('LOCAL_WORLD_SIZE', '1'))))


def reading_options(section: str = 'Reading files') -> Callable[[Any], Any]:
    """--num-workers, --time-limit."""
    return family(
        'reading', ReadingOptions,
        option('--num-workers', type=Count(0), metavar='N', default=lambda: default_workers(), section=section,
               show_default='number of cores, at most 4',
               help='Processes that decode ahead of the model; 0 decodes in this process, without a time limit.'),
        option('--time-limit', type=float, metavar='SECONDS', default=60.0, section=section,
               help='Skip a file that yields no clip, or no further clip, for this long.'),
    )


@dataclass
class Inputs:
    """The files to read."""
    paths: tuple[str, ...]
    folders: tuple[str, ...]

    @property
    def given(self) -> list[str]:
        return [*self.paths, *self.folders]


def input_options(what: str, folder_flag: str = '--video-dir') -> Callable[[Any], Any]:
    """PATH..., and how files are read."""
    paths = family(
        'inputs', Inputs,
        argument('paths', nargs=-1, metavar='[PATH]...', type=PATH,
                 help=f'{what} drawn:100@7 stands for the synthetic videos that `videozoo draw -n 100 --seed 7` '
                      f'writes.'),
        folder_option(folder_flag, 'folders', type=PATH, multiple=True, section='Reading files',
                      help='The same as PATH.'),
    )
    return lambda function: paths(reading_options()(function))


def span_option(default: int, section: str = 'Options') -> Callable[[Any], Any]:
    return option('--span', type=Count(), metavar='N', default=default, section=section,
                  help='Length of a clip: its frames are spread evenly over N frames at 30 frames per second.')


def batch_option(default: int, what: str) -> Callable[[Any], Any]:
    return option('--batch-size', type=Count(), metavar='N', default=default, help=f'{what} per batch.')


def block_option() -> Callable[[Any], Any]:
    return option('--block', type=int, default=-1, metavar='B', show_default='the last block',
                  help='Block to show, counted from 0 or, if negative, from the end.')


def json_option(help: str = 'Print the results as JSON.') -> Callable[[Any], Any]:
    return option('--json', 'as_json', is_flag=True, help=help)


@dataclass
class Pictures:
    """Of which files pictures are made, and where they go."""
    num_vids: int | None
    seed: int
    out: Path


def picture_options(out: str) -> Callable[[Any], Any]:
    """--num-vids, --seed, --out."""
    return family(
        'pictures', Pictures,
        option('--num-vids', type=Count(), metavar='N', show_default='all',
               help='Use a random sample of this many of the files.'),
        option('--seed', type=int, default=0, metavar='N', help='Random seed.'),
        folder_option('--out', default=Path(out), help='Folder for the pictures.'),
    )


@dataclass
class ViewOptions:
    """Which views of each file a prediction is averaged over."""
    views: str | None
    batch_size: int
    span: int


def view_options() -> Callable[[Any], Any]:
    """--views, --batch-size, --span."""
    return family(
        'view', ViewOptions,
        option('--views', metavar='CxK', show_default='1x1',
               help="Average over C clips times K crops of each video, for instance 5x3; 'random' takes one random "
                    'clip and crop, as the published script does.'),
        batch_option(4, 'Views'),
        span_option(RECOGNITION_SPAN),
    )
