"""The scripts of the subspace experiment: trials on toy tasks, gone on with where they ended; the page of their rows."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from damage import snapshot

from tupate_hub.data.fewshot import FewShot, draw_all, read_fewshots
from tupate_hub.errors import FormatError
from tupate_hub.evaluation.subspace_rows import Trial, read_subspace_rows
from tupate_hub.registry import Registry
from tupate_hub.subspace.subspace import read_subspace

LISTED = [
    {"name": f"toy_{n}", "source": "toy_classes", "family": "cls" if n < 5 else "non-cls", "labels": labels}
    for n, labels in enumerate([{}] * 3 + [{"negative": "bad", "positive": "good"}] * 4)
]


@pytest.fixture
def script(load_script, monkeypatch, tmp_path, load):
    """The script on toy tasks; `script("--first", "3")` runs it."""
    module = load_script("measure_subspace")
    names = load("toy_classes").label_names
    rows = [
        {**row, "labels": dict(zip(names, ("bad", "good"), strict=True)) if row["labels"] else {}} for row in LISTED
    ]
    (tmp_path / "tasks.json").write_text(json.dumps(rows))
    monkeypatch.setattr(module, "TASKS", tmp_path / "tasks.json")
    monkeypatch.setattr(module, "BASE", "toy/bert")
    monkeypatch.setattr(torch, "set_float32_matmul_precision", lambda precision: None)
    return module


@pytest.fixture
def run(script, monkeypatch, tmp_path, base, data_folder):
    def go(*options):
        given = ["--data", data_folder, "--base", base, "--work", tmp_path / "work", "--out", tmp_path / "rows.csv"]
        steps = ["--full-steps", "60", "--fit-steps", "4", "--tune-steps", "4"]
        monkeypatch.setattr(sys, "argv", ["measure_subspace", *map(str, given), *steps, *options])
        assert script.main() == 0
        return read_subspace_rows(tmp_path / "rows.csv")

    return go


def test_trials_leave_rows_and_what_the_next_ones_need(run, tmp_path):
    rows = run("--first", "4")
    made = {row.trial.maps for row in rows}
    assert made == {"none", "full", "msf", "pca"}
    counted = {row.task for row in rows if row.maps == "msf"}
    assert len(counted) >= 4
    (fitted_on,) = {row.fitted_on for row in rows if row.maps == "msf"}
    assert fitted_on == round(len(counted) * 5 / 6)
    seen = {row.task for row in rows if (row.maps, row.measure) == ("msf", "new")}
    unseen = {row.task for row in rows if (row.maps, row.measure) == ("msf", "then-full")}
    assert len(seen) == fitted_on and seen | unseen == counted and not seen & unseen
    assert {row.task for row in rows if row.maps == "pca" and not row.seen} == unseen
    subspace = read_subspace(tmp_path / "work" / "subspace-5.safetensors")
    assert set(subspace.tasks) == seen and set(subspace.facts["unseen"]) == unseen and subspace.dim == 5

    before = snapshot(tmp_path)
    assert len(run("--first", "4")) == len(rows)  # nothing is made again
    assert snapshot(tmp_path) == before
    assert len({row.trial for row in run("--first", "6", "--share", "1/2")}) == 5  # the sixth, not the fifth


def test_another_machine_goes_on_with_the_tuned_parameters_beside_the_table(run, tmp_path):
    run("--first", "2")
    (tuned,) = tmp_path.glob("*-tuned.npy")
    assert np.load(tuned).shape[0] == len(LISTED)
    (tmp_path / "work" / "full-0.npy").unlink()
    assert {row.trial.maps for row in run("--first", "4", "--share", "3/4")} == {"none", "full", "pca"}


def test_no_trial_begins_too_late(run):
    assert run("--seconds", "0") == []


def test_trials_come_in_the_order_of_their_importance(script):
    listed = list(script.trials(3))
    assert len(listed) == len(set(listed))
    assert listed[:3] == [Trial("none"), Trial("full"), Trial("msf", "random", 0, 5)]
    wanted = {Trial("msf", split, seed, dim) for split in script.SPLITS for seed in range(3) for dim in script.DIMS}
    assert wanted <= set(listed)


def test_the_listed_tasks_are_drawn_from_the_real_data(script, shared):
    listed = read_fewshots(Path(script.__file__).with_name("fewshot_tasks.json"))
    assert len(listed) >= 60
    some = [task for task in listed if task.source in ("trec", "tweet_stance", "copa")]
    first, second = (draw_all(shared / "data", some, number) for number in (0, 1))
    for one, other in zip(first, second, strict=True):
        parts = [one.train, one.held_out, other.train, other.held_out, one.validation]
        texts = [{json.dumps(example, sort_keys=True) for example in part} for part in parts]
        shared_by = [len(texts[a] & texts[b]) for a in range(5) for b in range(a)]
        assert max(shared_by) <= 2  # copies in the published data
        counts = np.bincount([example["label"] for example in one.train])
        assert counts.max() <= 16 and counts.min() >= 1
        assert list(one.validation) == list(other.validation)


def test_a_draw_keeps_the_classes_that_are_named(load):
    data = load("toy_classes")
    name = data.label_names[0]
    with pytest.raises(FormatError, match="no class"):
        FewShot("x", "toy_classes", "cls", {"purple": "purple"}).draw(data)
    only = FewShot("x", "toy_classes", "cls", {name: "other"}).draw(data)
    assert only.label_names == ("other",) and {example["label"] for example in only.train} == {0}
    with pytest.raises(FormatError, match="too few"):
        FewShot("x", "toy_classes", "cls", where={"text_a": "nowhere"}).draw(data)


@pytest.mark.parametrize(
    "text", ["{", "[1]", '[{"name": "a"}]', '[{"name": "a", "source": "b", "family": "odd"}]', "null"]
)
def test_a_list_of_something_else_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(FormatError, match=r"x\.json"):
        read_fewshots(tmp_path / "x.json")


def test_the_page_is_made_of_the_rows(run, load_script, monkeypatch, tmp_path):
    run("--first", "5")
    load_script("curve_picture")
    page = load_script("subspace_page")
    text = page.PAGE.read_text(encoding="utf-8")
    (tmp_path / "subspace.csv").write_bytes((tmp_path / "rows.csv").read_bytes())
    (tmp_path / "subspace.md").write_text(text, encoding="utf-8")
    monkeypatch.setattr(page, "TRUTH", tmp_path)
    monkeypatch.setattr(page, "PAGE", tmp_path / "subspace.md")
    (tmp_path / "registry.json").write_text(Registry().to_json())
    monkeypatch.setattr(page, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["subspace_page"])
    assert page.main() == 0
    made = (tmp_path / "subspace.md").read_text(encoding="utf-8")
    assert "| random | all | 5 |" in made and "principal components" in made
    assert (tmp_path / "subspace-dims.svg").read_text().startswith("<svg")
    monkeypatch.setattr(sys, "argv", ["subspace_page", "--check"])
    assert page.main() == 0
    (tmp_path / "subspace.md").write_text(made.replace("| random | all | 5 |", "| random | all | 6 |"))
    assert page.main() == 1
