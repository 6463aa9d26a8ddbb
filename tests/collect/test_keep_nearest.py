"""The files of a large space: made when it becomes large, appended to, and of nothing else than the registry lists."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import LORA, lora, prompt

from tupate_hub import Zoo
from tupate_hub.collect import nearest as collecting
from tupate_hub.collect import spread
from tupate_hub.collect.add import add_embeddings, open_or_start
from tupate_hub.collect.merge import merge_zoos
from tupate_hub.collect.nearest import KnownSketches, keep_nearest
from tupate_hub.collect.shelf import Shelf
from tupate_hub.compare.nearest import Nearest
from tupate_hub.compare.sketch import Sketcher
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import WorkFailed
from tupate_hub.search.nearest_files import open_nearest, open_parts, whole_bits


@pytest.fixture(autouse=True)
def small_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten embeddings are many, and seven sketches a part."""
    monkeypatch.setattr(collecting, "LEAST", 10)
    monkeypatch.setattr(collecting, "MOST", 7)


def loras(numbers: Any) -> list[tuple[Path, TaskEmbedding]]:
    return [(Path(f"{n}"), lora(f"t{n:02d}", n)) for n in numbers]


def add(root: Path, numbers: Any, **options: Any) -> Zoo:
    return add_embeddings(open_or_start(root), loras(numbers), **options)[0]


def opened(root: Path) -> tuple[Zoo, Nearest, list[str]]:
    """The zoo, its nearest embeddings, and the files of its sketches; each is that of its embedding."""
    zoo = Zoo.open(root)
    space = zoo.registry.spaces[LORA.name]
    held = open_nearest(zoo, space, "update")
    assert held is not None
    parts = open_parts(zoo, space, "update")
    entries = list(zoo.registry.in_space(LORA.name))
    assert [held.row(at).task for at in range(len(held))] == [entry.task for entry in entries]
    rows = np.arange(len(held))
    bits = whole_bits(parts, held.places_of(rows))
    np.testing.assert_array_equal(held.fine(rows), bits[:, :256])
    for entry, found in zip(entries, bits, strict=True):
        own = Sketcher().sketch(zoo.load(entry)).bits
        assert (np.unpackbits(own) != np.unpackbits(found)).mean() < 1e-3
    assert zoo.verify() == []
    return zoo, held, [place["file"] for place in space.nearest["update"]["sketches"]]


def test_a_space_gets_them_when_it_becomes_large(tmp_path: Path) -> None:
    root = tmp_path / "zoo"
    assert add(root, range(9)).registry.spaces[LORA.name].nearest == {}
    add(root, [9])
    _, held, files = opened(root)
    assert len(held) == 10
    assert [Path(file).name for file in files] == ["sketches-update-0.safetensors", "sketches-update-1.safetensors"]


def test_an_addition_writes_the_last_part_anew_and_no_other(tmp_path: Path) -> None:
    root = tmp_path / "zoo"
    add(root, range(1, 24, 2))  # twelve: seven and five
    _, _, before = opened(root)
    first = (root / before[0]).stat().st_mtime_ns
    add(root, range(0, 8, 2))
    _, held, after = opened(root)
    assert len(held) == 16
    assert after[0] == before[0]
    assert (root / after[0]).stat().st_mtime_ns == first
    assert len(after) == 3
    listed = {file for file, _, _ in Zoo.open(root).registry.files()}
    assert {path.relative_to(root).as_posix() for path in root.rglob("*.safetensors")} == listed


def test_embeddings_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "zoo"
    add(root, range(12))
    read: list[str] = []
    load = Zoo.load
    monkeypatch.setattr(Zoo, "load", lambda self, entry: read.append(entry.task) or load(self, entry))
    add(root, [12])
    assert read == ["t00"]  # whose sizes the new one must have
    add(root, [13])
    assert len(read) == 2 + 14  # the pairs that stand for all are looked at again when there are a tenth more
    opened(root)


def test_what_is_replaced_or_mostly_gone_leaves(tmp_path: Path) -> None:
    root = tmp_path / "zoo"
    add(root, range(14))
    changed = [(Path("x"), lora(f"t{n:02d}", 100 + n)) for n in range(14)]
    add_embeddings(Zoo.open(root), changed[:3], force=True)
    _, _, files = opened(root)
    assert len(files) == 3
    add_embeddings(Zoo.open(root), changed, force=True)
    _, _, files = opened(root)
    assert len(files) == 2


def test_other_spaces_stay_as_they_are(tmp_path: Path) -> None:
    root = tmp_path / "zoo"
    add(root, range(12))
    before = Zoo.open(root).registry.spaces[LORA.name].nearest
    add_embeddings(Zoo.open(root), [(Path("p"), prompt("p", 1))])
    after = Zoo.open(root).registry
    assert after.spaces[LORA.name].nearest == before
    assert after.spaces["tiny-bert/prompt"].nearest == {}


def test_the_verb_makes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, invoke: Any) -> None:
    root = tmp_path / "zoo"
    monkeypatch.setattr(collecting, "LEAST", 1000)
    add(root, range(12))
    result = invoke("index", "--registry", root)
    assert result.err == "1 spaces of fewer than 1,000 embeddings need none\n"
    monkeypatch.setattr(collecting, "LEAST", 10)
    (row,) = invoke("index", "--registry", root, "--json").json()
    assert (row["space"], row["similarity"], row["embeddings"]) == (LORA.name, "update", 12)
    opened(root)
    before = Zoo.open(root).registry
    assert keep_nearest(Zoo.open(root)).registry.spaces == before.spaces


def test_a_sketch_alone_is_kept(tmp_path: Path) -> None:
    """Of one whose weights are not: whatever the space's size, and as long as it is there."""
    root = tmp_path / "zoo"
    zoo, _ = add_embeddings(open_or_start(root), loras(range(3)), keep="sketch")
    space = zoo.registry.spaces[LORA.name]
    assert space.nearest["update"]["tasks"] == 3
    add(root, [3])
    zoo = Zoo.open(root)
    found = zoo.similar("t01", k=5)
    assert len(found) == 3
    assert [one.task for one in zoo.similar("t01")] == [one.task for one in found]
    assert found.approximation is not None and found.approximation.compared == 0
    assert zoo.similar(lora("x", 3), k=1).neighbors[0].task == "t03"
    held = open_nearest(zoo, zoo.registry.spaces[LORA.name], "update")
    assert held is not None
    own = Sketcher().sketch(lora("t00", 0)).bits
    np.testing.assert_array_equal(held.fine(np.array([0]))[0], own[:256])
    bare = replace(zoo.registry, spaces={name: replace(s, nearest={}) for name, s in zoo.registry.spaces.items()})
    with pytest.raises(WorkFailed, match="The sketch of 't00' in 'tiny-bert/lora' is missing"):
        collecting.with_nearest(Shelf(root, zoo.registry), replace(zoo, registry=bare), bare, KnownSketches(bare))


def test_pairs_stand_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "zoo"
    add(root, range(12))
    _, held, _ = opened(root)
    exact = held.spread
    assert exact is not None
    assert (exact.embeddings, exact.pairs, exact.exact, exact.tasks) == (12, 66, True, 12)
    monkeypatch.setattr(spread, "MOST_BYTES", 0)
    add(root, range(12, 15))
    _, held, _ = opened(root)
    told = held.spread
    assert told is not None
    assert (told.embeddings, told.pairs, told.exact, told.tasks) == (15, 105, False, 15)
    assert np.interp(0.5, np.linspace(0, 1, 66), exact.quantiles) == pytest.approx(
        np.interp(0.5, np.linspace(0, 1, 105), told.quantiles), abs=0.2
    )


@contextlib.contextmanager
def killed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Shelf, "write_registry", lambda self, registry: (_ for _ in ()).throw(KeyboardInterrupt))
        yield


def test_killed_before_the_registry_everything_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "zoo"
    add(root, range(12))
    before = Zoo.open(root).registry.spaces
    with killed(monkeypatch):
        add(root, range(12, 20))
    assert Zoo.open(root).registry.spaces == before
    opened(root)
    add(root, range(12, 20))
    assert len(opened(root)[1]) == 20


@pytest.mark.parametrize("shards", [True, False])
@pytest.mark.parametrize("few_first", [True, False])
def test_merging_a_few_into_many_appends_to_their_sketches(
    few_first: bool, shards: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if shards:
        request.getfixturevalue("small_shards")
    many, few = tmp_path / "many", tmp_path / "few"
    add(many, range(0, 48, 2))
    add(few, [3, 4, 47])
    _, _, before = opened(many)
    sides = (few, many) if few_first else (many, few)
    merge_zoos(*map(Zoo.open, sides), tmp_path / "both")
    zoo, held, after = opened(tmp_path / "both")
    assert (len(held), zoo.registry.shelves is not None) == (26, shards)
    assert after[:3] == before[:3]
    assert [(zoo.root / file).read_bytes() for file in after[:3]] == [(many / file).read_bytes() for file in after[:3]]
    merge_zoos(*map(Zoo.open, sides), tmp_path / "again")
    assert {path.name for path in (tmp_path / "again").rglob("*")} == {path.name for path in zoo.root.rglob("*")}


def test_what_a_merge_learns_of_a_task_is_said_beside_its_sketch(tmp_path: Path, small_shards: None) -> None:
    add(tmp_path / "many", range(12))
    few = add(tmp_path / "few", [3])
    told = {name: replace(task, dataset="acme/data") for name, task in few.registry.tasks.items()}
    few = replace(few, registry=replace(few.registry, tasks=told))
    merge_zoos(Zoo.open(tmp_path / "many"), few, tmp_path / "both")
    zoo, held, _ = opened(tmp_path / "both")
    assert (zoo.registry.tasks["t03"].dataset, len(held)) == ("acme/data", 12)


def test_a_merge_that_was_killed_after_the_sketches_goes_on(
    tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(tmp_path / "many", range(0, 48, 2))
    add(tmp_path / "few", [3, 4, 47])
    sides = Zoo.open(tmp_path / "many"), Zoo.open(tmp_path / "few")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):

        def stop(self: Shelf, registry: Any) -> None:
            raise KeyboardInterrupt

        patched.setattr(Shelf, "write_registry", stop)
        merge_zoos(*sides, tmp_path / "both")
    merge_zoos(*sides, tmp_path / "both")
    assert len(opened(tmp_path / "both")[1]) == 26
