"""`transfer`, and what `train` starts from: from a source and data to differences, rows of truth, and refusals."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_docs import fields, section

from tupate_hub.collect.add import add_embeddings, open_or_start
from tupate_hub.compare.blend import blend
from tupate_hub.embedding import TaskEmbedding, read_embedding
from tupate_hub.evaluation.transfer_rows import read_rows
from tupate_hub.evaluation.truth import read_truth
from tupate_hub.training.basemodel import find_base
from tupate_hub.training.methods import get_method
from tupate_hub.training.protocol import Protocol
from tupate_hub.training.record import to_embedding
from tupate_hub.training.transfer import measure

SOURCES = ("toy_numbers", "toy_spans", "toy_choices")


@pytest.fixture(scope="module")
def sources(base: Path, tuned: Any) -> list[TaskEmbedding]:
    """Full runs of three toy tasks, on the base model as the command line names it."""
    found = [to_embedding(tuned(name), find_base(str(base)).id) for name in SOURCES]
    return [dataclasses.replace(one, facts={**one.facts, "source": {"kind": "trained"}}) for one in found]


@pytest.fixture
def registry(tmp_path: Path, sources: list[TaskEmbedding]) -> Path:
    zoo = open_or_start(tmp_path / "zoo")
    return Path(str(add_embeddings(zoo, [(tmp_path, one) for one in sources])[0].root))


@pytest.fixture
def transfer(base: Path, data_folder: Path, registry: Path, invoke: Any, monkeypatch: Any, tmp_path: Path) -> Any:
    """`transfer("toy_numbers")` measures what it adds on toy_classes, in a few steps."""
    monkeypatch.chdir(tmp_path)
    usual = ("--task", "toy_classes", "--base", base, "--registry", registry)

    def run(source: Any, *arguments: Any) -> Any:
        quick = ("--steps", 4, "--examples", 48, "--seeds", 2)
        return invoke("transfer", source, data_folder, *usual, *quick, *arguments)

    return run


def test_a_table_of_differences_and_their_standard_error(transfer: Any) -> None:
    result = transfer("toy_numbers")
    assert result.code == 0, result.err
    head, *rows = [line.split("\t") for line in result.out.splitlines()]
    assert head == [
        "seed", "steps", "from toy_numbers", "scratch steps", "from scratch", "difference", "standard error",
    ]  # fmt: skip
    assert [(row[0], row[1], row[3]) for row in rows] == [
        ("0", "1", "1"), ("0", "4", "4"), ("1", "1", "1"), ("1", "4", "4"), ("mean", "1", "1"), ("mean", "4", "4"),
    ]  # fmt: skip
    for row in rows:
        assert float(row[5]) == pytest.approx(float(row[2]) - float(row[4]), abs=0.0016)
    first, second = float(rows[1][5]), float(rows[3][5])
    assert float(rows[5][5]) == pytest.approx((first + second) / 2, abs=0.0011)
    assert float(rows[5][6]) == pytest.approx(abs(first - second) / 2, abs=0.0011)
    assert [row[6] for row in rows[:4]] == ["-"] * 4
    assert "starting from toy_numbers: lora, 4 blocks" in result.err
    assert "2 x 2 runs of 4 steps on 48 examples, scored on 80, after 1 and 4 steps" in result.err
    assert re.search(r"seed 1, from scratch: 0\.\d{4} after 4 steps", result.err)
    assert re.search(
        r"toy_classes after 4 steps: toy_numbers (adds|costs) \d+\.\d points of accuracy over scratch "
        r"\(standard error \d+\.\d, 2 seeds\)",
        result.err,
    )


def test_it_is_what_the_library_measures(transfer: Any, base: Path, load: Any, sources: Any) -> None:
    found = transfer("toy_numbers", "--json").json()
    plan = Protocol("own", 48, 4, (1, 4))
    for source, field in ((sources[0], "score"), (None, "scratch_score")):
        expected = [one.value for one in measure(base, load("toy_classes"), get_method("lora"), plan, 1, source)]
        assert [one[field] for one in found["runs"] if one["seed"] == 1] == pytest.approx(expected)


def test_json_has_the_documented_fields(transfer: Any) -> None:
    result = transfer("toy_numbers+toy_spans", "--json")
    assert (result.code, "after 4 steps:" in result.err) == (0, False)
    found = result.json()
    undocumented = {name for name in fields(found) | set(found["blend"]) if f"`{name}`" not in section("transfer")}
    assert not undocumented
    assert (found["source"], found["target"], found["metric"]) == ("toy_numbers+toy_spans", "toy_classes", "accuracy")
    assert (found["examples"], found["scored_on"], found["out"]) == (48, 80, None)
    assert (found["blend"]["of"], found["blend"]["rank"]) == (["toy_numbers", "toy_spans"], 8)
    assert [(one["seed"], one["steps"]) for one in found["runs"]] == [(0, 1), (0, 4), (1, 1), (1, 4)]
    assert [(one["steps"], one["seeds"]) for one in found["gains"]] == [(1, 2), (4, 2)]


def test_against_a_run_that_has_converged(transfer: Any) -> None:
    found = transfer("toy_numbers", "--converged", "--seeds", 1, "--json").json()
    assert [(one["steps"], one["scratch_steps"]) for one in found["runs"]] == [(1, 1), (4, 4), (4, 16)]
    assert found["gains"][2]["standard_error"] is None
    told = transfer("toy_numbers", "--converged", "--seeds", 1).err
    assert re.search(r"after 4 steps: toy_numbers (adds|costs) .* over 16 steps from scratch \(with one seed", told)


def test_rows_of_truth_are_added(transfer: Any, tmp_path: Path) -> None:
    table = tmp_path / "truth" / "mine.csv"
    runs = transfer("toy_numbers", "--converged", "--out", table, "--json").json()["runs"]
    rows = read_rows(table)
    assert [(row["source"], row["seed"], row["steps"], row["regime"]) for row in rows[:7]] == [
        ("toy_numbers", "0", "1", "own"), ("toy_numbers", "0", "4", "own"),
        ("-", "0", "1", "own"), ("-", "0", "4", "own"),
        *(("-", "0", str(steps), "own-converged") for steps in (8, 12, 16)),
    ]  # fmt: skip
    assert len(rows) == 14
    assert float(rows[1]["score"]) == pytest.approx(runs[1]["score"], abs=1e-5)
    assert rows[1]["baseline_score_without_transfer"] == rows[3]["score"]
    assert transfer("toy_spans", "--out", table).code == 0
    assert len(read_rows(table)) == 14 + 8
    assert {"toy_numbers", "toy_spans"} < set(read_truth(table).sources)


def test_it_is_scored_where_it_is_asked_to_be(transfer: Any) -> None:
    found = transfer("toy_numbers", "--score-at", 2, "--score-at", 3, "--json").json()
    assert [one["steps"] for one in found["gains"]] == [2, 3, 4]


def test_a_source_that_is_the_target_is_pointed_out(
    transfer: Any, tmp_path: Path, tuned: Any, base: Path, data_folder: Path
) -> None:
    itself = to_embedding(tuned("toy_classes"), find_base(str(base)).id)
    (tmp_path / "mine.safetensors").write_bytes(itself.to_bytes())
    told = transfer(tmp_path / "mine.safetensors", "--seeds", 1)
    assert (told.code, "was tuned on this very data" in told.err) == (0, True)
    assert "was tuned on this very data" not in transfer("toy_numbers", "--seeds", 1).err


@pytest.mark.parametrize(
    ("source", "arguments", "says"),
    [
        ("toy_numbrs", (), "did you mean toy_numbers"),
        ("./nowhere", (), "does not exist"),
        ("toy_numbers+", (), r"'toy_numbers\+' names nothing before or after a '\+'.*sst2\+imdb"),
        ("toy_numbers+toy_span", (), "did you mean toy_spans"),
        ("toy_numbers", ("--space", "none"), "Unknown space"),
        ("toy_numbers", ("--score-at", 5), "no score after 5 steps in a run of 4.*--score-at 4, or --steps 5"),
        ("toy_numbers", ("--seeds", 0), "seeds"),
        ("toy_numbers", ("--examples", 1), "examples"),
        ("toy_numbers", ("--task", "toy_clases"), "toy_classes"),
        ("toy_numbers", ("--out", "."), "cannot be written"),
        ("toy_numbers", ("--out", "taken.csv/rows.csv"), "cannot be written"),
        ("toy_numbers", ("--out", "taken.csv"), r"taken.csv is not a table of transfer runs.*source,target"),
    ],
)
def test_wrong_input_is_told_in_a_sentence_before_any_run(
    transfer: Any, tmp_path: Path, source: str, arguments: Any, says: str
) -> None:
    (tmp_path / "taken.csv").write_text("text,label\n")
    before = sorted(tmp_path.rglob("*"))
    result = transfer(source, *arguments)
    assert sorted(tmp_path.rglob("*")) == before
    assert (result.code, result.out) == (2, "")
    assert re.search(says, result.err, flags=re.DOTALL), result.err
    assert "Traceback" not in result.err and "seed 0" not in result.err


def test_a_source_on_another_base_model(transfer: Any) -> None:
    result = transfer("sst2", "--registry", Path(__file__).parents[2])
    assert result.code == 2
    assert "was tuned on sentence-transformers/all-MiniLM-L6-v2, not on" in result.err


# --- train starts from blends, too -----------------------------------------------------------------------------


def test_train_starts_from_a_blend(
    base: Path, data_folder: Path, registry: Path, invoke: Any, sources: Any, tmp_path: Path
) -> None:
    """One step of Adam moves a number by its learning rate at most, so what it started from is still seen."""
    written = "+".join(SOURCES)
    arguments = (
        "--task",
        "toy_classes",
        "--base",
        base,
        "--steps",
        1,
        "--lr",
        1e-4,
        "--to",
        tmp_path / "mine",
        "--json",
    )
    result = invoke("train", data_folder, "--start-from", written, "--registry", registry, *arguments)
    assert result.code == 0, result.err
    said = re.search(r"starting from (\S+): lora, 4 blocks, the average of 3 updates; rank 8 keeps (\d+)%", result.err)
    assert said and said[1] == written
    expected = blend(sources)
    assert int(said[2]) == pytest.approx(100 * expected.facts["blend"]["kept"], abs=1)
    found = read_embedding(Path(result.json()["embedding"]))
    assert found.facts["source"]["start_from"] == written
    for block in found.blocks:
        ours, theirs = (one.scale * one.parts["B"] @ one.parts["A"] for one in (block, expected.by_name[block.name]))
        assert np.linalg.norm(ours - theirs) < 0.1 * np.linalg.norm(theirs)


def test_a_file_and_a_task_blend(
    base: Path, data_folder: Path, registry: Path, invoke: Any, sources: Any, tmp_path: Path
) -> None:
    (tmp_path / "mine.safetensors").write_bytes(sources[1].to_bytes())
    arguments = ("--task", "toy_classes", "--base", base, "--registry", registry, "--seeds", 1, "--steps", 1)
    result = invoke("transfer", f"toy_numbers+{tmp_path / 'mine.safetensors'}", data_folder, *arguments, "--json")
    assert result.code == 0, result.err
    assert result.json()["source"] == "toy_numbers+toy_spans"


def test_a_file_whose_name_has_a_plus_is_a_file(
    base: Path, data_folder: Path, registry: Path, invoke: Any, sources: Any, tmp_path: Path
) -> None:
    (tmp_path / "a+b.safetensors").write_bytes(sources[1].to_bytes())
    arguments = ("--task", "toy_classes", "--base", base, "--registry", registry, "--seeds", 1, "--steps", 1)
    result = invoke("transfer", tmp_path / "a+b.safetensors", data_folder, *arguments, "--json")
    assert (result.code, result.json()["source"]) == (0, "toy_spans")
