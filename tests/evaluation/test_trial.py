"""Run and trial joined, and what measured first picks promise."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from tupate_hub.errors import FormatError
from tupate_hub.evaluation.converged import Converged
from tupate_hub.evaluation.trial import TrialForecast, joined

RISES = (0.4, 0.2, 0.1, 0.05, 0.02, 0.01)
GAINS = (20.0, 10.0, 8.0, 6.0, -1.0, -3.0)
NAMES = tuple("abcdef")


def forecast() -> TrialForecast:
    return TrialForecast("few-shot-150", 200, 150, NAMES, RISES, GAINS)


def test_the_trial_decides_alone_before_the_run_has_made_a_step() -> None:
    run, trial = [0.9, 0.1, 0.5], [-0.7, -0.2, -0.4]
    assert list(np.argsort(-joined(run, trial, 0.0))) == [1, 2, 0]
    assert list(np.argsort(-joined(run, trial, 1.0))) == [0, 2, 1]
    np.testing.assert_allclose(joined(run, trial, 3.0), joined(run, trial, 1.0))


def test_units_do_not_matter_and_equal_values_say_nothing() -> None:
    run, trial = np.array([0.9, 0.1, 0.5]), np.array([-0.7, -0.2, -0.4])
    np.testing.assert_allclose(joined(run, trial, 0.5), joined(3 * run + 1, 10 * trial - 2, 0.5))
    np.testing.assert_allclose(joined([0.3, 0.3, 0.3], trial, 1.0), joined(run, trial, 0.0))


def test_what_is_not_known_stays_so() -> None:
    found = joined([0.9, math.nan, 0.5], [-0.7, -0.2, -0.4], 1.0)
    assert list(np.isnan(found)) == [False, True, False]
    assert np.isnan(joined([math.nan] * 2, [1.0, 2.0], 1.0)).all()


def test_a_promise_is_of_the_five_picks_whose_evidence_rose_most_alike() -> None:
    high, low = forecast().promise(0.5), forecast().promise(0.0)
    assert (high.points, high.low, high.high, high.helped, high.cases) == (pytest.approx(8.6), -1.0, 20.0, 4, 5)
    assert (low.points, low.helped) == (pytest.approx(4.0), 3)
    assert forecast().promise(0.4, leave_out="a").points == pytest.approx(4.0)


def test_the_error_forecasts_each_target_from_the_others() -> None:
    errors = [
        forecast().promise(rise, name).points - gain for name, rise, gain in zip(NAMES, RISES, GAINS, strict=True)
    ]
    assert forecast().error == pytest.approx(math.sqrt(np.mean(np.square(errors))))


def test_it_comes_back_from_json() -> None:
    written = json.loads(json.dumps(forecast().as_dict()))
    assert TrialForecast.from_dict(written, "here") == forecast()
    longer = replace(forecast(), converged=Converged(600, 6, 0.5, 1.0, -1.0, 3.0))
    assert TrialForecast.from_dict(json.loads(json.dumps(longer.as_dict())), "here") == longer
    assert TrialForecast.from_dict(None, "here") is None
    assert TrialForecast.from_dict({**written, "picks": written["picks"][:5]}, "here") is None


@pytest.mark.parametrize(
    "changed",
    [
        3,
        [],
        {},
        {"picks": 3},
        {"picks": [{"target": "a"}]},
        {"steps": "many"},
        {"picks": [{"target": "a", "rise": "nan", "gain": 1}] * 6},
    ],
)
def test_what_cannot_be_read_is_said(changed: object) -> None:
    written = {**forecast().as_dict(), **changed} if isinstance(changed, dict) and changed else changed
    with pytest.raises(FormatError, match="here has a forecast of trials"):
        TrialForecast.from_dict(written, "here")
