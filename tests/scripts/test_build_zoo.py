"""The script that makes the generated files: the same bytes twice, a check that notices, and the weak flag's rule."""

import hashlib
import json
import math
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from builders import bottleneck, lora, prompt

from tupate_hub.compare.input_covariance import InputCovariance
from tupate_hub.compare.pair_index import parse_pair_index
from tupate_hub.compare.similarity import available
from tupate_hub.embedding import parse_embedding
from tupate_hub.errors import FormatError
from tupate_hub.publish.card import BUNDLED, card_of
from tupate_hub.runrecord import Regime
from tupate_hub.storage.registry_json import parse_registry
from tupate_hub.storage.safetensors import TensorFile, parse_tensorfile
from tupate_hub.subspace.subspace import principal
from tupate_hub.zoo import Zoo

SCRIPTS = Path(__file__).parents[2] / "scripts" / "zoo"
TASKS = ("sst2", "squad", "rte", "cola", "mrpc")
INDEXED = set(available(False))


def facts(primary=0.9, baseline=0.5, count=400, sha256="a" * 64, **training):
    """The header of an embedding as a run's record writes it."""
    return {
        "task_kind": "classification",
        "base_sha256": "b" * 64,
        "architecture": {"model_type": "bert", "hidden_size": 6, "num_hidden_layers": 2},
        "settings": {"r": 2, "alpha": 4, "init_seed": 0},
        "training": {
            **asdict(Regime()), "steps": 40, "best_step": 30, "held_out_score": 0.5, "final_loss": 0.25, "examples_seen": 1280,
            "train_examples": 90, "validation_examples": count, "seconds": 1.5, "threads": 1, **training,
        },
        "scores": {"primary": primary, "accuracy": primary, "metric": "accuracy", "baseline": baseline, "baseline_rule": "x"},
        "data": {"name": "d", "class": "CR", "original_train_size": 1000, "licence": "cc0-1.0", "source": "s", "sha256": sha256},
        "licence": "Apache-2.0",
        "software": {},
        "source": {"kind": "trained", "by": "scripts/zoo/train_zoo.py"},
    }  # fmt: skip


@pytest.fixture
def script(monkeypatch, tmp_path, load_script):
    """The script as a module that takes a toy folder for the project's root."""
    module = load_script("build_zoo")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return module


def store(root, embedding, place="{}"):
    path = root / "zoo" / embedding.space.name / f"{place.format(embedding.task)}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(embedding.to_bytes())
    return path


@pytest.fixture
def root(script, tmp_path):
    """A toy zoo of six embeddings in two spaces; rte does not beat its baseline."""
    for seed, task in enumerate(TASKS):
        store(tmp_path, lora(task, seed, **facts(0.51 if task == "rte" else 0.9, sha256=f"{seed:064x}")))
    store(tmp_path, prompt("sst2", 9, **facts()))
    return tmp_path


@pytest.fixture
def run(script, monkeypatch, capsys):
    """`run("--check")` is the exit code and the files it names."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["build_zoo.py", *arguments])
        code = script.main()
        printed = capsys.readouterr()
        assert printed.out == ""
        return code, printed.err.split("\n")[:-1]

    return call


def snapshot(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_same_bytes_twice(script, root, run):
    first = script.build(root)
    assert run() == (0, list(first))
    assert {name: (root / name).read_bytes() for name in first} == first
    assert script.build(root) == first  # the generated files themselves change nothing
    assert run() == (0, ["nothing to do"])


def test_the_order_in_which_files_appeared_does_not_matter(script, root):
    first = script.build(root)
    for path in sorted((root / "zoo").glob("*/*/*.safetensors"), reverse=True):
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
        os.utime(path, (0, 0))
    assert script.build(root) == first


def test_every_generated_file_is_made(script, root):
    indexes = {
        f"zoo/{space}/index-{similarity}.safetensors"
        for space in ("tiny-bert/lora", "tiny-bert/prompt")
        for similarity in INDEXED
    }
    shown = {
        f"zoo/tiny-bert/lora/{picture}.svg"
        for picture in ("heatmap", "map")  # one task makes no picture
    }
    card = {f"zoo/{name}" for name in ("README.md", "embeddings.jsonl")}
    card |= {f"zoo/tiny-bert/{method}/embeddings.jsonl" for method in ("lora", "prompt")}
    assert set(script.build(root)) == {"registry.json", "docs/zoo.md", *indexes, *shown, *card}


def test_the_card_is_the_one_that_the_command_writes(script, root, run):
    run()
    made = card_of(Zoo.open(root), BUNDLED)
    assert {name: (root / name).read_bytes() for name in made} == made


def test_the_registry_is_valid_and_true(script, root, run):
    run()
    registry = parse_registry((root / "registry.json").read_text(), "registry.json")
    assert [(entry.space, entry.task) for entry in registry.entries] == [
        *(("tiny-bert/lora", task) for task in sorted(TASKS)),
        ("tiny-bert/prompt", "sst2"),
    ]
    for entry in registry.entries:
        data = (root / entry.file).read_bytes()
        assert (entry.bytes, entry.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert parse_embedding(data, entry.file).task == entry.task
    for space in registry.spaces.values():
        assert set(space.index) == INDEXED
        for place in space.index.values():
            data = (root / place["file"]).read_bytes()
            assert (place["bytes"], place["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())


def test_an_entry_says_what_the_header_says(script, root):
    registry = parse_registry(script.build(root)["registry.json"], "registry.json")
    entry = registry.entry("sst2", "tiny-bert/lora")
    assert entry.scores == {
        "primary": 0.9,
        "accuracy": 0.9,
        "metric": "accuracy",
        "baseline": 0.5,
        "baseline_rule": "x",
    }
    assert entry.source == {
        "kind": "trained",
        "by": "scripts/zoo/train_zoo.py",
        "licence": "Apache-2.0",
        "data_sha256": f"{0:064x}",
        "steps": 40,
        "best_step": 30,
        "batch_size": 32,
        "learning_rate": 5e-4,
        "max_length": 128,
        "precision": "float32",
        "seed": 0,
        "seconds": 1.5,
        "train_examples": 90,
        "validation_examples": 400,
    }
    task = registry.task("glue/sst2")
    assert (task.name, task.kind, task.task_class, task.train_size) == ("sst2", "classification", "CR", 1000)
    assert (task.metric, task.licence) == ("accuracy", "cc0-1.0")
    space = registry.space("tiny-bert/lora")
    assert (space.base, space.method, space.base_sha256) == ("acme/tiny-bert", "lora", "b" * 64)
    assert space.settings == {"r": 2, "alpha": 4, "init_seed": 0}


def test_scores_are_rounded_to_four_digits(script, root):
    store(root, lora("sst2", 0, **facts(0.912345678)))
    registry = parse_registry(script.build(root)["registry.json"], "registry.json")
    assert registry.entry("sst2", "tiny-bert/lora").scores["primary"] == 0.9123


def test_an_index_holds_the_tasks_of_its_space(script, root):
    files = script.build(root)
    registry = parse_registry(files["registry.json"], "registry.json")
    for similarity in INDEXED:
        index = parse_pair_index(files[f"zoo/tiny-bert/lora/index-{similarity}.safetensors"], "index")
        assert (index.space, index.similarity, index.tasks) == ("tiny-bert/lora", similarity, tuple(sorted(TASKS)))
        assert index.digests == tuple(entry.sha256 for entry in registry.in_space("tiny-bert/lora"))
        assert (index.norms > 0).all()


def test_a_subspace_beside_the_embeddings_is_listed(script, root, run):
    store(root, prompt("squad", 10, **facts()))
    store(root, prompt("rte", 11, **facts()))
    made = principal([prompt(name, seed) for seed, name in enumerate(("a", "b", "c"))], 2, {})
    (root / "zoo/tiny-bert/prompt/subspace-2.safetensors").write_bytes(made.to_bytes())
    registry = parse_registry(script.build(root)["registry.json"], "registry.json")
    place = registry.space("tiny-bert/prompt").subspace("2")
    assert (place["file"], place["dim"], place["tasks"]) == ("zoo/tiny-bert/prompt/subspace-2.safetensors", 2, 3)
    assert not registry.space("tiny-bert/lora").subspaces
    assert run()[0] == 0
    assert run("--check") == (0, ["nothing to do"])
    assert Zoo.open(root).subspace("prompt").tasks == ("a", "b", "c")
    assert (root / "zoo/tiny-bert/prompt/subspace.svg").exists()
    (root / "zoo/tiny-bert/prompt/subspace-2.safetensors").unlink()
    assert run()[0] == 0
    assert not (root / "zoo/tiny-bert/prompt/subspace.svg").exists()


def test_statistics_of_the_base_model_give_one_more_index(script, root, run):
    blocks = [f"layer.{n}.{place}" for n in range(2) for place in ("query", "value")]
    moments = InputCovariance(
        "acme/tiny-bert", "b" * 64, 100, {"x": np.eye(6, dtype=np.float32)}, dict.fromkeys(blocks, "x")
    )
    (root / "zoo/tiny-bert/lora/moments.safetensors").write_bytes(moments.to_bytes())
    files = script.build(root)
    registry = parse_registry(files["registry.json"], "registry.json")
    lora_space, prompt_space = (registry.space(f"tiny-bert/{method}") for method in ("lora", "prompt"))
    assert set(lora_space.index) == set(available(True))
    assert set(prompt_space.index) == INDEXED
    effect, update = (
        parse_pair_index(files[f"zoo/tiny-bert/lora/index-{name}.safetensors"], name).scores()
        for name in ("effect", "update")
    )
    np.testing.assert_allclose(effect, update, atol=1e-5)  # every direction of the input weighs the same
    assert run()[0] == 0
    assert run("--check") == (0, ["nothing to do"])


def test_the_zoo_that_was_built_answers(script, root, run):
    run()
    neighbours = Zoo.open(str(root)).similar("sst2", space="tiny-bert/lora").neighbors
    assert {one.task for one in neighbours} == set(TASKS) - {"sst2"}


def test_the_page_has_each_embedding(script, root):
    page = script.build(root)["docs/zoo.md"].decode()
    assert page.count("\n| sst2 |") == 2
    weak, unlearned = [line for line in page.splitlines() if line.startswith("| rte ")]
    assert weak.rstrip(" |").endswith("weak")
    assert "| lora | 0.510 | 0.500 | 0.4 | 2,239 examples" in unlearned  # the reason in weak_runs.json
    assert page.index("## tiny-bert/lora") < page.index("## tiny-bert/prompt") < page.index("## Not clearly learned")


# ---- --check ---------------------------------------------------------------------------------------------------------


def test_a_check_of_what_is_right_passes_and_writes_nothing(root, run):
    run()
    before = snapshot(root)
    assert run("--check") == (0, ["nothing to do"])
    assert snapshot(root) == before


@pytest.mark.parametrize("name", ["registry.json", "docs/zoo.md", "zoo/tiny-bert/lora/index-update.safetensors"])
@pytest.mark.parametrize("damage", ["change", "remove"])
def test_a_check_names_the_file_that_is_stale_and_writes_nothing(root, run, name, damage):
    run()
    path = root / name
    path.unlink() if damage == "remove" else path.write_bytes(path.read_bytes() + b" ")
    before = snapshot(root)
    assert run("--check") == (1, [name])
    assert snapshot(root) == before
    assert run() == (0, [name])
    assert run("--check") == (0, ["nothing to do"])


def kernel_of(index):
    """Inner products between all tasks, as the first schema has them."""
    return index.scores() * np.outer(index.norms, index.norms)


def off_by(path, norm=0.0, pair=0.0):
    """The index with its first norm and its first cosine changed, and what was there before."""
    data = path.read_bytes()
    index = parse_pair_index(data, "index")
    norms, pairs = index.norms.copy(), index.pairs.copy()
    norms[0] *= 1 + norm
    pairs[0] += pair
    path.write_bytes(replace(index, norms=norms, pairs=pairs).to_bytes())
    assert path.read_bytes() != data
    return data


@pytest.mark.parametrize("change", [{"norm": 1e-6}, {"pair": 1e-6}], ids=str)
def test_an_index_of_another_processor_stays_and_so_does_what_is_made_of_it(root, run, change):
    run()
    off_by(root / "zoo/tiny-bert/lora/index-update.safetensors", **change)
    code, stale = run("--check")
    assert (code, stale[0]) == (1, "registry.json")  # it has the digest of the stored file
    run()
    before = snapshot(root)
    shown = card_of(Zoo.open(root), BUNDLED)
    assert {name: (root / name).read_bytes() for name in shown} == shown
    assert run("--check") == (0, ["nothing to do"])
    assert run() == (0, ["nothing to do"])
    assert snapshot(root) == before
    assert Zoo.open(root).verify() == []


@pytest.mark.parametrize("change", [{"norm": 5e-6}, {"norm": -5e-6}, {"pair": 5e-6}, {"pair": -5e-6}], ids=str)
def test_an_index_that_is_wrong_is_made_again(root, run, change):
    run()
    path = root / "zoo/tiny-bert/lora/index-update.safetensors"
    right = off_by(path, **change)
    code, stale = run("--check")
    assert code == 1
    assert path.relative_to(root).as_posix() in stale
    run()
    assert path.read_bytes() == right


def test_an_index_of_an_earlier_schema_is_made_again(root, run):
    run()
    path = root / "zoo/tiny-bert/lora/index-update.safetensors"
    data = path.read_bytes()
    index, metadata = parse_pair_index(data, "index"), parse_tensorfile(data, "index").metadata
    triangle = kernel_of(index)[np.triu_indices(len(index.tasks))].astype(np.float32)
    path.write_bytes(TensorFile({"kernel": triangle}, {**metadata, "schema": "tupate-hub-index/1"}).to_bytes())
    assert path.relative_to(root).as_posix() in run("--check")[1]
    run()
    assert path.read_bytes() == data


def test_a_check_notices_an_embedding_that_changed(root, run):
    run()
    store(root, lora("squad", 77, **facts()))
    code, stale = run("--check")
    assert code == 1
    assert "registry.json" in stale
    assert "zoo/tiny-bert/lora/index-update.safetensors" in stale
    assert "zoo/tiny-bert/prompt/index-update.safetensors" not in stale


def test_a_check_notices_an_embedding_that_is_new_or_gone(root, run):
    run()
    added = store(root, lora("mnli", 8, **facts()))
    assert run("--check")[0] == 1
    added.unlink()
    assert run("--check")[0] == 0
    (root / "zoo/tiny-bert/lora/rte.safetensors").unlink()
    assert run("--check")[0] == 1


def test_a_damaged_embedding_is_refused_and_nothing_is_written(root, run):
    path = root / "zoo/tiny-bert/lora/rte.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    before = snapshot(root)
    code, (said, _) = run()
    assert code == FormatError.exit_code
    assert "rte.safetensors" in said
    assert snapshot(root) == before


# ---- weak ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("primary", "baseline", "count", "weak"),
    [
        (0.50, 0.5, 400, True),
        (0.52, 0.5, 400, True),  # one standard error of 400 coin flips is .025
        (0.524, 0.5, 400, True),
        (0.526, 0.5, 400, False),
        (0.40, 0.5, 400, True),
        (0.526, 0.5, 100, True),  # with fewer examples it is .05
        (0.551, 0.5, 100, False),
        (0.909, 0.9, 900, True),  # .3 / 30 = .01
        (0.911, 0.9, 900, False),
        (0.004, 0.0, 400, True),  # a baseline of 0 still has an error: that of a variance of .01, here .005
        (0.006, 0.0, 400, False),
        (1.0, 1.0, 400, True),
        (0.30, 0.29, 1, True),
        (math.nan, 0.5, 400, True),
        (-0.2, 0.0, 400, True),
    ],
)
def test_weak_is_no_more_than_a_standard_error_above_the_baseline(script, primary, baseline, count, weak):
    embedding = lora("rte", 0, **facts(primary, baseline, count))
    record = script.record_of(embedding)
    assert script.is_weak(record) is weak
    assert script.entry_of(embedding, record, "f", b"").flags == (("weak",) if weak else ())


@pytest.mark.parametrize(("primary", "weak"), [(0.049, True), (0.051, False)])
def test_a_correlation_has_the_error_of_a_correlation(script, primary, weak):
    told = facts(primary, 0.0)
    told["scores"]["metric"] = "matthews_correlation"
    assert script.is_weak(script.record_of(lora("cola", 0, **told))) is weak


def test_the_weak_one_of_the_zoo_is_flagged_and_kept(script, root):
    registry = parse_registry(script.build(root)["registry.json"], "registry.json")
    assert {(entry.task, entry.flags) for entry in registry.in_space("tiny-bert/lora")} == {
        (task, ("weak",) if task == "rte" else ()) for task in TASKS
    }


# ---- repeats, spaces and size ----------------------------------------------------------------------------------------


def repeat(root, task, seed, init_seed, made, primary=0.8):
    embedding = lora(task, made, **facts(primary, seed=seed, init_seed=init_seed))
    return store(root, embedding, f"repeats/{{}}-s{seed}-i{init_seed}")


def test_repeats_are_listed_with_their_task_and_not_ranked(script, root, run):
    ranked = script.build(root)["zoo/tiny-bert/lora/index-update.safetensors"]
    second, first = repeat(root, "sst2", 2, 2, 31), repeat(root, "sst2", 1, 0, 32, primary=0.7)
    run()
    zoo = Zoo.open(root)
    entry = zoo.registry.entry("sst2", "tiny-bert/lora")
    assert [(one.seed, one.init_seed, one.scores["primary"]) for one in entry.repeats] == [(1, 0, 0.7), (2, 2, 0.8)]
    assert [root / one.file for one in entry.repeats] == [first, second]
    assert zoo.verify() == []
    assert len(zoo.registry.entries) == len(TASKS) + 1
    assert (root / "zoo/tiny-bert/lora/index-update.safetensors").read_bytes() == ranked
    assert "Repeated with other seeds: sst2." in (root / "docs/zoo.md").read_text()
    assert "6 embeddings of 5 tasks in 2 spaces, and 2 repeats" in (root / "docs/zoo.md").read_text()
    assert run("--check") == (0, ["nothing to do"])


def test_a_repeat_of_nothing_says_what_to_tune(root, run):
    repeat(root, "snli", 1, 0, 40)
    code, (said, hint) = run()
    assert code == 2
    assert said.startswith("zoo/tiny-bert/lora/repeats/snli-s1-i0.safetensors repeats task 'snli'")
    assert hint == "python scripts/zoo/train_zoo.py --method lora --tasks snli"


def test_a_task_without_a_line_of_names_says_what_to_add(root, run):
    store(root, lora("brand_new", 3, **facts()))
    before = snapshot(root)
    code, (said, hint) = run()
    assert code == 2
    assert "'brand_new'" in said and "task_names.json" in said
    assert hint.startswith('add "brand_new": {')
    assert snapshot(root) == before


def test_the_files_of_a_space_that_is_gone_are_removed(root, run):
    store(root, prompt("squad", 10, **facts()))
    run()
    made = set(snapshot(root))
    for task in ("sst2", "squad"):
        (root / f"zoo/tiny-bert/prompt/{task}.safetensors").unlink()
    gone = {f"zoo/tiny-bert/prompt/index-{name}.safetensors" for name in INDEXED}
    code, named = run("--check")
    assert code == 1
    assert gone <= set(named)
    assert (root / "zoo/tiny-bert/prompt/index-update.safetensors").exists()
    run()
    left = {path.as_posix() for path in made - set(snapshot(root))}
    assert left == gone | {f"zoo/tiny-bert/prompt/{task}.safetensors" for task in ("sst2", "squad")}
    assert run("--check") == (0, ["nothing to do"])
    assert Zoo.open(root).verify() == []


def test_lora_is_the_default_wherever_it_stands_in_the_alphabet(script, root):
    store(root, bottleneck_of("sst2"))
    registry = parse_registry(script.build(root)["registry.json"], "registry.json")
    assert next(iter(registry.spaces)) == "tiny-bert/bottleneck"
    assert registry.default_space == "tiny-bert/lora"


def bottleneck_of(task):
    return replace(bottleneck(task, 5), facts=facts())


def test_a_space_has_the_settings_that_all_of_its_runs_share(script, root):
    odd = facts()
    odd["settings"] = {"r": 2, "alpha": 8, "init_seed": 0, "extra": True}
    store(root, lora("mnli", 20, **odd))
    registry = parse_registry(script.build(root)["registry.json"], "registry.json")
    assert registry.space("tiny-bert/lora").settings == {"r": 2, "init_seed": 0}


def test_a_zoo_that_is_too_large_is_refused(script, root, run, monkeypatch):
    run()
    size = sum(path.stat().st_size for path in (root / "zoo").rglob("*") if path.is_file())
    monkeypatch.setattr(script, "MOST_BYTES", size)
    assert run("--check") == (0, ["nothing to do"])
    monkeypatch.setattr(script, "MOST_BYTES", size - 1)
    code, said = run("--check")
    assert code == 1
    assert said[0] == "nothing to do"
    assert said[1].startswith("zoo/ has ")


def test_every_weak_run_s_task_is_known():
    names, reasons = (json.loads((SCRIPTS / f"{name}.json").read_text()) for name in ("task_names", "weak_runs"))
    assert set(reasons) <= set(names)
    assert list(reasons) == sorted(reasons)


# ---- the list of names -----------------------------------------------------------------------------------------------


def test_every_name_and_alias_means_one_task():
    names = json.loads((SCRIPTS / "task_names.json").read_text(encoding="utf-8"))
    spelled = [
        (alias.casefold().replace("-", "").replace("_", ""), name) for name in names for alias in names[name]["aliases"]
    ]
    spelled += [(name.replace("_", ""), name) for name in names]
    owners = {}
    for word, name in spelled:
        assert owners.setdefault(word, name) == name
    assert all(set(fields) == {"title", "aliases", "dataset"} and fields["title"] for fields in names.values())


def test_the_aliases_of_a_task_find_it(script, root):
    registry = parse_registry(script.build(root)["registry.json"], "registry.json")
    for alias in ("sst2", "sst-2", "SST2", "glue/sst2", "stanfordnlp/sst2"):
        assert registry.task(alias).name == "sst2"


def test_an_embedding_keeps_its_place_under_another_seed(script, root):
    place = "rte", "tiny-bert/lora"
    once = parse_registry(script.build(root)["registry.json"], "registry.json").entry(*place)
    store(root, lora("rte", 5, **facts(seed=3)))
    again = parse_registry(script.build(root)["registry.json"], "registry.json").entry(*place)
    assert again.file == once.file
    assert (again.source["seed"], again.flags) == (3, ())
    assert again.sha256 != once.sha256
