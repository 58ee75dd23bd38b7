"""What a Hub answers is checked before its client believes it.

The client makes file names of the commit and the ETag that a Hub (or a mirror in HF_ENDPOINT) answers, and it waits for
as long as the server says. Here a commit must have 40 hexadecimal digits, an ETag must be a possible file name, and the
wait has an end. Only what runs in `guarded` is checked: other users of the same client see no difference.
"""

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_logger = logging.getLogger(__name__)

PATIENCE = 60.0  # seconds
_LEAST_RATE = 1024  # bytes a second; less than this is no progress
_REPORTED_AFTER = 5.0  # seconds
_LARGEST = 10**14  # bytes; no file of a Hub is larger

_COMMIT = re.compile(r'[0-9a-f]{40}')
_ETAG = re.compile(r'(?!.*\.\.)[0-9A-Za-z][0-9A-Za-z_.+=-]{0,127}')
_ADDRESS = re.compile(r'https?://.*|(?![\w+.-]+:).*', re.IGNORECASE)
_XET_HASH = re.compile(r'[0-9a-f]{64}')


class HubError(ConnectionError):
    """An answer of the Hub that cannot be trusted, or that never came."""


def patience_of(given: float | None = None) -> float:
    """Seconds to wait for a Hub that makes no progress: as given, else `VIDEOZOO_PATIENCE`, else 60.

    Raises:
        ValueError: No positive number.
    """
    text = os.environ.get('VIDEOZOO_PATIENCE') or PATIENCE
    try:
        seconds = float(text if given is None else given)
    except ValueError:
        seconds = 0
    if not 0 < seconds < float('inf'):
        name = 'VIDEOZOO_PATIENCE' if given is None else 'patience'
        raise ValueError(f'{name}={text if given is None else given!r}: must be a positive number of seconds')
    return seconds


class Watch:
    """Checks the answers in one operation, and how long they take.

    Attributes:
        limit: The most bytes that one answer may have; None: any number.
    """

    def __init__(self, patience: float, say: Callable[[str], None]) -> None:
        self.limit: int | None = None
        self._patience, self._say = patience, say
        self._since: float | None = None  # what is asked for is waited for since then
        self._reported: float | None = None
        self._arrived = 0

    def before(self, request: Any) -> None:
        """Limit the time of a request that reads."""
        if request.method not in ('GET', 'HEAD'):
            return
        if self._since is None:
            self._since = time.monotonic()
        left = max(self._patience - self._waited(request.url.host), 0.1)
        limits = request.extensions.get('timeout', {})
        request.extensions = dict(
            request.extensions,
            timeout={
                k: left if limits.get(k) is None else min(limits[k], left) for k in ('connect', 'read', 'write', 'pool')
            },
        )

    def after(self, response: Any) -> None:
        """Check that an answer names no path outside the caches and asks for no endless wait."""
        headers, host = response.headers, response.request.url.host
        if response.request.method == 'HEAD':  # of others the client takes the body alone
            _check_headers(headers, host, response.is_success)
            headers.pop('X-Xet-Hash', None)  # that downloader has no limits, and its blobs are shared by repositories
        refused = response.status_code in (408, 429) or response.status_code >= 500
        if refused:
            self._check_wait(headers, host)
        # As it comes from the line, and as it is once it is unpacked.
        raw, unpacked = response.iter_raw, response.iter_bytes
        response.iter_raw = lambda *args, **kwargs: self._watched(raw(*args, **kwargs), host, not refused)
        response.iter_bytes = lambda *args, **kwargs: self._limited(unpacked(*args, **kwargs), host)

    @property
    def _end(self) -> str:
        return f'given up after {self._patience:g} s (VIDEOZOO_PATIENCE)'

    def _waited(self, host: str) -> float:
        if self._since is None:
            return 0.0
        waited = time.monotonic() - self._since
        if waited > self._patience:
            raise HubError(
                f'{host} has sent {self._arrived} bytes in {waited:.0f} s, which is too slow: {self._end}; try again, '
                f'or allow more'
            )
        if waited > _REPORTED_AFTER and self._reported != self._since:  # once a wait
            self._reported = self._since
            self._say(f'waiting for {host}, which has sent {self._arrived} bytes in {waited:.0f} s; {self._end}')
        return waited

    def _watched(self, blocks: Iterator[bytes], host: str, answered: bool) -> Iterator[bytes]:
        for block in blocks:
            self._arrived += len(block)
            if self._arrived >= _LEAST_RATE * self._patience:
                self._since, self._arrived = time.monotonic(), 0
            self._waited(host)
            yield block
        if answered:
            self._since, self._arrived = None, 0

    def _limited(self, blocks: Iterator[bytes], host: str) -> Iterator[bytes]:
        number = 0
        for block in blocks:
            number += len(block)
            if self.limit is not None and number > self.limit:
                raise HubError(f'{host} sends more than the {self.limit} bytes that it announced')
            yield block

    def _check_wait(self, headers: Any, host: str) -> None:
        """Check how long a refusal asks to wait, as the client would sleep that long."""
        waits = re.findall(r'\bt\s*=\s*(\d{1,18})', headers.get('RateLimit', ''), re.ASCII)
        waits += re.findall(r'^\s*(\d{1,18})\s*$', headers.get('Retry-After', ''), re.ASCII)
        if not waits:
            return
        wait = max(map(int, waits))  # which of them the client heeds depends on its version
        message = f'{host} wants to be asked again in {wait} s'
        if self._waited(host) + wait > self._patience:
            raise HubError(f'{message}, which is too long: {self._end}; try again then')
        self._say(f'{message}; {self._end}')


def _check_headers(headers: Any, host: str, success: bool) -> None:
    """Refuse what the client would make a path or an address of.

    Raises:
        HubError: With the header and its value.
    """
    etag = headers.get('X-Linked-ETag') or headers.get('ETag')  # as the client prefers, and peels it
    etag = etag and etag.lstrip('W/').strip('"')
    if etag is not None and not _ETAG.fullmatch(etag) and not success and not headers.get('X-Linked-ETag'):
        del headers['ETag']  # of the page that says no, or where else to go: no file is called by it
        etag = None
    words = (
        ('X-Repo-Commit', headers.get('X-Repo-Commit'), _COMMIT, 'no commit'),
        ('ETag', etag, _ETAG, 'no ETag that a file can be called by'),
        ('X-Xet-Hash', headers.get('X-Xet-Hash'), _XET_HASH, 'no digest'),
        ('Location', headers.get('Location'), _ADDRESS, 'no address of a Hub'),
    )
    for name, value, wanted, problem in words:
        if value is not None and not wanted.fullmatch(value):
            raise HubError(f'{host} answers {name}: {value[:80]!r}, which is {problem}; is HF_ENDPOINT to be trusted?')
    for name in ('X-Linked-Size', 'Content-Length'):
        size = headers.get(name, '0')
        if not re.fullmatch(r'\d{1,15}', size, re.ASCII) or int(size) > _LARGEST:
            raise HubError(f'{host} answers {name}: {size[:80]!r}, which is no size of a file')


_WATCH: ContextVar[Watch | None] = ContextVar('_WATCH', default=None)
_LOCK = threading.Lock()


@contextmanager
def guarded(say: Callable[[str], None] = _logger.warning, patience: float | None = None) -> Iterator[Watch]:
    """Check what the Hub answers to this thread in here.

    Args:
        say: Called with a message about what is waited for.
        patience: As in `patience_of`.

    Raises:
        HubError: An answer cannot be believed, or patience has ended.
    """
    _hook_client()
    token = _WATCH.set(watch := Watch(patience_of(patience), say))
    try:
        yield watch
    finally:
        _WATCH.reset(token)


def _hook_client() -> None:
    """Have every client that huggingface_hub makes from now on, and the one it has, ask `_WATCH`.

    `set_client_factory` is not called, as it would close the client that other threads are using.
    """
    from .._compat import hub_http  # here, as it imports torch

    with _LOCK:
        factory = hub_http._GLOBAL_CLIENT_FACTORY
        if not isinstance(factory, _Hooked):
            hub_http._GLOBAL_CLIENT_FACTORY = _Hooked(factory)
    _hooked(hub_http.get_session())


class _Hooked:
    def __init__(self, factory: Callable[[], Any]) -> None:
        self._factory = factory

    def __call__(self) -> Any:
        return _hooked(self._factory())


def _hooked(client: Any) -> Any:
    for kind, hook in (('request', _before), ('response', _after)):
        hooks = client.event_hooks[kind]
        if hook not in hooks:
            hooks.append(hook)
    return client


def _before(request: Any) -> None:
    if watch := _WATCH.get():
        watch.before(request)


def _after(response: Any) -> None:
    if watch := _WATCH.get():
        watch.after(response)
