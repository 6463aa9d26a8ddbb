"""Allowance: how many bytes of weights may be in memory at once, whoever works on them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Allowance:
    """So many bytes that threads share; who wants more than there are waits, and gets them when nobody has any."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._changed = threading.Condition()

    @contextmanager
    def of(self, size: int) -> Iterator[None]:
        """Inside, so many bytes are taken."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or self._taken + size <= self._most)
            self._taken += size
        try:
            yield
        finally:
            with self._changed:
                self._taken -= size
                self._changed.notify_all()
