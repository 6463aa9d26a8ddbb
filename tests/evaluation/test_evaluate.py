"""Evaluation: hand-made truths whose reports are known, and the published one."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tupate_hub.errors import FormatError, UnknownName
from tupate_hub.evaluation.evaluate import difference, evaluate
from tupate_hub.evaluation.metrics import METRICS, bootstrap_interval
from tupate_hub.evaluation.truth import Truth, align, read_truth

SHARED = Path(__file__).parents[3] / "shared"
NAMES = ("a", "b", "c", "d")
SCORES = np.array([[1.0, 0.8, 0.6, 0.4], [0.5, 1.0, 0.7, 0.1], [0.2, 0.3, 1.0, 0.9], [0.4, 0.5, 0.6, 1.0]])


def square(scores, **changes):
    fields = {"targets": NAMES, "sources": NAMES, "baseline": np.full(4, 0.3), "metric": ("acc",) * 4}
    return Truth(scores=np.asarray(scores, dtype=float), **{**fields, **changes})


def test_the_truth_itself_is_the_perfect_prediction():
    report = evaluate(SCORES, square(SCORES), "oracle")
    assert report.targets == NAMES
    assert report.sources == (3, 3, 3, 3)
    assert report.picked == report.best == ("b", "c", "d", "c")
    for name, perfect in {"ndcg_rank": 1, "ndcg_score": 1, "regret@1": 0, "rank_of_best": 1, "spearman": 1}.items():
        np.testing.assert_allclose(report.values[name], perfect, err_msg=name)


def test_a_wrong_prediction_by_hand():
    report = evaluate(-SCORES, square(SCORES))
    assert report.picked == ("d", "d", "a", "a")
    np.testing.assert_allclose(report.values["regret@1"], [40, 60, 70, 20])
    np.testing.assert_allclose(report.values["regret@1_percent"], [50, 100 * 6 / 7, 100 * 7 / 9, 100 / 3])
    np.testing.assert_allclose(report.values["regret@3"], 0)
    np.testing.assert_allclose(report.values["rank_of_best"], 3)
    np.testing.assert_allclose(report.values["spearman"], -1)


def test_the_diagonal_is_never_a_source():
    tempting = SCORES + 100 * np.eye(4)
    report = evaluate(tempting, square(SCORES))
    assert report.picked == report.best
    changed = SCORES.copy()
    np.fill_diagonal(changed, np.nan)
    np.testing.assert_array_equal(report.values["ndcg_rank"], evaluate(SCORES, square(changed)).values["ndcg_rank"])


def test_points_are_the_same_in_either_unit():
    first, second = evaluate(-SCORES, square(SCORES)), evaluate(-SCORES, square(100 * SCORES))
    for metric in METRICS:
        np.testing.assert_allclose(first.values[metric], second.values[metric], err_msg=metric)


def test_a_predictor_may_be_a_function_of_the_truth():
    truth = square(SCORES)
    given = evaluate(lambda seen: -seen.scores, truth)
    np.testing.assert_array_equal(given.values["spearman"], evaluate(-SCORES, truth).values["spearman"])


def test_sources_and_targets_need_not_be_the_same():
    truth = square(SCORES[:2, 1:], targets=("a", "x"), sources=NAMES[1:], baseline=np.ones(2), metric=("", ""))
    assert evaluate(np.zeros((2, 3)), truth).sources == (3, 3)


def test_absent_cells_are_not_ranked_and_may_lack_a_prediction():
    scores, predicted = SCORES.copy(), SCORES.copy()
    scores[0, 3] = predicted[0, 3] = np.nan
    assert evaluate(predicted, square(scores)).sources == (2, 3, 3, 3)


def test_targets_with_nothing_to_choose_from_are_left_out_by_name():
    scores = SCORES.copy()
    scores[0, 1:] = np.nan
    scores[1, 2:] = np.nan
    report = evaluate(SCORES, square(scores))
    assert report.targets == ("c", "d")
    assert report.left_out == {
        "a": "no other tasks were measured as its sources: two are needed",
        "b": "1 other task was measured as its sources: two are needed",
    }


def test_nothing_to_rank_is_refused():
    with pytest.raises(FormatError, match="nothing to rank"):
        evaluate(SCORES, square(np.where(np.eye(4) > 0, SCORES, np.nan)))


def test_a_missing_prediction_is_refused_by_name():
    predicted = SCORES.copy()
    predicted[2, 0] = np.nan
    with pytest.raises(FormatError, match="prediction for 'c' is NaN"):
        evaluate(predicted, square(SCORES))


def test_another_shape_is_refused():
    with pytest.raises(FormatError, match=r"shape \(3, 4\) does not fit a truth of shape \(4, 4\)"):
        evaluate(SCORES[:3], square(SCORES))


def test_summaries_are_mean_spread_and_interval():
    report = evaluate(-SCORES, square(SCORES), seed=5)
    losses = np.array([40.0, 60.0, 70.0, 20.0])
    summary = report.summary("regret@1")
    assert summary.mean == pytest.approx(losses.mean())
    assert summary.spread == pytest.approx(losses.std(ddof=1))
    assert (summary.low, summary.high) == pytest.approx(bootstrap_interval(losses, seed=5))
    assert summary.targets == 4


def test_a_metric_without_a_value_on_a_target_is_averaged_over_the_others():
    scores = SCORES.copy()
    scores[0] = [1.0, 0.0, -0.2, -0.4]
    report = evaluate(-scores, square(scores))
    assert np.isnan(report.values["regret@1_percent"][0])
    assert report.summary("regret@1_percent").targets == 3
    assert report.summary("regret@1").targets == 4


def test_an_unknown_metric_lists_the_known():
    report = evaluate(SCORES, square(SCORES))
    with pytest.raises(UnknownName) as caught:
        report.summary("mrr")
    assert "ndcg_rank" in caught.value.hint


def test_the_report_is_plain_json():
    scores = SCORES.copy()
    scores[0] = [1.0, 0.0, -0.2, -0.4]
    written = evaluate(-scores, square(scores), "worst").as_dict()
    assert json.loads(json.dumps(written, allow_nan=False)) == written
    assert written["predictor"] == "worst"
    assert set(written["metrics"]) == set(METRICS)
    assert set(written["metrics"]["spearman"]) == {"mean", "spread", "low", "high", "targets"}
    assert written["targets"][0]["regret@1_percent"] is None
    assert written["targets"][1] | {"target": "b", "sources": 3, "picked": "d", "best": "c"} == written["targets"][1]


def test_a_single_target_has_no_interval():
    truth = square(SCORES[:1], targets=("a",), baseline=np.ones(1), metric=("",))
    summary = evaluate(SCORES[:1], truth).as_dict()["metrics"]["ndcg_rank"]
    assert summary == {"mean": 1.0, "spread": None, "low": None, "high": None, "targets": 1}


def test_differences_are_paired():
    truth = square(SCORES)
    best, worst = evaluate(SCORES, truth), evaluate(-SCORES, truth)
    gap = difference(best, worst, "spearman")
    assert (gap.mean, gap.low, gap.high) == pytest.approx((2, 2, 2))
    assert difference(worst, best, "regret@1").mean == pytest.approx(47.5)
    assert difference(best, best).mean == 0


def test_reports_on_other_targets_are_not_compared():
    scores = SCORES.copy()
    scores[0, 1] = np.nan
    with pytest.raises(FormatError, match="not judged on the same"):
        difference(evaluate(SCORES, square(SCORES)), evaluate(SCORES, square(scores)))


def _prompts(suffix, width):
    found = {}
    for folder in sorted((SHARED / "adapters").glob(f"*__*Prompt{suffix}")):
        with zipfile.ZipFile(folder / "task_prompt") as archive:
            (member,) = [name for name in archive.namelist() if name.endswith("data/0")]
            rows = np.frombuffer(archive.read(member), "<f4").reshape(-1, width).astype(np.float64)
        found[folder.name.rpartition("__")[2].removesuffix(f"Prompt{suffix}")] = rows
    return found


@pytest.mark.skipif(not (SHARED / "truth").is_dir(), reason="the published prompts and results are not here")
@pytest.mark.parametrize(
    ("table", "suffix", "width", "mean", "flat", "chance"),
    [("roberta_base", "Roberta", 768, 0.793, 0.653, 0.535), ("t5_small", "T5Small", 512, 0.822, 0.683, 0.496)],
)
def test_published_prompts_rank_as_known(table, suffix, width, mean, flat, chance):
    truth, prompts = read_truth(SHARED / "truth" / f"su2022_prompt_{table}.csv"), _prompts(suffix, width)
    for pool, expected in ((lambda rows: rows.mean(axis=0), mean), (np.ravel, flat), (lambda _: np.ones(1), chance)):
        vectors = np.stack([pool(rows) for rows in prompts.values()])
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        report = evaluate(align(truth, list(prompts), units @ units.T), truth)
        assert report.summary("ndcg_rank").mean == pytest.approx(expected, abs=0.01)
