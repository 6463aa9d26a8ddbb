"""Similar: from a query and a zoo to a Ranking, and what each block contributes to a score."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tupate_hub.arrays import Float64Array
from tupate_hub.compare.kernel import centred, kernel, pack_comparable
from tupate_hub.compare.noise import NoiseLevel, noise_level
from tupate_hub.compare.ranking import ROUNDING, Neighbor, Ranking, order, percentiles, tied
from tupate_hub.compare.similarity import get_similarity
from tupate_hub.compare.view import Compared, View
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import SpaceMismatch, TupateHubError
from tupate_hub.search.comparison import Comparison, compare
from tupate_hub.search.comparison import fuse as fused
from tupate_hub.search.notes import notes_on, notes_on_query, same_run
from tupate_hub.search.resolve import Query, resolve

if TYPE_CHECKING:
    from tupate_hub.zoo import Zoo


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
    exact: bool = False,
) -> Ranking:
    """Rank a zoo's tasks; see `Zoo.similar`."""
    view = view or View()
    get_similarity(view.similarity)
    if k is not None and k < 1:
        raise TupateHubError(f"{k} neighbours cannot be shown.", hint="ask for one or more")
    asked = resolve(zoo, query, space, base)
    if asked.space.nearest and not exact and fuse is None:
        from tupate_hub.search.approximate import approximate

        if (found := approximate(zoo, asked, view, k, explain=explain)) is not None:
            return found
    comparison = fused(zoo, asked, view, fuse) if fuse is not None else compare(zoo, asked, view, blockwise=explain)
    noise, itself = _noise(zoo, asked, comparison), _itself(zoo, asked)
    neighbors = _neighbors(zoo, asked, view, comparison, noise, itself, k, explain)
    return Ranking(
        asked.name,
        asked.space.name,
        view.similarity,
        view.centre,
        neighbors,
        fuse,
        noise,
        comparison.left_out,
        comparison.from_index,
        notes_on_query(asked, comparison),
        itself,
    )


def explain_pair(
    zoo: Zoo, first: str, second: str, space: str | None = None, view: View | None = None, base: str | None = None
) -> tuple[float, dict[str, float]]:
    """The score of two tasks or adapters and what each block contributes to it; the contributions add up to it.

    Two adapters of one space need no zoo that has it.

    Raises
    ------
    SpaceMismatch
        When the two are of different spaces.
    """
    view = view or View()
    get_similarity(view.similarity)
    queries = [resolve(zoo, name, space, base, alone=True) for name in (first, second)]
    spaces = [query.space for query in queries]
    if spaces[0].space != spaces[1].space:
        raise SpaceMismatch(
            f"{first} is {spaces[0].space}, {second} is {spaces[1].space}: they do not compare.",
            hint="compare embeddings of one space: tupate-hub spaces",
        )
    covariance = zoo.input_covariance_for(spaces[0].name, view.similarity)
    packs = [query.packed(zoo, view.similarity, covariance) for query in queries]
    compared = Compared.plainly(view.of(kernel(packs[0], packs[1])))
    parts = compared.contributions()[:, 0]
    return float(compared.scores()[0]), dict(zip(compared.blocks, map(float, parts), strict=True))


def pair_scores(zoo: Zoo, space: str, view: View) -> Float64Array:
    """Scores between all embeddings of a space, in the registry's order, of shape (tasks, tasks).

    An embedding that does not compare with the others has NaN.

    Raises
    ------
    UnknownName
        For an unknown space or similarity, or one that needs statistics which the space does not have.
    """
    if view.plain:
        index = zoo.pair_index(space, view.similarity)
        known, scores = index.tasks, centred(index.scores()) if view.centre else index.scores()
    else:
        compared = zoo.as_compared(space, view.similarity, zoo.load_space(space))
        covariance = zoo.input_covariance_for(space, view.similarity)
        everything = pack_comparable(compared, view.similarity, covariance)
        inside = view.of(kernel(everything, everything))
        known, scores = everything.tasks, centred(inside.scores()) if view.centre else inside.scores()
    tasks = [entry.task for entry in zoo.registry.in_space(space)]
    if list(known) == tasks:
        return scores
    places = [tasks.index(task) for task in known]
    found = np.full((len(tasks), len(tasks)), np.nan)
    found[np.ix_(places, places)] = scores
    return found


def _neighbors(
    zoo: Zoo,
    query: Query,
    view: View,
    comparison: Comparison,
    noise: NoiseLevel | None,
    itself: str | None,
    k: int | None,
    explain: bool,
) -> tuple[Neighbor, ...]:
    by_task = {entry.task: entry for entry in zoo.registry.in_space(query.space.name)}
    entries = [by_task[task] for task in comparison.tasks]
    scores, coverage = comparison.scores, comparison.coverage
    rows = [row for row in order(scores, comparison.tasks) if comparison.tasks[row] != itself][:k]
    shares = None
    if comparison.pairs is not None and len(comparison.pairs) > 1:
        shares = percentiles(scores, comparison.pairs, ROUNDING)
    contributions, intervals = _explained(comparison.compared) if explain else ({}, None)
    ties = tied([float(scores[row]) for row in rows])
    neighbors = []
    for rank, (row, tie) in enumerate(zip(rows, ties, strict=True), 1):
        task = zoo.registry.tasks[entries[row].task]
        neighbors.append(
            Neighbor(
                rank=rank,
                task=task.name,
                score=float(scores[row]),
                percentile=None if shares is None else float(shares[row]),
                kind=task.kind,
                train_size=task.train_size,
                notes=notes_on(zoo, query, entries[row], row, comparison, noise, view.similarity, tie),
                shared=None if coverage is None else (float(coverage[0][row]), float(coverage[1][row])),
                interval=None if intervals is None else (float(intervals[0, row]), float(intervals[1, row])),
                contributions={name: float(parts[row]) for name, parts in contributions.items()},
            )
        )
    return tuple(neighbors)


def _itself(zoo: Zoo, query: Query) -> str | None:
    """The task of the query's space that is the query itself: it is no neighbour."""
    if query.held:
        return query.name
    return next((entry.task for entry in zoo.registry.in_space(query.space.name) if same_run(query, entry)), None)


def _noise(zoo: Zoo, query: Query, comparison: Comparison) -> NoiseLevel | None:
    """How tasks of different kinds score in the query's space, where all pairs were compared."""
    if comparison.pairs is None:
        return None
    return noise_level(comparison.pairs, [zoo.registry.tasks[task].kind for task in comparison.paired])


def _explained(compared: Compared | None) -> tuple[Mapping[str, Float64Array], Float64Array | None]:
    """What each block contributes to each task's score, and the scores' intervals; nothing without blocks."""
    if compared is None:
        return {}, None
    return compared.by_block(), compared.intervals()
