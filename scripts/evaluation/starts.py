"""Starts: what other ways to begin a run bring, a blend of sources, or nothing with all the steps that it can use."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from regimes import JUDGE, REGIMES, rows_of, seeds_of
from transfers import TRUTH

from tupate_hub.arrays import Float64Array
from tupate_hub.evaluation.converged import FromNothing, against_converged
from tupate_hub.evaluation.predictors import PREDICTORS, Evidence
from tupate_hub.evaluation.report import ranked
from tupate_hub.evaluation.truth import Truth

#: Runs from nothing with all the steps that they can use, by the regime whose examples they have.
LONGER: Mapping[str, tuple[str, int]] = dict.fromkeys(("few-shot-40", "few-shot-150"), ("few-shot-converged-600", 600))


def blends() -> dict[str, Any]:
    """Starting from the blend of the first three picks against the best of the three and the first, in points.

    A target's seeds are averaged first: the error is that over targets.
    """
    found = {}
    for regime in REGIMES:
        path = TRUTH / f"blends-{regime}.csv"
        if not path.is_file():
            continue
        rows = [*rows_of(regime), *rows_of(f"repeats-{regime}")]
        singles = {(row["source"], row["target"], row["seed"]): float(row["score"]) for row in rows}
        found_by: dict[str, dict[str, list[float]]] = {"best": {}, "first": {}, "nothing": {}}
        for row in rows_of(f"blends-{regime}"):
            parts = row["source"].split("+")
            scores = [singles.get((part, row["target"], row["seed"])) for part in parts]
            nothing = singles.get(("-", row["target"], row["seed"]))
            blend = 100 * float(row["score"])
            against = {"nothing": nothing, "first": scores[0], "best": max(scores, key=lambda one: one or -1)}
            for name, other in against.items():
                if other is not None and (name != "best" or None not in scores):
                    found_by[name].setdefault(row["target"], []).append(blend - 100 * other)
        means = {name: [float(np.mean(one)) for one in rows.values()] for name, rows in found_by.items()}
        found[regime] = {name: _mean_and_error(values) for name, values in means.items() if len(values) > 1}
    return found


def from_nothing(regime: str) -> FromNothing | None:
    """Longer runs from nothing of the seeds that a regime has, mean over them; None where there are none."""
    if regime not in LONGER:
        return None
    table, steps = LONGER[regime]
    seeds = set(seeds_of(regime))
    scores: dict[str, list[float]] = {}
    for row in rows_of(table):
        if row["seed"] in seeds:
            scores.setdefault(row["target"], []).append(float(row["score"]))
    return FromNothing(steps, {target: float(np.mean(values)) for target, values in scores.items()}) if scores else None


def converged(evidence: Evidence) -> dict[str, Any]:
    """From nothing until nothing more is gained, by target: beside the same start and the first picks at equal steps.

    `all_seeds` is of every seed that was run, each with examples of its own; the rest has the seeds of the picks.
    """
    longer, truth = from_nothing(JUDGE), evidence.truth
    if longer is None:
        return {}
    scores: dict[str, list[float]] = {}
    for row in rows_of(LONGER[JUDGE][0]):
        scores.setdefault(row["target"], []).append(float(row["score"]))
    orders = {"update": PREDICTORS["update"].compute(evidence), "gain": evidence.gain}
    reached = {name: _first_scores(truth, order) for name, order in orders.items()}
    shared = [row for row, target in enumerate(truth.targets) if target in longer.scores]
    targets = {
        truth.targets[row]: {
            "equal": round(float(truth.baseline[row] / truth.unit), 4),
            "longer": round(longer.scores[truth.targets[row]], 4),
            "all_seeds": _over_seeds(scores[truth.targets[row]]),
            **{name: round(of[truth.targets[row]], 4) for name, of in reached.items()},
        }
        for row in shared
    }
    against = {name: against_converged(of, longer) for name, of in reached.items()}
    return {
        "steps": longer.steps,
        "targets": targets,
        "against": {name: found.as_dict() for name, found in against.items() if found is not None},
    }


def _first_scores(truth: Truth, order: Float64Array) -> dict[str, float]:
    """The score of the source that is first, as a fraction, by target."""
    candidates = truth.candidates()
    firsts = [ranked(order[row], candidates[row])[0] for row in range(len(truth.targets))]
    return {
        target: float(truth.scores[row, first] / truth.unit)
        for row, (target, first) in enumerate(zip(truth.targets, firsts, strict=True))
    }


def _over_seeds(values: Sequence[float]) -> dict[str, float | int | None]:
    error = float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
    return {
        "seeds": len(values),
        "mean": round(float(np.mean(values)), 4),
        "error": None if error is None else round(error, 4),
    }


def _mean_and_error(values: Sequence[float]) -> dict[str, float | int]:
    error = float(np.std(values, ddof=1) / math.sqrt(len(values)))
    return {"targets": len(values), "mean": round(float(np.mean(values)), 3), "error": round(error, 3)}
