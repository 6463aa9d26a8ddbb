"""The script that measures predictors: resumed where it was cut off, tables that are read as CSV, costs that add up."""

import csv
import io
import json
import os
import shutil
import sys
from contextlib import redirect_stderr
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from tupate_hub.collect.add import add_embeddings, open_or_start
from tupate_hub.storage.safetensors import read_tensorfile
from tupate_hub.training.predictors.catalogue import PREDICTORS
from tupate_hub.training.predictors.measured import PARTS
from tupate_hub.training.record import to_embedding

NAMES = ("toy_choices", "toy_classes", "toy_tags")


pytestmark = pytest.mark.xdist_group("measure_predictors")  # what they share is made once


@pytest.fixture(scope="module")
def folders(tmp_path_factory, base, data_folder, tuned):
    """A zoo of three toy tasks, and where the script's files go."""
    root = tmp_path_factory.mktemp("predictors")
    made = [to_embedding(tuned(name), "acme/toy-bert") for name in NAMES]
    add_embeddings(open_or_start(root / "zoo"), [(root, one) for one in made])
    return {
        "--base": base,
        "--data": data_folder,
        "--zoo": root / "zoo",
        "--work": root / "work",
        "--out": root / "out",
    }


@pytest.fixture(scope="module")
def run(folders):
    """`run("--parts", "text", work=FOLDER)` runs the script in this process and gives its exit code and messages."""
    path = Path(__file__).parents[2] / "scripts" / "evaluation" / "measure_predictors.py"
    spec = spec_from_file_location("measure_predictors", path)
    script = module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", {**os.environ, "OMP_NUM_THREADS": "1"})
        patch.syspath_prepend(path.parent)
        patch.setitem(sys.modules, "measure_predictors", script)
        spec.loader.exec_module(script)

        def go(*arguments, **places):
            options = folders | {f"--{name}": place for name, place in places.items()}
            given = [str(part) for pair in options.items() for part in pair]
            patch.setattr(sys, "argv", ["measure_predictors.py", *given, "--space", "toy-bert/lora", *arguments])
            said = io.StringIO()
            with redirect_stderr(said):
                code = script.main()
            return code, said.getvalue()

        yield go


@pytest.fixture(scope="module")
def measured(folders, run):
    """Everything measured, in two goes: the second finds a part missing, and one whose targets were fewer."""
    work = folders["--work"]
    assert run("--targets", "toy_classes")[0] == 0
    (work / "shift" / "toy_tags.safetensors").unlink()
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*.safetensors")}
    code, said = run("--targets", *NAMES)
    assert code == 0, said
    after = {path: path.stat().st_mtime_ns for path in work.rglob("*.safetensors")}
    return said, {path.relative_to(work).as_posix() for path in after if after[path] != before.get(path)}


def test_only_what_is_missing_is_measured(measured):
    evidence = {f"evidence/{name}.safetensors" for name in NAMES}
    examples = {"examples/toy_choices.safetensors", "examples/toy_tags.safetensors"}
    assert measured[1] == {"shift/toy_tags.safetensors", *evidence, *examples}
    assert "[3/3] toy_tags: shift " in measured[0]


def test_nothing_is_measured_twice(run, measured, tmp_path):
    code, said = run("--targets", *NAMES, out=tmp_path)
    assert code == 0 and "[1/" not in said and "task-emb" in said


def test_a_table_has_a_row_for_each_pair(folders, measured):
    for name, predictor in PREDICTORS.items():
        with (folders["--out"] / f"{name}.csv").open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        targets = NAMES if predictor.symmetric else ("toy_choices", "toy_classes")  # tags have no log evidence
        others = {(source, target) for target in targets for source in NAMES if source != target}
        base = {("-", target) for target in targets} if name.startswith("log-me") else set()
        assert {(row["source"], row["target"]) for row in rows} == others | base
        assert all(abs(float(row["score"])) < 1e3 for row in rows)


def test_rows_are_of_what_is_asked_for_and_of_the_targets_of_transfer(run, measured, tmp_path):
    assert run("--targets", "toy_classes", "--jobs", "0", out=tmp_path)[0] == 0
    with (tmp_path / "text-emb.csv").open(newline="", encoding="utf-8") as stream:
        assert {row["target"] for row in csv.DictReader(stream)} == {"toy_classes"}


def test_the_truths_reader_reads_a_table(folders, measured):
    from tupate_hub.evaluation.truth import read_truth

    truth = read_truth(folders["--out"] / "text-emb.csv")
    assert set(truth.sources) == set(truth.targets) == set(NAMES)


def test_costs_are_means_of_what_was_measured(folders, measured):
    costs = json.loads((folders["--out"] / "costs.json").read_text(encoding="utf-8"))
    assert set(costs["predictors"]) == set(PREDICTORS) and costs["ranking"]["seconds"] > 0
    seconds = {
        part: [float(read_tensorfile(path).metadata["seconds"]) for path in (folders["--work"] / part).iterdir()]
        for part in PARTS
    }
    fisher, task_emb = seconds["fisher"], costs["predictors"]["task-emb"]
    assert task_emb["seconds_per_task"] == pytest.approx(sum(fisher) / 3, abs=1e-3)
    assert task_emb["threads"] == [1] and task_emb["tasks"] == 3 and "2005.00770" in task_emb["paper"]
    log_me = costs["predictors"]["log-me"]  # 2 sources x 2 targets
    assert log_me["seconds_per_task"] == 0 and log_me["targets"] == 2
    tried = sum(seconds["evidence"]) / 4
    assert tried * 0.99 <= log_me["seconds_per_pair"] <= tried + 1  # what the base model explains comes on top
    assert log_me["bytes_per_task"] > 1000  # the adapters themselves


def test_a_predictor_without_all_its_parts_has_no_table_yet(run, folders, measured, tmp_path):
    work = tmp_path / "work"
    for name in NAMES:
        for part in ("vocabulary", "text"):
            (work / part).mkdir(parents=True, exist_ok=True)
            source = folders["--work"] / part / f"{name}.safetensors"
            (work / part / source.name).write_bytes(source.read_bytes())
    (work / "text" / "toy_tags.safetensors").unlink()
    assert run("--jobs", "0", work=work, out=tmp_path / "out")[0] == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"vocabulary.csv", "costs.json"}


def test_a_task_that_fails_is_named_and_the_others_go_on(run, data_folder, tmp_path):
    data = Path(shutil.copytree(data_folder, tmp_path / "data"))
    (data / "tasks" / "toy_choices" / "train.jsonl.gz").write_bytes(b"cut off")
    code, said = run("--targets", "toy_tags", "--parts", "vocabulary", data=data, work=tmp_path, out=tmp_path / "out")
    assert code == 1
    assert "[1/3] toy_choices: FormatError" in said and "[2/3] toy_classes: vocabulary" in said and "[3/3]" in said
    assert not list((tmp_path / "out").glob("*.csv"))
