"""Duplicates: embeddings of a space that two runs do not come to by chance, all of them in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tupate_hub.compare.lowrank import Factors, inner
from tupate_hub.compare.similarity import DEFAULT, get_similarity
from tupate_hub.compare.sketch import Sketches
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import TupateHubError
from tupate_hub.registry import Entry
from tupate_hub.search.notes import NEAR_DUPLICATE

if TYPE_CHECKING:
    from tupate_hub.zoo import Zoo

#: At a cosine below this too many pairs would have to be compared exactly.
LEAST = 0.3


@dataclass(frozen=True)
class Duplicates:
    """Two tasks of a space and their score; `same_file` says that they were made of one file."""

    first: str
    second: str
    score: float
    same_file: bool


def find_duplicates(
    zoo: Zoo,
    space: str | None = None,
    above: float = NEAR_DUPLICATE[DEFAULT],
    each: Callable[[Iterator[Entry]], Iterator[Entry]] = lambda entries: entries,
) -> list[Duplicates]:
    """The pairs of a space that score at least `above` by `update`, the highest first.

    Sketches say which pairs may; those alone are compared exactly. Embeddings are read one after the other, so memory
    does not grow with them but for 2 KB each. `each` may wrap the entries, for a progress bar.

    Raises
    ------
    TupateHubError
        For an `above` that is not a cosine, or so low that sketches do not help.
    """
    if not LEAST <= above <= 1:
        raise TupateHubError(f"{above:g} is no score of near-duplicates.", hint=f"between {LEAST:g} and 1: `above=0.9`")
    entries = zoo.registry.in_space(zoo.registry.space(space).name)
    sketches = Sketches.of(zoo.load(entry) for entry in each(iter(entries)))
    found = []
    for row, column in sketches.pairs_above(above):
        score = _cosine(zoo.load(entries[row]), zoo.load(entries[column]))
        if score >= above:
            digests = [entries[at].source.get("sha256") for at in (row, column)]
            same = digests[0] is not None and digests[0] == digests[1]
            found.append(Duplicates(entries[row].task, entries[column].task, score, same))
    return sorted(found, key=lambda one: (-one.score, one.first, one.second))


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
