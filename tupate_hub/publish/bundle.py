"""Publication: a registry as a repository holds it: `registry.json`, what that names, the card and what it shows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from tupate_hub.collect.merge import index_place
from tupate_hub.compare.pair_index import PairIndex, parse_pair_index
from tupate_hub.compare.similarity import available
from tupate_hub.errors import FormatError
from tupate_hub.hub.upload import File
from tupate_hub.publish.card import SHOWN, card_files, smallest_subspaces
from tupate_hub.publish.frontmatter import About
from tupate_hub.registry import FILENAME, Registry
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


def publication(zoo: Zoo, about: About, similarities: Mapping[str, set[str]]) -> Publication:
    """What is published of a zoo. Embeddings are not read before they are asked for; the same zoo gives the same bytes.

    Parameters
    ----------
    zoo : Zoo
        A space of it without a packed index of `update` gets one, so that readers need no embeddings to rank.
    about : About
        Of the card.
    similarities : mapping of str to set of str
        Of which similarities a space shall have packed indexes, besides those that it has.

    Raises
    ------
    FormatError
        When a file is damaged, or lies where the card or `registry.json` has to be.
    """
    registry, indexes, made = _indexed(zoo, similarities)
    held = {
        **made,
        **card_files(registry, indexes, about, README, smallest_subspaces(zoo)),
        FILENAME: registry.to_json().encode(),
    }
    files = {}
    for file, size, sha256 in registry.files():
        if file in files or (file in held and file not in made) or not _NEVER.isdisjoint(file.split("/")):
            raise FormatError(
                f"The registry names {file!r}, where another file of the repository lies.",
                hint="give it another path in registry.json",
            )
        files[file] = _named(zoo, file, size, sha256)
    return Publication(registry, {**files, **{file: _held(data) for file, data in held.items()}})


def _named(zoo: Zoo, file: str, size: int, sha256: str) -> File:
    return File(size, sha256, lambda: zoo.read_file(file, size, sha256))


def _held(data: bytes) -> File:
    return File(len(data), hashlib.sha256(data).hexdigest(), lambda: data)


def _indexed(
    zoo: Zoo, similarities: Mapping[str, set[str]]
) -> tuple[Registry, dict[str, dict[str, PairIndex]], dict[str, bytes]]:
    """The registry with the packed indexes that are wanted, all of them, and the bytes of those that are new."""
    registry, made = zoo.registry, {}
    indexes: dict[str, dict[str, PairIndex]] = {}
    for space in zoo.registry.spaces.values():
        if not zoo.registry.in_space(space.name):
            continue
        wanted = {SHOWN, *space.index, *similarities.get(space.name, ())}
        names = [name for name in available(bool(space.moments)) if name in wanted]
        places = dict(space.index)
        indexes[space.name] = {}
        for name in names:
            index = zoo.pair_index(space.name, name)
            if name not in places:
                data = index.to_bytes()
                places[name] = index_place(space.name, name, data, {file for file, _, _ in registry.files()})
                made[places[name]["file"]] = data
                index = parse_pair_index(data, places[name]["file"])  # with the rounded numbers that readers will see
            indexes[space.name][name] = index
        registry = replace(registry, spaces={**registry.spaces, space.name: replace(space, index=places)})
    return registry, indexes, made
