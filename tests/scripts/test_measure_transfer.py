"""The script that measures transfer: which runs there are to make, and which are made already."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tupate_hub.evaluation.transfer_rows import TransferRow, TransferRun, append_rows, read_rows
from tupate_hub.extras import install_command

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


def test_first_picks_by_several_orders(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    options = asked(script, monkeypatch, "--picks", "2", "--by", "update", "gain", "recommend")
    found = script.sources_for(options, "trec")
    assert found[:2] == script.picks(ROOT, "lora", "trec", 2)
    assert 2 <= len(found) == len(set(found)) <= 6 and "trec" not in found
    assert {*script.first_on_truth(ROOT, "gain", "trec", 2), *script.first_on_truth(ROOT, "recommend", "trec", 2)} <= {
        *found
    }
    assert script.first_on_truth(ROOT, "recommend", "no such target", 2) == []


def test_a_part_says_what_is_run_and_an_option_changes_one_thing(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = asked(script, monkeypatch, "--part", "limited-questions", "--seeds", "1")
    assert (options.protocol, options.seeds) == ("limited", [1])
    assert script.sources_for(options, "squad") == list(options.targets) and "quoref" in options.targets
    assert asked(script, monkeypatch, "--part", "converged").sources == ()
    own = asked(script, monkeypatch, "--part", "limited-sources")
    assert own.zoo == own.out == ROOT / "zoo" / "truth" / "limited-sources"
    assert script.sources_left(asked(script, monkeypatch)) == []


def test_what_there_is_of_each_part(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["measure_transfer.py", "--held"])
    assert script.main() == 0
    counts = dict(line.removesuffix(" runs").split(": ") for line in capsys.readouterr().out.splitlines())
    assert list(counts) == list(script.PARTS)
    made, wanted = (int(number.replace(",", "")) for number in counts["limited"].split(" of "))
    assert wanted == 11 * 11 * 3 and 0 < made <= wanted  # eleven sources for each but itself, and one from nothing


def test_sources_of_few_examples_are_tuned_into_a_registry_of_their_own(
    script: ModuleType, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from tupate_hub import Zoo
    from tupate_hub.training import train

    part = replace(script.PARTS["limited-sources"], sources=("toy_classes", "toy_numbers"), folder=tmp_path)
    monkeypatch.setitem(script.PARTS, "limited-sources", part)
    usual = train.TrainOptions
    monkeypatch.setattr(train, "TrainOptions", lambda **asked: usual(**asked, steps=2, batch_size=4))
    options = asked(script, monkeypatch, "--part", "limited-sources")
    assert script.sources_left(options) == ["toy_classes", "toy_numbers"]
    said = script.tune_source("toy_classes", data_folder, tmp_path, "lora", 8, 1, "cpu")
    assert said.startswith("toy_classes: ") and float(said.split()[-1]) >= 0
    assert script.sources_left(options) == ["toy_numbers"]
    assert Zoo.open(tmp_path).embedding("toy_classes").facts["training"]["train_examples"] == 8


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
    made = {TransferRun("sst2", "trec", 0), TransferRun("a+b", "trec", 0)}
    assert script.finished(tmp_path, "few-shot", (40, 150)) == made


def test_blends_have_tables_of_their_own(script: ModuleType, tmp_path: Path) -> None:
    assert script.table(tmp_path, "few-shot", 40, "a+b") == tmp_path / "blends-few-shot-40.csv"
    assert script.table(tmp_path, "few-shot", 40, "a") == script.table(tmp_path, "few-shot", 40)


def test_a_source_is_a_task_or_a_blend(script: ModuleType) -> None:
    assert script._source(ROOT, "sst2", "lora").task == "sst2"
    blended = script._source(ROOT, "sst2+mnli", "lora")
    assert (blended.task, blended.facts["blend"]["rank"]) == ("sst2+mnli", 8)


def test_rows_get_the_score_without_transfer_of_their_own_seed(script: ModuleType, tmp_path: Path) -> None:
    nothing = replace(row("-", 40), score=0.4, baseline_score_without_transfer=0.4)
    script.keep(TransferRun("-", "trec", 0), [nothing], "few-shot", tmp_path)
    for seed in (0, 1):
        script.keep(TransferRun("sst2", "trec", seed), [row("sst2", 40, seed)], "few-shot", tmp_path)
    rows = read_rows(script.table(tmp_path, "few-shot", 40))
    assert [one["baseline_score_without_transfer"] for one in rows] == ["0.40000", "0.40000", ""]


def test_without_ray_the_package_is_named(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "is_installed", lambda name: False)
    with pytest.raises(SystemExit):
        asked(script, monkeypatch, "--ray", "local")
    assert install_command("cluster") in capsys.readouterr().err


@pytest.mark.parametrize("sources", [["sst2"], ["-", "sst2", "mnli"]], ids=["alone", "together"])
def test_on_a_worker_runs_have_their_files_and_score_the_same(
    script: ModuleType, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sources: list[str]
) -> None:
    pytest.importorskip("torch")
    from tupate_hub.training import protocol

    monkeypatch.setattr(protocol, "PROTOCOLS", {"tiny": protocol.Protocol("tiny", 8, 2, (1, 2), 20)})
    runs = tuple(TransferRun(source, "toy_classes", 0) for source in sources)
    for name, content in script.files_of(runs, data_folder, ROOT, "lora").items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    how = {"protocol": "tiny", "method": "lora", "threads": 1, "device": "cpu"}
    there = script.make_runs(runs, tmp_path, data=Path("none"), zoo=Path("none"), **how)
    here = script.make_runs(runs, None, data=data_folder, zoo=ROOT, **how)
    assert [[one.steps for one in rows] for rows in there] == [[1, 2]] * len(runs)
    assert [{one.source for one in rows} for rows in there] == [{source} for source in sources]
    unlike = [replace(one, seconds=0.0) for rows in (*there,) for one in rows]
    assert unlike == [replace(one, seconds=0.0) for rows in here for one in rows]


def test_runs_of_one_target_and_seed_are_made_together(script: ModuleType) -> None:
    runs = [TransferRun(source, target, seed) for target in "xy" for seed in (0, 1) for source in "abc"]
    assert script.together(runs, 1) == [(run,) for run in runs]
    groups = script.together(runs, 2)
    assert [len(group) for group in groups] == [2, 1] * 4
    assert all(len({(run.target, run.seed) for run in group}) == 1 for group in groups)
    assert sorted(run for group in groups for run in map(str, group)) == sorted(map(str, runs))
