"""How far the page's rankings can be trusted: judged by the transfer that was measured on the bundled zoo's tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tupate_hub.errors import TupateHubError, UnknownName
from tupate_hub.evaluation.baselines import judge
from tupate_hub.evaluation.truth import Truth, align, read_truth
from tupate_hub.publish.site_space import SHOWN, ShownSpace
from tupate_hub.zoo import Zoo, bundled_root

if TYPE_CHECKING:
    from tupate_hub.arrays import Float64Array

#: The measured table: 200 examples, 150 steps.
TABLE = "few-shot-150"
_METRICS = ("ndcg_rank", "regret@1", "regret@3", "regret@5", "rank_of_best")


def measured_trust(zoo: Zoo, space: ShownSpace) -> dict[str, Any] | None:
    """How the ranking orders the sources of targets whose transfer was measured, beside the baselines.

    `predictors` have each metric's mean and 95 % interval; `targets` the scores from nothing, from the first pick and
    from the best source. None where no transfer was measured in the space: the tables are of the bundled zoo's.
    """
    bundled = Zoo.open(bundled_root()).registry
    if not any(one.space == space.entry.space and one.gain for one in bundled.spaces.values()):
        return None

    def name_of(written: str) -> str:
        try:
            return zoo.registry.task(written.strip()).name
        except UnknownName:
            return written.strip()

    try:
        table = read_truth(bundled_root() / "zoo" / "truth" / f"{TABLE}.csv", name_of).restricted_to(space.index.tasks)
        scores = align(table, space.index.tasks, space.index.scores())
        reports = judge({SHOWN: scores}, table)
    except TupateHubError:  # the registry has too few of the tasks
        return None
    summaries = [
        {
            "name": report.name,
            "metrics": {name: report.summary(name).as_dict() for name in _METRICS},
        }
        for report in reports
    ]
    return {
        "table": TABLE,
        "sources": len(table.sources),
        "predictors": summaries,
        "targets": [row for row in _targets(table, scores) if row is not None],
    }


def _targets(table: Truth, scores: Float64Array) -> list[dict[str, Any] | None]:
    """For each target what it reached from nothing, from the first of the ranking, and from its best source."""
    candidates, measured = table.candidates(), table.fractions()
    return [
        _target(table, row, candidates[row], measured[row], scores[row]) if candidates[row].sum() > 1 else None
        for row in range(len(table.targets))
    ]


def _target(
    table: Truth, row: int, known: Float64Array, measured: Float64Array, scores: Float64Array
) -> dict[str, Any]:
    names, reached = np.array(table.sources)[known], measured[known]
    first, best = int(scores[known].argmax()), int(reached.argmax())
    nothing = float(table.baseline[row] / table.unit)
    return {
        "target": table.targets[row],
        "nothing": nothing if np.isfinite(nothing) else None,
        "first": str(names[first]),
        "reached": float(reached[first]),
        "best": str(names[best]),
        "most": float(reached[best]),
    }
