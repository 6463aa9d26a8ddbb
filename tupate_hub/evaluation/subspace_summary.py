"""Summary of the subspace experiment: scores relative to full tuning, with intervals over seeds and tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tupate_hub.arrays import Float64Array
from tupate_hub.evaluation.subspace_rows import SubspaceRow, Trial

_DRAWS = 2000

#: IPT's five measurements: their titles, what was measured, and whether the subspace was found over the tasks.
MEASUREMENTS: Mapping[str, tuple[str, bool]] = {
    "MSF, training tasks": ("decoded", True),
    "MSF, unseen tasks": ("decoded", False),
    "IST, training tasks": ("same", True),
    "IST, training tasks, new data": ("new", True),
    "IST, unseen tasks": ("same", False),
}


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Relative:
    """How near some rows come to full tuning.

    `ratio` is E_rel, the mean over tasks of score by score of full tuning (IPT, section 4.1). `gain` is the share of
    what full tuning adds to the base model as it is, that of the sums, since a task's own may be next to nothing.
    `tasks` counts the pairs of task and seed.
    """

    ratio: Estimate
    gain: Estimate
    tasks: int
    seeds: int


@dataclass(frozen=True)
class References:
    """What scores are compared with, by task: the base model as it is, and full tuning on the first and second draw."""

    none: Mapping[str, float]
    full: Mapping[str, Mapping[str, float]]

    @staticmethod
    def of(rows: Sequence[SubspaceRow]) -> References:
        """Those that a table has; of full tuning seed 0."""
        none = {row.task: row.score for row in rows if row.maps == "none"}
        full = {
            measure: {row.task: row.score for row in rows if (row.maps, row.measure, row.seed) == ("full", measure, 0)}
            for measure in ("same", "new")
        }
        return References(none, full)

    def counted(self) -> list[str]:
        """The tasks that count: those that full tuning makes better."""
        return [task for task, score in self.full["same"].items() if score > self.none.get(task, 1.0)]

    def of_full(self, row: SubspaceRow) -> float:
        """The score of full tuning on the data of a row."""
        return self.full["new" if row.measure == "new" else "same"][row.task]


def chosen(rows: Sequence[SubspaceRow], trial: Trial, measurement: str, family: str | None = None) -> list[SubspaceRow]:
    """The rows of a measurement, of all seeds; without a number of tasks, over as many as the split has."""
    measure, seen = MEASUREMENTS[measurement]
    found = [
        row
        for row in rows
        if (row.maps, row.split, row.dim) == (trial.maps, trial.split, trial.dim)
        and (row.measure, row.seen) == (measure, seen)
        and family in (None, row.family)
    ]
    most = trial.fitted_on or max((row.fitted_on for row in found), default=0)
    return [row for row in found if row.fitted_on == most]


def relative(rows: Sequence[SubspaceRow], known: References, draws: int = _DRAWS) -> Relative | None:
    """How near rows come to full tuning; None where there are none.

    The interval is a percentile bootstrap: seeds are drawn with replacement, then tasks within each.
    """
    if not rows:
        return None
    scores = np.array([(row.score, known.of_full(row), known.none[row.task]) for row in rows])
    seeds = np.array([row.seed for row in rows])
    ratio = _estimate(lambda part: float((part[:, 0] / part[:, 1]).mean()), scores, seeds, draws)
    gain = _estimate(_share, scores, seeds, draws)
    return Relative(ratio, gain, len(rows), len(set(seeds)))


def paired(rows: Sequence[SubspaceRow], others: Mapping[tuple[int, str], float], draws: int = _DRAWS) -> Estimate:
    """The mean difference of rows to other scores of their seeds and tasks, with its interval."""
    differences = np.array([[row.score - others[row.seed, row.task]] for row in rows])
    return _estimate(lambda part: float(part.mean()), differences, np.array([row.seed for row in rows]), draws)


def _share(scores: Float64Array) -> float:
    added = float((scores[:, 1] - scores[:, 2]).sum())
    return float((scores[:, 0] - scores[:, 2]).sum()) / added if added else float("nan")


def _estimate(
    statistic: Callable[[Float64Array], float], values: Float64Array, seeds: Float64Array, draws: int
) -> Estimate:
    rng = np.random.default_rng(0)
    groups = [np.flatnonzero(seeds == seed) for seed in np.unique(seeds)]
    found = []
    for _ in range(draws):
        picked = [groups[at] for at in rng.integers(len(groups), size=len(groups))]
        found.append(statistic(values[np.concatenate([rng.choice(own, size=len(own)) for own in picked])]))
    low, high = np.nanquantile(found, [0.025, 0.975])
    return Estimate(statistic(values), float(low), float(high))
