"""Report: all predictors judged by one table of measured transfer, each beside the default on the same cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tupate_hub.arrays import Float64Array
from tupate_hub.evaluation.evaluate import Report, Summary, difference, evaluate
from tupate_hub.evaluation.metrics import POINTS, relative_regret
from tupate_hub.evaluation.predictors import PREDICTORS, Evidence, known_cells
from tupate_hub.evaluation.truth import Truth

#: What every other predictor is compared with.
DEFAULT = "update"
SHOWN = ("ndcg_rank", "ndcg_score", "rank_of_best", "regret@1", "regret@3", "regret@5", "regret@3_percent", "spearman")
_DIGITS = 4


def judged(evidence: Evidence, names: Iterable[str] = PREDICTORS) -> dict[str, dict[str, Any]]:
    """By predictor what it reaches: JSON values, rounded to four digits.

    A predictor is judged on the cells that it knows: `targets` and `sources` say how many of the table's those are.
    `metrics` has each of `SHOWN` with its mean and 95 % interval over targets, `against_default` the paired difference
    of the rank-NDCG and of Regret@3 to `update` on the same cells, `first_pick` what the source that it puts first did
    (`first_picks`). Predictors that know no cell are left out.
    """
    reference = PREDICTORS[DEFAULT].compute(evidence)
    found = {}
    for name in names:
        prediction = PREDICTORS[name].compute(evidence)
        both = np.isfinite(prediction) & np.isfinite(reference)
        truth = known_cells(evidence.truth, np.where(both, 1.0, np.nan))
        if not truth.targets:
            continue
        rows = [evidence.truth.targets.index(target) for target in truth.targets]
        report = evaluate(np.nan_to_num(prediction[rows]), truth, name)
        default = evaluate(np.nan_to_num(reference[rows]), truth, DEFAULT)
        found[name] = {
            "targets": len(truth.targets),
            "sources": int(np.median(report.sources)),
            "metrics": {metric: _summary(report.summary(metric)) for metric in SHOWN},
            "against_default": _against(report, default),
            "first_pick": first_picks(truth, np.nan_to_num(prediction[rows])),
        }
    return found


def judged_together(
    truth: Truth, orders: Mapping[str, Float64Array], default: str | None = None
) -> dict[str, dict[str, Any]]:
    """Several orders, each an array of shape (targets, sources), on the cells that all of them know; as `judged`.

    `against_default` is there where one of them is named the default.
    """
    known = known_cells(truth, np.where(np.isfinite(list(orders.values())).all(axis=0), 1.0, np.nan))
    if not known.targets:
        return {}
    rows = [truth.targets.index(target) for target in known.targets]
    reports = {name: evaluate(np.nan_to_num(scores[rows]), known, name) for name, scores in orders.items()}
    found: dict[str, dict[str, Any]] = {}
    for name, report in reports.items():
        found[name] = {
            "targets": len(known.targets),
            "sources": int(np.median(report.sources)),
            "metrics": {metric: _summary(report.summary(metric)) for metric in SHOWN},
            "first_pick": first_picks(known, np.nan_to_num(orders[name][rows])),
        }
        if default is not None:
            found[name]["against_default"] = _against(report, reports[default])
    return found


def _against(report: Report, default: Report) -> dict[str, dict[str, float | None]]:
    return {metric: _summary(difference(report, default, metric)) for metric in ("ndcg_rank", "regret@3")}


def first_picks(truth: Truth, prediction: Float64Array) -> dict[str, float | int]:
    """What the source that a prediction puts first did for the targets that have a score without transfer.

    `helped` is the share of targets on which it beat starting from nothing, of all and of those on which any source
    does (`helpable`); `gain` the mean gain in points, `best` that of the best source. Ties are taken by name.
    """
    candidates, scores = truth.candidates(), truth.fractions()
    gains, best = [], []
    for row, without in enumerate(truth.baseline / truth.unit):
        known = candidates[row]
        if np.isfinite(without) and known.any():
            measured = scores[row, known]
            gains.append(POINTS * (measured[prediction[row, known].argmax()] - without))
            best.append(POINTS * (measured.max() - without))
    if not gains:
        return {}
    gained, reachable = np.array(gains), np.array(best) > 0
    helped = float((gained[reachable] > 0).mean()) if reachable.any() else 0.0
    return {
        "targets": len(gained),
        "helpable": int(reachable.sum()),
        "helped": round(float((gained > 0).mean()), _DIGITS),
        "helped_of_helpable": round(helped, _DIGITS),
        "gain": round(float(gained.mean()), _DIGITS),
        "best": round(float(np.mean(best)), _DIGITS),
    }


def share_of_the_way(value: float, random: float, again: float) -> float:
    """How far a predictor comes from a random order (0) to measuring the transfer a second time (1)."""
    return (value - random) / (again - random) if again != random else float("nan")


def measured_again(truth: Truth, other: Truth) -> Float64Array:
    """Another measurement of the same transfer as a predictor, of shape (targets, sources); NaN where it has none."""
    cells = {
        (target, source): other.scores[row, column]
        for row, target in enumerate(other.targets)
        for column, source in enumerate(other.sources)
    }
    return np.array([[cells.get((target, source), np.nan) for source in truth.sources] for target in truth.targets])


def ranked(scores: Float64Array, known: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The columns that are known and have a score, best first, equal ones in their order."""
    columns = np.flatnonzero(known & np.isfinite(scores))
    return np.asarray(columns[np.argsort(-scores[columns], kind="stable")])


def first_reordered(truth: Truth, order: Float64Array, measured: Float64Array, first: int) -> Float64Array:
    """An order whose first sources are put in the order of what was measured of them; of shape (targets, sources).

    A target of whose first sources one was not measured keeps its order. NaN where the order knows nothing.
    """
    found = np.full(order.shape, np.nan)
    for row, candidates in enumerate(truth.candidates()):
        columns = ranked(order[row], candidates)
        top = measured[row, columns[:first]]
        if np.isfinite(top).all():
            columns[:first] = columns[:first][np.argsort(-top, kind="stable")]
        found[row, columns] = -np.arange(len(columns), dtype=np.float64)
    return found


def per_target(evidence: Evidence, names: Iterable[str]) -> list[dict[str, Any]]:
    """For each target its score without transfer, its best source, and the first picks of some predictors.

    What is lost by trying the first three of a predictor instead of all sources is in per cent of the best score, the
    metric `regret@3_percent` of that target, and None where the best score is zero or less.
    """
    truth = evidence.truth
    predictions: Mapping[str, Float64Array] = {name: PREDICTORS[name].compute(evidence) for name in names}
    rows = []
    for row, target in enumerate(truth.targets):
        known = np.flatnonzero(truth.candidates()[row])
        scores = truth.scores[row, known]
        best = int(scores.argmax())
        found: dict[str, Any] = {
            "target": target,
            "without": None if np.isnan(truth.baseline[row]) else round(float(truth.baseline[row]), _DIGITS),
            "mean": round(float(scores.mean()), _DIGITS),
            "best": truth.sources[known[best]],
            "best_score": round(float(scores[best]), _DIGITS),
        }
        for name, prediction in predictions.items():
            order = np.nan_to_num(prediction[row, known], nan=np.finfo(np.float64).min)
            first = int(order.argmax())
            found[name] = truth.sources[known[first]]
            found[f"{name}_score"] = round(float(scores[first]), _DIGITS)
            lost = relative_regret(order, scores, 3)
            found[f"{name}_regret@3_percent"] = None if np.isnan(lost) else round(lost, _DIGITS)
        rows.append(found)
    return rows


def wide_enough(truth: Truth, fewest_sources: int) -> Truth:
    """The targets that so many sources were measured on: the others are still being measured."""
    counts = truth.candidates().sum(axis=1)
    return truth.rows([row for row, count in enumerate(counts) if count >= fewest_sources])


def without_unmeasured_sources(truth: Truth, fewest_targets: int) -> Truth:
    """The table with the scores of sources that fewer targets were measured with taken away."""
    counts = truth.candidates().sum(axis=0)
    return replace(truth, scores=np.where(counts[None, :] >= fewest_targets, truth.scores, np.nan))


def _summary(summary: Summary) -> dict[str, float | None]:
    found = summary.as_dict()
    return {name: None if found[name] is None else round(found[name], _DIGITS) for name in ("mean", "low", "high")}
