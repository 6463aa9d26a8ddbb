"""Comparison: a query's scores against every task of a space, from the stored index or block by block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from tupate_hub.arrays import Float64Array, FloatArray
from tupate_hub.compare.kernel import Kernel, Pack, centred, kernel, off_diagonal, pack, pack_comparable
from tupate_hub.compare.magnitude import packed_changes
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
    """Scores against the tasks of a space, of shape (tasks,), and what else was found out on the way.

    `tasks` are those of the space that compare with the query, in the registry's order, `left_out` the others, each
    with the reason. `pairs` are the scores of all pairs of the tasks `paired`, each once; `changes`, of shape (tasks,),
    is their `Magnitude.output_change`; `coverage` the shares of the query's and of each task's squared norm that lie in
    blocks which both have; `compared` has the blocks, where they were looked at. `from_index` as in `Ranking`;
    `cosines` is whether the scores are such, and not fused ranks.
    """

    tasks: tuple[str, ...]
    scores: Float64Array
    pairs: FloatArray | None = None
    changes: FloatArray | None = None
    coverage: tuple[Float64Array, Float64Array] | None = None
    compared: Compared | None = None
    paired: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    from_index: bool = False
    cosines: bool = True


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
        tasks, left_out = comparison.tasks, comparison.left_out
        rows = comparison.compared.by_layer() if comparison.compared is not None else comparison.scores[None, :]
    else:
        names = available(bool(query.space.moments), bool(query.space.subspaces))
        found = [_blockwise(zoo, query, replace(view, similarity=name)) for name in names]
        left_out = {task: why for one in found for task, why in one.left_out.items()}
        tasks = tuple(task for task in found[0].tasks if task not in left_out)
        rows = np.stack([one.scores[[one.tasks.index(task) for task in tasks]] for one in found])
    others = [row for row, task in enumerate(tasks) if not query.held or task != query.name]
    scores = np.zeros(len(tasks))
    scores[others] = reciprocal_rank_fusion(rows[:, others], [tasks[row] for row in others])
    return Comparison(tasks, scores, left_out=left_out, cosines=False)


def _from_index(zoo: Zoo, query: Query, view: View) -> Comparison:
    """Without looking at blocks: a task's row of the index, or a query against the embeddings."""
    space = query.space.name
    stored = zoo.stored_index(space, view.similarity)
    index = stored if stored is not None else zoo.pair_index(space, view.similarity)
    moved = centred(index.scores()) if view.centre else None
    pairs = index.pairs if moved is None else off_diagonal(moved)
    if query.held and query.name in index.tasks:
        row = index.tasks.index(query.name)
        own = index.row(row) if moved is None else np.asarray(moved[row])
        found = Comparison(
            index.tasks,
            own,
            pairs,
            paired=index.tasks,
            left_out=zoo.left_out(space, index),
            from_index=stored is not None,
        )
        if index.sizes is None:
            return found
        return replace(found, changes=index.sizes.changes, coverage=index.sizes.coverage(row))
    across, packed, _, changes = _kernels(zoo, query, view, inside=False)
    if view.centre and packed.tasks != index.tasks:  # the origin is that of the tasks which compare
        return _blockwise(zoo, query, view)
    scores = np.asarray(across.scores()[0])
    if view.centre:
        scores = centred(index.scores(), scores, 1.0)
    of_query, of_task = across.coverage()
    coverage = (of_query[0], of_task[0])
    return Comparison(packed.tasks, scores, pairs, changes, coverage, None, index.tasks, packed.left_out)


def _blockwise(zoo: Zoo, query: Query, view: View) -> Comparison:
    """Block by block, from the embeddings themselves."""
    count = len(zoo.registry.in_space(query.space.name))
    across, packed, inside, changes = _kernels(zoo, query, view, inside=view.centre or count <= MOST_PAIRED)
    of_query, of_task = across.coverage()
    across = view.of(across)
    if inside is None:
        compared, pairs = Compared.plainly(across), None
    else:
        inside = view.of(inside)
        scores = inside.scores()
        if view.centre:
            compared = Compared.centred(across.normalised(), inside.normalised())
            pairs = off_diagonal(centred(scores))
        else:
            compared, pairs = Compared.plainly(across), off_diagonal(scores)
    coverage, tasks = (of_query[0], of_task[0]), packed.tasks
    return Comparison(tasks, compared.scores(), pairs, changes, coverage, compared, tasks, packed.left_out)


def _kernels(zoo: Zoo, query: Query, view: View, inside: bool) -> tuple[Kernel, Pack, Kernel | None, Float64Array]:
    """The kernel between the query and what compares with it in the space, that, its own kernel if asked for.

    Last come the output changes of what compares.
    """
    space = query.space.name
    covariance = zoo.input_covariance_for(space, view.similarity)
    held = zoo.load_space(space)
    embeddings = zoo.as_compared(space, view.similarity, held)
    alone = query.packed(zoo, view.similarity, covariance)
    everything = pack_comparable(embeddings, view.similarity, covariance, like=alone)
    if not everything.tasks:  # says why, by the first
        kernel(alone, pack(embeddings[:1], view.similarity, covariance))
    own = kernel(everything, everything) if inside else None
    return kernel(alone, everything), everything, own, packed_changes(everything, held)
