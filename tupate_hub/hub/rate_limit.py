"""Gate: where the requests of this process wait while the Hub asks for fewer, and for how long they may."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field

from tupate_hub.errors import WorkFailed


@dataclass(frozen=True)
class Patience:
    """How many seconds one request may spend waiting at the gate, who is told that it does, and what ends the wait."""

    seconds: float = 0.0
    tell: Callable[[float], object] = lambda seconds: None
    over: threading.Event = field(default_factory=threading.Event)


class Gate:
    """A time before which nothing is asked. The Hub counts the requests of all threads together: all of them wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opens = 0.0

    def close(self, seconds: float) -> bool:
        """Let nothing through for so long; returns whether the gate was open until now."""
        now = time.monotonic()
        with self._lock:
            was_open = self._opens <= now
            self._opens = max(self._opens, now + seconds)
        return was_open

    def wait(self, over: threading.Event) -> None:
        """Return when the gate is open.

        Raises
        ------
        WorkFailed
            When `over` is set meanwhile.
        """
        while (left := self._opens - time.monotonic()) > 0:
            if over.wait(left):
                raise WorkFailed("The work was given up while the Hub asked to wait.", hint="type the command again")


GATE = Gate()
_NONE = Patience()
_patience: ContextVar[Patience] = ContextVar("patience", default=_NONE)


def patience() -> Patience:
    """That of the caller's context: none, unless it is inside of `patient`."""
    return _patience.get()


@contextlib.contextmanager
def patient(seconds: float, tell: Callable[[float], object]) -> Iterator[None]:
    """Inside, a request that the Hub asks to come later does so, at most `seconds` in all; `tell` hears how long.

    Threads started inside take part where they run in a copy of this context. Leaving ends the wait of those left over.
    """
    mine = Patience(seconds, tell)
    token = _patience.set(mine)
    try:
        yield
    finally:
        mine.over.set()
        _patience.reset(token)
