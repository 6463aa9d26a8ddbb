"""The verb subspace without torch: found, listed, verified, pulled, pushed; encoded, decoded, compared by."""

import json
import subprocess
import sys

import numpy as np
import pytest
from builders import TASKS, lora, prompt, zoo_of
from damage import snapshot
from loopback import User

from tupate_hub.embedding import read_embedding
from tupate_hub.space import Space
from tupate_hub.subspace.subspace import read_subspace
from tupate_hub.zoo import Zoo

NAMES = [name for name, *_ in TASKS]


@pytest.fixture
def fit(invoke, toy_zoo):
    def run(*options, to=toy_zoo):
        return invoke(
            "subspace", "fit", "--space", "prompt", "--loss", "reconstruction", "--registry", toy_zoo, "--to", to, *options
        )  # fmt: skip

    return run


@pytest.fixture
def zoo(fit, toy_zoo):
    """The toy zoo with a subspace of three dimensions over the prompts of all tasks."""
    assert fit("--dim", "3").code == 0
    return toy_zoo


@pytest.fixture
def file(zoo):
    return Zoo.open(zoo).where(Zoo.open(zoo).registry.space("prompt").subspace("3")["file"])


def test_what_is_found_is_a_file_of_the_registry(fit, toy_zoo):
    said = fit("--dim", "3", "--json").json()
    assert (said["subspace"], said["dim"], said["losses"]) == ("subspace-3", 3, ["reconstruction"])
    subspace = read_subspace(toy_zoo / said["file"])
    zoo = Zoo.open(toy_zoo)
    assert subspace.tasks == tuple(sorted(NAMES))
    assert subspace.facts["sources"] == {
        entry.task: entry.sha256 for entry in zoo.registry.in_space("tiny-bert/prompt")
    }
    assert zoo.subspace("prompt").facts == subspace.facts


def test_it_is_listed_and_verified(zoo, invoke):
    (row,) = invoke("subspace", "list", "--registry", zoo, "--json").json()
    assert (row["space"], row["subspace"], row["dim"], row["tasks"]) == (
        "tiny-bert/prompt",
        "subspace-3",
        3,
        len(NAMES),
    )
    assert "subspace-3" in invoke("subspace", "list", "--registry", zoo).out
    assert invoke("verify", "--registry", zoo).code == 0


def test_a_damaged_subspace_is_told_by_verify_and_used_by_none(zoo, invoke):
    path = next(zoo.rglob("subspace-3.safetensors"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    result = invoke("verify", "--registry", zoo)
    assert result.code == 2 and "subspace-3.safetensors" in result.out
    assert invoke("subspace", "encode", NAMES[0], "--registry", zoo).code == 2


def test_pull_gives_the_checked_file(zoo, invoke, tmp_path):
    result = invoke("subspace", "pull", "3", "--registry", zoo, "--to", tmp_path / "mine.safetensors")
    assert result.code == 0 and result.out.strip() == str(tmp_path / "mine.safetensors")
    assert read_subspace(tmp_path / "mine.safetensors").dim == 3
    again = invoke("subspace", "pull", "--registry", zoo, "--to", tmp_path / "mine.safetensors")
    assert again.code == 2 and "--force" in again.err
    assert invoke("subspace", "pull", "--registry", zoo).code == 0


def test_it_is_pushed_with_the_registry_and_found_there(zoo, hub, invoke, monkeypatch):
    hub.store.users["hf_secretsecretsecret"] = User("acme")
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecret")
    pushed = invoke("push", "acme/sub", "--registry", zoo)
    assert pushed.code == 0, pushed.err
    assert Zoo.open("acme/sub").verify() == []
    result = invoke("subspace", "encode", NAMES[1], "--registry", "acme/sub", "--json")
    here = invoke("subspace", "encode", NAMES[1], "--registry", zoo, "--json")
    assert result.code == 0, result.err
    assert result.json()["coordinates"] == here.json()["coordinates"]


def test_the_card_shows_the_tasks_in_it(zoo, invoke):
    assert invoke("card", "--registry", zoo).code == 0
    card = (zoo / "zoo" / "README.md").read_text(encoding="utf-8")
    assert "(tiny-bert/prompt/subspace.svg)" in card and "## Subspaces" in card
    drawn = (zoo / "zoo" / "tiny-bert" / "prompt" / "subspace.svg").read_text(encoding="utf-8")
    assert drawn.startswith("<svg") and all(name in drawn for name in NAMES)
    before = snapshot(zoo)
    assert invoke("card", "--registry", zoo).code == 0
    assert snapshot(zoo) == before


def test_merging_keeps_it(zoo, invoke, tmp_path):
    zoo_of(tmp_path / "other", lora("other", 3))
    result = invoke("merge", zoo, tmp_path / "other", "--to", tmp_path / "both")
    assert result.code == 0, result.err
    both = Zoo.open(tmp_path / "both")
    assert both.verify() == [] and both.subspace("prompt").dim == 3


def test_encode_gives_the_coordinates_of_a_task_of_its_alias_and_of_its_file(zoo, invoke, tmp_path):
    name, aliases, *_ = TASKS[0]
    subspace = Zoo.open(zoo).subspace("prompt")
    embedding = Zoo.open(zoo).embedding(name, "prompt")
    wanted = subspace.encode([embedding])[0]
    (tmp_path / "own.safetensors").write_bytes(embedding.to_bytes("float32"))
    for query in (name, *aliases[:1], str(tmp_path / "own.safetensors")):
        said = invoke("subspace", "encode", query, "--registry", zoo, "--json").json()
        np.testing.assert_allclose(said["coordinates"], wanted, atol=1e-4)
        assert said["subspace"] == "subspace-3"
    assert invoke("subspace", "encode", name, "--registry", zoo).out.count("\n") == 3


def test_a_subspace_may_be_given_by_its_file(zoo, file, invoke):
    by_file = invoke("subspace", "encode", NAMES[0], "--subspace", file, "--registry", zoo, "--json").json()
    assert by_file == invoke("subspace", "encode", NAMES[0], "--registry", zoo, "--json").json()


def test_a_file_of_another_space_than_is_asked_for_is_refused(zoo, file, invoke):
    result = invoke("subspace", "encode", NAMES[0], "--subspace", file, "--space", "lora", "--registry", zoo)
    assert result.code == 2 and "leave out --space" in result.err and "prompt" in result.err
    with_its_own = ("--subspace", file, "--space", "prompt", "--registry", zoo)
    assert invoke("subspace", "encode", NAMES[0], *with_its_own).code == 0


def test_decode_takes_what_encode_gives(zoo, invoke, tmp_path):
    said = invoke("subspace", "encode", NAMES[0], "--registry", zoo, "--json")
    (tmp_path / "codes.json").write_text(said.out)
    target = tmp_path / "again"
    result = invoke("subspace", "decode", tmp_path / "codes.json", "--registry", zoo, "--to", target, "--task", "again")
    assert result.code == 0 and result.out.strip() == str(target)
    decoded = read_embedding(next(target.glob("*.safetensors")))
    assert decoded.task == "again"
    codes = Zoo.open(zoo).subspace("prompt").encode([decoded])[0]
    np.testing.assert_allclose(codes, said.json()["coordinates"], atol=2e-2)


def test_coordinates_may_be_typed_even_where_the_first_is_negative(zoo, invoke, tmp_path):
    result = invoke("subspace", "decode", "-0.5,1,0.25", "--registry", zoo, "--to", tmp_path / "typed")
    assert result.code == 0, result.err
    decoded = read_embedding(next((tmp_path / "typed").glob("*.safetensors")))
    np.testing.assert_allclose(Zoo.open(zoo).subspace("prompt").encode([decoded])[0], [-0.5, 1, 0.25], atol=2e-2)


def test_similar_ranks_by_the_coordinates(zoo, invoke):
    embeddings = Zoo.open(zoo).load_space("tiny-bert/prompt")
    codes = Zoo.open(zoo).subspace("prompt").encode(embeddings).astype(float)
    unit = codes / np.linalg.norm(codes, axis=1, keepdims=True)
    tasks = [embedding.task for embedding in embeddings]
    row = tasks.index(NAMES[0])
    result = invoke(
        "similar", NAMES[0], "--space", "prompt", "--similarity", "intrinsic", "--registry", zoo, "--json"
    )  # fmt: skip
    scores = {neighbor["task"]: neighbor["score"] for neighbor in result.json()["neighbors"]}
    wanted = {task: float(unit[row] @ unit[at]) for at, task in enumerate(tasks) if at != row}
    assert scores == pytest.approx(wanted, abs=1e-3)
    assert list(scores) == sorted(scores, key=lambda task: -scores[task])


def test_similar_says_what_is_missing(toy_zoo, invoke):
    result = invoke("similar", NAMES[0], "--similarity", "intrinsic", "--registry", toy_zoo)
    assert result.code == 2 and "no intrinsic subspace" in result.err and "subspace fit" in result.err


def test_evaluate_judges_it(zoo, invoke, tmp_path):
    rng = np.random.default_rng(0)
    lines = [f"{a},{b},{rng.random():.3f},0.5" for a in NAMES for b in NAMES if a != b]
    (tmp_path / "truth.csv").write_text(
        "\n".join(["source,target,score,baseline_score_without_transfer", *lines]) + "\n"
    )
    options = ("--truth", tmp_path / "truth.csv", "--space", "prompt", "--registry", zoo, "--json")
    result = invoke("evaluate", "--similarity", "intrinsic", *options)
    assert result.code == 0, result.err
    assert result.json()["predictors"][0]["predictor"] == "intrinsic"
    names = [one["predictor"] for one in invoke("evaluate", "--similarity", "all", *options).json()["predictors"]]
    assert {"intrinsic", "intrinsic, centred"} <= set(names)


def test_a_split_file_says_what_is_unseen(fit, toy_zoo, tmp_path):
    split = tmp_path / "random.json"
    split.write_text(json.dumps({"seen": NAMES[:4], "unseen": NAMES[4:]}))
    said = fit("--dim", "2", "--tasks", split, "--json").json()
    assert said["subspace"] == "subspace-2-random" and said["tasks"] == NAMES[:4]
    assert read_subspace(toy_zoo / said["file"]).facts["unseen"] == NAMES[4:]


@pytest.mark.parametrize(
    ("tasks", "sentence"),
    [
        (f"{NAMES[0]},{NAMES[0]},{NAMES[1]}", "twice"),
        (NAMES[0], "1 tasks span no subspace"),
        (f"{NAMES[0]},nothing-like-it", "Unknown task"),
        ("none.json", "lists `seen` and `unseen`"),
    ],
)
def test_a_bad_split_is_refused(fit, toy_zoo, tasks, sentence):
    before = snapshot(toy_zoo)
    result = fit("--dim", "1", "--tasks", tasks)
    assert result.code == 2 and sentence in result.err and "Traceback" not in result.err
    assert snapshot(toy_zoo) == before


@pytest.mark.parametrize("text", ["[]", "{", '{"seen": "a"}', '{"seen": [1, 2]}', '{"unseen": []}', "[" * 100_000])
def test_a_split_file_of_something_else_is_refused(fit, tmp_path, text):
    (tmp_path / "split.json").write_text(text)
    result = fit("--tasks", tmp_path / "split.json")
    assert result.code == 2 and "split.json" in result.err


def test_a_task_in_both_parts_is_refused(fit, tmp_path):
    (tmp_path / "split.json").write_text(json.dumps({"seen": NAMES[:4], "unseen": NAMES[3:]}))
    result = fit("--dim", "2", "--tasks", tmp_path / "split.json")
    assert result.code == 2 and repr(NAMES[3]) in result.err and "unseen" in result.err


def test_more_dimensions_than_the_tasks_span_are_refused(fit, toy_zoo):
    before = snapshot(toy_zoo)
    result = fit("--dim", str(len(NAMES)))
    assert result.code == 2 and f"at most {len(NAMES) - 1} dimensions" in result.err and "--dim" in result.err
    assert snapshot(toy_zoo) == before


def test_embeddings_of_different_shapes_have_no_common_subspace(invoke, toy_zoo):
    result = invoke(
        "subspace", "fit", "--space", "lora", "--loss", "reconstruction", "--dim", "2", "--registry", toy_zoo, "--to", toy_zoo
    )  # fmt: skip
    assert result.code == 2 and "shapes" in result.err  # the toy zoo's LoRAs have two ranks


def test_nothing_is_overwritten_without_force(fit, zoo):
    before = snapshot(zoo)
    result = fit("--dim", "3", "--tasks", ",".join(NAMES[:5]))
    assert result.code == 2 and "--force" in result.err
    assert snapshot(zoo) == before
    assert fit("--dim", "3", "--tasks", ",".join(NAMES[:5]), "--force").code == 0
    assert len(Zoo.open(zoo).subspace("prompt").tasks) == 5


def test_the_task_loss_asks_for_the_data(invoke, toy_zoo):
    result = invoke("subspace", "fit", "--space", "prompt", "--registry", toy_zoo, "--to", toy_zoo)
    assert result.code == 2 and "--data DIR" in result.err and "--loss reconstruction" in result.err


def test_an_embedding_of_another_space_is_refused(zoo, file, invoke, tmp_path):
    other = lora("other", 1)
    (tmp_path / "other.safetensors").write_bytes(other.to_bytes("float32"))
    result = invoke("subspace", "encode", tmp_path / "other.safetensors", "--subspace", file, "--registry", zoo)
    assert result.code == 2 and "lora" in result.err and "prompt" in result.err


def test_an_embedding_of_another_base_model_is_refused(zoo, file, invoke, tmp_path):
    from dataclasses import replace

    other = replace(prompt("other", 1), space=Space("acme/large-bert", "prompt"))
    (tmp_path / "other.safetensors").write_bytes(other.to_bytes("float32"))
    result = invoke("subspace", "encode", tmp_path / "other.safetensors", "--subspace", file, "--registry", zoo)
    assert result.code == 2 and "large-bert" in result.err and "tiny-bert" in result.err


@pytest.mark.parametrize("codes", ["1,2", "1,2,3,4", "1,2,NaN", "one,two,three", "[1", "{}"])
def test_wrong_coordinates_are_refused(zoo, invoke, tmp_path, codes):
    result = invoke("subspace", "decode", codes, "--registry", zoo, "--to", tmp_path / "x")
    assert result.code == 2 and "coordinates" in result.err and not (tmp_path / "x").exists()


def test_a_file_that_is_no_subspace_is_refused(zoo, invoke, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(prompt("x", 1).to_bytes())
    for path, sentence in (
        (tmp_path / "x.safetensors", "not a tupate-hub-subspace"),
        ("y.safetensors", "cannot be read"),
    ):
        result = invoke("subspace", "encode", NAMES[0], "--subspace", path, "--registry", zoo)
        assert result.code == 2 and sentence in result.err


def test_an_unknown_subspace_is_told_with_those_that_are(zoo, invoke):
    result = invoke("subspace", "encode", NAMES[0], "--subspace", "7", "--registry", zoo)
    assert result.code == 2 and "'7'" in result.err and "subspace-3" in result.err


def test_encode_imports_no_torch(zoo):
    program = (
        "import sys; from tupate_hub.cli import run; "
        f"code = run(['subspace', 'encode', {NAMES[0]!r}, '--registry', {str(zoo)!r}]); "
        "bad = {'torch', 'transformers', 'huggingface_hub'} & set(sys.modules); sys.exit(3 if bad else code)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, capture_output=True).returncode == 0
