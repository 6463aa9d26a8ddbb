"""Strength: how much better than other sources a source makes targets on average, whatever the target is.

Choshen et al. (2022) found that what a source gains is nearly the sum of an effect of the source and one of the target.
The effect of the source is estimated here from measured transfer, shrunk towards what its data size and kind let expect
by how seldom it was measured (a linear mixed model, fitted as a Gaussian process with one variance and stated shares).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tupate_hub.arrays import Float64Array
from tupate_hub.evaluation.truth import Truth

#: How the variance of strengths is shared out before anything is measured: what is the source's own, what sources of
#: its kind share, and what goes with the logarithm of its data size.
_OWN, _KIND, _SIZE = 0.6, 0.2, 0.2
_SMALLEST_VARIANCE = 0.01


@dataclass(frozen=True)
class Traits:
    """What is known of a source without any transfer: its kind and its number of training examples, where known."""

    kind: str = ""
    train_size: int | None = None


@dataclass(frozen=True)
class Strength:
    """A source's effect in standard deviations of the sources of a target, its standard error, on how many targets."""

    value: float
    error: float
    targets: int

    def as_dict(self) -> dict[str, float | int]:
        """The JSON of a registry's entry."""
        return {"value": round(self.value, 4), "error": round(self.error, 4), "targets": self.targets}


def fit_strengths(truths: Sequence[Truth], traits: Mapping[str, Traits]) -> dict[str, Strength]:
    """The strength of every source of `traits` and of the truths, from all tables together.

    A row of a table is one target; two tables with the same target are two rows, averaged first, so that a target that
    was measured in two regimes does not count twice.

    Parameters
    ----------
    truths : sequence of Truth
        Measured transfer. Sources that no table has get what their traits let expect.
    traits : mapping
        What is known of each source. A source without traits stands alone.
    """
    measured = _effects_by_source(truths)
    names = sorted({*measured, *traits})
    counts = np.array([len(measured.get(name, ())) for name in names], dtype=np.float64)
    means = np.array([np.mean(measured[name]) if measured.get(name) else 0.0 for name in names])
    within, between = _variances([np.array(values) for values in measured.values() if values])
    covariance = between * _similar_before(tuple(traits.get(name, Traits()) for name in names))
    known = np.flatnonzero(counts)
    if not len(known):
        return {name: Strength(0.0, float(np.sqrt(between)), 0) for name in names}
    noise = np.diag(within / counts[known])
    weights = np.linalg.solve(covariance[np.ix_(known, known)] + noise, covariance[known]).T
    values = weights @ means[known]
    left = np.diag(covariance) - np.einsum("ij,ji->i", weights, covariance[known])
    errors = np.sqrt(np.maximum(left, 0.0))
    return {
        name: Strength(float(value), float(error), int(count))
        for name, value, error, count in zip(names, values, errors, counts, strict=True)
    }


def values_of(strengths: Mapping[str, Strength], sources: Sequence[str]) -> Float64Array:
    """The values of some sources, of shape (sources,); 0 for those that are not known."""
    return np.array([strengths[source].value if source in strengths else 0.0 for source in sources], dtype=np.float64)


def strength_without_target(truth: Truth, traits: Mapping[str, Traits]) -> Float64Array:
    """For each target the sources' strengths as the *other* targets give them, of shape (targets, sources).

    A predictor for `evaluate`: nothing that was measured on a target is used for it.
    """
    rows = []
    for row in range(len(truth.targets)):
        others = [other for other in range(len(truth.targets)) if other != row]
        known = fit_strengths([truth.rows(others)], traits) if others else {}
        rows.append(values_of(known, truth.sources))
    return np.array(rows)


def _effects_by_source(truths: Sequence[Truth]) -> dict[str, list[float]]:
    """The effects of each source, one for each target on which it was measured."""
    if len(truths) == 1 and len(set(truths[0].targets)) == len(truths[0].targets):
        scaled = truths[0].effects()
        columns = zip(truths[0].sources, scaled.T, np.isfinite(scaled).T, strict=True)
        return {source: values[known].tolist() for source, values, known in columns if known.any()}
    cells: dict[tuple[str, str], list[float]] = {}
    for truth in truths:
        scaled = truth.effects()
        for row, target in enumerate(truth.targets):
            for column in np.flatnonzero(np.isfinite(scaled[row])):
                cells.setdefault((truth.sources[column], target), []).append(float(scaled[row, column]))
    found: dict[str, list[float]] = {}
    for (source, _), values in cells.items():
        found.setdefault(source, []).append(float(np.mean(values)))
    return found


def _variances(groups: Sequence[Float64Array]) -> tuple[float, float]:
    """The variance of effects within a source and between sources (one-way analysis of variance, by moments)."""
    several = [values for values in groups if len(values) > 1]
    freedom = sum(len(values) - 1 for values in several)
    within = sum(float(((values - values.mean()) ** 2).sum()) for values in several) / freedom if freedom else 1.0
    if len(groups) < 2:
        return max(within, _SMALLEST_VARIANCE), 1.0
    means, counts = np.array([values.mean() for values in groups]), np.array([len(values) for values in groups])
    between = float(means.var(ddof=1) - (within / counts).mean())
    return max(within, _SMALLEST_VARIANCE), max(between, _SMALLEST_VARIANCE)


@lru_cache(maxsize=64)
def _similar_before(traits: tuple[Traits, ...]) -> Float64Array:
    """How alike strengths are expected to be before anything is measured: 1 on the diagonal where all is known."""
    kinds = np.array([one.kind for one in traits])
    same_kind = (kinds[:, None] == kinds[None, :]) & (kinds != "")[:, None]
    sizes = np.array([np.log(one.train_size) if one.train_size else np.nan for one in traits])
    known = np.isfinite(sizes)
    centred = np.where(known, sizes - (sizes[known].mean() if known.any() else 0.0), 0.0)
    spread = float(centred[known].std()) if known.any() else 0.0
    scaled = centred / spread if spread > 0 else centred
    return np.asarray(_OWN * np.eye(len(traits)) + _KIND * same_kind + _SIZE * np.outer(scaled, scaled))
