"""Truncated updates, against the exact singular value decomposition."""

from __future__ import annotations

import numpy as np
import pytest

from tupate_hub.compare.truncation import truncate


def decaying(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """A matrix whose singular values fall slowly, the hard case for a range finder."""
    rng = np.random.default_rng(seed)
    u, _ = np.linalg.qr(rng.standard_normal((rows, min(rows, columns))))
    v, _ = np.linalg.qr(rng.standard_normal((columns, min(rows, columns))))
    return ((u / np.sqrt(1 + np.arange(min(rows, columns)))) @ v.T).astype(np.float32)


@pytest.mark.parametrize("shape", [(120, 90), (90, 120), (40, 30), (3, 200), (1, 5)])
@pytest.mark.parametrize("rank", [1, 6])
def test_the_update_is_nearly_the_best_of_its_rank(shape: tuple[int, int], rank: int) -> None:
    matrix = decaying(*shape)
    low = truncate(matrix, rank, np.random.default_rng(1))
    values = np.linalg.svd(matrix.astype(np.float64), compute_uv=False)
    least = float(np.sum(values[rank:] ** 2)) ** 0.5
    assert low.a.shape == (min(rank, *shape), shape[1]) and low.b.shape == (shape[0], min(rank, *shape))
    assert np.linalg.norm(matrix - low.b @ low.a) <= 1.02 * least + 1e-5
    assert low.square == pytest.approx(float(np.sum(values**2)), rel=1e-5)
    assert low.kept_square == pytest.approx(float(np.linalg.norm(low.b @ low.a)) ** 2, rel=1e-4)
    assert np.linalg.norm(low.a) == pytest.approx(float(np.linalg.norm(low.b)), rel=1e-4)  # the halves are balanced


def test_a_matrix_of_low_rank_is_kept_whole() -> None:
    rng = np.random.default_rng(2)
    matrix = (rng.standard_normal((200, 4)) @ rng.standard_normal((4, 150))).astype(np.float32)
    low = truncate(matrix, 4, rng)
    np.testing.assert_allclose(low.b @ low.a, matrix, atol=1e-4)
    assert low.kept_square == pytest.approx(low.square, rel=1e-5)


def test_the_seed_decides() -> None:
    matrix = decaying(120, 90)
    first, second = (truncate(matrix, 5, np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(first.a, second.a)
