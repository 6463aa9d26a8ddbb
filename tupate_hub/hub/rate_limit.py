"""Rate limit: the requests of this process wait while the Hub asks for fewer, as long as the caller allows."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field

from tupate_hub.errors import RateLimited, WorkFailed

#: In seconds: who asks to be left alone for longer is asked again all the same.
LONGEST = 3600.0


@dataclass(frozen=True)
class WaitBudget:
    """How many seconds one request may wait for the rate limit, who is told that it does, and what ends the wait."""

    seconds: float = 0.0
    tell: Callable[[float], object] = lambda seconds: None
    over: threading.Event = field(default_factory=threading.Event)


class RateLimit:
    """A time before which nothing is asked. The Hub counts the requests of all threads together: all of them wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until = 0.0

    def pause(self, seconds: float) -> bool:
        """Let nothing through for so long; returns whether nothing waited until now."""
        now = time.monotonic()
        with self._lock:
            was_free = self._until <= now
            self._until = max(self._until, now + min(seconds, LONGEST))
        return was_free

    def wait(self, over: threading.Event, most: float = LONGEST) -> None:
        """Return when requests may be sent again.

        Raises
        ------
        RateLimited
            When that takes longer than `most` seconds.
        WorkFailed
            When `over` is set meanwhile.
        """
        while (left := self._until - time.monotonic()) > 0:
            if left > most:
                raise RateLimited("The Hub asks to be left alone.", hint=f"retry in {left:.0f} s")
            if over.wait(left):
                raise WorkFailed("The work was given up while the Hub asked to wait.", hint="retry")


RATE_LIMIT = RateLimit()
_NONE = WaitBudget()
_budget: ContextVar[WaitBudget] = ContextVar("wait_budget", default=_NONE)


def wait_budget() -> WaitBudget:
    """That of the caller's context: none, unless it is inside of `waiting_allowed`."""
    return _budget.get()


@contextlib.contextmanager
def waiting_allowed(seconds: float, tell: Callable[[float], object]) -> Iterator[None]:
    """Inside, a request that the Hub asks to come later does so, at most `seconds` in all; `tell` hears how long.

    Threads started inside take part where they run in a copy of this context. Leaving ends the wait of those left over.
    """
    mine = WaitBudget(seconds, tell)
    token = _budget.set(mine)
    try:
        yield
    finally:
        mine.over.set()
        _budget.reset(token)
