"""`inspect` and `add`: what a file holds, and a registry of one's own made of many."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import BASE, LORA, peft, prompt
from damage import snapshot

from tupate_hub import Zoo

INSPECTED = {
    "path", "layout", "why", "method", "base", "task", "forms", "ranks", "scales", "parameters", "settings", "left_out",
    "notes", "blocks", "norm", "norm_by_layer", "output_change", "effective_rank", "diverged",
}  # fmt: skip


def pairs(out: str) -> dict[str, str]:
    return dict(line.split("\t", 1) for line in out.splitlines())


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return peft(tmp_path / "reviews")


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    """A folder as one fills it: two adapters, one that names no base model, one broken, and what is no adapter."""
    root = tmp_path / "downloads"
    peft(root / "one", scale=1.0)
    peft(root / "deep" / "two")
    peft(root / "three", base_model_name_or_path="/content/model")
    peft(root / "broken")
    (root / "broken" / "adapter_model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    peft(root / ".hidden")
    (root / "notes.txt").write_text("mine")
    return root


# --- inspect ---------------------------------------------------------------------------------------------------


def test_inspect_says_what_is_there(adapter: Path, invoke: Any) -> None:
    result = invoke("inspect", adapter)
    found = pairs(result.out)
    assert (result.code, result.err) == (0, "")
    assert list(found) == [
        "layout", "method", "base", "task", "blocks", "ranks", "parameters", "norm", "norm by layer",
        "change of outputs", "effective rank", "settings", "left out", "first block", "last block",
    ]  # fmt: skip
    assert (found["method"], found["base"], found["blocks"], found["ranks"]) == ("lora", BASE, "4 lowrank", "2")
    assert found["parameters"] == str(4 * 2 * (6 + 5))
    assert found["left out"] == "nothing"
    assert "adapter_model.safetensors" in found["layout"]
    assert (found["first block"], found["last block"]) == ("layer.0.query", "layer.1.value")


def test_inspect_json_has_the_documented_fields(adapter: Path, invoke: Any) -> None:
    result = invoke("inspect", adapter, "--json")
    found = result.json()
    assert (result.code, result.err) == (0, "")
    assert set(found) == INSPECTED
    assert (found["path"], found["layout"], found["method"], found["base"]) == (str(adapter), "peft", "lora", BASE)
    assert (found["task"], found["forms"], found["ranks"], found["scales"]) == (None, {"lowrank": 4}, [2], [2.0])
    assert found["parameters"] == 4 * 2 * (6 + 5)
    assert found["settings"]["r"] == 2
    assert (found["left_out"], found["notes"]) == ({}, [])
    assert found["blocks"][0] == {"name": "layer.0.query", "shapes": {"A": [2, 6], "B": [5, 2]}}


def test_inspect_without_a_base_asks_for_it(tmp_path: Path, invoke: Any) -> None:
    folder = peft(tmp_path / "x", base_model_name_or_path="/content/model")
    result = invoke("inspect", folder)
    assert result.code == 0
    assert "--base" in pairs(result.out)["base"]
    assert "/content/model" in pairs(result.out)["note"]
    assert invoke("inspect", folder, "--json").json()["base"] is None
    assert (
        invoke("inspect", folder, "--base", "google-bert/bert-base-cased", "--json").json()["base"] == "bert-base-cased"
    )


def test_inspect_a_bare_prompt(tmp_path: Path, invoke: Any) -> None:
    np.save(tmp_path / "reviews.npy", prompt("x", 0).blocks[0].parts["rows"])
    found = invoke("inspect", tmp_path / "reviews.npy", "--json").json()
    assert (found["method"], found["task"], found["ranks"], found["forms"]) == ("prompt", "reviews", [], {"rows": 1})
    assert pairs(invoke("inspect", tmp_path / "reviews.npy").out)["ranks"] == "-"


def test_inspect_biases_against_their_base_model(tmp_path: Path, invoke: Any) -> None:
    from tupate_hub.storage.safetensors import TensorFile

    def write(file: str, values: list[float]) -> Path:
        tensors = {"encoder.layer.0.output.dense.bias": np.array(values * 8, dtype=np.float32)}
        (tmp_path / file).write_bytes(TensorFile(tensors).to_bytes())
        return tmp_path / file

    tuned, base = write("tuned.safetensors", [1.5, 2.0]), write("base.safetensors", [1.0, 2.0])
    raw = invoke("inspect", tuned, "--json").json()
    assert (raw["method"], raw["settings"]["delta"]) == ("bitfit", False)
    assert invoke("inspect", tuned, "--base-weights", base, "--json").json()["settings"]["delta"] is True


@pytest.mark.parametrize("what", ["nowhere", "empty", "text"])
def test_inspect_says_why_not(what: str, tmp_path: Path, invoke: Any) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("hello, this is no adapter, whatever you may think of it")
    result = invoke("inspect", tmp_path / what)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("Error: ") and what in result.err


def test_what_a_file_says_cannot_talk_to_the_terminal(tmp_path: Path, invoke: Any) -> None:
    folder = peft(tmp_path / "x", base_model_name_or_path="\x1b[2J/model")
    result = invoke("inspect", folder)
    assert result.code == 0
    assert "\x1b" not in result.out + result.err


# --- add -------------------------------------------------------------------------------------------------------


def test_add_makes_a_registry_that_answers(adapter: Path, tmp_path: Path, invoke: Any) -> None:
    zoo = tmp_path / "zoo"
    result = invoke("add", adapter, "--registry", zoo)
    assert (result.code, result.out) == (0, "")
    assert f"reviews added to {zoo}, space {LORA.name}, 4 blocks" in result.err
    assert invoke("add", peft(tmp_path / "other"), "--registry", zoo, "--task", "films").code == 0
    command = result.err.splitlines()[1].split()
    assert command[:2] == ["tupate-hub", "similar"]
    found = invoke(*command[1:], "--json").json()
    assert [one["task"] for one in found["neighbors"]] == ["films"]
    assert found["neighbors"][0]["score"] == pytest.approx(1, abs=1e-5)
    assert "near-duplicate" in found["neighbors"][0]["notes"]
    assert invoke("verify", "--registry", zoo).code == 0


def test_add_json_has_the_documented_fields(adapter: Path, tmp_path: Path, invoke: Any) -> None:
    result = invoke("add", adapter, "--registry", tmp_path / "zoo", "--json")
    assert (result.code, result.err) == (0, "")
    assert result.json() == {"task": "reviews", "space": LORA.name, "blocks": 4}


def test_add_to_the_registry_of_the_environment(
    adapter: Path, tmp_path: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUPATE_HUB_REGISTRY", str(tmp_path / "zoo"))
    assert invoke("add", adapter).code == 0
    assert list(Zoo.open(tmp_path / "zoo").tasks) == ["reviews"]


@pytest.mark.parametrize("setting", [None, ""])
def test_the_bundled_zoo_takes_no_additions(
    setting: str | None, adapter: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if setting is not None:
        monkeypatch.setenv("TUPATE_HUB_REGISTRY", setting)
    result = invoke("add", adapter)
    assert (result.code, result.out) == (2, "")
    assert "takes no additions" in result.err
    assert f"tupate-hub add {adapter} --registry" in result.err


def test_the_same_task_twice(adapter: Path, tmp_path: Path, invoke: Any) -> None:
    arguments = ("add", adapter, "--registry", tmp_path / "zoo")
    assert invoke(*arguments).code == 0
    before = snapshot(tmp_path / "zoo")
    again = invoke(*arguments)
    assert (again.code, again.out) == (0, "")
    assert again.err.startswith("reviews is there already")
    assert snapshot(tmp_path / "zoo") == before
    result = invoke("add", peft(tmp_path / "other", scale=9.0), "--task", "reviews", *arguments[2:])
    assert (result.code, result.out) == (2, "")
    assert "already" in result.err and "--force" in result.err
    assert snapshot(tmp_path / "zoo") == before
    assert invoke(*arguments, "--force").code == 0
    assert snapshot(tmp_path / "zoo") == before


def test_a_known_task_keeps_its_name(toy_zoo: Path, adapter: Path, invoke: Any) -> None:
    result = invoke("add", adapter, "--task", "Glue/SST2", "--registry", toy_zoo, "--force", "--json")
    assert result.code == 0
    name = result.json()["task"]
    assert name in Zoo.open(toy_zoo).registry.tasks
    result = invoke("add", adapter, "--task", "SST-2", "--registry", toy_zoo, "--force", "--json")
    assert result.json()["task"] == "sst2"


def test_a_broken_registry_is_not_replaced(adapter: Path, tmp_path: Path, invoke: Any) -> None:
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "registry.json").write_text("{")
    result = invoke("add", adapter, "--registry", tmp_path / "zoo", "--force")
    assert (result.code, "not JSON" in result.err) == (2, True)
    assert snapshot(tmp_path / "zoo") == {"registry.json": b"{"}


# --- add --all -------------------------------------------------------------------------------------------------


def test_add_all_adds_what_it_can_and_lists_the_rest(downloads: Path, tmp_path: Path, invoke: Any) -> None:
    result = invoke("add", "--all", downloads, "--registry", tmp_path / "zoo")
    table = [line.split("\t") for line in result.out.splitlines()]
    assert result.code == 0
    assert table[0] == ["adapter", "what", "task", "space", "reason"]
    assert [row[:2] for row in table[1:]] == [
        ["broken", "refused"], ["deep/two", "added"], ["one", "added"], ["three", "refused"],
    ]  # fmt: skip
    assert table[2][2:] == ["two", "tiny-bert/lora", ""]
    assert "Git LFS pointer" in table[1][4]
    assert "git lfs pull" in table[1][4]
    assert "names a local base model, '/content/model'. (say which model it was tuned on: --base" in table[4][4]
    assert result.err == f"2 added to {tmp_path / 'zoo'}, 2 refused\n"
    assert list(Zoo.open(tmp_path / "zoo").tasks) == ["one", "two"]
    assert invoke("verify", "--registry", tmp_path / "zoo").code == 0


def test_add_all_json_has_the_documented_fields(downloads: Path, tmp_path: Path, invoke: Any) -> None:
    result = invoke("add", "--all", downloads, "--registry", tmp_path / "zoo", "--json")
    found = result.json()
    assert (set(found), found["added"], result.err) == ({"added", "kept", "refused", "adapters"}, 2, "")
    assert [set(one) for one in found["refused"]] == [{"path", "reason", "hint"}] * 2
    assert "--base" in found["refused"][1]["hint"]


def test_a_base_model_for_those_that_name_none(downloads: Path, tmp_path: Path, invoke: Any) -> None:
    found = invoke("add", "--all", downloads, "--base", "acme/said", "--registry", tmp_path / "zoo", "--json").json()
    assert (found["added"], len(found["refused"])) == (3, 1)
    entries = Zoo.open(tmp_path / "zoo").registry.entries
    assert {(entry.task, entry.space) for entry in entries} == {
        ("one", "tiny-bert/lora"),
        ("two", "tiny-bert/lora"),
        ("three", "said/lora"),
    }


def test_add_all_again(downloads: Path, tmp_path: Path, invoke: Any) -> None:
    arguments = ("add", "--all", downloads, "--registry", tmp_path / "zoo", "--json")
    assert invoke(*arguments).json()["added"] == 2
    before = snapshot(tmp_path / "zoo")
    again = invoke(*arguments).json()
    assert (again["added"], again["kept"], len(again["refused"])) == (0, 2, 2)
    assert [one["what"] for one in again["adapters"]] == ["already there"] * 2
    assert invoke(*arguments, "--force").json()["added"] == 2
    assert snapshot(tmp_path / "zoo") == before


def test_names_that_repeat_become_whole_ways(tmp_path: Path, invoke: Any) -> None:
    for way in ("a/checkpoint", "b/checkpoint", "b/final"):
        peft(tmp_path / "runs" / way)
    invoke("add", "--all", tmp_path / "runs", "--registry", tmp_path / "zoo")
    assert list(Zoo.open(tmp_path / "zoo").tasks) == ["a", "b__checkpoint", "b__final"]


def test_add_all_of_one_adapter_and_of_here(adapter: Path, tmp_path: Path, invoke: Any, monkeypatch: Any) -> None:
    assert invoke("add", "--all", adapter, "--registry", tmp_path / "one").code == 0
    monkeypatch.chdir(adapter)
    assert invoke("add", "--all", ".", "--registry", tmp_path / "two").code == 0
    for zoo in ("one", "two"):
        assert list(Zoo.open(tmp_path / zoo).tasks) == ["reviews"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("empty",), "no adapter below"),
        (("nowhere",), "not a folder"),
        (("text",), "not a folder"),
        (("reviews", "--task", "mine"), "--task names one adapter"),
    ],
)
def test_add_all_of_nothing(arguments: tuple[str, ...], says: str, adapter: Path, tmp_path: Path, invoke: Any) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("x")
    result = invoke("add", "--all", tmp_path / arguments[0], *arguments[1:], "--registry", tmp_path / "zoo")
    assert (result.code, result.out) == (2, "")
    assert says in result.err
    assert not (tmp_path / "zoo").exists()


def test_the_base_models_biases_are_taken_off_in_bulk_as_well(tmp_path: Path, invoke: Any) -> None:
    from tupate_hub.storage.safetensors import TensorFile

    def write(file: Path, value: float) -> Path:
        file.parent.mkdir(parents=True, exist_ok=True)
        tensors = {"encoder.layer.0.output.dense.bias": np.full(16, value, dtype=np.float32)}
        file.write_bytes(TensorFile(tensors).to_bytes())
        return file

    base = write(tmp_path / "base.safetensors", 1.0)
    write(tmp_path / "runs" / "biases.safetensors", 1.5)
    arguments = ("add", "--all", tmp_path / "runs", "--base", BASE, "--registry", tmp_path / "zoo")
    result = invoke(*arguments, "--base-weights", base, "--json")
    assert result.json()["added"] == 1
    (entry,) = Zoo.open(tmp_path / "zoo").registry.entries
    stored = Zoo.open(tmp_path / "zoo").load(entry)
    np.testing.assert_allclose(stored.blocks[0].parts["bias"], 0.5)


# --- strangers' adapters ---------------------------------------------------------------------------------------


def test_strangers_imdb_adapters_find_each_other(shared: Path, tmp_path: Path, invoke: Any) -> None:
    """Two people's LoRAs of DistilBERT for IMDB, among everything else that is in the collection."""
    found = invoke("add", "--all", shared / "adapters", "--registry", tmp_path / "zoo", "--json").json()
    assert found["added"] > 40
    assert all(one["reason"] and "\n" not in one["reason"] for one in found["refused"])
    assert invoke("verify", "--registry", tmp_path / "zoo").code == 0
    pair = ["Tashu014__lora-imdb-distilbert", "SowravPawar__Self-Healing-Classification__model"]
    for task, other in (pair, pair[::-1]):
        arguments = (
            "similar",
            task,
            "--space",
            "distilbert-base-uncased/lora",
            "--registry",
            tmp_path / "zoo",
            "--json",
        )
        assert invoke(*arguments, "-k", 1).json()["neighbors"][0]["task"] == other


def test_the_summary_is_the_documents(downloads: Path, tmp_path: Path, invoke: Any) -> None:
    """The table and the document of a run say the same."""
    table = invoke("add", "--all", downloads, "--registry", tmp_path / "one").out.splitlines()[1:]
    document = invoke("add", "--all", downloads, "--registry", tmp_path / "two", "--json").json()
    rows = {line.split("\t")[0]: line.split("\t")[1:] for line in table}
    assert list(rows) == sorted(rows)
    said = {str(Path(one["path"]).relative_to(downloads)): one for one in document["refused"] + document["adapters"]}
    assert rows.keys() == said.keys()
    for path, row in rows.items():
        if row[0] == "refused":
            assert row[3].startswith(said[path]["reason"])
        else:
            assert row[:3] == [said[path][name] for name in ("what", "task", "space")]
    json.dumps(document)
