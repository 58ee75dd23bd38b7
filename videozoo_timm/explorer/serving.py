"""Serves the page: on this machine alone or behind a password, from a folder of its own, which it removes."""

import hmac
import ipaddress
import logging
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ..files import own_folder
from .choices import Models, chosen_first, given_videos, offered_models, view_of

__all__ = ['Explorer', 'is_local', 'serve', 'serving']

PORT = 7860
_UPLOAD = 200 << 20  # bytes of a file


@dataclass(frozen=True)
class Explorer:
    """What is explored, and who may.

    Attributes:
        paths: Videos, folders, names of synthetic videos; none stand for some synthetic ones.
        models: Names of the models that are chosen at first, one or two; further ones head the list.
        only_given: Offer only these models (or those of the package), and download none.
        host: Address to listen on.
        port: Port to listen on; None for 7860, or any if that is taken.
        password: What visitors must know; None for none.
        device: Of the models.
        max_upload: Bytes of a file that may be uploaded.
    """

    paths: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    only_given: bool = False
    host: str = '127.0.0.1'
    port: int | None = None
    password: str | None = None
    device: Any = 'cpu'
    max_upload: int = _UPLOAD


def is_local(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == 'localhost'


def serve(explorer: Explorer, ready: Callable[[str], None] = lambda address: None) -> None:
    """Serve the page until the process is told to end.

    Args:
        explorer: What is explored.
        ready: Called with the address as soon as the page answers.

    Raises:
        ImportError: Gradio is not installed.
        FileNotFoundError, ValueError: As `given_videos` and `offered_models`.
        OSError: The address cannot be listened on.
    """
    with serving(explorer, ready) as server:
        server.run(sockets=[server.listening])


@contextmanager
def serving(explorer: Explorer, ready: Callable[[str], None] = lambda address: None) -> Iterator[Any]:
    """A server of the page that is not running yet; its folder is removed at the end.

    Raises:
        As `serve`.
    """
    given, offered = given_videos(explorer.paths), offered_models(explorer.models, explorer.only_given)
    from .answers import Answers
    from .session import Session, Visitors

    folder = own_folder('videozoo-explore')
    told = dict(GRADIO_TEMP_DIR=str(folder), GRADIO_ANALYTICS_ENABLED='False', HF_HUB_DISABLE_TELEMETRY='1')
    told['GRADIO_ANALYTICS_CACHE_FREQUENCY'] = str(10**9)  # or it makes a table of all events after each of them
    told['MPLBACKEND'] = 'agg'  # or it looks for another, and imports all of matplotlib while a visitor waits
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)  # before Gradio is imported
    try:
        models = Models(offered, explorer.device)
        first = chosen_first(explorer.models, offered)
        answers, view = Answers(models), view_of(offered[first[0]])
        with ThreadPoolExecutor(1) as pool:  # while Gradio is imported, which takes seconds
            prepared = pool.submit(answers.prepare, Session(folder / 'visit-first' / 'files', given, view), first)
            try:
                import gradio  # noqa: F401
                import uvicorn
            except ImportError as error:
                raise ImportError("the explorer needs Gradio: pip install 'videozoo-timm[explore]'") from error
            prepared.result()
        with _listen(explorer) as bound:
            host, port = bound.getsockname()[:2]
            app = _app(explorer, Visitors(folder, given, view), answers, first)

            class Server(uvicorn.Server):
                listening = bound

                async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                    await super().startup(sockets)
                    if self.started:
                        ready(f'http://{f"[{host}]" if ":" in host else host}:{port}')

                async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
                    logging.getLogger('uvicorn.error').setLevel(logging.CRITICAL)  # pages that are open are cut off
                    await super().shutdown(sockets)

            yield Server(uvicorn.Config(app, log_level='warning', timeout_graceful_shutdown=1, ws='none'))
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        shutil.rmtree(folder, ignore_errors=True)


def _listen(explorer: Explorer) -> socket.socket:
    """A socket that listens; on a port that is free, unless one was asked for."""
    if explorer.port is not None:
        return _listen_on(explorer.host, explorer.port)
    try:
        return _listen_on(explorer.host, PORT)
    except OSError:
        return _listen_on(explorer.host, 0)


def _listen_on(host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen()  # at once: until then another explorer can be bound to the port as well
    except OSError as error:
        bound.close()
        raise OSError(f'{host}:{port} cannot be listened on: {error.strerror}') from error
    return bound


def _app(explorer: Explorer, visitors: Any, answers: Any, first: Sequence[str]) -> Any:
    """The page as an application of ASGI."""
    import gradio as gr
    from fastapi import FastAPI
    from gradio.themes import Default

    from .guard import Guard, assets_of
    from .page import ExplorerPage

    # Gradio has read once in this process where its folder is, and makes one in it for each page.
    routes: Any = import_module('gradio.routes')
    read = routes.DEFAULT_TEMP_DIR
    routes.DEFAULT_TEMP_DIR = str(visitors.folder)
    page = ExplorerPage(visitors, answers, first, explorer.max_upload)
    blocks = page.blocks()
    blocks.queue(default_concurrency_limit=8, max_size=64)
    password = explorer.password
    plain = ('system-ui', 'sans-serif'), ('ui-monospace', 'monospace')  # nothing is fetched for these
    app = gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        blocks,
        '/',
        auth=None if password is None else lambda user, word: hmac.compare_digest(word.encode(), password.encode()),
        auth_message='Any user name, and the password that you were told.',
        max_file_size=explorer.max_upload,
        footer_links=[],
        run_history=False,
        show_error=True,
        ssr_mode=False,
        theme=Default(font=plain[0], font_mono=plain[1]),
        css=(Path(__file__).parent / 'page.css').read_text(),
        head=f'<script>{(Path(__file__).parent / "stream.js").read_text()}</script>',
    )
    routes.DEFAULT_TEMP_DIR = read
    blocks.has_launched = True  # Gradio takes files that nobody has uploaded, of any path, until it says so
    return Guard(app, page, visitors.folder, page.sheets, assets_of(Path(gr.__file__).parent), is_local)
