"""Gain: how affinity and strength together order the sources of a target.

The effect of a source on a target (in standard deviations of the target's sources) is taken to be

    affinity weight x z(similarity) + strength weight x strength

with two weights, fitted by least squares on targets whose transfer was measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tupate_hub.arrays import Float64Array
from tupate_hub.evaluation.strength import Strength, Traits, fit_strengths
from tupate_hub.evaluation.truth import Truth

#: What the weights are drawn to, with the weight of so many cells, where few targets were measured.
_BEFORE = np.array([0.3, 1.0])
_CELLS_BEFORE = 20.0


@dataclass(frozen=True)
class GainModel:
    """The two weights, and on how many targets they were fitted."""

    affinity: float
    strength: float
    targets: int

    def expected(self, scores: ArrayLike, strengths: ArrayLike) -> Float64Array:
        """The expected effect of each source, of shape (sources,), from its similarity and its strength."""
        return self.affinity * z_scores(scores) + self.strength * np.asarray(strengths, dtype=np.float64)


def z_scores(values: ArrayLike) -> Float64Array:
    """The values of one target's sources minus their mean, in their standard deviations; 0 where all are equal."""
    array = np.asarray(values, dtype=np.float64)
    moved = array - array.mean()
    spread = float(array.std())
    return moved / spread if spread > 1e-12 else np.zeros_like(array)


def fit_gain(truths: Sequence[Truth], affinities: Sequence[Float64Array], traits: Mapping[str, Traits]) -> GainModel:
    """Fit the weights on tables of measured transfer.

    The strengths that a target's row is explained by come from the other targets, as they will when the model is used.

    Parameters
    ----------
    truths : sequence of Truth
        Measured transfer.
    affinities : sequence of arrays
        For each table the similarity of every target and source, of its shape (targets, sources).
    """
    rows: list[tuple[Float64Array, Float64Array]] = []
    names: set[str] = set()
    for truth, affinity in zip(truths, affinities, strict=True):
        scaled = truth.effects()
        for row, target in enumerate(truth.targets):
            known = np.isfinite(scaled[row])
            if known.sum() < 2:
                continue
            strengths = fit_strengths([without(one, target) for one in truths], traits)
            own = np.array([_value(strengths, source) for source in truth.sources])[known]
            rows.append((np.stack([z_scores(affinity[row, known]), own], axis=1), scaled[row, known]))
            names.add(target)
    normal, right = _CELLS_BEFORE * np.eye(2), _CELLS_BEFORE * _BEFORE
    for features, effect in rows:
        normal, right = normal + features.T @ features, right + features.T @ effect
    weights = np.maximum(np.linalg.solve(normal, right), 0.0)
    return GainModel(float(weights[0]), float(weights[1]), len(names))


def gain_without_target(truth: Truth, affinity: Float64Array, traits: Mapping[str, Traits]) -> Float64Array:
    """The expected effects of the sources of each target, of shape (targets, sources), fitted on the other targets.

    A predictor for `evaluate`: neither the weights nor the strengths of a row have seen it.
    """
    candidates = truth.candidates()
    predicted = np.zeros(truth.scores.shape)
    for row, target in enumerate(truth.targets):
        others = [other for other in range(len(truth.targets)) if other != row]
        rest = [without(truth, target)]
        model = fit_gain(rest, [affinity[others]], traits)
        strengths = fit_strengths(rest, traits)
        known = candidates[row]
        if not known.any():
            continue
        own = np.array([_value(strengths, source) for source in truth.sources])
        predicted[row, known] = model.expected(affinity[row, known], own[known])
    return predicted


def without(truth: Truth, target: str) -> Truth:
    """The table without one of its targets; as it is where it has no such target."""
    return truth.rows([row for row, name in enumerate(truth.targets) if name != target])


def _value(strengths: Mapping[str, Strength], source: str) -> float:
    return strengths[source].value if source in strengths else 0.0
