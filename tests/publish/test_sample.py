"""A sample of a large space: the best-scored and others evenly, compared by sketches; small spaces as they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import LORA, PROMPT
from large import many

from tupate_hub import Zoo
from tupate_hub.collect.shelf import Shelf
from tupate_hub.publish import sample as module
from tupate_hub.publish.card import card_of
from tupate_hub.publish.frontmatter import About
from tupate_hub.publish.sample import sample_of
from tupate_hub.publish.site_data import site_data


@pytest.fixture(autouse=True)
def _small_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SHOWN", 8)
    monkeypatch.setattr(module, "MOST_BEST", 2)


def scored(zoo: Zoo, scores: dict[str, float]) -> Zoo:
    """The zoo with scores of some of its LoRA."""
    held = zoo.registry
    new = [
        (replace(held.entry(task, LORA.name), scores={"primary": score}), held.tasks[task], held.spaces[LORA.name])
        for task, score in scores.items()
    ]
    Shelf(zoo.root, held).write_registry(held.with_entries(new))
    return Zoo.open(zoo.root)


def test_a_small_registry_is_its_own_sample(toy_zoo: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    shown = sample_of(zoo)
    assert (shown.zoo, shown.totals) == (zoo, {})
    assert shown.index(LORA.name, "update").difference(zoo.pair_index(LORA.name, "update")) == ""
    assert shown.total(LORA.name) == 6


def test_the_best_scored_and_others_evenly_over_the_names(sharded: Zoo) -> None:
    zoo = scored(sharded, {"x-task-009": 0.9, "w-task-004": 0.8, "k-task-000": 0.7})
    shown = sample_of(zoo)
    names = [entry.task for entry in shown.registry.in_space(LORA.name)]
    every = [entry.task for entry in zoo.registry.in_space(LORA.name)]
    assert set(names) == {"x-task-009", "w-task-004", *every[::2]}
    assert names == sorted(names)
    assert shown.totals[LORA.name].embeddings == shown.total(LORA.name) == 12
    assert shown.totals[LORA.name].bytes == sum(entry.bytes for entry in zoo.registry.in_space(LORA.name))
    assert [entry.task for entry in shown.registry.in_space(PROMPT.name)] == [
        entry.task for entry in zoo.registry.in_space(PROMPT.name)
    ]


def test_scores_among_them_are_near_the_exact_ones(sharded: Zoo) -> None:
    shown = sample_of(sharded)
    estimated = shown.index(LORA.name, "update")
    exact = sharded.computed_index(LORA.name, "update")
    rows = [exact.tasks.index(task) for task in estimated.tasks]
    assert np.abs(estimated.scores() - exact.scores()[np.ix_(rows, rows)]).max() < 0.1  # some five errors of a sketch
    assert estimated.norms == pytest.approx(exact.norms[rows], rel=1e-5)
    assert estimated.digests == tuple(exact.digests[row] for row in rows)


def test_the_card_says_of_how_many_it_shows_some(sharded: Zoo) -> None:
    files = card_of(sharded, About("Large", "me/large"))
    card = files["zoo/README.md"].decode()
    assert "Embeddings of 16 adapters in 2 spaces" in card
    assert "Shown are 6 of 12 embeddings" in card
    assert "| `tiny-bert/lora` (default) | acme/tiny-bert | lora | 12 |" in card
    table = [json.loads(line) for line in files["zoo/embeddings.jsonl"].decode().splitlines()]
    assert len(table) == 6 + 4
    assert card_of(sharded, About("Large", "me/large")) == files


def test_the_page_says_how_many_there_are(sharded: Zoo) -> None:
    files = site_data(sharded, About("Large", "me/large"), hub=False)
    text = files["data.js"].decode()
    data = json.loads(text[text.index("{") : text.rindex("}") + 1])
    (large, small) = data["spaces"]
    assert (large["total"], len(large["entries"]), large["sketched"], large["leftOut"]) == (12, 6, True, {})
    assert (small["total"], len(small["entries"])) == (4, 4)


def test_a_map_of_a_large_space(sharded: Zoo, invoke: Callable[..., Any]) -> None:
    result = invoke("map", "k-task-000", "-k", 5, "--registry", sharded.root, "--json")
    assert (result.code, len(result.json()["points"])) == (0, 6)


@pytest.mark.usefixtures("small_shards")
def test_where_no_weights_are_kept(tmp_path: Path, invoke: Callable[..., Any]) -> None:
    zoo = many(tmp_path / "zoo", 12)
    assert invoke("card", "--registry", zoo.root).code == 0
    card = (zoo.root / "zoo" / "README.md").read_text()
    assert ("tupate-hub similar task-" in card, "tupate-hub pull" in card) == (True, False)
    assert invoke("site", "--out", tmp_path / "page", "--registry", zoo.root).code == 0
    assert invoke("map", "task-000003", "--registry", zoo.root).code == 0
    assert zoo.verify() == []
