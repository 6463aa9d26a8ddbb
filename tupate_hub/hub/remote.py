"""Remote: what a zoo asks of the place where its files are, when that is no folder."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from tupate_hub.hub.location import Location


class Remote(Protocol):
    """Where the files of a zoo are that has no folder of its own: a `Snapshot`, or the `Sides` of a merge."""

    @property
    def location(self) -> Location:
        """The repository."""

    @property
    def note(self) -> str:
        """Why its registry may not be the newest, "" where it is."""

    def where(self, file: str) -> str:
        """How messages name a file."""

    def read(self, file: str, size: int, sha256: str) -> bytes:
        """A file's bytes, of the size and digest that the registry gives."""

    def outline(self, file: str, size: int, sha256: str) -> bytes:
        """A safetensors file's bytes, of which the numbers may be zeros."""

    def prefetch(self, files: Iterable[tuple[str, int, str]]) -> None:
        """Fetch files (name, size, digest) that will be read."""
