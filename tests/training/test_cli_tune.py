"""`train` and `recommend`: from a file to an embedding, a warm start and the command to type next."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_docs import fields, section
from toys import BAD, GOOD, filler

from tupate_hub import Zoo
from tupate_hub.embedding import read_embedding
from tupate_hub.evaluation.transfer_rows import read_rows
from tupate_hub.extras import install_command
from tupate_hub.storage.atomic import alone
from tupate_hub.training.model import base_sha256

QUICK = ("--steps", "10", "--lr", "0.01", "--batch-size", "16")


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV as a person has it: 200 short reviews, good or bad."""
    rng = random.Random("reviews")
    lines = ["review,verdict"]
    for _ in range(200):
        label = rng.randrange(2)
        words = filler(rng, 2, 5) + [rng.choice((BAD, GOOD)[label]) for _ in range(3)]
        rng.shuffle(words)
        lines.append(f"{' '.join(words)} {len(lines)},{('bad', 'good')[label]}")
    path = tmp_path_factory.mktemp("reviews") / "reviews.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def train(here: Path, base: Path, reviews: Path, invoke: Any) -> Any:
    """`train("--method", "prefix")` tunes on the reviews for ten steps."""

    def run(*arguments: Any, data: Path = reviews) -> Any:
        return invoke("train", data, "--base", base, *QUICK, *arguments)

    return run


# --- train -----------------------------------------------------------------------------------------------------


def test_a_csv_becomes_an_embedding_that_answers(train: Any, here: Path, invoke: Any, base: Path) -> None:
    result = train("--kind", "classification")
    assert result.code == 0, result.err
    told = dict(line.split("\t") for line in result.out.splitlines())
    assert list(told) == [
        "task", "score", "baseline", "class bad", "class good", "steps", "space", "parameters", "embedding", "adapter",
        "early", "report",
    ]  # fmt: skip
    assert (told["task"], told["space"]) == ("reviews", "base0/lora" if base.name == "base0" else told["space"])
    assert re.fullmatch(r"[01]\.\d{4} accuracy, [01]\.\d{3} to [01]\.\d{3} \(95 %\)", told["score"])
    assert re.fullmatch(r"precision .*, recall .*, F1 .*, of \d+", told["class bad"])
    page = (here / told["report"]).read_text(encoding="utf-8")
    assert "<h1>reviews</h1>" in page and "verdict (guessed)" in page
    assert "columns: text = review, label = verdict" in result.err
    assert read_embedding(here / told["embedding"]).task == "reviews"
    assert (here / told["adapter"] / "model_head.safetensors").is_file()
    assert not list(here.rglob("checkpoint.pt"))
    assert invoke("verify", "--registry", "tupate-zoo").code == 0
    assert Zoo.open(here / "tupate-zoo").registry.task("reviews").kind == "classification"


def test_the_commands_that_it_names_work(train: Any, invoke: Any, reviews: Path) -> None:
    lines = train().err.splitlines()
    assert train("--task", "others").code == 0
    commands = [shlex.split(line) for line in lines if line.startswith("  tupate-hub ")]
    assert [command[1] for command in commands] == ["predict", "similar", "similar", "push"]
    answered = invoke(*commands[0][1:], "--json")
    assert answered.code == 0, answered.err
    assert answered.json()["predictions"][0]["answer"] in ("bad", "good")
    result = invoke(*commands[1][1:], "--json")
    assert [one["task"] for one in result.json()["neighbors"]] == ["others"]


def test_json_has_the_documented_fields(train: Any) -> None:
    result = train("--json")
    found = result.json()
    assert result.code == 0 and "step" not in result.err.split("scored")[-1]
    undocumented = {name for name in fields(found) if f"`{name}`" not in section("train")}
    assert not undocumented
    assert found["columns"] == {"text": "review", "label": "verdict"}
    assert (found["steps"], found["zero_shot"], found["scores"]["metric"]) == (10, None, "accuracy")
    assert [Path(one).name for one in found["early"]] == [
        f"reviews@{share}.safetensors" for share in ("0.05", "0.1", "0.25", "0.5", "1")
    ]
    assert all(Path(one).is_file() for one in (*found["early"], found["embedding"]))


def test_a_line_is_said_after_each_evaluation_where_there_is_no_terminal(train: Any) -> None:
    err = train().err
    assert [int(step) for step in re.findall(r"reviews: step (\d+)/10 loss [\d.]+ held-out [\d.]+", err)] == [
        2,
        4,
        6,
        8,
        10,
    ]


def test_a_task_is_not_tuned_twice_unless_it_is_asked_for(train: Any) -> None:
    assert train().code == 0
    again = train()
    assert (again.code, again.out) == (2, "")
    assert "'reviews' is in space" in again.err and "--force" in again.err
    assert "step 2/10" not in again.err  # before any work
    assert train("--force", "--seed", 1).code == 0
    assert train("--method", "bitfit").code == 0


def test_a_folder_of_tasks_and_another_method(here: Path, base: Path, data_folder: Path, invoke: Any) -> None:
    arguments = ("--base", base, "--method", "prefix", "--set", "tokens=3", *QUICK, "--to", "mine", "--json")
    result = invoke("train", data_folder, "--task", "toy_numbers", *arguments)
    assert result.code == 0, result.err
    assert (result.json()["task"], result.json()["settings"]["tokens"]) == ("toy_numbers", 3)
    assert result.json()["parameters"] == 3 * 2 * 2 * 32
    assert read_embedding(here / result.json()["embedding"]).blocks[0].parts["rows"].shape == (3, 32)


def test_the_regime_is_what_was_asked_for(train: Any, here: Path) -> None:
    found = train("--precision", "float32", "--seed", 4, "--limit", 60, "--json").json()
    training = read_embedding(here / found["embedding"]).facts["training"]
    assert (training["precision"], training["seed"], training["batch_size"]) == ("float32", 4, 16)
    assert training["learning_rate"] == 0.01
    assert training["train_examples"] == 60


def test_epochs_count_passes(here: Path, base: Path, reviews: Path, invoke: Any) -> None:
    arguments = ("--base", base, "--epochs", 2, "--batch-size", 32, "--limit", 100, "--json")
    result = invoke("train", reviews, *arguments)
    assert (result.code, result.json()["steps"]) == (0, 2 * 4)


def test_several_seeds_are_told_and_the_best_is_kept(train: Any, here: Path) -> None:
    found = train("--seeds", 2, "--seed", 3, "--json").json()
    assert [one["seed"] for one in found["seeds"]] == [3, 4]
    best = max(found["seeds"], key=lambda one: one["held_out"])
    kept = read_embedding(here / found["embedding"]).facts
    assert (kept["training"]["seed"], kept["scores"]["primary"]) == (best["seed"], best["score"])
    assert not list(here.rglob("checkpoint*"))
    assert "mean" in dict(line.split("\t") for line in train("--seeds", 2, "--force").out.splitlines())["seeds"]


def test_a_dry_run_says_what_will_come_and_leaves_nothing(train: Any, here: Path) -> None:
    result = train("--dry-run", "--seeds", 2, "--json")
    found = result.json()
    assert result.code == 0 and not (here / "tupate-zoo").exists()
    assert not {name for name in fields(found) if f"`{name}`" not in section("train")}
    assert (found["dry_run"], found["steps"], found["runs"], found["passes"]) == (True, 10, 2, 1.0)
    assert found["seconds"] > found["steps"] * found["seconds_per_step"] > 0
    told = dict(line.split("\t") for line in train("--dry-run", "--steps", 1).out.splitlines())
    assert re.fullmatch(r"about \d+ s, measured on 3 steps", told["time"])
    assert "plan" not in told and told["steps"].startswith("1 of 16 examples")


def test_what_a_run_minds_is_in_its_header(train: Any, here: Path) -> None:
    asked = ("--patience", 1, "--class-weights", "balanced", "--accumulate", 2, "--max-length", 20, "--init-seed", 5)
    result = train(*asked, "--metric", "macro_f1", "--json")
    assert result.code == 0, result.err
    facts = read_embedding(here / result.json()["embedding"]).facts
    training = facts["training"]
    told = {name: training[name] for name in ("patience", "class_weights", "parts", "max_length", "init_seed")}
    assert told == {"patience": 1, "class_weights": "balanced", "parts": 2, "max_length": 20, "init_seed": 5}
    assert facts["scores"]["metric"] == "macro_f1" and facts["scores"]["primary"] == facts["scores"]["macro_f1"]
    assert result.json()["performance"]["metric"] == "macro_f1"


def test_texts_that_are_cut_are_told(train: Any) -> None:
    result = train("--max-length", 9, "--json")
    (warning,) = [one for one in result.json()["warnings"] if "tokens are read" in one]
    assert re.fullmatch(r"of \d+% of the texts only the first 9 tokens are read; --max-length takes more", warning)
    assert warning in result.err


def test_data_is_told_before_torch_is_loaded(here: Path) -> None:
    (here / "a.csv").write_text("text,label\na,x\n")
    code = (
        "import sys; from tupate_hub import cli; code = cli.run(['train', 'a.csv']); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "10 is the least" in done.stderr


def test_tensorboard_writes_or_says_what_to_install(train: Any, here: Path) -> None:
    result = train("--tensorboard", "events")
    if find_spec("tensorboard") is None:
        assert (result.code, "pip install tensorboard" in result.err) == (2, True)
    else:
        assert list((here / "events").iterdir())


def test_a_budget_chooses_the_size(train: Any, base: Path) -> None:
    result = train("--budget", "2%", "--json")
    assert result.code == 0, result.err
    from tupate_hub.training.basemodel import find_base

    share = result.json()["parameters"] / find_base(str(base)).parameters()
    assert 0.01 < share <= 0.02
    assert f"lora with r {result.json()['settings']['r']}" in result.err


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        (("--lora-on", "ffn"), {"targets": ["intermediate", "output"]}),
        (("--method", "prefix", "--reparametrise", "--set", "tokens=2"), {"reparametrise": True, "tokens": 2}),
        (("--method", "parallel", "--set", "on=attention", "--set", "r=2"), {"on": "attention", "r": 2}),
        (("--method", "scaled-parallel", "--set", "scaling=learned"), {"scaling": "learned"}),
    ],
)
def test_variants_of_methods(train: Any, arguments: tuple[str, ...], settings: dict[str, Any]) -> None:
    found = train(*arguments, "--json").json()["settings"]
    assert {name: found[name] for name in settings} == settings


def test_label_names_instead_of_a_head(train: Any, here: Path) -> None:
    result = train("--head", "labels", "--json")
    assert result.code == 0, result.err
    found = result.json()
    assert 0 <= found["zero_shot"] <= 1
    assert not (Path(found["adapter"]) / "model_head.safetensors").exists()
    assert "zero-shot\t" in train("--head", "labels", "--force").out


# --- starting from another task --------------------------------------------------------------------------------


def test_a_start_from_a_task_and_from_an_adapter(train: Any, here: Path) -> None:
    assert train("--task", "first").code == 0
    warm = train("--start-from", "first", "--registry", "tupate-zoo", "--json")
    assert warm.code == 0, warm.err
    assert "starting from first: lora, 4 blocks" in warm.err
    facts = read_embedding(here / warm.json()["embedding"]).facts
    assert (facts["source"]["start_from"], facts["source"]["by"]) == ("first", "tupate-hub train")
    (adapter,) = (here / "tupate-zoo").glob("runs/*/lora/first/adapter")
    again = train("--start-from", adapter, "--registry", "tupate-zoo", "--task", "third", "--json")
    assert again.code == 0, again.err
    third = read_embedding(here / again.json()["embedding"])
    for block, other in zip(third.blocks, read_embedding(here / warm.json()["embedding"]).blocks, strict=True):
        np.testing.assert_array_equal(block.parts["A"], other.parts["A"])  # the same start, told in two ways
        np.testing.assert_array_equal(block.parts["B"], other.parts["B"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--start-from", "frist"), "did you mean first"),
        (("--start-from", "first", "--method", "prefix"), "tuned by lora, the run is by prefix"),
        (("--start-from", "first", "--set", "r=3"), r"is A \(8, 32\).*the run's is A \(3, 32\)"),
        (("--start-from", "./nowhere"), "does not exist"),
        (("--start-from", "first", "--space", "none"), "Unknown space"),
    ],
)
def test_a_start_that_does_not_fit(train: Any, arguments: tuple[str, ...], says: str) -> None:
    assert train("--task", "first").code == 0
    result = train("--registry", "tupate-zoo", *arguments)
    assert (result.code, result.out) == (2, "")
    assert re.search(says, result.err)
    assert "Traceback" not in result.err


def test_a_start_on_another_base_model(train: Any) -> None:
    result = train("--start-from", "sst2")
    assert result.code == 2
    assert "was tuned on sentence-transformers/all-MiniLM-L6-v2, not on" in result.err


# --- recommend -------------------------------------------------------------------------------------------------


@pytest.fixture
def toy_registry(train: Any, here: Path, base: Path, data_folder: Path, invoke: Any) -> Path:
    """A registry of three toy tasks."""
    for task in ("toy_classes", "toy_numbers", "toy_spans"):
        arguments = ("--base", base, "--steps", 30, "--lr", 0.01, "--batch-size", 16)
        assert invoke("train", data_folder, "--task", task, *arguments).code == 0
    return here / "tupate-zoo"


def test_from_a_csv_to_a_start_and_a_better_model(
    toy_registry: Path, here: Path, base: Path, reviews: Path, invoke: Any
) -> None:
    result = invoke("recommend", reviews, "--base", base, "--registry", toy_registry, "-k", 2, "--no-trial")
    assert result.code == 0, result.err
    table = [line.split("\t") for line in result.out.splitlines()]
    assert table[0] == ["rank", "task", "score", "interval", "percentile", "note", "blocks that agree most"]
    assert [row[0] for row in table[1:]] == ["1", "2"]
    assert re.search(
        r"after \d+ of \d+ steps and \d+ s the ranking by similarity (is settled|was still changing)", result.err
    )
    command = shlex.split(result.err.splitlines()[-1].strip())
    best = table[1][1]
    assert command[:5] == ["tupate-hub", "train", str(reviews), "--start-from", best]
    assert {"--kind", "text=review", "label=verdict", "--registry", "--base"} <= set(command)
    done = invoke(*command[1:], "--steps", 5, "--json")
    assert done.code == 0, done.err
    assert read_embedding(here / done.json()["embedding"]).facts["source"]["start_from"] == best


def test_a_trial_is_made_of_the_labels_and_shown(toy_registry: Path, base: Path, reviews: Path, invoke: Any) -> None:
    asked = ("recommend", reviews, "--base", base, "--registry", toy_registry, "--steps", 4)
    result = invoke(*asked)
    assert result.code == 0, result.err
    table = [line.split("\t") for line in result.out.splitlines()]
    assert table[0] == ["rank", "task", "score", "evidence", "expected gain", "range", "note"]
    assert len(table) == 4
    assert "evidence: how much better a task's model explains your labels" in result.err
    found = invoke(*asked, "--json").json()
    assert [row[1] for row in table[1:]] == [one["task"] for one in found["trial"]["first"]]
    assert set(found["trial"]["sources"]) == {"toy_classes", "toy_numbers", "toy_spans"}
    assert (found["start"] is None) == ("start from nothing" in result.err)
    assert ("--start-from" in shlex.split(found["command"])) == (found["start"] is not None)


def test_the_command_for_a_folder_of_tasks_works_too(
    toy_registry: Path, base: Path, data_folder: Path, invoke: Any
) -> None:
    arguments = ("--task", "toy_choices", "--base", base, "--registry", toy_registry, "--steps", 3, "--json")
    result = invoke("recommend", data_folder, *arguments)
    assert result.code == 0, result.err
    command = shlex.split(result.json()["command"])
    assert "--kind" not in command and "--column" not in command
    assert invoke(*command[1:], "--steps", 2).code == 0


def test_recommend_json_has_the_documented_fields(toy_registry: Path, base: Path, reviews: Path, invoke: Any) -> None:
    result = invoke("recommend", reviews, "--base", base, "--registry", toy_registry, "--steps", 4, "--json")
    found = result.json()
    undocumented = {name for name in fields(found) if f"`{name}`" not in section("recommend")}
    assert not undocumented
    assert (found["query"], found["step"]) == ("reviews", 4)
    assert found["neighbors"][0]["task"] == found["looks"][-1]["first"][0]
    assert sum(found["neighbors"][0]["contributions"].values()) == pytest.approx(found["neighbors"][0]["score"])


def test_compare_tunes_from_the_first_picks_and_from_nothing_and_keeps_the_best(
    toy_registry: Path, here: Path, base: Path, reviews: Path, invoke: Any
) -> None:
    asked = ("recommend", reviews, "--base", base, "--registry", toy_registry, "--steps", 4, "--to", "kept")
    result = invoke(*asked, "--compare", 2, "--compare-steps", 6, "--seeds", 2, "--out", "table.csv", "--json")
    assert result.code == 0, result.err
    found = result.json()["comparison"]
    starts = {one["start"]: one for one in found["starts"]}
    picks = [one["task"] for one in result.json()["trial"]["first"]][:2]
    assert set(starts) == {"nothing", *picks}
    assert {name for one in found["starts"] for name in one} <= {name for name in fields(found)}
    assert not {name for name in fields(found) if f"`{name}`" not in section("recommend")}
    assert found["best"] == found["starts"][0]["start"]
    gain = [mine - theirs for mine, theirs in zip(starts[picks[0]]["scores"], starts["nothing"]["scores"], strict=True)]
    assert starts[picks[0]]["gain"] == pytest.approx(sum(gain) / 2)
    assert f"starting from {found['best']} was best by the held-out score" in found["sentence"]
    rows = read_rows(here / "table.csv")
    assert [(row["source"], row["seed"]) for row in rows if row["source"] == "-"] == [("-", "0"), ("-", "1")]
    assert len(rows) == 6
    source = read_embedding(here / found["embedding"]).facts["source"]
    assert source.get("start_from", "nothing") == found["best"]
    again = invoke(*asked, "--compare", 1)
    assert (again.code, again.out) == (2, "")
    assert "'reviews' is in space" in again.err and "--force" in again.err
    told = invoke(*asked, "--compare", 1, "--compare-steps", 2, "--seeds", 1, "--force")
    assert told.code == 0, told.err
    assert "one seed says nothing about chance" in told.err or "starting from nothing was best" in told.err


def test_recommend_refuses_another_base_model(here: Path, base: Path, reviews: Path, invoke: Any) -> None:
    result = invoke("recommend", reviews, "--base", base)
    assert (result.code, result.out) == (2, "")
    assert "is not the base model that 'all-MiniLM-L6-v2/lora' was tuned on" in result.err


# --- what goes wrong -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["train", "recommend"])
def test_without_torch_it_says_what_to_install(
    verb: str, reviews: Path, here: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    result = invoke(verb, reviews)
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines() == [
        "Error: This needs torch, which is not installed.",
        f"  {install_command('train')}",
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--column", "text"), "names no column"),
        (("--metric", "f2"), "is not scored by 'f2'"),
        (("--max-length", "65"), "reads 64 tokens at most"),
        (("--column", "text=nowhere"), "nowhere"),
        (("--device", "cuda"), "no CUDA device"),
        (("--device", "mps"), "no MPS device"),
        (("--method", "lroa"), "Unknown tuning method 'lroa'"),
        (("--set", "r=none"), "'r' cannot be set to 'none'"),
        (("--set", "r=0"), "'r' cannot be set to '0'"),
        (("--set", "colour=1"), "'colour' cannot be set"),
        (("--set", "tokens=3"), "lora has no setting 'tokens'"),
        (("--budget", "a lot"), "is not a budget"),
        (("--method", "ia3", "--budget", "1%"), "has no size"),
        (("--lora-on", "ffn", "--method", "ia3"), "ia3 has no setting 'targets'"),
        (("--to", "hf://datasets/acme/zoo"), "on the Hub"),
        (("--task", "moments"), "a file of the registry's own"),
        (("--lr", "1e30"), "The loss of reviews is"),
        (("--lr", "nan"), "nan is not a learning rate"),
        (("--set", "r=100000"), "wider than the base model"),
        (("--budget", "2%", "--set", "r=4"), "A budget chooses r itself"),
        (("--budget", "0.00001%"), "lora has at least"),
        (("--to", "reviews.csv/zoo"), "cannot be written"),
        (("--start-from", "reviews.csv"), "is a placeholder of 11 bytes"),
    ],
)
def test_a_mistake_is_one_sentence_and_a_way_out(
    train: Any, here: Path, arguments: tuple[str, ...], says: str, request: pytest.FixtureRequest
) -> None:
    import torch

    if (arguments[-1] == "cuda" and torch.cuda.is_available()) or (
        arguments[-1] == "mps" and torch.backends.mps.is_available()
    ):
        pytest.skip("this machine has the device")
    (here / "reviews.csv").write_text("text,label\n")
    result = train(*arguments)
    assert result.code in (1, 2) and result.out == ""
    assert says in result.err
    assert "\n  " in result.err  # what to do instead
    assert "Traceback" not in result.err
    assert not (here / "tupate-zoo" / "registry.json").exists()


def test_bad_rows_are_told_before_anything_is_tuned(train: Any, here: Path) -> None:
    path = here / "bad.csv"
    path.write_text("text,label\ngood,pos\n,pos\nbad,neg\n", encoding="utf-8")
    result = train(data=path)
    assert (result.code, result.out) == (2, "")
    assert "line 3" in result.err
    assert not (here / "tupate-zoo").exists()


def test_a_run_that_another_process_makes_is_refused(train: Any, here: Path) -> None:
    first = train("--json")
    assert first.code == 0, first.err
    (folder,) = (here / "tupate-zoo" / "runs").glob("*/lora/reviews")
    with alone(folder):
        result = train("--force")
    assert (result.code, result.out) == (1, "")
    assert f"Another process is at work in {folder.relative_to(here)}" in result.err
    assert train("--force").code == 0


# --- killed ----------------------------------------------------------------------------------------------------


def start(here: Path, base: Path, reviews: Path, to: str) -> subprocess.Popen[bytes]:
    arguments = ["--base", base, "--steps", "150", "--lr", "0.01", "--batch-size", "16", "--to", to, "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tupate_hub", "train", str(reviews), *map(str, arguments)]
    return subprocess.Popen(command, cwd=here, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.timeout(600)  # it starts three processes that load torch
def test_a_killed_command_goes_on_when_it_is_given_again(here: Path, base: Path, reviews: Path) -> None:
    """SIGKILL after the first checkpoint; the second run has the numbers of an undisturbed one, to the last bit."""
    first = start(here, base, reviews, "killed")
    checkpoint = next(iter_until(lambda: list((here / "killed").rglob("checkpoint.pt")), first))
    os.kill(first.pid, signal.SIGKILL)
    first.communicate(timeout=60)
    assert first.returncode == -signal.SIGKILL
    assert checkpoint.exists() and not (here / "killed" / "registry.json").exists()
    out, err = start(here, base, reviews, "killed").communicate(timeout=200)
    assert "Traceback" not in err.decode()
    resumed = json.loads(out)
    whole = json.loads(start(here, base, reviews, "whole").communicate(timeout=200)[0])
    assert not checkpoint.exists()
    assert resumed["scores"] == whole["scores"] and resumed["best_step"] == whole["best_step"]
    mine, theirs = (read_embedding(here / one["embedding"]) for one in (resumed, whole))
    for block, other in zip(mine.blocks, theirs.blocks, strict=True):
        for part in ("A", "B"):
            np.testing.assert_array_equal(block.parts[part], other.parts[part])
    for one, other in zip(resumed["early"], whole["early"], strict=True):
        np.testing.assert_array_equal(read_embedding(here / one).vector(), read_embedding(here / other).vector())


def iter_until(found: Any, process: subprocess.Popen[bytes], seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        yield from found()
        time.sleep(0.01)
    pytest.fail(f"nothing came; exit code {process.poll()}")


# --- the bar ---------------------------------------------------------------------------------------------------


def test_a_terminal_gets_a_bar_with_loss_metric_rate_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from tupate_hub.cli.output import Meter

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    meter = Meter("reviews", quiet=False)
    for step in meter.over(range(5, 10), 10):
        meter.pulse(step + 1, 0.125, 0.75)
        meter.say("not beside a bar")
    shown = screen.getvalue()
    assert "reviews" in shown and "10/10" in shown
    assert re.search(r"loss 0\.125, held-out 0\.750, \d+\.\d steps/s", shown)
    assert re.search(r"\d+ s left", shown)
    assert "not beside a bar" not in shown


def test_the_base_of_the_tests_is_no_base_of_the_zoo(base: Path) -> None:
    assert base_sha256(base) not in {space.base_sha256 for space in Zoo.open().registry.spaces.values()}


def test_the_time_left_after_a_resume_counts_the_steps_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    from tupate_hub.cli.output import Meter

    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    meter = Meter("reviews", quiet=True)
    for step in meter.over(range(300, 400), 400):
        now[0] += 1.0
        meter.pulse(step + 1, 0.5, None)
        if step == 309:
            break
    assert meter.words.endswith("1.0 steps/s, 1 min 30 s left")


def test_an_interrupted_run_says_that_the_same_command_goes_on(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from tupate_hub.cli.output import Meter

    def interrupted(self: Meter, steps: Any, total: int) -> Any:
        for made, step in enumerate(steps):
            if made == 5:
                raise KeyboardInterrupt
            yield step

    with monkeypatch.context() as until_5:
        until_5.setattr(Meter, "over", interrupted)
        result = train()
    assert result.code == 130
    said = [line for line in result.err.splitlines() if line][-2:]
    assert said == ["the same command goes on from the last evaluation", "Error: Interrupted."]
    assert "reviews: going on after step 4/10" in train().err
