"""Approximate: the neighbours of a query in a large space, by sketches, the best of them compared exactly.

The coarsest bits of all embeddings say which thousand may be near, longer sketches of those which few hundred are, and
the weights of the best few, where they are kept on this disk, how near they are. Nothing else of the registry is read.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tupate_hub.arrays import Float64Array, IndexArray
from tupate_hub.compare.bits import Bits, cosines
from tupate_hub.compare.kernel import kernel, pack, pack_comparable
from tupate_hub.compare.magnitude import DIVERGED, Magnitude
from tupate_hub.compare.nearest import DIVERGES, FINE, KEPT, ORIGINS, Nearest, origin
from tupate_hub.compare.ranking import ROUNDING, Approximation, Neighbor, Ranking, percentiles, tied
from tupate_hub.compare.sketch import Sketcher
from tupate_hub.compare.view import Compared, View
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import UnknownName
from tupate_hub.registry import Entry
from tupate_hub.search.nearest_files import open_nearest, open_parts, whole_bits
from tupate_hub.search.notes import outside_source, same_run, told
from tupate_hub.search.resolve import Query

if TYPE_CHECKING:
    from tupate_hub.zoo import Zoo

#: Embeddings whose longer sketches are looked at, and how many of them have their whole sketches looked at.
CANDIDATES, LIKELY = 1000, 200
#: At least so many of the best are compared exactly, or so many more than are asked for.
EXACTLY, MORE = 16, 6
#: Where more neighbours are asked for, everything is compared.
MOST_ASKED = 100


@dataclass(frozen=True)
class _Search:
    """A query and the space that it is asked in; `own` is the query's row there, None for an embedding from elsewhere.

    `itself` is the row that is no neighbour, for it is the query.
    """

    zoo: Zoo
    query: Query
    similarity: str
    held: Nearest
    own: int | None
    itself: int | None


@dataclass(frozen=True)
class _Exact:
    """What was compared exactly: its `rows`, their scores, the shares of both sides in shared blocks, and the blocks.

    All of shape (rows,). `left_out` do not compare, each with the reason.
    """

    rows: tuple[int, ...] = ()
    scores: Float64Array = field(default_factory=lambda: np.zeros(0))
    coverage: tuple[Float64Array, Float64Array] | None = None
    compared: Compared | None = None
    left_out: dict[str, str] = field(default_factory=dict)

    def shared(self, row: int) -> tuple[float, float] | None:
        """The shares of the query's and of a row's squared norm in blocks that both have; None where not compared."""
        if row not in self.rows or self.coverage is None:
            return None
        of_query, of_task = (float(side[self.rows.index(row)]) for side in self.coverage)
        return of_query, of_task

    def explained(self, row: int) -> dict[str, Any]:
        """A row's `interval` and `contributions`, nothing where it was not compared."""
        if row not in self.rows or self.compared is None:
            return {}
        at = self.rows.index(row)
        low, high = self._intervals[:, at]
        parts = {name: float(part[at]) for name, part in self._parts.items()}
        return {"interval": (float(low), float(high)), "contributions": parts}

    @cached_property
    def _parts(self) -> dict[str, Float64Array]:
        return {} if self.compared is None else self.compared.by_block()

    @cached_property
    def _intervals(self) -> Float64Array:
        return np.zeros((2, 0)) if self.compared is None else self.compared.intervals()


def approximate(zoo: Zoo, query: Query, view: View, k: int | None, *, explain: bool = False) -> Ranking | None:
    """The nearest of a space that lists a file of them; None where it does not, or more is asked than that can tell.

    Raises
    ------
    FormatError
        When a file is damaged, or the query's update is all zero.
    NotAvailableOffline
        When it is on the Hub, not in the cache, and there is no network.
    """
    if not view.plain or view.centre:
        return None
    held = open_nearest(zoo, query.space, view.similarity)
    own = held.tasks.find(query.name) if held is not None and query.held else None
    if held is None or (query.held and own is None):
        return None
    k = len(held) if k is None else k
    if k > MOST_ASKED:
        return None
    search = _Search(zoo, query, view.similarity, held, own, own if query.held else _itself(zoo, query, held))
    rows, estimates = _likely(search)
    exact = _compared(search, rows, max(EXACTLY, k + MORE))
    neighbors = _neighbors(search, rows, estimates, exact, k, explain)
    spread = held.spread
    return Ranking(
        query.name,
        query.space.name,
        view.similarity,
        view.centre,
        neighbors,
        noise=None if spread is None else spread.noise,
        left_out=exact.left_out,
        notes=_notes_on_query(search),
        itself=None if search.itself is None else held.tasks[search.itself],
        approximation=Approximation(len(held), len(exact.rows), 0 if spread is None else spread.pairs),
    )


def _likely(search: _Search) -> tuple[IndexArray, Float64Array]:
    """The rows that are likely the nearest, the likeliest first, with what sketches say of their scores."""
    held = search.held
    parts = open_parts(search.zoo, search.query.space, search.similarity) if search.zoo.remote is None else []
    bits = _bits(search)
    rows = held.candidates(bits, CANDIDATES)
    rows = rows[rows != search.itself] if search.itself is not None else rows
    rows, scores = _best(rows, cosines(bits[: FINE // 8], held.fine(rows)))
    if not parts:
        return rows, scores
    if search.own is not None:
        (bits,) = whole_bits(parts, held.places_of(np.array([search.own])))
    return _best(rows, cosines(bits, whole_bits(parts, held.places_of(rows))))


def _best(rows: IndexArray, scores: Float64Array) -> tuple[IndexArray, Float64Array]:
    chosen = np.argsort(-scores, kind="stable")[:LIKELY]
    return rows[chosen], scores[chosen]


def _bits(search: _Search) -> Bits:
    """The query's sketch: whole where it is made here, as far as the space's file goes where it is one of its rows."""
    if search.query.embedding is not None:
        pack([search.query.embedding], search.similarity)  # refuses an update that has no direction
        return Sketcher(search.similarity).sketch(search.query.embedding).bits
    (bits,) = search.held.fine(np.array([search.own]))
    return np.asarray(bits)


def _compared(search: _Search, rows: IndexArray, count: int) -> _Exact:
    """The best of those rows whose weights are on this disk, with the query, by their weights."""
    held = search.held
    kept = [int(row) for row in rows[(held.marks[rows] & KEPT) != 0][:count]]
    has_query = search.query.embedding is not None or bool(held.marks[search.own] & KEPT)
    if search.zoo.remote is not None or not (kept and has_query):  # on the Hub each one would be a request
        return _Exact()
    alone = pack([search.query.embedding or _embedding(search, search.own or 0)], search.similarity)
    embeddings = {row: _embedding(search, row) for row in kept}
    packed = pack_comparable(list(embeddings.values()), search.similarity, like=alone)
    row_of = {embedding.task: row for row, embedding in embeddings.items()}
    across = kernel(alone, packed)
    of_query, of_task = across.coverage()
    compared = Compared.plainly(across)
    found = tuple(row_of[task] for task in packed.tasks)
    return _Exact(found, compared.scores(), (of_query[0], of_task[0]), compared, dict(packed.left_out))


def _embedding(search: _Search, row: int) -> TaskEmbedding:
    told = search.held.row(row)
    return search.zoo.load(Entry(told.task, search.query.space.name, told.file, told.bytes, told.sha256))


def _neighbors(
    search: _Search, rows: IndexArray, estimates: Float64Array, exact: _Exact, k: int, explain: bool
) -> tuple[Neighbor, ...]:
    held = search.held
    found = {int(row): float(score) for row, score in zip(rows, estimates, strict=True)}
    found |= dict(zip(exact.rows, map(float, exact.scores), strict=True))
    best = sorted(found, key=lambda row: (-found[row], row))  # rows are in order of their names
    best = [row for row in best[: k + len(exact.left_out)] if held.tasks[row] not in exact.left_out][:k]
    scores = [found[row] for row in best]
    origins, neighbors = _origins(search), []
    for rank, (row, tie) in enumerate(zip(best, tied(scores), strict=True), 1):
        known, shared = held.row(row), exact.shared(row)
        notes = told(
            found[row],
            search.similarity,
            None if held.spread is None else held.spread.noise,
            same_data=any(one and one == other for one, other in zip(origins, known.origins, strict=True)),
            diverged=bool(held.marks[row] & DIVERGES),
            weak=known.weak,
            shared=shared,
            tie=tie,
        )
        neighbors.append(Neighbor(rank, known.task, found[row], None, known.kind, known.train_size, notes, shared))
    if held.spread is not None:
        shares = percentiles(np.array(scores), held.spread.quantiles, ROUNDING)
        neighbors = [replace(one, percentile=float(share)) for one, share in zip(neighbors, shares, strict=True)]
    if explain and exact.compared is not None:
        neighbors = [replace(one, **exact.explained(row)) for one, row in zip(neighbors, best, strict=True)]
    return tuple(neighbors)


def _origins(search: _Search) -> tuple[int, ...]:
    """What the query was made of, as `Row.origins`."""
    if search.own is not None:
        return search.held.row(search.own).origins
    source = outside_source(search.query)
    return tuple(origin(source.get(name)) for name in ORIGINS)


def _itself(zoo: Zoo, query: Query, held: Nearest) -> int | None:
    """The row that was made of the very file that is asked about, or is the very run."""
    made_of = origin(outside_source(query).get("sha256"))
    if made_of:
        same = np.flatnonzero(held.origins[:, 0] == made_of)
        return int(same[0]) if len(same) else None
    row = held.tasks.find(query.name)
    try:
        entry = zoo.registry.entry(query.name, query.space.name) if row is not None else None
    except UnknownName:
        return None
    return row if entry is not None and same_run(query, entry) else None


def _notes_on_query(search: _Search) -> tuple[str, ...]:
    if search.query.embedding is not None:
        diverged = not Magnitude.of(search.query.embedding.blocks, spectrum=False).output_change <= DIVERGED
    else:
        diverged = bool(search.held.marks[search.own] & DIVERGES)
    return ("diverged",) if diverged else ()
