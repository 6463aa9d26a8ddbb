"""The cache: what is not as it came is asked for again, whatever happened to it, and a cache that is only read answers."""

from __future__ import annotations

import errno
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from damage import change
from loopback import LoopbackHub
from orchards import hub_cache, peft_files, plant
from published import NAME, REGISTRY, make_stale, publish

from tupate_hub.collect.read_adapter import read_downloaded
from tupate_hub.hub.cache import cache_root
from tupate_hub.hub.download import download_adapter
from tupate_hub.hub.location import MODEL, Location

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "altered": lambda data: data.replace(b"0.8", b"0.9").replace(b"imdb", b"IMDB"),
    "cut": lambda data: data[: len(data) // 2],
    "emptied": lambda data: b"",
    "lengthened": lambda data: data + b" ",
    "another registry": lambda data: b'{"schema": 1, "tasks": {}, "spaces": {}, "embeddings": [], "default_space": ""}',
}


def kept(name: str) -> Path:
    (found,) = cache_root().rglob(name)
    return found


@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_cached_registry_that_is_not_as_it_came_is_asked_for_again(
    damage: str, pinned: bool, hub: LoopbackHub, published: str, invoke: Any
) -> None:
    where = f"{NAME}@{published}" if pinned else NAME
    first = invoke("list", "--json", "--registry", where)
    good = kept("registry.json").read_bytes()
    kept("registry.json").write_bytes(DAMAGES[damage](good))
    assert kept("registry.json").read_bytes() != good
    again = invoke("list", "--json", "--registry", where)
    assert (again.code, again.out) == (0, first.out)
    assert kept("registry.json").read_bytes() == good
    hub.seen.clear()
    assert invoke("list", "--json", "--registry", where).out == first.out
    assert hub.requests() == []


def test_a_digest_that_is_gone_is_as_if_nothing_were_kept(hub: LoopbackHub, published: str, invoke: Any) -> None:
    assert invoke("list", "--registry", NAME).code == 0
    kept("registry.json.sha256").unlink()
    hub.seen.clear()
    assert invoke("list", "--registry", NAME).code == 0
    assert len(hub.requests()) == 1


@pytest.mark.parametrize("headers", [{}, {"Content-Range": "bytes */0", "X-Repo-Commit": "a" * 40}])
def test_a_status_of_416_leaves_nothing_behind(
    headers: dict[str, str], hub: LoopbackHub, published: str, invoke: Any
) -> None:
    hub.fault("status", "registry.json", status=416, headers=headers)
    assert invoke("list", "--registry", f"{NAME}@{published}").code in (1, 2)
    assert not list(cache_root().rglob("registry.json*"))
    hub.faults.clear()
    assert invoke("list", "--registry", f"{NAME}@{published}").code == 0


def test_what_is_no_registry_is_not_kept(hub: LoopbackHub, toy_zoo: Path, invoke: Any) -> None:
    change(toy_zoo, lambda data: data.update(schema=99))
    commit = publish(hub, toy_zoo)
    assert invoke("list", "--registry", f"{NAME}@{commit}").code == 2
    assert not list(cache_root().rglob("registry.json*"))


def test_a_registry_that_the_hub_gives_no_digest_of_is_taken(hub: LoopbackHub, published: str, invoke: Any) -> None:
    text = hub.store.repository("datasets", NAME).commit("main").files["registry.json"].data
    body = json.loads(text)
    hub.fault("status", f"{REGISTRY}/main/registry.json", status=200, headers={"X-Repo-Commit": published})
    assert invoke("list", "--registry", NAME).code == 2  # {"error": ...} is no registry
    assert len(body["embeddings"]) == 12


# --- adapters --------------------------------------------------------------------------------------------------


@pytest.fixture
def place(hub: LoopbackHub) -> Location:
    return Location(MODEL, "acme/lora", plant(hub, "acme/lora", peft_files(1, "stanfordnlp/imdb", scale=2.0)))


def alter(data: bytes) -> bytes:
    """The same length, and another scale."""
    changed = data.replace(b'"lora_alpha": 4', b'"lora_alpha": 9')
    assert changed != data
    return changed


def scale(place: Location) -> float:
    return float(read_downloaded(download_adapter(place)).blocks[0].scale)


def test_a_configuration_that_is_altered_on_the_way_is_not_taken(
    hub: LoopbackHub, place: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = hub.store.repository("models", place.id)
    right = repository.commit("main").files[CONFIG]
    from loopback import server

    genuine = server._Handler._file

    def file(self: Any, data: bytes, headers: dict[str, str]) -> None:
        genuine(self, alter(data) if data == right.data and self.command == "GET" else data, headers)

    with monkeypatch.context() as between:
        between.setattr(server._Handler, "_file", file)
        with pytest.raises(Exception, match="does not have the announced content"):
            download_adapter(place)
    assert not list(hub_cache().rglob(CONFIG))
    assert scale(place) == pytest.approx(2.0)


@pytest.mark.parametrize("branch", [True, False])
def test_a_configuration_that_is_altered_in_the_cache_is_fetched_again(
    branch: bool, hub: LoopbackHub, place: Location
) -> None:
    where = Location(MODEL, place.id) if branch else place
    assert scale(where) == pytest.approx(2.0)
    path = download_adapter(where).folder / CONFIG
    path.write_bytes(alter(path.read_bytes()))
    assert scale(where) == pytest.approx(2.0)
    hub.seen.clear()
    assert scale(where) == pytest.approx(2.0)
    assert hub.requests() == []


def test_so_are_weights(place: Location) -> None:
    path = download_adapter(place).folder / WEIGHTS
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    download_adapter(place)
    assert path.read_bytes() == good


@pytest.mark.parametrize(
    "facts",
    [
        b"",
        b"[]",
        b"null",
        b'{"files": 3}',
        b'{"files": {"adapter_config.json": 3}}',
        b'{"files": {"adapter_config.json": [1, 2]}}',
        b'{"files": {}, "folder": 3, "held": ["x"]}',
        b'{"files": {}, "folder": "/", "held": 3}',
        b'{"files": {}, "task": 3}',
        b'{"files": ' + b"[" * 10_000,
    ],
)
def test_facts_that_are_none_are_asked_for_again(facts: bytes, hub: LoopbackHub, place: Location) -> None:
    whole = download_adapter(place)
    kept("facts.json").write_bytes(facts)
    assert download_adapter(place) == whole


# --- read only -------------------------------------------------------------------------------------------------


def test_a_warm_cache_that_is_only_read_answers(
    published: str, place: Location, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = [("similar", "sst2", "--registry", NAME), ("similar", "sst2", "--registry", f"{NAME}@main")]
    first = [invoke(*question).out for question in questions]
    whole = download_adapter(Location(MODEL, place.id))

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    for _ in range(2):
        assert [(again.code, again.out) for again in (invoke(*one) for one in questions)] == [(0, out) for out in first]
        assert download_adapter(Location(MODEL, place.id)) == whole
        make_stale()


# --- which Hub, and how old ------------------------------------------------------------------------------------


def test_what_one_hub_said_is_no_answer_of_another(
    hub: LoopbackHub, published: str, toy_zoo: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = invoke("list", "--json", "--registry", NAME)
    with LoopbackHub() as other:
        change(toy_zoo, lambda data: data["embeddings"].pop())
        publish(other, toy_zoo)
        monkeypatch.setenv("HF_ENDPOINT", other.endpoint)
        second = invoke("list", "--json", "--registry", NAME)
        assert len(second.json()) == len(first.json()) - 1
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        hub.seen.clear()
        assert invoke("list", "--json", "--registry", NAME).out == first.out
    assert hub.requests() == []


def test_an_answer_from_the_cache_says_its_age(hub: LoopbackHub, published: str, invoke: Any) -> None:
    assert f"registry hf://datasets/{NAME}@{published}\n" in invoke("list", "--registry", NAME).err
    assert "ago" not in invoke("list", "--registry", NAME).err
    for path in cache_root().glob("hub/*/refs/*"):
        os.utime(path, (time.time() - 185,) * 2)
    assert (
        f"registry hf://datasets/{NAME}@{published}, as it was 3 minutes ago" in invoke("list", "--registry", NAME).err
    )
    assert len(hub.requests()) == 1
