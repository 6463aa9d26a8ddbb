"""Evaluation: predictors of transfer judged by the truth, one target left out of its sources at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tupate_hub.arrays import Float64Array, StrArray
from tupate_hub.errors import FormatError, UnknownName
from tupate_hub.evaluation.metrics import METRICS, bootstrap_interval
from tupate_hub.evaluation.truth import Truth

#: Scores of shape (targets, sources) that say how good each source is expected to be, or what computes them.
Predictor = ArrayLike | Callable[[Truth], ArrayLike]


@dataclass(frozen=True)
class Summary:
    """A metric over targets: mean, spread (standard deviation, n - 1) and the bootstrap interval of the mean."""

    mean: float
    spread: float
    low: float
    high: float
    targets: int

    def as_dict(self) -> dict[str, Any]:
        """JSON values; null where there is no such number."""
        return {key: _json_number(value) for key, value in vars(self).items()}


@dataclass(frozen=True)
class Report:
    """How well one predictor ranked the sources of every target.

    `values` maps each name of `metrics.METRICS` to an array of shape (targets,); `picked` is the source each target's
    prediction puts first (of ties the first by name), `best` the truly best, `sources` how many it chose from.
    `left_out` maps targets that could not be judged to the reason. Regrets are in points, hundredths of the full score.
    """

    name: str
    targets: tuple[str, ...]
    sources: tuple[int, ...]
    picked: tuple[str, ...]
    best: tuple[str, ...]
    values: Mapping[str, Float64Array]
    left_out: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0

    def summary(self, metric: str) -> Summary:
        """Mean, spread and 95 % bootstrap interval of a metric over the targets where it has a value."""
        return _summarise(_values(self, metric), self.seed)

    def as_dict(self) -> dict[str, Any]:
        """JSON values: `predictor`, `metrics` (per name: mean, spread, low, high, targets), `targets` and `left_out`.

        Each item of `targets` has `target`, `sources` (their number), `picked`, `best`, and every metric's value.
        """
        per_target = [
            {"target": target, "sources": sources, "picked": picked, "best": best}
            | {metric: _json_number(values[row]) for metric, values in self.values.items()}
            for row, (target, sources, picked, best) in enumerate(
                zip(self.targets, self.sources, self.picked, self.best, strict=True)
            )
        ]
        return {
            "predictor": self.name,
            "metrics": {metric: self.summary(metric).as_dict() for metric in self.values},
            "targets": per_target,
            "left_out": dict(self.left_out),
        }


def evaluate(predictor: Predictor, truth: Truth, name: str = "", seed: int = 0) -> Report:
    """Judge a predictor: for each target, all other measured tasks are its sources.

    Parameters
    ----------
    predictor : array_like or callable
        Scores of shape (targets, sources), higher is better, or a function of the truth that gives them. Only the order
        inside a row counts.
    truth : Truth
        What was measured.
    name : str, optional
        The predictor's name in the report.
    seed : int, optional
        Of the bootstrap.

    Raises
    ------
    FormatError
        For a prediction of another shape or with NaN where a source was measured, or when no target has two sources.
    """
    given = predictor(truth) if callable(predictor) else predictor
    predicted, scores, candidates = np.asarray(given, dtype=np.float64), truth.fractions(), truth.candidates()
    if predicted.shape != scores.shape:
        raise FormatError(f"A prediction of shape {predicted.shape} does not fit a truth of shape {scores.shape}.")
    counts = candidates.sum(axis=1)
    judged = [row for row, count in enumerate(counts) if count >= 2]
    if not judged:
        raise FormatError("No target has two measured sources: there is nothing to rank.")
    for row in judged:
        if not np.isfinite(predicted[row, candidates[row]]).all():
            raise FormatError(f"The prediction for {truth.targets[row]!r} is NaN or infinite.")
    pairs = [(predicted[row, candidates[row]], scores[row, candidates[row]]) for row in judged]
    values = {one.name: np.array([one.measure(*pair) for pair in pairs]) for one in METRICS.values()}
    names = [np.array(truth.sources)[candidates[row]] for row in judged]
    return Report(
        name,
        tuple(truth.targets[row] for row in judged),
        tuple(int(counts[row]) for row in judged),
        *_firsts(pairs, names),
        values,
        {truth.targets[row]: _too_few(int(count)) for row, count in enumerate(counts) if count < 2},
        seed,
    )


def _firsts(
    pairs: list[tuple[Float64Array, Float64Array]], names: list[StrArray]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    predicted, measured = (
        tuple(str(known[pair[side].argmax()]) for pair, known in zip(pairs, names, strict=True)) for side in (0, 1)
    )
    return predicted, measured


def difference(report: Report, reference: Report, metric: str = "ndcg_rank") -> Summary:
    """The paired difference of two predictors on the same targets: mean of report - reference, with its interval.

    Raises
    ------
    FormatError
        When they judged different targets.
    UnknownName
        For a metric that is not known.
    """
    if report.targets != reference.targets or report.sources != reference.sources:
        raise FormatError(f"{report.name!r} and {reference.name!r} were not judged on the same targets and sources.")
    return _summarise(_values(report, metric) - _values(reference, metric), report.seed)


def _values(report: Report, metric: str) -> Float64Array:
    if metric not in report.values:
        raise UnknownName(f"Unknown metric {metric!r}.", hint="known: " + ", ".join(report.values))
    return report.values[metric]


def _summarise(values: Float64Array, seed: int) -> Summary:
    known = values[np.isfinite(values)]
    mean = float(known.mean()) if len(known) else math.nan
    spread = float(known.std(ddof=1)) if len(known) > 1 else math.nan
    return Summary(mean, spread, *bootstrap_interval(known, seed=seed), len(known))


def _too_few(count: int) -> str:
    return f"{count or 'no'} other {'task was' if count else 'tasks were'} measured as its sources: two are needed"


def _json_number(value: float) -> float | int | None:
    if isinstance(value, int):
        return value
    return float(value) if math.isfinite(value) else None
