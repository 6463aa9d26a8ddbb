"""The algebra of low-rank updates, against updates formed in full."""

from __future__ import annotations

import numpy as np
import pytest
from builders import normal
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.compare.lowrank import Factors, Stack, inner, stack, stacked_inner, stacked_squares

seeds = st.integers(0, 2**32 - 1)
ranks = st.integers(1, 6)


def full(x: Factors) -> np.ndarray:
    """The update itself, of shape (out, in), in float64."""
    return x.bt.T.astype(np.float64) @ x.a.astype(np.float64)


def factors(rng: np.random.Generator, rank: int, inner_width: int = 7, outer: int = 5) -> Factors:
    return Factors(normal(rng, rank, inner_width), normal(rng, rank, outer))


def invertible(rng: np.random.Generator, rank: int) -> np.ndarray:
    """A random matrix whose condition number is at most 4."""
    left, right = (np.linalg.qr(rng.standard_normal((rank, rank)))[0] for _ in range(2))
    return left @ np.diag(rng.uniform(0.5, 2, rank)) @ right


def some(rng: np.random.Generator, sizes: list[int]) -> tuple[list[Factors], Stack]:
    made = [factors(rng, rank) for rank in sizes]
    return made, stack(made, range(len(made)))


@given(seeds, ranks, ranks)
def test_inner_is_that_of_the_full_updates(seed: int, first: int, second: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = factors(rng, first), factors(rng, second)
    expected = float((full(x) * full(y)).sum())
    assert inner(x, y) == pytest.approx(expected, abs=1e-5 * np.linalg.norm(full(x)) * np.linalg.norm(full(y)))


@given(seeds, ranks)
def test_inner_does_not_see_the_coordinates(seed: int, rank: int) -> None:
    rng = np.random.default_rng(seed)
    x, y, change = factors(rng, rank), factors(rng, rank), invertible(rng, rank)
    moved = Factors(
        (np.linalg.inv(change) @ x.a).astype(np.float32), (x.bt.T.astype(np.float64) @ change).T.astype(np.float32)
    )
    assert inner(moved, y) == pytest.approx(inner(x, y), abs=1e-4 * np.linalg.norm(full(x)) * np.linalg.norm(full(y)))


def test_a_vector_is_an_update_of_rank_one() -> None:
    x, y = (Factors.of_vector(np.array(values, dtype=np.float32)) for values in ([1, 2, 3], [4, 5, 6]))
    assert inner(x, y) == 32
    assert (x.a.shape, x.bt.shape) == ((1, 3), (1, 1))


@given(seeds, st.lists(ranks, min_size=1, max_size=5), st.lists(ranks, min_size=1, max_size=5))
def test_stacked_inner_of_mixed_ranks_is_inner_pair_by_pair(seed: int, first: list[int], second: list[int]) -> None:
    rng = np.random.default_rng(seed)
    (xs, x), (ys, y) = some(rng, first), some(rng, second)
    found = stacked_inner(x, y)
    assert found.shape == (len(first), len(second))
    np.testing.assert_allclose(found, [[inner(one, other) for other in ys] for one in xs], rtol=1e-4, atol=1e-4)


@given(seeds, st.lists(ranks, min_size=1, max_size=6))
def test_stacked_squares_are_the_diagonal(seed: int, sizes: list[int]) -> None:
    made, x = some(np.random.default_rng(seed), sizes)
    np.testing.assert_allclose(stacked_squares(x), [inner(one, one) for one in made], rtol=1e-4)
    np.testing.assert_allclose(stacked_squares(x), np.diag(stacked_inner(x, x)), rtol=1e-4)


def test_stacked_squares_of_one_rank_equal_those_of_mixed_ranks() -> None:
    made, uniform = some(np.random.default_rng(0), [3, 3, 3])
    mixed = stack([*made, factors(np.random.default_rng(1), 2)], range(4))
    assert (uniform.uniform_rank, mixed.uniform_rank) == (3, 0)
    np.testing.assert_allclose(stacked_squares(uniform), stacked_squares(mixed)[:3], rtol=1e-5)


def test_a_stack_keeps_where_each_update_begins_and_whose_it_is() -> None:
    made = [factors(np.random.default_rng(seed), rank) for seed, rank in enumerate((2, 1, 4))]
    x = stack(made, [0, 3, 7])
    assert x.starts.tolist() == [0, 2, 3]
    assert x.owners.tolist() == [0, 3, 7]
    assert x.a.shape == (7, 7)
    for one, start, stop in zip(made, (0, 2, 3), (2, 3, 7), strict=True):
        np.testing.assert_array_equal(x.a[start:stop], one.a)
        np.testing.assert_array_equal(x.bt[start:stop], one.bt)


@pytest.mark.parametrize(
    "sizes", [[4] * 300, [4, 3] * 160, [1500, 4, 4, 1500]], ids=["one rank", "mixed", "large tiles"]
)
def test_the_slices_of_a_large_stack_add_nothing_and_lose_nothing(sizes: list[int]) -> None:
    """4,000 rows on one side make slices of 1,000 on the other, so this stack is taken in several."""
    rng = np.random.default_rng(5)
    xs = [factors(rng, 40, 3, 2) for _ in range(100)]
    ys = [factors(rng, rank, 3, 2) for rank in sizes]
    assert sum(sizes) > 1000
    found = stacked_inner(stack(xs, range(100)), stack(ys, range(len(ys))))
    dense_x, dense_y = (np.array([full(one).ravel() for one in side]) for side in (xs, ys))
    norms = np.outer(np.linalg.norm(dense_x, axis=1), np.linalg.norm(dense_y, axis=1))
    # Pairs of high rank in a 2 x 3 matrix cancel strongly: the tolerance is relative to the factors' own size.
    size = np.outer([np.sqrt((one.a**2).sum() * (one.bt**2).sum()) for one in xs],
                    [np.sqrt((one.a**2).sum() * (one.bt**2).sum()) for one in ys])  # fmt: skip
    assert found.shape == norms.shape
    assert (np.abs(found - dense_x @ dense_y.T) / size).max() < 1e-6


@pytest.mark.parametrize("short", [32, 33])
def test_narrow_and_wide_sides_agree(short: int) -> None:
    """A side of at most 32 rows is multiplied in panels of 128 rows: 300 rows make two panels and a rest."""
    rng = np.random.default_rng(2)
    xs, ys = [factors(rng, 1) for _ in range(short)], [factors(rng, 3) for _ in range(100)]
    found = stacked_inner(stack(xs, range(short)), stack(ys, range(100)))
    np.testing.assert_allclose(found, [[inner(x, y) for y in ys] for x in xs], rtol=1e-4, atol=1e-4)
