"""Digest: by what the Hub knows a file's content: the sha256 of one in LFS, git's name of any other."""

from __future__ import annotations

import hashlib
from pathlib import Path

_PIECE = 1 << 20
_SHA256 = 64


def git_name(data: bytes) -> str:
    """Git's name of a file's content: what the Hub's ETag is for a file that is not in LFS."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def has_digest(data: bytes, digest: str) -> bool:
    """Whether a content is that of a digest, told by its length: a sha256, else git's name."""
    return digest == (hashlib.sha256(data).hexdigest() if len(digest) == _SHA256 else git_name(data))


def file_has_digest(path: Path, digest: str) -> bool:
    """`has_digest` of a file on disk, which is not read whole at once."""
    if len(digest) == _SHA256:
        seen = hashlib.sha256()
    else:
        seen = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            seen.update(piece)
    return digest == seen.hexdigest()
