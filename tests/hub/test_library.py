"""What huggingface_hub does on a bad day: why `session` sets it limits, and downloads are compared with digests.

Should one of these tests fail with a newer version, the library has become better, and code of ours can go.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import _http
from loopback import LoopbackHub, User

from tupate_hub.hub.client import get
from tupate_hub.hub.location import MODEL, Location

NAME = "acme/m"
DATA = b'{"r": 8}'
WAITS = int(huggingface_hub.__version__.partition(".")[0]) >= 1


@pytest.fixture(autouse=True)
def repository(hub: LoopbackHub) -> None:
    hub.store.users["hf_mine"] = User("acme")
    hub.store.put("models", NAME, {"x.json": DATA})


def calls(hub: LoopbackHub) -> dict[str, Callable[[], Any]]:
    """Each thing that the library could do for us, by the request that it makes."""
    api = HfApi(endpoint=hub.endpoint, token="hf_mine")
    added = [CommitOperationAdd("y.json", b"{}")]
    return {
        "/api/models": lambda: list(api.list_models(filter=["peft"])),
        "/repos/create": lambda: api.create_repo("acme/new", exist_ok=True),
        "/commit/": lambda: api.create_commit(NAME, added, commit_message="add"),
    }


def test_a_download_keeps_damaged_bytes_of_the_right_length(hub: LoopbackHub, tmp_path: Path) -> None:
    def download() -> bytes:
        path = huggingface_hub.hf_hub_download(NAME, "x.json", endpoint=hub.endpoint, cache_dir=tmp_path)
        return Path(path).read_bytes()

    hub.fault("wrong", "GET .*x.json", times=1)
    assert download() != DATA
    assert download() != DATA  # the Hub is well again, and the cache answers
    hub.fault("wrong", "GET .*x.json", times=1)
    assert get(Location(MODEL, NAME), "x.json", 100).damaged


@pytest.mark.parametrize("call", ["/api/models", "/repos/create", "/commit/"])
def test_no_call_has_a_limit_of_time(call: str, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[Any] = []
    session = type(_http.get_session())
    send = session.send

    def spy(self: Any, request: Any, **options: Any) -> Any:
        limit = options.get("timeout", getattr(request, "extensions", {}).get("timeout"))
        limits.extend(limit.values() if isinstance(limit, dict) else [limit])
        return send(self, request, **options)

    monkeypatch.setattr(session, "send", spy)
    calls(hub)[call]()
    assert set(limits) == {None}  # a Hub that does not answer is waited for without end


def test_the_token_follows_a_listing_to_another_host(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        hub.store.put("models", f"acme/m{number}", {"x.json": DATA})
    hub.page = 2
    genuine = hub.endpoint
    api = HfApi(endpoint=genuine, token="hf_mine")
    monkeypatch.setattr(type(hub), "endpoint", property(lambda self: genuine.replace("127.0.0.1", "localhost")))
    list(api.list_models())
    assert [(one.host, one.token) for one in hub.seen] == [("127.0.0.1", "hf_mine"), ("localhost", "hf_mine")]


@pytest.mark.parametrize("call", ["/repos/create", "/commit/"])
def test_a_write_that_fails_once_is_not_tried_again(call: str, hub: LoopbackHub) -> None:
    hub.fault("status", call, times=1, status=503)
    with pytest.raises(HfHubHTTPError):
        calls(hub)[call]()


@pytest.mark.skipif(not WAITS, reason="up to 0.36 this fails at once")
def test_a_pause_of_ten_minutes_is_waited_for(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(_http, "time", SimpleNamespace(time=time.time, sleep=slept.append))
    hub.fault("status", "/preupload/", times=1, status=429, headers={"Retry-After": "600"})
    calls(hub)["/commit/"]()
    assert slept == [601]
