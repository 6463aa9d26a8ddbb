"""`stats`, `evaluate`, and the views and pictures of `similar` and `explain`."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import BASE, LORA, TASKS, lora, place
from damage import change, put, snapshot

from tupate_hub import Zoo
from tupate_hub.compare.view import View
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import UnknownName
from tupate_hub.evaluation.baselines import judge
from tupate_hub.evaluation.truth import align, read_truth
from tupate_hub.extras import install_command
from tupate_hub.search.similar import pair_scores

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"
METRICS = {
    "ndcg_rank", "ndcg_score", "regret@1", "regret@3", "regret@5", "regret@1_percent", "regret@3_percent",
    "regret@5_percent", "rank_of_best", "spearman",
}  # fmt: skip

#: What was measured: three targets, five sources, one cell left empty.
CELLS = {
    ("imdb", "rte"): 0.90, ("snli", "rte"): 0.70, ("mnli", "rte"): 0.80, ("sst2", "rte"): 0.50, ("squad", "rte"): 0.60,
    ("imdb", "sst2"): 0.95, ("snli", "sst2"): 0.75, ("mnli", "sst2"): 0.65, ("squad", "sst2"): 0.55,
    ("imdb", "snli"): 0.50, ("mnli", "snli"): 0.88, ("sst2", "snli"): 0.52,
}  # fmt: skip


def rows(out: str) -> list[list[str]]:
    return [line.split("\t") for line in out.splitlines()]


# --- stats -----------------------------------------------------------------------------------------------------

WIDTH = 16
SPACE = "toy-bert/lora"
PLACES = [f"encoder.layer.0.attention.self.{kind}" for kind in ("query", "value")]


@pytest.fixture(scope="module")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of one layer with random weights and its tokenizer."""
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("models") / "toy-bert"
    folder.mkdir()
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    transformers.BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=32).save_pretrained(str(folder))
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=32, initializer_range=0.5,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(str(folder))
    return folder


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """A registry of four LoRAs on the toy BERT."""
    from builders import lora_block

    from tupate_hub.collect.add import add_embeddings, open_or_start
    from tupate_hub.embedding import order_blocks
    from tupate_hub.space import Space

    def one(seed: int) -> TaskEmbedding:
        rng = np.random.default_rng(seed)
        blocks = order_blocks(lora_block(rng, name, inner=WIDTH, outer=WIDTH) for name in PLACES)
        return TaskEmbedding(f"task{seed}", Space("acme/toy-bert", "lora"), blocks, {"source": {"kind": "file"}})

    zoo, _ = add_embeddings(open_or_start(tmp_path / "registry"), [(Path(str(n)), one(n)) for n in range(4)])
    return zoo.root


def test_stats_keeps_what_similar_needs(
    base_model: Path, registry: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = invoke("similar", "task0", "--similarity", "effect", "--registry", registry)
    assert (before.code, before.out) == (2, "")
    assert "tupate-hub stats" in before.err
    done = invoke("stats", base_model, "--registry", registry)
    assert (done.code, done.out) == (0, "")
    assert re.fullmatch(r"\d+ tokens, 1 inputs, 0\.0 MB in zoo/toy-bert/lora/moments\.safetensors\n", done.err)
    zoo = Zoo.open(registry)
    assert zoo.verify() == []
    known = zoo.input_covariance(SPACE)
    assert known is not None and set(known.place) == set(PLACES)
    assert known.base_sha256 == hashlib.sha256((base_model / "model.safetensors").read_bytes()).hexdigest()
    for name in ("torch", "transformers", "tupate_hub.training.measure"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails
    effect = invoke("similar", "task0", "--similarity", "effect", "--registry", registry, "--json").json()
    update = invoke("similar", "task0", "--registry", registry, "--json").json()
    assert [one["score"] for one in effect["neighbors"]] != [one["score"] for one in update["neighbors"]]
    explained = invoke("explain", "task0", "task1", "--similarity", "effect", "--registry", registry, "--json").json()
    scores = {one["task"]: one["score"] for one in effect["neighbors"]}
    assert explained["score"] == pytest.approx(scores["task1"], abs=1e-5)


def test_stats_twice_gives_the_same_bytes(base_model: Path, registry: Path, invoke: Any) -> None:
    assert invoke("stats", base_model, "--registry", registry).code == 0
    before = snapshot(registry)
    assert invoke("stats", base_model, "--registry", registry, "--space", SPACE).code == 0
    assert snapshot(registry) == before


def test_stats_on_a_text_of_ones_own(base_model: Path, registry: Path, tmp_path: Path, invoke: Any) -> None:
    (tmp_path / "text").write_text("a b c\n\nd e\n")
    assert invoke("stats", base_model, "--registry", registry, "--text", tmp_path / "text").code == 0
    known = Zoo.open(registry).input_covariance(SPACE)
    assert known is not None and known.tokens == 5 + 4


def test_stats_without_the_extra_says_what_to_install(
    base_model: Path, registry: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "tupate_hub.training.measure", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    result = invoke("stats", base_model, "--registry", registry)
    assert result.code == 2
    assert install_command("train") in result.err


@pytest.mark.parametrize(
    ("content", "says"), [(b"", "is empty"), (b"\n \n", "is empty"), (b"\xff\xfe\x00", "not UTF-8 text")]
)
def test_stats_on_a_text_that_is_none(
    content: bytes, says: str, base_model: Path, registry: Path, tmp_path: Path, invoke: Any
) -> None:
    (tmp_path / "text").write_bytes(content)
    before = snapshot(registry)
    result = invoke("stats", base_model, "--registry", registry, "--text", tmp_path / "text")
    assert (result.code, result.out) == (2, "")
    assert says in result.err
    assert snapshot(registry) == before


def test_stats_of_a_model_that_is_not_the_spaces(base_model: Path, toy_zoo: Path, invoke: Any) -> None:
    before = snapshot(toy_zoo)
    for space in (LORA.name, "tiny-bert/prompt"):
        result = invoke("stats", base_model, "--registry", toy_zoo, "--space", space)
        assert result.code == 2
        assert "none of the space's weights" in result.err
    assert snapshot(toy_zoo) == before


@pytest.mark.parametrize("place", ["nowhere", "file"])
def test_stats_needs_the_folder_of_a_model(place: str, registry: Path, tmp_path: Path, invoke: Any) -> None:
    (tmp_path / "file").write_text("x")
    result = invoke("stats", tmp_path / place, "--registry", registry)
    assert result.code == 2
    assert "not a base model's folder" in result.err
    pytest.importorskip("torch", reason="what the folder holds is looked at with torch")
    (tmp_path / "empty").mkdir()
    assert "has no model.safetensors" in invoke("stats", tmp_path / "empty", "--registry", registry).err


@pytest.mark.parametrize("setting", [None, ""])
def test_the_bundled_zoo_takes_no_statistics(
    setting: str | None, base_model: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if setting is not None:
        monkeypatch.setenv("TUPATE_HUB_REGISTRY", setting)
    result = invoke("stats", base_model)
    assert (result.code, "takes no additions" in result.err) == (2, True)
    assert "--registry" in result.err


# --- evaluate --------------------------------------------------------------------------------------------------


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    return write_truth(tmp_path / "truth.csv")


def write_truth(path: Path, cells: dict[tuple[str, str], float] | None = None, more: str = "") -> Path:
    known = CELLS if cells is None else cells
    lines = [f"{source},{target},{score}" for (source, target), score in known.items()]
    path.write_text("\n".join(["source,target,score", *lines, more]).strip() + "\n")
    return path


def test_evaluate_gives_the_figures_of_the_evaluation(toy_zoo: Path, truth: Path, invoke: Any) -> None:
    found = invoke("evaluate", "--registry", toy_zoo, "--truth", truth, "--json").json()
    zoo, tasks = Zoo.open(toy_zoo), [name for name, *_ in TASKS]
    table = read_truth(truth).restricted_to(tasks)
    scores = align(table, tasks, pair_scores(zoo, LORA.name, View()))
    sizes = {name: task.train_size for name, task in zoo.registry.tasks.items()}
    expected = judge({"update": scores}, table, sizes)
    assert [one["predictor"] for one in found["predictors"]] == ["update", "random", "source-mean", "data-size"]
    assert found["predictors"] == json.loads(json.dumps([one.as_dict() for one in expected]))


def test_evaluate_by_hand(toy_zoo: Path, truth: Path, invoke: Any) -> None:
    """Regret@1 and NDCG of the `update` ranking, from `similar`'s own order and the table above."""
    found = invoke("evaluate", "--registry", toy_zoo, "--truth", truth, "--json").json()["predictors"][0]
    assert [one["target"] for one in found["targets"]] == ["rte", "snli", "sst2"]
    for one in found["targets"]:
        measured = {source: score for (source, target), score in CELLS.items() if target == one["target"]}
        ranking = invoke("similar", one["target"], "--registry", toy_zoo, "--json").json()["neighbors"]
        order = [n["task"] for n in ranking if n["task"] in measured]
        assert (one["sources"], one["picked"]) == (len(measured), order[0])
        assert one["best"] == max(measured, key=lambda name: measured[name])
        best = max(measured.values())
        for k in (1, 3, 5):
            reached = max(measured[name] for name in order[:k])
            assert one[f"regret@{k}"] == pytest.approx(100 * (best - reached))
        gains = [2.0 ** sum(other < measured[name] for other in measured.values()) - 1 for name in order]
        discount = 1 / np.log2(np.arange(len(gains)) + 2)
        assert one["ndcg_rank"] == pytest.approx(gains @ discount / (sorted(gains, reverse=True) @ discount))
        assert one["rank_of_best"] == order.index(one["best"]) + 1


def test_evaluate_json_has_the_documented_fields(toy_zoo: Path, truth: Path, invoke: Any) -> None:
    result = invoke("evaluate", "--registry", toy_zoo, "--truth", truth, "--json")
    found = result.json()
    assert (result.code, result.err) == (0, "")
    assert set(found) == {"space", "truth", "targets", "sources", "notes", "predictors"}
    assert (found["space"], found["truth"]) == (LORA.name, str(truth))
    assert (found["targets"], found["sources"], found["notes"]) == (3, 5, [])
    for one in found["predictors"]:
        assert set(one) == {"predictor", "metrics", "targets", "left_out"}
        assert set(one["metrics"]) == METRICS
        for summary in one["metrics"].values():
            assert set(summary) == {"mean", "spread", "low", "high", "targets"}
            assert summary["low"] - 1e-9 <= summary["mean"] <= summary["high"] + 1e-9
    section = DOCS.read_text(encoding="utf-8").split("## `evaluate`")[1].split("\n## ")[0]
    assert {name for name in found if f"`{name}`" not in section} == set()


def test_evaluate_prints_a_row_a_predictor(toy_zoo: Path, truth: Path, invoke: Any) -> None:
    result = invoke("evaluate", "--registry", toy_zoo, "--truth", truth)
    table = rows(result.out)
    assert table[0] == [
        "predictor", "ndcg_rank", "ndcg_score", "regret@1", "regret@3", "regret@5", "rank_of_best", "spearman",
    ]  # fmt: skip
    assert [row[0] for row in table[1:]] == ["update", "random", "source-mean", "data-size"]
    document = invoke("evaluate", "--registry", toy_zoo, "--truth", truth, "--json").json()
    for row, one in zip(table[1:], document["predictors"], strict=True):
        assert len(row) == 8
        mean = one["metrics"]["ndcg_rank"]
        assert row[1] == f"{mean['mean']:.3f} [{mean['low']:.3f}, {mean['high']:.3f}]"
    assert "3 targets, 5 sources in tiny-bert/lora" in result.err


def test_evaluate_shows_every_target(toy_zoo: Path, truth: Path, invoke: Any) -> None:
    table = rows(invoke("evaluate", "--registry", toy_zoo, "--truth", truth, "--per-target").out)
    assert table[0][:4] == ["predictor", "target", "picked", "best"]
    assert [row[1] for row in table[1:]] == ["rte", "snli", "sst2"] * 4
    best = {row[1]: row[3] for row in table[1:]}
    assert best == {"rte": "imdb", "snli": "mnli", "sst2": "imdb"}
    assert all(re.fullmatch(r"-?\d+\.\d{3}", cell) for row in table[1:] for cell in row[4:])


def test_evaluate_all_similarities(toy_zoo: Path, truth: Path, invoke: Any) -> None:
    arguments = ("evaluate", "--registry", toy_zoo, "--truth", truth, "--space", "tiny-bert/prompt", "--json")
    found = {one["predictor"]: one for one in invoke(*arguments, "--similarity", "all").json()["predictors"]}
    ways = [f"{name}{how}" for name in ("update", "tupate", "tupate-flat") for how in ("", ", centred")]
    assert list(found) == [*ways, "random", "source-mean", "data-size"]
    alone = invoke(*arguments, "--similarity", "tupate").json()["predictors"][0]
    assert alone == found["tupate"]


def test_evaluate_all_takes_effect_where_it_is_known(
    registry: Path, base_model: Path, tmp_path: Path, invoke: Any
) -> None:
    assert invoke("stats", base_model, "--registry", registry).code == 0
    cells = {(f"task{s}", f"task{t}"): (s + 2 * t) % 5 / 5 for s in range(4) for t in range(4)}
    write_truth(tmp_path / "t.csv", cells)
    arguments = ("evaluate", "--registry", registry, "--truth", tmp_path / "t.csv", "--json", "--similarity")
    names = [one["predictor"] for one in invoke(*arguments, "all").json()["predictors"]]
    assert names[:6] == ["update", "update, centred", "tupate", "tupate, centred", "effect", "effect, centred"]
    assert "data-size" not in names
    assert invoke(*arguments, "effect").json()["predictors"][0]["predictor"] == "effect"


def test_the_seed_moves_only_the_intervals(toy_zoo: Path, tmp_path: Path, invoke: Any) -> None:
    rng, names = np.random.default_rng(0), [name for name, *_ in TASKS]
    cells = {(source, target): round(rng.uniform(), 3) for source in names for target in names}
    arguments = ("evaluate", "--registry", toy_zoo, "--truth", write_truth(tmp_path / "all.csv", cells), "--json")
    first, again, other = (invoke(*arguments, "--seed", seed).json()["predictors"] for seed in (0, 0, 1))
    assert first == again != other
    assert [one["targets"] for one in first] == [one["targets"] for one in other]


def test_names_of_the_truth_may_be_aliases(toy_zoo: Path, tmp_path: Path, truth: Path, invoke: Any) -> None:
    spelled = {"imdb": "stanfordnlp/imdb", "sst2": "SST-2", "mnli": "glue/mnli"}
    cells = {tuple(spelled.get(name, name) for name in pair): score for pair, score in CELLS.items()}
    write_truth(tmp_path / "aliases.csv", cells)
    first, second = (
        invoke("evaluate", "--registry", toy_zoo, "--truth", file, "--json").json()["predictors"]
        for file in (truth, tmp_path / "aliases.csv")
    )
    assert first == second


def test_tasks_that_the_space_has_not_take_no_part(toy_zoo: Path, tmp_path: Path, truth: Path, invoke: Any) -> None:
    more = "unheard,rte,.99\nimdb,unheard,.2"
    write_truth(tmp_path / "more.csv", more=more)
    first, second = (
        invoke("evaluate", "--registry", toy_zoo, "--truth", file, "--json").json()
        for file in (truth, tmp_path / "more.csv")
    )
    assert {**first, "truth": ""} == {**second, "truth": ""}


def test_several_rows_of_a_pair_are_told(toy_zoo: Path, tmp_path: Path, invoke: Any) -> None:
    write_truth(tmp_path / "runs.csv", more="imdb,rte,.7")
    result = invoke("evaluate", "--registry", toy_zoo, "--truth", tmp_path / "runs.csv")
    assert "their mean counts" in result.err
    assert invoke("evaluate", "--registry", toy_zoo, "--truth", tmp_path / "runs.csv", "--json").json()["notes"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "no column source, target, score"),
        ("source,target\nimdb,rte\n", "no column score"),
        ("source,target,score\nimdb,rte,good\n", "line 2: score is 'good'"),
        ("source,target,score\nimdb,rte,nan\n", "line 2: score is 'nan'"),
        ("source,target,score\nimdb,rte\n", "line 2: not as many fields"),
        ("source,target,score\n,rte,.5\n", "line 2: the source is empty"),
        ("source,target,score\n", "holds no score"),
        ("source,target,score\nimdb,rte,\n", "holds no score"),
        ("source,target,score\nx,y,.5\n", "no target and source in common"),
        ("source,target,score\nimdb,rte,.5\n", "No target has two measured sources"),
        ('source,target,score\n"imdb,rte,.5\n', "not a CSV file"),
    ],
)
def test_a_bad_truth_is_told_in_a_sentence(content: str, says: str, toy_zoo: Path, tmp_path: Path, invoke: Any) -> None:
    (tmp_path / "bad.csv").write_text(content)
    result = invoke("evaluate", "--registry", toy_zoo, "--truth", tmp_path / "bad.csv")
    assert (result.code, result.out) == (2, "")
    assert says in result.err
    assert len(result.err.splitlines()) <= 2


def test_a_truth_that_is_not_there(toy_zoo: Path, tmp_path: Path, invoke: Any) -> None:
    for arguments, says in [
        (("--truth", tmp_path / "nowhere.csv"), "cannot be read"),
        (("--truth", tmp_path), "cannot be read"),
        (("--truth", "few-shot-1"), "cannot be read"),
    ]:
        result = invoke("evaluate", "--registry", toy_zoo, *arguments)
        assert (result.code, result.out) == (2, "")
        assert says in result.err


def test_tasks_that_do_not_compare_are_left_out_and_named(toy_zoo: Path, truth: Path, invoke: Any) -> None:
    """The toy zoo's tasks have several ranks: those of the rarer ones have no coordinates to compare."""
    result = invoke("evaluate", "--registry", toy_zoo, "--truth", truth, "--similarity", "tupate")
    assert "left out, because they do not compare with the others: " in result.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--similarity", "cosine"), "Unknown similarity 'cosine'"),
        (("--similarity", "effect"), "tupate-hub stats"),
        (("--space", "x/lora"), "Unknown space"),
    ],
)
def test_what_cannot_be_judged(arguments: tuple[str, ...], says: str, toy_zoo: Path, truth: Path, invoke: Any) -> None:
    result = invoke("evaluate", "--registry", toy_zoo, "--truth", truth, *arguments)
    assert (result.code, result.out) == (2, "")
    assert says in result.err


@pytest.mark.parametrize(("backbone", "ndcg"), [("Roberta", 0.789), ("T5Small", 0.820)])
def test_the_soft_prompts_and_their_authors_truth(
    backbone: str, ndcg: float, shared: Path, tmp_path: Path, invoke: Any
) -> None:
    """The whole way: strangers' prompts added, then judged by what the same strangers measured."""
    base, file = {"Roberta": ("roberta-base", "roberta_base"), "T5Small": ("t5-small", "t5_small")}[backbone]
    for folder in sorted((shared / "adapters").glob(f"thunlp__*Prompt{backbone}")):
        shutil.copytree(folder, tmp_path / "prompts" / folder.name)
    added = invoke(
        "add", "--all", tmp_path / "prompts", "--base", base, "--registry", tmp_path / "zoo", "--json"
    ).json()
    assert added["refused"] == [] and added["added"] >= 15
    truth = shared / "truth" / f"su2022_prompt_{file}.csv"
    found = invoke("evaluate", "--registry", tmp_path / "zoo", "--truth", truth, "--json").json()
    reached = {one["predictor"]: one["metrics"]["ndcg_rank"]["mean"] for one in found["predictors"]}
    assert reached["update"] == pytest.approx(ndcg, abs=0.01)
    assert reached["random"] == pytest.approx({"Roberta": 0.535, "T5Small": 0.496}[backbone], abs=0.01)
    assert found["targets"] >= 14


# --- views of similar and explain ------------------------------------------------------------------------------


def test_the_options_of_a_view_reach_the_ranking(toy_zoo: Path, invoke: Any) -> None:
    zoo = Zoo.open(toy_zoo)
    for options, view, fuse in [
        (("--balance",), View(balance=True), None),
        (("--blocks", "value"), View(blocks="value"), None),
        (("--centre", "--blocks", "layer.1", "--balance"), View(centre=True, blocks="layer.1", balance=True), None),
        (("--fuse", "layers"), View(), "layers"),
    ]:
        found = invoke("similar", "imdb", "--registry", toy_zoo, "--json", *options).json()
        expected = zoo.similar("imdb", view=view, fuse=fuse)
        assert [(one["task"], one["score"]) for one in found["neighbors"]] == [(n.task, n.score) for n in expected]
        assert found["fused"] == fuse


def test_what_was_done_is_said(toy_zoo: Path, invoke: Any) -> None:
    arguments = (
        "similar",
        "imdb",
        "--registry",
        toy_zoo,
        "--centre",
        "--balance",
        "--blocks",
        "value",
        "--fuse",
        "layers",
    )
    assert invoke(*arguments).err == (
        "imdb in tiny-bert/lora: update, fused over layers, centred, balanced, blocks value\n"
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [(("--fuse", "heads"), "known: layers, similarities"), (("--blocks", "output"), "known: query, value")],
)
def test_a_view_that_is_not_there(options: tuple[str, ...], says: str, toy_zoo: Path, invoke: Any) -> None:
    result = invoke("similar", "imdb", "--registry", toy_zoo, *options)
    assert (result.code, result.out) == (2, "")
    assert says in result.err


def test_the_base_model_of_a_query_that_names_none(toy_zoo: Path, tmp_path: Path, invoke: Any) -> None:
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32))
    refused = invoke("similar", tmp_path / "mine.npy", "--registry", toy_zoo)
    assert (refused.code, "--base" in refused.err) == (2, True)
    found = invoke("similar", tmp_path / "mine.npy", "--base", BASE, "--registry", toy_zoo, "--json").json()
    assert (found["query"], found["space"]) == ("mine", "tiny-bert/prompt")


def test_explain_by_layer_is_a_picture_that_adds_up(toy_zoo: Path, invoke: Any) -> None:
    parts = invoke("explain", "imdb", "rte", "--registry", toy_zoo, "--json").json()
    result = invoke("explain", "imdb", "rte", "--by-layer", "--registry", toy_zoo)
    table = rows(result.out)
    assert table[0] == ["layer", "query", "value", "total"]
    assert [row[0] for row in table[1:]] == ["layer.0", "layer.1", "total"]
    for row in table[1:3]:
        values = [parts["contributions"][f"{row[0]}.{kind}"] for kind in ("query", "value")]
        assert [float(cell.split()[-1]) for cell in row[1:3]] == pytest.approx(values, abs=1e-4)
        assert float(row[3]) == pytest.approx(sum(values), abs=1e-4)
    for column in (1, 2):
        cells = [float(row[column].split()[-1]) for row in table[1:3]]
        assert float(table[3][column]) == pytest.approx(sum(cells), abs=3e-4)
    assert float(table[3][3]) == pytest.approx(parts["score"], abs=1e-4)
    assert result.err == f"imdb and rte, update: {parts['score']:.4f}\n"


def test_the_darkest_cell_is_the_largest_contribution(toy_zoo: Path, invoke: Any) -> None:
    table = rows(invoke("explain", "imdb", "rte", "--by-layer", "--registry", toy_zoo).out)
    shades = {cell: abs(float(cell.split()[-1])) for row in table[1:3] for cell in row[1:3]}
    darkest = [cell for cell in shades if cell.startswith("█")]
    assert max(shades, key=lambda cell: shades[cell]) in darkest
    assert all(cell[0] in " ░▒▓█" for cell in shades)
    ordered = sorted(shades, key=lambda cell: shades[cell])
    levels = [" ░▒▓█".index(cell[0]) for cell in ordered]
    assert levels == sorted(levels)


def test_a_place_that_neither_has_is_left_open(toy_zoo: Path, invoke: Any) -> None:
    for name in ("imdb", "rte"):
        one = lora(name, len(name))
        kept = TaskEmbedding(name, LORA, one.blocks[:3])
        put(toy_zoo, f"zoo/{LORA.name}/{name}.safetensors", kept.to_bytes())
    table = rows(invoke("explain", "imdb", "rte", "--by-layer", "--registry", toy_zoo).out)
    assert table[2][2] == "-"
    assert table[1][2] != "-"


def test_explain_takes_the_views(toy_zoo: Path, invoke: Any) -> None:
    found = invoke("explain", "imdb", "rte", "--blocks", "value", "--balance", "--registry", toy_zoo, "--json").json()
    assert set(found["contributions"]) == {"layer.0.value", "layer.1.value"}
    assert sum(found["contributions"].values()) == pytest.approx(found["score"])
    expected = pair_scores(Zoo.open(toy_zoo), LORA.name, View(balance=True, blocks="value"))[0, 2]
    assert found["score"] == pytest.approx(expected, abs=1e-5)


def test_a_prompt_has_one_place(toy_zoo: Path, invoke: Any) -> None:
    table = rows(
        invoke("explain", "imdb", "rte", "--space", "tiny-bert/prompt", "--by-layer", "--registry", toy_zoo).out
    )
    assert table[0] == ["layer", "prompt", "total"]
    assert len(table) == 3


def test_moments_that_are_damaged_are_told(toy_zoo: Path, invoke: Any) -> None:
    kept = place(toy_zoo, f"zoo/{LORA.name}/moments.safetensors", b"x" * 100)
    change(toy_zoo, lambda data: data["spaces"][LORA.name].update(moments=kept))
    result = invoke("similar", "imdb", "--similarity", "effect", "--registry", toy_zoo)
    assert (result.code, result.out) == (2, "")
    assert invoke("similar", "imdb", "--registry", toy_zoo).code == 0
    assert invoke("verify", "--registry", toy_zoo).code == 2
    with pytest.raises(UnknownName):
        Zoo.open(toy_zoo).input_covariance("nowhere")
