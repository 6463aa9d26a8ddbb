"""Neighbourhood: a task or an adapter and its nearest tasks as points of a plane."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tupate_hub.arrays import Float64Array
from tupate_hub.compare.view import View
from tupate_hub.publish.layout import coordinates
from tupate_hub.publish.sample import sketched_index
from tupate_hub.search.similar import pair_scores

if TYPE_CHECKING:
    from tupate_hub.zoo import Zoo


@dataclass(frozen=True)
class Spot:
    """A task's place, its score with the query, which has none with itself, and its kind."""

    name: str
    x: float
    y: float
    score: float | None = None
    kind: str = ""


def neighbourhood(
    zoo: Zoo,
    query: str | Path,
    k: int,
    *,
    space: str | None = None,
    view: View | None = None,
    base: str | None = None,
) -> tuple[list[Spot], float]:
    """The query and its k nearest tasks in two dimensions, the query first, by classical scaling of their cosines.

    Returns
    -------
    The spots, and the share of the squared distances that the plane shows.

    Raises
    ------
    UnknownName, SpaceMismatch, FormatError
        As `Zoo.similar`.
    """
    view = view or View()
    ranking = zoo.similar(query, k, space=space, view=view, base=base)
    names = [one.task for one in ranking.neighbors]
    scores = np.eye(len(names) + 1)
    scores[0, 1:] = scores[1:, 0] = [one.score for one in ranking.neighbors]
    scores[1:, 1:] = _among(zoo, ranking.space, view, names)
    points, shares = coordinates(scores, 2)
    first = Spot(ranking.query, float(points[0, 0]), float(points[0, 1]))
    others = [
        Spot(one.task, float(x), float(y), one.score, one.kind)
        for one, (x, y) in zip(ranking.neighbors, points[1:], strict=True)
    ]
    return [first, *others], float(shares.sum())


def _among(zoo: Zoo, space: str, view: View, names: list[str]) -> Float64Array:
    """The scores of some tasks of a space with each other; of a large one as sketches estimate them."""
    if zoo.registry.space(space).nearest:
        return sketched_index(zoo, space, names).scores()
    tasks = [entry.task for entry in zoo.registry.in_space(space)]
    chosen = [tasks.index(name) for name in names]
    return np.asarray(pair_scores(zoo, space, view)[np.ix_(chosen, chosen)])
