"""Forecast: what starting from a source is expected to gain over starting from nothing, and how sure that is.

Fitted on measured transfer of one regime: a target's gain from a source, in points (hundredths of the full score), is a
linear function of how far their similarity stands out of the space's noise and of the source's strength, plus an effect
of the target that nobody knows before tuning. In a ranking no source is promised more than one before it. What is
promised of first picks is what came out on targets that the fit had not seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

    def of(self, picks: Sequence[tuple[float, float]]) -> list[Expected]:
        """The forecasts for the sources of a ranking, in its order.

        Parameters
        ----------
        picks : sequence of pairs
            How far each one's similarity stands out (`NoiseLevel.excess`), and its strength.
        """
        fitted = [self.constant + self.excess * excess + self.strength * strength for excess, strength in picks]
        return [self._about(points) for points in never_rising(fitted)]

    def _about(self, points: float) -> Expected:
        from math import erf, sqrt

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


def never_rising(values: Sequence[float]) -> list[float]:
    """The sequence nearest to some values, by least squares, in which none is above one before it.

    Isotonic regression by pooling adjacent violators (Ayer et al. 1955): the forecast has its level from one fit and
    its order from another, which knows more, and where they disagree those between share their mean.
    """
    pools: list[tuple[float, int]] = []
    for value in values:
        total, count = value, 1
        while pools and pools[-1][0] * count < total * pools[-1][1]:
            before = pools.pop()
            total, count = total + before[0], count + before[1]
        pools.append((total, count))
    return [total / count for total, count in pools for _ in range(count)]


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
    fitted = _features(affinity[row, known], strengths, noise) @ _fit(rest, affinity[others], noise, traits)
    expected = never_rising(fitted[np.argsort(-order, kind="stable")].tolist())[0]
    gained = POINTS * (measured[first] - truth.baseline[row] / truth.unit)
    lost = {k: POINTS * regret(order, measured, k) for k in (1, 3, 5)}
    return _Pick(truth.targets[row], float(measured[first]), float(gained), expected, lost)


def _fit(truth: Truth, affinity: Float64Array, noise: NoiseLevel, traits: Mapping[str, Traits]) -> Float64Array:
    """Constant and weights of excess and strength by least squares, every target weighing the same.

    The strengths that explain a target come from the others.
    """
    normal, right = 1e-6 * np.eye(3), np.zeros(3)
    candidates, scores = truth.candidates(), truth.fractions()
    for row, target in enumerate(truth.targets):
        known = candidates[row]
        strengths = values_of(fit_strengths([without(truth, target)], traits), truth.sources)[known]
        features = _features(affinity[row, known], strengths, noise)
        gains = POINTS * (scores[row, known] - truth.baseline[row] / truth.unit)
        normal = normal + features.T @ features / len(gains)
        right = right + features.T @ gains / len(gains)
    return np.asarray(np.linalg.solve(normal, right))


def _features(affinity: Float64Array, strengths: Float64Array, noise: NoiseLevel) -> Float64Array:
    """What the weights are of, of shape (sources, 3): one, how far each similarity stands out, and strength."""
    excess = [noise.excess(float(value)) for value in affinity]
    return np.stack([np.ones(len(excess)), np.array(excess), strengths], axis=1)
