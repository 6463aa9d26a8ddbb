"""Search: from a query and a zoo to a Ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tupate_hub.arrays import Float64Array, FloatArray
from tupate_hub.compare.kernel import Kernel, centred, kernel, off_diagonal, pack
from tupate_hub.compare.ranking import (
    ROUNDING,
    Neighbor,
    Ranking,
    order,
    percentiles,
    reciprocal_rank_fusion,
    tied,
)
from tupate_hub.compare.similarity import available, get_similarity
from tupate_hub.compare.view import Compared, View
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import SpaceMismatch, TupateHubError, UnknownName
from tupate_hub.registry import Entry
from tupate_hub.search.resolve import Query, loaded, resolve, same_data

if TYPE_CHECKING:
    from tupate_hub.zoo import Zoo


#: Above so many embeddings the pairs of a space are not all compared for a percentile, unless an index has them.
MOST_PAIRED = 256
#: Two seeds of one task from one start reach .68 to .75 (docs/evaluation.md), checkpoints of one run .95 and more.
#: `tupate` has no such line: a start that all runs share lies in every score.
NEAR_DUPLICATE: Mapping[str, float] = {"update": 0.9, "effect": 0.9}
#: An update so many times larger than the zoo's median is no ordinary run.
DIVERGED = 30.0

FUSIONS = ("layers", "similarities")


@dataclass(frozen=True)
class _Comparison:
    """Scores against every task of the space and what else was found out on the way.

    `pairs` are the scores of all pairs, each once; `norms` the lengths of the tasks' updates; `compared` has the
    blocks, where they were looked at; from the score `duplicate` on two runs are called near-duplicates.
    """

    scores: Float64Array
    pairs: FloatArray | None = None
    norms: Float64Array | None = None
    coverage: tuple[Float64Array, Float64Array] | None = None
    compared: Compared | None = None
    duplicate: float = np.inf

    @cached_property
    def usual_norm(self) -> float:
        """The median of the norms; np.median would import numpy.ma, a tenth of a cold question's time."""
        ordered = np.sort(self.norms if self.norms is not None else [])
        return float(ordered[[(len(ordered) - 1) // 2, len(ordered) // 2]].mean())


def similar(
    zoo: Zoo,
    query: str | Path | TaskEmbedding,
    k: int | None = None,
    *,
    space: str | None = None,
    view: View | None = None,
    explain: bool = False,
    fuse: str | None = None,
    base: str | None = None,
) -> Ranking:
    """Rank a zoo's tasks; see `Zoo.similar`."""
    view = view or View()
    get_similarity(view.similarity)
    if k is not None and k < 1:
        raise TupateHubError(f"{k} neighbours cannot be shown.", hint="-k 1 or more")
    if fuse is not None and fuse not in FUSIONS:
        raise UnknownName(f"Unknown fusion {fuse!r}.", hint="known: " + ", ".join(FUSIONS))
    asked = resolve(zoo, query, space, base)
    entries = zoo.registry.in_space(asked.space.name)
    tasks = [entry.task for entry in entries]
    if fuse is not None:
        found = _fused(zoo, asked, view, fuse, tasks)
    elif view.plain and not explain and (len(entries) <= MOST_PAIRED or view.similarity in asked.space.index):
        found = _from_index(zoo, asked, view)
    else:
        found = _blockwise(zoo, asked, view)
    found = replace(found, duplicate=NEAR_DUPLICATE.get(view.similarity, np.inf))
    wanted = [row for row in order(found.scores, tasks) if row != asked.row][:k]
    neighbors = _neighbors(zoo, asked, entries, wanted, found, explain)
    return Ranking(asked.name, asked.space.name, view.similarity, view.centre, neighbors, fuse)


def explain_pair(
    zoo: Zoo, first: str, second: str, space: str | None = None, view: View | None = None, base: str | None = None
) -> tuple[float, dict[str, float]]:
    """The score of two tasks or adapters and what each block contributes to it; the contributions add up to it.

    Raises
    ------
    SpaceMismatch
        When the two are of different spaces.
    """
    view = view or View()
    get_similarity(view.similarity)
    queries = [resolve(zoo, one, space, base) for one in (first, second)]
    sides = [loaded(zoo, query) for query in queries]
    if sides[0].space != sides[1].space:
        raise SpaceMismatch(
            f"{first} is {sides[0].space}, {second} is {sides[1].space}: they do not compare.",
            hint="compare embeddings of one space: tupate-hub spaces",
        )
    covariance = zoo.input_covariance_for(queries[0].space.name, view.similarity)
    packs = [pack([side], view.similarity, covariance) for side in sides]
    compared = Compared.plainly(view.of(kernel(packs[0], packs[1])))
    parts = compared.contributions()[:, 0]
    return float(compared.scores()[0]), dict(zip(compared.blocks, map(float, parts), strict=True))


def pair_scores(zoo: Zoo, space: str, view: View) -> Float64Array:
    """Scores between all embeddings of a space, in the registry's order, of shape (tasks, tasks).

    Raises
    ------
    UnknownName
        For an unknown space or similarity, or one that needs statistics which the space does not have.
    """
    if view.plain:
        index = zoo.pair_index(space, view.similarity)
        return centred(index.kernel) if view.centre else index.scores()
    everything = pack(zoo.load_space(space), view.similarity, zoo.input_covariance_for(space, view.similarity))
    inside = view.of(kernel(everything, everything))
    return centred(inside.cross.sum(axis=0)) if view.centre else inside.scores()


# --- comparisons -----------------------------------------------------------------------------------------------


def _from_index(zoo: Zoo, asked: Query, view: View) -> _Comparison:
    """Without looking at blocks: a task's row of the index, or a query against the embeddings."""
    index = zoo.pair_index(asked.space.name, view.similarity)
    moved = centred(index.kernel) if view.centre else None
    pairs = index.pairs if moved is None else off_diagonal(moved)
    if asked.row is not None:
        own = index.row(asked.row) if moved is None else np.asarray(moved[asked.row])
        return _Comparison(own, pairs, index.norms)
    across = _kernels(zoo, asked, view, inside=False)[0]
    square = float(across.x_squares.sum())
    scores = np.asarray(across.scores()[0])
    if view.centre:
        scores = centred(index.kernel, across.cross[:, 0].sum(axis=0), square)
    of_query, of_task = across.coverage()
    return _Comparison(scores, pairs, index.norms, (of_query[0], of_task[0]))


def _blockwise(zoo: Zoo, asked: Query, view: View) -> _Comparison:
    """Block by block, from the embeddings themselves."""
    count = len(zoo.registry.in_space(asked.space.name))
    across, inside = _kernels(zoo, asked, view, inside=view.centre or count <= MOST_PAIRED)
    norms = np.sqrt(across.y_squares.sum(axis=0))
    of_query, of_task = across.coverage()
    across = view.of(across)
    if inside is None:
        compared, pairs = Compared.plainly(across), None
    else:
        inside = view.of(inside)
        compared = Compared.centred(across, inside) if view.centre else Compared.plainly(across)
        pairs = off_diagonal(centred(inside.cross.sum(axis=0)) if view.centre else inside.scores())
    return _Comparison(compared.scores(), pairs, norms, (of_query[0], of_task[0]), compared)


def _kernels(zoo: Zoo, asked: Query, view: View, inside: bool) -> tuple[Kernel, Kernel | None]:
    """The kernel between the query and the space and, if asked for, that of the space."""
    space = asked.space.name
    covariance = zoo.input_covariance_for(space, view.similarity)
    everything = pack(zoo.load_space(space), view.similarity, covariance)
    one = pack([loaded(zoo, asked)], view.similarity, covariance)
    return kernel(one, everything), kernel(everything, everything) if inside else None


def _fused(zoo: Zoo, asked: Query, view: View, fuse: str, tasks: Sequence[str]) -> _Comparison:
    """Reciprocal rank fusion over the layers of one similarity, or over all similarities that the space allows."""
    if fuse == "layers":
        found = _blockwise(zoo, asked, view)
        rows = found.compared.by_layer() if found.compared is not None else found.scores[None, :]
    else:
        known = available(bool(asked.space.moments))
        rows = np.stack([_blockwise(zoo, asked, replace(view, similarity=name)).scores for name in known])
    if asked.row is not None:
        others = [row for row in range(len(tasks)) if row != asked.row]
        scores = np.zeros(len(tasks))
        scores[others] = reciprocal_rank_fusion(rows[:, others], [tasks[row] for row in others])
        return _Comparison(scores)
    return _Comparison(reciprocal_rank_fusion(rows, tasks))


# --- neighbours ------------------------------------------------------------------------------------------------


def _neighbors(
    zoo: Zoo, asked: Query, entries: Sequence[Entry], wanted: Sequence[int], found: _Comparison, explain: bool
) -> tuple[Neighbor, ...]:
    shares = None
    if found.pairs is not None and len(found.pairs) > 1:
        shares = percentiles(found.scores, found.pairs, ROUNDING)
    contributions, intervals = _explained(found) if explain else ({}, None)
    ties = tied([float(found.scores[row]) for row in wanted])
    neighbors = []
    for position, row in enumerate(wanted):
        task = zoo.registry.tasks[entries[row].task]
        coverage = found.coverage
        neighbors.append(
            Neighbor(
                rank=position + 1,
                task=task.name,
                score=float(found.scores[row]),
                percentile=None if shares is None else float(shares[row]),
                kind=task.kind,
                train_size=task.train_size,
                notes=_notes(zoo, asked, entries[row], row, found, ties[position]),
                shared=None if coverage is None else (float(coverage[0][row]), float(coverage[1][row])),
                interval=None if intervals is None else (float(intervals[0, row]), float(intervals[1, row])),
                contributions={name: float(parts[row]) for name, parts in contributions.items()},
            )
        )
    return tuple(neighbors)


def _explained(found: _Comparison) -> tuple[Mapping[str, Float64Array], Float64Array | None]:
    if found.compared is None:
        return {}, None
    parts = found.compared.contributions()
    return dict(zip(found.compared.blocks, parts, strict=True)), found.compared.intervals()


def _notes(zoo: Zoo, asked: Query, entry: Entry, row: int, found: _Comparison, tie: bool) -> tuple[str, ...]:
    notes = []
    if same_data(zoo, asked, entry):
        notes.append("same data")
    if found.norms is not None and found.scores[row] >= found.duplicate:
        notes.append("near-duplicate")
    if found.norms is not None and found.norms[row] > DIVERGED * found.usual_norm:
        notes.append("diverged")
    if "weak" in entry.flags:
        notes.append("weak")
    if found.coverage is not None and min(found.coverage[0][row], found.coverage[1][row]) < 0.5:
        notes.append("few shared blocks")
    if tie:
        notes.append("tie")
    return tuple(notes)
