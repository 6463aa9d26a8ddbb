"""Forecast: what was planted comes out, the promise holds on targets that were left out, and files are read back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.compare.noise import NoiseLevel
from tupate_hub.errors import FormatError
from tupate_hub.evaluation.converged import FromNothing
from tupate_hub.evaluation.forecast import Forecast, fit_forecast, never_rising
from tupate_hub.evaluation.truth import Truth

SOURCES, TARGETS = tuple(f"s{n:02}" for n in range(15)), tuple(f"t{n:02}" for n in range(12))
NOISE = NoiseLevel(0.0, 0.05, 500)


def planted(seed: int = 0, spread: float = 0.5) -> tuple[Truth, np.ndarray]:
    """Gains of 4 points for each unit of excess, 1 lost where nothing is related, with noise."""
    rng = np.random.default_rng(seed)
    affinity = np.abs(rng.normal(0, 0.1, (len(TARGETS), len(SOURCES))))
    gains = -1 + 4 * np.vectorize(NOISE.excess)(affinity) + spread * rng.normal(size=affinity.shape)
    without = rng.uniform(40, 70, len(TARGETS))
    return Truth(TARGETS, SOURCES, without[:, None] + gains, without, ("accuracy",) * len(TARGETS)), affinity


def fitted(truth: Truth, affinity: np.ndarray) -> Forecast:
    return fit_forecast(truth, affinity, NOISE, {}, regime="few-shot-40", examples=200, steps=40)


def test_what_was_planted_comes_out() -> None:
    found = fitted(*planted())
    assert found.constant == pytest.approx(-1, abs=0.3)
    assert found.excess == pytest.approx(4, abs=0.3)
    assert abs(found.strength) < 0.5
    assert found.error < 1.5
    assert (found.helped, found.targets) == (1.0, len(TARGETS))
    assert found.gained_low < found.gained < found.gained_high
    assert found.regrets["1"] >= found.regrets["3"] >= found.regrets["5"] >= 0


def test_unrelated_picks_are_forecast_to_lose() -> None:
    found = fitted(*planted())
    much, nothing = found.of([(3, 0), (0, 0)])
    assert nothing.points < 0 < much.points
    assert nothing.chance < 0.5 < much.chance
    assert nothing.low < nothing.points < nothing.high
    assert nothing.high - nothing.low == pytest.approx(2 * 1.2816 * found.error)


def test_what_is_ordered_against_the_fit_shares_its_mean() -> None:
    found = fitted(*planted())
    high, low = (found.of([pick])[0].points for pick in ((2, 0), (1, 0)))
    assert [one.points for one in found.of([(2, 0), (1, 0)])] == pytest.approx([high, low])
    assert [one.points for one in found.of([(1, 0), (2, 0)])] == pytest.approx([(high + low) / 2] * 2)


@given(st.lists(st.floats(-50, 50), max_size=12))
def test_the_nearest_sequence_that_never_rises(values: list[float]) -> None:
    found = never_rising(values)
    assert len(found) == len(values)
    assert all(before >= after - 1e-9 for before, after in zip(found, found[1:], strict=False))
    assert sum(found) == pytest.approx(sum(values), abs=1e-6)
    # nearest: what is left over is at a right angle to the sequence, and no sequence that never rises lies that way
    left = np.array(values) - np.array(found)
    assert float(left @ np.array(found)) == pytest.approx(0, abs=1e-5)
    assert all(float(left[:count].sum()) <= 1e-6 for count in range(len(values)))


def test_noise_makes_the_interval_wider() -> None:
    assert fitted(*planted(spread=5)).error > 2 * fitted(*planted(spread=0.5)).error


def test_scores_as_fractions_are_the_same_points() -> None:
    truth, affinity = planted()
    fractions = replace(truth, scores=truth.scores / 100, baseline=truth.baseline / 100)
    assert fitted(fractions, affinity).gained == pytest.approx(fitted(truth, affinity).gained)


def test_targets_without_a_baseline_are_left_out() -> None:
    truth, affinity = planted()
    baseline = truth.baseline.copy()
    baseline[:5] = np.nan
    assert fitted(replace(truth, baseline=baseline), affinity).targets == len(TARGETS) - 5
    baseline[:9] = np.nan
    with pytest.raises(FormatError, match="3 targets have a score without transfer"):
        fitted(replace(truth, baseline=baseline), affinity)


def test_longer_runs_from_nothing_take_from_the_gain() -> None:
    truth, affinity = planted()
    longer = FromNothing(160, dict(zip(TARGETS, truth.baseline / 100 + 0.01, strict=True)))
    found = fit_forecast(truth, affinity, NOISE, {}, regime="r", examples=200, steps=40, longer=longer)
    assert found.converged is not None
    assert (found.converged.steps, found.converged.targets) == (160, len(TARGETS))
    assert found.converged.gained == pytest.approx(found.gained - 1)
    assert replace(found, converged=None) == replace(fitted(truth, affinity), regime="r")


def test_a_forecast_is_read_back() -> None:
    truth, affinity = planted()
    longer = FromNothing(160, dict(zip(TARGETS, truth.baseline / 100, strict=True)))
    found = fit_forecast(truth, affinity, NOISE, {}, regime="r", examples=200, steps=40, longer=longer)
    again = Forecast.from_dict(found.as_dict(), "here")
    assert again.as_dict() == found.as_dict()
    assert again.of([(1, 0.5)])[0].points == pytest.approx(found.of([(1, 0.5)])[0].points, abs=1e-3)


@given(st.sampled_from(["constant", "regrets", "targets", "error"]), st.sampled_from(["x", None, [], {"1": "y"}]))
def test_what_is_not_a_forecast_is_refused(field: str, value: object) -> None:
    if (field, value) == ("regrets", {}):
        return
    row = {"regime": "r", "examples": 1, "steps": 1, "targets": 1, "constant": 0.0, "excess": 0.0, "strength": 0.0,
           "error": 1.0, "helped": 1.0, "gained": 0.0, "gained_low": 0.0, "gained_high": 0.0, "regrets": {}}  # fmt: skip
    with pytest.raises(FormatError, match="is not a forecast"):
        Forecast.from_dict({**row, field: value}, "here")
