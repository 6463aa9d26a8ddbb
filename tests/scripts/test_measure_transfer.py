"""The script that measures transfer: which runs there are to make, and which are made already."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tupate_hub.evaluation.transfer_rows import TransferRow, append_rows

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(load_script: Any) -> ModuleType:
    module = load_script("measure_transfer")
    assert isinstance(module, ModuleType)
    return module


def asked(script: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    monkeypatch.setattr(sys, "argv", ["measure_transfer.py", *arguments])
    return script.parse()


def row(source: str, steps: int, seed: int = 0) -> TransferRow:
    return TransferRow(
        source, "trec", 0.5, None, "few-shot", seed, "accuracy", steps, 200, 500, "lora", "cpu", "", "", "", 1.0
    )


def test_runs_from_nothing_come_first_and_no_task_starts_from_itself(script: ModuleType) -> None:
    sources = {"trec": ["sst2", "trec"], "cola": ["sst2", "trec"]}
    scratch, started = script.plan(sources, ["trec", "cola"], [0, 1])
    assert [(run.source, run.target, run.seed) for run in scratch] == [
        ("-", "trec", 0), ("-", "trec", 1), ("-", "cola", 0), ("-", "cola", 1),
    ]  # fmt: skip
    assert [(run.source, run.target, run.seed) for run in started] == [
        ("sst2", "trec", 0), ("sst2", "trec", 1), ("sst2", "cola", 0), ("trec", "cola", 0),
        ("sst2", "cola", 1), ("trec", "cola", 1),
    ]  # fmt: skip


def test_the_blend_of_the_first_three(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    first = script.picks(ROOT, "lora", "trec", 3)
    assert len(set(first)) == 3 and "trec" not in first
    options = asked(script, monkeypatch, "--blends", "3")
    assert script.sources_for(options, "trec") == ["+".join(first)]
    options = asked(script, monkeypatch, "--blends", "3", "--picks", "2", "--sources", first[1], "sst2")
    assert script.sources_for(options, "trec") == [first[1], "sst2", first[0], "+".join(first)]


def test_without_a_word_it_is_every_task_and_with_none_it_is_nothing(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {"sst2", "trec", "squad"} < set(script.sources_for(asked(script, monkeypatch), "trec"))
    assert script.sources_for(asked(script, monkeypatch, "--sources"), "trec") == []


def test_a_run_is_made_when_every_score_is_there(script: ModuleType, tmp_path: Path) -> None:
    append_rows(script.table(tmp_path, "few-shot", 40, "sst2"), [row("sst2", 40), row("mnli", 40), row("sst2", 40, 1)])
    append_rows(script.table(tmp_path, "few-shot", 40, "a+b"), [row("a+b", 40)])
    assert script.finished(tmp_path, "few-shot", (40, 150)) == set()
    append_rows(script.table(tmp_path, "few-shot", 150, "sst2"), [row("sst2", 150)])
    append_rows(script.table(tmp_path, "few-shot", 150, "a+b"), [row("a+b", 150)])
    made = {script.Run("sst2", "trec", 0), script.Run("a+b", "trec", 0)}
    assert script.finished(tmp_path, "few-shot", (40, 150)) == made


def test_blends_have_tables_of_their_own(script: ModuleType, tmp_path: Path) -> None:
    assert script.table(tmp_path, "few-shot", 40, "a+b") == tmp_path / "blends-few-shot-40.csv"
    assert script.table(tmp_path, "few-shot", 40, "a") == script.table(tmp_path, "few-shot", 40)


def test_a_source_is_a_task_or_a_blend(script: ModuleType) -> None:
    space = "all-MiniLM-L6-v2/lora"
    assert script._source(ROOT, "sst2", space).task == "sst2"
    blended = script._source(ROOT, "sst2+mnli", space)
    assert (blended.task, blended.facts["blend"]["rank"]) == ("sst2+mnli", 8)
