"""Strength and gain: planted effects are found, shrunk where little was measured, and never seen on their own target."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.evaluation.gain import fit_gain, gain_without_target, without, z_scores
from tupate_hub.evaluation.strength import Traits, fit_strengths, strength_without_target
from tupate_hub.evaluation.truth import Truth

SOURCES = tuple(f"s{number:02}" for number in range(12))
TARGETS = tuple(f"t{number:02}" for number in range(10))


def planted(seed: int = 0, noise: float = 0.3, affinity_weight: float = 0.0) -> tuple[Truth, np.ndarray, np.ndarray]:
    """A table made of source effects, affinities and noise; with it the effects and the affinities."""
    rng = np.random.default_rng(seed)
    strengths, affinity = rng.normal(size=len(SOURCES)), rng.normal(size=(len(TARGETS), len(SOURCES)))
    scores = 70 + 3 * (strengths + affinity_weight * affinity + noise * rng.normal(size=affinity.shape))
    truth = Truth(TARGETS, SOURCES, scores, np.full(len(TARGETS), 69.0), ("accuracy",) * len(TARGETS))
    return truth, strengths, affinity


def test_planted_strengths_come_out_in_order() -> None:
    truth, strengths, _ = planted()
    found = fit_strengths([truth], {})
    values = np.array([found[source].value for source in SOURCES])
    assert np.corrcoef(values, strengths)[0, 1] > 0.97
    assert all(found[source].targets == len(TARGETS) and 0 < found[source].error < 0.5 for source in SOURCES)


def test_what_was_measured_seldom_is_drawn_to_the_average() -> None:
    truth, strengths, _ = planted()
    best = int(strengths.argmax())
    rare = truth.scores.copy()
    rare[1:, best] = np.nan
    often, seldom = (fit_strengths([one], {})[SOURCES[best]] for one in (truth, replace(truth, scores=rare)))
    assert seldom.targets == 1
    assert seldom.error > often.error
    assert 0 < seldom.value < truth.effects()[0, best]


def test_a_source_without_measurement_gets_what_its_size_and_kind_let_expect() -> None:
    truth, strengths, _ = planted(noise=0.1)
    order = np.argsort(strengths)
    traits = {SOURCES[at]: Traits("qa" if place < 6 else "nli", 10 ** (place + 1)) for place, at in enumerate(order)}
    traits |= {"large": Traits("nli", 10**11), "small": Traits("qa", 50), "unknown": Traits()}
    found = fit_strengths([truth], traits)
    assert found["large"].value > 0.2 > -0.2 > found["small"].value
    assert found["unknown"].value == pytest.approx(0, abs=1e-9)
    assert found["large"].targets == 0
    assert found["unknown"].error > found[SOURCES[0]].error


def test_nothing_measured_is_no_error() -> None:
    found = fit_strengths([], {"a": Traits("qa", 5)})
    assert (found["a"].value, found["a"].targets) == (0.0, 0)
    assert found["a"].error > 0


def test_two_tables_about_one_target_count_once() -> None:
    truth, _, _ = planted()
    once, twice = fit_strengths([truth], {}), fit_strengths([truth, truth], {})
    for source in SOURCES:
        assert twice[source].value == pytest.approx(once[source].value)
        assert twice[source].targets == once[source].targets


@pytest.mark.parametrize("predict", [lambda truth, x: strength_without_target(truth, {}),
                                     lambda truth, x: gain_without_target(truth, x, {})])  # fmt: skip
def test_a_target_is_never_seen_by_its_own_prediction(predict) -> None:
    truth, _, affinity = planted(affinity_weight=1.0)
    changed = truth.scores.copy()
    changed[3] = changed[3, ::-1] ** 2
    before, after = predict(truth, affinity), predict(replace(truth, scores=changed), affinity)
    np.testing.assert_allclose(before[3], after[3])
    assert not np.allclose(before[2], after[2])


def test_the_weights_follow_what_was_planted() -> None:
    strong, _, affinity = planted(1, affinity_weight=0.0)
    near, _, close = planted(1, affinity_weight=3.0)
    first, second = fit_gain([strong], [affinity], {}), fit_gain([near], [close], {})
    assert first.affinity < 0.2 < 0.7 < second.affinity
    assert first.strength > second.strength
    assert (first.targets, second.targets) == (len(TARGETS), len(TARGETS))


def test_both_together_beat_either() -> None:
    from tupate_hub.evaluation.evaluate import evaluate

    truth, _, affinity = planted(2, affinity_weight=1.0)
    reached = {
        name: evaluate(prediction, truth).summary("ndcg_rank").mean
        for name, prediction in {
            "affinity": affinity,
            "strength": strength_without_target(truth, {}),
            "gain": gain_without_target(truth, affinity, {}),
        }.items()
    }
    assert reached["gain"] > max(reached["affinity"], reached["strength"]) + 0.02


def test_what_a_kind_adds_to_a_kind_is_found_and_used_where_kinds_are_known() -> None:
    truth, _, affinity = planted(3, affinity_weight=1.0)
    traits = {name: Traits("qa" if at % 2 else "nli") for names in (SOURCES, TARGETS) for at, name in enumerate(names)}
    same = np.array([[traits[target].kind == traits[source].kind for source in SOURCES] for target in TARGETS])
    kindred = replace(truth, scores=truth.scores + 6.0 * same)
    model = fit_gain([kindred], [affinity], traits)
    assert min(model.kinds["qa"]["qa"], model.kinds["nli"]["nli"]) > 0.3
    assert max(model.kinds["qa"]["nli"], model.kinds["nli"]["qa"]) < -0.3
    level = [0.1, 0.1, 0.2], [0.0, 0.0, 0.0]
    order = model.expected(*level, "qa", ["nli", "qa", ""])
    assert order[1] - order[0] == pytest.approx(model.kinds["qa"]["qa"] - model.kinds["qa"]["nli"])
    np.testing.assert_array_equal(
        model.expected(*level, "", ["nli", "qa", ""]), model.expected(*level, "tags", ["qa"] * 3)
    )
    assert fit_gain([kindred], [affinity], {}).kinds == {}


def test_a_kind_counts_targets_and_neither_their_sources_nor_their_tables() -> None:
    truth, _, affinity = planted(4)
    traits = {name: Traits("qa") for name in (*SOURCES[:3], TARGETS[0])}
    boosted = truth.scores.copy()
    boosted[0, :3] += 9.0
    one = replace(truth, scores=boosted)
    once, twice = fit_gain([one], [affinity], traits), fit_gain([one, one], [affinity] * 2, traits)
    assert list(once.kinds) == ["qa"] and list(once.kinds["qa"]) == ["qa"]
    unexplained = one.effects()[0, :3].mean()
    assert 0.2 < once.kinds["qa"]["qa"] < 0.6 * unexplained  # a single target says half of it
    assert twice.kinds["qa"]["qa"] == pytest.approx(once.kinds["qa"]["qa"], abs=0.05)


def test_sources_that_were_not_measured_do_not_disturb() -> None:
    truth, _, affinity = planted(affinity_weight=1.0)
    wider = replace(
        truth,
        sources=(*SOURCES, "z-unmeasured"),
        scores=np.concatenate([truth.scores, np.full((len(TARGETS), 1), np.nan)], axis=1),
    )
    more = np.concatenate([affinity, np.full((len(TARGETS), 1), 50.0)], axis=1)
    np.testing.assert_allclose(
        gain_without_target(wider, more, {})[:, :-1], gain_without_target(truth, affinity, {}), atol=1e-9
    )


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=9), st.floats(0.1, 10), st.floats(-5, 5))
def test_z_scores_do_not_know_units(values: list[float], factor: float, shift: float) -> None:
    array = np.array(values)
    if array.std() < 1e-3:
        return
    np.testing.assert_allclose(z_scores(array * factor + shift), z_scores(array), atol=1e-6)


def test_a_target_that_all_sources_serve_alike_teaches_nothing() -> None:
    truth, _, _ = planted()
    flat = truth.scores.copy()
    flat[0] = 50.0
    assert (replace(truth, scores=flat).effects()[0] == 0).all()
    assert without(truth, TARGETS[0]).targets == TARGETS[1:]
    assert without(truth, "absent").targets == TARGETS
