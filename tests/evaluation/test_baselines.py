"""Baselines: computed by hand, and blind to the target they are judged on."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.errors import FormatError
from tupate_hub.evaluation.baselines import BASELINES, data_size, judge, random_order, source_mean
from tupate_hub.evaluation.evaluate import evaluate
from tupate_hub.evaluation.truth import Truth, read_truth

SHARED = Path(__file__).parents[3] / "shared"
NAMES = ("a", "b", "c")
SCORES = np.array([[9.0, 5.0, 3.0], [8.0, 9.0, 2.0], [1.0, 7.0, 9.0]])


def square(scores, names=NAMES):
    return Truth(names, names, np.asarray(scores, dtype=float), np.zeros(len(names)), ("acc",) * len(names))


squares = st.integers(3, 6).flatmap(
    lambda n: st.lists(st.lists(st.integers(0, 100), min_size=n, max_size=n), min_size=n, max_size=n)
)


def named(scores):
    return square(scores, tuple("abcdef"[: len(scores)]))


def test_source_means_by_hand():
    # with two sources a row's effects are +1 and -1, without the diagonal
    effects = np.array([[0, 1, -1], [1, 0, -1], [-1, 1, 0]])
    totals = effects.sum(axis=0) - effects
    expected = totals / np.array([[2, 1, 1], [1, 2, 1], [1, 1, 2]])
    np.testing.assert_allclose(source_mean(square(SCORES)), expected)


@given(squares, st.data())
def test_source_means_do_not_see_their_target(scores, data):
    truth = named(scores)
    row = data.draw(st.integers(0, len(scores) - 1))
    changed = truth.scores.copy()
    changed[row] = data.draw(st.lists(st.integers(0, 100), min_size=len(scores), max_size=len(scores)))
    np.testing.assert_array_equal(source_mean(named(changed))[row], source_mean(truth)[row])


@given(squares)
def test_source_means_do_not_see_the_diagonal(scores):
    without = np.array(scores, dtype=float)
    np.fill_diagonal(without, np.nan)
    np.testing.assert_array_equal(source_mean(named(without)), source_mean(named(scores)))


@given(squares, st.floats(0.5, 20), st.floats(-10, 10))
def test_source_means_do_not_depend_on_a_targets_scale(scores, scale, shift):
    moved = np.array(scores, dtype=float)
    moved[0] = scale * moved[0] + shift
    np.testing.assert_allclose(source_mean(named(moved)), source_mean(named(scores)), atol=1e-9)


def test_a_good_source_is_found_by_its_mean():
    generator = np.random.default_rng(0)
    scores = generator.normal(0.5, 0.02, size=(8, 8)) + np.linspace(0, 0.4, 8)
    truth = square(scores, tuple("abcdefgh"))
    assert evaluate(source_mean, truth).summary("spearman").mean > 0.9


def test_a_source_measured_nowhere_else_is_average():
    scores = SCORES.copy()
    scores[1:, 0] = np.nan
    truth = Truth(("x", "b", "c"), NAMES, scores, np.zeros(3), ("acc",) * 3)
    assert source_mean(truth)[0, 0] == 0


def test_equal_scores_have_no_effect():
    assert not source_mean(square(np.full((3, 3), 0.1))).any()


def test_random_is_the_mean_over_random_orders():
    truth = square(SCORES)
    generator = np.random.default_rng(1)
    exact = evaluate(random_order, truth)
    drawn = [evaluate(generator.random((3, 3)), truth) for _ in range(300)]
    for metric in ("ndcg_rank", "regret@1", "rank_of_best", "spearman"):
        mean = np.mean([report.summary(metric).mean for report in drawn])
        spread = np.std([report.summary(metric).mean for report in drawn]) / np.sqrt(300)
        assert exact.summary(metric).mean == pytest.approx(mean, abs=4 * spread), metric


def test_most_data_comes_first():
    predicted = data_size(square(SCORES), {"a": 10, "b": 1_000, "c": 100, "other": 5})
    assert predicted.tolist() == [[10, 1_000, 100]] * 3


def test_an_unknown_size_is_named():
    with pytest.raises(FormatError, match="known for b, c"):
        data_size(square(SCORES), {"a": 10})


def test_everything_is_judged_beside_the_baselines():
    truth = square(SCORES)
    reports = judge({"oracle": SCORES, "worst": -SCORES}, truth, sizes={"a": 3, "b": 2, "c": 1})
    assert [report.name for report in reports] == ["oracle", "worst", *BASELINES, "data-size"]
    assert [report.summary("rank_of_best").mean for report in reports[:3]] == [1, 2, 1.5]
    assert {report.targets for report in reports} == {NAMES}


def test_sizes_that_are_not_all_known_leave_their_baseline_out():
    assert [report.name for report in judge({}, square(SCORES), sizes={"a": 3})] == list(BASELINES)


@pytest.mark.skipif(not (SHARED / "truth").is_dir(), reason="the published results are not here")
@pytest.mark.parametrize(("table", "known"), [("roberta_base", 0.56), ("t5_small", 0.52)])
def test_the_published_source_means(table, known):
    truth = read_truth(SHARED / "truth" / f"su2022_prompt_{table}.csv")
    assert evaluate(source_mean, truth).summary("ndcg_rank").mean == pytest.approx(known, abs=0.01)


@pytest.mark.skipif(not (SHARED / "truth").is_dir(), reason="the published results are not here")
@pytest.mark.parametrize(("table", "known"), [("t5b_lora", 0.69), ("t5l_adapter", 0.74), ("roberta_finetune", 0.70)])
def test_the_published_source_means_of_taskweb(table, known):
    truth = read_truth(SHARED / "truth" / f"taskweb_{table}.csv")
    assert evaluate(source_mean, truth).summary("spearman").mean == pytest.approx(known, abs=0.02)
