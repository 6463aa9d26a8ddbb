"""Order, percentiles and ties: what turns scores into a ranking."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.compare.ranking import TIE, Neighbor, Ranking, order, percentiles, reciprocal_rank_fusion, tied

scores = st.lists(st.floats(-1, 1), max_size=12)


def neighbor(rank: int, task: str) -> Neighbor:
    return Neighbor(rank, task, 1 / rank, None)


def test_the_highest_score_comes_first() -> None:
    assert order(np.array([0.1, 0.9, -0.5]), ["a", "b", "c"]) == [1, 0, 2]


def test_equal_scores_come_in_order_of_their_names() -> None:
    assert order(np.array([0.5, 0.5, 0.9, 0.5]), ["c", "a", "d", "b"]) == [2, 1, 3, 0]


@given(scores, st.randoms(use_true_random=False))
def test_the_order_of_names_does_not_depend_on_the_order_in_the_zoo(values: list[float], random: object) -> None:
    names = [f"t{number:02d}" for number in range(len(values))]
    ranked = [names[row] for row in order(np.array(values), names)]
    rows = list(range(len(values)))
    random.shuffle(rows)
    shuffled = [names[row] for row in rows]
    again = order(np.array([values[row] for row in rows]), shuffled)
    assert [shuffled[row] for row in again] == ranked
    by_name = dict(zip(names, values, strict=True))
    assert [by_name[name] for name in ranked] == sorted(values, reverse=True)


def test_nothing_has_an_order() -> None:
    assert order(np.array([]), []) == []


def test_a_percentile_is_the_share_of_pairs_below() -> None:
    pairs = np.array([0.0, 0.1, 0.2, 0.3])
    np.testing.assert_allclose(percentiles(np.array([-1, 0.05, 0.15, 1]), pairs), [0, 25, 50, 100])


def test_pairs_of_the_same_score_count_half() -> None:
    np.testing.assert_allclose(percentiles(np.array([0.1, 0.5]), np.array([0.1, 0.1, 0.1, 0.5])), [37.5, 87.5])


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=12), st.lists(st.floats(-1, 1), min_size=1, max_size=5))
def test_percentiles_are_counted_one_by_one(pairs: list[float], asked: list[float]) -> None:
    expected = [
        100 * (sum(pair < one for pair in pairs) + sum(pair == one for pair in pairs) / 2) / len(pairs) for one in asked
    ]
    np.testing.assert_allclose(percentiles(np.array(asked), np.array(pairs)), expected)


def test_percentiles_take_pairs_of_any_shape_and_none() -> None:
    np.testing.assert_allclose(percentiles(np.array([0.5]), np.array([[0.0, 1.0], [0.2, 0.3]])), [75])
    np.testing.assert_allclose(percentiles(np.array([[0.5, 2.0]]), np.array([0.0, 1.0])), [[50, 100]])
    np.testing.assert_allclose(percentiles(np.array([0.5]), np.array([])), [0])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], []),
        ([0.5], [False]),
        ([0.5, 0.5], [True, True]),
        ([0.9, 0.5, 0.5 - TIE / 2, 0.1], [False, True, True, False]),
        ([0.5, 0.5 - TIE / 2, 0.5 - TIE], [True, True, True]),
        ([0.5, 0.5 - 2 * TIE], [False, False]),
    ],
)
def test_neighbours_closer_than_the_files_can_tell_are_tied(values: list[float], expected: list[bool]) -> None:
    assert tied(values) == expected


@given(scores)
def test_every_score_is_tied_or_not(values: list[float]) -> None:
    ordered = sorted(values, reverse=True)
    found = tied(ordered)
    assert len(found) == len(ordered)
    assert found.count(True) != 1


def test_a_ranking_is_walked_in_its_order() -> None:
    ranking = Ranking("q", "tiny/lora", "update", False, (neighbor(1, "b"), neighbor(2, "a")))
    assert len(ranking) == 2
    assert [one.task for one in ranking] == ["b", "a"]


def test_a_ranking_cannot_be_changed() -> None:
    ranking = Ranking("q", "tiny/lora", "update", False, (neighbor(1, "b"),))
    with pytest.raises(FrozenInstanceError):
        ranking.neighbors = ()
    with pytest.raises(FrozenInstanceError):
        ranking.neighbors[0].score = 2.0


def test_fusing_one_ranking_keeps_it() -> None:
    values, names = np.array([[0.2, 0.9, 0.5]]), ["a", "b", "c"]
    fused = reciprocal_rank_fusion(values, names)
    np.testing.assert_allclose(fused, [1 / 63, 1 / 61, 1 / 62])
    assert order(fused, names) == order(values[0], names)


def test_fusion_adds_up_the_reciprocal_ranks() -> None:
    fused = reciprocal_rank_fusion(np.array([[3.0, 2.0, 1.0], [1.0, 3.0, 2.0]]), ["a", "b", "c"], constant=1)
    np.testing.assert_allclose(fused, [1 / 2 + 1 / 4, 1 / 3 + 1 / 2, 1 / 4 + 1 / 3])


@given(st.lists(st.lists(st.floats(-1, 1), min_size=4, max_size=4), min_size=1, max_size=4))
def test_fusion_sees_ranks_alone(rows: list[list[float]]) -> None:
    names = ["a", "b", "c", "d"]
    positions = [[order(np.array(row), names).index(item) for item in range(4)] for row in rows]
    expected = [sum(1 / (61 + position[item]) for position in positions) for item in range(4)]
    np.testing.assert_allclose(reciprocal_rank_fusion(np.array(rows), names), expected)
