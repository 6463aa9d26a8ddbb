"""Beside: the files of a zoo, and some beside them that are not written anywhere yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tupate_hub.hub.location import DATASET, Location
from tupate_hub.zoo import Zoo


@dataclass(frozen=True)
class Beside:
    """A zoo in the place of a folder, with `files` by their paths, which come first."""

    zoo: Zoo
    files: Mapping[str, bytes]
    note: str = ""

    @property
    def location(self) -> Location:
        """The zoo's repository; one in a folder has none."""
        return self.zoo.remote.location if self.zoo.remote is not None else Location(DATASET, self.zoo.root.name)

    def where(self, file: str) -> str:
        """How messages name a file."""
        return file if file in self.files else self.zoo.where(file)

    def read(self, file: str, size: int, sha256: str) -> bytes:
        """A file's bytes; those of the zoo are checked. Errors as `Zoo.read_file`."""
        return self.files[file] if file in self.files else self.zoo.read_file(file, size, sha256)

    def outline(self, file: str, size: int, sha256: str) -> bytes:
        """A file's bytes, whole."""
        return self.read(file, size, sha256)

    def prefetch(self, files: Iterable[tuple[str, int, str]]) -> None:
        """Fetch what lies on the Hub of these files (name, size, digest), several at once."""
        if self.zoo.remote is not None:
            self.zoo.remote.prefetch(one for one in files if one[0] not in self.files)
