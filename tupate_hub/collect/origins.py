"""Origins: where each file of a merged registry comes from, and its path there, which two contents never share."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, Literal

from tupate_hub.entry import Entry
from tupate_hub.registry import FILENAME, SpaceEntry

Side = Literal["ours", "theirs"]
OTHER: Mapping[Side, Side] = {"ours": "theirs", "theirs": "ours"}


@dataclass(frozen=True)
class Origin:
    """Where a file of the merged registry comes from: its side, and its path there, size and sha256."""

    side: Side
    file: str
    bytes: int
    sha256: str


class Placing:
    """The files of a merged registry as they find their places: who comes first keeps its path.

    They are those of the side `base`, but for the ones, path and sha256, that are taken from the other.
    """

    def __init__(self, base: Side, taken: Collection[tuple[str, str]]) -> None:
        self.files: dict[str, Origin] = {}
        self._base, self._taken = base, taken

    def place(self, file: str, size: int, sha256: str) -> str:
        """The path of a file in the merged registry: its own, or beside it where another content has that."""
        path = file
        while path == FILENAME or (path in self.files and self.files[path].sha256 != sha256):
            path = str(PurePosixPath(path).with_stem(f"{PurePosixPath(path).stem}-{sha256[:12]}"))
        side = OTHER[self._base] if (file, sha256) in self._taken else self._base
        self.files[path] = Origin(side, file, size, sha256)
        return path

    def entry(self, entry: Entry) -> Entry:
        """An embedding with the paths of its files, and those of its repeats and its head."""
        return replace(
            entry,
            file=self.place(entry.file, entry.bytes, entry.sha256) if entry.has_file else "",
            repeats=tuple(
                replace(repeat, file=self.place(repeat.file, repeat.bytes, repeat.sha256)) for repeat in entry.repeats
            ),
            head=self._moved(entry.head) if entry.head else {},
        )

    def space(self, space: SpaceEntry) -> SpaceEntry:
        """A space with the paths of its files."""
        return replace(
            space,
            index={similarity: self._moved(place) for similarity, place in space.index.items()},
            moments=self._moved(space.moments) if space.moments else {},
            subspaces={called: self._moved(place) for called, place in space.subspaces.items()},
            nearest={
                similarity: {**self._moved(place), "sketches": [self._moved(part) for part in place["sketches"]]}
                for similarity, place in space.nearest.items()
            },
        )

    def _moved(self, place: Mapping[str, Any]) -> dict[str, Any]:
        return {**place, "file": self.place(place["file"], place["bytes"], place["sha256"])}
