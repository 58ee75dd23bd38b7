"""Digests of files: as they are, and as the Hub's client has noted them."""
import hashlib
import re
from pathlib import Path

_SHA256 = re.compile(r'[0-9a-f]{64}')


def is_sha256(text: str | None) -> bool:
    """Whether a text is a sha256 in hexadecimal digits."""
    return bool(text and _SHA256.fullmatch(text))


def digest_in_name(path: Path) -> str | None:
    """The Hub's cache names a large file's blob after its sha256."""
    name = path.resolve().name
    return name if is_sha256(name) else None


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
