"""Checked: large files mapped into memory, each checked by its digest once and then by size and time.

Below the cache's root, `checked/<sha256>` says which file had that digest: its path, size, number and time of change.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
from pathlib import Path

from tupate_hub.errors import FormatError, WorkFailed
from tupate_hub.hub.cache import cache_root, keep
from tupate_hub.storage.safetensors import TensorFile, parse_tensorfile


def map_tensorfile(path: Path, size: int, sha256: str, where: str) -> TensorFile:
    """A safetensors file as views of the file itself, of which only what is used is read.

    Raises
    ------
    FormatError
        When it is missing, or has another size or content than is said.
    """
    try:
        with path.open("rb") as file:
            told = os.fstat(file.fileno())
            if told.st_size != size:
                raise FormatError(f"{where} has {told.st_size} bytes, the registry says {size}.", hint=_VERIFY)
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    except OSError as error:
        raise FormatError(f"{where} cannot be read: {error.strerror}.", hint=_VERIFY) from error
    if not _is_known(path, told, sha256):
        if hashlib.sha256(data).hexdigest() != sha256:
            raise FormatError(f"{where} has another content than the registry says.", hint=_VERIFY)
        remember(path, sha256)
    return parse_tensorfile(data, where)


def remember(path: Path, sha256: str) -> None:
    """Keep that a file, as it lies there now, has this digest; where the cache can be written to."""
    with contextlib.suppress(WorkFailed, OSError):
        keep(_note(sha256), _stamp(path, path.stat()).encode(), durable=False)


_VERIFY = "tupate-hub verify"


def _is_known(path: Path, told: os.stat_result, sha256: str) -> bool:
    try:
        return _note(sha256).read_text(encoding="utf-8") == _stamp(path, told)
    except (OSError, ValueError):
        return False


def _note(sha256: str) -> Path:
    return cache_root() / "checked" / sha256


def _stamp(path: Path, told: os.stat_result) -> str:
    return f"{os.path.realpath(path)}\n{told.st_size} {told.st_ino} {told.st_mtime_ns}\n"
