"""ImportResult: what the Hub lists for a base model, by the real client over HTTP, into a registry that is always whole."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from builders import BASE
from loopback import LoopbackHub, User
from orchards import adapterhub_files, fetched, hub_cache, peft_files, plant, written

from tupate_hub import Zoo
from tupate_hub.collect.add import open_or_start
from tupate_hub.collect.import_hub import import_adapters
from tupate_hub.collect.streaming import Wish
from tupate_hub.errors import WorkFailed
from tupate_hub.hub import rate_limit
from tupate_hub.hub.cache import cache_root

OTHER = "acme/other-bert"
LORA, ADAPTER = "tiny-bert/lora", "tiny-bert/adapter"
PEFT = ("import", "--library", "peft", "--base", BASE)
TOKEN = "hf_secretsecretsecret"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return tmp_path / "mine"


def orchard(hub: LoopbackHub, count: int = 6) -> None:
    """So many LoRAs of different tasks, the first one downloaded most."""
    for number in range(count):
        plant(hub, f"o{number}/task{number}-lora", peft_files(number, f"acme/task{number}"), downloads=100 - number)


def tasks(root: Path) -> dict[str, str]:
    """The repository of each embedding, by space and task."""
    return {f"{one.space}/{one.task}": one.source["repo"] for one in Zoo.open(root).registry.entries}


# --- what is taken in ------------------------------------------------------------------------------------------


def test_the_adapters_of_an_organisation_for_one_base_model(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    sst2 = {"tags": ["bert", "adapter-transformers", "adapterhub:sentiment/sst-2"], "license": "apache-2.0"}
    plant(hub, "AdapterHub/tiny-bert-pf-sst2", adapterhub_files(1, "glue_sst2", **sst2))
    plant(hub, "AdapterHub/tiny-bert-pf-record", adapterhub_files(2, "super_glue_record", datasets=["super_glue"]))
    plant(hub, "AdapterHub/tiny-bert-pf-squad", adapterhub_files(3, "squad", datasets=["squad"]))
    plant(hub, "AdapterHub/other-bert-pf-squad", adapterhub_files(4, "squad", base=OTHER))
    plant(hub, "AdapterHub/other-bert-pf-sst2", adapterhub_files(5, "sst-2", base=OTHER))
    plant(hub, "someone/tiny-bert-pf-mnli", adapterhub_files(6, "mnli"))
    result = invoke("import", "--author", "AdapterHub", "--base", BASE, "--registry", mine)
    assert result.code == 0
    assert "5 listed: 3 added" in result.err
    assert result.out.splitlines() == [
        "refused\treason\tfor example",
        f"2\tit is an adapter of {OTHER}, not of {BASE}.\tAdapterHub/other-bert-pf-squad",
    ]
    assert tasks(mine) == {
        f"{ADAPTER}/record": "AdapterHub/tiny-bert-pf-record",
        f"{ADAPTER}/squad": "AdapterHub/tiny-bert-pf-squad",
        f"{ADAPTER}/sst2": "AdapterHub/tiny-bert-pf-sst2",
    }
    known = Zoo.open(mine).registry.tasks
    assert "glue/sst2" in known["sst2"].aliases
    assert (known["sst2"].licence, known["squad"].dataset, known["record"].dataset) == ("apache-2.0", "squad", "")
    assert Zoo.open(mine).verify() == []


def test_configuration_and_weights_alone_are_fetched(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    plant(hub, "AdapterHub/a-pf-squad", adapterhub_files(1, "squad"))
    plant(hub, "AdapterHub/b-pf-squad", adapterhub_files(2, "squad", base=OTHER))
    plant(hub, "acme/lora", peft_files(3))
    assert invoke("import", "--library", "adapters", "--base", BASE, "--registry", mine).code == 0
    assert sorted(fetched(hub)) == [
        "AdapterHub/a-pf-squad/adapter.safetensors",
        "AdapterHub/a-pf-squad/adapter_config.json",
        "AdapterHub/b-pf-squad/adapter_config.json",
    ]


def test_those_of_peft_are_listed_by_their_base_model(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    plant(hub, "acme/one", peft_files(1, "stanfordnlp/imdb", license="mit"))
    plant(hub, "acme/two", peft_files(2, "glue"))
    plant(hub, "acme/elsewhere", peft_files(3, "imdb", base=OTHER))
    result = invoke(*PEFT, "--registry", mine)
    assert (result.code, result.out) == (0, "refused\treason\tfor example\n")
    assert tasks(mine) == {f"{LORA}/imdb": "acme/one", f"{LORA}/two": "acme/two"}
    registry = Zoo.open(mine).registry
    assert (registry.tasks["imdb"].dataset, registry.tasks["imdb"].licence) == ("stanfordnlp/imdb", "mit")
    assert registry.tasks["two"].dataset == ""
    assert (
        registry.entry("imdb", LORA).source["revision"] == hub.store.repository("models", "acme/one").branches["main"]
    )


def test_a_base_model_that_moved_is_listed_by_both_of_its_names(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    for number, name in enumerate(("xlnet-base-cased", "xlnet/xlnet-base-cased")):
        plant(hub, f"acme/lora{number}", peft_files(number, base=name))
    result = invoke("import", "--library", "peft", "--base", "xlnet/xlnet-base-cased", "--registry", mine)
    assert result.code == 0
    assert set(tasks(mine)) == {"xlnet-base-cased/lora/lora0", "xlnet-base-cased/lora/lora1"}


def test_without_a_library_those_of_both_are_listed(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    plant(hub, "acme/a", peft_files(1, "imdb"))
    plant(hub, "acme/b", adapterhub_files(2, "imdb"))
    plant(hub, "other/c", peft_files(3, "imdb"))
    assert invoke("import", "--author", "acme", "--base", BASE, "--registry", mine).code == 0
    assert tasks(mine) == {f"{LORA}/imdb": "acme/a", f"{ADAPTER}/imdb": "acme/b"}


def test_the_most_downloaded_ones_over_several_pages(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    orchard(hub, 7)
    hub.page = 2
    assert invoke(*PEFT, "--limit", 5, "--registry", mine).code == 0
    assert set(tasks(mine).values()) == {f"o{number}/task{number}-lora" for number in range(5)}
    assert len([one for one in hub.requests() if one == "GET /api/models"]) == 3
    assert invoke(*PEFT, "--registry", mine).code == 0
    assert len(tasks(mine)) == 7


def test_what_was_imported_ranks(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    orchard(hub)
    assert invoke(*PEFT, "--registry", mine).code == 0
    ranked = invoke("similar", "task0", "--registry", mine, "--json").json()["neighbors"]
    assert {one["task"] for one in ranked} == {f"task{number}" for number in range(1, 6)}


def test_the_index_is_packed_so_that_a_question_reads_no_embedding(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    orchard(hub)
    assert "packing the index of tiny-bert/lora" in invoke(*PEFT, "--registry", mine).err
    assert "packing" not in invoke(*PEFT, "--registry", mine).err
    full = invoke("similar", "task0", "--registry", mine)
    for path in mine.rglob("task*.safetensors"):
        path.unlink()
    assert invoke("similar", "task0", "--registry", mine) == full


def test_a_large_space_is_left_without_an_index(
    hub: LoopbackHub, mine: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tupate_hub.collect.import_hub.MOST_PAIRED", 5)
    orchard(hub)
    assert "packing" not in invoke(*PEFT, "--registry", mine).err
    assert Zoo.open(mine).registry.space(LORA).index == {}


# --- names -----------------------------------------------------------------------------------------------------


def test_the_most_downloaded_of_a_task_has_its_plain_name(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    plant(hub, "a/first", peft_files(1, "glue/sst2"), downloads=5)
    plant(hub, "b/second", peft_files(2, "SetFit/sst2"), downloads=50)
    plant(hub, "c/third", peft_files(3, "sst2"), downloads=5)
    plant(hub, "d/other-method", adapterhub_files(4, "sst-2"))
    assert invoke("import", "--library", "peft", "--base", BASE, "--registry", mine).code == 0
    assert invoke("import", "--library", "adapters", "--base", BASE, "--registry", mine).code == 0
    assert tasks(mine) == {
        f"{ADAPTER}/sst2": "d/other-method",
        f"{LORA}/sst2": "b/second",
        f"{LORA}/a--first": "a/first",
        f"{LORA}/c--third": "c/third",
    }
    registry = Zoo.open(mine).registry
    assert registry.tasks["a--first"].title == "sst2 by a/first"
    assert registry.entry("a--first", LORA).source["task"] == "sst2"


def test_names_do_not_depend_on_who_answers_first(hub: LoopbackHub, tmp_path: Path, invoke: Any) -> None:
    for number, owner in enumerate("fedcba"):
        plant(hub, f"{owner}/lora", peft_files(number, "sst2"), downloads=number // 2)
    for jobs in (1, 8):
        hub.faults.clear()
        if jobs == 8:
            hub.fault("slow", "/(a|b)/lora", seconds=0.4)
        assert invoke(*PEFT, "--jobs", jobs, "--registry", tmp_path / str(jobs)).code == 0
    assert written(tmp_path / "1") == written(tmp_path / "8")
    assert tasks(tmp_path / "1")[f"{LORA}/sst2"] == "a/lora"


def test_a_name_once_given_stays(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    plant(hub, "a/lora", peft_files(1, "sst2"), downloads=1)
    assert invoke(*PEFT, "--registry", mine).code == 0
    before = Zoo.open(mine).registry.entry("sst2", LORA)
    plant(hub, "b/lora", peft_files(2, "sst2"), downloads=100)
    newer = plant(hub, "a/lora", peft_files(3, "sst2"), downloads=1)
    result = invoke(*PEFT, "--registry", mine, "--json").json()
    assert {one["task"]: one["repository"] for one in result["added"]} == {"sst2": "a/lora", "b--lora": "b/lora"}
    after = Zoo.open(mine).registry.entry("sst2", LORA)
    assert (after.source["repo"], after.source["revision"]) == ("a/lora", newer)
    assert after.sha256 != before.sha256
    assert Zoo.open(mine).verify() == []


def test_tasks_of_the_users_own_keep_their_names(hub: LoopbackHub, mine: Path, toy_zoo: Path, invoke: Any) -> None:
    before = Zoo.open(toy_zoo).registry
    plant(hub, "a/lora", peft_files(1, "glue/sst2"))
    plant(hub, "a/imdb", peft_files(2, "quail"))
    assert invoke(*PEFT, "--registry", toy_zoo).code == 0
    registry = Zoo.open(toy_zoo).registry
    assert registry.entry("sst2", LORA) == before.entry("sst2", LORA)
    assert registry.tasks["sst2"] == before.tasks["sst2"]
    assert {"a--lora", "quail"} < set(registry.tasks)


def test_an_adapter_that_was_added_by_hand_is_not_added_again(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    plant(hub, "a/lora", peft_files(1, "sst2"))
    assert invoke("add", "a/lora", "--task", "reviews", "--registry", mine).code == 0
    result = invoke(*PEFT, "--registry", mine, "--json").json()
    assert (result["added"], result["kept"]) == ([], 1)


# --- again -----------------------------------------------------------------------------------------------------


def test_what_is_there_is_not_fetched_again(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    orchard(hub, 3)
    assert invoke(*PEFT, "--registry", mine).code == 0
    before = written(mine)
    hub.seen.clear()
    orchard(hub, 4)  # the same content again is another commit
    hub.store.put("models", "o3/task3-lora", {}, title="nothing")
    result = invoke(*PEFT, "--registry", mine)
    assert result.code == 0
    hub.seen.clear()
    again = invoke(*PEFT, "--registry", mine, "--json").json()
    assert (again["listed"], again["added"], again["kept"]) == (4, [], 4)
    assert hub.requests() == ["GET /api/models"]
    after = written(mine)
    assert len(after) == len(before) + 1  # what was renewed is there once
    assert "zoo/tiny-bert/lora/task3.safetensors" in after
    assert Zoo.open(mine).verify() == []


def test_of_another_base_model_nothing_is_fetched_twice(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    for number in range(3):
        plant(hub, f"a/other{number}", adapterhub_files(number, "squad", base=OTHER))
    arguments = ("import", "--library", "adapters", "--base", BASE, "--registry", mine)
    first = invoke(*arguments)
    assert first.code == 1
    assert not mine.exists()
    hub.seen.clear()
    assert invoke(*arguments) == first
    assert hub.requests() == ["GET /api/models"]


def test_killed_and_again(hub: LoopbackHub, tmp_path: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    orchard(hub, 40)
    mine, whole = tmp_path / "mine", tmp_path / "whole"
    hub.fault("slow", "task2[0-4]-lora/resolve", seconds=0.5)  # the first are written after a while
    hub.fault("slow", "task(2[5-9]|3.)-lora/resolve", seconds=250)
    program = [sys.executable, "-m", "tupate_hub", *PEFT, "--jobs", "4", "--registry", str(mine)]
    first = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 250
    while not (mine / "registry.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.wait()
    kept = tasks(mine)
    assert 0 < len(kept) < 40
    assert Zoo.open(mine).verify() == []
    hub.seen.clear()
    hub.faults.clear()
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{40 - len(kept)} added" in done.stderr
    assert not {one.rpartition("/")[0] for one in fetched(hub)} & set(kept.values())
    monkeypatch.setenv("TUPATE_HUB_CACHE", str(tmp_path / "another"))
    assert invoke(*PEFT, "--registry", whole).code == 0
    left = {name: data for name, data in written(mine).items() if not name.endswith(".part")}  # of the one killed
    assert left == written(whole)


def test_nothing_temporary_is_left(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    orchard(hub, 3)
    assert invoke(*PEFT, "--registry", mine).code == 0
    places = [*mine.rglob("*"), *cache_root().rglob("*"), *hub_cache().rglob("*")]
    assert not [path for path in places if path.suffix in (".part", ".old", ".incomplete")]


def test_an_interrupt_leaves_what_was_done(hub: LoopbackHub, mine: Path) -> None:
    orchard(hub, 8)

    def impatient(waiting: Any, count: int) -> Any:
        assert count == 8
        for number, one in enumerate(waiting):
            if number == 5:
                raise KeyboardInterrupt
            yield one

    with pytest.raises(KeyboardInterrupt):
        import_adapters(open_or_start(mine), Wish(BASE), library="peft", each=impatient)
    assert len(tasks(mine)) == 5
    assert Zoo.open(mine).verify() == []


# --- several at once, and not too many -------------------------------------------------------------------------


def test_several_are_fetched_at_once(hub: LoopbackHub, mine: Path) -> None:
    orchard(hub, 8)
    hub.fault("meet", "GET /api/models/")
    assert len(import_adapters(open_or_start(mine), Wish(BASE), library="peft").added) == 8


@pytest.mark.parametrize("headers", [{"Retry-After": "1"}, {"RateLimit": '"api";r=0;t=1'}])
def test_where_the_hub_asks_for_fewer_requests_all_wait(
    headers: dict[str, str], hub: LoopbackHub, mine: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that goes on when all four jobs wait; were one let through, the others would wait for ever."""
    orchard(hub, 12)
    hub.fault("status", "task3-lora/resolve", status=429, times=1, headers=headers)
    clock, lock, waiting = SimpleNamespace(now=0.0), threading.Lock(), set()

    class Crowd(rate_limit.RateLimit):
        def wait(self, over: threading.Event, most: float = 0.0) -> None:
            with lock:
                if clock.now < self._until:
                    waiting.add(threading.get_ident())
                if len(waiting) == 4:
                    clock.now = self._until
            super().wait(over)

    monkeypatch.setattr(rate_limit, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(rate_limit, "RATE_LIMIT", Crowd())
    result = invoke(*PEFT, "--jobs", 4, "--registry", mine)
    assert result.code == 0
    assert "12 added" in result.err
    assert result.err.count("The Hub asks for fewer requests: waiting 1 s") == 1
    assert (clock.now, len(waiting)) == (1, 4)


def test_every_answer_asks_for_fewer_requests_for_a_while(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    orchard(hub, 5)
    hub.fault("status", "/resolve/", status=429, times=12, headers={"Retry-After": "0"})
    hub.fault("status", "/api/models", status=429, times=4, headers={"Retry-After": "0"})
    assert invoke(*PEFT, "--registry", mine).code == 0
    assert len(tasks(mine)) == 5


def test_who_is_asked_to_wait_for_too_long_stops_the_others_too(
    hub: LoopbackHub, mine: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    orchard(hub, 40)
    hub.fault("status", "task17-lora/resolve", status=429, headers={"Retry-After": "3600"})
    result = invoke(*PEFT, "--registry", mine, "--jobs", "1")  # so that nothing else is under way
    assert result.code == 1
    assert re.search(r"The Hub asks (for fewer requests|to be left alone)\.", result.err)
    assert re.search(r"retry in 3[56]\d\d s", result.err)
    asked = hub.requests()
    assert "task17-lora/resolve" in asked[-1]
    assert len(tasks(mine)) == 17
    hub.faults.clear()
    monkeypatch.setattr(rate_limit, "RATE_LIMIT", rate_limit.RateLimit())
    assert invoke(*PEFT, "--registry", mine).code == 0
    assert len(tasks(mine)) == 40


@pytest.mark.parametrize("status", [500, 503])
def test_a_hub_that_fails_ends_the_import_and_refuses_nothing(
    status: int, hub: LoopbackHub, mine: Path, invoke: Any, pauses: list[float]
) -> None:
    orchard(hub, 40)
    hub.fault("status", "task([5-9]|[1-3][0-9])-lora/(resolve|revision)", status=status)
    result = invoke(*PEFT, "--registry", mine, "--jobs", "1", "--json")
    assert result.code == 1
    told = result.json()
    assert (len(told["added"]), told["refused"], len(told["failed"])) == (5, [], 3)
    assert f"failed with status {status}" in told["stopped"]
    assert "task7-lora" in told["stopped"]
    hub.faults.clear()
    assert invoke(*PEFT, "--registry", mine).code == 0
    assert len(tasks(mine)) == 40


def test_a_few_that_cannot_be_had_do_not_end_it(hub: LoopbackHub, mine: Path, invoke: Any, pauses: list[float]) -> None:
    orchard(hub, 8)
    hub.fault("status", "task[236]-lora/resolve", status=500)
    result = invoke(*PEFT, "--registry", mine)
    assert result.code == 1
    assert len(tasks(mine)) == 5
    assert "8 listed: 5 added" in result.err
    assert "0 refused" in result.err
    assert "3 could not be fetched, o2/task2-lora first, and are worth another try: The Hub failed" in result.err
    hub.faults.clear()
    assert invoke(*PEFT, "--registry", mine).code == 0
    assert len(tasks(mine)) == 8


def test_a_full_disk_ends_the_import(
    hub: LoopbackHub, mine: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    orchard(hub, 20)
    from tupate_hub.hub import cache

    def full(*_: Any, **__: Any) -> None:
        raise WorkFailed("The disk is full.", hint="free some space")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(cache, "write_bytes", full)
        told = invoke(*PEFT, "--registry", mine, "--json").json()
    assert (told["refused"], len(told["failed"])) == ([], 3)
    assert "The disk is full" in told["stopped"]
    assert invoke(*PEFT, "--registry", mine).code == 0


def test_the_network_goes_away_and_comes_back(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    orchard(hub, 6)
    hub.fault("close", "task4-lora/resolve")
    result = invoke(*PEFT, "--registry", mine, "--json")
    assert result.code == 3
    assert len(result.json()["added"]) == 4
    assert "task4-lora" in result.json()["stopped"]
    assert "cannot be reached" in result.err
    hub.faults.clear()
    assert invoke(*PEFT, "--registry", mine, "--json").json()["stopped"] is None
    assert len(tasks(mine)) == 6


@pytest.mark.parametrize(("kind", "options"), [("close", {}), ("status", {"status": 500}), ("cut", {})])
def test_what_fails_once_is_tried_again(
    kind: str, options: dict[str, Any], hub: LoopbackHub, mine: Path, invoke: Any
) -> None:
    orchard(hub, 3)
    for where in ("/api/models$", "task1-lora/resolve", "task2-lora/revision"):
        hub.fault(kind, where, times=1, **options)
    assert invoke(*PEFT, "--registry", mine).code == 0
    assert len(tasks(mine)) == 3


# --- what is rejected ------------------------------------------------------------------------------------------


def broken(files: dict[str, bytes], **changes: bytes | None) -> dict[str, bytes]:
    changed = {**files, **{name.replace("__", "."): data for name, data in changes.items()}}
    return {name: data for name, data in changed.items() if data is not None}


def test_what_cannot_be_read_is_counted_with_the_reason(
    hub: LoopbackHub, mine: Path, tmp_path: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUPATE_HUB_CACHE", str(tmp_path / "a folder of mine"))
    good = peft_files(1, "sst2")
    plant(hub, "a/good", good)
    plant(hub, "b/no-config", broken(good, adapter_config__json=None))
    plant(hub, "b/no-weights", broken(good, adapter_model__safetensors=None))
    plant(hub, "b/no-json", broken(good, adapter_config__json=b"{"))
    plant(hub, "b/zero", peft_files(1, "sst2", scale=0.0))
    plant(hub, "b/cut", broken(good, adapter_model__safetensors=good["adapter_model.safetensors"][:-9]))
    config = json.loads(good["adapter_config.json"]) | {"peft_type": "OFT"}
    plant(hub, "b/unread", broken(good, adapter_config__json=json.dumps(config).encode()))
    plant(hub, "b/unread-too", broken(good, adapter_config__json=json.dumps(config).encode()))
    result = invoke(*PEFT, "--registry", mine, "--json")
    assert result.code == 0
    found = result.json()
    assert [one["repository"] for one in found["added"]] == ["a/good"]
    reasons = {one["repository"]: one["reason"] for one in found["refused"]}
    assert set(reasons) == {f"b/{name}" for name in "no-config no-weights no-json zero cut unread unread-too".split()}
    assert reasons["b/no-config"] == "hf://b/no-config does not hold an adapter: it has no adapter_config.json."
    assert reasons["b/unread"].startswith("adapter_model.safetensors is a PEFT adapter of type 'OFT'")
    assert "mine" not in result.out
    table = [line.split("\t") for line in invoke(*PEFT, "--registry", mine).out.splitlines()[1:]]
    assert table[0][0] == "2" and table[0][2] == "b/unread"
    assert sum(int(line[0]) for line in table) == 7


def test_another_shape_is_kept_out_of_the_space(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    plant(hub, "a/one", adapterhub_files(1, "one"), downloads=3)
    plant(hub, "a/wide", adapterhub_files(2, "wide", width=8), downloads=2)
    arguments = ("import", "--library", "adapters", "--base", BASE, "--registry", mine, "--json")
    (refused,) = invoke(*arguments).json()["refused"]
    assert "has a width of 8, that of 'one' a width of 6" in refused["reason"]
    plant(hub, "a/also-wide", adapterhub_files(3, "also", width=8), downloads=1)
    plant(hub, "a/two", adapterhub_files(4, "two"))
    assert len(invoke(*arguments).json()["refused"]) == 2
    assert set(tasks(mine).values()) == {"a/one", "a/two"}
    assert invoke("similar", "one", "--registry", mine).code == 0


@pytest.mark.parametrize("token", ["", TOKEN])
def test_private_and_gated_ones_among_them(
    token: str, hub: LoopbackHub, mine: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.store.users[TOKEN] = User("acme")
    orchard(hub, 2)
    plant(hub, "acme/private", peft_files(11, "squad"), private=True)
    plant(hub, "acme/gated", peft_files(12, "rte"), gated=True)
    plant(hub, "other/gated", peft_files(13, "mnli"), gated=True)
    monkeypatch.setenv("HF_TOKEN", token)
    result = invoke(*PEFT, "--registry", mine, "--json")
    assert result.code == 0
    refused = {one["repository"]: one for one in result.json()["refused"]}
    assert set(refused) == ({"other/gated"} if token else {"acme/gated", "other/gated"})
    assert refused["other/gated"]["reason"] == "hf://other/gated is gated."
    assert "accept its terms" in refused["other/gated"]["hint"]
    assert ("acme/private" in tasks(mine).values()) == bool(token)
    assert "secret" not in result.out + result.err
    kept = {**written(mine), **written(cache_root()), **written(hub_cache())}
    assert all(TOKEN.encode() not in data for data in kept.values())


def test_one_that_is_gone_since_it_was_listed(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    orchard(hub, 3)
    hub.fault("status", "task1-lora/revision", status=404, headers={"X-Error-Code": "RepoNotFound"})
    (refused,) = invoke(*PEFT, "--registry", mine, "--json").json()["refused"]
    assert refused["repository"] == "o1/task1-lora"
    assert "or it is private" in refused["reason"]


@pytest.mark.parametrize(
    "name",
    [
        "acme/\x1b[2Jlora",
        "acme/lora\n",
        "acme/\u202elora",
        "../etc",
        "acme/..",
        "acme",
        "a/b/c",
        "acme/lo ra",
        "a/\x9b1m",
    ],
)
def test_a_listed_name_that_is_none(name: str, hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    orchard(hub, 1)
    plant(hub, name, peft_files(1, "sst2"))
    for arguments in (PEFT, (*PEFT, "--json")):
        result = invoke(*arguments, "--registry", mine)
        assert result.code == 0
        assert not {char for char in result.out + result.err if not char.isprintable()} - {"\n", "\t"}
        assert "under an impossible name or commit" in result.out
    assert len(tasks(mine)) == 1
    assert all("task0-lora" in one or one == "GET /api/models" for one in hub.requests())


def test_a_listed_commit_that_is_none(
    hub: LoopbackHub, mine: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loopback import answers

    honest = answers.info

    def lying(repository: Any, *arguments: Any) -> Any:
        found = honest(repository, *arguments)
        return {**found, "sha": "../../main", "downloads": "many"} if repository.id == "o1/task1-lora" else found

    orchard(hub, 3)
    monkeypatch.setattr(answers, "info", lying)
    (refused,) = invoke(*PEFT, "--registry", mine, "--json").json()["refused"]
    assert refused["repository"] == "o1/task1-lora"
    assert len(tasks(mine)) == 2


def test_what_cards_and_files_say_is_not_shown_raw(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    plant(hub, "a/task", peft_files(1, "acme/\x1b[31mred"))
    plant(hub, "a/licence", peft_files(2, "imdb", license="\x1b[31mmit"))
    config = json.loads(peft_files(3)["adapter_config.json"]) | {"peft_type": "\x9b31m\x1b]0;x\x07"}
    plant(hub, "a/type", broken(peft_files(3), adapter_config__json=json.dumps(config).encode()))
    plant(hub, "a/name", adapterhub_files(4, "evil\x1b[2J\u202e"))
    for library in ("peft", "adapters"):
        for form in ((), ("--json",)):
            result = invoke("import", "--library", library, "--base", BASE, "--registry", mine, *form)
            assert not {char for char in result.out + result.err if not char.isprintable()} - {"\n", "\t"}
    for path in mine.rglob("*"):
        assert path.name.isprintable()
    assert set(tasks(mine).values()) == {"a/task", "a/licence", "a/name"}
    assert "\\u001b" not in (mine / "registry.json").read_text()


def test_sizes_that_lie(hub: LoopbackHub, mine: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from loopback import answers

    honest = answers.info
    claims = {"o1/task1-lora": 10**10, "o2/task2-lora": 7}

    def lying(repository: Any, *arguments: Any) -> Any:
        found = honest(repository, *arguments)
        for one in found.get("siblings", []):
            if repository.id in claims and one["rfilename"].endswith(".safetensors") and "size" in one:
                one["size"] = claims[repository.id]
        return found

    orchard(hub, 4)
    monkeypatch.setattr(answers, "info", lying)
    found = invoke(*PEFT, "--registry", mine, "--json").json()
    reasons = {one["repository"]: one["reason"] for one in found["refused"]}
    assert set(reasons) == set(claims)
    assert "claims 10000000000 bytes" in reasons["o1/task1-lora"]
    assert "7 were announced" in reasons["o2/task2-lora"]
    assert "o1/task1-lora/adapter_model.safetensors" not in fetched(hub)
    sent = [one.sent for one in hub.seen if "task2-lora" in one.path and one.path.endswith(".safetensors")]
    assert max(sent) <= 8


def test_bytes_of_another_content(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    orchard(hub, 3)
    hub.fault("wrong", "/storage/.*task1-lora")
    (refused,) = invoke(*PEFT, "--registry", mine, "--json").json()["refused"]
    assert "does not have the announced content" in refused["reason"]
    hub.faults.clear()
    assert invoke(*PEFT, "--registry", mine, "--json").json()["refused"] == []


# --- what the user is told -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*PEFT,), ("bundled zoo takes no additions", "--registry DIR")),
        (("import", "--base", BASE, "--registry", "MINE"), ("whose adapters", "--library peft")),
        (("import", "--library", "peft", "--base", "./here", "--registry", "MINE"), ("local base model",)),
        (("import", "--library", "peft", "--base", "no/body", "--registry", "MINE"), ("lists no adapter for no/body",)),
        (("import", "--author", "x", "--base", BASE, "--registry", "MINE"), ("no adapter of x",)),
        ((*PEFT, "--jobs", "0", "--registry", "MINE"), ("--jobs",)),
        ((*PEFT, "--limit", "0", "--registry", "MINE"), ("--limit",)),
        (("import", "--library", "mlx", "--base", BASE, "--registry", "MINE"), ("'mlx'",)),
        ((*PEFT, "--registry", "hf://datasets/acme/zoo"), ("on the Hub", "name a folder")),
    ],
)
def test_mistakes(
    arguments: tuple[str, ...], words: tuple[str, ...], hub: LoopbackHub, mine: Path, invoke: Any
) -> None:
    orchard(hub, 1)
    result = invoke(*(str(mine) if one == "MINE" else one for one in arguments))
    assert (result.code, result.out) == (2, "")
    assert all(word in result.err for word in words)
    assert not mine.exists()


def test_offline(hub: LoopbackHub, mine: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = invoke(*PEFT, "--registry", mine)
    assert (result.code, result.out) == (3, "")
    assert "unset HF_HUB_OFFLINE" in result.err
    assert hub.requests() == []


def test_nothing_could_be_read(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    plant(hub, "a/none", {"README.md": peft_files(1)["README.md"]})
    result = invoke(*PEFT, "--registry", mine)
    assert result.code == 1
    assert "1 listed: 0 added" in result.err
    assert not mine.exists()


def test_the_page_documents_every_json_field(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    section = page.partition("## `import`")[2].partition("\n## ")[0]
    orchard(hub, 2)
    plant(hub, "a/none", {"README.md": peft_files(1)["README.md"]})
    hub.fault("status", "task1-lora/resolve", status=500)
    found = invoke(*PEFT, "--registry", mine, "--json").json()
    assert all(found[name] for name in ("added", "refused", "failed"))
    names = {*found, *(name for row in (*found["added"], *found["refused"], *found["failed"]) for name in row)}
    assert {name for name in names if f"`{name}`" not in section} == set()


def test_two_imports_at_once_leave_a_whole_registry(hub: LoopbackHub, mine: Path) -> None:
    orchard(hub, 6)
    program = [sys.executable, "-m", "tupate_hub", *PEFT, "--registry", str(mine)]
    both = [subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [one.communicate(timeout=120) for one in both]
    assert [one.returncode for one in both] == [0, 0], answers
    assert Zoo.open(mine).verify() == []
    assert len(tasks(mine)) == 6


def test_a_registry_in_the_environment(
    hub: LoopbackHub, mine: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    orchard(hub, 1)
    monkeypatch.setenv("TUPATE_HUB_REGISTRY", str(mine))
    assert invoke(*PEFT).code == 0
    assert Counter(tasks(mine).values()) == {"o0/task0-lora": 1}
    assert os.environ["TUPATE_HUB_REGISTRY"] == str(mine)
