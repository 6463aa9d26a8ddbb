"""Predictors by name and the report on them: shapes, what each may see, and the same cells for both sides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import LORA, TASKS, lora

from tupate_hub import Zoo
from tupate_hub.errors import UnknownName
from tupate_hub.evaluation.evaluate import evaluate
from tupate_hub.evaluation.predictors import PREDICTORS, Evidence, get_predictor, known_cells, output_scores
from tupate_hub.evaluation.report import (
    first_picks,
    first_reordered,
    judged,
    judged_together,
    per_target,
    share_of_the_way,
)
from tupate_hub.evaluation.truth import Truth

NAMES = tuple(name for name, *_ in TASKS)


def evidence(folder: Path, seed: int = 0, predictions: Path | None = None) -> Evidence:
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0.5, 0.9, (len(NAMES), len(NAMES)))
    truth = Truth(NAMES, NAMES, scores, np.full(len(NAMES), 0.6), ("accuracy",) * len(NAMES))
    return Evidence(truth, Zoo.open(folder), LORA.name, predictions)


@pytest.mark.parametrize("name", PREDICTORS)
def test_every_predictor_gives_a_number_or_none_for_each_pair(name: str, toy_zoo: Path) -> None:
    one = evidence(toy_zoo)
    found = PREDICTORS[name].compute(one)
    assert found.shape == one.truth.scores.shape
    assert not np.isinf(found).any()
    assert PREDICTORS[name].needs


@pytest.mark.parametrize("name", [name for name in PREDICTORS if "transfer" not in PREDICTORS[name].needs])
def test_what_looks_at_no_transfer_does_not_change_with_it(name: str, toy_zoo: Path) -> None:
    first, second = (PREDICTORS[name].compute(evidence(toy_zoo, seed)) for seed in (0, 1))
    np.testing.assert_allclose(first, second)


@pytest.mark.parametrize("name", ["source-mean", "strength", "gain"])
def test_what_looks_at_transfer_never_sees_its_own_target(name: str, toy_zoo: Path) -> None:
    one = evidence(toy_zoo)
    changed = one.truth.scores.copy()
    changed[2] = 1 - changed[2]
    other = replace(one, truth=replace(one.truth, scores=changed))
    np.testing.assert_allclose(PREDICTORS[name].compute(one)[2], PREDICTORS[name].compute(other)[2], atol=1e-9)


def test_an_unknown_predictor_is_told_the_known() -> None:
    with pytest.raises(UnknownName, match="Unknown predictor 'psychic'") as caught:
        get_predictor("psychic")
    assert "task-emb" in caught.value.hint


def test_measured_predictions_are_read_from_their_tables(toy_zoo: Path, tmp_path: Path) -> None:
    (tmp_path / "text-emb.csv").write_text("source,target,score\nimdb,sst2,0.9\nmnli,sst2,0.2\n")
    found = PREDICTORS["text-emb"].compute(evidence(toy_zoo, predictions=tmp_path))
    assert found[NAMES.index("sst2"), NAMES.index("imdb")] == 0.9
    assert np.isfinite(found).sum() == 2


def test_both_sides_are_judged_on_the_same_cells(toy_zoo: Path, tmp_path: Path) -> None:
    rows = [f"{source},sst2,{number}" for number, source in enumerate(("imdb", "mnli", "rte"))]
    (tmp_path / "text-emb.csv").write_text("\n".join(["source,target,score", *rows]) + "\n")
    found = judged(evidence(toy_zoo, predictions=tmp_path), ["text-emb", "update", "log-me"])
    assert set(found) == {"text-emb", "update"}  # log-me knows nothing here
    assert (found["text-emb"]["targets"], found["text-emb"]["sources"]) == (1, 3)
    assert found["update"]["against_default"]["ndcg_rank"]["mean"] == 0
    assert found["update"]["targets"] == len(NAMES)


def test_cells_that_are_not_known_are_no_candidates(toy_zoo: Path) -> None:
    truth = evidence(toy_zoo).truth
    prediction = np.full(truth.scores.shape, np.nan)
    prediction[1, :4], prediction[3, 0] = 1.0, 1.0
    known = known_cells(truth, prediction)
    assert known.targets == (NAMES[1],)
    assert known.candidates().sum() == 3


def test_first_picks_by_hand() -> None:
    scores = np.array([[np.nan, 0.7, 0.5], [0.4, np.nan, 0.3], [0.9, 0.8, np.nan]])
    truth = Truth(("a", "b", "c"), ("a", "b", "c"), scores, np.array([0.6, 0.5, 0.85]), ("acc",) * 3)
    found = first_picks(truth, np.array([[0, 2.0, 1], [2.0, 0, 1], [1.0, 2, 0]]))
    # gains of the picks: +10, -10, -5; the best: +10, -10, +5
    assert found == {
        "targets": 3,
        "helpable": 2,
        "helped": pytest.approx(1 / 3, abs=1e-4),
        "helped_of_helpable": 0.5,
        "gain": pytest.approx(-5 / 3, abs=1e-4),
        "best": pytest.approx(5 / 3, abs=1e-4),
    }


def test_targets_one_by_one(toy_zoo: Path) -> None:
    one = evidence(toy_zoo)
    rows = per_target(one, ["update"])
    assert [row["target"] for row in rows] == list(NAMES)
    for row in rows:
        assert row["best_score"] >= row["update_score"]
        assert row["update"] != row["target"] != row["best"]
    scores = PREDICTORS["update"].compute(one)
    whole = evaluate(scores, one.truth).summary("regret@3_percent").mean
    assert np.mean([row["update_regret@3_percent"] for row in rows]) == pytest.approx(whole, abs=1e-3)


def test_the_first_of_an_order_are_put_in_the_order_of_a_measurement() -> None:
    names = tuple("abcd")
    truth = Truth(names, names, np.where(np.eye(4, dtype=bool), np.nan, 0.5), np.full(4, 0.4), ("acc",) * 4)
    order = np.tile([4.0, 3, 2, 1], (4, 1))
    measured = np.array([[0.9, 0.1, 0.8, np.nan], [0.1, 0, 0.2, 0.9], [np.nan, 0.5, 0.6, 0.7], [0.2, 0.2, 0.1, 0]])
    found = first_reordered(truth, order, measured, 2)
    ranked = [[names[at] for at in np.argsort(-row) if np.isfinite(row[at])] for row in found]
    # no target is its own source; a stays before b with equal scores, and where a was not measured
    assert ranked == [["c", "b", "d"], ["c", "a", "d"], ["a", "b", "d"], ["a", "b", "c"]]
    np.testing.assert_array_equal(np.isnan(found), np.eye(4, dtype=bool))


def test_orders_are_compared_with_the_one_that_is_named() -> None:
    names = tuple("abc")
    scores = np.array([[np.nan, 0.7, 0.5], [0.4, np.nan, 0.3], [0.9, 0.8, np.nan]])
    truth = Truth(names, names, scores, np.full(3, 0.6), ("acc",) * 3)
    orders = {"best": np.nan_to_num(scores), "worst": -np.nan_to_num(scores)}
    found = judged_together(truth, orders, "worst")
    assert found["worst"]["against_default"]["ndcg_rank"]["mean"] == 0
    rose = found["best"]["metrics"]["ndcg_rank"]["mean"] - found["worst"]["metrics"]["ndcg_rank"]["mean"]
    assert found["best"]["against_default"]["ndcg_rank"]["mean"] == pytest.approx(rose, abs=1e-4) and rose > 0
    assert "against_default" not in judged_together(truth, orders)["best"]


def test_the_share_of_the_way() -> None:
    assert share_of_the_way(0.5, 0.5, 0.8) == 0
    assert share_of_the_way(0.8, 0.5, 0.8) == 1
    assert share_of_the_way(0.95, 0.5, 0.8) == pytest.approx(1.5)


def test_outputs_know_no_inputs() -> None:
    """W Wᵀ does not change when the inputs are turned: W Q Qᵀ Wᵀ = W Wᵀ."""
    one, other = lora("a", 1), lora("b", 2)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(6, 6)))[0].astype(np.float32)
    turned = replace(
        one,
        blocks=tuple(replace(block, parts={**block.parts, "A": block.parts["A"] @ turn}) for block in one.blocks),
    )
    scores = output_scores([one, turned, other])
    assert scores[0, 1] == pytest.approx(1, abs=1e-5)
    assert scores[0, 2] < 0.99
    np.testing.assert_allclose(scores, scores.T)
