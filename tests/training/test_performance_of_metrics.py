"""The figures of `performance` are those that the runs are scored by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tupate_hub.evaluation.performance import performance
from tupate_hub.training.scoring import score

DRAW = np.random.default_rng(3)
NAMES = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def classes(count: int) -> tuple[Any, Any]:
    gold = DRAW.integers(count, size=90)
    return gold, np.where(DRAW.random(90) < 0.6, gold, DRAW.integers(count, size=90))


def tags() -> tuple[Any, Any]:
    def row() -> list[str]:
        return [NAMES[at] for at in DRAW.integers(5, size=6)]

    gold = [row() for _ in range(40)]
    return gold, [tags if DRAW.random() < 0.5 else row() for tags in gold]


CASES: dict[str, tuple[str, tuple[str, ...], tuple[Any, Any]]] = {
    "accuracy": ("classification", ("a", "b", "c"), classes(3)),
    "accuracy_and_f1": ("classification", ("a", "b"), classes(2)),
    "accuracy_and_macro_f1": ("classification", ("a", "b", "c"), classes(3)),
    "matthews_correlation": ("classification", ("a", "b"), classes(2)),
    "macro_f1": ("classification", ("a", "b", "c", "d", "never"), classes(4)),
    "macro_recall": ("classification", ("a", "b", "c"), classes(3)),
    "f1_answer": ("classification", ("a", "b"), classes(2)),
    "pearson_and_spearman": ("regression", (), (DRAW.integers(5, size=60) / 1.0, DRAW.normal(size=60))),
    "span_f1": ("token_classification", NAMES, tags()),
    "squad_f1": ("extractive_qa", (), ([["The  cat, sat"], ["a dog"], ["it"]], ["cat sat.", "An old dog", ""])),
    "squad_v2_f1": ("extractive_qa", (), ([[], [], ["The x"]], ["", "y", "the"])),
}


@pytest.mark.parametrize("metric", CASES)
def test_the_figures_are_those_of_the_score(metric: str) -> None:
    kind, names, (gold, predicted) = CASES[metric]
    measured = performance(kind, metric, names, gold, predicted)
    scores = score(metric, gold, predicted)
    assert measured.primary == pytest.approx(scores.pop("primary"), abs=1e-12)
    assert scores == pytest.approx({name: measured.figures[name] for name in scores}, abs=1e-12)
