"""What stands before Gradio: what browsers may ask for, the player's pictures, and files of the page itself."""

import mimetypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio.to_thread

from .film import FILM, Sheets

__all__ = ['Guard', 'assets_of']

UPLOADS = 2 << 30  # bytes of all that visitors have uploaded
# The page's own files alone, and what stands in it; whatever else its libraries might ask for stays unasked.
_POLICY = '; '.join(
    (
        "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
    )
)
_FOREVER = 'private, max-age=31536000, immutable'  # names change with what they name


class Guard:
    """An application of ASGI before that of Gradio.

    It tells browsers to ask nobody else for anything, refuses uploads once there are too many, and answers at once what
    Gradio would be slow with.

    Args:
        app: Gradio's, of ASGI.
        page: The page.
        folder: Where uploads are.
        sheets: The player's pictures.
        assets: Files of the page by their paths (`assets_of`).
        is_local: Whether a visitor's address is this machine.
    """

    def __init__(
        self,
        app: Any,
        page: Any,
        folder: Path,
        sheets: Sheets,
        assets: dict[str, Path],
        is_local: Callable[[str], bool],
    ) -> None:
        self.app, self.page, self.folder = app, page, folder
        self.sheets, self.assets, self.is_local = sheets, assets, is_local

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer, or let Gradio do it."""
        if scope['type'] != 'http':
            await self.app(scope, receive, send)
            return

        async def guarded(message: Any) -> None:
            if message['type'] == 'http.response.start':
                headers = [*message.get('headers', ()), (b'content-security-policy', _POLICY.encode())]
                message = {**message, 'headers': [*headers, (b'referrer-policy', b'no-referrer')]}
            await send(message)

        path, method = scope['path'], scope['method']
        near = self.is_local((scope.get('client') or ('',))[0])
        if method == 'GET' and path.startswith(f'/{FILM}'):
            # On this machine what compression takes is longer than what it saves.
            picture = await anyio.to_thread.run_sync(self.sheets.png, path[1:], 0 if near else 1)
            if picture is None:
                await _answer(guarded, 404, 'text/plain', b'no such picture')
            else:
                await _answer(guarded, 200, 'image/png', picture)
        elif method == 'GET' and near and path in self.assets:
            file = self.assets[path]  # others get it compressed, from Gradio
            await _answer(guarded, 200, mimetypes.guess_type(file.name)[0] or 'text/plain', file.read_bytes())
        elif method == 'POST' and path.rstrip('/').endswith('/upload') and self._is_full():
            await _answer(guarded, 413, 'text/plain', b'this page holds too many uploads already')
        else:
            await self.app(scope, receive, guarded)

    def _is_full(self) -> bool:
        return sum(path.stat().st_size for path in self.folder.rglob('*') if path.is_file()) > UPLOADS


def assets_of(package: Path) -> dict[str, Path]:
    """The files of Gradio's page whose names hold digests of them, by their paths; none if it keeps them elsewhere."""
    folder = package / 'templates' / 'frontend' / 'assets'
    return {f'/assets/{file.name}': file for file in folder.glob('*') if file.is_file()}


async def _answer(send: Any, status: int, kind: str, body: bytes) -> None:
    headers = [(b'content-type', kind.encode()), (b'content-length', str(len(body)).encode())]
    headers += [(b'cache-control', _FOREVER.encode())] * (status == 200)
    await send({'type': 'http.response.start', 'status': status, 'headers': headers})
    await send({'type': 'http.response.body', 'body': body})
