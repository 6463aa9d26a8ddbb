"""Registries and adapters on the Hub, read by the real client over HTTP: what is asked, kept, checked and said."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import BASE, LORA, lora
from damage import change, elsewhere, put, snapshot
from loopback import LoopbackHub, User
from orchards import hub_cache
from published import FIRST, INDEX, NAME, REGISTRY, TOKEN, make_stale, publish

from tupate_hub import Zoo
from tupate_hub.collect.read_adapter import read_from
from tupate_hub.errors import FormatError, NotAvailableOffline, WorkFailed
from tupate_hub.hub.cache import cache_root
from tupate_hub.hub.location import DATASET, MODEL, Location, parse_location

# --- names -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "kind", "expected"),
    [
        ("acme/zoo", DATASET, Location(DATASET, "acme/zoo")),
        ("acme/zoo", MODEL, Location(MODEL, "acme/zoo")),
        ("acme/zoo@v1.0", DATASET, Location(DATASET, "acme/zoo", "v1.0")),
        ("hf://datasets/acme/zoo", DATASET, Location(DATASET, "acme/zoo")),
        ("hf://datasets/acme/zoo@refs/pr/1", DATASET, Location(DATASET, "acme/zoo", "refs/pr/1")),
        ("hf://acme/my-lora@" + "a" * 40, MODEL, Location(MODEL, "acme/my-lora", "a" * 40)),
    ],
)
def test_what_names_a_repository(written: str, kind: str, expected: Location) -> None:
    found = parse_location(written, kind)
    assert found == expected
    assert parse_location(str(expected), kind) == expected
    assert expected.pinned == written.endswith("a" * 40)


@pytest.mark.parametrize(
    "written",
    ["acme", "./acme/zoo", "../zoo", "/acme/zoo", "a/b/c", "acme/zoo@", "acme/..", "a b/c", "acme/zoo\n", "~/zoo", ""],
)
def test_what_names_none(written: str) -> None:
    assert parse_location(written, DATASET) is None
    with pytest.raises(FormatError, match="names no repository") as caught:
        parse_location(f"hf://datasets/{written}", DATASET)
    assert "hf://datasets/OWNER/NAME" in caught.value.hint


@pytest.mark.parametrize(("written", "kind"), [("hf://acme/m", DATASET), ("hf://datasets/acme/zoo", MODEL)])
def test_a_repository_of_the_other_kind(written: str, kind: str) -> None:
    with pytest.raises(FormatError, match=f"a {kind} repository is wanted"):
        parse_location(written, kind)


def test_a_folder_wins_over_a_repository(
    toy_zoo: Path, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "acme").mkdir()
    toy_zoo.rename(tmp_path / "acme" / "zoo")
    monkeypatch.chdir(tmp_path)
    assert Zoo.open(NAME).remote is None
    assert hub.requests() == []


# --- a registry ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", [NAME, f"hf://datasets/{NAME}", f"{NAME}@main", f"hf://datasets/{NAME}@main"])
def test_similar_fetches_the_registry_and_the_index_alone(
    written: str, hub: LoopbackHub, published: str, toy_zoo: Path, invoke: Any
) -> None:
    remote = invoke("similar", "sst2", "--registry", written)
    assert hub.requests() == [f"GET {REGISTRY}/main/registry.json", f"GET {REGISTRY}/{published}/{INDEX}"]
    local = invoke("similar", "sst2", "--registry", toy_zoo)
    assert (remote.code, remote.out) == (0, local.out)
    assert f"registry hf://datasets/{NAME}@{published}" in remote.err


@pytest.mark.parametrize("written", [NAME, "PINNED"])
def test_a_second_question_makes_no_request(written: str, hub: LoopbackHub, published: str, invoke: Any) -> None:
    written = written.replace("PINNED", f"{NAME}@{published}")
    first = invoke("similar", "sst2", "--registry", written)
    hub.seen.clear()
    assert invoke("similar", "sst2", "--registry", written) == first
    assert hub.requests() == []


def test_a_branch_that_is_named_is_asked_for_each_time(hub: LoopbackHub, published: str, invoke: Any) -> None:
    invoke("similar", "sst2", "--registry", f"{NAME}@main")
    hub.seen.clear()
    invoke("similar", "sst2", "--registry", f"{NAME}@main")
    assert hub.requests() == [f"HEAD {REGISTRY}/main/registry.json"]


def test_a_branch_that_has_moved_brings_what_is_new_and_only_that(
    hub: LoopbackHub, published: str, toy_zoo: Path, invoke: Any
) -> None:
    for task in ("imdb", "sst2"):
        assert invoke("pull", task, "--registry", NAME).code == 0
    put(toy_zoo, FIRST, lora("imdb", 77).to_bytes())
    moved = publish(hub, toy_zoo)
    make_stale()
    hub.seen.clear()
    assert invoke("pull", "sst2", "--registry", NAME).code == 0
    shown = invoke("show", "imdb", "--registry", NAME)
    assert hub.requests() == [
        f"HEAD {REGISTRY}/main/registry.json",
        f"GET {REGISTRY}/main/registry.json",
        f"GET {REGISTRY}/{moved}/{FIRST}",
    ]
    assert f"@{moved}" in shown.err
    old = invoke("show", "imdb", "--registry", f"{NAME}@{published}")
    assert old.out != shown.out


def test_every_verb_answers_as_for_the_folder(hub: LoopbackHub, published: str, toy_zoo: Path, invoke: Any) -> None:
    questions = [
        ("list", "--json"),
        ("spaces", "--json"),
        ("show", "imdb", "--json"),
        ("explain", "imdb", "rte", "--json"),
        ("similar", "imdb", "--explain", "--centre", "--json"),
        ("similar", toy_zoo / FIRST, "--json"),
        ("verify", "--json"),
    ]
    for question in questions:
        remote, local = (invoke(*question, "--registry", where) for where in (NAME, toy_zoo))
        assert remote.code == 0, question
        assert without_sizes(remote.json()) == without_sizes(local.json()), question


def without_sizes(document: Any) -> Any:
    """Without what `show` finds in the parameters, which it does not fetch from the Hub."""
    found = {"norm", "norm_by_layer", "output_change", "effective_rank", "diverged"}
    return {key: document[key] for key in document.keys() - found} if isinstance(document, dict) else document


def test_pull_takes_one_file(hub: LoopbackHub, published: str, tmp_path: Path, toy_zoo: Path, invoke: Any) -> None:
    assert invoke("pull", "imdb", "--as", "peft", "--bare", "--registry", NAME, "--to", tmp_path / "a").code == 0
    assert len(hub.requests()) == 2
    assert invoke("pull", "imdb", "--as", "peft", "--bare", "--registry", toy_zoo, "--to", tmp_path / "b").code == 0
    here, there = (elsewhere(snapshot(tmp_path / name), tmp_path / name) for name in "ab")
    assert here == there


def test_the_environment_may_name_a_repository(
    hub: LoopbackHub, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUPATE_HUB_REGISTRY", NAME)
    zoo = Zoo.open()
    assert zoo.remote is not None
    assert zoo.remote.location == Location(DATASET, NAME, published)


@pytest.mark.parametrize("first", [64_000, 16])
def test_show_fetches_a_header_alone(
    first: int, hub: LoopbackHub, published: str, toy_zoo: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(toy_zoo, FIRST, lora("imdb", 5, rank=64, layers=60).to_bytes())
    publish(hub, toy_zoo)
    monkeypatch.setattr("tupate_hub.hub.cache._HEADER", first)
    shown = invoke("show", "imdb", "--registry", NAME, "--json")
    assert shown.json() == without_sizes(invoke("show", "imdb", "--registry", toy_zoo, "--json").json())
    assert sum(one.sent for one in hub.seen if "imdb" in one.path) < (toy_zoo / FIRST).stat().st_size / 2
    assert len([one for one in hub.requests() if "imdb" in one]) == (1 if first == 64_000 else 2)
    assert invoke("pull", "imdb", "--registry", NAME).code == 0
    hub.seen.clear()
    assert invoke("show", "imdb", "--registry", NAME, "--json").out == shown.out
    assert hub.requests() == []


def test_show_of_a_header_that_lies(hub: LoopbackHub, published: str, invoke: Any) -> None:
    repository = hub.store.repository("datasets", NAME)
    data = repository.commit("main").files[FIRST].data
    hub.store.replace_blob(repository, FIRST, (10**15).to_bytes(8, "little") + data[8:])
    result = invoke("show", "imdb", "--registry", NAME)
    assert (result.code, result.out) == (2, "")
    assert "its header claims 1000000000000000 bytes" in result.err
    hub.store.replace_blob(repository, FIRST, data + b"x")
    assert "were announced" in invoke("show", "imdb", "--registry", NAME).err


@pytest.mark.parametrize("verb", [("add", "ADAPTER"), ("stats", "FOLDER"), ("card",)])
def test_a_registry_on_the_hub_is_not_written_to(
    verb: tuple[str, ...], hub: LoopbackHub, published: str, toy_zoo: Path, tmp_path: Path, invoke: Any
) -> None:
    names = {"ADAPTER": str(toy_zoo / FIRST), "FOLDER": str(tmp_path)}
    result = invoke(*(names.get(one, one) for one in verb), "--registry", f"hf://datasets/{NAME}")
    assert (result.code, result.out) == (2, "")
    if verb[0] != "stats":  # which first looks for torch and the base model
        assert "on the Hub" in result.err
        assert "folder" in result.err


def test_a_question_that_needs_every_embedding_asks_for_several_at_once(hub: LoopbackHub, published: str) -> None:
    zoo = Zoo.open(NAME)
    hub.fault("meet", f"{REGISTRY}/.*safetensors")
    assert len(zoo.load_space(LORA.name)) == 6
    assert len(hub.requests()) == 7


def test_two_processes_at_once(hub: LoopbackHub, published: str, toy_zoo: Path) -> None:
    program = [sys.executable, "-m", "tupate_hub", "similar", str(toy_zoo / FIRST), "--registry", NAME]
    both = [subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [one.communicate(timeout=250) for one in both]
    assert [one.returncode for one in both] == [0, 0], answers
    assert answers[0] == answers[1]


def test_a_warm_question_loads_numpy_alone(hub: LoopbackHub, published: str, invoke: Any) -> None:
    assert invoke("similar", "sst2", "--registry", NAME).code == 0
    program = "import sys\nfrom tupate_hub.cli import run\ncode = run(['similar', 'sst2', '--registry', sys.argv[1]])\n"
    program += "sys.exit(code or 10 * bool({'huggingface_hub', 'requests', 'httpx2', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program, NAME], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- offline ---------------------------------------------------------------------------------------------------


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> str:
    """A Hub that nobody listens for."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    return address


def test_offline_what_is_cached_answers(
    hub: LoopbackHub, published: str, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = invoke("similar", "sst2", "--registry", NAME)
    make_stale()
    hub.seen.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    again = invoke("similar", "sst2", "--registry", NAME)
    assert (again.code, again.out) == (0, first.out)
    assert f"The Hub does not answer: this is hf://datasets/{NAME}@{published}, as it was 2 hours ago." in again.err
    assert hub.requests() == []


def test_without_a_network_what_is_cached_answers(
    hub: LoopbackHub, published: str, invoke: Any, pauses: list[float]
) -> None:
    first = invoke("similar", "sst2", "--registry", NAME)
    make_stale()
    hub.fault("close")
    again = invoke("similar", "sst2", "--registry", NAME)
    assert sum(pauses) < 5
    assert (again.code, again.out) == (0, first.out)
    assert "The Hub does not answer" in again.err


@pytest.mark.parametrize("off", [True, False])
def test_what_is_not_cached_is_named_at_once(
    off: bool, online: None, nowhere: str, invoke: Any, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", str(int(off)))
    result = invoke("similar", "sst2", "--registry", f"hf://datasets/{NAME}")
    assert sum(pauses) < 5
    assert (result.code, result.out) == (3, "")
    assert f"registry.json of hf://datasets/{NAME} is not in the cache" in result.err
    assert ("unset HF_HUB_OFFLINE" if off else nowhere) in result.err
    assert not list(cache_root().glob("hub/**/*.json"))


def test_a_file_that_is_not_cached_is_named(
    hub: LoopbackHub, published: str, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert invoke("list", "--registry", NAME).code == 0
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = invoke("pull", "imdb", "--registry", NAME)
    assert (result.code, result.out) == (3, "")
    assert f"{FIRST} of hf://datasets/{NAME}@{published} is not in the cache" in result.err


def test_a_short_name_may_have_been_a_path(online: None, nowhere: str, invoke: Any) -> None:
    for arguments in (("list", "--registry", "no/where"), ("similar", "no/where"), ("inspect", "no/where")):
        result = invoke(*arguments)
        assert result.code == 3
        assert "no/where does not exist on this disk." in result.err


def test_a_repository_that_was_plainly_meant_is_not_called_a_path(
    hub: LoopbackHub, published: str, invoke: Any, adapter: dict[str, bytes]
) -> None:
    hub.store.put("models", "acme/card", {"README.md": b"# x"})
    for arguments in (
        ("list", "--registry", f"{NAME}@v9"),
        ("inspect", "acme/card"),
        ("similar", "acme/card"),
        ("inspect", "acme/none@main"),
        ("list", "--registry", "acme/none@main"),
    ):
        result = invoke(*arguments)
        assert result.code == 2
        assert "on this disk" not in result.err, result.err
    assert "acme/none does not exist on this disk. The Hub does not have" in invoke("inspect", "acme/none").err


def test_a_slow_hub_is_given_up(hub: LoopbackHub, published: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tupate_hub.hub.session._SECONDS", 0.2)
    monkeypatch.setattr("tupate_hub.hub.session._QUICK", 0.1)
    hub.fault("slow", REGISTRY, seconds=250)
    with pytest.raises(NotAvailableOffline, match="cannot be reached"):
        Zoo.open(NAME)


# --- faults ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("status", {"status": 500}),
        ("status", {"status": 503}),
        ("status", {"status": 429, "headers": {"Retry-After": "0"}}),
        ("cut", {}),
        ("close", {}),
    ],
)
def test_what_fails_once_is_tried_again(
    kind: str, options: dict[str, Any], hub: LoopbackHub, published: str, invoke: Any
) -> None:
    hub.fault(kind, "registry.json", times=1, **options)
    hub.fault(kind, "index-update", times=1, **options)
    result = invoke("similar", "sst2", "--registry", NAME)
    assert result.code == 0
    assert len(hub.requests()) in (3, 4)  # a cut of the storage's answer is not seen among the Hub's own


@pytest.mark.parametrize(
    ("options", "words", "count"),
    [
        ({"status": 503}, ("failed with status 503", "in a minute"), 3),
        ({"status": 429, "headers": {"Retry-After": "300"}}, ("fewer requests", "in 300 s", "hf auth login"), 1),
        ({"status": 429}, ("fewer requests", "in a minute"), 3),
        ({"status": 418}, ("refused hf://", "with status 418", "look at "), 1),
        ({"status": 451, "headers": {"X-Error-Message": "By law"}}, ("with status 451: By law.",), 1),
    ],
)
def test_what_keeps_failing_ends_soon(
    options: dict[str, Any],
    words: tuple[str, ...],
    count: int,
    hub: LoopbackHub,
    published: str,
    invoke: Any,
    pauses: list[float],
) -> None:
    hub.fault("status", REGISTRY, **options)
    result = invoke("list", "--registry", NAME)
    assert sum(pauses) < 5
    assert (result.code, result.out) == (1, "")
    assert all(word in result.err for word in words)
    assert len(hub.requests()) == count


@pytest.mark.parametrize(
    ("kind", "options", "words", "code", "files"),
    [
        ("status", {"status": 503}, "failed with status 503", 1, 3),
        ("status", {"status": 503, "headers": {"Retry-After": "600"}}, "asks to be left alone", 1, 1),
        ("status", {"status": 429, "headers": {"Retry-After": "600"}}, "asks for fewer requests", 1, 1),
        ("cut", {}, "its answer was cut off", 1, 3),
        ("close", {}, "cannot be reached", 3, 1),
    ],
)
def test_verify_does_not_take_an_outage_for_damage(
    kind: str,
    options: dict[str, Any],
    words: str,
    code: int,
    files: int,
    hub: LoopbackHub,
    published: str,
    invoke: Any,
    pauses: list[float],
) -> None:
    assert invoke("pull", "imdb", "--registry", NAME).code == 0
    hub.fault(kind, "GET /.*safetensors", **options)
    for form in ((), ("--json",)):
        hub.seen.clear()
        result = invoke("verify", "--registry", NAME, *form)
        assert (result.code, result.out) == (code, "")
        assert "Not everything could be checked, and 0 problems had been found until then: " in result.err
        if not form:
            assert words in result.err
            assert len({one.path.rpartition("/")[2] for one in hub.seen if "safetensors" in one.path}) <= files
    hub.faults.clear()


def test_verify_goes_on_behind_a_file_that_cannot_be_had(
    hub: LoopbackHub, published: str, invoke: Any, pauses: list[float]
) -> None:
    repository = hub.store.repository("datasets", NAME)
    name = FIRST.replace("imdb", "sst2")
    hub.store.replace_blob(repository, name, repository.commit("main").files[name].data[:-1] + b"!")
    hub.fault("status", f"GET {REGISTRY}/.*imdb.safetensors", status=500)
    result = invoke("verify", "--registry", NAME)
    assert (result.code, result.out) == (1, "")
    assert "and 1 problem had been found until then: The Hub failed with status 500" in result.err
    hub.faults.clear()
    result = invoke("verify", "--registry", NAME)
    assert result.code == 2
    assert "sst2.safetensors does not have the announced content" in result.out


def test_verify_does_not_take_a_full_disk_for_damage(
    hub: LoopbackHub, published: str, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tupate_hub.hub import cache

    assert invoke("list", "--registry", NAME).code == 0

    def full(*_: Any, **__: Any) -> None:
        raise WorkFailed("The disk is full.", hint="free some space")

    monkeypatch.setattr(cache, "write_bytes", full)
    hub.seen.clear()
    result = invoke("verify", "--registry", NAME)
    assert (result.code, result.out) == (1, "")
    assert "0 problems had been found until then: The disk is full." in result.err
    assert "TUPATE_HUB_CACHE" in result.err
    assert len(hub.requests()) == 3


def test_a_hub_that_fails_leaves_the_cache_to_answer(hub: LoopbackHub, published: str, invoke: Any) -> None:
    first = invoke("list", "--registry", NAME)
    make_stale()
    hub.fault("status", REGISTRY, status=503)
    again = invoke("list", "--registry", NAME)
    assert (again.code, again.out) == (0, first.out)
    assert "does not answer" in again.err


def test_a_file_of_another_content_is_not_kept(hub: LoopbackHub, published: str, invoke: Any) -> None:
    hub.fault("wrong", "/storage/.*imdb", times=1)
    result = invoke("pull", "imdb", "--registry", NAME)
    assert (result.code, result.out) == (2, "")
    assert f"hf://datasets/{NAME}@{published}/{FIRST} does not have the announced content" in result.err
    assert not list(cache_root().glob("hub/blobs/*"))
    assert invoke("pull", "imdb", "--registry", NAME).code == 0


@pytest.mark.parametrize("longer", [True, False])
def test_a_file_of_another_size_is_not_kept(longer: bool, hub: LoopbackHub, published: str, invoke: Any) -> None:
    repository = hub.store.repository("datasets", NAME)
    data = repository.commit("main").files[FIRST].data
    hub.store.replace_blob(repository, FIRST, data + b"x" * 1_000_000 if longer else data[:-1])
    hub.seen.clear()
    result = invoke("pull", "imdb", "--registry", NAME)
    assert (result.code, result.out) == (2, "")
    assert f"{len(data)} were announced" in result.err
    assert not list(cache_root().glob("hub/blobs/*"))
    assert max(one.sent for one in hub.seen if "imdb" in one.path) <= len(data) + 1


def test_a_cached_file_that_rots_is_fetched_again(hub: LoopbackHub, published: str, invoke: Any) -> None:
    assert invoke("pull", "imdb", "--registry", NAME).code == 0
    (blob,) = cache_root().glob("hub/blobs/*")
    good = blob.read_bytes()
    blob.write_bytes(good[:-1] + b"!")
    assert invoke("pull", "imdb", "--registry", NAME).code == 0
    assert blob.read_bytes() == good


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data["embeddings"][0].update(bytes=10**10), "claims 10000000000 bytes"),
        (lambda data: data["embeddings"][0].update(file="../../x"), "leaves the zoo"),
        (lambda data: data["embeddings"][0].update(file="a\x1b[2J"), "leaves the zoo"),
        (lambda data: data["embeddings"][0].update(sha256="../" * 20), "64 hexadecimal"),
        (lambda data: data.update(schema=99), "schema 99"),
    ],
)
def test_a_hostile_registry(
    damage: Callable[[Any], object], words: str, hub: LoopbackHub, toy_zoo: Path, invoke: Any
) -> None:
    change(toy_zoo, damage)
    publish(hub, toy_zoo)
    result = invoke("pull", "imdb", "--registry", NAME)
    assert (result.code, result.out) == (2, "")
    assert words in result.err
    assert "\x1b[2J" not in result.err
    assert len(hub.requests()) == 1


def test_a_registry_that_is_too_large_is_not_fetched(
    hub: LoopbackHub, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tupate_hub.hub.cache.MOST_REGISTRY", 100)
    with pytest.raises(FormatError, match=r"claims \d+ bytes; at most 100 are fetched"):
        Zoo.open(NAME)
    assert max(one.sent for one in hub.seen) <= 101


def test_a_repository_without_a_registry(hub: LoopbackHub, invoke: Any) -> None:
    hub.store.put("datasets", NAME, {"README.md": b"# x"})
    result = invoke("list", "--registry", f"hf://datasets/{NAME}")
    assert result.code == 2
    assert f"hf://datasets/{NAME} has no registry.json" in result.err


def test_an_empty_registry_file(hub: LoopbackHub, invoke: Any) -> None:
    hub.store.put("datasets", NAME, {"registry.json": b""})
    result = invoke("list", "--registry", NAME)
    assert result.code == 2
    assert "is not JSON" in result.err


def test_a_revision_that_is_gone(hub: LoopbackHub, published: str, toy_zoo: Path, invoke: Any) -> None:
    (toy_zoo / "more").write_text("x")
    publish(hub, toy_zoo)
    hub.store.forget(hub.store.repository("datasets", NAME), published)
    for revision in (published, "v9"):
        result = invoke("list", "--registry", f"{NAME}@{revision}")
        assert result.code == 2
        assert f"has no revision '{revision}'" in result.err
        assert f"take its newest: hf://datasets/{NAME}\n" in result.err


def test_something_that_is_no_hub(hub: LoopbackHub, published: str, invoke: Any) -> None:
    hub.fault("status", REGISTRY, status=200)
    result = invoke("list", "--registry", NAME)
    assert result.code == 1
    assert "HF_ENDPOINT" in result.err


def test_a_cache_that_cannot_be_written_to(
    hub: LoopbackHub, published: str, invoke: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TUPATE_HUB_CACHE", str(tmp_path / "file"))
    result = invoke("list", "--registry", NAME)
    assert result.code == 1
    assert "TUPATE_HUB_CACHE" in result.err


# --- who may ---------------------------------------------------------------------------------------------------


@pytest.fixture
def people(hub: LoopbackHub) -> None:
    hub.store.users.update({TOKEN: User("acme"), "hf_other": User("other")})


@pytest.mark.parametrize("token", ["", "hf_other", TOKEN])
@pytest.mark.parametrize("kind", ["private", "gated"])
def test_private_and_gated(
    kind: str,
    token: str,
    hub: LoopbackHub,
    people: None,
    toy_zoo: Path,
    invoke: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish(hub, toy_zoo, **{kind: True})
    monkeypatch.setenv("HF_TOKEN", token)
    result = invoke("similar", "sst2", "--registry", NAME)
    assert "secret" not in result.err
    if token == TOKEN:
        assert result.code == 0
        assert {one.token for one in hub.seen if one.path.startswith(REGISTRY)} == {TOKEN}
        assert {one.token for one in hub.seen if one.path.startswith("/storage")} == {""}
        assert all(TOKEN.encode() not in data for data in snapshot(cache_root()).values())
        return
    assert (result.code, result.out) == (2, "")
    assert ("or it is private" if kind == "private" else "is gated") in result.err
    assert ("hf auth login" in result.err) == (kind == "private" or not token)
    if kind == "gated":
        assert f"accept its terms on {hub.endpoint}/datasets/{NAME}" in result.err


def test_a_token_that_the_hub_does_not_know(
    hub: LoopbackHub, published: str, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    result = invoke("list", "--registry", NAME)
    assert result.code == 2
    assert "does not know your token" in result.err
    assert TOKEN not in result.err


def test_a_hub_that_forbids(hub: LoopbackHub, published: str, invoke: Any) -> None:
    hub.fault("status", REGISTRY, status=403)
    result = invoke("list", "--registry", NAME)
    assert result.code == 2
    assert "does not allow reading" in result.err


def test_a_repository_that_is_not_there(hub: LoopbackHub, invoke: Any) -> None:
    result = invoke("list", "--registry", "acme/none")
    assert (result.code, result.out) == (2, "")
    assert "The Hub does not have a dataset repository acme/none, or it is private." in result.err


# --- adapters --------------------------------------------------------------------------------------------------


def test_an_adapter_of_the_hub_ranks_as_the_one_on_disk(
    hub: LoopbackHub, adapter: dict[str, bytes], toy_zoo: Path, tmp_path: Path, invoke: Any
) -> None:
    sha = hub.store.put("models", "acme/my-lora", adapter)
    remote = invoke("similar", "acme/my-lora", "--registry", toy_zoo)
    assert remote.code == 0
    assert remote.out == invoke("similar", tmp_path / "x", "--registry", toy_zoo).out
    files = {one.rpartition("/")[2] for one in hub.requests() if "/resolve/" in one}
    assert files == {"adapter_config.json", "adapter_model.safetensors"}
    hub.seen.clear()
    assert invoke("similar", f"hf://acme/my-lora@{sha}", "--registry", toy_zoo).out == remote.out
    assert invoke("similar", "acme/my-lora", "--registry", toy_zoo).out == remote.out
    assert hub.requests() == []


def test_what_a_repository_says_of_its_adapter(hub: LoopbackHub, adapter: dict[str, bytes]) -> None:
    config = json.loads(adapter["adapter_config.json"])
    del config["base_model_name_or_path"]
    sha = hub.store.put("models", "acme/m", {**adapter, "adapter_config.json": json.dumps(config).encode()})
    one = read_from("acme/m")
    assert (one.task, one.space.base, one.facts["licence"]) == ("rte", BASE, "mit")
    source = one.facts["source"]
    assert {name: source[name] for name in ("kind", "repo", "revision", "dataset", "licence")} == {
        "kind": "hub",
        "repo": "acme/m",
        "revision": sha,
        "dataset": "nyu-mll/rte",
        "licence": "mit",
    }
    assert source["sha256"] == hashlib.sha256(adapter["adapter_model.safetensors"]).hexdigest()


@pytest.mark.parametrize(
    ("name", "card", "task"),
    [
        ("acme/bert-base-uncased-pf-squad", b"# none", "squad"),
        ("acme/my-lora", b"# none", "my-lora"),
        ("acme/m", b"---\ntags:\n- adapterhub:sentiment/sst-2\ndatasets:\n- imdb\n---\n", "sst2"),
        ("acme/m", b"---\ndatasets:\n- stanfordnlp/imdb\n---\n", "imdb"),
        ("acme/m", b"---\ndatasets:\n- glue\n---\n", "m"),
        ("acme/m", b"---\ndatasets:\n- imdb\n- squad\n---\n", "m"),
    ],
)
def test_the_task_by_tags_and_then_by_name(
    name: str, card: bytes, task: str, hub: LoopbackHub, adapter: dict[str, bytes]
) -> None:
    hub.store.put("models", name, {**adapter, "README.md": card})
    assert read_from(name).task == task


def test_add_takes_an_adapter_of_the_hub(
    hub: LoopbackHub, adapter: dict[str, bytes], tmp_path: Path, invoke: Any
) -> None:
    sha = hub.store.put("models", "acme/m", adapter)
    mine = tmp_path / "mine"
    assert invoke("add", f"hf://acme/m@{sha}", "--task", "x", "--registry", mine).code == 0
    entry = invoke("show", "x", "--registry", mine, "--json").json()["entry"]
    assert (entry["source"]["repo"], entry["source"]["revision"]) == ("acme/m", sha)
    assert invoke("add", "acme/m", "--registry", mine).code == 0
    assert invoke("similar", "acme/m", "--registry", mine).code == 0


def test_pull_and_inspect_take_an_adapter_of_the_hub(
    hub: LoopbackHub, adapter: dict[str, bytes], tmp_path: Path, invoke: Any
) -> None:
    hub.store.put("models", "acme/m", adapter)
    assert invoke("inspect", "acme/m", "--json").json()["method"] == "lora"
    assert invoke("pull", "acme/m", "--as", "peft", "--bare", "--to", tmp_path / "back").code == 0
    assert (tmp_path / "back" / "adapter_model.safetensors").read_bytes() == adapter["adapter_model.safetensors"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"README.md": b"# x"}, "has no adapter_config.json"),
        ({"adapter_config.json": b"{}"}, "is not that of a known library"),
        ({"adapter_config.json": b"nonsense"}, "is not a JSON object"),
        ({"adapter_config.json": b"[1]"}, "is not a JSON object"),
        ({"adapter_config.json": b"3"}, "is not a JSON object"),
        (
            {"adapter_config.json": b'{"peft_type": "LORA"}', "pytorch_model.bin": b"x" * 99},
            "configuration without weights",
        ),
    ],
)
def test_a_repository_that_holds_no_adapter(
    files: dict[str, bytes], words: str, hub: LoopbackHub, toy_zoo: Path, invoke: Any
) -> None:
    hub.store.put("models", "acme/m", files)
    result = invoke("similar", "acme/m", "--registry", toy_zoo)
    assert (result.code, result.out) == (2, "")
    assert words in result.err
    assert not any("pytorch_model.bin" in one for one in hub.requests())


def test_weights_that_are_too_large_are_not_fetched(
    hub: LoopbackHub, adapter: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.store.put("models", "acme/m", adapter)
    monkeypatch.setattr("tupate_hub.hub.download.MOST_FILE", 100)
    with pytest.raises(FormatError, match=r"claims \d+ bytes; at most 100 are fetched"):
        read_from("acme/m")
    assert not any("safetensors" in one for one in hub.requests())


def test_weights_of_another_content_are_not_kept(hub: LoopbackHub, adapter: dict[str, bytes]) -> None:
    hub.store.put("models", "acme/m", adapter)
    hub.fault("wrong", "/storage/", times=2)
    with pytest.raises(FormatError, match="does not have the announced content"):
        read_from("acme/m")
    assert not list(hub_cache().rglob("*.safetensors"))
    hub.fault("wrong", "/storage/", times=1)
    assert read_from("acme/m").task == "rte"


@pytest.mark.parametrize("text", [b"[]", b"{", b"{}"])
def test_an_answer_about_a_repository_that_makes_no_sense(
    text: bytes, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loopback.answers.info", lambda *_: json.loads(text) if text != b"{" else "text")
    hub.store.put("models", "acme/m", {"x": b""})
    with pytest.raises(WorkFailed, match="did not answer for hf://acme/m as a Hub does"):
        read_from("acme/m")


def test_an_adapter_offline(hub: LoopbackHub, adapter: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    hub.store.put("models", "acme/m", adapter)
    first = read_from("acme/m")
    make_stale()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert read_from("acme/m").to_bytes() == first.to_bytes()
    with pytest.raises(NotAvailableOffline, match="hf://acme/other is not in the cache"):
        read_from("hf://acme/other")


# --- interrupted -----------------------------------------------------------------------------------------------


def test_killed_while_fetching_and_again(hub: LoopbackHub, published: str, tmp_path: Path) -> None:
    program = [sys.executable, "-m", "tupate_hub", "verify", "--registry", NAME]
    hub.fault("slow", "snli", times=1, seconds=5)
    first = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    waiting = threading.Event()
    for _ in range(400):
        if any("imdb" in str(one) for one in hub.seen):
            break
        waiting.wait(0.05)
    first.kill()
    first.wait()
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for blob in cache_root().glob("hub/blobs/[0-9a-f]*"):
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name


def test_the_bundled_zoo_makes_the_round_trip(hub: LoopbackHub, invoke: Any) -> None:
    zoo = Zoo.open()
    files = {"registry.json": zoo.registry.to_json().encode()}
    files |= {file: (zoo.root / file).read_bytes() for file, _, _ in zoo.registry.files()}
    hub.store.put("datasets", NAME, files)
    result = invoke("verify", "--registry", NAME, "--json")
    assert result.json() == {"embeddings": len(zoo.registry.entries), "problems": []}
