"""Exchange: answers without end, or of no pace, are given up after a known number of bytes and requests."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import lora
from damage import put
from loopback import LoopbackHub, User
from orchards import fetched, peft_files, plant
from published import FIRST, INDEX, NAME, REGISTRY, publish

from tupate_hub import Zoo
from tupate_hub.errors import NotAvailableOffline, WorkFailed
from tupate_hub.hub import cache, client, exchange, session
from tupate_hub.hub.download import download_adapter
from tupate_hub.hub.exchange import SPARE
from tupate_hub.hub.list_adapters import list_adapters
from tupate_hub.hub.location import DATASET, MODEL, Location
from tupate_hub.hub.repository import create_repository, look_up
from tupate_hub.hub.upload import File, commit

PLACE = Location(DATASET, NAME)
#: What may lie in the buffers of sockets when the client hangs up.
BUFFERS = 12_000_000


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exchanges that are given up soon; sockets that are not."""
    monkeypatch.setattr(session, "_GRACE", -9.6)
    monkeypatch.setattr(session, "_SECONDS_TO_WRITE", 10.0)


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


CALLS = {
    "a file": lambda: client.get(PLACE, "registry.json", 1000),
    "a listing": lambda: list_adapters("acme/tiny-bert", library="peft"),
    "a repository": lambda: look_up(PLACE),
}
WHERE = {"a file": "registry.json", "a listing": "/api/models", "a repository": f"/api/datasets/{NAME}"}


@pytest.mark.parametrize("kind", ["endless", "bomb"])
@pytest.mark.parametrize("what", CALLS)
def test_an_answer_without_end_is_read_to_its_limit(
    what: str, kind: str, hub: LoopbackHub, published: str, traced: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_MOST_ANSWER", 1000)
    CALLS[what]()  # what is imported on the way
    hub.seen.clear()
    fault = hub.fault(kind, WHERE[what])
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    with pytest.raises(WorkFailed, match=r"where at most 100[01] were expected"):
        CALLS[what]()
    assert tracemalloc.get_traced_memory()[1] - before < 3 * SPARE  # what was read, and the fault's own megabytes
    assert len(hub.requests()) == 1
    hub.faults.clear()
    assert fault.sent < SPARE + BUFFERS or kind == "bomb"  # a thousand of whose megabytes are in the buffers


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "x"])
def test_a_compression_that_was_not_asked_for_is_not_read(encoding: str, hub: LoopbackHub, published: str) -> None:
    hub.fault("bomb", "registry.json", headers={"Content-Encoding": encoding})
    with pytest.raises(WorkFailed, match="an encoding that was not asked for"):
        client.get(PLACE, "registry.json", 1000)


def test_the_body_of_a_redirection_is_counted_as_well(hub: LoopbackHub, published: str) -> None:
    """Both clients read it, to use the connection again."""
    fault = hub.fault("endless", "registry.json", status=302)
    with pytest.raises(WorkFailed, match="were expected"):
        client.get(PLACE, "registry.json", 1000)
    hub.faults.clear()
    assert fault.sent < SPARE + BUFFERS


@pytest.mark.parametrize("kind", ["endless", "bomb"])
def test_a_download_by_the_library_is_held_to_the_size_that_was_announced(kind: str, hub: LoopbackHub) -> None:
    at = Location(MODEL, "acme/lora", plant(hub, "acme/lora", peft_files(1, "imdb")))
    hub.fault(kind, "GET /(storage/.*|acme/lora.*)adapter_model")
    with pytest.raises(WorkFailed, match="were expected"):
        download_adapter(at)
    hub.faults.clear()
    assert download_adapter(at).task == "imdb"


# --- pace ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [0, 200], ids=["headers", "body"])
@pytest.mark.parametrize("what", CALLS)
def test_what_drips_is_given_up(what: str, part: int, hub: LoopbackHub, published: str, hasty: None) -> None:
    hub.fault("drip", WHERE[what], status=part, seconds=0.05)
    with pytest.raises(WorkFailed, match="was too slow"):
        CALLS[what]()
    assert len(hub.requests()) == 1


def test_a_download_that_drips_is_given_up_and_leaves_no_lock(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = Location(MODEL, "acme/lora", plant(hub, "acme/lora", peft_files(1, "imdb")))
    hub.fault("drip", "GET /(storage/.*|acme/lora.*)adapter_model", seconds=0.05)
    with monkeypatch.context() as hurry:
        hurry.setattr(session, "_GRACE", -9.0)
        with pytest.raises(WorkFailed, match="was too slow"):
            download_adapter(at)
    hub.faults.clear()
    assert download_adapter(at).task == "imdb"
    assert fetched(hub)[-1] == "acme/lora/adapter_model.safetensors"


def test_an_answer_has_time_in_proportion_to_its_size(
    hub: LoopbackHub, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte gives it ten seconds more here, and what drips comes to its limit."""
    monkeypatch.setattr(exchange, "SLOWEST", 0.1)
    monkeypatch.setattr(exchange, "_PIECE", 1)
    monkeypatch.setattr(exchange, "SPARE", 100)
    hub.fault("drip", "registry.json", seconds=0.001)
    with pytest.raises(WorkFailed, match="sent more than 112 bytes, where at most 11 were expected"):
        client.get(PLACE, "registry.json", 10)


@pytest.mark.parametrize("kind", ["deaf", "slow"])
@pytest.mark.parametrize("where", ["/commit/", "PUT /uploads/"])
def test_a_commit_or_an_upload_that_stalls_is_given_up(
    where: str, kind: str, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.store.users["hf_mine"] = User("acme")
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    create_repository(PLACE, private=False)
    head = hub.store.repository("datasets", NAME).branches["main"]
    for name in ("_SECONDS", "_SECONDS_TO_WRITE", "_QUICK"):
        monkeypatch.setattr(session, name, 0.3)
    hub.fault(kind, where, seconds=600)
    data = bytes(30_000_000)  # more than the buffers of sockets take
    with pytest.raises((WorkFailed, NotAvailableOffline)):
        commit(PLACE.at("main"), head, [("x.bin", _file(data)), ("x.json", _file(b"{}"))], [], "x")
    assert hub.store.repository("datasets", NAME).branches["main"] == head


def _file(data: bytes) -> File:
    import hashlib

    return File(len(data), hashlib.sha256(data).hexdigest(), lambda: data)


# --- pages, redirections, cuts ---------------------------------------------------------------------------------


def test_a_listing_that_links_to_itself_is_given_up_at_once(hub: LoopbackHub) -> None:
    plant(hub, "acme/lora", peft_files(1, "imdb"))
    hub.circles = True
    with pytest.raises(WorkFailed, match="without end"):
        list_adapters("acme/tiny-bert", library="peft")
    assert len(hub.requests()) <= 2  # the first, and its own address as the Hub spells it


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("{hub}" + f"{REGISTRY}/main/registry.json", "redirects in circles"),
        ("http://[::bad/", "names another address, which does not answer"),
        ("file:///etc/passwd", "names an address that is none of the web's|another address"),
        ("gopher://x/", "names an address that is none of the web's|another address"),
        ("http://127.0.0.1:9/x", "names another address, which does not answer"),
        ("http://127.0.0.1:99999999/x", "names another address, which does not answer"),
    ],
)
def test_a_redirection_that_leads_nowhere(
    target: str, words: str, hub: LoopbackHub, published: str, invoke: Any, pauses: list[float]
) -> None:
    hub.fault("status", "registry.json", status=302, headers={"Location": target.format(hub=hub.endpoint)})
    result = invoke("list", "--registry", NAME)
    assert (result.code, result.out) == (1, "")
    assert any(word in result.err for word in words.split("|")), result.err
    assert "cannot be reached" not in result.err
    assert len(hub.requests()) <= 31  # once round for those that redirect in circles
    hub.seen.clear()
    hub.faults.clear()
    hub.fault("status", "/api/datasets", status=302, headers={"Location": target.format(hub=hub.endpoint)})
    with pytest.raises(WorkFailed):
        look_up(PLACE)


@pytest.mark.parametrize("where", ["registry.json", INDEX])
def test_an_answer_that_is_cut_each_time(
    where: str, hub: LoopbackHub, published: str, invoke: Any, pauses: list[float]
) -> None:
    hub.fault("cut", where)
    result = invoke("similar", "sst2", "--registry", NAME)
    assert (result.code, result.out) == (1, "")
    assert "its answer was cut off" in result.err
    assert "cannot be reached" not in result.err


def test_an_answer_that_is_cut_and_then_does_not_come(
    hub: LoopbackHub, published: str, invoke: Any, pauses: list[float]
) -> None:
    hub.fault("cut", "registry.json", times=1)
    hub.fault("close", "registry.json")
    result = invoke("similar", "sst2", "--registry", NAME)
    assert (result.code, result.out) == (1, "")
    assert "its answer was cut off" in result.err
    assert "cannot be reached" not in result.err


def test_files_arrive_whole_through_the_pieces(hub: LoopbackHub, published: str, toy_zoo: Path) -> None:
    data = bytes(range(256)) * 4000
    hub.store.put("datasets", "acme/large", {"x.bin": data, "y.json": data})
    for name in ("x.bin", "y.json"):
        answer = client.get(Location(DATASET, "acme/large"), name, len(data))
        assert answer.data == data
        assert not answer.damaged
    assert Zoo.open(NAME).load_space("tiny-bert/lora")
    assert cache.cache_root().joinpath("hub").is_dir()
    assert (toy_zoo / FIRST).is_file()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_shows_how_much_of_a_large_file_has_arrived(
    terminal: bool, hub: LoopbackHub, toy_zoo: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(toy_zoo, FIRST, lora("imdb", 5, rank=64, layers=1000).to_bytes())
    size = (toy_zoo / FIRST).stat().st_size
    assert size > 3_000_000
    publish(hub, toy_zoo)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    result = invoke("pull", "imdb", "--registry", NAME)
    assert result.code == 0
    assert (f"\r{size // 1_000_000} MB from the Hub" in result.err) == terminal
    assert ("\r\x1b[K" in result.err) == terminal
