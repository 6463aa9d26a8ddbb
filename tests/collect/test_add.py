"""Addition: adapters into a registry of one's own, which is valid and the same whatever order or accident."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import BASE, LORA, TASKS, input_covariance, lora, peft
from damage import snapshot

import tupate_hub.collect.add
from tupate_hub import Zoo
from tupate_hub.collect.add import Additions, add, add_embeddings, open_or_start
from tupate_hub.collect.add_all import add_all
from tupate_hub.collect.keep import keep_input_covariance, keep_pair_index
from tupate_hub.compare.view import View
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import FormatError, TargetExists, TupateHubError, UnknownName, WorkFailed
from tupate_hub.space import Space


def sound(zoo: Zoo) -> Zoo:
    """The zoo as it lies on disk, which must be valid and the one that was returned."""
    found = Zoo.open(zoo.root)
    assert found.registry == zoo.registry
    assert found.verify() == []
    return found


def located(*embeddings: TaskEmbedding) -> list[tuple[Path, TaskEmbedding]]:
    return [(Path(f"from/{number}"), one) for number, one in enumerate(embeddings)]


def on(base: str, one: TaskEmbedding) -> TaskEmbedding:
    return replace(one, space=Space(base, one.space.method), facts={"source": {"kind": "file", "notes": ["n"]}})


# --- one -------------------------------------------------------------------------------------------------------


def test_the_first_addition_makes_the_registry(tmp_path: Path) -> None:
    start = open_or_start(tmp_path / "zoo")
    assert not (tmp_path / "zoo").exists()
    zoo, one = add(start, peft(tmp_path / "reviews"))
    assert (one.task, one.space) == ("reviews", LORA)
    assert set(snapshot(tmp_path / "zoo")) == {".lock", "registry.json", "zoo/tiny-bert/lora/reviews.safetensors"}
    (entry,) = sound(zoo).registry.entries
    assert (entry.task, entry.space, zoo.registry.default_space) == ("reviews", LORA.name, LORA.name)
    assert entry.source["kind"] == "file" and entry.source["layout"] == "peft"
    assert len(entry.source["sha256"]) == 64
    assert zoo.registry.tasks["reviews"].title == "reviews"


def test_what_was_added_is_what_was_read(tmp_path: Path) -> None:
    zoo, one = add(open_or_start(tmp_path / "zoo"), peft(tmp_path / "reviews"))
    stored = sound(zoo).embedding("reviews")
    np.testing.assert_array_equal(stored.vector(), one.vector())
    assert stored.facts == one.facts
    assert [block.scale for block in stored.blocks] == [block.scale for block in one.blocks]


def test_a_second_addition_leaves_the_first_alone(tmp_path: Path) -> None:
    zoo, _ = add(open_or_start(tmp_path / "zoo"), peft(tmp_path / "one"))
    before = (zoo.root / "zoo/tiny-bert/lora/one.safetensors").stat()
    zoo, _ = add(zoo, peft(tmp_path / "two", scale=1.0))
    assert [entry.task for entry in sound(zoo).registry.entries] == ["one", "two"]
    assert (zoo.root / "zoo/tiny-bert/lora/one.safetensors").stat().st_mtime_ns == before.st_mtime_ns


def test_the_same_task_twice_is_refused(tmp_path: Path) -> None:
    zoo, _ = add(open_or_start(tmp_path / "zoo"), peft(tmp_path / "reviews"))
    before = snapshot(zoo.root)
    other = peft(tmp_path / "other", scale=1.0)
    with pytest.raises(TargetExists, match="'reviews' is in space 'tiny-bert/lora' already") as caught:
        add(zoo, other, task="Reviews")
    assert "`force=True`" in caught.value.hint and "`task`" in caught.value.hint
    assert snapshot(zoo.root) == before


def test_force_replaces(tmp_path: Path) -> None:
    zoo, _ = add(open_or_start(tmp_path / "zoo"), peft(tmp_path / "reviews"))
    zoo, _ = add(zoo, peft(tmp_path / "other", scale=1.0), task="reviews", force=True)
    (entry,) = sound(zoo).registry.entries
    assert sound(zoo).embedding("reviews").blocks[0].scale == 1.0
    assert entry.sha256 == zoo.registry.entries[0].sha256


def test_the_same_task_in_another_space_is_another_embedding(tmp_path: Path) -> None:
    zoo, _ = add(open_or_start(tmp_path / "zoo"), peft(tmp_path / "reviews"))
    zoo, _ = add(zoo, tmp_path / "reviews", base="acme/large-bert")
    assert {(entry.task, entry.space) for entry in sound(zoo).registry.entries} == {
        ("reviews", "tiny-bert/lora"),
        ("reviews", "large-bert/lora"),
    }
    assert list(zoo.registry.tasks) == ["reviews"]
    assert zoo.registry.default_space == "tiny-bert/lora"


def test_a_known_task_is_found_by_its_alias_and_keeps_what_is_known_of_it(toy_zoo: Path, tmp_path: Path) -> None:
    before = Zoo.open(toy_zoo)
    zoo, one = add(before, peft(tmp_path / "x"), task="SST-2", force=True)
    assert one.task == "sst2"
    assert zoo.registry.tasks == before.registry.tasks
    assert len(zoo.registry.entries) == len(before.registry.entries)
    assert zoo.registry.entry("sst2", LORA.name).source["layout"] == "peft"
    np.testing.assert_array_equal(Zoo.open(toy_zoo).embedding("glue/sst2").vector(), one.vector())


def test_an_addition_makes_the_spaces_index_old(toy_zoo: Path, tmp_path: Path) -> None:
    """The index no longer fits; it must not be used, nor held against the zoo."""
    zoo, _ = add(Zoo.open(toy_zoo), peft(tmp_path / "reviews"))
    found = sound(zoo)
    assert found.registry.space(LORA.name).index == {}
    assert found.registry.space("tiny-bert/prompt").index
    assert found.pair_index(LORA.name, "update").scores().shape == (len(TASKS) + 1,) * 2
    assert "reviews" in {one.task for one in found.similar("imdb")}


@pytest.mark.parametrize("wrong", ["empty", "zero"])
def test_what_cannot_be_read_changes_nothing(wrong: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    peft(tmp_path / "zero", lora_alpha=0)
    with pytest.raises(FormatError):
        add(open_or_start(tmp_path / "zoo"), tmp_path / wrong)
    assert not (tmp_path / "zoo").exists()


# --- many ------------------------------------------------------------------------------------------------------


def test_many_are_added_and_the_others_say_why(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/adapter_config.json").write_text("{")
    paths = [peft(tmp_path / "a"), tmp_path / "broken", peft(tmp_path / "idle", lora_alpha=0), peft(tmp_path / "b")]
    zoo, became = add_all(open_or_start(tmp_path / "zoo"), paths, [path.name for path in paths])
    assert [entry.task for entry in sound(zoo).registry.entries] == ["a", "b"]
    assert [one.path for one in became.rejected] == [tmp_path / "broken", tmp_path / "idle"]
    assert "not JSON" in became.rejected[0].reason
    assert "never trained" in became.rejected[1].reason


def test_a_base_model_for_those_that_name_none(tmp_path: Path) -> None:
    paths = [peft(tmp_path / "named"), peft(tmp_path / "unnamed", base_model_name_or_path="/local/model")]
    zoo, became = add_all(open_or_start(tmp_path / "one"), paths, ["a", "b"])
    assert [entry.task for entry in sound(zoo).registry.entries] == ["a"]
    assert "`base=MODEL_ID`" in became.rejected[0].hint
    zoo, became = add_all(open_or_start(tmp_path / "two"), paths, ["a", "b"], base="acme/said")
    assert became.rejected == ()
    assert {zoo.registry.spaces[entry.space].base: entry.task for entry in sound(zoo).registry.entries} == {
        BASE: "a", "acme/said": "b",
    }  # fmt: skip


def test_what_is_there_already_is_refused_with_its_path(tmp_path: Path) -> None:
    paths = [peft(tmp_path / name) for name in ("a", "b")]
    zoo, _ = add(open_or_start(tmp_path / "zoo"), paths[0])
    shutil.rmtree(paths[0])
    peft(paths[0], scale=3.0)
    zoo, became = add_all(zoo, paths, ["a", "b"])
    assert [(one.path, "already" in one.reason) for one in became.rejected] == [(paths[0], True)]
    assert became.added == ((paths[1], "b", "tiny-bert/lora"),)
    zoo, became = add_all(zoo, paths, ["a", "b"], force=True)
    assert became.rejected == () and len(sound(zoo).registry.entries) == 2


def test_names_that_fold_to_one_within_a_run(tmp_path: Path) -> None:
    """`my task`, `my-task` and `My_Task` are one name to a registry: the first wins, and the file stays valid."""
    paths = [peft(tmp_path / str(number), scale=1.0 + number) for number in range(3)]
    zoo, became = add_all(open_or_start(tmp_path / "zoo"), paths, ["my task", "my-task", "My_Task"], force=True)
    assert [entry.task for entry in sound(zoo).registry.entries] == ["my-task"]
    assert [one.path for one in became.rejected] == paths[1:]
    assert all(one.hint == "give another `task`" for one in became.rejected)
    assert sound(zoo).embedding("MY TASK").blocks[0].scale == 1.0


def test_many_are_written_some_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that memory does not grow with them, and what was written stays where the rest fails."""
    monkeypatch.setattr("tupate_hub.collect.add_all.AT_ONCE", 2)
    paths = [peft(tmp_path / str(number), scale=1.0 + number) for number in range(5)]

    def failing() -> Iterator[Path]:
        yield from paths[:3]
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        add_all(open_or_start(tmp_path / "zoo"), failing(), list("abcde"))
    assert [entry.task for entry in sound(Zoo.open(tmp_path / "zoo")).registry.entries] == ["a", "b", "c"]
    zoo, became = add_all(open_or_start(tmp_path / "zoo"), paths, list("abcde"))
    assert [task for _, task, _ in became.kept] == ["a", "b", "c"]
    assert [task for _, task, _ in became.added] == ["d", "e"]
    assert [entry.task for entry in sound(zoo).registry.entries] == list("abcde")


def prompt_file(folder: Path, seed: int) -> Path:
    """A soft prompt whose folder says its task."""
    folder.mkdir(parents=True)
    np.save(folder / "task_prompt.npy", np.random.default_rng(seed).standard_normal((4, 6)).astype(np.float32))
    return folder / "task_prompt.npy"


def test_what_a_file_says_of_its_task_comes_before_its_way(tmp_path: Path) -> None:
    paths = [prompt_file(tmp_path / name, n) for n, name in enumerate(("IMDBPromptRoberta", "x__SST2PromptBert", "y"))]
    zoo, became = add_all(open_or_start(tmp_path / "zoo"), paths, ["a", "b", "c"], base=BASE)
    assert became.rejected == ()
    assert [entry.task for entry in sound(zoo).registry.entries] == ["IMDB", "SST2", "c"]


def test_two_files_that_say_the_same_task_are_told_apart_by_their_ways(tmp_path: Path) -> None:
    paths = [prompt_file(tmp_path / where / "IMDBPromptRoberta", n) for n, where in enumerate(("one", "two"))]
    zoo, became = add_all(open_or_start(tmp_path / "zoo"), paths, ["one-imdb", "two-imdb"], base=BASE)
    assert became.rejected == ()
    assert [entry.task for entry in sound(zoo).registry.entries] == ["IMDB", "two-imdb"]
    again, became = add_all(zoo, paths, ["one-imdb", "two-imdb"], base=BASE)
    assert again.registry == zoo.registry
    assert became == Additions(
        kept=((paths[0], "IMDB", "tiny-bert/prompt"), (paths[1], "two-imdb", "tiny-bert/prompt"))
    )


def test_names_that_fold_to_one_in_two_spaces_are_one_task(tmp_path: Path) -> None:
    paths = [peft(tmp_path / "a"), peft(tmp_path / "b", base_model_name_or_path="acme/other")]
    zoo, became = add_all(open_or_start(tmp_path / "zoo"), paths, ["sst2", "SST-2"])
    assert became.rejected == ()
    assert {(entry.task, entry.space) for entry in sound(zoo).registry.entries} == {
        ("sst2", "tiny-bert/lora"),
        ("sst2", "other/lora"),
    }


@pytest.mark.parametrize("together", [False, True])
def test_two_bases_of_one_last_name_have_two_spaces(together: bool, tmp_path: Path) -> None:
    ones = [on(base, lora("task", seed)) for seed, base in enumerate((BASE, "other/tiny-bert", "third/tiny-bert"))]
    zoo = open_or_start(tmp_path)
    for batch in [ones] if together else [[one] for one in ones]:
        zoo, became = add_embeddings(zoo, located(*batch))
        assert became.rejected == ()
    found = sound(zoo)
    assert {name: space.base for name, space in found.registry.spaces.items()} == {
        "tiny-bert/lora": BASE,
        "other--tiny-bert/lora": "other/tiny-bert",
        "third--tiny-bert/lora": "third/tiny-bert",
    }
    for one in ones:
        (name,) = (name for name, space in found.registry.spaces.items() if space.base == one.space.base)
        np.testing.assert_array_equal(found.embedding("task", name).vector(), one.vector())
        assert found.similar(one).space == name


def test_a_space_finds_a_name_even_where_both_are_taken(tmp_path: Path) -> None:
    bases = ["a--b", "c/b", "a/b"]
    zoo, _ = add_embeddings(open_or_start(tmp_path), located(*(on(base, lora("task", 1)) for base in bases)))
    assert sorted(space.base for space in sound(zoo).registry.spaces.values()) == sorted(bases)


def test_the_largest_space_is_the_default_of_a_new_registry(tmp_path: Path) -> None:
    ones = [on(BASE, lora("a", 0)), on("acme/other", lora("a", 1)), on("acme/other", lora("b", 2))]
    zoo, _ = add_embeddings(open_or_start(tmp_path), located(*ones))
    assert sound(zoo).registry.default_space == "other/lora"


def test_nothing_added_writes_nothing(tmp_path: Path) -> None:
    zoo, became = add_embeddings(open_or_start(tmp_path / "zoo"), [])
    assert became.rejected == () and zoo.registry.entries == ()
    assert not (tmp_path / "zoo").exists()


def test_a_rerun_gives_the_same_bytes(tmp_path: Path) -> None:
    paths = [peft(tmp_path / name, scale=1.0 + number) for number, name in enumerate("cab")]
    first, _ = add_all(open_or_start(tmp_path / "one"), paths, list("cab"))
    before = snapshot(first.root)
    add_all(first, paths, list("cab"), force=True)
    assert snapshot(first.root) == before
    second, _ = add_all(open_or_start(tmp_path / "two"), paths[::-1], list("bac"))
    assert snapshot(second.root) == before


def test_notes_stay_with_the_file_and_out_of_the_registry(tmp_path: Path) -> None:
    zoo, _ = add_embeddings(open_or_start(tmp_path), located(on(BASE, lora("a", 0))))
    assert zoo.registry.entries[0].source == {"kind": "file"}
    assert sound(zoo).embedding("a").facts["source"]["notes"] == ["n"]


# --- several at once --------------------------------------------------------------------------------------------


def test_what_others_added_meanwhile_stays(tmp_path: Path) -> None:
    mine, theirs = open_or_start(tmp_path), open_or_start(tmp_path)
    add_embeddings(theirs, located(on(BASE, lora("a", 0))))
    zoo, became = add_embeddings(mine, located(on(BASE, lora("b", 1)), on(BASE, lora("a", 2))))
    assert [entry.task for entry in sound(zoo).registry.entries] == ["a", "b"]
    assert [one.path.name for one in became.rejected] == ["1"]


def test_an_index_knows_what_others_added_meanwhile(tmp_path: Path) -> None:
    zoo, _ = add_embeddings(open_or_start(tmp_path), located(*(on(BASE, lora(name, 1)) for name in "abc")))
    add_embeddings(zoo, located(on(BASE, lora("d", 2))))
    indexed = keep_pair_index(zoo, LORA.name)
    assert len(sound(indexed).registry.entries) == 4
    assert indexed.registry.space(LORA.name).index.keys() == {"update"}


def test_additions_side_by_side_all_stay(tmp_path: Path) -> None:
    def addition(name: str) -> None:
        add_embeddings(open_or_start(tmp_path), located(on(BASE, lora(name, 1))))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(addition, "abcdefghijklmnop"))
    assert [entry.task for entry in sound(open_or_start(tmp_path)).registry.entries] == list("abcdefghijklmnop")


# --- accidents -------------------------------------------------------------------------------------------------


class Stopped(BaseException):
    """What Ctrl-C does."""


@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("force", [False, True])
def test_an_interrupted_addition_leaves_a_valid_registry(after: int, force: bool, tmp_path: Path) -> None:
    zoo, _ = add_embeddings(open_or_start(tmp_path), located(*(on(BASE, lora(name, 0)) for name in "ab")))
    new = [on(BASE, lora(name, 1)) for name in ("abc" if force else "cd")]

    def until() -> Iterator[tuple[Path, TaskEmbedding]]:
        yield from located(*new[:after])
        raise Stopped

    with pytest.raises(Stopped):
        add_embeddings(zoo, until(), force=force)
    found = Zoo.open(tmp_path)
    assert found.verify() == []
    for one in new[:after]:
        np.testing.assert_array_equal(found.embedding(one.task).vector(), one.vector())


def test_a_disk_that_fills_up_leaves_a_valid_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo, _ = add_embeddings(open_or_start(tmp_path), located(on(BASE, lora("a", 0))))
    write = tupate_hub.collect.shelf.write_bytes

    def full(target: Path, data: bytes, **options: Any) -> None:
        if target.name == "c.safetensors":
            raise WorkFailed("The disk is full.")
        write(target, data, **options)

    monkeypatch.setattr(tupate_hub.collect.shelf, "write_bytes", full)
    with pytest.raises(WorkFailed):
        add_embeddings(zoo, located(*(on(BASE, lora(name, 1)) for name in "bcd")))
    found = Zoo.open(tmp_path)
    assert found.verify() == []
    assert [entry.task for entry in found.registry.entries] == ["a", "b"]


def test_a_file_where_the_registry_should_be(tmp_path: Path) -> None:
    (tmp_path / "zoo").write_text("mine")
    with pytest.raises(TupateHubError, match="cannot be written"):
        add(open_or_start(tmp_path / "zoo"), peft(tmp_path / "reviews"))
    assert (tmp_path / "zoo").read_text() == "mine"


# --- moments ---------------------------------------------------------------------------------------------------


def test_moments_are_kept_with_their_space(toy_zoo: Path) -> None:
    zoo = keep_input_covariance(Zoo.open(toy_zoo), LORA.name, input_covariance())
    found = sound(zoo)
    kept = found.input_covariance(LORA.name)
    assert kept is not None and kept.tokens == 20
    assert found.registry.space(LORA.name).index.keys() == {"update"}
    assert found.input_covariance("tiny-bert/prompt") is None
    assert len(found.similar("imdb", view=View("effect"))) == len(TASKS) - 1


def test_moments_survive_an_addition(toy_zoo: Path, tmp_path: Path) -> None:
    zoo = keep_input_covariance(Zoo.open(toy_zoo), LORA.name, input_covariance())
    zoo, _ = add(zoo, peft(tmp_path / "reviews"))
    assert sound(zoo).similar("reviews", k=1, view=View("effect")).similarity == "effect"


def test_new_moments_make_an_index_of_theirs_old(toy_zoo: Path) -> None:
    zoo = keep_input_covariance(Zoo.open(toy_zoo), LORA.name, input_covariance())
    space = zoo.registry.space(LORA.name)
    place = {**space.index["update"]}
    spaces = {**zoo.registry.spaces, LORA.name: replace(space, index={**space.index, "effect": place})}
    zoo = replace(zoo, registry=replace(zoo.registry, spaces=spaces))
    assert keep_input_covariance(zoo, LORA.name, input_covariance()).registry.space(LORA.name).index.keys() == {
        "update"
    }


def test_moments_of_another_base_are_refused_when_they_are_used(toy_zoo: Path) -> None:
    zoo = keep_input_covariance(Zoo.open(toy_zoo), LORA.name, input_covariance(base="acme/other"))
    with pytest.raises(FormatError, match="is of acme/other, not of acme/tiny-bert"):
        zoo.similar("imdb", view=View("effect"))
    assert len(zoo.verify()) == 1


def test_moments_for_a_space_that_is_not_there(toy_zoo: Path) -> None:
    with pytest.raises(UnknownName):
        keep_input_covariance(Zoo.open(toy_zoo), "tiny-bert/ia3", input_covariance())


def test_an_index_that_is_kept_fits_the_registry_until_the_next_addition(tmp_path: Path) -> None:
    zoo, _ = add_embeddings(open_or_start(tmp_path), located(*(on(BASE, lora(name, 1)) for name in "abc")))
    zoo = keep_pair_index(zoo, LORA.name)
    place = sound(zoo).registry.space(LORA.name).index["update"]
    assert place["file"] == f"zoo/{LORA.name}/index-update.safetensors"
    np.testing.assert_allclose(zoo.pair_index(LORA.name, "update").scores(), np.ones((3, 3)), atol=1e-6)
    zoo, _ = add_embeddings(zoo, located(on(BASE, lora("d", 2))))
    assert sound(zoo).registry.space(LORA.name).index == {}


# --- runs of this project --------------------------------------------------------------------------------------

RUN = {
    "source": {"kind": "trained", "by": "tupate-hub train", "data_sha256": "0" * 64},
    "task_kind": "classification",
    "data": {"class": "CR", "original_train_size": 200, "licence": "mine"},
    "scores": {"primary": 0.912345, "metric": "accuracy", "baseline": 0.5, "baseline_rule": "always 0"},
    "settings": {"r": 2, "init_seed": 0},
    "base_sha256": "ab" * 32,
}


def test_a_run_of_this_project_brings_what_is_known_of_its_task(tmp_path: Path) -> None:
    start = open_or_start(tmp_path / "zoo")
    zoo, _ = add_embeddings(start, located(replace(lora("mine", 1), facts=RUN)))
    task, entry = sound(zoo).registry.task("mine"), zoo.registry.entries[0]
    assert (task.kind, task.metric, task.train_size, task.licence) == ("classification", "accuracy", 200, "mine")
    assert (entry.scores["primary"], entry.scores["baseline_rule"]) == (0.9123, "always 0")
    space = zoo.registry.space(LORA.name)
    assert (space.base_sha256, dict(space.settings)) == ("ab" * 32, {"r": 2, "init_seed": 0})


@pytest.mark.parametrize("gap", [*RUN, "everything"])
@pytest.mark.parametrize("left", [None, "odd", ["odd"], {}], ids=str)
def test_a_run_whose_facts_have_gaps_is_added_with_what_it_says(tmp_path: Path, gap: str, left: Any) -> None:
    facts = {name: value for name, value in RUN.items() if gap not in (name, "everything")}
    if left is not None and gap in RUN:
        facts[gap] = left
    zoo, became = add_embeddings(open_or_start(tmp_path / "zoo"), located(replace(lora("mine", 1), facts=facts)))
    task, entry = sound(zoo).registry.task("mine"), zoo.registry.entries[0]
    assert became.rejected == ()
    if gap == "scores":
        assert (task.kind, task.train_size, task.metric, dict(entry.scores)) == ("classification", 200, "", {})
    if gap == "data":
        assert (task.metric, task.task_class, task.train_size, task.licence) == ("accuracy", "", None, "")


def test_a_run_before_its_end_is_added(tmp_path: Path) -> None:
    early = {name: value for name, value in RUN.items() if name != "scores"}
    facts = {**early, "training": {"step": 20, "steps": 400}}
    zoo, _ = add_embeddings(open_or_start(tmp_path / "zoo"), located(replace(lora("mine@0.05", 1), facts=facts)))
    assert dict(sound(zoo).registry.entries[0].scores) == {}
    assert zoo.registry.space(LORA.name).base_sha256 == "ab" * 32


def test_a_stranger_s_file_says_nothing_of_the_kind(tmp_path: Path) -> None:
    claims = {**RUN, "source": {"kind": "file"}}
    zoo, _ = add_embeddings(open_or_start(tmp_path / "zoo"), located(replace(lora("theirs", 1), facts=claims)))
    task, entry = sound(zoo).registry.task("theirs"), zoo.registry.entries[0]
    assert (task.kind, task.metric, task.train_size, dict(entry.scores)) == ("", "", None, {})
    assert (zoo.registry.space(LORA.name).base_sha256, dict(zoo.registry.space(LORA.name).settings)) == ("", {})


def test_a_space_keeps_what_its_first_run_said(tmp_path: Path) -> None:
    other = {**RUN, "settings": {"r": 4}, "base_sha256": "cd" * 32}
    runs = [replace(lora("first", 1), facts=RUN), replace(lora("second", 2), facts=other)]
    zoo, _ = add_embeddings(open_or_start(tmp_path / "zoo"), located(*runs))
    assert sound(zoo).registry.space(LORA.name).base_sha256 == "ab" * 32
