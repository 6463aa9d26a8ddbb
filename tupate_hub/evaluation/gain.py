"""Gain: how affinity, strength and the kinds of both tasks together order the sources of a target.

The effect of a source on a target (in standard deviations of the target's sources) is taken to be

    affinity weight x z(similarity) + strength weight x strength + what its kind adds to targets of that kind

with two weights, fitted by least squares on targets whose transfer was measured, and for each pair of kinds the mean of
what the weights leave unexplained: a source that extracts spans may be strong, and yet of no use to a choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from tupate_hub.arrays import Float64Array
from tupate_hub.evaluation.strength import Traits, fit_strengths, values_of
from tupate_hub.evaluation.truth import Truth

#: What the weights are drawn to, with the weight of so many cells, where few targets were measured.
_BEFORE = np.array([0.3, 1.0])
_CELLS_BEFORE = 20.0
#: What a kind adds to another is drawn to nothing with the weight of so many targets.
_TARGETS_BEFORE = 1.0


@dataclass(frozen=True)
class GainModel:
    """The two weights, and on how many targets they were fitted.

    `kinds` has what sources of a kind add, by the target's kind and theirs, in standard deviations of the sources.
    """

    affinity: float
    strength: float
    targets: int
    kinds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def expected(self, scores: ArrayLike, strengths: ArrayLike, kind: str, kinds: Sequence[str]) -> Float64Array:
        """The expected effect of each source, of shape (sources,), from its similarity, its strength and its kind.

        `kind` is the target's and `kinds` the sources', "" where unknown.
        """
        added = self.kinds.get(kind, {})
        by_kind = np.array([added.get(one, 0.0) for one in kinds], dtype=np.float64)
        return self.affinity * z_scores(scores) + self.strength * np.asarray(strengths, dtype=np.float64) + by_kind


def z_scores(values: ArrayLike) -> Float64Array:
    """The values of one target's sources minus their mean, in their standard deviations; 0 where all are equal."""
    array = np.asarray(values, dtype=np.float64)
    moved = array - array.mean()
    spread = float(array.std())
    return moved / spread if spread > 1e-12 else np.zeros_like(array)


def fit_gain(truths: Sequence[Truth], affinities: Sequence[Float64Array], traits: Mapping[str, Traits]) -> GainModel:
    """Fit the weights, and what kinds add, on tables of measured transfer.

    The strengths that a target's row is explained by come from the other targets, as they will when the model is used.

    Parameters
    ----------
    truths : sequence of Truth
        Measured transfer.
    affinities : sequence of arrays
        For each table the similarity of every target and source, of its shape (targets, sources).
    """
    rows: list[_Row] = []
    for truth, affinity in zip(truths, affinities, strict=True):
        scaled = truth.effects()
        for row, target in enumerate(truth.targets):
            known = np.isfinite(scaled[row])
            if known.sum() < 2:
                continue
            strengths = fit_strengths([without(one, target) for one in truths], traits)
            sources = [truth.sources[column] for column in np.flatnonzero(known)]
            features = np.stack([z_scores(affinity[row, known]), values_of(strengths, sources)], axis=1)
            rows.append(_Row(target, sources, features, scaled[row, known]))
    normal, right = _CELLS_BEFORE * np.eye(2), _CELLS_BEFORE * _BEFORE
    for one in rows:
        normal, right = normal + one.features.T @ one.features, right + one.features.T @ one.effects
    weights = np.maximum(np.linalg.solve(normal, right), 0.0)
    targets = len({one.target for one in rows})
    return GainModel(float(weights[0]), float(weights[1]), targets, _added_by_kinds(rows, weights, traits))


@dataclass(frozen=True)
class _Row:
    """A target's measured sources: features of shape (sources, 2), effects of shape (sources,)."""

    target: str
    sources: Sequence[str]
    features: Float64Array
    effects: Float64Array


def _added_by_kinds(
    rows: Sequence[_Row], weights: Float64Array, traits: Mapping[str, Traits]
) -> dict[str, dict[str, float]]:
    """What the weights leave unexplained: means over sources of a kind, then over targets of a kind, drawn to nothing.

    A target counts once, in however many tables and with however many sources: its sources of a kind err together.
    """
    left: dict[tuple[str, str], dict[str, list[float]]] = {}
    for one in rows:
        of_target = kind_of(traits, one.target)
        unexplained = one.effects - one.features @ weights
        kinds = [kind_of(traits, source) for source in one.sources]
        for kind in {*kinds} - {""} if of_target else ():
            mean = float(unexplained[[other == kind for other in kinds]].mean())
            left.setdefault((of_target, kind), {}).setdefault(one.target, []).append(mean)
    added: dict[str, dict[str, float]] = {}
    for (of_target, kind), targets in sorted(left.items()):
        total = sum(float(np.mean(means)) for means in targets.values())
        added.setdefault(of_target, {})[kind] = total / (len(targets) + _TARGETS_BEFORE)
    return added


def kind_of(traits: Mapping[str, Traits], task: str) -> str:
    """A task's kind, "" where it is not known."""
    return traits[task].kind if task in traits else ""


def gain_without_target(truth: Truth, affinity: Float64Array, traits: Mapping[str, Traits]) -> Float64Array:
    """The expected effects of the sources of each target, of shape (targets, sources), fitted on the other targets.

    A predictor for `evaluate`: neither the weights nor the strengths of a row have seen it.
    """
    candidates = truth.candidates()
    predicted = np.zeros(truth.scores.shape)
    for row, known in enumerate(candidates):
        if known.any():
            predicted[row, known], _ = expected_without(truth, affinity, traits, row)
    return predicted


def expected_without(
    truth: Truth, affinity: Float64Array, traits: Mapping[str, Traits], row: int
) -> tuple[Float64Array, Float64Array]:
    """The expected effects and the strengths of a target's measured sources, both fitted on the other targets."""
    others = [other for other in range(len(truth.targets)) if other != row]
    rest, known = truth.rows(others), truth.candidates()[row]
    sources = [truth.sources[column] for column in np.flatnonzero(known)]
    strengths = values_of(fit_strengths([rest], traits), sources)
    kinds = [kind_of(traits, source) for source in sources]
    model = fit_gain([rest], [affinity[others]], traits)
    return model.expected(affinity[row, known], strengths, kind_of(traits, truth.targets[row]), kinds), strengths


def without(truth: Truth, target: str) -> Truth:
    """The table without one of its targets; as it is where it has no such target."""
    return truth.rows([row for row, name in enumerate(truth.targets) if name != target])
