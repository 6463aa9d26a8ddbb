"""Heads beside tuned parameters on disk: in our own form, as the `adapters` library saves them, and as PEFT does."""

from __future__ import annotations

from pathlib import Path

from tupate_hub.errors import FormatError
from tupate_hub.head import FILENAME, Head, parse_head

_MOST_BYTES = 1_000_000_000


def find_head(folder: Path) -> Head | None:
    """The head in a folder, None where there is none.

    Raises
    ------
    FormatError
        When it cannot be read.
    """
    own = folder / FILENAME
    return parse_head(_bytes(own), str(own)) if own.is_file() else None


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise FormatError(f"{path} is too large for a head.")
        return path.read_bytes()
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}.") from error
