"""Session: limits inside, the library as it was outside, and a sentence for whatever its calls raise."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.utils import (
    _http,
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
    logging,
)
from loopback import LoopbackHub

from tupate_hub.errors import BranchMoved, FormatError, NotAvailableOffline, TupateHubError, WorkFailed
from tupate_hub.hub import session
from tupate_hub.hub.location import DATASET, Location
from tupate_hub.hub.session import hub_api, limited

PLACE = Location(DATASET, "acme/zoo", "main")
OF_HTTPX = hasattr(_http, "set_client_factory")


def configure(factory: Any) -> None:
    (_http.set_client_factory if OF_HTTPX else _http.configure_http_backend)(factory)


def default_factory() -> Any:
    return _http.default_client_factory if OF_HTTPX else _http._default_backend_factory


@pytest.fixture(autouse=True)
def new_library() -> Iterator[None]:
    """The library as if nothing had been asked before."""
    configure(default_factory())
    yield
    configure(default_factory())


def test_outside_nothing_is_limited(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_SECONDS", 0.05)
    hub.store.put("datasets", PLACE.id, {"x": b"x"})
    with limited():
        pass
    hub.fault("slow", "/api/datasets", seconds=0.4, times=1)
    assert huggingface_hub.HfApi(endpoint=hub.endpoint).dataset_info(PLACE.id).id == PLACE.id
    hub.fault("slow", "/api/datasets", seconds=5)
    with pytest.raises(NotAvailableOffline), hub_api(PLACE) as api:
        api.dataset_info(PLACE.id)


def test_the_users_own_sessions_stay(hub: LoopbackHub) -> None:
    made: list[Any] = []

    def factory() -> Any:
        made.append(default_factory()())
        made[-1].headers["X-Proxy-Key"] = "mine"
        return made[-1]

    configure(factory)
    hub.store.put("datasets", PLACE.id, {"x": b"x"})
    for _ in range(2):
        with hub_api(PLACE) as api:
            api.dataset_info(PLACE.id)
            assert _http.get_session() is made[-1]
    assert len(made) == 1


def test_remarks_are_left_out_inside_alone() -> None:
    enable_progress_bars()
    logging.set_verbosity_info()
    inside = threading.Event()

    def other() -> None:
        with limited():
            inside.set()
            leave.wait(60)

    leave = threading.Event()
    thread = threading.Thread(target=other)
    with limited():
        thread.start()
        inside.wait(60)
    assert (are_progress_bars_disabled(), logging.get_verbosity()) == (True, logging.ERROR)
    leave.set()
    thread.join()
    assert (are_progress_bars_disabled(), logging.get_verbosity()) == (False, logging.INFO)
    disable_progress_bars()
    logging.set_verbosity_warning()
    with limited():
        pass
    assert are_progress_bars_disabled()


@pytest.mark.parametrize(
    ("raised", "meant", "words", "hint"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), WorkFailed, "cannot be kept: No space left", "HF_HOME=DIR"),
        (OSError("Consistency check failed"), WorkFailed, "arrived damaged: it was not kept", "retry"),
        (ConnectionResetError(104, "reset"), NotAvailableOffline, "cannot be reached", "with a network"),
        (KeyError("sha"), WorkFailed, "as a Hub does", "look at HF_ENDPOINT"),
        (
            ValueError('Invalid metadata in README.md.\n- "license" must be a string\n'),
            FormatError,
            'The Hub refuses the card: "license" must be a string.',
            "front matter",
        ),
        (RuntimeError("Data processing error: CAS service"), WorkFailed, "storage failed: Data processing", "XET=1"),
    ],
)
def test_what_the_library_raises_becomes_a_sentence(
    raised: Exception, meant: type[TupateHubError], words: str, hint: str, online: None
) -> None:
    with pytest.raises(meant, match=words) as caught, hub_api(PLACE):
        raise raised
    assert hint in caught.value.hint


def test_an_error_of_our_own_stays_as_it_is_however_the_library_wraps_it() -> None:
    ours = BranchMoved("moved", hint="retry")
    with pytest.raises(BranchMoved) as caught, hub_api(PLACE):
        raise ours
    assert caught.value is ours
    with pytest.raises(BranchMoved, match="moved"), hub_api(PLACE):
        raise RuntimeError("Error while uploading") from ours


def test_a_bug_is_not_translated() -> None:
    with pytest.raises(AssertionError), hub_api(PLACE):
        raise AssertionError
