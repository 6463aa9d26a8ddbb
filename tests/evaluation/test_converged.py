"""Converged: first picks against longer runs from nothing, read back, and in words."""

from __future__ import annotations

import pytest

from tupate_hub.errors import FormatError
from tupate_hub.evaluation.converged import Converged, FromNothing, against_converged

NOTHING = FromNothing(600, {"a": 0.50, "b": 0.60, "c": 0.70, "d": 0.80, "e": 0.90})


def test_gains_are_points_over_the_targets_that_have_both() -> None:
    found = against_converged({"a": 0.60, "b": 0.62, "c": 0.69, "d": 0.81, "elsewhere": 0.1}, NOTHING)
    assert found is not None
    assert (found.steps, found.targets, found.helped) == (600, 4, 0.75)
    assert found.gained == pytest.approx((10 + 2 - 1 + 1) / 4)
    assert -1 <= found.gained_low < found.gained < found.gained_high <= 10


def test_an_equal_score_does_not_help() -> None:
    found = against_converged(NOTHING.scores, NOTHING)
    assert found is not None
    assert (found.helped, found.gained) == (0.0, 0.0)


def test_three_targets_are_too_few() -> None:
    assert against_converged({"a": 0.6, "b": 0.7, "c": 0.8}, NOTHING) is None


def test_it_is_read_back_and_nothing_stays_nothing() -> None:
    found = against_converged({"a": 0.6, "b": 0.6, "c": 0.7, "d": 0.9}, NOTHING)
    assert found is not None
    assert Converged.from_dict(found.as_dict(), "here") == Converged(**found.as_dict())
    assert Converged.from_dict(None, "here") is None


@pytest.mark.parametrize("value", [[], "x", 3, {"steps": 1}, {**vars(Converged(1, 4, 1.0, 1.0, 0.0, float("nan")))}])
def test_what_is_no_comparison_is_refused(value: object) -> None:
    with pytest.raises(FormatError, match="is not a comparison with converged runs"):
        Converged.from_dict(value, "The space")


def test_in_words() -> None:
    assert Converged(600, 20, 0.75, 5.04, 2.0, 8.04).in_words == (
        "600 steps from nothing, such a first pick was ahead on 75% of 20 targets, by +5.0 points on average "
        "(+2.0 to +8.0)"
    )
