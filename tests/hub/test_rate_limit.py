"""Gate: all threads wait while it is closed, as long as their patience allows, and nobody is told twice."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from loopback import LoopbackHub

from tupate_hub.errors import RateLimited, WorkFailed
from tupate_hub.hub import client as hub
from tupate_hub.hub import rate_limit as gate
from tupate_hub.hub.location import MODEL, Location
from tupate_hub.hub.rate_limit import Gate, Patience, patience, patient

PLACE = Location(MODEL, "acme/m")


class Clock:
    """Time that passes while somebody waits at the gate, and not otherwise."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


class Over(threading.Event):
    """An end of patience whose waits take no time; `meanwhile` happens during the first."""

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
    """The clock of a gate that is open; patience waits by it as well."""
    made = Clock()
    monkeypatch.setattr(gate, "GATE", Gate())
    monkeypatch.setattr(gate, "time", made)
    monkeypatch.setattr(gate, "Patience", lambda seconds, tell: Patience(seconds, tell, Over(made)))
    return made


@pytest.fixture
def files(hub: LoopbackHub) -> LoopbackHub:
    hub.store.put("models", "acme/m", {"x.json": b"{}"})
    return hub


def test_an_open_gate_holds_nobody_up(clock: Clock) -> None:
    Gate().wait(Over(clock))
    assert clock.waits == []


def test_a_closed_one_opens_after_the_longest_of_the_times(clock: Clock) -> None:
    one = Gate()
    assert one.close(0.5)
    assert not one.close(0.25)
    one.wait(Over(clock))
    assert clock.waits == [0.5]
    assert one.close(0.0)


def test_closing_it_again_prolongs_the_wait(clock: Clock) -> None:
    one = Gate()
    one.close(0.5)
    one.wait(Over(clock, lambda: one.close(2.0)))
    assert clock.waits == [0.5, 1.5]


def test_who_is_given_up_stops_waiting(clock: Clock) -> None:
    one = Gate()
    one.close(60)
    over = Over(clock, lambda: over.set())
    with pytest.raises(WorkFailed, match="given up"):
        one.wait(over)
    assert clock.waits == []


def test_patience_belongs_to_a_context_and_ends_with_it() -> None:
    assert patience().seconds == 0
    with patient(5, lambda seconds: None):
        inside = patience()
        assert inside.seconds == 5
        with patient(1, lambda seconds: None):
            assert patience().seconds == 1
        assert patience() is inside
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(lambda: patience().seconds).result() == 0
            assert pool.submit(contextvars.copy_context().run, patience).result() is inside
    assert patience().seconds == 0
    assert inside.over.is_set()


def test_without_patience_a_long_wait_is_an_error_at_once(
    files: LoopbackHub, clock: Clock, pauses: list[float]
) -> None:
    files.fault("status", "x.json", status=429, headers={"Retry-After": "60"})
    with pytest.raises(RateLimited) as caught:
        hub.get(PLACE, "x.json", 10)
    assert clock.waits == pauses == []
    assert "in 60 s" in caught.value.hint
    assert len(files.requests()) == 1


def test_with_patience_one_waits_as_long_as_asked_and_is_told_once(files: LoopbackHub, clock: Clock) -> None:
    files.fault("status", "x.json", status=429, times=2, headers={"Retry-After": "1"})
    told: list[float] = []
    with patient(5, told.append):
        assert hub.get(PLACE, "x.json", 10).data == b"{}"
    assert clock.waits == told == [1, 1]


def test_patience_is_spent(files: LoopbackHub) -> None:
    files.fault("status", "x.json", status=429, headers={"Retry-After": "1"})
    with patient(2.5, lambda seconds: None), pytest.raises(RateLimited):
        hub.get(PLACE, "x.json", 10)
    assert len(files.requests()) == 3


def test_a_hub_that_does_not_say_how_long(files: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_BLIND_WAIT", 0.5)
    files.fault("status", "x.json", status=429, times=1)
    told: list[float] = []
    with patient(5, told.append):
        hub.get(PLACE, "x.json", 10)
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
