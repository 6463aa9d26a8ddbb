"""The browsable table: one row for each embedding, columns of one type, neighbours that `similar` agrees with."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import LORA, PROMPT, TASKS
from loopback import LoopbackHub

from tupate_hub.publish.browse import COORDINATES, FILE, NEIGHBORS, browse_table, nearest, number, space_files
from tupate_hub.publish.card import About, card_of
from tupate_hub.registry import Entry, Registry, Task
from tupate_hub.zoo import Zoo

COLUMNS = {
    "task": str,
    "title": str,
    "space": str,
    "base": str,
    "method": str,
    "kind": str,
    "task_class": str,
    "dataset": str,
    "data_licence": str,
    "train_size": int,
    "metric": str,
    "score": float,
    "baseline": float,
    "weak": bool,
    "vector": list,
    "neighbors": list,
    "file": str,
    "bytes": int,
    "sha256": str,
    "source": str,
    "scores": str,
}


def table(zoo: Zoo, registry: Registry | None = None) -> list[dict[str, Any]]:
    held = registry or zoo.registry
    text = browse_table(held, {space: zoo.pair_index(space, "update") for space in zoo.registry.spaces})
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def zoo(toy_zoo: Path) -> Zoo:
    return Zoo.open(toy_zoo)


def changed(zoo: Zoo, **fields: Any) -> Registry:
    """The zoo's registry with other fields in its first embedding."""
    first, *others = zoo.registry.entries
    return replace(zoo.registry, entries=(replace(first, **fields), *others))


def test_there_is_a_row_for_each_embedding_in_the_registry_s_order(zoo: Zoo) -> None:
    rows = table(zoo)
    assert [(row["space"], row["task"]) for row in rows] == [(e.space, e.task) for e in zoo.registry.entries]
    assert len(rows) == 2 * len(TASKS)


def test_every_row_has_the_same_columns_of_the_same_types(zoo: Zoo) -> None:
    for row in table(zoo):
        assert list(row) == list(COLUMNS)
        for name, kind in COLUMNS.items():
            assert type(row[name]) is kind, name


def test_a_row_says_what_the_registry_says(zoo: Zoo) -> None:
    (row,) = [row for row in table(zoo) if (row["space"], row["task"]) == (LORA.name, "rte")]
    entry = zoo.registry.entry("rte", LORA.name)
    assert (row["title"], row["kind"], row["dataset"]) == ("RTE", "classification", "acme/rte")
    assert (row["base"], row["method"]) == (LORA.base, "lora")
    assert (row["train_size"], row["data_licence"], row["weak"]) == (3000, "cc-by-4.0", True)
    assert (row["score"], row["baseline"]) == (entry.scores["primary"], 0.5)
    assert (row["file"], row["bytes"], row["sha256"]) == (entry.file, entry.bytes, entry.sha256)
    assert json.loads(row["source"]) == dict(entry.source)
    assert json.loads(row["scores"]) == dict(entry.scores)


def test_the_neighbours_are_those_of_similar(zoo: Zoo) -> None:
    for row in table(zoo):
        ranking = zoo.similar(row["task"], NEIGHBORS, space=row["space"])
        assert [one["task"] for one in row["neighbors"]] == [one.task for one in ranking]
        assert [one["score"] for one in row["neighbors"]] == pytest.approx([one.score for one in ranking], abs=1e-4)


def test_the_vectors_keep_the_distances_of_a_small_space(zoo: Zoo) -> None:
    for space in (LORA.name, PROMPT.name):
        points = np.array([row["vector"] for row in table(zoo) if row["space"] == space])
        assert points.shape == (len(TASKS), COORDINATES)
        squares = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
        np.testing.assert_allclose(squares, 2 - 2 * zoo.pair_index(space, "update").scores(), atol=2e-3)


def test_the_same_bytes_twice(zoo: Zoo) -> None:
    indexes = {space: zoo.pair_index(space, "update") for space in zoo.registry.spaces}
    assert browse_table(zoo.registry, indexes) == browse_table(Zoo.open(zoo.root).registry, indexes)
    assert "-0.0," not in browse_table(zoo.registry, indexes)


@pytest.mark.parametrize("scores", [{}, {"primary": "high"}, {"primary": True}, {"primary": [1]}, {"primary": None}])
def test_a_score_that_is_no_number_is_null(scores: dict[str, Any], zoo: Zoo) -> None:
    row = table(zoo, changed(zoo, scores=scores))[0]
    assert row["score"] is None
    assert row["baseline"] is None


def test_whole_scores_become_fractions_so_that_the_column_has_one_type(zoo: Zoo) -> None:
    row = table(zoo, changed(zoo, scores={"primary": 1, "baseline": 0}))[0]
    assert type(row["score"]) is float
    assert type(row["baseline"]) is float


def test_sizes_that_no_column_holds_are_left_out(zoo: Zoo) -> None:
    name = zoo.registry.entries[0].task
    tasks = {**zoo.registry.tasks, name: replace(zoo.registry.tasks[name], train_size=10**30)}
    assert table(zoo, replace(zoo.registry, tasks=tasks))[0]["train_size"] is None
    assert table(zoo, changed(zoo, bytes=10**30))[0]["bytes"] < 2**63


def test_line_breaks_in_a_title_make_no_row(zoo: Zoo) -> None:
    name = zoo.registry.entries[0].task
    title = 'a\nb\u2028"c'
    tasks = {**zoo.registry.tasks, name: replace(zoo.registry.tasks[name], title=title)}
    text = browse_table(
        replace(zoo.registry, tasks=tasks), {space: zoo.pair_index(space, "update") for space in zoo.registry.spaces}
    )
    assert text.count("\n") == 2 * len(TASKS)
    assert json.loads(text.split("\n")[0])["title"] == title


def test_an_empty_registry_gives_an_empty_table() -> None:
    assert browse_table(Registry(), {}) == ""


# --- nearest ---------------------------------------------------------------------------------------------------


def test_equal_neighbours_come_in_order_of_their_names() -> None:
    scores = np.full((5, 5), 0.5) + 0.5 * np.eye(5)
    names = ("e", "d", "c", "b", "a")
    assert [names[at] for at in nearest(scores, 0, names)] == ["a", "b", "c", "d"]
    assert [names[at] for at in nearest(scores, 4, names, 2)] == ["b", "c"]


@pytest.mark.parametrize("seed", range(4))
def test_the_nearest_of_many_are_those_of_a_full_sort(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 30, (90, 90)) / 30  # many ties
    names = tuple(f"task_{at:03}" for at in rng.permutation(90))
    for row in range(90):
        full = sorted((at for at in range(90) if at != row), key=lambda at: (-scores[row, at], names[at]))
        assert nearest(scores, row, names) == full[:NEIGHBORS]


@pytest.mark.parametrize(
    ("value", "found"),
    [(1, 1.0), (0.5, 0.5), (-2, -2.0), (True, None), ("1", None), (None, None), (float("inf"), None), (10**400, None)],
)
def test_a_number_is_a_finite_one(value: Any, found: float | None) -> None:
    assert number(value) == found
    assert number(float("nan")) is None


# --- the library that loads it ---------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["zoo/README.md", "README.md"])
def test_the_datasets_library_loads_the_folder_of_the_card(at: str, zoo: Zoo, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the datasets library is not installed")
    folder = tmp_path / "published"
    for name, data in card_of(zoo, About(), at).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    loaded = datasets.load_dataset(str((folder / at).parent), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train"]
    rows = list(loaded["train"])
    assert rows == [json.loads(line) for line in (folder / FILE).read_text(encoding="utf-8").splitlines()]
    assert set(loaded["train"].column_names) == set(COLUMNS)
    parts = datasets.load_dataset(str((folder / at).parent), "by_space", cache_dir=str(tmp_path / "cache"))
    assert {split: set(part["space"]) for split, part in parts.items()} == {
        "tiny_bert_lora": {"tiny-bert/lora"},
        "tiny_bert_prompt": {"tiny-bert/prompt"},
    }
    assert [row for part in parts.values() for row in part] == rows


def test_the_datasets_library_takes_one_folder_for_another_but_not_one_file(
    zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps what it loaded by the folder's name alone: hence the form that docs/cli.md advises."""
    datasets = pytest.importorskip("datasets", reason="the datasets library is not installed")
    cache = str(tmp_path / "cache")
    found = []
    for name in ("first", "second"):
        folder = tmp_path / name
        changed = replace(zoo, registry=replace(zoo.registry, tasks=_titled(zoo, name)))
        for file, data in card_of(changed, About()).items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(data)
        monkeypatch.chdir(folder)
        rows = datasets.load_dataset("json", data_files=FILE, split="train", cache_dir=cache)
        assert list(rows) == [json.loads(line) for line in (folder / FILE).read_text(encoding="utf-8").splitlines()]
        found.append({row["title"] for row in rows})
        datasets.load_dataset("./zoo", cache_dir=cache)
    assert found == [{"first"}, {"second"}]
    if {row["title"] for row in datasets.load_dataset("./zoo", cache_dir=cache)["train"]} == {"second"}:
        pytest.fail("datasets tells folders apart by now: docs/cli.md may say so")


def _titled(zoo: Zoo, title: str) -> dict[str, Task]:
    return {name: replace(task, title=title) for name, task in zoo.registry.tasks.items()}


def test_the_datasets_library_loads_the_table_from_the_hub(hub: LoopbackHub, zoo: Zoo, tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="the datasets library is not installed")
    files = card_of(zoo, About(), "README.md")
    hub.store.put("datasets", "acme/zoo", files)
    program = (
        "import datasets, json\n"
        "whole = datasets.load_dataset('acme/zoo', split='train')\n"
        "parts = datasets.load_dataset('acme/zoo', 'by_space')\n"
        "print(json.dumps([list(whole), {split: list(part) for split, part in parts.items()}]))\n"
    )
    environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home")}
    environment |= {"HF_DATASETS_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=250
    )
    assert done.returncode == 0, done.stderr
    whole, parts = json.loads(done.stdout)
    assert whole == [json.loads(line) for line in files[FILE].decode().splitlines()]
    assert list(parts) == ["tiny_bert_lora", "tiny_bert_prompt"]
    assert [row for part in parts.values() for row in part] == whole


def test_splits_have_names_of_their_own(zoo: Zoo) -> None:
    names = ("a-b/lora", "a_b/lora", "a.b/lora", "a_b/lora_2", "ü")
    spaces = {name: replace(zoo.registry.spaces[LORA.name], name=name) for name in names}
    entry = zoo.registry.entries[0]
    entries = tuple(replace(entry, space=name) for name in names)
    found = space_files(replace(zoo.registry, spaces=spaces, entries=entries))
    assert list(found.values()) == [f"zoo/{name}/embeddings.jsonl" for name in names]
    assert all(re.fullmatch(r"\w+", split, re.ASCII) for split in found)
    assert space_files(replace(zoo.registry, entries=entries[:1], spaces=spaces)) == {}


def test_a_single_embedding_has_no_neighbours(zoo: Zoo) -> None:
    space = PROMPT.name
    kept: tuple[Entry, ...] = zoo.registry.in_space(space)[:1]
    registry = replace(zoo.registry, entries=kept, spaces={space: zoo.registry.spaces[space]}, default_space=space)
    (line,) = browse_table(registry, {space: Zoo(zoo.root, registry).pair_index(space, "update")}).splitlines()
    row = json.loads(line)
    assert row["neighbors"] == []
    assert row["vector"] == [0.0] * COORDINATES
