"""Layout: scaling that keeps distances, an order that keeps neighbours, and neither changes between runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.publish import layout
from tupate_hub.publish.layout import coordinates, seriate


def cosines(vectors: np.ndarray) -> np.ndarray:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


def distances(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points[:, None] - points[None], axis=-1)


def clusters(*sizes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of groups of similar vectors, shuffled, and which group each is of."""
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    centres = np.linalg.qr(rng.standard_normal((30, len(sizes))))[0].T
    return cosines(centres[group] + 0.08 * rng.standard_normal((len(group), 30))), group


# --- coordinates -----------------------------------------------------------------------------------------------


@given(st.integers(2, 12), st.integers(0, 10_000))
def test_all_coordinates_together_keep_every_distance(tasks: int, seed: int) -> None:
    scores = cosines(np.random.default_rng(seed).standard_normal((tasks, 20)))
    points, shares = coordinates(scores, tasks)
    np.testing.assert_allclose(distances(points) ** 2, 2 - 2 * scores, atol=1e-8)
    assert shares.sum() == pytest.approx(1)
    assert (np.diff(shares) <= 1e-12).all()


def test_the_points_of_a_plane_are_found_again() -> None:
    angles = np.array([0.0, 0.3, 1.0, 2.0, 4.0])
    scores = cosines(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    points, shares = coordinates(scores, 4)
    np.testing.assert_allclose(distances(points[:, :2]), distances(np.stack([np.cos(angles), np.sin(angles)], axis=1)))
    assert np.abs(points[:, 2:]).max() == 0
    np.testing.assert_allclose(shares[2:], 0)


@given(st.integers(0, 1000))
def test_the_largest_value_of_each_coordinate_is_positive(seed: int) -> None:
    points, _ = coordinates(cosines(np.random.default_rng(seed).standard_normal((9, 12))), 5)
    assert all(axis[np.argmax(np.abs(axis))] > 0 for axis in points.T)


def test_an_order_of_the_tasks_changes_no_point() -> None:
    scores, _ = clusters(3, 4, 5)
    turned = np.random.default_rng(1).permutation(len(scores))
    points, again = coordinates(scores, 3)[0], coordinates(scores[np.ix_(turned, turned)], 3)[0]
    np.testing.assert_allclose(again, points[turned], atol=1e-9)


@pytest.mark.parametrize("tasks", [0, 1])
def test_a_task_alone_lies_in_the_middle(tasks: int) -> None:
    points, shares = coordinates(np.ones((tasks, tasks)), 2)
    assert points.shape == (tasks, 2)
    assert not points.any()
    assert not shares.any()


def test_tasks_that_are_all_the_same_lie_in_one_place() -> None:
    points, shares = coordinates(np.ones((4, 4)), 2)
    assert np.isfinite(points).all()
    assert not points.any()
    assert not shares.any()


def test_landmarks_place_the_others_where_the_whole_would(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(3).standard_normal((60, 3))  # three dimensions: 20 landmarks know them all
    scores = cosines(vectors)
    whole = distances(coordinates(scores, 3)[0])
    monkeypatch.setattr(layout, "MOST_LANDMARKS", 20)
    points, _ = coordinates(scores, 3)
    assert points.shape == (60, 3)
    np.testing.assert_allclose(distances(points), whole, atol=1e-8)


@pytest.mark.parametrize("sizes", [(5,), (1,) * 6, (2, 2, 2), (3, 3), (4, 1, 1, 1)], ids=str)
def test_what_an_eigensolver_leaves_open_is_settled(sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal tasks and equal groups have eigenvalues many times; another machine's solver may give any basis of them."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    scores = np.where(group[:, None] == group, 0.5, 0.0)
    np.fill_diagonal(scores, 1)
    expected, shares = coordinates(scores, 5)
    solve, rng = np.linalg.eigh, np.random.default_rng(len(sizes))

    def elsewhere(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, vectors = solve(matrix)
        for one in np.unique(np.round(values, 9)):
            same = np.abs(values - one) < 1e-9
            turned = np.linalg.qr(rng.standard_normal((same.sum(), same.sum())))[0]
            vectors[:, same] = vectors[:, same] @ turned
        return values + 1e-15 * rng.standard_normal(len(values)), vectors

    monkeypatch.setattr(np.linalg, "eigh", elsewhere)
    for _ in range(5):
        points, again = coordinates(scores, 5)
        np.testing.assert_allclose(points, expected, atol=1e-12)
        np.testing.assert_allclose(again, shares, atol=1e-12)


# --- seriate ---------------------------------------------------------------------------------------------------


@given(st.integers(0, 12), st.integers(0, 10_000))
def test_an_order_has_every_task_once(tasks: int, seed: int) -> None:
    scores = cosines(np.random.default_rng(seed).standard_normal((tasks, 5))) if tasks else np.zeros((0, 0))
    assert sorted(seriate(scores)) == list(range(tasks))


@pytest.mark.parametrize("seed", range(5))
def test_tasks_of_a_group_stand_together(seed: int) -> None:
    scores, group = clusters(6, 3, 9, 2, seed=seed)
    changes = np.count_nonzero(np.diff(group[seriate(scores)]))
    assert changes == 3


def test_a_chain_is_unrolled_end_to_end() -> None:
    places = np.array([3, 0, 5, 1, 4, 2])
    scores = np.exp(-0.5 * (places[:, None] - places[None]) ** 2.0)
    scores += np.eye(6) * 1e-9
    found = places[seriate(scores)].tolist()
    assert found in ([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0])


def test_noise_of_the_last_digits_changes_no_order() -> None:
    scores, _ = clusters(4, 4, 4)
    noise = 1e-12 * np.random.default_rng(2).standard_normal(scores.shape)
    assert seriate(np.round(scores, 5) + noise + noise.T) == seriate(np.round(scores, 5))


def test_the_matrix_that_was_given_stays_as_it_was() -> None:
    scores, _ = clusters(2, 3)
    before = scores.copy()
    seriate(scores)
    coordinates(scores, 2)
    np.testing.assert_array_equal(scores, before)
