"""Maps: principal components are the best linear ones, the bent ones begin beside them."""

import numpy as np
import pytest

from tupate_hub.errors import FormatError
from tupate_hub.subspace.maps import Linear, Maps, linear_maps, pca, random_maps, with_tanh


@pytest.fixture
def x():
    rng = np.random.default_rng(5)
    plane = rng.standard_normal((20, 3)) @ rng.standard_normal((3, 40)) * 4
    return (plane + 0.1 * rng.standard_normal((20, 40)) + 7).astype(np.float32)


def error(maps, x):
    return float(((maps.decode(maps.encode(x)) - x) ** 2).sum())


def test_pca_is_the_best_of_the_linear_maps(x):
    """Eckart and Young: what is lost are the squared singular values beyond the first D, and no other plane loses less."""
    lengths = np.linalg.svd(x - x.mean(0), compute_uv=False)
    for dim in (1, 3, 6):
        assert error(pca(x, dim), x) == pytest.approx(float((lengths[dim:] ** 2).sum()), rel=1e-3)
        rng = np.random.default_rng(0)
        for _ in range(5):
            basis = np.linalg.qr(rng.standard_normal((40, dim)))[0].T
            assert error(linear_maps(x.mean(0), basis, np.ones(dim)), x) > error(pca(x, dim), x)


def test_coordinates_have_mean_zero_and_variance_one(x):
    codes = pca(x, 3).encode(x)
    np.testing.assert_allclose(codes.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(codes.std(0), 1, atol=1e-3)


def test_more_dimensions_than_tasks_reach_what_the_tasks_do_not(x):
    few = x[:5]
    maps = pca(few, 12, seed=1)
    np.testing.assert_allclose(maps.decode(maps.encode(few)), few, atol=1e-2)
    basis = maps.decoder[0].weight / np.linalg.norm(maps.decoder[0].weight, axis=0)
    np.testing.assert_allclose(basis.T @ basis, np.eye(12), atol=1e-4)
    assert error(maps, x[5:]) < error(pca(few, 4), x[5:])


def test_the_bent_maps_begin_beside_the_straight_ones(x):
    straight = pca(x, 3)
    bent = with_tanh(straight, 16)
    assert error(bent, x) < 0.05 * float(((x - x.mean(0)) ** 2).sum())
    near = np.full((1, 3), 0.05, dtype=np.float32)
    np.testing.assert_allclose(bent.decode(near), straight.decode(near), atol=2e-3)


def test_bent_maps_are_linear_tanh_linear():
    first = Linear(np.array([[2.0], [0.0]], dtype=np.float32), np.array([0.0, 1.0], dtype=np.float32))
    second = Linear(np.array([[1.0, 10.0]], dtype=np.float32), np.array([5.0], dtype=np.float32))
    maps = Maps(Linear(np.ones((1, 1)), np.zeros(1)), (first, second))
    assert maps.decode(np.array([[3.0]]))[0, 0] == pytest.approx(np.tanh(6.0) + 10 * np.tanh(1.0) + 5)


def test_random_maps_pass_through_their_origin_and_know_no_task(x):
    maps = random_maps(x[0], 2.0, 4, seed=3)
    np.testing.assert_allclose(maps.decode(np.zeros((1, 4)))[0], x[0], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(maps.decoder[0].weight, axis=0), 2.0, rtol=1e-5)
    assert not np.allclose(maps.decoder[0].weight, random_maps(x[0], 2.0, 4, seed=4).decoder[0].weight)
    codes = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    np.testing.assert_allclose(maps.encode(maps.decode(codes)), codes, atol=1e-3)


@pytest.mark.parametrize(("tasks", "dim"), [(1, 1), (5, 0), (5, 41)])
def test_impossible_sizes_are_refused(x, tasks, dim):
    with pytest.raises(FormatError, match=f"{tasks} tasks"):
        pca(x[:tasks], dim)


def test_tasks_that_are_all_the_same_span_nothing(x):
    with pytest.raises(FormatError, match="the same"):
        pca(np.tile(x[0], (4, 1)), 2)


def test_a_narrow_decoder_is_refused(x):
    with pytest.raises(FormatError, match="2 units"):
        with_tanh(pca(x, 3), 2)
