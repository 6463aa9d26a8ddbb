"""Merging: the union of two registries, refusals that name what does not agree, and files that arrive whole."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import BASE, LORA, PROMPT, TASKS, lora, place, prompt
from builders import zoo_of as make

from tupate_hub.collect.merge import Merged, merge, merge_zoos
from tupate_hub.collect.shelf import Shelf
from tupate_hub.errors import FormatError, RegistryError, TargetExists
from tupate_hub.registry import FILENAME, Entry, Registry, Repeat, SpaceEntry, Task
from tupate_hub.zoo import Zoo


def held(registry: Registry) -> list[tuple[str, str]]:
    return [(entry.space, entry.task) for entry in registry.entries]


def snapshot(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def ours(tmp_path: Path) -> Zoo:
    return make(tmp_path / "ours", lora("imdb", 1), lora("sst2", 2), prompt("sst2", 3))


@pytest.fixture
def theirs(tmp_path: Path) -> Zoo:
    return make(tmp_path / "theirs", lora("sst2", 2), lora("squad", 4))


# --- the union -------------------------------------------------------------------------------------------------


def test_a_merged_zoo_has_what_both_have_and_verifies(ours: Zoo, theirs: Zoo, tmp_path: Path) -> None:
    merged = merge_zoos(ours, theirs, tmp_path / "both")
    zoo = Zoo.open(tmp_path / "both")
    assert zoo.registry == merged.registry
    assert held(zoo.registry) == [
        (LORA.name, "imdb"),
        (LORA.name, "squad"),
        (LORA.name, "sst2"),
        (PROMPT.name, "sst2"),
    ]
    assert zoo.verify() == []
    assert dict(merged.counts) == {"ours": 2, "theirs": 1, "both": 1}
    assert merged.conflicts == ()
    assert zoo.registry.default_space == LORA.name
    np.testing.assert_array_equal(zoo.embedding("squad").vector(), theirs.embedding("squad").vector())


def test_both_sides_stay_as_they_were(ours: Zoo, theirs: Zoo, tmp_path: Path) -> None:
    before = snapshot(ours.root), snapshot(theirs.root)
    merge_zoos(ours, theirs, tmp_path / "both")
    assert (snapshot(ours.root), snapshot(theirs.root)) == before


def test_the_order_of_the_sides_changes_no_content(ours: Zoo, theirs: Zoo, tmp_path: Path) -> None:
    merge_zoos(ours, theirs, tmp_path / "one")
    merge_zoos(theirs, ours, tmp_path / "other")
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "other")


def test_a_zoo_merged_with_itself_or_with_nothing_stays_the_same(toy_zoo: Path, tmp_path: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    merge_zoos(zoo, zoo, tmp_path / "twice")
    merge_zoos(Zoo(tmp_path, Registry()), zoo, tmp_path / "nothing")
    merge_zoos(zoo, Zoo(tmp_path, Registry()), tmp_path / "more nothing")
    for name in ("twice", "nothing", "more nothing"):
        assert snapshot(tmp_path / name) == snapshot(toy_zoo), name


def test_two_empty_registries_make_an_empty_one(tmp_path: Path) -> None:
    merge_zoos(Zoo(tmp_path, Registry()), Zoo(tmp_path, Registry()), tmp_path / "both")
    assert Zoo.open(tmp_path / "both").registry == Registry()


# --- tasks -----------------------------------------------------------------------------------------------------


def test_aliases_are_united_and_missing_facts_filled(tmp_path: Path) -> None:
    one = make(tmp_path / "a", lora("sst2", 2), sst2=Task("sst2", "sst2", ("glue/sst2",), metric="accuracy"))
    known = Task("sst2", "SST-2: sentiment", ("sst-2", "x/sst2"), "classification", "CR", 67349, "f1", "x/sst2", "mit")
    other = make(tmp_path / "b", lora("sst2", 2), sst2=known)
    found = merge(one.registry, other.registry).registry.tasks["sst2"]
    assert found == replace(known, aliases=("glue/sst2", "sst-2", "x/sst2"), metric="accuracy")
    assert merge(one.registry, other.registry, "theirs").registry.tasks["sst2"].metric == "f1"
    assert merge(other.registry, one.registry).registry.task("GLUE/sst-2").title == "SST-2: sentiment"


@pytest.mark.parametrize("prefer", [None, "ours", "theirs"])
def test_a_name_that_means_two_tasks_is_refused(prefer: Any, tmp_path: Path) -> None:
    one = make(tmp_path / "a", lora("sst2", 2), sst2=Task("sst2", "sst2", ("reviews",)))
    other = make(tmp_path / "b", lora("reviews", 4))
    with pytest.raises(RegistryError, match=r"'reviews'.*'sst2'|'sst2'.*'reviews'"):
        merge(one.registry, other.registry, prefer)


def test_a_train_size_of_zero_is_a_fact(tmp_path: Path) -> None:
    one = make(tmp_path / "a", lora("sst2", 2), sst2=Task("sst2", "x", train_size=0))
    other = make(tmp_path / "b", lora("sst2", 2), sst2=Task("sst2", "x", train_size=9))
    assert merge(one.registry, other.registry).registry.tasks["sst2"].train_size == 0


# --- the same task in the same space ---------------------------------------------------------------------------


@pytest.fixture
def differing(tmp_path: Path) -> tuple[Zoo, Zoo]:
    one = make(tmp_path / "a", lora("sst2", 2), lora("rte", 5), lora("imdb", 6))
    return one, make(tmp_path / "b", lora("sst2", 3), lora("rte", 7), lora("imdb", 6))


def test_other_content_is_refused_by_name_and_nothing_is_written(differing: tuple[Zoo, Zoo], tmp_path: Path) -> None:
    with pytest.raises(RegistryError) as caught:
        merge_zoos(*differing, tmp_path / "both")
    assert f"rte in {LORA.name}, sst2 in {LORA.name}" in caught.value.message
    assert "imdb" not in caught.value.message
    assert "prefer='ours'" in caught.value.hint
    assert "prefer='theirs'" in caught.value.hint
    assert not (tmp_path / "both").exists()


@pytest.mark.parametrize("prefer", ["ours", "theirs"])
def test_the_preferred_side_decides(prefer: Any, differing: tuple[Zoo, Zoo], tmp_path: Path) -> None:
    merged = merge_zoos(*differing, tmp_path / "both", prefer)
    zoo = Zoo.open(tmp_path / "both")
    side = differing[0] if prefer == "ours" else differing[1]
    assert zoo.verify() == []
    assert {entry.task: entry.sha256 for entry in zoo.registry.entries} == {
        entry.task: entry.sha256 for entry in side.registry.entries
    }
    assert merged.conflicts == (f"rte in {LORA.name}", f"sst2 in {LORA.name}")


def test_many_conflicts_are_counted(tmp_path: Path) -> None:
    names = [f"task{at}" for at in range(9)]
    sides = [make(tmp_path / str(shift), *[lora(n, shift + at) for at, n in enumerate(names)]) for shift in (0, 50)]
    with pytest.raises(RegistryError, match="and 4 more"):
        merge(sides[0].registry, sides[1].registry)


# --- spaces ----------------------------------------------------------------------------------------------------


def renamed(registry: Registry, old: str, new: str) -> Registry:
    return replace(
        registry,
        spaces={new if name == old else name: replace(s, name=new) for name, s in registry.spaces.items()},
        entries=tuple(replace(e, space=new) if e.space == old else e for e in registry.entries),
        default_space=new,
    )


def test_a_space_of_another_name_is_the_same_space(ours: Zoo, theirs: Zoo) -> None:
    merged = merge(ours.registry, renamed(theirs.registry, LORA.name, "acme--tiny-bert/lora"))
    assert sorted(merged.registry.spaces) == sorted([LORA.name, PROMPT.name])
    assert held(merged.registry) == held(merge(ours.registry, theirs.registry).registry)


def test_one_name_for_two_spaces_is_refused(ours: Zoo, theirs: Zoo) -> None:
    other = replace(
        theirs.registry, spaces={LORA.name: replace(theirs.registry.spaces[LORA.name], base="other/tiny-bert")}
    )
    with pytest.raises(RegistryError, match="lora on acme/tiny-bert in one registry, lora on other/tiny-bert"):
        merge(ours.registry, other)


def test_two_names_for_one_space_in_one_registry_are_refused(ours: Zoo) -> None:
    spaces = {
        "a": SpaceEntry("a", BASE, "lora"),
        "b": SpaceEntry("b", BASE, "lora"),
    }
    with pytest.raises(RegistryError, match="two spaces of one base model"):
        merge(ours.registry, Registry({}, spaces, (), "a"))


def test_weights_of_the_base_model_that_differ_are_a_conflict(ours: Zoo, theirs: Zoo) -> None:
    def with_digest(registry: Registry, digest: str) -> Registry:
        space = replace(registry.spaces[LORA.name], base_sha256=digest)
        return replace(registry, spaces={**registry.spaces, LORA.name: space})

    one, other = with_digest(ours.registry, "a" * 64), with_digest(theirs.registry, "b" * 64)
    with pytest.raises(RegistryError, match=f"the base model's weights of {LORA.name}"):
        merge(one, other)
    assert merge(one, other, "theirs").registry.spaces[LORA.name].base_sha256 == "b" * 64
    assert merge(ours.registry, other).registry.spaces[LORA.name].base_sha256 == "b" * 64


def test_statistics_come_along_and_differing_ones_are_a_conflict(ours: Zoo, theirs: Zoo) -> None:
    def with_moments(zoo: Zoo, data: bytes) -> Zoo:
        stored = place(zoo.root, f"zoo/{LORA.name}/moments.safetensors", data)
        space = replace(zoo.registry.spaces[LORA.name], moments=stored)
        return replace(zoo, registry=replace(zoo.registry, spaces={**zoo.registry.spaces, LORA.name: space}))

    theirs = with_moments(theirs, b"statistics")
    merged = merge(ours.registry, theirs.registry)
    assert merged.files[f"zoo/{LORA.name}/moments.safetensors"].side == "theirs"
    with pytest.raises(RegistryError, match="the base model's statistics"):
        merge(with_moments(ours, b"others").registry, theirs.registry)


# --- repeats ---------------------------------------------------------------------------------------------------


def repeated(zoo: Zoo, task: str, *runs: tuple[int, int]) -> Zoo:
    """The zoo with repeats of a task: their seeds, and the seeds of their parameters."""
    entry = zoo.registry.entry(task, LORA.name)
    repeats = tuple(
        Repeat(
            **place(zoo.root, f"zoo/{LORA.name}/repeats/{task}-s{seed}-i0.safetensors", lora(task, made).to_bytes()),
            seed=seed,
            init_seed=0,
            scores={"primary": 0.5},
        )
        for seed, made in runs
    )
    entry = replace(entry, repeats=repeats)
    return replace(
        zoo, registry=zoo.registry.with_entry(entry, zoo.registry.tasks[task], zoo.registry.spaces[LORA.name])
    )


def test_repeats_come_along_and_are_united(ours: Zoo, theirs: Zoo, tmp_path: Path) -> None:
    ours, theirs = repeated(ours, "sst2", (1, 21), (2, 22)), repeated(theirs, "sst2", (1, 21), (3, 23))
    theirs = repeated(theirs, "squad", (1, 41))
    merge_zoos(ours, theirs, tmp_path / "both")
    zoo = Zoo.open(tmp_path / "both")
    assert zoo.verify() == []
    assert [one.seed for one in zoo.registry.entry("sst2", LORA.name).repeats] == [1, 2, 3]
    (squad,) = zoo.registry.entry("squad", LORA.name).repeats
    assert squad == theirs.registry.entry("squad", LORA.name).repeats[0]
    assert (tmp_path / "both" / squad.file).read_bytes() == lora("squad", 41).to_bytes()


def test_two_runs_of_the_same_seeds_are_both_kept(ours: Zoo, theirs: Zoo, tmp_path: Path) -> None:
    merge_zoos(repeated(ours, "sst2", (1, 21)), repeated(theirs, "sst2", (1, 99)), tmp_path / "both")
    zoo = Zoo.open(tmp_path / "both")
    assert zoo.verify() == []
    repeats = zoo.registry.entry("sst2", LORA.name).repeats
    assert len({one.file for one in repeats}) == len({one.sha256 for one in repeats}) == 2


def test_a_run_that_is_the_other_side_s_repeat_is_listed_once(ours: Zoo, theirs: Zoo) -> None:
    merged = merge(ours.registry, repeated(theirs, "sst2", (0, 2), (1, 21)).registry)
    entry = merged.registry.entry("sst2", LORA.name)
    assert [one.seed for one in entry.repeats] == [1]
    assert entry.sha256 == ours.registry.entry("sst2", LORA.name).sha256


@pytest.mark.parametrize("prefer", ["ours", "theirs"])
def test_the_preferred_run_keeps_the_repeats_of_both(prefer: Any, differing: tuple[Zoo, Zoo]) -> None:
    one, other = repeated(differing[0], "sst2", (1, 21)), repeated(differing[1], "sst2", (2, 22))
    entry = merge(one.registry, other.registry, prefer).registry.entry("sst2", LORA.name)
    chosen = one if prefer == "ours" else other
    assert entry.sha256 == chosen.registry.entry("sst2", LORA.name).sha256
    assert [one.seed for one in entry.repeats] == [1, 2]


# --- indexes ---------------------------------------------------------------------------------------------------


def test_an_index_is_kept_where_it_covers_the_space_and_made_anew_elsewhere(tmp_path: Path) -> None:
    one = make(tmp_path / "a", lora("sst2", 2), prompt("sst2", 3), prompt("rte", 5), index=True)
    other = make(tmp_path / "b", lora("squad", 4), prompt("sst2", 3), index=True)
    plain = merge(one.registry, other.registry)
    assert plain.registry.spaces[PROMPT.name].index == one.registry.spaces[PROMPT.name].index
    assert plain.registry.spaces[LORA.name].index == {}
    merge_zoos(one, other, tmp_path / "both")
    zoo = Zoo.open(tmp_path / "both")
    assert zoo.verify() == []
    assert set(zoo.registry.spaces[LORA.name].index) == {"update"}
    fresh = replace(zoo.registry.spaces[LORA.name], index={})
    unindexed = replace(zoo, registry=replace(zoo.registry, spaces={**zoo.registry.spaces, LORA.name: fresh}))
    kept, computed = (one.pair_index(LORA.name, "update") for one in (zoo, unindexed))
    np.testing.assert_allclose(kept.norms, computed.norms, rtol=1e-6)
    np.testing.assert_allclose(kept.scores(), computed.scores(), atol=1e-6)


def test_a_similarity_that_no_side_indexed_is_not_indexed(ours: Zoo, theirs: Zoo, tmp_path: Path) -> None:
    merged = merge_zoos(ours, theirs, tmp_path / "both")
    assert all(space.index == {} for space in merged.registry.spaces.values())


# --- in shards -------------------------------------------------------------------------------------------------


def registry_of(seed: int, count: int) -> Registry:
    """A registry as strangers have them: some rows of few names, repeats, heads, aliases, one path for several."""
    rng = random.Random(seed)
    entries: dict[tuple[str, str], Entry] = {}
    tasks: dict[str, Task] = {}
    for _ in range(count):
        task, space, content = f"t{rng.randrange(2 * count):02}", rng.choice([LORA, PROMPT]), rng.choice("aab")
        kept = rng.choice(["embedding", "embedding", "sketch", "facts"])
        file = rng.choice([f"zoo/{space.name}/{task}.safetensors"] * 5 + [f"zoo/{seed % 2}.safetensors"])
        entry = Entry(task, space.name, "", 0, "" if kept == "facts" else digest(task, space.name, content), kept=kept)
        if kept == "embedding" and file not in {one.file for one in entries.values()}:
            repeats = tuple(
                Repeat(f"zoo/{task}-{number}.safetensors", 3, digest(task, str(number)), number, 0)
                for number in range(rng.randrange(3))
            )
            head = {"file": f"zoo/{space.name}/heads/{task}.safetensors", "bytes": 3, "sha256": digest(task, "head")}
            entry = replace(entry, file=file, bytes=7, repeats=repeats, head=head if rng.random() < 0.3 else {})
        elif kept == "embedding":
            continue
        entries[space.name, task] = entry
        tasks[task] = Task(task, rng.choice([task, "Title"]), (f"{task}x", f"{task}y")[: rng.randrange(3)])
    spaces = {name: SpaceEntry(name, BASE, name.rpartition("/")[2]) for name, _ in entries}
    ordered = tuple(entry for _, entry in sorted(entries.items()))
    return Registry(dict(sorted(tasks.items())), dict(sorted(spaces.items())), ordered, min(spaces, default=""))


def digest(*parts: str) -> str:
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def in_shards(registry: Registry, root: Path) -> Registry:
    """The registry as a folder has it."""
    Shelf(root, Registry()).write_registry(registry)
    return Zoo.open(root).registry


@pytest.mark.parametrize("prefer", ["ours", "theirs"])
@pytest.mark.parametrize("seed", range(20))
def test_registries_in_shards_merge_as_whole_ones_do(
    seed: int, prefer: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    ours, theirs = registry_of(2 * seed, 20), registry_of(2 * seed + 1, (3, 20, 40)[seed % 3])
    whole = merge(ours, theirs, prefer)
    request.getfixturevalue("small_shards")
    sides = in_shards(ours, tmp_path / "ours"), in_shards(theirs, tmp_path / "theirs")
    merged = merge(*sides, prefer)
    assert merged.registry.shelves is not None
    assert list(merged.registry.entries) == list(whole.registry.entries)
    assert dict(merged.registry.tasks) == dict(whole.registry.tasks)
    assert merged.registry.spaces == whole.registry.spaces
    assert (merged.counts, set(merged.conflicts)) == (whole.counts, set(whole.conflicts))
    named = set(merged.registry.files())
    written = {place for place in named if place[0] not in merged.registry.unwritten()}
    assert {(file, origin.bytes, origin.sha256) for file, origin in merged.files.items()} == written
    for origin in merged.files.values():
        side = sides[origin.side == "theirs"]
        assert (origin.file, origin.bytes, origin.sha256) in set(side.files())


def test_a_few_put_into_many_leave_most_shards_as_they_are(small_shards: None, tmp_path: Path) -> None:
    many = in_shards(registry_of(1, 80), tmp_path / "many")
    few = in_shards(registry_of(2, 2), tmp_path / "few")
    for merged in (merge(many, few, "ours"), merge(few, many, "ours")):
        assert len(merged.registry.entries) > len(many.entries)
        assert (
            len([file for file in merged.registry.unwritten() if "/entries/" in file])
            <= 3
            < len(many.shelves.entries.shards)
        )


def test_a_sketch_that_is_preferred_to_other_weights_gets_none_of_their_repeats(ours: Zoo, tmp_path: Path) -> None:
    row = ours.registry.entry("imdb", LORA.name)
    repeat = Repeat("zoo/again.safetensors", 3, "b" * 64, 1, 1)
    weights = replace(ours.registry, entries=(replace(row, repeats=(repeat,)),))
    sketch = replace(ours.registry, entries=(replace(row, file="", bytes=0, sha256="c" * 64, kept="sketch"),))
    (entry,) = merge(sketch, weights, "ours").registry.entries
    assert (entry.kept, entry.repeats, entry.head) == ("sketch", (), {})
    (entry,) = merge(sketch, weights, "theirs").registry.entries
    assert (entry.kept, entry.repeats) == ("embedding", (repeat,))


# --- files -----------------------------------------------------------------------------------------------------


def moved(zoo: Zoo, task: str, file: str) -> Zoo:
    """The zoo with a task's file at another path."""
    entries = []
    for entry in zoo.registry.entries:
        if entry.task == task:
            place(zoo.root, file, (zoo.root / entry.file).read_bytes())
            entry = replace(entry, file=file)
        entries.append(entry)
    return replace(zoo, registry=replace(zoo.registry, entries=tuple(entries)))


def test_two_contents_at_one_path_get_two_paths(tmp_path: Path) -> None:
    one = moved(make(tmp_path / "a", lora("sst2", 2)), "sst2", "zoo/x.safetensors")
    other = moved(make(tmp_path / "b", lora("squad", 4)), "squad", "zoo/x.safetensors")
    merge_zoos(one, other, tmp_path / "both")
    zoo = Zoo.open(tmp_path / "both")
    assert zoo.verify() == []
    assert len({entry.file for entry in zoo.registry.entries}) == 2


def test_no_file_takes_the_registry_s_place(tmp_path: Path) -> None:
    one = moved(make(tmp_path / "a", lora("sst2", 2)), "sst2", "registry.json")
    merge_zoos(one, make(tmp_path / "b", lora("squad", 4)), tmp_path / "both")
    assert Zoo.open(tmp_path / "both").verify() == []


def test_a_path_made_for_one_content_that_another_has_is_avoided_too(tmp_path: Path) -> None:
    one = moved(make(tmp_path / "a", lora("sst2", 2)), "sst2", "zoo/x.safetensors")
    other = make(tmp_path / "b", lora("squad", 4), lora("imdb", 5))
    squad = other.registry.entry("squad", LORA.name).sha256
    other = moved(moved(other, "squad", "zoo/x.safetensors"), "imdb", f"zoo/x-{squad[:12]}.safetensors")
    merge_zoos(one, other, tmp_path / "both")
    zoo = Zoo.open(tmp_path / "both")
    assert zoo.verify() == []
    assert len({entry.file for entry in zoo.registry.entries}) == 3


def test_one_content_at_two_paths_is_kept_once(tmp_path: Path) -> None:
    one = make(tmp_path / "a", lora("sst2", 2))
    other = moved(make(tmp_path / "b", lora("sst2", 2)), "sst2", "zoo/elsewhere.safetensors")
    merged = merge(one.registry, other.registry)
    assert list(merged.files) == [one.registry.entries[0].file]


def test_a_damaged_file_is_refused_and_no_registry_is_written(ours: Zoo, theirs: Zoo, tmp_path: Path) -> None:
    path = theirs.root / theirs.registry.entry("squad", LORA.name).file
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(FormatError, match="another content"):
        merge_zoos(ours, theirs, tmp_path / "both")
    assert not (tmp_path / "both" / FILENAME).exists()


def test_a_registry_that_is_there_is_not_replaced(ours: Zoo, theirs: Zoo) -> None:
    before = snapshot(ours.root)
    with pytest.raises(TargetExists, match="holds a registry already"):
        merge_zoos(ours, theirs, ours.root)
    assert snapshot(ours.root) == before


def test_another_file_in_the_way_is_not_replaced(ours: Zoo, theirs: Zoo, tmp_path: Path) -> None:
    path = tmp_path / "both" / ours.registry.entries[0].file
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(TargetExists, match="exists already"):
        merge_zoos(ours, theirs, tmp_path / "both")
    assert path.read_text() == "mine"


def test_an_interrupted_merge_leaves_no_registry_and_a_second_run_goes_on(
    ours: Zoo, theirs: Zoo, tmp_path: Path
) -> None:
    def stop(names: list[str]) -> Iterable[str]:
        yield from itertools.islice(names, 2)
        raise KeyboardInterrupt

    target = tmp_path / "both"
    with pytest.raises(KeyboardInterrupt):
        merge_zoos(ours, theirs, target, None, stop)
    assert len(snapshot(target)) == 2
    assert not (target / FILENAME).exists()
    merge_zoos(ours, theirs, target)
    assert Zoo.open(target).verify() == []


def test_merging_registries_reads_no_file(ours: Zoo, theirs: Zoo) -> None:
    registries = ours.registry, theirs.registry
    for entry in (*registries[0].entries, *registries[1].entries):
        for zoo in (ours, theirs):
            (zoo.root / entry.file).unlink(missing_ok=True)
    merged = merge(*registries)
    assert isinstance(merged, Merged)
    assert {origin.side for origin in merged.files.values()} == {"ours", "theirs"}
    for name, origin in merged.files.items():
        side = ours if origin.side == "ours" else theirs
        (entry,) = [one for one in side.registry.entries if one.file == origin.file]
        assert (entry.sha256, entry.bytes) == (origin.sha256, origin.bytes)
        assert name == entry.file


def test_the_toy_zoo_merges_with_a_part_of_it(toy_zoo: Path, tmp_path: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    part = replace(zoo.registry, entries=zoo.registry.in_space(LORA.name)[:3])
    merged = merge(part, zoo.registry)
    assert merged.registry == zoo.registry
    assert dict(merged.counts) == {"ours": 0, "theirs": 2 * len(TASKS) - 3, "both": 3}
