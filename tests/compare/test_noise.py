"""Noise: the scores of pairs of different kinds, and how far a score stands out of them."""

from __future__ import annotations

import numpy as np
import pytest

from tupate_hub.compare.kernel import off_diagonal
from tupate_hub.compare.noise import noise_level as level_of_pairs

KINDS = ["tags", "classes"] * 8


def noise_level(matrix: np.ndarray, kinds: list[str]):
    return level_of_pairs(off_diagonal(matrix), kinds)


def scores(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    full = np.abs(rng.normal(0, 0.02, (len(KINDS), len(KINDS))))
    same = np.array(KINDS)[:, None] == np.array(KINDS)[None, :]
    full[same] += 0.3
    return (full + full.T) / 2


def test_only_pairs_of_different_kinds_count() -> None:
    matrix = scores()
    level = noise_level(matrix, KINDS)
    differ = [matrix[i, j] for i in range(16) for j in range(i + 1, 16) if KINDS[i] != KINDS[j]]
    assert level is not None
    assert level.pairs == len(differ) == 64
    assert level.median == pytest.approx(np.median(differ))
    assert level.upper == pytest.approx(np.quantile(differ, 0.95))
    assert level.covers(level.upper) and not level.covers(0.3)


def test_tasks_of_unknown_kind_take_no_part() -> None:
    level = noise_level(scores(), [*KINDS[:-1], ""])
    assert level is not None and level.pairs == 56


def test_too_few_pairs_say_nothing() -> None:
    assert noise_level(scores()[:4, :4], KINDS[:4]) is None
    assert noise_level(scores(), ["classes"] * 16) is None


def test_the_excess_is_counted_in_bits_of_the_noise() -> None:
    level = noise_level(scores(), KINDS)
    assert level is not None
    width = level.upper - level.median
    assert level.excess(level.median) == level.excess(level.median - 1) == 0
    assert level.excess(level.upper) == pytest.approx(1)
    assert level.excess(level.median + 7 * width) == pytest.approx(3)
