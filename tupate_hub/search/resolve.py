"""Resolve: what is compared with a zoo: a task that it has, an adapter on disk, or an embedding from elsewhere."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tupate_hub.compare.input_covariance import InputCovariance
from tupate_hub.compare.kernel import Pack, pack
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import SpaceMismatch, UnknownName
from tupate_hub.registry import Registry, SpaceEntry
from tupate_hub.space import Space

if TYPE_CHECKING:
    from tupate_hub.zoo import Zoo


#: So many spaces are named where there is none for a query.
_MOST_NAMED = 3


@dataclass(frozen=True)
class Query:
    """What is compared with the zoo: a task that it has in the space, `held`, or an embedding from elsewhere."""

    name: str
    space: SpaceEntry
    held: bool
    embedding: TaskEmbedding | None

    def packed(self, zoo: Zoo, similarity: str, covariance: InputCovariance | None) -> Pack:
        """The query's factors; its embedding is read from the zoo where it is a task of it. Errors as `pack`."""
        embedding = self.embedding or zoo.load(zoo.registry.entry(self.name, self.space.name))
        return pack(zoo.as_compared(self.space.name, similarity, [embedding]), similarity, covariance)


def resolve(
    zoo: Zoo, query: str | Path | TaskEmbedding, space: str | None, base: str | None, *, alone: bool = False
) -> Query:
    """Find out what is asked: a task's name first, then a path, then a repository of the Hub.

    A folder of the name of a task does not hide the task. With `alone`, an adapter may be of a space that
    the zoo lacks.

    Raises
    ------
    UnknownName
        For an unknown task or space.
    SpaceMismatch
        When the zoo has no such space, or it is not the one that was asked for.
    FormatError
        When a path does not exist or cannot be read, or the Hub has no such repository.
    NotAvailableOffline
        When a repository is not in the cache and there is no network.
    """
    if isinstance(query, TaskEmbedding):
        return _outside(query, find_space(zoo.registry, query.space), space)
    if isinstance(query, str):
        looks_like_path = "/" in query or "\\" in query or query.startswith(".")
        try:
            name = zoo.registry.task(query).name
        except UnknownName:
            if not looks_like_path and not _exists(query):
                raise
        else:
            where = zoo.registry.space(zoo.registry.find(name, space).space)
            return Query(name, where, True, None)
    embedding = read_query(query, base, check=False)  # comparing it does
    try:
        found = find_space(zoo.registry, embedding.space)
    except SpaceMismatch:
        if not alone:
            raise
        found = SpaceEntry(embedding.space.name, embedding.space.base, embedding.space.method)
    return _outside(embedding, found, space)


def _exists(path: str | Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises on a name that is too long


def find_space(registry: Registry, space: Space) -> SpaceEntry:
    """The registry's entry of a space.

    Raises
    ------
    SpaceMismatch
        Naming the space and those that there are.
    """
    for entry in registry.spaces.values():
        if entry.space == space:
            return entry
    spaces = [entry.space for entry in registry.spaces.values()]
    near = [one for one in spaces if one.base == space.base] or _nearest(space, spaces)
    known = "; ".join(map(str, near[:_MOST_NAMED])) or "nothing"
    others = f" and {len(spaces) - len(near[:_MOST_NAMED])} other spaces" if len(spaces) > _MOST_NAMED else ""
    raise SpaceMismatch(f"The query is {space}; the zoo holds {known}{others}.", hint="tupate-hub spaces")


def _nearest(space: Space, spaces: list[Space]) -> list[Space]:
    """Spaces by how much the name of their base model is like another's."""
    from difflib import SequenceMatcher

    return sorted(spaces, key=lambda one: -SequenceMatcher(None, one.base.lower(), space.base.lower()).ratio())


def _outside(embedding: TaskEmbedding, space: SpaceEntry, asked: str | None) -> Query:
    if asked is not None and not space.is_called(asked):
        raise SpaceMismatch(
            f"The query is {embedding.space}, which is space {space.name!r}, not {asked!r}.",
            hint=f"`space={space.name!r}`",
        )
    return Query(embedding.task, space, False, embedding)


def read_query(query: str | Path, base: str | None = None, *, check: bool = True) -> TaskEmbedding:
    """Any adapter that the readers know, on disk or on the Hub, or an embedding file or the folder that `pull` makes.

    `check` as in `read_from`.

    Raises
    ------
    FormatError
        When it does not exist or cannot be read.
    """
    from tupate_hub.collect.read_adapter import read_from

    return read_from(query, base=base, check=check)
