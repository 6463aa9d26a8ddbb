"""Faults: what a Hub does wrong, on which requests, and how often."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field

#: What a fault may be; the answer that it gives is in `server`.
KINDS = frozenset({"status", "cut", "wrong", "slow", "meet", "close", "endless", "bomb", "drip", "deaf", "lost"})


@dataclass
class Fault:
    """One switch.

    `kind`: `status` answers with `status`; `cut` ends the body early; `wrong` sends other bytes of the same length;
    `slow` waits `seconds` first, or until the faults are cleared, and then answers; `meet` answers two requests at a
    time, which wait for each other; `close` ends the connection without an answer.

    `endless` sends a body that has no end, `bomb` one that is compressed and has none either (`headers` may name another
    compression), `drip` a byte of its headers every `seconds` when `status` is 0, else of its body, all of them until
    the client hangs up or the faults are cleared; `sent` counts their bytes. `deaf` takes no byte of the request's body.
    `lost` does what was asked, and ends the connection without an answer.

    `where` is searched for in `METHOD /path`; `times` is how often, None for ever.
    """

    kind: str
    where: str = ""
    times: int | None = None
    status: int = 500
    seconds: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    sent: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    pair: threading.Barrier = field(default_factory=lambda: threading.Barrier(2, timeout=100))

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no fault is called {self.kind!r}")
        re.compile(self.where)


class Faults:
    """The switches that are on."""

    def __init__(self) -> None:
        self._on: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            self._on.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            for fault in self._on:
                fault.over.set()
                fault.pair.abort()
            self._on.clear()

    def waiting(self) -> bool:
        """Whether one that is to happen a number of times has some of them left."""
        with self._lock:
            return any(fault.times for fault in self._on)

    def take(self, request: str) -> Fault | None:
        """The first fault that is meant for a request, used up by one."""
        with self._lock:
            for fault in self._on:
                if re.search(fault.where, request) and (fault.times is None or fault.times > 0):
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None
