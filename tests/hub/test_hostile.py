"""The Hub at its worst, met by the real client: it fails, is slow or lies; registries and adapters of hostile authors."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from builders import LORA, lora
from damage import change, put, snapshot
from loopback import LoopbackHub, User
from orchards import hub_cache
from published import FIRST, INDEX, NAME, REGISTRY, TOKEN, make_stale, publish

from tupate_hub import Zoo
from tupate_hub.collect.read_adapter import read_from
from tupate_hub.errors import FormatError, NotAvailableOffline, TupateHubError, WorkFailed
from tupate_hub.hub import rate_limit
from tupate_hub.hub.cache import cache_root
from tupate_hub.registry import FILENAME

MODEL = "acme/m"
MODEL_INFO = f"/api/models/{MODEL}"
MODEL_FILES = f"/{MODEL}/resolve"
ESCAPE = "\x1b[31mred\x1b[0m\x9b2J\u202egnp.exe\r\x08"


OWN_STYLE = re.compile(r"\x1b\[(?:0|1|22)m")  # a terminal's header line is bold, the others are not


def whole(text: str) -> bool:
    """Whether a terminal can show a text without obeying it."""
    return all(char.isprintable() or char in "\n\t" for char in text)


# --- killed ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "moment"),
    [
        (("pull", "imdb", "--registry", NAME), f"GET {REGISTRY}/main/registry.json"),
        (("pull", "imdb", "--registry", NAME), "GET /storage/.*imdb"),
        (("similar", "imdb", "--registry", NAME), "GET /storage/.*index-update"),
        (("pull", MODEL), f"GET {MODEL_INFO}"),
        (("pull", MODEL), f"GET {MODEL_FILES}/.*/adapter_config.json"),
        (("pull", MODEL), "GET /storage/.*/adapter_model.safetensors"),
    ],
)
def test_killed_in_the_middle_of_a_request_and_again(
    command: tuple[str, ...], moment: str, hub: LoopbackHub, published: str, adapter: dict[str, bytes], tmp_path: Path
) -> None:
    hub.store.put("models", MODEL, adapter)
    hub.fault("slow", moment, times=1, seconds=250)
    target = ("--to", str(tmp_path / "out")) if command[0] == "pull" else ()
    program = [sys.executable, "-m", "tupate_hub", *command, *target]
    first = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 250
    while hub.faults.waiting() and time.monotonic() < until:
        assert first.poll() is None
        time.sleep(0.02)
    first.kill()
    assert first.wait() == -9
    assert not (tmp_path / "out").exists()
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for blob in cache_root().glob("hub/blobs/*"):
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name


# --- failing, slow ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [MODEL_INFO, "adapter_config.json", "adapter_model.safetensors"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("status", {"status": 500}),
        ("status", {"status": 503, "headers": {"Retry-After": "0"}}),
        ("status", {"status": 429, "headers": {"Retry-After": "0"}}),
        ("cut", {}),
        ("close", {}),
    ],
)
def test_an_adapter_survives_what_fails_once(
    where: str, kind: str, options: dict[str, Any], hub: LoopbackHub, adapter: dict[str, bytes]
) -> None:
    hub.store.put("models", MODEL, adapter)
    hub.fault(kind, where, times=1, **options)
    assert read_from(MODEL).task == "rte"
    assert not hub.faults.waiting()


@pytest.mark.parametrize(
    ("where", "kind", "options", "error", "words"),
    [
        (MODEL_INFO, "status", {"status": 503}, WorkFailed, "failed with status 503"),
        (MODEL_INFO, "status", {"status": 429, "headers": {"Retry-After": "300"}}, WorkFailed, "fewer requests"),
        (MODEL_INFO, "cut", {}, WorkFailed, "its answer was cut off"),
        ("adapter_model", "status", {"status": 500}, WorkFailed, "failed with status 500"),
        ("adapter_model", "cut", {}, WorkFailed, "its answer was cut off"),
        ("adapter_model", "close", {}, NotAvailableOffline, "cannot be reached"),
        ("adapter_model", "wrong", {}, FormatError, "announced content"),
        (MODEL_INFO, "wrong", {}, WorkFailed, "as a Hub does"),
    ],
)
def test_an_adapter_that_keeps_failing_leaves_nothing_half_fetched(
    where: str,
    kind: str,
    options: dict[str, Any],
    error: type[TupateHubError],
    words: str,
    hub: LoopbackHub,
    adapter: dict[str, bytes],
    pauses: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub.store.put("models", MODEL, adapter)
    hub.fault(kind, where, **options)
    with pytest.raises(error, match=words) as caught:
        read_from(MODEL)
    assert sum(pauses) < 10
    assert caught.value.hint
    assert not list(hub_cache().rglob("*.safetensors"))
    hub.faults.clear()
    monkeypatch.setattr(rate_limit, "RATE_LIMIT", rate_limit.RateLimit())
    assert read_from(MODEL).task == "rte"


@pytest.mark.parametrize("kind", ["cut", "close", "wrong"])
def test_a_registry_that_arrives_damaged_is_not_kept(kind: str, hub: LoopbackHub, published: str, invoke: Any) -> None:
    hub.fault(kind, "registry.json")
    result = invoke("list", "--registry", f"{NAME}@{published}")
    assert result.out == ""
    assert result.code in (1, 3)
    assert "retry" in result.err
    assert not list(cache_root().rglob(FILENAME))
    hub.faults.clear()
    assert invoke("list", "--registry", f"{NAME}@{published}").code == 0


@pytest.mark.parametrize("small", [True, False])
def test_a_registry_is_checked_by_the_digest_that_the_hub_gives(
    small: bool, hub: LoopbackHub, published: str, monkeypatch: pytest.MonkeyPatch, invoke: Any
) -> None:
    monkeypatch.setattr("loopback.store.LFS_FROM", 10**9 if small else 10)  # git's sha1, or the sha256 of LFS
    repository = hub.store.repository("datasets", NAME)
    text = repository.commit("main").files[FILENAME].data
    hub.store.replace_blob(repository, FILENAME, text)
    assert invoke("list", "--registry", f"{NAME}@{published}").code == 0
    (kept,) = cache_root().rglob(FILENAME)
    kept.unlink()
    other = text.replace(b"IMDB", b"XXXX")
    assert len(other) == len(text)
    assert other != text
    monkeypatch.setattr("loopback.server._Handler._file", changing(text, other))
    result = invoke("list", "--registry", f"{NAME}@{published}")
    assert (result.code, result.out) == (1, "")
    assert "arrived damaged" in result.err
    assert not list(cache_root().rglob(FILENAME))


def changing(text: bytes, other: bytes) -> Callable[..., None]:
    """The server's way to send a file, with one file's content changed and its digest left."""
    from loopback.server import _Handler

    send = _Handler._file

    def changed(self: Any, data: bytes, headers: dict[str, str]) -> None:
        send(self, other if data == text else data, headers)

    return changed


def test_a_slow_hub_leaves_the_cache_to_answer(
    hub: LoopbackHub, published: str, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = invoke("similar", "sst2", "--registry", NAME)
    make_stale()
    monkeypatch.setattr("tupate_hub.hub.session._SECONDS", 0.3)
    monkeypatch.setattr("tupate_hub.hub.session._QUICK", 0.1)
    hub.fault("slow", REGISTRY, seconds=250)
    again = invoke("similar", "sst2", "--registry", NAME)
    assert (again.code, again.out) == (0, first.out)
    assert "The Hub does not answer" in again.err


def test_a_file_that_is_slow_to_come_is_named(
    hub: LoopbackHub, published: str, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert invoke("list", "--registry", NAME).code == 0  # so that only the slow request has to be quick
    monkeypatch.setattr("tupate_hub.hub.session._SECONDS", 0.3)
    monkeypatch.setattr("tupate_hub.hub.session._QUICK", 0.1)
    hub.fault("slow", "imdb", seconds=250)
    result = invoke("pull", "imdb", "--registry", NAME)
    assert (result.code, result.out) == (3, "")
    assert f"{FIRST} of hf://datasets/{NAME}@{published} is not in the cache" in result.err


def test_nothing_of_a_registry_is_asked_of_xet(
    hub: LoopbackHub, published: str, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    hub.xet = True
    assert invoke("pull", "imdb", "--registry", NAME).code == 0
    assert not [one for one in hub.requests() if "xet" in one]
    assert {one.status for one in hub.seen} <= {200, 206, 302}


@pytest.mark.skipif(not find_spec("hf_xet"), reason="needs hf_xet")
def test_an_adapter_in_xet_is_asked_of_xet(
    hub: LoopbackHub, adapter: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """This Hub has no xet to answer: what is seen is that the library asks for it, and what its error becomes."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    hub.xet = True
    hub.store.put("models", MODEL, adapter)
    with pytest.raises(WorkFailed, match="The Hub failed with status 404"):
        read_from(MODEL)
    assert [one for one in hub.requests() if "xet-read-token" in one]


# --- gone, private, gated --------------------------------------------------------------------------------------


def test_a_commit_of_an_adapter_that_is_gone(hub: LoopbackHub, adapter: dict[str, bytes], invoke: Any) -> None:
    gone = hub.store.put("models", MODEL, adapter)
    hub.store.put("models", MODEL, {"more": b"x"})
    hub.store.forget(hub.store.repository("models", MODEL), gone)
    for revision in (gone, "v9"):
        result = invoke("inspect", f"hf://{MODEL}@{revision}")
        assert (result.code, result.out) == (2, "")
        assert f"has no revision '{revision}'" in result.err
        assert f"take its newest: hf://{MODEL}\n" in result.err


def test_a_commit_that_is_gone_is_still_answered_from_the_cache(
    hub: LoopbackHub, published: str, toy_zoo: Path, invoke: Any
) -> None:
    first = invoke("similar", "sst2", "--registry", f"{NAME}@{published}")
    (toy_zoo / "more").write_text("x")
    publish(hub, toy_zoo)
    hub.store.forget(hub.store.repository("datasets", NAME), published)
    assert invoke("similar", "sst2", "--registry", f"{NAME}@{published}") == first
    result = invoke("pull", "imdb", "--registry", f"{NAME}@{published}")
    assert result.code == 2
    assert "does not exist" in result.err


@pytest.mark.parametrize("token", ["", "hf_otherotherother", "hf_unknownunknown", TOKEN])
@pytest.mark.parametrize("kind", ["private", "gated"])
@pytest.mark.parametrize("what", [("inspect", MODEL), ("pull", "imdb", "--registry", NAME)])
def test_a_token_is_never_shown_logged_or_written(
    what: tuple[str, ...],
    kind: str,
    token: str,
    hub: LoopbackHub,
    adapter: dict[str, bytes],
    toy_zoo: Path,
    isolated: Path,
    invoke: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    hub.store.users.update({TOKEN: User("acme"), "hf_otherotherother": User("other")})
    hub.store.put("models", MODEL, adapter, **{kind: True})
    publish(hub, toy_zoo, **{kind: True})
    monkeypatch.setenv("HF_TOKEN", token)
    with caplog.at_level(logging.DEBUG):
        result = invoke(*what)
    assert (result.code == 0) == (token == TOKEN), result.err
    if token != TOKEN:
        assert result.out == ""
        assert "hf auth login" in result.err or "accept its terms" in result.err
    told = [result.out, result.err, caplog.text]
    kept = snapshot(isolated)
    assert token != TOKEN or kept
    if token:
        assert not any(token in one for one in told)
        assert not any(token.encode() in data or token in path for path, data in kept.items())
        assert {one.token for one in hub.seen if one.path.startswith("/storage")} <= {""}
        assert {one.token for one in hub.seen if not one.path.startswith("/storage")} == {token}


# --- registries of hostile authors -----------------------------------------------------------------------------


def tattoo(data: Any) -> None:
    """Put the escapes into every text of a registry that may be any text."""
    task, entry, space = data["tasks"]["imdb"], data["embeddings"][0], data["spaces"][LORA.name]
    task.update({name: ESCAPE for name in ("title", "kind", "task_class", "metric", "dataset", "licence")})
    task["aliases"].append(ESCAPE)
    entry.update(source={ESCAPE: ESCAPE, "licence": [ESCAPE, {ESCAPE: 1}]}, flags=[ESCAPE])
    entry.update(scores={ESCAPE: 1, "primary": ESCAPE, "baseline": ESCAPE})
    space.update(settings={ESCAPE: ESCAPE}, base_sha256=ESCAPE)
    space["index"][ESCAPE] = space["index"]["update"]
    data["spaces"]["tiny-bert/prompt"].update(base=ESCAPE, method=ESCAPE)
    data[ESCAPE] = ESCAPE


NAMES: dict[str, Callable[[Any], object]] = {
    "task": lambda data: data["tasks"].update({ESCAPE: {"title": "x"}}),
    "space": lambda data: data["spaces"].update({ESCAPE: {"base": "x", "method": "y"}}),
    "file": lambda data: data["embeddings"][0].update(file=ESCAPE),
    "default space": lambda data: data.update(default_space=ESCAPE),
    "task of an embedding": lambda data: data["embeddings"][0].update(task=ESCAPE),
    "space of an embedding": lambda data: data["embeddings"][0].update(space=ESCAPE),
    "digest": lambda data: data["embeddings"][0].update(sha256=ESCAPE),
}
QUESTIONS = (
    ("list",),
    ("spaces",),
    ("show", "imdb"),
    ("similar", "sst2"),
    ("similar", "imdb", "--explain"),
    ("explain", "imdb", "rte"),
    ("verify",),
    ("similar", "IMD"),
    ("list", "--space", "x"),
)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_registrys_text_does_not_rule_the_terminal(
    terminal: bool, hub: LoopbackHub, toy_zoo: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(toy_zoo, tattoo)
    publish(hub, toy_zoo)
    if terminal:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for question in QUESTIONS:
        for form in ((), ("--json",)):
            result = invoke(*question, *form, "--registry", NAME)
            assert result.code in (0, 2), result.err
            assert whole(OWN_STYLE.sub("", result.out)), question
            assert whole(result.err), question
            if form and result.code == 0:
                json.loads(result.out)


@pytest.mark.parametrize("where", NAMES)
def test_a_name_that_would_rule_the_terminal_is_refused(
    where: str, hub: LoopbackHub, toy_zoo: Path, invoke: Any
) -> None:
    change(toy_zoo, NAMES[where])
    publish(hub, toy_zoo)
    result = invoke("list", "--registry", NAME)
    assert (result.code, result.out) == (2, "")
    assert f"hf://datasets/{NAME}@" in result.err
    assert whole(result.err)


def test_json_keeps_the_text_that_it_escapes(hub: LoopbackHub, toy_zoo: Path, invoke: Any) -> None:
    change(toy_zoo, tattoo)
    publish(hub, toy_zoo)
    shown = invoke("show", "imdb", "--registry", NAME, "--json")
    assert shown.json()["task"]["title"] == ESCAPE
    assert whole(shown.out)


@pytest.mark.parametrize("fact", ["notes", "licence", "source"])
def test_an_embeddings_text_does_not_rule_the_terminal(fact: str, hub: LoopbackHub, toy_zoo: Path, invoke: Any) -> None:
    put(toy_zoo, FIRST, lora("imdb", 1, **{fact: {ESCAPE: [ESCAPE]}}).to_bytes())
    publish(hub, toy_zoo)
    for question in (("show", "imdb"), ("show", "imdb", "--json"), ("verify",), ("pull", "imdb")):
        result = invoke(*question, "--registry", NAME)
        assert result.code == (2 if question == ("verify",) else 0)  # the index is of another embedding
        assert whole(result.out)
        assert whole(result.err)


@pytest.mark.parametrize(
    "file",
    [
        "/etc/passwd",
        "../registry.json",
        "zoo/../../x",
        "zoo//x",
        "./x",
        "zoo/./x",
        "zoo\\..\\x",
        "C:/x",
        "zoo/x\0",
        "zoo/x\ny",
        "zoo/%2e%2e/x",
        "zoo/x?a=b",
        "zoo/x#y",
        "~/x",
        "https://example.org/x",
        "",
        "/",
        "zoo/",
        "zoo/ x",
        "zoo/\u202ex",
        "x" * 300 + "/../y",
    ],
)
@pytest.mark.parametrize("what", ["embedding", "index", "moments", "repeat"])
def test_a_path_that_leads_elsewhere_is_not_followed(
    what: str, file: str, hub: LoopbackHub, toy_zoo: Path, invoke: Any
) -> None:
    def lead(data: Any) -> None:
        first, space = data["embeddings"][0], data["spaces"][LORA.name]
        place = {"file": first["file"], "bytes": first["bytes"], "sha256": first["sha256"], "seed": 1, "init_seed": 0}
        first["repeats"], space["moments"] = [place], dict(place)
        of = {"embedding": first, "index": space["index"]["update"], "moments": space["moments"], "repeat": place}
        of[what]["file"] = file

    change(toy_zoo, lead)
    publish(hub, toy_zoo)
    result = invoke("verify", "--registry", NAME)
    assert (result.code, result.out) == (2, "")
    assert "leaves the zoo" in result.err
    assert whole(result.err)
    assert hub.requests() == [f"GET {REGISTRY}/main/registry.json"]


@pytest.mark.parametrize("size", [10**10, 10**30, 1_000_000_001])
@pytest.mark.parametrize(
    ("what", "question"),
    [
        ("embedding", ("pull", "imdb")),
        ("embedding", ("show", "imdb")),
        ("embedding", ("similar", "imdb", "--explain")),
        ("index", ("similar", "imdb")),
        ("moments", ("similar", "imdb", "--similarity", "effect")),
    ],
)
def test_claims_of_ten_gigabytes_are_refused_unasked(
    what: str, question: tuple[str, ...], size: int, hub: LoopbackHub, toy_zoo: Path, invoke: Any
) -> None:
    def claim(data: Any) -> None:
        space = data["spaces"][LORA.name]
        space["moments"] = dict(space["index"]["update"])
        {"embedding": data["embeddings"][0], "index": space["index"]["update"], "moments": space["moments"]}[
            what
        ].update(bytes=size)

    change(toy_zoo, claim)
    publish(hub, toy_zoo)
    result = invoke(*question, "--registry", NAME)
    assert (result.code, result.out) == (2, "")
    assert f"claims {size} bytes; at most" in result.err
    claimed = {"embedding": "imdb", "index": "index", "moments": "index"}[what]
    assert not [one for one in hub.requests() if claimed in one]


def test_a_header_of_100_megabytes_is_not_fetched(hub: LoopbackHub, toy_zoo: Path, invoke: Any) -> None:
    put(toy_zoo, FIRST, (100_000_000).to_bytes(8, "little") + bytes(100_000_100))
    publish(hub, toy_zoo)
    result = invoke("show", "imdb", "--registry", NAME)
    assert (result.code, result.out) == (2, "")
    assert "has a header of 100000000 bytes; at most 16000000 are read" in result.err
    assert sum(one.sent for one in hub.seen if "imdb" in one.path) < 100_000


@pytest.mark.parametrize("length", [16_000_000, 15_999_999])
def test_the_longest_header_that_is_fetched(
    length: int, hub: LoopbackHub, published: str, invoke: Any, toy_zoo: Path
) -> None:
    put(toy_zoo, FIRST, length.to_bytes(8, "little") + b" " * length)
    publish(hub, toy_zoo)
    result = invoke("show", "imdb", "--registry", NAME)
    assert (result.code, result.out) == (2, "")
    assert "not JSON" in result.err


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 200_000,
        b'{"schema": 1, "schema": 1}',
        b'{"schema": ' + b"9" * 10_000 + b"}",
        b'{"schema": NaN}',
        b'{"schema": 1e999}',
        b'{"schema": "\\ud800"}',
        b"\xed\xa0\x80",
        b"\xff\xfe{\x00}\x00",
        b"null",
        b"<html>",
    ],
)
def test_a_registry_that_is_none(text: bytes, hub: LoopbackHub, invoke: Any) -> None:
    hub.store.put("datasets", NAME, {FILENAME: text})
    result = invoke("list", "--registry", f"hf://datasets/{NAME}")
    assert (result.code, result.out) == (2, "")
    assert f"hf://datasets/{NAME}@" in result.err
    assert whole(result.err)


@pytest.mark.parametrize("size", [-1, 0, 1])
def test_an_index_whose_size_lies_is_not_kept(size: int, hub: LoopbackHub, toy_zoo: Path, invoke: Any) -> None:
    real = (toy_zoo / INDEX).stat().st_size
    change(toy_zoo, lambda data: data["spaces"][LORA.name]["index"]["update"].update(bytes=max(0, real + size)))
    publish(hub, toy_zoo)
    result = invoke("similar", "sst2", "--registry", NAME)
    assert (result.code == 0) == (size == 0)
    if size:
        assert f"{real + size} were announced" in result.err
        assert not list(cache_root().glob("hub/blobs/*"))


def test_an_embedding_of_another_task_is_not_taken_for_it(hub: LoopbackHub, toy_zoo: Path, invoke: Any) -> None:
    put(toy_zoo, FIRST, (toy_zoo / FIRST.replace("imdb", "snli")).read_bytes())
    publish(hub, toy_zoo)
    for question in (("pull", "imdb"), ("show", "imdb")):
        result = invoke(*question, "--registry", NAME)
        assert (result.code, result.out) == (2, "")
        assert "holds task 'snli'; the registry says 'imdb'" in result.err


# --- adapters of hostile authors -------------------------------------------------------------------------------


def lying(monkeypatch: pytest.MonkeyPatch, how: Callable[[dict[str, Any]], object]) -> None:
    """Change what the Hub says of a repository."""
    from loopback import answers

    info = answers.info

    def told(*arguments: Any) -> dict[str, Any]:
        found = info(*arguments)
        how(found)
        return found

    monkeypatch.setattr("loopback.answers.info", told)


def sized(found: dict[str, Any], name: str, size: Any) -> None:
    for one in found["siblings"]:
        if one["rfilename"] == name:
            one["size"] = size


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
@pytest.mark.parametrize("size", [10**10, 10**30])
def test_an_adapter_that_claims_ten_gigabytes(
    name: str, size: int, hub: LoopbackHub, adapter: dict[str, bytes], invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.store.put("models", MODEL, adapter)
    lying(monkeypatch, lambda found: sized(found, name, size))
    result = invoke("inspect", MODEL)
    assert (result.code, result.out) == (2, "")
    assert f"claims {size} bytes" in result.err
    assert not [one for one in hub.requests() if name in one]


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
@pytest.mark.parametrize("size", [0, 7, 100_000, -1, True, "7", None])
def test_an_adapter_whose_size_lies(
    name: str, size: Any, hub: LoopbackHub, adapter: dict[str, bytes], invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.store.put("models", MODEL, adapter)
    lying(monkeypatch, lambda found: sized(found, name, size))
    result = invoke("inspect", MODEL)
    assert (result.code, result.out) == (2, "")
    assert not list(hub_cache().rglob("*.safetensors"))


@pytest.mark.parametrize(
    "name",
    [
        "adapter_model\x1b[31m.safetensors",
        "../adapter_model.safetensors",
        "..\\adapter_model.safetensors",
        "/adapter_model.safetensors",
        "sub/adapter_model.safetensors",
        "adapter_model.safetensors\n",
        "adapter_model.safetensors/..",
    ],
)
def test_weights_of_a_hostile_name_are_not_fetched(
    name: str, hub: LoopbackHub, adapter: dict[str, bytes], invoke: Any
) -> None:
    del adapter["adapter_model.safetensors"]
    hub.store.put("models", MODEL, {**adapter, name: b"x"})
    result = invoke("inspect", MODEL)
    assert (result.code, result.out) == (2, "")
    assert whole(result.err)
    assert [path.name for path in hub_cache().rglob("*adapter_model*")] == []


def test_what_an_adapter_says_does_not_rule_the_terminal(
    hub: LoopbackHub, adapter: dict[str, bytes], toy_zoo: Path, tmp_path: Path, invoke: Any, monkeypatch: Any
) -> None:
    config = json.loads(adapter["adapter_config.json"])
    config |= {"task_type": ESCAPE, "inference_mode": ESCAPE, "revision": ESCAPE, ESCAPE: ESCAPE}
    hub.store.put("models", MODEL, {**adapter, "adapter_config.json": json.dumps(config).encode()})
    tags = [f"license:{ESCAPE}", f"dataset:{ESCAPE}", f"adapterhub:x/{ESCAPE}", f"base_model:{ESCAPE}"]
    lying(monkeypatch, lambda found: found.update(tags=tags, author=ESCAPE))
    mine = tmp_path / "mine"
    for question in (
        ("inspect", MODEL),
        ("inspect", MODEL, "--json"),
        ("similar", MODEL, "--registry", str(toy_zoo)),
        ("add", MODEL, "--registry", str(mine)),
        ("list", "--registry", str(mine)),
        ("show", "m", "--registry", str(mine)),
    ):
        result = invoke(*question)
        assert result.code in (0, 2), result.err
        assert whole(result.out), question
        assert whole(result.err), question


def test_a_pickle_of_a_stranger_is_read_and_not_run(
    hub: LoopbackHub, adapter: dict[str, bytes], tmp_path: Path, invoke: Any
) -> None:
    del adapter["adapter_model.safetensors"]
    evil = b"cposix\nsystem\n(S'touch " + os.fsencode(tmp_path / "ran") + b"'\ntR."
    hub.store.put("models", MODEL, {**adapter, "adapter_model.bin": evil})
    result = invoke("inspect", MODEL)
    assert (result.code, result.out) == (2, "")
    assert not (tmp_path / "ran").exists()


def test_the_zoo_opens_whatever_the_cache_holds(hub: LoopbackHub, published: str) -> None:
    assert Zoo.open(NAME).remote is not None
    (reference,) = cache_root().glob("hub/*/refs/*")
    for text in ("", "x", "../../../etc", "a" * 41, "\0", "\xff"):
        reference.write_text(text, encoding="latin-1")
        assert len(Zoo.open(NAME).registry.entries) == 12
