"""Rate limit: all threads wait while it lasts, as long as their budgets allow, and nobody is told twice."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from loopback import LoopbackHub

from tupate_hub.errors import RateLimited, WorkFailed
from tupate_hub.hub import client, rate_limit, session
from tupate_hub.hub.location import MODEL, Location
from tupate_hub.hub.rate_limit import RateLimit, WaitBudget, wait_budget, waiting_allowed

PLACE = Location(MODEL, "acme/m")


class Clock:
    """Time that passes while somebody waits for the rate limit, and not otherwise."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


class Over(threading.Event):
    """An end of the work whose waits take no time; `meanwhile` happens during the first."""

    def __init__(self, clock: Clock, meanwhile: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self._clock, self._meanwhile = clock, [meanwhile]

    def wait(self, timeout: float | None = None) -> bool:
        while self._meanwhile:
            self._meanwhile.pop()()
        if not self.is_set():
            assert timeout is not None
            self._clock.wait(timeout)
        return self.is_set()


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of a rate limit that is free; budgets wait by it as well."""
    made = Clock()
    monkeypatch.setattr(rate_limit, "RATE_LIMIT", RateLimit())
    monkeypatch.setattr(rate_limit, "time", made)
    monkeypatch.setattr(rate_limit, "WaitBudget", lambda seconds, tell: WaitBudget(seconds, tell, Over(made)))
    return made


@pytest.fixture
def files(hub: LoopbackHub) -> LoopbackHub:
    hub.store.put("models", "acme/m", {"x.json": b"{}"})
    return hub


def test_without_a_limit_nobody_waits(clock: Clock) -> None:
    RateLimit().wait(Over(clock))
    assert clock.waits == []


def test_a_limit_ends_after_the_longest_of_the_times(clock: Clock) -> None:
    limit = RateLimit()
    assert limit.pause(0.5)
    assert not limit.pause(0.25)
    limit.wait(Over(clock))
    assert clock.waits == [0.5]
    assert limit.pause(0.0)


def test_a_second_pause_prolongs_the_wait(clock: Clock) -> None:
    limit = RateLimit()
    limit.pause(0.5)
    limit.wait(Over(clock, lambda: limit.pause(2.0)))
    assert clock.waits == [0.5, 1.5]


def test_who_is_given_up_stops_waiting(clock: Clock) -> None:
    limit = RateLimit()
    limit.pause(60)
    over = Over(clock, lambda: over.set())
    with pytest.raises(WorkFailed, match="given up"):
        limit.wait(over)
    assert clock.waits == []


def test_a_wait_budget_belongs_to_a_context_and_ends_with_it() -> None:
    assert wait_budget().seconds == 0
    with waiting_allowed(5, lambda seconds: None):
        inside = wait_budget()
        assert inside.seconds == 5
        with waiting_allowed(1, lambda seconds: None):
            assert wait_budget().seconds == 1
        assert wait_budget() is inside
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(lambda: wait_budget().seconds).result() == 0
            assert pool.submit(contextvars.copy_context().run, wait_budget).result() is inside
    assert wait_budget().seconds == 0
    assert inside.over.is_set()


def test_without_a_budget_a_long_wait_is_an_error_at_once(
    files: LoopbackHub, clock: Clock, pauses: list[float]
) -> None:
    files.fault("status", "x.json", status=429, headers={"Retry-After": "60"})
    with pytest.raises(RateLimited) as caught:
        client.get(PLACE, "x.json", 10)
    assert clock.waits == pauses == []
    assert "in 60 s" in caught.value.hint
    assert len(files.requests()) == 1


def test_with_a_budget_one_waits_as_long_as_asked_and_is_told_once(files: LoopbackHub, clock: Clock) -> None:
    files.fault("status", "x.json", status=429, times=2, headers={"Retry-After": "1"})
    told: list[float] = []
    with waiting_allowed(5, told.append):
        assert client.get(PLACE, "x.json", 10).data == b"{}"
    assert clock.waits == told == [1, 1]


def test_a_budget_is_spent(files: LoopbackHub) -> None:
    files.fault("status", "x.json", status=429, headers={"Retry-After": "1"})
    with waiting_allowed(2.5, lambda seconds: None), pytest.raises(RateLimited):
        client.get(PLACE, "x.json", 10)
    assert len(files.requests()) == 3


def test_a_hub_that_does_not_say_how_long(files: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_BLIND_WAIT", 0.5)
    files.fault("status", "x.json", status=429, times=1)
    told: list[float] = []
    with waiting_allowed(5, told.append):
        client.get(PLACE, "x.json", 10)
    assert told == [0.5]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"RateLimit": '"api";r=0;t=55'}, 55),
        ({"RateLimit": '"resolvers"; r=0; t=300'}, 300),
        ({"Retry-After": "7", "RateLimit": '"api";r=0;t=55'}, 7),
        ({"Retry-After": "soon", "RateLimit": '"api";r=0'}, None),
        ({"RateLimit": '"api";r=0;t=99999999999'}, None),
        ({"Retry-After": "-1"}, None),
        ({}, None),
    ],
)
def test_how_the_hub_says_it(headers: dict[str, str], seconds: float | None) -> None:
    from types import SimpleNamespace

    from tupate_hub.hub.errors import retry_after

    assert retry_after(SimpleNamespace(headers=headers)) == seconds
