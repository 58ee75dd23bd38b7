"""Digests of files: as they are, and as the Hub's client has noted them."""

import hashlib
import os
import re
from pathlib import Path

_SHA256 = re.compile(r'[0-9a-f]{64}')


def is_sha256(text: str | None) -> bool:
    """Whether a text is a sha256 in hexadecimal digits."""
    return bool(text and _SHA256.fullmatch(text))


def digest_in_name(path: Path) -> str | None:
    """The sha256 of a large file in the Hub's cache, which names its blob after it; None for any other file."""
    for _ in range(9):  # link by link: behind a blob may be a store with other names
        if path.parent.name == 'blobs' and path.parent.parent.name.startswith('models--'):
            return path.name if is_sha256(path.name) else None
        if not path.is_symlink():
            return None
        path = Path(os.path.normpath(path.parent.resolve() / os.readlink(path)))
    return None


def sha256_of(path: Path) -> str:
    """Of a downloaded file as the Hub gave it, so that nothing is read; of any other as it is."""
    return digest_in_name(path) or hash_file(path)


def hash_file(path: Path) -> str:
    """The sha256 of a file."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
