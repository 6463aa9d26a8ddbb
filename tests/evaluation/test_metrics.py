"""Metrics: cases computed by hand, brute force over orders of ties, and what must not change a metric."""

import math
from itertools import pairwise, permutations
from math import log2

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tupate_hub.errors import FormatError
from tupate_hub.evaluation import metrics
from tupate_hub.evaluation.metrics import METRICS, roc_area, standard_errors_above

SCORES = np.array([0.9, 0.5, 0.7])
BACKWARDS = np.array([1.0, 3.0, 2.0])

values = st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0]), min_size=2, max_size=6)


@st.composite
def pairs(draw, ties=True):
    scores = draw(values)
    levels = st.integers(0, 2 if ties else 10_000)
    prediction = draw(st.lists(levels, min_size=len(scores), max_size=len(scores), unique=not ties))
    return np.array(prediction, dtype=float), np.array(scores)


def over_all_orders(measure, prediction, scores):
    """The mean of a metric over every order that the prediction allows."""
    found = []
    for order in permutations(range(len(scores))):
        if all(prediction[a] >= prediction[b] for a, b in pairwise(order)):
            strict = np.empty(len(scores))
            strict[list(order)] = np.arange(len(scores), 0, -1)
            found.append(measure(strict, scores))
    return np.mean(found)


def test_ndcg_by_rank_by_hand():
    # relevance 2, 0, 1 and gains 3, 0, 1; predicted order: the 0, the 1, the 3
    expected = (0 + 1 / log2(3) + 3 / 2) / (3 + 1 / log2(3))
    assert metrics.ndcg_by_rank(BACKWARDS, SCORES) == pytest.approx(expected, abs=1e-12)
    assert expected == pytest.approx(0.586883, abs=1e-6)


def test_ndcg_of_a_tie_by_hand():
    expected = (4 / 3) * (1 + 1 / log2(3) + 1 / 2) / (3 + 1 / log2(3))
    assert metrics.ndcg_by_rank(np.zeros(3), SCORES) == pytest.approx(expected, abs=1e-12)


def test_ndcg_by_score_by_hand():
    gains = 2**SCORES - 1
    expected = (gains[1] + gains[2] / log2(3) + gains[0] / 2) / (gains[0] + gains[2] / log2(3) + gains[1] / 2)
    assert metrics.ndcg_by_score(BACKWARDS, SCORES) == pytest.approx(expected, abs=1e-12)


def test_scores_below_zero_count_as_zero_for_score_relevance():
    low = np.array([0.5, -0.2, -0.9])
    assert metrics.ndcg_by_score(BACKWARDS, low) == metrics.ndcg_by_score(BACKWARDS, np.array([0.5, 0.0, 0.0]))


def test_relevance_shares_ties():
    assert metrics.ranks_above([0.5, 0.9, 0.5, 0.1]).tolist() == [1, 3, 1, 0]


def test_thousands_of_sources_do_not_overflow():
    scores = np.arange(5_000.0)
    assert metrics.ndcg_by_rank(scores, scores) == pytest.approx(1)
    assert 0 <= metrics.ndcg_by_rank(-scores, scores) < 0.2
    assert metrics.ndcg([2, 1], [3000, 2999]) == pytest.approx(1)
    assert metrics.ndcg([1, 2], [3000, 2999]) == pytest.approx((0.5 + 1 / log2(3)) / (1 + 0.5 / log2(3)))


def test_tiny_relevances_keep_their_ratio():
    assert metrics.ndcg([1, 2], [2e-14, 1e-14]) == pytest.approx((1 + 2 / log2(3)) / (2 + 1 / log2(3)))


def test_nothing_relevant_is_ideally_ordered():
    assert metrics.ndcg([1, 2, 3], [0, 0, 0]) == 1
    assert metrics.ndcg_by_rank([1, 2, 3], [0.4, 0.4, 0.4]) == 1


@pytest.mark.parametrize(("k", "points"), [(1, 0.4), (2, 0.2), (3, 0.0), (5, 0.0)])
def test_regret_by_hand(k, points):
    assert metrics.regret(BACKWARDS, SCORES, k) == pytest.approx(points)
    assert metrics.relative_regret(BACKWARDS, SCORES, k) == pytest.approx(100 * points / 0.9)


def test_regret_of_a_tie_by_hand():
    # two of .9, .5, .7 at random: the best is .9 in two of three draws and .7 in the third
    assert metrics.best_within(np.zeros(3), SCORES, 2) == pytest.approx((2 * 0.9 + 0.7) / 3)
    # the first place is certain (.5), the second is .9 or .7
    assert metrics.best_within([1, 2, 1], SCORES, 2) == pytest.approx(0.8)


def test_relative_regret_where_the_best_is_nothing():
    assert np.isnan(metrics.relative_regret([1, 2], [0.0, -0.5], 1))
    assert metrics.relative_regret([2, 1], [0.0, -0.5], 1) == 0


def test_regret_of_nothing_tried_is_refused():
    with pytest.raises(FormatError, match="k is at least 1"):
        metrics.regret([1, 2], [1, 2], 0)


def test_rank_of_best_by_hand():
    assert metrics.rank_of_best(BACKWARDS, SCORES) == 3
    assert metrics.rank_of_best(np.zeros(3), SCORES) == 2
    assert metrics.rank_of_best([3, 2, 2, 1], [0.1, 0.9, 0.2, 0.3]) == 2.5
    # two best ones, met at places 2 and 3
    assert metrics.rank_of_best([4, 3, 2, 1], [0.1, 0.9, 0.9, 0.3]) == 2


def test_spearman_by_hand():
    assert metrics.spearman(BACKWARDS, SCORES) == pytest.approx(-1)
    # d = 1, -1, 0, 0: 1 - 6 * 2 / (4 * 15)
    assert metrics.spearman([1, 2, 3, 4], [2, 1, 3, 4]) == pytest.approx(0.8)
    assert metrics.spearman([1, 1, 1], SCORES) == 0


@pytest.mark.parametrize(
    ("prediction", "scores"),
    [([1, 2], [1, 2, 3]), ([], []), ([[1, 2]], [[1, 2]]), ([1, np.nan], [1, 2]), ([1, 2], [1, np.inf])],
)
@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_bad_arrays_are_refused(metric, prediction, scores):
    with pytest.raises(FormatError):
        metric.measure(prediction, scores)


def test_negative_relevance_is_refused():
    with pytest.raises(FormatError, match="negative"):
        metrics.ndcg([1, 2], [1, -1])


@given(pairs())
def test_ndcg_lies_between_zero_and_one(pair):
    for measure in (metrics.ndcg_by_rank, metrics.ndcg_by_score):
        assert 0 <= measure(*pair) <= 1


@given(values)
def test_the_ideal_order_is_perfect(scores):
    scores = np.array(scores)
    assert metrics.ndcg_by_rank(scores, scores) == pytest.approx(1)
    assert metrics.ndcg_by_score(scores, scores) == pytest.approx(1)
    assert metrics.regret(scores, scores, 1) == 0
    assert metrics.rank_of_best(scores, scores) == 1


@given(pairs(ties=False))
def test_only_the_ideal_order_is_perfect(pair):
    prediction, scores = pair
    ordered = scores[np.argsort(-prediction)]
    assume((np.diff(ordered) > 0).any())
    assert metrics.ndcg_by_rank(prediction, scores) < 1 - 1e-9


@given(pairs())
def test_ties_are_the_mean_over_their_orders(pair):
    for name in ("ndcg_rank", "ndcg_score", "regret@1", "regret@3", "rank_of_best"):
        measure = METRICS[name].measure
        assert measure(*pair) == pytest.approx(over_all_orders(measure, *pair), abs=1e-9), name


@given(pairs(), st.randoms())
def test_the_order_of_the_sources_does_not_matter(pair, random):
    order = list(range(len(pair[0])))
    random.shuffle(order)
    for metric in METRICS.values():
        moved = metric.measure(pair[0][order], pair[1][order])
        assert moved == pytest.approx(metric.measure(*pair), abs=1e-9, nan_ok=True), metric.name


@given(pairs())
def test_only_the_order_of_the_prediction_matters(pair):
    prediction, scores = pair
    for metric in METRICS.values():
        stretched = metric.measure(np.exp(3 * prediction) - 7, scores)
        assert stretched == pytest.approx(metric.measure(prediction, scores), abs=1e-9, nan_ok=True), metric.name


@given(pairs())
def test_rank_metrics_see_only_the_order_of_the_scores(pair):
    prediction, scores = pair
    for name in ("ndcg_rank", "rank_of_best", "spearman"):
        measure = METRICS[name].measure
        assert measure(prediction, scores**3 + 5) == pytest.approx(measure(prediction, scores), abs=1e-9), name


@given(pairs(), st.floats(0.1, 10), st.floats(-5, 5))
def test_regret_scales_with_the_scores_and_ignores_their_origin(pair, scale, shift):
    prediction, scores = pair
    moved = metrics.regret(prediction, scale * scores + shift, 2)
    assert moved == pytest.approx(scale * metrics.regret(prediction, scores, 2), abs=1e-9)


@given(pairs())
def test_regret_falls_as_more_is_tried(pair):
    losses = [metrics.regret(*pair, k) for k in range(1, len(pair[0]) + 1)]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(losses))
    assert losses[-1] == 0


@given(pairs())
def test_spearman_agrees_with_scipy(pair):
    stats = pytest.importorskip("scipy.stats")
    assume(min(len(np.unique(side)) for side in pair) > 1)
    assert metrics.spearman(*pair) == pytest.approx(stats.spearmanr(*pair).statistic, abs=1e-9)


@given(pairs())
def test_spearman_turns_its_sign_with_the_prediction(pair):
    assert metrics.spearman(-pair[0], pair[1]) == pytest.approx(-metrics.spearman(*pair), abs=1e-12)


def test_the_interval_holds_the_mean_and_is_reproducible():
    sample = np.random.default_rng(3).normal(5, 2, size=40)
    low, high = metrics.bootstrap_interval(sample, seed=1)
    assert low < sample.mean() < high
    # the normal interval of the mean is 2 * 1.96 * sd / sqrt(n) wide
    assert high - low == pytest.approx(2 * 1.96 * sample.std() / np.sqrt(40), rel=0.1)
    assert metrics.bootstrap_interval(sample, seed=1) == (low, high)
    assert metrics.bootstrap_interval(sample, seed=2) != (low, high)


def test_a_wider_level_gives_a_wider_interval():
    sample = np.arange(20.0)
    narrow, wide = (metrics.bootstrap_interval(sample, level=level) for level in (0.5, 0.99))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_equal_values_have_an_interval_of_no_width_and_one_value_has_none():
    assert metrics.bootstrap_interval([0.25, 0.25, 0.25]) == (0.25, 0.25)
    assert np.isnan(metrics.bootstrap_interval([0.25])).all()
    assert np.isnan(metrics.bootstrap_interval([])).all()


def test_every_metric_has_its_own_name():
    assert all(name == metric.name and metric.summary for name, metric in METRICS.items())
    assert {name for name, metric in METRICS.items() if metric.higher_is_better} == {
        "ndcg_rank",
        "ndcg_score",
        "spearman",
    }


# --- runs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("positives", "negatives", "area"),
    [
        ([2, 3], [0, 1], 1.0),
        ([0, 1], [2, 3], 0.0),
        ([1], [1], 0.5),
        ([1, 3], [2], 0.5),
        ([2, 2], [1, 2, 3], 0.5),
        ([3, 2, 0], [1, 2], 7 / 12),  # 3 above both; 2 above 1 and level with 2; 0 above none: 3.5 of 6
        ([1], [0, 0, 0, 1], 0.875),
    ],
)
def test_roc_area_by_hand(positives, negatives, area):
    assert roc_area(positives, negatives) == pytest.approx(area)


small = st.lists(st.integers(-5, 5), min_size=1, max_size=12)


@given(small, small)
def test_roc_area_counts_the_pairs(positives, negatives):
    pairs = [(one > other) + (one == other) / 2 for one in positives for other in negatives]
    assert roc_area(positives, negatives) == pytest.approx(sum(pairs) / len(pairs))
    assert roc_area(negatives, positives) == pytest.approx(1 - roc_area(positives, negatives))


@given(small, small, st.data())
def test_a_weight_counts_a_score_as_often_as_it_says(positives, negatives, data):
    times = [data.draw(st.lists(st.integers(1, 3), min_size=len(x), max_size=len(x))) for x in (positives, negatives)]
    repeated = [np.repeat(side, counts) for side, counts in zip((positives, negatives), times, strict=True)]
    assert roc_area(positives, negatives, *times) == pytest.approx(roc_area(*repeated))


def test_a_score_without_weight_does_not_count():
    assert roc_area([5, 0], [1], [1, 0]) == 1.0
    assert roc_area([2], [1, 3], None, [0, 2]) == 0.0


@pytest.mark.parametrize(
    "arguments",
    [([], [1]), ([1], []), ([math.nan], [1]), ([1], [[1]]), ([1], [1], [0]), ([1], [1], [-1]), ([1], [1], [1, 1])],
)
def test_no_roc_area_without_two_sides(arguments):
    with pytest.raises(FormatError, match="give no ROC curve"):
        roc_area(*arguments)


@pytest.mark.parametrize(
    ("score", "baseline", "examples", "errors"),
    [(0.55, 0.5, 400, 2.0), (0.5, 0.5, 10, 0.0), (0.45, 0.5, 400, -2.0), (0.93, 0.9, 900, 3.0), (0.1, 0.0, 100, 10.0)],
)
def test_standard_errors_above_a_baseline(score, baseline, examples, errors):
    assert standard_errors_above(score, baseline, examples) == pytest.approx(errors)


@pytest.mark.parametrize("metric", ["matthews_correlation", "pearson_and_spearman"])
def test_a_correlation_s_error_is_that_of_zero(metric):
    assert standard_errors_above(0.1, 0.0, 400, metric) == pytest.approx(2.0)
    assert standard_errors_above(0.1, 0.0, 400, "accuracy") == pytest.approx(20.0)


def test_a_score_that_is_not_known_is_not_above():
    assert math.isnan(standard_errors_above(math.nan, 0.5, 100))
