"""Baselines: what a similarity has to beat before it says anything. None of them looks at a tuned parameter.

Each gives scores of shape (targets, sources), as `evaluation.evaluate` takes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from tupate_hub.arrays import Float64Array
from tupate_hub.errors import FormatError
from tupate_hub.evaluation.evaluate import Predictor, Report, evaluate
from tupate_hub.evaluation.truth import Truth


def random_order(truth: Truth) -> Float64Array:
    """All sources tied: metrics are exact expectations over ties, so this is the mean over all random orders."""
    return np.zeros_like(truth.scores)


def source_mean(truth: Truth) -> Float64Array:
    """A source's mean effect on the other targets, whatever this target is (after Choshen et al. 2022).

    An effect is a z-score: the score minus the mean of all sources on that target, in standard deviations, without
    the source that is the target itself. For target t, the mean is over all targets but t: nothing measured on t is
    used. A source measured on no other target has effect 0, the average.
    """
    candidates = truth.candidates()
    effects = np.where(candidates, truth.effects(), 0.0)
    totals, counts = _sums_without_row(effects), candidates.sum(axis=0) - candidates
    return np.asarray(np.divide(totals, counts, out=np.zeros_like(totals), where=counts > 0))


def data_size(truth: Truth, sizes: Mapping[str, int]) -> Float64Array:
    """The sources' numbers of training examples: the source with most data first (Vu et al. 2020).

    Raises
    ------
    FormatError
        Naming the sources whose size is not known.
    """
    unknown = [source for source in truth.sources if source not in sizes]
    if unknown:
        raise FormatError(f"No data size is known for {', '.join(unknown[:5])}{', ...' if len(unknown) > 5 else ''}.")
    return np.tile(np.array([float(sizes[source]) for source in truth.sources]), (len(truth.targets), 1))


BASELINES: Mapping[str, Callable[[Truth], Float64Array]] = {"random": random_order, "source-mean": source_mean}


def judge(
    predictors: Mapping[str, Predictor], truth: Truth, sizes: Mapping[str, int] | None = None, seed: int = 0
) -> tuple[Report, ...]:
    """Reports of all predictors, then of the baselines, on the same targets and sources.

    `data-size` is among the baselines only where `sizes` knows every source of the truth. Errors as in `evaluate`.
    """
    everything: dict[str, Predictor] = {**predictors, **BASELINES}
    if sizes is not None and all(source in sizes for source in truth.sources):
        everything["data-size"] = data_size(truth, sizes)
    return tuple(evaluate(predictor, truth, name, seed) for name, predictor in everything.items())


def _sums_without_row(values: Float64Array) -> Float64Array:
    """For each row the sum of all others, from sums above and below it: the row itself is never added and taken off."""
    zero = np.zeros((1, values.shape[1]))
    above = np.cumsum(np.concatenate([zero, values[:-1]]), axis=0)
    below = np.cumsum(np.concatenate([zero, values[:0:-1]]), axis=0)[::-1]
    return np.asarray(above + below)
