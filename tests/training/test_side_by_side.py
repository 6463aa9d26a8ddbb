"""Runs side by side: each does what it would do alone, for every kind of task, and none disturbs another."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toys import REGIME, TASKS

from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import SpaceMismatch
from tupate_hub.training.methods import get_method
from tupate_hub.training.model import is_head
from tupate_hub.training.protocol import Protocol
from tupate_hub.training.record import to_embedding
from tupate_hub.training.regime import Setup
from tupate_hub.training.run import Run
from tupate_hub.training.side_by_side import Stack, score_side_by_side
from tupate_hub.training.transfer import measure, measure_side_by_side
from tupate_hub.training.tuner import score_on_the_way
from tupate_hub.training.warmstart import Places

SHORT = dataclasses.replace(REGIME, steps=8)
LORA = get_method("lora")


@pytest.fixture(scope="module")
def source(tuned: Any) -> TaskEmbedding:
    """A full run of toy_numbers."""
    return to_embedding(tuned("toy_numbers"), "acme/toy-bert")


def starts(base: Path, data: Any, source: TaskEmbedding, method: Any = LORA) -> list[dict[str, Any]]:
    """From nothing, from the source, and from twice its values."""
    filled = Places.of_run(base, data, method, SHORT.init_seed).filled_by(source)
    return [{}, filled, {name: 2 * array for name, array in filled.items()}]


def alone(base: Path, data: Any, start: Any, method: Any = LORA) -> Run:
    run = Run(base, data, method, SHORT, Setup(start=start), None)
    run.model.train()
    for _ in run.advance(lambda steps, total: steps, lambda *_: None):
        pass
    return run


@pytest.mark.parametrize("task", TASKS)
def test_each_run_learns_what_it_learns_alone(base: Path, load: Any, source: TaskEmbedding, task: str) -> None:
    """In float32, to rounding: the sums of a product have another order in a stack.

    A bias that moves all of a softmax's inputs alike has no gradient, and Adam makes steps of what rounding leaves.
    """
    data = load(task)
    stack = Stack(Run(base, data, LORA, SHORT, Setup(), None), starts(base, data, source))
    first = {name: value.detach().clone() for name, value in stack.tuned.items()}
    assert list(stack.advance(lambda steps, total: steps)) == list(range(1, SHORT.steps + 1))
    for place, start in enumerate(starts(base, data, source)):
        run = alone(base, data, start)
        for name, value in run.model.named_parameters():
            if value.requires_grad and not (is_head(name) and name.endswith("bias")):
                np.testing.assert_allclose(stack.tuned[name][place].detach(), value.detach(), rtol=0, atol=2e-4)
                assert not torch.allclose(first[name][place], value)


@pytest.mark.parametrize("task", TASKS)
def test_each_run_scores_as_it_does_alone(base: Path, load: Any, source: TaskEmbedding, task: str) -> None:
    data, at = load(task), (3, 8)
    got = list(score_side_by_side(base, data, LORA, SHORT, at, starts(base, data, source)))
    assert [(one.place, one.steps) for one in got] == [(place, step) for step in at for place in range(3)]
    for place, start in enumerate(starts(base, data, source)):
        expected = dict(score_on_the_way(base, data, LORA, SHORT, at, setup=Setup(start=start)))
        mine = {one.steps: one.values for one in got if one.place == place}
        for step in at:
            assert mine[step] == pytest.approx(expected[step], abs=0.02)  # one example near the border


def test_biases_which_are_kept_as_differences_too(base: Path, load: Any) -> None:
    data, method = load("toy_classes"), get_method("bitfit")
    moved = alone(base, data, {}, method)
    drawn = Run(base, data, method, SHORT, Setup(), None)
    start = {
        name: (value.detach() - drawn.origin[name]).numpy()
        for name, value in moved.model.named_parameters()
        if value.requires_grad and name in drawn.origin and not name.startswith("heads.")
    }
    stack = Stack(drawn, [{}, start])
    for name in start:
        np.testing.assert_allclose(
            stack.tuned[name][1].detach(), dict(moved.model.named_parameters())[name].detach(), rtol=0, atol=1e-6
        )


def test_a_run_that_breaks_has_no_scores_and_leaves_the_others_alone(
    base: Path, load: Any, source: TaskEmbedding
) -> None:
    data = load("toy_classes")
    well = starts(base, data, source)
    broken = {name: np.full_like(array, np.nan) for name, array in well[1].items()}
    got = list(score_side_by_side(base, data, LORA, SHORT, (8,), [well[0], broken, well[2]]))
    without = list(score_side_by_side(base, data, LORA, SHORT, (8,), [well[0], well[2]]))
    assert [one.place for one in got] == [0, 2]
    for mine, theirs in zip(got, without, strict=True):
        assert mine.values == pytest.approx(theirs.values, abs=0.02)


def test_transfer_is_measured_from_several_sources_at_once(
    base: Path, load: Any, source: TaskEmbedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = Protocol.regime
    monkeypatch.setattr(Protocol, "regime", lambda *given: dataclasses.replace(usual(*given), precision="float32"))
    data, plan = load("toy_choices"), Protocol("short", 48, 4, (2, 4), scored_on=30)
    together = measure_side_by_side(base, data, LORA, plan, 1, [None, source])
    for given, scores in zip((None, source), together, strict=True):
        expected = list(measure(base, data, LORA, plan, 1, given))
        assert [one.steps for one in scores] == [one.steps for one in expected]
        assert [one.value for one in scores] == pytest.approx([one.value for one in expected], abs=0.04)  # one example
        assert 0 < scores[0].seconds < scores[1].seconds
    with pytest.raises(SpaceMismatch):
        measure_side_by_side(base, data, get_method("prefix"), plan, 1, [None, source])
