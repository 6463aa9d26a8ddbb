"""Sides: the files of a merged registry, each read where it lies: nothing is fetched or copied that nobody reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from tupate_hub.collect.merge import Merged
from tupate_hub.collect.origins import Origin, Side
from tupate_hub.hub.location import Location
from tupate_hub.zoo import Zoo


@dataclass(frozen=True)
class Sides:
    """Two zoos in the place of a folder; `origins` says of each file of the merged registry whose it is."""

    location: Location
    zoos: Mapping[Side, Zoo]
    origins: Mapping[str, Origin]
    note: str = ""

    def where(self, file: str) -> str:
        """How messages name a file."""
        origin = self.origins[file]
        return self.zoos[origin.side].where(origin.file)

    def read(self, file: str, size: int, sha256: str) -> bytes:
        """A file's bytes, checked; errors as `Zoo.read_file`."""
        origin = self.origins[file]
        return self.zoos[origin.side].read_file(origin.file, size, sha256)

    def outline(self, file: str, size: int, sha256: str) -> bytes:
        """A file's bytes, whole."""
        return self.read(file, size, sha256)

    def prefetch(self, files: Iterable[tuple[str, int, str]]) -> None:
        """Fetch what lies on the Hub of these files (name, size, digest), several at once."""
        theirs = self.zoos["theirs"]
        if theirs.remote is not None:
            there = [(self.origins[file].file, size, sha256) for file, size, sha256 in files
                     if self.origins[file].side == "theirs"]  # fmt: skip
            theirs.remote.prefetch(there)


def united(ours: Zoo, theirs: Zoo, merged: Merged, location: Location) -> Zoo:
    """The zoo of a merged registry: one of the two where that has every file, else both."""
    for side, zoo in (("ours", ours), ("theirs", theirs)):
        if all((origin.side, origin.file) == (side, file) for file, origin in merged.files.items()):
            return replace(zoo, registry=merged.registry)
    return Zoo(ours.root, merged.registry, Sides(location, {"ours": ours, "theirs": theirs}, merged.files))
