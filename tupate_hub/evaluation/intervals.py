"""Intervals of 95 % around a metric: Wilson's of a proportion, and percentile bootstraps over examples (Efron 1979)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tupate_hub.arrays import Float64Array

RESAMPLES = 1_000
SEED = 0
_NORMAL = 1.959964  # the quantile of 97.5 %
_AT_ONCE = 4_000_000  # numbers of a block of resamples


def wilson_interval(right: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion, inside [0, 1]; it has no trouble near 0 and 1."""
    share, pull = right / count, _NORMAL**2 / count
    middle = (share + pull / 2) / (1 + pull)
    half = _NORMAL * math.sqrt(share * (1 - share) / count + pull / (4 * count)) / (1 + pull)
    return max(0.0, middle - half), min(1.0, middle + half)


def resampled(times: Float64Array, measure: Callable[[Float64Array], Float64Array]) -> Float64Array:
    """What `measure` gives for resamples of items that occur so many `times`: weights of shape (resamples, items)."""
    generator = np.random.default_rng(SEED)
    size = round(float(times.sum()))
    block = max(1, _AT_ONCE // len(times))
    draws = [
        measure(generator.multinomial(size, times / times.sum(), size=min(block, RESAMPLES - start)).astype(np.float64))
        for start in range(0, RESAMPLES, block)
    ]
    return np.concatenate(draws)


def interval(draws: Float64Array, examples: int) -> tuple[float, float]:
    """The middle 95 % of what resamples gave; (NaN, NaN) of fewer than two examples."""
    if examples < 2:
        return math.nan, math.nan
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)
