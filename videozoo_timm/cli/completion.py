"""What the shell completes beside commands, options and files: names of models and of synthetic videos."""

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class

from .. import catalogue


@add_completion_class
class Bash(BashComplete):
    """Bash, which would take the `@` in a model's name for the beginning of another word."""

    source_template = BashComplete.source_template + 'COMP_WORDBREAKS=${COMP_WORDBREAKS//@/}\n'


def complete_model(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Published names; timm names where what is typed begins one and no published name."""
    zoo = ctx.params.get('zoo')
    published = [name for name in catalogue.available_models(zoo) if name.startswith(incomplete)]
    records = [c for c in catalogue.CHECKPOINTS if zoo in (None, c.zoo)]
    names = published or [c.timm_name for c in records if c.timm_name.startswith(incomplete)]
    return [CompletionItem(name) for name in names]


def complete_model_or_zoo(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    zoos = [CompletionItem(name) for name in (*catalogue.ZOOS, 'all') if name.startswith(incomplete)]
    return complete_model(ctx, param, incomplete) + zoos


def complete_generator(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    every = (*catalogue.GENERATORS, *catalogue.video_generators())
    return [CompletionItem(g.name) for g in every if g.name.startswith(incomplete)]


def complete_model_or_file(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of models; files once what is typed begins no name."""
    return complete_model(ctx, param, incomplete) or [CompletionItem(incomplete, type='file')]


def complete_repository(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Zoos, and the repositories of published models."""
    repos = (record.repo for record in (*catalogue.CHECKPOINTS, *catalogue.GENERATORS) if record.repo)
    names = dict.fromkeys((*catalogue.ZOOS, *repos))
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def complete_folder(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type='dir')]
