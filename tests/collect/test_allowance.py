"""Allowance: threads wait while too many bytes are taken, and one that wants too many gets them alone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tupate_hub.collect.allowance import Allowance


def test_never_more_than_there_are_but_for_one_alone() -> None:
    room, lock, taken, seen = Allowance(100), threading.Lock(), [], []

    def work(size: int) -> None:
        with room.of(size):
            with lock:
                taken.append(size)
                seen.append(list(taken))
            with lock:
                taken.remove(size)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [30, 40, 50, 500, 60, 1, 100, 99, 30] * 20))
    assert all(sum(one) <= 100 or len(one) == 1 for one in seen)
    assert len(seen) == 180


def test_an_error_gives_them_back() -> None:
    room = Allowance(10)
    with pytest.raises(ValueError, match="inside"), room.of(10):
        raise ValueError("inside")
    with room.of(10):
        pass
