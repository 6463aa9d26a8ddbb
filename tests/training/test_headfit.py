"""Head fit: the head of parameters that stand still is the minimum of its loss, and answers as well as the run's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from toys import REGIME, WIDTH

from tupate_hub.head import make_head
from tupate_hub.training.headfit import PENALTIES, Part, fit, fit_head
from tupate_hub.training.methods import get_method
from tupate_hub.training.record import to_embedding
from tupate_hub.training.scoring import gold_labels, score
from tupate_hub.training.tuned import Tuned
from tupate_hub.training.tuner import tune


def states(count: int = 300, width: int = 6) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(1)) * 2 + 3


def centred(part: torch.Tensor) -> tuple[np.ndarray, float]:
    spread = float((part - part.mean(0)).square().mean().sqrt())
    return ((part - part.mean(0)) / spread).numpy(), spread


def test_classes_are_a_penalised_softmax_regression() -> None:
    found = states()
    labels = (found @ torch.randn(6, 3, generator=torch.Generator().manual_seed(2))).argmax(1)
    part = Part(found, labels)
    weight, bias, facts = fit("classification", part, part, 3)
    scaled, _ = centred(found)
    theirs = LogisticRegression(C=6 / (facts["penalty"] * len(found)), max_iter=5000, tol=1e-10).fit(scaled, labels)
    ours = found.numpy() @ weight.T + bias
    reference = theirs.decision_function(scaled)
    difference = (ours - ours.mean(1, keepdims=True)) - (reference - reference.mean(1, keepdims=True))
    assert np.abs(difference).max() < 0.02 * np.abs(reference).max()


def test_amounts_are_a_ridge_regression_in_their_own_units() -> None:
    found = states()
    labels = 1000 + 50 * found[:, 0] + torch.randn(300, generator=torch.Generator().manual_seed(3))
    weight, bias, facts = fit("regression", Part(found, labels), Part(found, labels), 1)
    scaled, _ = centred(found)
    theirs = Ridge(alpha=facts["penalty"] * len(found) / 2 / 6).fit(scaled, labels)
    np.testing.assert_allclose((found.numpy() @ weight.T + bias)[:, 0], theirs.predict(scaled), rtol=1e-3)


def test_the_penalty_is_the_one_that_the_held_out_part_likes() -> None:
    found, noise = states(60), torch.randint(2, (60,), generator=torch.Generator().manual_seed(4))
    part, held = Part(found[:30], noise[:30]), Part(found[30:], noise[30:])
    _, _, facts = fit("classification", part, held, 2)
    assert facts["penalty"] == PENALTIES[0]  # nothing can be learned: the strongest loses least
    assert fit("classification", part, part, 2)[2]["penalty"] == PENALTIES[-1]


@pytest.mark.parametrize("name", ["toy_classes", "toy_numbers", "toy_choices", "toy_tags", "toy_spans"])
def test_a_fitted_head_answers_about_as_well_as_the_run_s(name: str, base: Path, load: Callable[[str], Any]) -> None:
    data = load(name)
    result = tune(base, data, get_method("lora"), replace(REGIME, early=()))
    embedding = to_embedding(result, "acme/toy-bert")
    outputs = 1 if data.kind == "multiple_choice" else data.num_labels
    names = data.label_names if data.kind in ("classification", "token_classification") else ()
    facts = {"metric": data.metric, "max_length": 32}
    blank = make_head(name, data.kind, names, [(np.zeros((outputs, WIDTH)), np.zeros(outputs))], facts=facts)
    tuned = Tuned.of(base, embedding, blank)
    head = fit_head(tuned, data, 200, 5_000)
    answers = replace(tuned, head=head).answers(data.validation)
    found = score(data.metric, gold_labels(data, data.validation), answers)["primary"]
    assert found > result.record.baseline
    assert found > result.record.scores["primary"] - 0.15
    assert 0 < head.facts["fitted"]["examples"] <= 200
