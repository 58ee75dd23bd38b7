"""A Hugging Face Hub on loopback, for the unmodified client: set HF_ENDPOINT, or pass endpoint=hub.url.

It answers /{repo}/resolve/{revision}/{file} and /api/models/{repo}[/revision/...|/tree/...]. Every file
is served as the real Hub serves an LFS file, minus the redirect to its CDN, and never through xet. Who has `TOKEN`
may make repositories and upload (with HF_HUB_DISABLE_XET=1): small text as part of a commit, the rest as LFS files.
"""

import base64
import hashlib
import io
import json
import math
import re
import socket
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

_CHUNK = 1 << 18
_REPO = r'(?P<repo>[^/]+(?:/[^/]+)?)'
_RESOLVE = re.compile(f'/{_REPO}/resolve/(?P<revision>[^/]+)/(?P<file>.+)')
_API = re.compile(f'/api/models/{_REPO}(?:/(?P<view>revision|tree)/(?P<revision>[^/]+))?')

# What a refusal says: status, X-Error-Code, X-Error-Message. An anonymous client cannot tell a missing
# repo from a private one. That 401 needs its code here: without it the client reads a 401 as "no such
# repo" for https addresses only.
_REFUSALS = {
    'unauthorized': (401, 'RepoNotFound', 'Invalid username or password.'),
    'gated': (403, 'GatedRepo', 'Access to this model is restricted and you are not in the authorized list.'),
    'not_found': (404, 'RepoNotFound', 'Repository not found'),
    'no_revision': (404, 'RevisionNotFound', 'Invalid rev id'),
    'no_entry': (404, 'EntryNotFound', 'Entry not found'),
    'no_route': (404, '', 'Not found'),
    'server_error': (500, '', 'Internal Error'),
    'busy': (429, '', 'Too many requests'),
}
_COMMIT = re.compile(f'/api/models/{_REPO}/(?P<what>preupload|commit)/main')
_LFS_BATCH = re.compile(f'/{_REPO}\\.git/info/lfs/objects/batch')
_UPLOAD = re.compile('/lfs/(?P<oid>[0-9a-f]{64})')
TOKEN = 'hf_loopback'
_BODY_MODES = ('cut', 'cut_always', 'slow', 'dribble', 'endless')


class _File(NamedTuple):
    source: bytes | Path
    size: int
    sha256: str

    def open(self):
        return io.BytesIO(self.source) if isinstance(self.source, bytes) else self.source.open('rb')


class LoopbackHub:
    """The Hub: `requests` holds (method, path as sent, no query), `ranges` the Range headers of its GETs.

    `lies` are headers that it answers for files instead of the true ones, None leaves one out; `lies_of_missing` for
    files that are not there.
    """

    def __init__(self):
        self.requests, self.ranges = [], []
        self.lies, self.lies_of_missing = {}, {}
        self._repos = {}  # repo -> {commit: {file name: _File}}; the newest commit, 'main', is the last
        self._faults = {}  # (repo, file name or None for all) -> [mode, how often it still strikes, delay]
        self._lock = threading.Lock()
        self._uploads = {}  # sha256 -> bytes of LFS files that no commit names yet
        self._server = None
        self._port = 0  # the OS chooses; kept afterwards, so that a stopped hub comes back at the same url

    @property
    def url(self):
        return f'http://127.0.0.1:{self._port}'

    def start(self):
        self._server = _Server(self, self._port)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={'poll_interval': 0.02}, daemon=True).start()
        return self

    def stop(self):
        """Refuse connections from now on; start() brings the same repositories back."""
        server, self._server = self._server, None
        if server:
            server.shutdown()
            server.server_close()
            for connection in list(server.connections):  # or else a kept-alive one would still be served
                with suppress(OSError):  # its client left first
                    connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc_info):
        self.stop()

    def add(self, repo_id, filename, path_or_bytes, sha256=None):
        """Publish or replace a file as a new commit; a sha256 given is believed, right or wrong."""
        source = path_or_bytes if isinstance(path_or_bytes, bytes) else Path(path_or_bytes)
        file = _File(source, len(source) if isinstance(source, bytes) else source.stat().st_size, sha256)
        if sha256 is None:
            digest = hashlib.sha256()
            with file.open() as stream:
                while chunk := stream.read(_CHUNK):
                    digest.update(chunk)
            file = file._replace(sha256=digest.hexdigest())
        self._change(repo_id, filename, file)

    def files(self, repo_id):
        """Names and contents of a repository's files, as uploaded or added."""
        _, files = self._snapshot(repo_id, 'main')
        return {name: file.open().read() for name, file in (files or {}).items()}

    def remove(self, repo_id, filename):
        """Publish a commit without that file; earlier commits keep it."""
        self._change(repo_id, filename, None)

    def clear(self):
        self.requests.clear()
        self.ranges.clear()

    def fail(self, repo_id, filename=None, *, mode, times=None, delay=0.05):
        """From now on (or `times` times; 'cut': once) answer for the file, or the whole repo, with a fault.

        The repo 'uploads' stands for large files on their way to the Hub.

        Modes: unauthorized, gated, not_found, server_error, busy (Retry-After: `delay`), cut, cut_always, slow (`delay`
        s per 256 KiB), dribble (`delay` s per byte), endless.
        """
        if mode not in _BODY_MODES and mode not in _REFUSALS:
            raise ValueError(f'no fault mode {mode!r}')
        times = (1 if mode == 'cut' else math.inf) if times is None else times
        self._faults[repo_id, filename] = [mode, times, delay]

    def heal(self):
        """Forget every fault."""
        self._faults.clear()

    def _change(self, repo_id, filename, file):
        with self._lock:
            history = self._repos.setdefault(repo_id, {})
            parent = next(reversed(history), None)
            files = dict(history.get(parent, {}))
            if file is None:
                del files[filename]
            else:
                files[filename] = file
            commit = hashlib.sha1(repr((repo_id, parent, filename, file and file.sha256)).encode()).hexdigest()
            history[commit] = files

    def _snapshot(self, repo_id, revision):
        """(commit, its files); no commit: no such repo, no files: no such revision."""
        with self._lock:
            history = self._repos.get(repo_id, {})
            newest = next(reversed(history), None)
            return newest, history.get(newest if revision == 'main' else revision)

    def _fault(self, repo_id, filename, has_body):
        """(mode, delay) of the fault that strikes this request; a cut or slow one waits for a body."""
        with self._lock:
            for fault in (self._faults.get((repo_id, filename)), self._faults.get((repo_id, None))):
                if fault and fault[1] > 0 and (has_body or fault[0] not in _BODY_MODES):
                    fault[1] -= 1
                    return fault[0], fault[2]
        return None, 0


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # the default of 5 turns many clients at once into timeouts

    def __init__(self, hub, port):
        self.hub, self.connections = hub, set()
        super().__init__(('127.0.0.1', port), _Handler)

    def server_bind(self):
        TCPServer.server_bind(self)  # HTTPServer's own also asks the DNS for this machine's name

    def process_request(self, request, client_address):
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        self.connections.discard(request)
        super().shutdown_request(request)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    disable_nagle_algorithm = True  # headers and body are two writes: Nagle would hold back the second

    def log_message(self, *args):
        pass

    def handle(self):
        with suppress(ConnectionError):  # the client left, or stop() cut the line
            super().handle()

    def do_GET(self):
        hub, path, is_get = self.server.hub, urlsplit(self.path).path, self.command == 'GET'
        hub.requests.append((self.command, path))
        resolve = _RESOLVE.fullmatch(path)
        match = resolve or _API.fullmatch(path)
        if not match:
            return self._refuse('no_route')
        repo, revision = unquote(match['repo']), unquote(match['revision'] or 'main')
        filename = unquote(match['file']) if resolve else None
        mode, delay = hub._fault(repo, filename, bool(resolve) and is_get)
        commit, files = hub._snapshot(repo, revision)
        if mode in _REFUSALS:
            return self._refuse(mode, {'Retry-After': delay} if mode == 'busy' else {})
        if commit is None:
            return self._refuse('unauthorized')
        if files is None:
            return self._refuse('no_revision')
        commit = commit if revision == 'main' else revision
        if not resolve:
            return self._send_json(200, _describe(match['view'], repo, commit, files))
        if filename not in files:  # told the commit, the client notes in its cache that the file is not there
            return self._refuse('no_entry', {'X-Repo-Commit': commit, **hub.lies, **hub.lies_of_missing})
        self._send_file(commit, files[filename], is_get, mode, delay)

    do_HEAD = do_GET

    def do_PUT(self):
        body = self._read_body()
        mode, _ = self.server.hub._fault('uploads', None, False)
        if mode:
            return self._refuse(mode)
        match = _UPLOAD.fullmatch(urlsplit(self.path).path)
        if not match or hashlib.sha256(body).hexdigest() != match['oid']:
            return self._refuse('no_route')
        self.server.hub._uploads[match['oid']] = body
        self._send_json(200, {})

    def do_POST(self):
        hub, path, body = self.server.hub, urlsplit(self.path).path, self._read_body()
        hub.requests.append((self.command, path))
        if path == '/api/validate-yaml':
            return self._send_json(200, {'errors': [], 'warnings': []})
        if self.headers.get('Authorization') != f'Bearer {TOKEN}':
            return self._refuse('unauthorized')
        if path == '/api/repos/create':
            wanted = json.loads(body)
            repo = f'{wanted["organization"]}/{wanted["name"]}'
            if hub._snapshot(repo, 'main')[0]:
                return self._send_json(409, {'error': 'It is there already', 'url': f'{hub.url}/{repo}'})
            hub.add(repo, '.gitattributes', b'')
            return self._send_json(200, {'url': f'{hub.url}/{repo}', 'id': '0', 'name': repo})
        if _LFS_BATCH.fullmatch(path):
            objects = json.loads(body)['objects']
            for wanted in objects:
                wanted['actions'] = {'upload': {'href': f'{hub.url}/lfs/{wanted["oid"]}'}}
            return self._send_json(200, {'transfer': 'basic', 'objects': objects})
        match = _COMMIT.fullmatch(path)
        if not match or hub._snapshot(match['repo'], 'main')[0] is None:
            return self._refuse('not_found')
        if match['what'] == 'preupload':
            files = [
                {
                    'path': f['path'],
                    'shouldIgnore': False,
                    'uploadMode': 'regular' if f['path'].endswith(('.json', '.md')) else 'lfs',
                }
                for f in json.loads(body)['files']
            ]
            return self._send_json(200, {'files': files})
        for line in map(json.loads, body.splitlines()):
            value = line['value']
            if line['key'] == 'file':
                hub.add(match['repo'], value['path'], base64.b64decode(value['content']))
            elif line['key'] == 'lfsFile':
                hub.add(match['repo'], value['path'], hub._uploads.pop(value['oid']))
        commit = hub._snapshot(match['repo'], 'main')[0]
        self._send_json(200, {'commitOid': commit, 'commitUrl': f'{hub.url}/{match["repo"]}/commit/{commit}'})

    def _read_body(self):
        if self.headers.get('Transfer-Encoding') != 'chunked':
            return self.rfile.read(int(self.headers.get('Content-Length', 0)))
        body = b''
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _refuse(self, mode, headers=()):
        status, code, message = _REFUSALS[mode]
        headers = {**dict(headers), 'X-Error-Message': message, **({'X-Error-Code': code} if code else {})}
        self._send_json(status, {'error': message}, headers)

    def _send_json(self, status, value, headers=()):
        body = json.dumps(value).encode()
        self._send_head(status, len(body), {'Content-Type': 'application/json; charset=utf-8', **dict(headers)})
        if self.command != 'HEAD':
            self.wfile.write(body)

    def _send_head(self, status, length, headers):
        self.send_response(status)
        for name, value in {**headers, 'Content-Length': length}.items():
            if value is not None:
                self.send_header(name, str(value))
        self.end_headers()

    def _send_file(self, commit, file, is_get, mode, delay):
        headers = {
            'Content-Type': 'application/octet-stream',
            'Accept-Ranges': 'bytes',
            'X-Repo-Commit': commit,
            'ETag': f'"{file.sha256}"',
            'X-Linked-Etag': f'"{file.sha256}"',
            'X-Linked-Size': file.size,
            **self.server.hub.lies,
        }
        status, first, end = 200, 0, file.size
        wanted = re.fullmatch(r'bytes=(\d*)-(\d*)', self.headers.get('Range', ''))
        if is_get and wanted and any(wanted.groups()):
            self.server.hub.ranges.append(wanted[0])
            if wanted[1]:
                first, end = int(wanted[1]), min(file.size, int(wanted[2] or file.size) + 1)
            else:  # the last so many bytes
                first = max(0, file.size - int(wanted[2]))
            if first >= end:
                return self._send_head(416, 0, {'Content-Range': f'bytes */{file.size}'})
            status, headers['Content-Range'] = 206, f'bytes {first}-{end - 1}/{file.size}'
        if mode == 'endless':
            self.close_connection = True
        self._send_head(status, None if mode == 'endless' else end - first, headers)
        if not is_get:
            return
        if mode == 'endless':  # nearly: the client has long left
            for _ in range(256):
                self.wfile.write(bytes(_CHUNK))
            return
        cut = first + (end - first) // 2 if mode in ('cut', 'cut_always') else end
        with file.open() as stream:
            stream.seek(first)
            while chunk := stream.read(min(1 if mode == 'dribble' else _CHUNK, cut - first)):
                if mode in ('slow', 'dribble'):
                    time.sleep(delay)
                self.wfile.write(chunk)
                first += len(chunk)
        if first < end:  # a cut, or a file that shrank on disk
            self.close_connection = True


def _describe(view, repo, commit, files):
    """The tree of a revision (recursive, less its folders), or what the API says of the model."""
    entries = [
        {
            'type': 'file',
            'path': name,
            'rfilename': name,
            'size': file.size,
            'oid': file.sha256[:40],
            'lfs': {'oid': file.sha256, 'sha256': file.sha256, 'size': file.size, 'pointerSize': 134},
        }
        for name, file in files.items()
    ]
    if view == 'tree':
        return entries
    return {
        'id': repo,
        'modelId': repo,
        'sha': commit,
        'private': False,
        'gated': False,
        'disabled': False,
        'tags': [],
        'siblings': entries,
    }
