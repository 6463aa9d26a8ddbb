"""Comparison: a query's scores against every task of a space, from the stored index or block by block."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tupate_hub.arrays import Float64Array, FloatArray
from tupate_hub.compare.kernel import Kernel, centred, kernel, off_diagonal, pack
from tupate_hub.compare.ranking import reciprocal_rank_fusion
from tupate_hub.compare.similarity import available
from tupate_hub.compare.view import Compared, View
from tupate_hub.errors import UnknownName
from tupate_hub.search.resolve import Query

if TYPE_CHECKING:
    from tupate_hub.zoo import Zoo

#: Above so many embeddings the pairs of a space are not all compared for a percentile, unless an index has them.
MOST_PAIRED = 256

FUSIONS = ("layers", "similarities")


@dataclass(frozen=True)
class Comparison:
    """Scores against every task of the space, of shape (tasks,), and what else was found out on the way.

    `pairs` are the scores of all pairs, each once; `norms`, of shape (tasks,), the lengths of the tasks' updates;
    `coverage` the shares of the query's and of each task's squared norm that lie in blocks which both have;
    `compared` has the blocks, where they were looked at.
    """

    scores: Float64Array
    pairs: FloatArray | None = None
    norms: Float64Array | None = None
    coverage: tuple[Float64Array, Float64Array] | None = None
    compared: Compared | None = None

    @cached_property
    def usual_norm(self) -> float:
        """The median of the norms; np.median would import numpy.ma, a tenth of a cold question's time."""
        ordered = np.sort(self.norms if self.norms is not None else [])
        return float(ordered[[(len(ordered) - 1) // 2, len(ordered) // 2]].mean())


def compare(zoo: Zoo, query: Query, view: View, *, blockwise: bool = False) -> Comparison:
    """Compare a query with its space: without looking at blocks where that is enough, unless `blockwise` asks for it.

    Errors as `Zoo.similar`.
    """
    count = len(zoo.registry.in_space(query.space.name))
    indexed = count <= MOST_PAIRED or view.similarity in query.space.index
    if view.plain and indexed and not blockwise:
        return _from_index(zoo, query, view)
    return _blockwise(zoo, query, view)


def fuse(zoo: Zoo, query: Query, view: View, over: str) -> Comparison:
    """Reciprocal rank fusion over the `layers` of one similarity, or over all `similarities` that the space allows.

    Raises
    ------
    UnknownName
        For another name, listing the two; others as `Zoo.similar`.
    """
    if over not in FUSIONS:
        raise UnknownName(f"Unknown fusion {over!r}.", hint="known: " + ", ".join(FUSIONS))
    if over == "layers":
        comparison = _blockwise(zoo, query, view)
        rows = comparison.compared.by_layer() if comparison.compared is not None else comparison.scores[None, :]
    else:
        names = available(bool(query.space.moments), bool(query.space.subspaces))
        rows = np.stack([_blockwise(zoo, query, replace(view, similarity=name)).scores for name in names])
    tasks = [entry.task for entry in zoo.registry.in_space(query.space.name)]
    others = [row for row in range(len(tasks)) if row != query.row]
    scores = np.zeros(len(tasks))
    scores[others] = reciprocal_rank_fusion(rows[:, others], [tasks[row] for row in others])
    return Comparison(scores)


def _from_index(zoo: Zoo, query: Query, view: View) -> Comparison:
    """Without looking at blocks: a task's row of the index, or a query against the embeddings."""
    index = zoo.pair_index(query.space.name, view.similarity)
    moved = centred(index.kernel) if view.centre else None
    pairs = index.pairs if moved is None else off_diagonal(moved)
    if query.row is not None:
        own = index.row(query.row) if moved is None else np.asarray(moved[query.row])
        return Comparison(own, pairs, index.norms)
    across = _kernels(zoo, query, view, inside=False)[0]
    square = float(across.x_squares.sum())
    scores = np.asarray(across.scores()[0])
    if view.centre:
        scores = centred(index.kernel, across.cross[:, 0].sum(axis=0), square)
    of_query, of_task = across.coverage()
    return Comparison(scores, pairs, index.norms, (of_query[0], of_task[0]))


def _blockwise(zoo: Zoo, query: Query, view: View) -> Comparison:
    """Block by block, from the embeddings themselves."""
    count = len(zoo.registry.in_space(query.space.name))
    across, inside = _kernels(zoo, query, view, inside=view.centre or count <= MOST_PAIRED)
    norms = np.sqrt(across.y_squares.sum(axis=0))
    of_query, of_task = across.coverage()
    across = view.of(across)
    if inside is None:
        compared, pairs = Compared.plainly(across), None
    else:
        inside = view.of(inside)
        compared = Compared.centred(across, inside) if view.centre else Compared.plainly(across)
        pairs = off_diagonal(centred(inside.cross.sum(axis=0)) if view.centre else inside.scores())
    return Comparison(compared.scores(), pairs, norms, (of_query[0], of_task[0]), compared)


def _kernels(zoo: Zoo, query: Query, view: View, inside: bool) -> tuple[Kernel, Kernel | None]:
    """The kernel between the query and the space and, if asked for, that of the space."""
    space = query.space.name
    covariance = zoo.input_covariance_for(space, view.similarity)
    everything = pack(zoo.as_compared(space, view.similarity, zoo.load_space(space)), view.similarity, covariance)
    alone = query.packed(zoo, view.similarity, covariance)
    return kernel(alone, everything), kernel(everything, everything) if inside else None
