"""`merge-check`: what a person, a pipe and a program get, and what is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import BASE, bottleneck, dense, each_block, lora, peft, prompt, zoo_of

from tupate_hub.collect.read_adapter import read_for_registry
from tupate_hub.embedding import Block, TaskEmbedding
from tupate_hub.export import export

TRIO = ("imdb", "mnli", "squad")


def folder_of(path: Path, one: TaskEmbedding, form: str = "peft") -> Path:
    path.mkdir(parents=True)
    for name, data in export(one, form, bare=True).items():
        (path / name).write_bytes(data)
    return path


def scaled(one: TaskEmbedding, factor: float) -> TaskEmbedding:
    return each_block(one, lambda block: Block(block.name, block.parts, block.scale * factor))


@pytest.fixture
def check(invoke: Any, toy_zoo: Path) -> Any:
    """`check("imdb", "mnli")` asks about the toy zoo."""
    return lambda *arguments: invoke("merge-check", *arguments, "--registry", toy_zoo)


# --- what is told ----------------------------------------------------------------------------------------------


def test_tables_and_sentences(check: Any) -> None:
    result = check(*TRIO)
    assert result.code == 0, result.err
    lines = [line.split("\t") for line in result.out.splitlines()]
    assert lines[0] == ["adapter", "norm", "weight", "survives", "distance", "disturbed"]
    assert [line[0] for line in lines[1:4]] == list(TRIO)
    assert lines[4] == ["first", "second", "cosine", "inputs", "outputs", "opposite signs"]
    assert [line[:2] for line in lines[5:]] == [["imdb", "mnli"], ["imdb", "squad"], ["mnli", "squad"]]
    assert "of an update survives" in result.err
    assert "Suggested weights: imdb" in result.err


def test_explain_adds_a_line_for_each_layer(check: Any) -> None:
    lines = [line.split("\t") for line in check(*TRIO, "--explain").out.splitlines()]
    columns = ["layer", "norm", "cosine", "inputs", "outputs", "opposite signs", "cancelled", "disturbed"]
    assert lines[8] == [*columns, *(f"{task} survives" for task in TRIO)]
    assert [line[0] for line in lines[9:]] == ["layer.0", "layer.1"]


def test_the_figures_of_the_json_are_those_of_the_updates(check: Any, toy_zoo: Path) -> None:
    found = check(*TRIO, "--weights", "0.5,0.25,1", "--explain", "--json").json()
    from tupate_hub import Zoo

    zoo = Zoo.open(toy_zoo)
    full = [dense(zoo.embedding(task, "tiny-bert/lora")) for task in TRIO]
    flat = [np.concatenate([update.ravel() for update in one.values()]) for one in full]
    merged = 0.5 * flat[0] + 0.25 * flat[1] + flat[2]
    assert (found["base"], found["method"]) == (BASE, "lora")
    assert found["norm"] == pytest.approx(np.linalg.norm(merged), rel=1e-3)
    for row, update in zip(found["adapters"], flat, strict=True):
        assert row["norm"] == pytest.approx(np.linalg.norm(update), rel=1e-3)
        assert row["survives"] == pytest.approx(merged @ update / (update @ update), rel=1e-3)
    first = found["pairs"][0]
    assert first["opposite"] == pytest.approx((flat[0] * flat[1] < 0).mean(), abs=0.02)
    assert (first["opposite_error"], found["looked_at"]) == (0, 1)
    assert first["cosine"] == pytest.approx(
        flat[0] @ flat[1] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1]), abs=1e-4
    )
    squares = [one["norm"] ** 2 for layer in found["layers"] for one in layer["adapters"] if one["name"] == "imdb"]
    assert sum(squares) == pytest.approx(found["adapters"][0]["norm"] ** 2)
    per_layer = [layer["pairs"][0]["opposite"] for layer in found["layers"]]
    assert np.mean(per_layer) == pytest.approx(first["opposite"])  # of layers with as many entries


def test_the_suggestion_leaves_out_what_drowns_the_others(check: Any, tmp_path: Path) -> None:
    folder_of(tmp_path / "loud", scaled(lora("loud", 9), 1e4))
    found = check("imdb", "mnli", tmp_path / "loud", "--json").json()
    suggestion = found["suggestion"]
    assert "loud" not in suggestion["adapters"]
    assert "loud" in [one["name"] for one in suggestion["left_out"]]
    assert {one["why"] for one in suggestion["left_out"]} <= {"disturbs", "covered"}


def test_a_copy_is_told(check: Any) -> None:
    result = check("imdb", "stanfordnlp/imdb")
    assert "stanfordnlp/imdb, which repeats imdb (cosine 1.000)" in result.err
    assert "do not merge these" in result.err
    refused = check("imdb", "imdb", "--weights", "suggested")
    assert refused.code == 2
    assert "--weights mean" in refused.err


def test_two_folders_of_one_name_are_told_apart(check: Any, tmp_path: Path) -> None:
    paths = [folder_of(tmp_path / f"{at}" / "adapter", lora("x", at)) for at in range(2)]
    rows = check(*paths, "--json").json()["adapters"]
    assert [row["name"] for row in rows] == list(map(str, paths))
    assert [row["name"] for row in check(paths[0], paths[0], "--json").json()["adapters"]] == [
        str(paths[0]),
        f"{paths[0]} (2)",
    ]
    assert check(*paths, "--write", tmp_path / "sum", "--bare").code == 0
    assert str(tmp_path) not in (tmp_path / "sum" / "README.md").read_text()  # it may be published


def test_a_task_is_taken_from_the_space_of_the_folder_beside_it(invoke: Any, tmp_path: Path) -> None:
    """The default space is the prompts', which have no sums."""
    zoo = zoo_of(tmp_path / "zoo", prompt("imdb", 1), lora("imdb", 2), lora("mnli", 3))
    mine = folder_of(tmp_path / "mine", lora("mine", 4))
    result = invoke("merge-check", "imdb", mine, "--registry", zoo.root, "--json")
    assert result.code == 0, result.err
    assert result.json()["method"] == "lora"


def test_a_repository_of_the_hub_is_one_of_them(
    invoke: Any, toy_zoo: Path, hub: Any, adapter: dict[str, bytes]
) -> None:
    hub.store.put("models", "acme/mine", adapter)
    result = invoke("merge-check", "imdb", "acme/mine", "--registry", toy_zoo, "--json")
    assert result.code == 0, result.err
    rows = result.json()["adapters"]
    alone = invoke("merge-check", "imdb", "rte", "--registry", toy_zoo, "--json").json()["adapters"]
    assert [row["norm"] for row in rows] == pytest.approx([row["norm"] for row in alone])
    missing = invoke("merge-check", "imdb", "acme/nowhere", "--registry", toy_zoo)
    assert missing.code == 2
    assert "acme/nowhere" in missing.err


def test_the_suggested_weights_are_advised_where_others_are_used(check: Any) -> None:
    assert "--weights suggested takes these" in check("imdb", "mnli").err
    assert "--weights suggested" not in check("imdb", "mnli", "--weights", "suggested").err


# --- what is written -------------------------------------------------------------------------------------------


def test_the_sum_is_written_and_reads_back(check: Any, toy_zoo: Path, tmp_path: Path) -> None:
    from tupate_hub import Zoo

    result = check("imdb", "mnli", "--write", tmp_path / "sum", "--weights", "1,-2", "--rank", "5", "--bare", "--json")
    assert result.code == 0, result.err
    written = result.json()["written"]
    assert (written["rank"], written["form"], written["folder"]) == (5, "peft", str(tmp_path / "sum"))
    assert written["kept"] == pytest.approx(1)
    assert written["error"] == pytest.approx(0, abs=1e-3)
    found = dense(read_for_registry(tmp_path / "sum"))
    imdb, mnli = (dense(Zoo.open(toy_zoo).embedding(task, "tiny-bert/lora")) for task in ("imdb", "mnli"))
    for name, update in found.items():
        np.testing.assert_allclose(update, imdb[name] - 2 * mnli[name], atol=1e-3 * np.abs(update).max())
    config = json.loads((tmp_path / "sum" / "adapter_config.json").read_text())
    assert (config["r"], config["peft_type"]) == (5, "LORA")
    assert "The sum of the updates 1 x imdb, -2 x mnli, with 100.00%" in (tmp_path / "sum" / "README.md").read_text()


def test_what_the_rank_loses_is_told(check: Any, tmp_path: Path) -> None:
    result = check("imdb", "mnli", "--write", tmp_path / "sum", "--rank", "1", "--bare")
    assert result.out.splitlines()[-1] == str(tmp_path / "sum")
    assert "rank 1 keeps" in result.err
    assert "a relative error of 0." in result.err
    assert "heads are not merged" in result.err


def test_suggested_weights_leave_out_what_is_left_out(check: Any, tmp_path: Path) -> None:
    folder_of(tmp_path / "loud", scaled(lora("loud", 9), 1e4))
    options = ("--weights", "suggested", "--write", tmp_path / "sum", "--bare")
    result = check("imdb", "squad", "mnli", tmp_path / "loud", *options)
    assert result.code == 0, result.err
    assert "loud" not in (tmp_path / "sum" / "README.md").read_text()


@pytest.mark.parametrize("form", ["embedding", "peft", "adapters"])
def test_a_stranger_s_name_and_facts_stay_in_the_folder(form: str, check: Any, tmp_path: Path) -> None:
    facts = {"settings": "x", "architecture": [1], "task_kind": {}, "source": 3, "blend": {"of": 1}}
    evil = replace(lora("evil", 1), task="../../evil\x1b[2J", facts=facts)
    (tmp_path / "evil.safetensors").write_bytes(evil.to_bytes())
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    options = ("--write", tmp_path / "deep" / "sum", "--as", form, *(["--bare"] if form == "peft" else []))
    result = check("imdb", tmp_path / "evil.safetensors", *options)
    assert "\x1b" not in result.out + result.err
    made = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert all(path.parent == tmp_path / "deep" / "sum" for path in made)
    if form == "adapters":  # which needs to know the model's type
        assert (result.code, made) == (2, set())
    else:
        assert result.code == 0, result.err
        assert made


def test_a_folder_is_not_replaced_without_force(check: Any, tmp_path: Path) -> None:
    asked = ("imdb", "mnli", "--write", tmp_path / "sum", "--bare")
    assert check(*asked).code == 0
    refused = check(*asked)
    assert refused.code == 2
    assert "--force" in refused.err
    assert check(*asked, "--force").code == 0
    (tmp_path / "sum" / "mine.txt").write_text("x")
    refused = check(*asked, "--force")
    assert refused.code == 2
    assert "mine.txt" in refused.err


def test_nothing_is_written_of_an_adapter_that_was_read_in_part(check: Any, tmp_path: Path) -> None:
    """The magnitudes of DoRA are left out when it is read, and the sum of the rest is not the sum of both."""
    from tupate_hub.storage.safetensors import TensorFile, read_tensorfile

    dora = peft(tmp_path / "dora", use_dora=True)
    weights = dora / "adapter_model.safetensors"
    file = read_tensorfile(weights)
    magnitudes = {
        name.replace(".lora_B.weight", ".lora_magnitude_vector"): np.ones(len(array), np.float32)
        for name, array in file.tensors.items()
        if ".lora_B." in name
    }
    weights.write_bytes(TensorFile({**file.tensors, **magnitudes}, {"format": "pt"}).to_bytes())
    assert check("imdb", dora).code == 0
    result = check("imdb", dora, "--write", tmp_path / "sum", "--bare")
    assert result.code == 2
    assert "were left out when it was read" in result.err
    assert not (tmp_path / "sum").exists()


# --- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said", "advised"),
    [
        (("imdb",), "two adapters or more", ""),
        (("imdb", "nosuch"), "Unknown task 'nosuch'", ""),
        (("imdb", "./nowhere"), "./nowhere does not exist", ""),
        (
            ("imdb", "mnli", "--weights", "1,2,3"),
            "2 updates need as many weights of at most 1,000,000, not [1.0, 2.0, 3.0]",
            "",
        ),
        (("imdb", "mnli", "--weights", "1e999,1"), "need as many weights", ""),
        (("imdb", "mnli", "--weights", "1,x"), "'1,x' are no weights", "--weights 0.7,0.3"),
        (("imdb", "mnli", "--weights", "most"), "Unknown weights 'most'", "mean, whole, suggested"),
        (("imdb", "mnli", "--space", "prompt"), "prompt has no average", ""),
        (("imdb", "mnli", "--write", "OUT", "--rank", "50"), "The sum has rank 5 at most", "--rank 5"),
        (("imdb", "mnli", "--write", "OUT", "--weights", "0,0"), "All weights are 0", "--weights mean"),
        (("imdb", "mnli", "--write", "OUT"), "model type of acme/tiny-bert is not known", "--bare"),
        (("imdb", "mnli", "--write", "OUT", "--as", "x"), "Unknown form 'x'", ""),
    ],
)
def test_one_sentence_and_a_hint(
    arguments: tuple[str, ...], said: str, advised: str, check: Any, tmp_path: Path
) -> None:
    result = check(*(str(tmp_path / "out") if one == "OUT" else one for one in arguments))
    assert result.code == 2
    assert said in result.err
    assert advised in result.err
    assert not (tmp_path / "out").exists()


def test_other_spaces_and_methods(check: Any, tmp_path: Path) -> None:
    other = peft(tmp_path / "other", base_model_name_or_path="acme/large-bert")
    result = check("imdb", other)
    assert result.code == 2
    assert "imdb is lora on acme/tiny-bert, other is lora on acme/large-bert: their updates do not add up" in result.err
    for at in range(2):
        (tmp_path / f"{at}.safetensors").write_bytes(bottleneck(f"b{at}", at).to_bytes())
    assert "has no average" in check(tmp_path / "0.safetensors", tmp_path / "1.safetensors").err


def test_an_untrained_adapter_is_named(check: Any, tmp_path: Path) -> None:
    (tmp_path / "zero.safetensors").write_bytes(scaled(lora("zero", 1), 0.0).to_bytes())
    result = check("imdb", tmp_path / "zero.safetensors")
    assert result.code == 2
    assert "The update of 'zero' is all zero" in result.err
