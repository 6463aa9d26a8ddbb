"""Starts: what other ways to begin a run bring, a blend of sources, or nothing with all the steps that it can use."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from regimes import JUDGE, PICKED, REGIMES, path_of, rows_of, whole_seeds
from transfers import TRUTH

from tupate_hub.evaluation.converged import FromNothing, against_converged
from tupate_hub.training.protocol import PROTOCOLS

#: The protocol of runs from nothing with all the steps that they can use, by the regime whose examples they have.
LONGER: Mapping[str, str] = dict.fromkeys(("few-shot-40", "few-shot-150"), "few-shot-converged")


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


def longer_scores(regime: str) -> dict[tuple[str, str], float]:
    """The last scores of longer runs from nothing, by target and seed; empty where there are none."""
    protocol = PROTOCOLS.get(LONGER.get(regime, ""))
    rows = rows_of(f"{protocol.name}-{protocol.steps}") if protocol else []
    return {(row["target"], row["seed"]): float(row["score"]) for row in rows}


def from_nothing(regime: str) -> FromNothing | None:
    """Longer runs from nothing of the seeds that a regime has, mean over them; None where there are none."""
    whole, scores = whole_seeds(path_of(regime)), dict[str, list[float]]()
    for (target, seed), score in longer_scores(regime).items():
        if (target, seed) in whole:
            scores.setdefault(target, []).append(score)
    means = {target: float(np.mean(values)) for target, values in scores.items()}
    return FromNothing(PROTOCOLS[LONGER[regime]].steps, means) if means else None


def converged(picks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """From nothing until nothing more is gained, by target, and how first picks compare with that.

    `picks` are the rows of `per_target`. `all_seeds` is of every seed that was run, each with examples of its own; the
    rest has the seeds of the picks.
    """
    longer = from_nothing(JUDGE)
    if longer is None:
        return {}
    scores: dict[str, list[float]] = {}
    for (target, _), score in longer_scores(JUDGE).items():
        scores.setdefault(target, []).append(score)
    against = {
        name: against_converged({row["target"]: row[f"{name}_score"] for row in picks}, longer) for name in PICKED
    }
    return {
        "steps": longer.steps,
        "targets": {
            row["target"]: {
                "longer": round(longer.scores[row["target"]], 4),
                "all_seeds": _over_seeds(scores[row["target"]]),
            }
            for row in picks
            if row["target"] in longer.scores
        },
        "against": {name: found.as_dict() for name, found in against.items() if found is not None},
    }


def _over_seeds(values: Sequence[float]) -> dict[str, float | int | None]:
    error = round(_standard_error(values), 4) if len(values) > 1 else None
    return {"seeds": len(values), "mean": round(float(np.mean(values)), 4), "error": error}


def _mean_and_error(values: Sequence[float]) -> dict[str, float | int]:
    return {
        "targets": len(values),
        "mean": round(float(np.mean(values)), 3),
        "error": round(_standard_error(values), 3),
    }


def _standard_error(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))
