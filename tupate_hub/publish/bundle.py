"""Publication: a registry as a repository holds it: `registry.json`, what that names, the card and what it shows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from tupate_hub.collect.named import Named
from tupate_hub.collect.nearest import renewed
from tupate_hub.collect.origins import Side
from tupate_hub.compare.pair_index import PairIndex, parse_pair_index
from tupate_hub.compare.similarity import available
from tupate_hub.errors import FormatError
from tupate_hub.hub.upload import File
from tupate_hub.publish.beside import Beside
from tupate_hub.publish.card import SHOWN, card_files, smallest_subspaces
from tupate_hub.publish.frontmatter import About
from tupate_hub.publish.sample import Sample, sample_of
from tupate_hub.registry import FILENAME, Registry, placed
from tupate_hub.zoo import Zoo

#: The dataset card's place on the Hub.
README = "README.md"
#: Names that mean something to git or to the Hub's client.
_NEVER = frozenset({".git", ".cache", ".gitattributes", ".gitignore"})


@dataclass(frozen=True)
class Publication:
    """A registry and its files by their paths, `registry.json` among them."""

    registry: Registry
    files: Mapping[str, File]


def publication(
    zoo: Zoo,
    about: About,
    similarities: Mapping[str, set[str]],
    sides: Mapping[Side, Zoo] = MappingProxyType({}),
    behind: Mapping[str, Side] = MappingProxyType({}),
) -> Publication:
    """What is published of a zoo. Embeddings are not read before they are asked for; the same zoo gives the same bytes.

    Parameters
    ----------
    zoo : Zoo
        A space of it without a packed index of `update` gets one, or if it is large the files of its nearest
        embeddings, so that readers need no embeddings to rank.
    about : About
        Of the card.
    similarities : mapping of str to set of str
        Of which similarities a space shall have packed indexes, besides those that it has.
    sides, behind : mapping
        The zoos that `zoo` was made of, whose sketches are used again, and as `renewed`.

    Raises
    ------
    FormatError
        When a file is damaged, or lies where the card or `registry.json` has to be.
    """
    made = _Made(zoo)
    registry = renewed(made, zoo.registry, zoo, sides, behind)
    shown = sample_of(made.beside(registry))
    registry, indexes = _indexed(shown, registry, similarities, made)
    registry = registry.shelved()
    made.files |= registry.unwritten()
    held = {
        **made.files,
        **card_files(shown.registry, indexes, about, README, smallest_subspaces(zoo), shown.totals),
        FILENAME: registry.to_json().encode(),
    }
    files = {}
    for file, size, sha256 in registry.files():
        if file in files or (file in held and file not in made.files) or not _NEVER.isdisjoint(file.split("/")):
            raise FormatError(
                f"The registry names {file!r}, where another file of the repository lies.",
                hint="give it another path in registry.json",
            )
        files[file] = _named(zoo, file, size, sha256)
    return Publication(registry, {**files, **{file: _held(data) for file, data in held.items()}})


class _Made:
    """The files of a publication that its zoo does not have: they are held in memory, and read from there."""

    def __init__(self, zoo: Zoo) -> None:
        self.root = Path()
        self.files: dict[str, bytes] = {}
        self._zoo = zoo
        self._named = Named(zoo.registry)

    def put(self, file: str, data: bytes) -> dict[str, Any]:
        """Take a file, at its usual path, or at one of its own where that is taken."""
        place = placed(file, data)
        if self._named.digest(file) is not None:
            path = PurePosixPath(file)
            place["file"] = str(path.with_stem(f"{path.stem}-{place['sha256'][:12]}"))
        self.files[place["file"]] = data
        return place

    def beside(self, registry: Registry) -> Zoo:
        """The zoo with a registry that names these files too."""
        if not self.files:
            return replace(self._zoo, registry=registry)
        return replace(self._zoo, registry=registry, remote=Beside(self._zoo, self.files))


def _named(zoo: Zoo, file: str, size: int, sha256: str) -> File:
    return File(size, sha256, lambda: zoo.read_file(file, size, sha256))


def _held(data: bytes) -> File:
    return File(len(data), hashlib.sha256(data).hexdigest(), lambda: data)


def _indexed(
    shown: Sample, registry: Registry, similarities: Mapping[str, set[str]], made: _Made
) -> tuple[Registry, dict[str, dict[str, PairIndex]]]:
    """The registry with the packed indexes that are wanted, and all of them; a large space gets none."""
    indexes: dict[str, dict[str, PairIndex]] = {}
    for space in registry.spaces.values():
        if not registry.in_space(space.name):
            continue
        if space.name in shown.totals:
            indexes[space.name] = {SHOWN: shown.index(space.name, SHOWN)}
            continue
        wanted = {SHOWN, *space.index, *similarities.get(space.name, ())}
        names = [name for name in available(bool(space.moments)) if name in wanted]
        places = dict(space.index)
        indexes[space.name] = {}
        for name in names:
            index = shown.whole.pair_index(space.name, name)
            if name not in places:
                data = index.to_bytes()
                places[name] = made.put(f"zoo/{space.name}/index-{name}.safetensors", data)
                index = parse_pair_index(data, places[name]["file"])  # with the rounded numbers that readers will see
            indexes[space.name][name] = index
        registry = replace(registry, spaces={**registry.spaces, space.name: replace(space, index=places)})
    return registry, indexes
