"""Forecast: what starting from a source is expected to gain over starting from nothing, and how sure that is.

Fitted on measured transfer of one regime: a target's gain from a source, in points (hundredths of the full score), is a
linear function of how far their similarity stands out of the space's noise and of the source's strength, plus an effect
of the target that nobody knows before tuning. What is promised is what came out on targets that the fit had not seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from tupate_hub.arrays import Float64Array
from tupate_hub.compare.noise import NoiseLevel
from tupate_hub.errors import FormatError
from tupate_hub.evaluation.converged import Converged, FromNothing, against_converged
from tupate_hub.evaluation.gain import expected_without, without
from tupate_hub.evaluation.metrics import POINTS, bootstrap_interval, regret
from tupate_hub.evaluation.strength import Traits, fit_strengths, values_of
from tupate_hub.evaluation.truth import Truth

#: The normal quantile of the 80 % interval.
SIGMAS = 1.2816
_FEWEST_TARGETS = 4


@dataclass(frozen=True)
class Expected:
    """An expected gain in points with its 80 % interval, and the chance that it is above zero."""

    points: float
    low: float
    high: float
    chance: float


@dataclass(frozen=True)
class Forecast:
    """What measured transfer of one regime says, for a ranking by gain.

    `examples` and `steps` are the regime's. `constant`, `excess` and `strength` are points: for every target, for each
    unit of `NoiseLevel.excess`, and of strength. `error` is the standard deviation of the gain of a first pick about
    its forecast, on targets that were left out. The rest was measured on such targets too: `helped` is the share whose
    first pick beat starting from nothing, `gained` the mean gain in points with its 95 % interval over targets,
    `regrets` what is lost by trying the first 1, 3 and 5 instead of all sources, `converged` what the first picks
    gained over longer runs from nothing, where those were made.
    """

    regime: str
    examples: int
    steps: int
    targets: int
    constant: float
    excess: float
    strength: float
    error: float
    helped: float
    gained: float
    gained_low: float
    gained_high: float
    regrets: Mapping[str, float]
    converged: Converged | None = None

    def of(self, excess: float, strength: float) -> Expected:
        """The forecast for a pick whose similarity stands out that far and whose strength is that."""
        from math import erf, sqrt

        points = self.constant + self.excess * excess + self.strength * strength
        chance = 0.5 * (1 + erf(points / (max(self.error, 1e-9) * sqrt(2))))
        return Expected(points, points - SIGMAS * self.error, points + SIGMAS * self.error, chance)

    def as_dict(self) -> dict[str, Any]:
        """JSON values, rounded to what they are worth."""
        return {
            name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()
        } | {
            "regrets": {name: round(value, 4) for name, value in self.regrets.items()},
            "converged": None if self.converged is None else self.converged.as_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str) -> Forecast:
        """The forecast that `as_dict` wrote.

        Raises
        ------
        FormatError
            When a field is missing or is not a number.
        """
        try:
            numbers = {one.name: data[one.name] for one in fields(cls) if one.name != "converged"}
            text, whole = {"regime"}, {"examples", "steps", "targets"}
            for name, value in numbers.items():
                if name == "regrets":
                    numbers[name] = {str(k): float(part) for k, part in value.items()}
                elif name not in text:
                    numbers[name] = int(value) if name in whole else float(value)
            return cls(**numbers, converged=Converged.from_dict(data.get("converged"), where))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(f"{where} is not a forecast: {error!r}.") from error


def fit_forecast(
    truth: Truth,
    affinity: Float64Array,
    noise: NoiseLevel,
    traits: Mapping[str, Traits],
    *,
    regime: str,
    examples: int,
    steps: int,
    longer: FromNothing | None = None,
) -> Forecast:
    """Fit a forecast on a table of one regime, each promise on targets that were left out.

    Parameters
    ----------
    truth : Truth
        With the score without transfer of every target.
    affinity : array
        Similarities of shape (targets, sources).
    longer : FromNothing, optional
        Runs from nothing with all the steps that they can use.

    Raises
    ------
    FormatError
        For fewer than four targets with a score without transfer.
    """
    rows = [row for row, known in enumerate(np.isfinite(truth.baseline)) if known and truth.candidates()[row].sum() > 1]
    if len(rows) < _FEWEST_TARGETS:
        raise FormatError(f"{len(rows)} targets have a score without transfer: a forecast needs {_FEWEST_TARGETS}.")
    truth, affinity = truth.rows(rows), affinity[rows]
    picks = [_first_pick(truth, affinity, noise, traits, row) for row in range(len(rows))]
    gains = np.array([pick.gained for pick in picks])
    errors = gains - np.array([pick.expected for pick in picks])
    weights = _fit(truth, affinity, noise, traits)
    low, high = bootstrap_interval(gains)
    return Forecast(
        regime=regime,
        examples=examples,
        steps=steps,
        targets=len(rows),
        constant=float(weights[0]),
        excess=float(weights[1]),
        strength=float(weights[2]),
        error=float(np.sqrt((errors**2).mean())),
        helped=float((gains > 0).mean()),
        gained=float(gains.mean()),
        gained_low=low,
        gained_high=high,
        regrets={str(k): float(np.mean([pick.regrets[k] for pick in picks])) for k in (1, 3, 5)},
        converged=None if longer is None else against_converged({pick.target: pick.score for pick in picks}, longer),
    )


@dataclass(frozen=True)
class _Pick:
    """What the first of a ranking by gain scored on a target that nothing was fitted on, and gained, in points."""

    target: str
    score: float
    gained: float
    expected: float
    regrets: Mapping[int, float]


def _first_pick(
    truth: Truth, affinity: Float64Array, noise: NoiseLevel, traits: Mapping[str, Traits], row: int
) -> _Pick:
    others = [other for other in range(len(truth.targets)) if other != row]
    rest, known = truth.rows(others), truth.candidates()[row]
    order, strengths = expected_without(truth, affinity, traits, row)
    measured = truth.fractions()[row, known]
    first = int(order.argmax())
    weights = _fit(rest, affinity[others], noise, traits)
    features = np.array([1.0, noise.excess(float(affinity[row, known][first])), strengths[first]])
    gained = POINTS * (measured[first] - truth.baseline[row] / truth.unit)
    lost = {k: POINTS * regret(order, measured, k) for k in (1, 3, 5)}
    return _Pick(truth.targets[row], float(measured[first]), float(gained), float(features @ weights), lost)


def _fit(truth: Truth, affinity: Float64Array, noise: NoiseLevel, traits: Mapping[str, Traits]) -> Float64Array:
    """Constant and weights of excess and strength by least squares, every target weighing the same.

    The strengths that explain a target come from the others.
    """
    normal, right = 1e-6 * np.eye(3), np.zeros(3)
    candidates, scores = truth.candidates(), truth.fractions()
    for row, target in enumerate(truth.targets):
        known = candidates[row]
        strengths = values_of(fit_strengths([without(truth, target)], traits), truth.sources)[known]
        excess = np.array([noise.excess(float(value)) for value in affinity[row, known]])
        features = np.stack([np.ones(len(excess)), excess, strengths], axis=1)
        gains = POINTS * (scores[row, known] - truth.baseline[row] / truth.unit)
        normal = normal + features.T @ features / len(excess)
        right = right + features.T @ gains / len(excess)
    return np.asarray(np.linalg.solve(normal, right))
