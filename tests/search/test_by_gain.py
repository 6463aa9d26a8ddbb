"""By gain: similarity and strength together, forecasts from the registry, and the advice to start from nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import LORA, TASKS

from tupate_hub import View, Zoo
from tupate_hub.compare.noise import NoiseLevel
from tupate_hub.errors import FormatError, TupateHubError
from tupate_hub.evaluation.forecast import never_rising
from tupate_hub.search.by_gain import nearest, rank_by_gain, read_forecasts, read_gain

FORECAST = {"regime": "few-shot-40", "examples": 200, "steps": 40, "targets": 8, "constant": -1.0, "excess": 4.0,
            "strength": 0.5, "error": 2.0, "helped": 0.75, "gained": 3.0, "gained_low": 1.0, "gained_high": 5.0,
            "regrets": {"1": 2.0, "3": 1.0, "5": 0.5}}  # fmt: skip
NOISE = NoiseLevel(0.0, 0.1, 50)


def measured(folder: Path, strengths: dict[str, float], **gain: Any) -> Zoo:
    """The toy zoo with strengths of some tasks and the weights of a ranking by gain."""
    path = folder / "registry.json"
    registry = json.loads(path.read_text())
    for entry in registry["embeddings"]:
        if entry["space"] == LORA.name and entry["task"] in strengths:
            entry["strength"] = {"value": strengths[entry["task"]], "error": 0.2, "targets": 5}
    weights = {"affinity": 0.3, "strength": 1.0, "targets": 8, "forecasts": [FORECAST]}
    registry["spaces"][LORA.name]["gain"] = {**weights, **gain}
    path.write_text(json.dumps(registry))
    return Zoo.open(folder)


def ranked(zoo: Zoo, **options: Any) -> Any:
    return rank_by_gain(zoo, replace(zoo.similar("sst2"), noise=NOISE), **options)


def test_without_affinity_the_strongest_is_first(toy_zoo: Path) -> None:
    strengths = {"mnli": 2.0, "squad": 1.0, "imdb": -1.0}
    found = ranked(measured(toy_zoo, strengths, affinity=0.0))
    assert [one.neighbor.task for one in found.prospects][:2] == ["mnli", "squad"]
    assert found.prospects[-1].neighbor.task == "imdb"
    assert [one.neighbor.rank for one in found.prospects] == list(range(1, len(TASKS)))
    assert [one.task for one in found.ranking] == [one.neighbor.task for one in found.prospects]


def test_without_strength_the_order_is_that_of_the_similarity(toy_zoo: Path) -> None:
    zoo = measured(toy_zoo, {"mnli": 9.0}, strength=0.0)
    assert [one.task for one in ranked(zoo).ranking] == [one.task for one in zoo.similar("sst2")]


def test_what_kinds_add_moves_the_sources_of_a_kind(toy_zoo: Path) -> None:
    plain = measured(toy_zoo, {}, affinity=0.0)
    kind, other = (plain.registry.tasks[task].kind for task in ("sst2", "squad"))
    zoo = measured(toy_zoo, {}, affinity=0.0, kinds={kind: {other: 2.0}})
    found = ranked(zoo)
    first = found.prospects[0]
    assert (first.neighbor.kind, first.effect) == (other, 2.0)
    assert {one.effect for one in found.prospects if one.neighbor.kind != other} == {0.0}
    assert {one.effect for one in ranked(zoo, kind="regression").prospects} == {0.0}
    stranger = replace(zoo.similar("sst2"), noise=NOISE, itself=None)
    assert {one.effect for one in rank_by_gain(zoo, stranger).prospects} == {0.0}
    assert {one.effect for one in rank_by_gain(zoo, stranger, kind=kind).prospects} == {0.0, 2.0}


def test_the_forecast_is_that_of_score_and_strength_in_the_order_of_the_ranking(toy_zoo: Path) -> None:
    found = ranked(measured(toy_zoo, {"mnli": 2.0}, forecasts=[{**FORECAST, "strength": -2.0}]))
    fitted = []
    for one in found.prospects:
        strength = 2.0 if one.neighbor.task == "mnli" else 0.0
        assert (one.strength, one.error) == (strength, 0.2 if strength else None)
        fitted.append(-1 + 4 * NOISE.excess(one.neighbor.score) - 2 * strength)
    promised = [one.expected.points for one in found.prospects if one.expected is not None]
    assert fitted != sorted(fitted, reverse=True)
    assert promised == pytest.approx(never_rising(fitted))


@pytest.mark.parametrize("task", ["sst2", "squad", "stsb", "copa", "wnut17_ner"])
def test_nothing_is_promised_more_than_what_stands_before_it(task: str) -> None:
    zoo = Zoo.open()
    promised = [one.expected.points for one in rank_by_gain(zoo, zoo.similar(task)).prospects if one.expected]
    assert len(promised) > 50
    assert all(before >= after - 1e-9 for before, after in zip(promised, promised[1:], strict=False))


def test_where_nothing_is_expected_the_advice_is_to_start_from_nothing(toy_zoo: Path) -> None:
    zoo = measured(toy_zoo, {}, forecasts=[{**FORECAST, "constant": -50.0}])
    assert ranked(zoo).start is None
    better = measured(toy_zoo, {}, forecasts=[{**FORECAST, "constant": 50.0}])
    assert ranked(better).start is not None


def test_the_start_is_neither_the_data_itself_nor_a_poor_run(toy_zoo: Path) -> None:
    found = ranked(measured(toy_zoo, {"imdb": 9.0, "rte": 8.0}, affinity=0.0, forecasts=[]))
    assert [one.neighbor.task for one in found.prospects][:2] == ["imdb", "rte"]  # the same data, and weak
    assert found.start is not None and found.start.neighbor.task not in ("imdb", "rte")
    assert found.forecast is None and found.start.expected is None


def test_k_keeps_the_first_and_the_advice(toy_zoo: Path) -> None:
    zoo = measured(toy_zoo, {"imdb": 9.0, "rte": 8.0}, affinity=0.0, forecasts=[{**FORECAST, "constant": 50.0}])
    few, all_ = ranked(zoo, k=2), ranked(zoo)
    assert few.prospects == all_.prospects[:2]  # the same data, and weak
    assert few.start is not None and few.start == all_.start


def test_the_regime_nearest_to_the_users_examples_is_taken(toy_zoo: Path) -> None:
    rows = [{**FORECAST, "examples": 200, "steps": 40}, {**FORECAST, "examples": 200, "steps": 150},
            {**FORECAST, "examples": 1000, "steps": 300}]  # fmt: skip
    known = read_forecasts(measured(toy_zoo, {}, forecasts=rows).registry.space(LORA.name))
    assert [nearest(known, count).steps for count in (50, 200, 440, 460, 10**6)] == [150, 150, 150, 300, 300]
    assert nearest((), 100) is None


def test_a_space_without_measured_transfer_says_so(toy_zoo: Path) -> None:
    with pytest.raises(TupateHubError, match="No transfer was measured in the space"):
        ranked(Zoo.open(toy_zoo))


def test_another_similarity_is_refused(toy_zoo: Path) -> None:
    zoo = measured(toy_zoo, {})
    with pytest.raises(TupateHubError, match="fitted for 'update' alone"):
        rank_by_gain(zoo, zoo.similar("sst2", view=View("update", True)))


@pytest.mark.parametrize(
    "gain",
    [
        {"affinity": "much"},
        {"kinds": []},
        {"kinds": {"a": 1}},
        {"kinds": {"a": {"b": "c"}}},
        {"forecasts": 3},
        {"forecasts": [{}]},
        {"forecasts": [7]},
    ],
)
def test_a_registry_that_says_nonsense_is_refused(gain: dict[str, Any], toy_zoo: Path) -> None:
    zoo = measured(toy_zoo, {}, **gain)
    with pytest.raises(FormatError):
        read_gain(zoo.registry.space(LORA.name))
        read_forecasts(zoo.registry.space(LORA.name))


# --- the command -----------------------------------------------------------------------------------------------


def test_the_command_shows_gains(toy_zoo: Path, invoke: Any) -> None:
    measured(toy_zoo, {"mnli": 2.0})
    result = invoke("similar", "sst2", "--registry", toy_zoo, "--rank-by", "gain", "-k", "3")
    assert result.code == 0
    header, *rows = result.out.splitlines()
    assert header.split("\t")[:5] == ["rank", "task", "score", "strength", "expected gain"]
    assert len(rows) == 3
    document = invoke("similar", "sst2", "--registry", toy_zoo, "--rank-by", "gain", "--json").json()
    assert document["rank_by"] == "gain"
    assert [row["task"] for row in document["neighbors"]][:3] == [row.split("\t")[1] for row in rows]


def test_longer_runs_from_nothing_are_told_of(toy_zoo: Path, invoke: Any) -> None:
    longer = {"steps": 160, "targets": 8, "helped": 0.5, "gained": 1.5, "gained_low": -1.0, "gained_high": 4.0}
    measured(toy_zoo, {"mnli": 2.0}, forecasts=[{**FORECAST, "converged": longer}])
    document = invoke("similar", "sst2", "--registry", toy_zoo, "--rank-by", "gain", "--json").json()
    assert document["forecast"]["converged"] == longer
    told = [sentence for sentence in document["sentences"] if sentence.startswith("Against")]
    assert told == [
        "Against 160 steps from nothing, such a first pick was ahead on 50% of 8 targets, by +1.5 points on average "
        "(-1.0 to +4.0)."
    ]


def test_the_bundled_zoo_has_strengths_and_forecasts(invoke: Any) -> None:
    document = invoke("similar", "sst2", "--rank-by", "gain", "-k", "100", "--json").json()
    assert document["start"] in ("sst5", "movie_reviews", "imdb", "tweet_sentiment", "mpqa", "customer_reviews")
    assert document["forecast"]["targets"] >= 4
    assert any("beat starting from nothing" in sentence for sentence in document["sentences"])
    unrelated = next(one for one in document["neighbors"] if one["score"] < document["noise"]["median"])
    assert unrelated["expected"]["points"] < document["neighbors"][0]["expected"]["points"]


def test_the_command_says_where_nothing_was_measured(toy_zoo: Path, invoke: Any) -> None:
    result = invoke("similar", "sst2", "--registry", toy_zoo, "--rank-by", "gain")
    assert (result.code, result.out) == (2, "")
    assert "No transfer was measured" in result.err
