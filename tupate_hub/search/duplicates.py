"""Duplicates: embeddings of a space that two runs do not come to by chance, all of them in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tupate_hub.compare.bits import Bits, cosines
from tupate_hub.compare.lowrank import Factors, inner
from tupate_hub.compare.nearest import Row, origin
from tupate_hub.compare.similarity import DEFAULT, get_similarity
from tupate_hub.compare.sketch import Sketches, pairs_above
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import TupateHubError
from tupate_hub.registry import Entry, SpaceEntry
from tupate_hub.search.nearest_files import open_nearest, open_parts, whole_bits
from tupate_hub.search.notes import NEAR_DUPLICATE

if TYPE_CHECKING:
    from tupate_hub.zoo import Zoo

#: At a cosine below this too many pairs would have to be compared exactly.
LEAST = 0.3


@dataclass(frozen=True)
class Duplicates:
    """Two tasks of a space and their score; `same_file` says that they were made of one file.

    The score is an estimate, and not `exact`, where the weights of one are not kept.
    """

    first: str
    second: str
    score: float
    same_file: bool
    exact: bool = True


def find_duplicates(
    zoo: Zoo,
    space: str | None = None,
    above: float = NEAR_DUPLICATE[DEFAULT],
    each: Callable[[Iterator[Entry]], Iterator[Entry]] = lambda entries: entries,
) -> list[Duplicates]:
    """The pairs of a space that score at least `above` by `update`, the highest first.

    Sketches say which pairs may; those alone are compared exactly, where their weights are kept. The sketches of a
    large space are in its files; else embeddings are read one after the other, so memory does not grow with them but
    for 2 KB each. `each` may wrap the entries, for a progress bar.

    Raises
    ------
    TupateHubError
        For an `above` that is not a cosine, or so low that sketches do not help.
    """
    if not LEAST <= above <= 1:
        raise TupateHubError(f"{above:g} is no score of near-duplicates.", hint=f"between {LEAST:g} and 1: `above=0.9`")
    where = zoo.registry.space(space)
    rows, bits = _kept(zoo, where) if DEFAULT in where.nearest else _made(zoo, where, each)
    found = []
    for pair in pairs_above(bits, above):
        first, second = (rows(at) for at in pair)
        exact = bool(first.file and second.file)
        score = _cosine(*(zoo.load(_entry(where, row)) for row in (first, second))) if exact else _told(bits, *pair)
        if score >= above:
            same = bool(first.origins[0]) and first.origins[0] == second.origins[0]
            found.append(Duplicates(first.task, second.task, score, same, exact))
    return sorted(found, key=lambda one: (-one.score, one.first, one.second))


def _kept(zoo: Zoo, space: SpaceEntry) -> tuple[Callable[[int], Row], Bits]:
    """The rows of a large space, and its sketches, from its files."""
    held = open_nearest(zoo, space, DEFAULT)
    if held is None:
        raise TupateHubError(f"{space.name!r} has no file of nearest embeddings.", hint="tupate-hub index")
    everything = np.arange(len(held))
    return held.row, whole_bits(open_parts(zoo, space, DEFAULT), held.places_of(everything))


def _made(
    zoo: Zoo, space: SpaceEntry, each: Callable[[Iterator[Entry]], Iterator[Entry]]
) -> tuple[Callable[[int], Row], Bits]:
    """The rows of a space and their sketches, made of its embeddings."""
    entries = [entry for entry in zoo.registry.in_space(space.name) if entry.has_file]
    sketches = Sketches.of(zoo.load(entry) for entry in each(iter(entries)))
    rows = [
        Row(one.task, one.file, one.bytes, one.sha256, origins=(origin(one.source.get("sha256")), 0, 0))
        for one in entries
    ]
    return rows.__getitem__, sketches.bits


def _entry(space: SpaceEntry, row: Row) -> Entry:
    return Entry(row.task, space.name, row.file, row.bytes, row.sha256)


def _told(bits: Bits, first: int, second: int) -> float:
    return float(cosines(bits[first], bits[second][None])[0])


def _cosine(first: TaskEmbedding, second: TaskEmbedding) -> float:
    features = get_similarity(DEFAULT).features
    sides = [{block.name: features(block, None) for block in one.blocks} for one in (first, second)]
    across = sum(
        inner(factors, sides[1][name])
        for name, factors in sides[0].items()
        if name in sides[1] and _outer(factors) == _outer(sides[1][name])
    )
    norms = [sum(inner(factors, factors) for factors in side.values()) for side in sides]
    product = float(np.sqrt(norms[0] * norms[1]))
    return float(across) / product if product > 0 else 0.0


def _outer(factors: Factors) -> tuple[int, int]:
    return factors.a.shape[1], factors.bt.shape[1]
