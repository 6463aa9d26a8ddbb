"""Metrics of a ranking of sources for one target, as functions of two arrays.

`prediction` says how good each source is expected to be and `scores` what was measured, both of shape (sources,),
higher is better. Only the order of the prediction counts. Where it ties, NDCG, regret and the rank of the best are the
exact expected values over all orders of the tied sources (for NDCG: McSherry and Najork, ECIR 2008), so no result
depends on the order of a file, and a prediction that is the same for all sources has the value of a random one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tupate_hub.arrays import Float64Array, IndexArray
from tupate_hub.errors import FormatError

#: A score is compared in hundredths of the full score, 1, whatever unit a file is written in.
POINTS = 100.0

#: Scores of tasks that are correlations; the others are proportions, or means of numbers between 0 and 1.
CORRELATIONS = frozenset({"matthews_correlation", "pearson_and_spearman"})


def ndcg(prediction: ArrayLike, relevance: ArrayLike) -> float:
    """Normalised discounted cumulative gain, in [0, 1]: 1 for the ideal order, and where all are equally relevant.

    DCG = sum_i (2^rel_i - 1) / log2(i + 1) over the positions i = 1, 2, ..., divided by the DCG of the ideal order (Vu
    et al., EMNLP 2020). Gains are computed relative to the largest, so a relevance of thousands does not overflow.

    Raises
    ------
    FormatError
        For arrays of two shapes, none or NaN, or a negative relevance.
    """
    predicted, relevances = _pair(prediction, relevance)
    if relevances.min() < 0:
        raise FormatError("A relevance is negative: a gain of 2^rel - 1 needs one of zero or more.")
    gains = -np.expm1(-relevances * np.log(2)) * np.exp2(relevances - relevances.max())
    discounts = 1 / np.log2(np.arange(len(gains)) + 2)
    ideal = float(np.sort(gains)[::-1] @ discounts)
    if ideal == 0:
        return 1.0
    order, starts = _tied_groups(predicted)
    sizes = np.diff(np.append(starts, len(order)))
    tied_gains, tied_discounts = (np.add.reduceat(part, starts) for part in (gains[order], discounts))
    return min(1.0, float((tied_gains / sizes) @ tied_discounts) / ideal)


def ranks_above(scores: ArrayLike) -> Float64Array:
    """How many sources did worse than each, of shape (sources,): the relevance of `ndcg_by_rank`."""
    values = np.asarray(scores, dtype=np.float64)
    return np.searchsorted(np.sort(values), values, side="left").astype(np.float64)


def ndcg_by_rank(prediction: ArrayLike, scores: ArrayLike) -> float:
    """NDCG whose relevance is the number of sources that did worse on this target (as in TaskWeb, Kim et al. 2023)."""
    predicted, measured = _pair(prediction, scores)
    return ndcg(predicted, ranks_above(measured))


def ndcg_by_score(prediction: ArrayLike, scores: ArrayLike) -> float:
    """NDCG whose relevance is the score itself as a fraction of the full score 1 (Vu et al. 2020).

    Nearly saturated: a random order reaches .96 and more on most published tables. Scores below zero, which a
    correlation may have, count as zero.
    """
    predicted, measured = _pair(prediction, scores)
    return ndcg(predicted, np.maximum(measured, 0))


def best_within(prediction: ArrayLike, scores: ArrayLike, k: int) -> float:
    """The best score among the first k predicted, expected over the orders of ties, in the unit of `scores`."""
    chances, best = _outcomes(*_pair(prediction, scores), k)
    return float(chances @ best)


def regret(prediction: ArrayLike, scores: ArrayLike, k: int) -> float:
    """What is lost by trying only the first k predicted: best score minus best among them, in the unit of `scores`."""
    predicted, measured = _pair(prediction, scores)
    chances, best = _outcomes(predicted, measured, k)
    return float(chances @ (measured.max() - best))


def relative_regret(prediction: ArrayLike, scores: ArrayLike, k: int) -> float:
    """Regret@k in per cent of the best score (Poth et al., EMNLP 2021): 100 (best - best of the first k) / best.

    NaN where the best score is zero or less and something is lost: it is no share of anything.
    """
    lost, best = regret(prediction, scores, k), float(np.max(np.asarray(scores, dtype=np.float64)))
    if lost == 0:
        return 0.0
    return 100 * lost / best if best > 0 else float("nan")


def rank_of_best(prediction: ArrayLike, scores: ArrayLike) -> float:
    """The place, from 1, that the prediction gives to the truly best source; of several best ones, to the first met.

    Its mean over targets is the rho of Vu et al. (2020).
    """
    predicted, measured = _pair(prediction, scores)
    order, starts = _tied_groups(predicted)
    is_best = (measured == measured.max())[order]
    found = np.add.reduceat(is_best.astype(np.int64), starts)
    group = int(np.flatnonzero(found)[0])
    size = np.diff(np.append(starts, len(order)))[group]
    return float(starts[group] + (size + 1) / (found[group] + 1))


def spearman(prediction: ArrayLike, scores: ArrayLike) -> float:
    """Spearman's rank correlation, in [-1, 1]; equal values share their mean rank; 0 where one side is constant."""
    first, second = (mean_ranks(side) - (len(side) - 1) / 2 for side in _pair(prediction, scores))
    norm = float(np.sqrt((first @ first) * (second @ second)))
    return float(np.clip(first @ second / norm, -1, 1)) if norm > 0 else 0.0


def roc_area(
    positives: ArrayLike,
    negatives: ArrayLike,
    positive_weights: ArrayLike | None = None,
    negative_weights: ArrayLike | None = None,
) -> float:
    """The area under the ROC curve: the chance that a positive scores above a negative, a tie counting half.

    The Mann-Whitney U statistic divided by the number of pairs (Hanley and McNeil 1982). Weights, one a score and 1 by
    default, count a score as often as they say.

    Raises
    ------
    FormatError
        When a side is empty or weighs nothing, has NaN, or its weights do not fit.
    """
    above, above_weights = _weighed(positives, positive_weights)
    below, below_weights = _weighed(negatives, negative_weights)
    ordered = np.argsort(below)
    sums = np.append(0.0, np.cumsum(below_weights[ordered]))
    under, up_to = (sums[np.searchsorted(below[ordered], above, side)] for side in ("left", "right"))
    area = above_weights @ (under + up_to) / (2 * above_weights.sum() * sums[-1])
    return float(np.clip(area, 0, 1))


def standard_errors_above(score: float, baseline: float, examples: int, metric: str = "") -> float:
    """How far a score lies above its baseline, in standard errors of what the baseline would have on `examples`.

    The error of a proportion b is sqrt(b (1 - b) / examples), with a variance of .01 at least: a baseline of 0 has one
    as well. That of a correlation of zero, where `metric` is one of `CORRELATIONS`, is sqrt(1 / examples). NaN for a
    score of NaN.
    """
    variance = 1.0 if metric in CORRELATIONS else max(baseline * (1 - baseline), 0.01)
    return (score - baseline) / math.sqrt(variance / examples)


@dataclass(frozen=True)
class Metric:
    """A named metric: `measure(prediction, scores)` with scores as fractions of the full score, and what it means."""

    name: str
    measure: Callable[[Float64Array, Float64Array], float]
    higher_is_better: bool
    summary: str


def _regret_at(k: int) -> Metric:
    def measure(prediction: Float64Array, scores: Float64Array) -> float:
        return POINTS * regret(prediction, scores, k)

    return Metric(f"regret@{k}", measure, False, f"points lost by trying only the first {k}")


def _relative_regret_at(k: int) -> Metric:
    def measure(prediction: Float64Array, scores: Float64Array) -> float:
        return relative_regret(prediction, scores, k)

    return Metric(f"regret@{k}_percent", measure, False, f"the same in per cent of the best score, for the first {k}")


METRICS: Mapping[str, Metric] = {
    one.name: one
    for one in (
        Metric("ndcg_rank", ndcg_by_rank, True, "NDCG, relevance = number of sources that did worse"),
        Metric("ndcg_score", ndcg_by_score, True, "NDCG, relevance = score as a fraction"),
        *(_regret_at(k) for k in (1, 3, 5)),
        *(_relative_regret_at(k) for k in (1, 3, 5)),
        Metric("rank_of_best", rank_of_best, False, "place given to the truly best source"),
        Metric("spearman", spearman, True, "rank correlation over all sources"),
    )
}


def bootstrap_interval(
    values: ArrayLike, level: float = 0.95, resamples: int = 5_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean (Efron 1979), of values of shape (targets,), reproducible by its seed.

    Of differences between two predictors on the same targets it is the paired interval. (NaN, NaN) for fewer than two
    values, which have no interval.
    """
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 2:
        return float("nan"), float("nan")
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(len(array), np.full(len(array), 1 / len(array)), size=resamples)
    low, high = np.quantile(counts @ array / len(array), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _pair(prediction: ArrayLike, scores: ArrayLike) -> tuple[Float64Array, Float64Array]:
    first, second = np.asarray(prediction, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape or not first.size:
        raise FormatError(f"A prediction of shape {first.shape} cannot be judged by scores of shape {second.shape}.")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise FormatError("A prediction or a score is NaN or infinite.")
    return first, second


def _weighed(scores: ArrayLike, weights: ArrayLike | None) -> tuple[Float64Array, Float64Array]:
    values = np.asarray(scores, dtype=np.float64)
    counts = np.ones(values.shape) if weights is None else np.asarray(weights, dtype=np.float64)
    fits = values.ndim == 1 and counts.shape == values.shape and bool(np.isfinite(values).all())
    if not (fits and bool((counts >= 0).all()) and counts.sum() > 0):
        raise FormatError(f"Scores of shape {values.shape} and weights of shape {counts.shape} give no ROC curve.")
    return values, counts


def _tied_groups(prediction: Float64Array) -> tuple[IndexArray, IndexArray]:
    """The order from best to worst, and where in it each group of equal predictions starts."""
    order = np.argsort(-prediction, kind="stable")
    return order, np.flatnonzero(np.append(True, np.diff(prediction[order]) != 0))


def _outcomes(predicted: Float64Array, measured: Float64Array, k: int) -> tuple[Float64Array, Float64Array]:
    """What the best score among the first k predicted may be, given the ties at the k-th place: chances, and scores."""
    if k < 1:
        raise FormatError(f"The best of the first {k} predicted is asked for: k is at least 1.")
    order, starts = _tied_groups(predicted)
    k = min(k, len(order))
    group = int(np.searchsorted(starts, k, side="left")) - 1
    start, end = int(starts[group]), int(np.append(starts, len(order))[group + 1])
    certain = measured[order[:start]].max(initial=-np.inf)
    tied = np.sort(measured[order[start:end]])[::-1]
    chances = _chance_of_best(len(tied), k - start)
    return chances, np.maximum(certain, tied[: len(chances)])


def _chance_of_best(size: int, drawn: int) -> Float64Array:
    """The chance C(size-1-i, drawn-1) / C(size, drawn) that the i-th best of `size` is the best of `drawn` ones."""
    left = size - np.arange(size - drawn, dtype=np.float64)
    steps = (left - drawn) / left
    return np.cumprod(np.append(1.0, steps)) * (drawn / (size - np.arange(size - drawn + 1)))


def mean_ranks(values: Float64Array) -> Float64Array:
    """Each value's place from 0 in ascending order; equal values share their mean place."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts + 1) / 2)[inverse])
