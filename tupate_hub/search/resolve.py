"""Query: what is compared with a zoo: a task that it has, an adapter on disk, or an embedding from elsewhere."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tupate_hub.embedding import SCHEMA, TaskEmbedding, read_embedding
from tupate_hub.errors import FormatError, SpaceMismatch, UnknownName
from tupate_hub.registry import Entry, Registry, SpaceEntry
from tupate_hub.space import Space
from tupate_hub.storage.safetensors import read_header

if TYPE_CHECKING:
    from tupate_hub.zoo import Zoo

_MOST_HEADER = 1_000_000


@dataclass(frozen=True)
class Query:
    """What is compared with the zoo: a task that the zoo has (`row` in its space), or an embedding from elsewhere."""

    name: str
    space: SpaceEntry
    row: int | None
    embedding: TaskEmbedding | None


def resolve(zoo: Zoo, query: str | Path | TaskEmbedding, space: str | None, base: str | None) -> Query:
    """Find out what is asked: a task's name first, then a path, then a repository of the Hub.

    A folder of the name of a task does not hide the task.

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
            where = zoo.registry.space(space)
            zoo.registry.entry(name, where.name)
            row = [entry.task for entry in zoo.registry.in_space(where.name)].index(name)
            return Query(name, where, row, None)
    embedding = read_query(query, base)
    return _outside(embedding, find_space(zoo.registry, embedding.space), space)


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
    known = "; ".join(str(entry.space) for entry in registry.spaces.values()) or "nothing"
    raise SpaceMismatch(f"The query is {space}; the zoo holds {known}.", hint="tupate-hub spaces")


def _outside(embedding: TaskEmbedding, found: SpaceEntry, asked: str | None) -> Query:
    if asked is not None and not found.is_called(asked):
        raise SpaceMismatch(
            f"The query is {embedding.space}, which is space {found.name!r}, not {asked!r}.",
            hint=f"`space={found.name!r}`",
        )
    return Query(embedding.task, found, None, embedding)


def read_query(query: str | Path, base: str | None = None) -> TaskEmbedding:
    """Any adapter that the readers know, on disk or on the Hub, or an embedding file or the folder that `pull` makes.

    Raises
    ------
    FormatError
        When it does not exist or cannot be read.
    """
    from tupate_hub.collect.read_adapter import read_from

    path = Path(query)
    if not _exists(path):
        return read_from(query, base=base)
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    if len(files) == 1 and _is_embedding(files[0]):
        return read_embedding(files[0])
    return read_from(path, base=base)


def _is_embedding(file: Path) -> bool:
    """Whether a file's header says that it is an embedding of this project; what is wrong with it, reading it says."""
    try:
        with file.open("rb") as stream:
            length = stream.read(8)
            start = length + stream.read(min(int.from_bytes(length, "little"), _MOST_HEADER))
        metadata = read_header(start, str(file), file.stat().st_size)[0].get("__metadata__")
    except (OSError, FormatError):
        return False
    return isinstance(metadata, dict) and str(metadata.get("schema")).startswith(SCHEMA.partition("/")[0])


def loaded(zoo: Zoo, asked: Query) -> TaskEmbedding:
    """The query's embedding, read from the zoo where it is a task of it."""
    if asked.embedding is not None:
        return asked.embedding
    return zoo.load(zoo.registry.entry(asked.name, asked.space.name))


def _digest(facts: Mapping[str, Any], name: str) -> object:
    part = facts.get(name)
    return part.get("sha256") if isinstance(part, dict) else None


def same_data(zoo: Zoo, asked: Query, entry: Entry) -> bool:
    """Whether the entry was tuned on the query's data, or is the very file: by digests, or by dataset id on the Hub."""
    source: Mapping[str, object] = {}
    dataset = ""
    if asked.row is not None:
        source = zoo.registry.entry(asked.name, asked.space.name).source
        dataset = zoo.registry.tasks[asked.name].dataset
    elif asked.embedding is not None:
        facts = asked.embedding.facts
        source = {"sha256": _digest(facts, "source"), "data_sha256": _digest(facts, "data")}
    digests = ("sha256", "data_sha256")
    return bool(
        any(source.get(name) and source.get(name) == entry.source.get(name) for name in digests)
        or (dataset and dataset == zoo.registry.tasks[entry.task].dataset)
    )
