"""Search: from a query and a zoo to a Ranking."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tupate_hub.embedding import SCHEMA, TaskEmbedding, embed, read_embedding
from tupate_hub.errors import FormatError, SpaceMismatch, UnknownName
from tupate_hub.index import Index
from tupate_hub.ranking import Neighbor, Ranking, off_diagonal, order, percentiles, tied
from tupate_hub.registry import Entry, Registry, SpaceEntry
from tupate_hub.similarity import Kernel, centred, get_similarity, kernel, pack
from tupate_hub.tensorfile import read_header

if TYPE_CHECKING:
    from tupate_hub.zoo import Zoo

Doubles = NDArray[np.float64]

_MOST_HEADER = 1_000_000


@dataclass(frozen=True)
class _Query:
    """What is compared with the zoo: a task that the zoo has (`row` in its index), or an embedding from elsewhere."""

    name: str
    space: SpaceEntry
    row: int | None
    embedding: TaskEmbedding | None


def similar(
    zoo: Zoo,
    query: str | Path | TaskEmbedding,
    k: int | None,
    space: str | None,
    similarity: str,
    centre: bool,
    explain: bool,
) -> Ranking:
    """Rank a zoo's tasks; see `Zoo.similar`."""
    get_similarity(similarity)
    asked = _resolve(zoo, query, space)
    index = zoo.index(asked.space.name, similarity)
    entries = zoo.registry.in_space(asked.space.name)
    against_zoo = None if asked.embedding is None else _against(zoo, asked.embedding, entries, similarity)
    scores, pairs = _scores(index, asked, against_zoo, centre)
    wanted = [row for row in order(scores, index.tasks) if row != asked.row][:k]
    contributions: Sequence[Mapping[str, float]] = [{}] * len(wanted)
    if explain:
        contributions = _contributions(zoo, asked, entries, wanted, similarity, centre)
    shares = percentiles(scores, off_diagonal(pairs))
    ties = tied([float(scores[row]) for row in wanted])
    neighbors = []
    for position, row in enumerate(wanted):
        task = zoo.registry.tasks[entries[row].task]
        neighbors.append(
            Neighbor(
                rank=position + 1,
                task=task.name,
                score=float(scores[row]),
                percentile=float(shares[row]) if len(pairs) > 2 else None,
                kind=task.kind,
                train_size=task.train_size,
                notes=_notes(zoo, asked, entries[row], ties[position]),
                contributions=contributions[position],
            )
        )
    return Ranking(asked.name, asked.space.name, similarity, centre, tuple(neighbors))


def explain_pair(
    zoo: Zoo, first: str, second: str, space: str | None, similarity: str
) -> tuple[float, dict[str, float]]:
    """The score of two tasks, adapters or embeddings and what each block contributes to it; they add up to it.

    Raises
    ------
    SpaceMismatch
        When the two are of different spaces.
    """
    get_similarity(similarity)
    sides = [_loaded(zoo, _resolve(zoo, one, space)) for one in (first, second)]
    if sides[0].space != sides[1].space:
        spaces = [f"{side.space.method} on {side.space.base}" for side in sides]
        raise SpaceMismatch(f"{first} is {spaces[0]}, {second} is {spaces[1]}: they do not compare.")
    found = kernel(pack(sides[:1], similarity), pack(sides[1:], similarity))
    parts = found.contributions()[:, 0, 0]
    return float(found.scores()[0, 0]), dict(zip(found.blocks, map(float, parts), strict=True))


def _resolve(zoo: Zoo, query: str | Path | TaskEmbedding, space: str | None) -> _Query:
    """A task's name first, then a path: a folder of the name of a task does not hide the task."""
    if isinstance(query, TaskEmbedding):
        return _outside(query, find_space(zoo.registry, query.space), space)
    if isinstance(query, str):
        looks_like_path = "/" in query or "\\" in query or query.startswith(".")
        try:
            name = zoo.registry.task(query).name
        except UnknownName:
            if not looks_like_path and not os.path.exists(query):
                raise
        else:
            where = zoo.registry.space(space)
            zoo.registry.entry(name, where.name)
            row = [entry.task for entry in zoo.registry.in_space(where.name)].index(name)
            return _Query(name, where, row, None)
    path = Path(query)
    if not os.path.exists(path):
        raise FormatError(f"{path} does not exist.", hint="give a task (tupate-hub list) or the path of an adapter")
    embedding = read_query(path, zoo.registry.spaces)
    return _outside(embedding, find_space(zoo.registry, embedding.space), space)


def find_space(registry: Registry, space: object) -> SpaceEntry:
    """The registry's entry of a space.

    Raises
    ------
    SpaceMismatch
        Naming the space and those that there are.
    """
    for entry in registry.spaces.values():
        if entry.space == space:
            return entry
    base, method = getattr(space, "base", "?"), getattr(space, "method", "?")
    known = "; ".join(f"{entry.method} on {entry.base}" for entry in registry.spaces.values()) or "nothing"
    raise SpaceMismatch(f"The query is {method} on {base}; the zoo holds {known}.", hint="tupate-hub spaces")


def _outside(embedding: TaskEmbedding, found: SpaceEntry, asked: str | None) -> _Query:
    if asked is not None and asked != found.name:
        raise SpaceMismatch(
            f"The query is {embedding.space.method} on {embedding.space.base}, which is space {found.name!r}, "
            f"not {asked!r}.",
            hint=f"--space {found.name}",
        )
    return _Query(embedding.task, found, None, embedding)


def read_query(path: Path, spaces: Mapping[str, SpaceEntry] | None = None) -> TaskEmbedding:
    """Any adapter that the readers know, or an embedding file or the folder that `pull` makes of it."""
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    if len(files) == 1 and _is_embedding(files[0]):
        return read_embedding(files[0])
    from tupate_hub.readers import read_adapter

    return embed(read_adapter(path), path.resolve().stem if path.is_file() else path.resolve().name)


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


def _loaded(zoo: Zoo, asked: _Query) -> TaskEmbedding:
    if asked.embedding is not None:
        return asked.embedding
    return zoo.load(zoo.registry.entry(asked.name, asked.space.name))


def _against(zoo: Zoo, embedding: TaskEmbedding, entries: Sequence[Entry], similarity: str) -> Kernel:
    return kernel(pack([embedding], similarity), pack([zoo.load(entry) for entry in entries], similarity))


def _scores(index: Index, asked: _Query, against: Kernel | None, centre: bool) -> tuple[Doubles, Doubles]:
    """Scores of the query against every task, of shape (tasks,), and of all pairs of the zoo, (tasks, tasks)."""
    pairs = centred(index.kernel) if centre else index.scores()
    if against is None:
        return np.asarray(pairs[asked.row]), pairs
    if not centre:
        return np.asarray(against.scores()[0]), pairs
    cross, square = against.cross[:, 0].sum(axis=0), float(against.x_squares.sum())
    return centred(index.kernel, cross, square), pairs


def _contributions(
    zoo: Zoo, asked: _Query, entries: Sequence[Entry], wanted: Sequence[int], similarity: str, centre: bool
) -> list[dict[str, float]]:
    """What each block adds to the scores of the wanted rows; under centring, from each block's own centred kernel."""
    one = pack([_loaded(zoo, asked)], similarity)
    if not centre:
        found = kernel(one, pack([zoo.load(entries[row]) for row in wanted], similarity))
        parts = found.contributions()[:, 0, :]
        return [dict(zip(found.blocks, map(float, column), strict=True)) for column in parts.T]
    everything = pack([zoo.load(entry) for entry in entries], similarity)
    inside, across = kernel(everything, everything), kernel(one, everything)
    moved = [_centre_block(inside, across, row) for row in range(len(across.blocks))]
    square = sum(part[1] for part in moved)
    norms = np.sqrt(np.maximum(square * np.sum([part[2] for part in moved], axis=0), 0))
    return [
        {
            name: float(part[0][row] / norms[row]) if norms[row] > 0 else 0.0
            for name, part in zip(across.blocks, moved, strict=True)
        }
        for row in wanted
    ]


def _centre_block(inside: Kernel, across: Kernel, row: int) -> tuple[Doubles, float, Doubles]:
    """Centred inner products of the query with the zoo in one block, its squared norm, and the zoo's."""
    name = across.blocks[row]
    zoo = inside.cross[inside.blocks.index(name)] if name in inside.blocks else np.zeros(inside.cross.shape[1:])
    means, total, cross = zoo.mean(axis=0), zoo.mean(), across.cross[row, 0]
    square = float(across.x_squares[row, 0] - 2 * cross.mean() + total)
    return cross - cross.mean() - means + total, square, np.diag(zoo) - 2 * means + total


def _notes(zoo: Zoo, asked: _Query, entry: Entry, tie: bool) -> tuple[str, ...]:
    notes = []
    if _same_data(zoo, asked, entry):
        notes.append("same data")
    if "weak" in entry.flags:
        notes.append("weak")
    if tie:
        notes.append("tie")
    return tuple(notes)


def _same_data(zoo: Zoo, asked: _Query, entry: Entry) -> bool:
    digest, dataset = entry.source.get("data_sha256"), zoo.registry.tasks[entry.task].dataset
    if asked.row is not None:
        other = zoo.registry.entry(asked.name, asked.space.name).source.get("data_sha256")
        return bool((digest and digest == other) or (dataset and dataset == zoo.registry.tasks[asked.name].dataset))
    facts = asked.embedding.facts if asked.embedding else {}
    source = facts.get("data")
    return bool(digest and isinstance(source, dict) and digest == source.get("sha256"))
