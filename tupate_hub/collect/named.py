"""Named: the files that a registry names, found without reading all of one that is in shards."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cached_property

from tupate_hub.registry import Entry, Registry

_SHARD = re.compile(r"zoo/(entries|names)/[0-9a-f]{16}\.json")
_OF_A_TASK = re.compile(r"zoo/(?P<space>.+?)(?:/heads)?/(?P<task>[^/]+?)\.safetensors")
_DIGEST = re.compile(r"-[0-9a-f]{12}$")


class Named:
    """What a registry names.

    Of one in shards the files of an embedding are looked for where additions put them, `zoo/SPACE/TASK.safetensors` and
    `zoo/SPACE/heads/TASK.safetensors`: what is said of another place is never that it is not named.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.in_part = registry.shelves is not None

    @cached_property
    def _files(self) -> dict[str, str]:
        listed = self._registry.files_beside() if self.in_part else self._registry.files()
        return {file: sha256 for file, _, sha256 in listed}

    def digest(self, file: str) -> str | None:
        """The sha256 of the content under which a file is named; None where it is not, or nothing is known of it."""
        if file in self._files or not self.in_part:
            return self._files.get(file)
        own = (one for entry in self._owners(file) for one in entry.files())
        return next((sha256 for path, _, sha256 in own if path == file), None)

    def lacks(self, file: str) -> bool:
        """Whether a file is certainly not named."""
        if not self.in_part or _SHARD.fullmatch(file):
            return file not in self._files
        return bool(_OF_A_TASK.fullmatch(file)) and self.digest(file) is None

    def without(self, other: Named) -> set[str]:
        """The files that are named here and, certainly, not by another registry."""
        return {file for file in self._unlike(other) if other.lacks(file)}

    def _unlike(self, other: Named) -> Iterator[str]:
        """The files here that may not be there."""
        yield from self._files
        mine, theirs = self._registry.shelves, other._registry.shelves
        if mine is not None and theirs is not None:
            same = {shard.sha256 for shard in theirs.entries.shards}
            for shard in mine.entries.shards:
                if shard.sha256 not in same:
                    yield from _files_of(mine.entries.rows_of(shard))

    def _owners(self, file: str) -> Iterator[Entry]:
        """The entries whose own a file's name is."""
        found = _OF_A_TASK.fullmatch(file)
        if found is not None:
            for task in dict.fromkeys((found["task"], _DIGEST.sub("", found["task"]))):
                if (entry := self._registry.get(task, found["space"])) is not None:
                    yield entry


def _files_of(entries: Iterable[Entry]) -> Iterator[str]:
    return (path for entry in entries for path, _, _ in entry.files())
