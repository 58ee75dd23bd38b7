"""videozoo explore."""

import os
import sys
from pathlib import Path

import click

from .base import argument, command, option
from .completion import complete_model
from .loading import pick_device
from .options import device_option
from .output import complain, echo
from .types import FILE, PATH, Count

_PASSWORD = 'VIDEOZOO_EXPLORE_PASSWORD'


@command(
    examples="""
    videozoo explore
    videozoo explore VIDEOS --model mae_hvm1_none --model mae_say_none
    videozoo explore --model run/my.safetensors
    videozoo explore VIDEOS --host 0.0.0.0 --port 8000
    videozoo explore VIDEOS --model mae_hvm1_none --space my-space
"""
)
@argument(
    'paths',
    nargs=-1,
    metavar='[PATH]...',
    type=PATH,
    help='Videos (or images), or folders to search, that may be chosen; drawn:100@7 stands for synthetic videos. '
    'Without any, some synthetic ones.',
)
@option(
    '--model',
    'models',
    multiple=True,
    metavar='NAME|FILE',
    shell_complete=complete_model,
    show_default='a small one that comes with this package',
    help='Published name or timm name of the model that is chosen at first, or a file of your own; a second one is '
    'shown beside it.',
)
@option('--port', type=Count(1, 65535), metavar='N', show_default='7860, or a free one', help='Port of the page.')
@option(
    '--host',
    default='127.0.0.1',
    metavar='ADDRESS',
    help='Address to listen on; one that other machines reach asks for a password, '
    f'or takes that of the environment variable {_PASSWORD}.',
)
@option('--open', 'open_page', is_flag=True, help='Open the page in the browser.')
@option(
    '--space',
    type=FILE,
    metavar='FOLDER',
    help='Serve nothing, but write a folder that runs as a Space of Hugging Face, with these videos and models alone.',
)
@device_option()
def explore(
    paths: tuple[str, ...],
    models: tuple[str, ...],
    port: int | None,
    host: str,
    open_page: bool,
    space: Path | None,
    device: str | None,
) -> int:
    """Try models on videos in a page of the browser: what they fill in, where they look, what surprises them."""
    if space is not None:
        from ..explorer.space import write_space

        write_space(space, paths, models)
        echo(f'{space}: python app.py in it runs the page; hf upload NAME {space} --repo-type space publishes it')
        return 0
    from ..explorer.serving import Explorer, is_local, serve

    password = None if is_local(host) else _password(host)

    def ready(address: str) -> None:
        echo(f'{address} shows the explorer; Ctrl-C ends it')
        if open_page:
            click.launch(address)

    complain('starting; the first start takes some seconds')
    serve(Explorer(paths, models, host=host, port=port, password=password, device=pick_device(device)), ready)
    return 0


def _password(host: str) -> str:
    """What visitors from elsewhere must know."""
    if told := os.environ.get(_PASSWORD):
        return told
    if not sys.stdin.isatty():
        raise ValueError(f'--host {host}: other machines reach this address, so set a password in {_PASSWORD}')
    return click.prompt('Password for visitors', hide_input=True, confirmation_prompt=True, err=True)
