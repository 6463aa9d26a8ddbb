"""Import without keeping weights: streamed, sketched and let go; in part; within a budget."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import BASE
from loopback import LoopbackHub
from orchards import adapterhub_files, fetched, hub_cache, peft_files, plant

from tupate_hub import Zoo
from tupate_hub.collect.add import open_or_start
from tupate_hub.collect.import_hub import import_adapters
from tupate_hub.collect.streaming import Wish
from tupate_hub.hub.cache import cache_root
from tupate_hub.storage.safetensors import TensorFile, parse_tensorfile

LORA = "tiny-bert/lora"
PEFT = ("import", "--library", "peft", "--base", BASE)
SKETCH = (*PEFT, "--keep", "sketch")
OTHER = "acme/other-bert"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return tmp_path / "mine"


def orchard(hub: LoopbackHub, count: int = 6) -> None:
    for number in range(count):
        plant(hub, f"o{number}/task{number}-lora", peft_files(number, f"acme/task{number}"), downloads=100 - number)


def tasks(root: Path) -> dict[str, str]:
    return {one.task: one.source["repo"] for one in Zoo.open(root).registry.entries}


def weights_on_disk(root: Path) -> list[str]:
    """Files with tuned parameters in them, anywhere below the registry and the caches."""
    files = [path for place in (root, cache_root(), hub_cache()) for path in place.rglob("*") if path.is_file()]
    named = [path for path in files if path.suffix in (".safetensors", ".part", ".incomplete")]
    named += [path for path in files if path.parent.name == "blobs"]
    return [path.name for path in named if not path.name.startswith(("nearest-", "sketches-"))]


# --- what is kept ----------------------------------------------------------------------------------------------


def test_a_sketch_is_kept_and_no_weights(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    orchard(hub)
    assert invoke(*SKETCH, "--registry", mine).code == 0
    assert weights_on_disk(mine) == []
    registry = Zoo.open(mine).registry
    assert {one.kept for one in registry.entries} == {"sketch"}
    entry = registry.entry("task3", LORA)
    assert entry.source["repo"] == "o3/task3-lora"
    assert entry.source["revision"] == hub.store.repository("models", "o3/task3-lora").branches["main"]
    assert len(entry.sha256) == 64
    facts = {name: entry.source[name] for name in ("parameters", "blocks", "ranks", "widths", "dataset", "size")}
    size = len(peft_files(3)["adapter_model.safetensors"])
    expected = {"parameters": 88, "blocks": 4, "ranks": [2], "widths": [5, 6], "dataset": "acme/task3", "size": size}
    assert facts == expected


def test_two_requests_each_and_none_again(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    orchard(hub)
    assert invoke(*SKETCH, "--registry", mine).code == 0
    assert len(hub.requests()) == 1 + 2 * 6
    hub.seen.clear()
    again = invoke(*SKETCH, "--registry", mine, "--json").json()
    assert (again["added"], again["kept"], again["fetched"]) == ([], 6, 0)
    assert hub.requests() == ["GET /api/models"]


def test_sketches_rank_as_embeddings_do(hub: LoopbackHub, mine: Path, tmp_path: Path, invoke: Any) -> None:
    orchard(hub, 4)
    plant(hub, "o9/near-lora", peft_files(0, "acme/near", scale=3.0))  # of the first, and longer
    for keep, place in (("sketch", mine), ("embedding", tmp_path / "whole")):
        assert invoke(*PEFT, "--keep", keep, "--registry", place).code == 0
        ranked = invoke("similar", "task0", "--registry", place, "--json").json()["neighbors"]
        assert ranked[0]["task"] == "near"
        assert ranked[0]["score"] == pytest.approx(1, abs=1e-3)


def test_a_question_with_an_adapter_on_disk(hub: LoopbackHub, mine: Path, tmp_path: Path, invoke: Any) -> None:
    orchard(hub)
    assert invoke(*SKETCH, "--registry", mine).code == 0
    folder, files = tmp_path / "a", peft_files(4)
    folder.mkdir()
    tensors = parse_tensorfile(files["adapter_model.safetensors"], "4").tensors
    doubled = TensorFile({name: 2 * array for name, array in tensors.items()}, {}).to_bytes()
    (folder / "adapter_model.safetensors").write_bytes(doubled)  # the very file would be no neighbour of itself
    (folder / "adapter_config.json").write_bytes(files["adapter_config.json"])
    assert invoke("similar", folder, "--registry", mine, "--json").json()["neighbors"][0]["task"] == "task4"


def test_weights_that_are_not_there_are_told_with_where_they_are(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    orchard(hub, 2)
    assert invoke(*SKETCH, "--registry", mine).code == 0
    result = invoke("pull", "task1", "--registry", mine)
    assert result.code == 2
    assert "tupate-hub add hf://o1/task1-lora@" in result.err


def test_facts_alone(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    orchard(hub, 3)
    assert invoke(*PEFT, "--keep", "nothing-but-facts", "--registry", mine).code == 0
    assert weights_on_disk(mine) == []
    assert [path.name for path in mine.rglob("*") if path.is_file()] in (["registry.json"], [".lock", "registry.json"])
    registry = Zoo.open(mine).registry
    assert {(one.kept, one.sha256) for one in registry.entries} == {("facts", "")}
    assert registry.entry("task1", LORA).source["parameters"] == 88


def test_facts_of_very_many_are_a_registry_that_can_be_read(
    hub: LoopbackHub, mine: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are no sketches to find neighbours by, however large the space is."""
    monkeypatch.setattr("tupate_hub.collect.nearest.LEAST", 2)
    orchard(hub, 3)
    assert invoke(*PEFT, "--keep", "nothing-but-facts", "--registry", mine).code == 0
    assert invoke("verify", "--registry", mine).code == 0
    assert Zoo.open(mine).registry.spaces[LORA].nearest == {}


def test_a_newer_commit_has_another_sketch_under_the_same_name(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    orchard(hub, 3)
    assert invoke(*SKETCH, "--registry", mine).code == 0
    newer = plant(hub, "o1/task1-lora", peft_files(2, "acme/task1"))
    result = invoke(*SKETCH, "--registry", mine, "--json").json()
    assert [one["task"] for one in result["added"]] == ["task1"]
    assert Zoo.open(mine).registry.entry("task1", LORA).source["revision"] == newer
    nearest = invoke("similar", "task2", "--registry", mine, "--json").json()["neighbors"][0]
    assert (nearest["task"], nearest["score"]) == ("task1", pytest.approx(1, abs=1e-3))


def test_bottlenecks_and_containers_too(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    plant(hub, "a/pf-squad", adapterhub_files(3, "squad"))
    plant(hub, "a/other", adapterhub_files(4, "squad", base=OTHER))
    arguments = ("import", "--library", "adapters", "--base", BASE, "--keep", "sketch", "--registry", mine, "--json")
    result = invoke(*arguments).json()
    assert [(one["task"], one["space"]) for one in result["added"]] == [("squad", "tiny-bert/adapter")]
    assert result["refused"][0]["reason"] == f"hf://a/other is an adapter of {OTHER}, not of {BASE}."
    assert "a/other/adapter.safetensors" not in fetched(hub)


def test_sizes_that_do_not_fit_what_was_sketched_before(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    plant(hub, "a/one", adapterhub_files(1, "one"), downloads=3)
    arguments = ("import", "--library", "adapters", "--base", BASE, "--keep", "sketch", "--registry", mine, "--json")
    assert invoke(*arguments).code == 0
    plant(hub, "a/wide", adapterhub_files(2, "wide", width=8), downloads=2)
    (refused,) = invoke(*arguments).json()["refused"]
    assert "other sizes" in refused["reason"]
    assert len(tasks(mine)) == 1


# --- refusals --------------------------------------------------------------------------------------------------


def test_what_was_refused_is_not_fetched_again(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    orchard(hub, 2)
    plant(hub, "b/zero", peft_files(1, "sst2", scale=0.0))
    plant(hub, "b/no-json", {**peft_files(1), "adapter_config.json": b"{"})
    first = invoke(*SKETCH, "--registry", mine, "--json").json()["refused"]
    assert {one["repository"] for one in first} == {"b/zero", "b/no-json"}
    hub.seen.clear()
    again = invoke(*SKETCH, "--registry", mine, "--json").json()
    assert again["refused"] == first
    assert hub.requests() == ["GET /api/models"]
    plant(hub, "b/zero", peft_files(5, "sst2"))  # a newer commit is looked at
    assert [one["task"] for one in invoke(*SKETCH, "--registry", mine, "--json").json()["added"]] == ["sst2"]


@pytest.mark.parametrize("fault", ["wrong", "cut"])
def test_what_arrived_damaged_is_tried_again(
    fault: str, hub: LoopbackHub, mine: Path, invoke: Any, pauses: list[float]
) -> None:
    orchard(hub, 4)
    hub.fault(fault, "/storage/.*task2")
    told = invoke(*SKETCH, "--registry", mine, "--json").json()
    assert ([one["repository"] for one in told["failed"]], told["refused"]) == (["o2/task2-lora"], [])
    hub.faults.clear()
    assert invoke(*SKETCH, "--registry", mine).code == 0
    assert len(tasks(mine)) == 4


def test_gated_ones_are_asked_for_each_time(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    orchard(hub, 1)
    plant(hub, "b/gated", peft_files(5), gated=True)
    assert len(invoke(*SKETCH, "--registry", mine, "--json").json()["refused"]) == 1
    hub.store.repository("models", "b/gated").gated = False
    assert invoke(*SKETCH, "--registry", mine, "--json").json()["refused"] == []


def test_a_damaged_note_of_a_refusal_counts_for_nothing(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    plant(hub, "b/zero", peft_files(1, "sst2", scale=0.0))
    first = invoke(*SKETCH, "--registry", mine, "--json").json()["refused"]
    (note,) = cache_root().rglob("refused.json")
    good = json.loads(note.read_text())
    for bad in (
        b"",
        b"[]",
        b"{}",
        json.dumps({**good, "message": 5}).encode(),
        json.dumps({**good, "kind": "X"}).encode(),
    ):
        note.write_bytes(bad)
        assert invoke(*SKETCH, "--registry", mine, "--json").json()["refused"] == first


# --- some blocks alone -----------------------------------------------------------------------------------------


def wide_files(seed: int, task: str) -> dict[str, bytes]:
    """A LoRA of 800 KB in four layers."""
    rng, tensors = np.random.default_rng(seed), {}
    for layer in range(4):
        for place in ("query", "value"):
            module = f"base_model.model.bert.encoder.layer.{layer}.attention.self.{place}"
            tensors[f"{module}.lora_A.weight"] = rng.standard_normal((32, 400)).astype(np.float32)
            tensors[f"{module}.lora_B.weight"] = rng.standard_normal((400, 32)).astype(np.float32)
    files = peft_files(seed, task)
    config = json.loads(files["adapter_config.json"]) | {"r": 32}
    weights = TensorFile(tensors, {}).to_bytes()
    return {**files, "adapter_config.json": json.dumps(config).encode(), "adapter_model.safetensors": weights}


@pytest.mark.parametrize("keep", ["sketch", "embedding"])
def test_only_the_wanted_blocks_are_fetched(keep: str, hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    for number in range(3):
        plant(hub, f"o{number}/wide", wide_files(number, f"acme/task{number}"))
    result = invoke(*PEFT, "--keep", keep, "--blocks", "value/2", "--registry", mine, "--json").json()
    assert len(result["added"]) == 3
    sent = [
        sum(one.sent for one in hub.seen if f"o{at}/wide" in one.path and "weights" not in one.path) for at in range(3)
    ]
    assert all(4 * 32 * 400 * 4 < one < 4 * 32 * 400 * 4 + 80_000 for one in sent)
    assert result["fetched"] == sum(one.sent for one in hub.seen if "/resolve/" in one.path or "/storage/" in one.path)
    entry = Zoo.open(mine).registry.entry("task1", LORA)
    assert (entry.source["part"], entry.source["blocks"], entry.kept) == ("value/2", 2, keep)
    if keep == "embedding":
        names = [block.name for block in Zoo.open(mine).embedding("task1").blocks]
        assert names == [f"encoder.layer.{layer}.attention.self.value" for layer in (0, 2)]


def test_parts_that_cannot_be_had(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    plant(hub, "a/lora", wide_files(1, "acme/task1"))
    files = wide_files(2, "acme/task2")
    plant(
        hub, "b/pickle", {"adapter_model.bin": b"\x80\x04" * 99, **{n: d for n, d in files.items() if "safe" not in n}}
    )
    found = invoke(*SKETCH, "--blocks", "v_proj", "--registry", mine, "--json").json()
    reasons = {one["repository"]: (one["reason"], one["hint"]) for one in found["refused"]}
    assert "holds no tensor with 'v_proj' in its name" in reasons["a/lora"][0]
    assert "cannot be fetched in part" in reasons["b/pickle"][0]
    assert reasons["b/pickle"][1] == "leave out --blocks"
    assert [one["task"] for one in invoke(*SKETCH, "--registry", mine, "--json").json()["added"]] == ["task1"]


# --- a budget, an end ------------------------------------------------------------------------------------------


def test_so_many_repositories_and_the_command_that_goes_on(hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    orchard(hub, 9)
    plant(hub, "b/zero", peft_files(1, "sst2", scale=0.0), downloads=99)
    result = invoke(*SKETCH, "--most-repositories", 4, "--registry", mine)
    assert result.code == 0
    command = f"tupate-hub import --base {BASE} --library peft --keep sketch --most-repositories 4 --registry {mine}"
    assert f"are left: the budget is spent, 0.0 MB. To go on: {command}" in result.err
    assert set(tasks(mine)) == {f"task{number}" for number in range(4)}
    left = invoke(*SKETCH, "--most-repositories", 4, "--registry", mine, "--json").json()
    assert (len(left["added"]), left["left"], left["next"]) == (4, 1, f"{command[: -len(str(mine))]}{mine} --json")
    assert invoke(*SKETCH, "--most-repositories", 4, "--registry", mine, "--json").json()["left"] == 0
    assert len(tasks(mine)) == 9


@pytest.mark.parametrize("keep", ["sketch", "embedding"])
def test_so_many_bytes(keep: str, hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    orchard(hub, 12)
    arguments = (*PEFT, "--keep", keep, "--most-bytes", "5kB", "--jobs", 2, "--registry", mine, "--json")
    first = invoke(*arguments).json()
    each = first["fetched"] // len(first["added"])
    assert 5000 <= first["fetched"] <= 5000 + 2 * each
    assert first["left"] == 12 - len(first["added"]) > 0
    for _ in range(4):
        last = invoke(*arguments).json()
    assert (last["left"], last["next"], len(tasks(mine))) == (0, None, 12)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--most-bytes", "many"), "is no number of bytes"),
        (("--most-bytes", "0"), "is no number of bytes"),
        (("--most-repositories", "0"), "--most-repositories"),
        (("--keep", "weights"), "nothing-but-facts"),
        (("--blocks", "value/0"), "does not say which blocks"),
    ],
)
def test_mistakes(arguments: tuple[str, ...], words: str, hub: LoopbackHub, mine: Path, invoke: Any) -> None:
    orchard(hub, 1)
    result = invoke(*PEFT, *arguments, "--registry", mine)
    assert (result.code, result.out) == (2, "")
    assert words in result.err
    assert not mine.exists()


def test_killed_and_again(hub: LoopbackHub, mine: Path) -> None:
    orchard(hub, 40)
    hub.fault("slow", "task2[0-4]-lora/resolve", seconds=0.5)  # the first are written after a while
    hub.fault("slow", "task(2[5-9]|3.)-lora/resolve", seconds=250)
    program = [sys.executable, "-m", "tupate_hub", *SKETCH, "--jobs", "4", "--registry", str(mine)]
    first = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 250
    while not (mine / "registry.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.wait()
    kept = tasks(mine)
    assert 0 < len(kept) < 40
    assert weights_on_disk(mine) == []
    hub.seen.clear()
    hub.faults.clear()
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{40 - len(kept)} added" in done.stderr
    assert not {one.rpartition("/")[0] for one in fetched(hub)} & set(kept.values())
    assert len(tasks(mine)) == 40


def test_what_is_ahead_of_its_turn_is_bounded(hub: LoopbackHub, mine: Path) -> None:
    orchard(hub, 40)
    most = 0

    def watched(waiting: Any, count: int) -> Any:
        nonlocal most
        for number, one in enumerate(waiting):
            if number == 0:
                time.sleep(0.3)
                most = len({path.rpartition("/")[0] for path in fetched(hub)})
            yield one

    import_adapters(open_or_start(mine), Wish(BASE, "sketch"), library="peft", jobs=2, each=watched)
    assert 0 < most <= 8
