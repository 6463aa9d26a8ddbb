"""Measured transfer: what a protocol cuts, what two runs of a seed share, and the arithmetic of their difference."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import REGIME

from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import SpaceMismatch, TupateHubError
from tupate_hub.training import run as running
from tupate_hub.training.methods import get_method
from tupate_hub.training.model import is_head, tuned_state
from tupate_hub.training.protocol import PROTOCOLS, Protocol, protocol_for, until_converged
from tupate_hub.training.record import to_embedding
from tupate_hub.training.regime import Setup
from tupate_hub.training.transfer import (
    Comparison,
    Score,
    compared,
    gains,
    measure,
    transfer_row,
)
from tupate_hub.training.tuner import score_on_the_way
from tupate_hub.training.warmstart import method_of

BASE_ID = "acme/toy-bert"
SHORT = Protocol("short", 48, 4, (2, 4), scored_on=30)
FEW_SHOT = PROTOCOLS["few-shot"]


@pytest.fixture(scope="module")
def source(tuned: Any) -> TaskEmbedding:
    """A full run of toy_numbers."""
    return to_embedding(tuned("toy_numbers"), BASE_ID)


# --- what a protocol cuts --------------------------------------------------------------------------------------


def test_each_seed_draws_examples_of_its_own_with_the_classes_shares(load: Any) -> None:
    data = load("toy_classes")
    cuts = [FEW_SHOT.cut(data, seed) for seed in (0, 0, 1)]
    assert [len(cut.train) for cut in cuts] == [200] * 3
    assert cuts[0].train == cuts[1].train != cuts[2].train
    share = Counter(row["label"] for row in data.train)[1] / len(data.train)
    for cut in cuts:
        assert Counter(row["label"] for row in cut.train)[1] == pytest.approx(200 * share, abs=1)


def test_every_seed_is_scored_on_the_same_examples(load: Any) -> None:
    data = load("toy_classes")
    plan = dataclasses.replace(FEW_SHOT, scored_on=50)
    assert plan.cut(data, 0).validation == plan.cut(data, 1).validation
    assert len(plan.cut(data, 0).validation) == 50
    assert FEW_SHOT.cut(data, 0).validation == data.validation  # fewer than 500


@pytest.mark.parametrize(("examples", "left"), [(None, 270), (1000, 270), (10, 10)])
def test_as_many_examples_as_the_protocol_says_or_there_are(load: Any, examples: int | None, left: int) -> None:
    data = load("toy_spans")
    assert len(data.train) == 270
    assert len(dataclasses.replace(FEW_SHOT, examples=examples).cut(data, 0).train) == left


def test_with_halves_all_examples_judge_and_none_has_taught(load: Any) -> None:
    halves, data = PROTOCOLS["few-shot-halves"], load("toy_spans")
    first, second, other = (halves.cut(data, seed) for seed in (0, 1, 2))
    assert (first.train, first.validation) == (second.validation, second.train)
    assert len(first.train) + len(first.validation) == halves.examples == 200
    assert not {one["context"] for one in first.train} & {one["context"] for one in first.validation}
    assert other.train != first.train  # the next two seeds draw anew
    row = transfer_row(scores(0.5, 0.8)[0], "sst2", data, halves, 1, "lora", "cpu", None)
    assert (row.examples, row.scored_on) == (100, 100)


@pytest.mark.parametrize("kind", ["classification", "regression", "extractive_qa", "multiple_choice"])
@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda one: one.name)
def test_every_run_makes_the_protocol_s_steps(protocol: Protocol, kind: str) -> None:
    regime = protocol.regime(kind, get_method("lora"), 3)
    assert (regime.steps, regime.seed, regime.init_seed, regime.early) == (protocol.steps, 3, 3, ())
    assert regime.most_epochs * 2 > protocol.steps  # no number of passes stops it
    assert protocol.score_at[-1] == protocol.steps
    small = {"extractive_qa": 8, "multiple_choice": 8}.get(kind, 16)
    assert regime.batch_size == (small if protocol.batch_size else 12 if small == 8 else 32)


def test_it_is_scored_where_the_protocol_says(base: Path, load: Any) -> None:
    totals = []

    def noting(steps: Any, total: int) -> Any:
        totals.append(total)
        return steps

    found = list(measure(base, load("toy_choices"), get_method("lora"), SHORT, 0, progress=noting))
    assert ([one.steps for one in found], totals) == ([2, 4], [4])
    assert found[0].seconds < found[1].seconds
    assert all(0 <= one.value <= 1 for one in found)


# --- what two runs of a seed share -----------------------------------------------------------------------------


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Of each run since: its parameters before the first step, and the inputs of its batches."""
    runs: list[dict[str, Any]] = []
    advance, collate = running.Run.advance, running.collate

    def noting_start(run: Any, *arguments: Any) -> Any:
        runs.append(
            {"start": {name: value.numpy().copy() for name, value in tuned_state(run.model).items()}, "fed": []}
        )
        return advance(run, *arguments)

    def noting_batches(features: Any, *arguments: Any) -> Any:
        batch = collate(features, *arguments)
        runs[-1]["fed"].append(batch["input_ids"].tolist())
        return batch

    monkeypatch.setattr(running.Run, "advance", noting_start)
    monkeypatch.setattr(running, "collate", noting_batches)
    return runs


def run(base: Path, load: Any, seed: int, source: TaskEmbedding | None = None) -> list[float]:
    method = get_method("lora") if source is None else method_of(source)
    return [one.value for one in measure(base, load("toy_classes"), method, SHORT, seed, source)]


def test_with_and_without_a_source_the_examples_their_order_and_the_head_are_the_same(
    base: Path, load: Any, source: TaskEmbedding, seen: Any
) -> None:
    run(base, load, 1)
    run(base, load, 1, source)
    without, with_source = seen
    assert len(without["fed"]) == SHORT.steps
    assert without["fed"] == with_source["fed"]
    heads = [name for name in without["start"] if is_head(name)]
    assert heads and set(without["start"]) == set(with_source["start"])
    for name in heads:
        np.testing.assert_array_equal(without["start"][name], with_source["start"][name])


def test_only_the_source_s_parameters_differ(
    base: Path, load: Any, source: TaskEmbedding, seen: Any, tuned: Any
) -> None:
    run(base, load, 1)
    run(base, load, 1, source)
    without, with_source = seen
    for name, array in tuned("toy_numbers").tensors.items():
        np.testing.assert_allclose(with_source["start"][name], array, rtol=0, atol=1e-6)
        assert not np.allclose(without["start"][name], array)


def test_another_seed_has_other_examples_another_order_and_another_head(base: Path, load: Any, seen: Any) -> None:
    run(base, load, 1)
    run(base, load, 2)
    first, second = seen
    assert first["fed"] != second["fed"]
    assert all(
        not np.array_equal(first["start"][name], second["start"][name])
        for name in first["start"]
        if is_head(name) and name.endswith("weight")
    )


def test_without_a_source_it_is_a_run_as_any_other(base: Path, load: Any) -> None:
    data, method = load("toy_classes"), get_method("lora")
    plain = score_on_the_way(
        base, SHORT.cut(data, 1), method, SHORT.regime(data.kind, method, 1), SHORT.score_at, setup=Setup(start={})
    )
    assert run(base, load, 1) == [scores["primary"] for _, scores in plain]
    assert run(base, load, 1) == run(base, load, 1)


def test_a_task_that_was_learned_already_gains(
    base: Path, load: Any, tuned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same task as its own source, where 40 steps learn it and four do not."""
    mine = to_embedding(tuned("toy_classes"), BASE_ID)
    plan = dataclasses.replace(SHORT, steps=12, score_at=(12,), scored_on=80)
    fast = {**dataclasses.asdict(REGIME), "steps": 12, "seed": 1, "init_seed": 1, "most_epochs": 1000}
    monkeypatch.setattr(Protocol, "regime", lambda *_: type(REGIME)(**fast))
    data = load("toy_classes")
    (ours,) = measure(base, data, method_of(mine), plan, 1, mine)
    (scratch,) = measure(base, data, method_of(mine), plan, 1)
    assert ours.value > scratch.value + 0.1


def test_a_source_of_another_method_is_refused(base: Path, load: Any, source: TaskEmbedding) -> None:
    with pytest.raises(SpaceMismatch, match="tuned by lora, the run is by prefix"):
        next(measure(base, load("toy_classes"), get_method("prefix"), SHORT, 0, source))


# --- a protocol of one's own -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("available", "asked", "name", "examples", "steps", "score_at"),
    [
        (5000, {"examples": 200}, "few-shot", 200, 150, (40, 150)),
        (200, {}, "few-shot", 200, 150, (40, 150)),
        (120, {}, "own", None, 150, (40, 150)),
        (5000, {"examples": 1000}, "limited", 1000, 300, (300,)),
        (600, {}, "own", None, 300, (300,)),
        (5000, {}, "full", None, 400, (400,)),
        (5000, {"examples": 2000}, "own", 2000, 400, (400,)),
        (5000, {"examples": 200, "steps": 300}, "own", 200, 300, (80, 300)),
        (5000, {"examples": 200, "score_at": (10,)}, "own", 200, 150, (10, 150)),
        (100, {"steps": 1}, "own", None, 1, (1,)),
    ],
)
def test_what_is_not_given_is_that_of_the_nearest(
    available: int, asked: Any, name: str, examples: int | None, steps: int, score_at: Any
) -> None:
    found = protocol_for(available, **asked)
    assert (found.name, found.examples, found.steps, found.score_at) == (name, examples, steps, score_at)
    assert (found.batch_size is None) == (steps == 400)


@pytest.mark.parametrize("late", [151, 0])
def test_no_score_after_the_last_step(late: int) -> None:
    with pytest.raises(TupateHubError, match=f"no score after {late} steps in a run of 150") as caught:
        protocol_for(100, score_at=(40, late))
    assert "`score_at=150`" in caught.value.hint


def test_to_convergence_is_four_times_as_long() -> None:
    assert until_converged(FEW_SHOT) == PROTOCOLS["few-shot-converged"]


# --- the arithmetic --------------------------------------------------------------------------------------------


def scores(*values: float, steps: tuple[int, ...] = (40, 150)) -> list[Score]:
    return [Score(at, value, 1.0) for at, value in zip(steps, values, strict=True)]


def test_runs_are_compared_at_equal_steps_and_the_last_with_the_converged_one() -> None:
    found = compared(7, scores(0.5, 0.8), scores(0.4, 0.7), scores(0.7, 0.75, steps=(300, 600)))
    assert found == [
        Comparison(7, 40, 0.5, 40, 0.4), Comparison(7, 150, 0.8, 150, 0.7), Comparison(7, 150, 0.8, 600, 0.75),
    ]  # fmt: skip
    assert len(compared(7, scores(0.5, 0.8), scores(0.4, 0.7))) == 2
    with pytest.raises(ValueError):
        compared(7, scores(0.5, 0.8), scores(0.4, steps=(40,)))


def test_the_standard_error_is_that_of_the_difference() -> None:
    """Scores that vary by tens of points from seed to seed, and differences that do not."""
    pairs = [(0.5, 0.4), (0.7, 0.58), (0.9, 0.82)]
    (gain,) = gains(Comparison(seed, 40, ours, 40, theirs) for seed, (ours, theirs) in enumerate(pairs))
    differences = np.array([0.1, 0.12, 0.08])
    assert gain.difference == pytest.approx(differences.mean())
    assert gain.standard_error == pytest.approx(differences.std(ddof=1) / np.sqrt(3))
    assert (gain.score, gain.scratch_score, gain.seeds) == (pytest.approx(0.7), pytest.approx(0.6), 3)


def test_one_seed_has_no_standard_error_and_each_point_is_its_own() -> None:
    found = gains(compared(0, scores(0.5, 0.8), scores(0.6, 0.7), scores(0.75, steps=(600,))))
    assert [(one.steps, one.scratch_steps, one.standard_error) for one in found] == [
        (40, 40, None), (150, 150, None), (150, 600, None),
    ]  # fmt: skip
    assert [one.difference for one in found] == pytest.approx([-0.1, 0.1, 0.05])


def test_a_row_says_how_it_was_made(load: Any) -> None:
    data = load("toy_classes")
    row = transfer_row(scores(0.5, 0.8)[1], "sst2", data, FEW_SHOT, 3, "lora", "cpu", 0.7)
    assert (row.source, row.target, row.score, row.baseline_score_without_transfer) == ("sst2", "toy_classes", 0.8, 0.7)
    assert (row.regime, row.seed, row.steps, row.metric) == ("few-shot", 3, 150, "accuracy")
    assert (row.examples, row.scored_on, row.method, row.device) == (200, 500, "lora", "cpu")
    assert row.torch.startswith("2.") and row.adapters and row.transformers
    whole = transfer_row(scores(0.5, 0.8)[0], "sst2", data, PROTOCOLS["limited"], 3, "lora", "cpu", None)
    assert (whole.examples, whole.baseline_score_without_transfer) == (len(data.train), None)
