"""Curves over queries and ranks, and the choice of a default on half of the targets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from builders import LORA, TASKS

from tupate_hub import Zoo
from tupate_hub.compare.view import View
from tupate_hub.evaluation.choice import chosen_by_halves
from tupate_hub.evaluation.curves import by_queries, by_rank
from tupate_hub.evaluation.evaluate import evaluate
from tupate_hub.evaluation.predictors import Evidence
from tupate_hub.evaluation.truth import Truth

NAMES = tuple(name for name, *_ in TASKS)


def truth(scores: np.ndarray | None = None) -> Truth:
    count = len(NAMES)
    made = np.random.default_rng(0).uniform(0.5, 0.9, (count, count)) if scores is None else scores
    return Truth(NAMES, NAMES, made, np.full(count, 0.6), ("accuracy",) * count)


@pytest.fixture
def evidence(toy_zoo: Path) -> Evidence:
    zoo = Zoo.open(toy_zoo)
    tasks = [entry.task for entry in zoo.registry.in_space(LORA.name)]
    return Evidence(truth().restricted_to(tasks), zoo, LORA.name)


def test_the_truth_itself_is_the_best_query(evidence: Evidence) -> None:
    table = evidence.truth
    told = {
        target: dict(zip(table.sources, row, strict=True))
        for target, row in zip(table.targets, table.scores, strict=True)
    }
    turned = {target: {name: -score for name, score in row.items()} for target, row in told.items()}
    worst, best = by_queries(evidence, [({"share": 0.1}, turned), ({"share": 1.0}, told)])
    assert (worst.at, best.at) == ({"share": 0.1}, {"share": 1.0})
    assert best.metrics["ndcg_rank"].mean == pytest.approx(1.0)
    assert worst.metrics["ndcg_rank"].mean < 0.8
    assert best.metrics["regret@1"].mean == pytest.approx(0.0)


def test_every_query_is_judged_on_what_all_of_them_know(evidence: Evidence) -> None:
    table = evidence.truth
    whole = {target: dict.fromkeys(table.sources, 0.5) for target in table.targets}
    part = {target: row for target, row in whole.items() if target != table.targets[0]}
    points = by_queries(evidence, [({"share": 0.5}, part), ({"share": 1.0}, whole)])
    assert [point.targets for point in points] == [len(table.targets) - 1] * 2
    assert by_queries(evidence, []) == []
    assert by_queries(evidence, [({"share": 1.0}, {})]) == []


def test_points_are_json_without_nan(evidence: Evidence) -> None:
    table = evidence.truth
    one = {table.targets[0]: dict.fromkeys(table.sources, 0.5)}
    (point,) = by_queries(evidence, [({"share": 1.0}, one)])
    json.dumps(point.as_dict(), allow_nan=False)


def test_at_its_own_rank_a_space_is_ranked_as_it_is(evidence: Evidence) -> None:
    (embedding, *_) = evidence.zoo.load_space(LORA.name)
    rank = max(len(block.parts["A"]) for block in embedding.blocks)
    own = evaluate(np.nan_to_num(affinity(evidence)), evidence.truth).summary("ndcg_rank").mean
    first, last = by_rank(evidence, (1, rank))
    assert (first.at, last.at) == ({"rank": 1}, {"rank": rank})
    assert last.metrics["ndcg_rank"].mean == pytest.approx(own, abs=1e-6)


def affinity(evidence: Evidence) -> np.ndarray:
    return evidence.affinity(evidence.method, View())


def test_what_is_chosen_on_one_half_is_judged_on_the_other() -> None:
    table = truth()
    order = np.argsort(NAMES)
    lucky = -table.scores.copy()
    lucky[order[::2]] = table.scores[order[::2]]
    first, second = chosen_by_halves(table, {"oracle": table.scores, "lucky": lucky, "plain": -table.scores}, "plain")
    assert set(first.chosen_on).isdisjoint(first.judged_on)
    assert (first.chosen_on, first.judged_on) == (second.judged_on, second.chosen_on)
    assert first.chosen in ("oracle", "lucky")
    assert (second.chosen, second.value) == ("oracle", pytest.approx(1.0))
    assert second.best_there in ("oracle", "lucky")
    only_lucky, _ = chosen_by_halves(table, {"lucky": lucky, "plain": -table.scores}, "plain")
    assert (only_lucky.chosen, only_lucky.value) == ("lucky", pytest.approx(only_lucky.default))
