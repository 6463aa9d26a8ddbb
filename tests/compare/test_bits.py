"""Packed bits: which rows differ least, by each search, against counting one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.compare import bits
from tupate_hub.compare.bits import SEARCHES, nearest
from tupate_hub.errors import TupateHubError, UnknownName
from tupate_hub.extras import is_installed


@pytest.mark.parametrize("by", SEARCHES)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 60))
def test_the_nearest_are_those_of_counting(by: str, seed: int, count: int) -> None:
    if by == "usearch" and not is_installed("usearch"):
        pytest.skip("needs usearch")
    rows = np.random.default_rng(seed).integers(0, 256, (50, 32), dtype=np.uint8)
    differing = np.unpackbits(rows ^ rows[7], axis=1).sum(axis=1)
    found = nearest(rows, rows[7], count, by)
    assert len(set(found.tolist())) == len(found) == min(count, 50)
    assert found[0] == 7
    assert sorted(differing)[: len(found)] == differing[found].tolist()


def test_rows_are_counted_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(3).integers(0, 256, (100, 32), dtype=np.uint8)
    expected = nearest(rows, rows[3], 9)
    monkeypatch.setattr(bits, "_AT_ONCE", 7)
    np.testing.assert_array_equal(nearest(rows, rows[3], 9), expected)
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    np.testing.assert_array_equal(nearest(rows, rows[3], 9), expected)


def test_an_unknown_search_lists_the_known() -> None:
    rows = np.zeros((2, 32), dtype=np.uint8)
    with pytest.raises(UnknownName) as caught:
        nearest(rows, rows[0], 1, "faiss")
    assert caught.value.hint == "known: numpy, usearch"
    if not is_installed("usearch"):
        with pytest.raises(TupateHubError, match="This needs usearch"):
            nearest(rows, rows[0], 1, "usearch")
