"""What a registry names is found without reading all of one in shards, and is never taken for unnamed by mistake."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from builders import LORA, lora
from large import grown, loras

from tupate_hub import Zoo
from tupate_hub.collect.keep import keep_head
from tupate_hub.collect.named import Named
from tupate_hub.collect.shelf import Shelf
from tupate_hub.head import make_head


def test_what_is_named_and_what_is_not(toy_zoo: Path, sharded: Zoo) -> None:
    for zoo in (Zoo.open(toy_zoo), sharded):
        named = Named(zoo.registry)
        for file, _, sha256 in zoo.registry.files():
            assert (named.digest(file), named.lacks(file)) == (sha256, False)
        for file in (f"zoo/{LORA.name}/nobody.safetensors", f"zoo/{LORA.name}/imdb-0123456789ab.safetensors"):
            assert (named.digest(file), named.lacks(file)) == (None, True)
        assert named.lacks("zoo/entries/0123456789abcdef.json")


def test_of_another_place_nothing_is_certain(sharded: Zoo) -> None:
    named = Named(sharded.registry)
    assert not named.lacks("elsewhere.safetensors")
    assert not named.lacks("zoo/README.md")


def test_what_goes_is_what_only_the_old_one_named(sharded: Zoo) -> None:
    held = sharded.registry
    entry = held.entry("k-task-000", LORA.name)
    moved = replace(entry, file=f"zoo/{LORA.name}/k-task-000-0123456789ab.safetensors", sha256="a" * 64)
    new = held.with_entry(moved, held.tasks["k-task-000"], held.spaces[LORA.name])
    gone = Named(held).without(Named(new))
    shards = {shard.file for shard in held.shelves.entries.shards} if held.shelves else set()
    assert entry.file in gone
    assert gone - {entry.file} <= shards
    assert len(gone) == 2


def test_of_one_that_grows_into_shards_nothing_goes(small_shards: None, tmp_path: Path) -> None:
    small = grown(tmp_path / "zoo", *loras(4))
    before = Named(small.registry)
    large = grown(tmp_path / "zoo", lora("k-another", 9))
    assert large.registry.shelves is not None
    assert before.without(Named(large.registry)) == set()


def test_a_file_that_some_other_task_may_have_is_not_overwritten(sharded: Zoo) -> None:
    """Where a stranger's registry names the path of one task for another."""
    file = f"zoo/{LORA.name}/k-new.safetensors"
    (sharded.root / file).write_bytes(b"of another task")
    place = Shelf(sharded.root, sharded.registry).put(file, b"new")
    assert place["file"] != file
    assert (sharded.root / file).read_bytes() == b"of another task"
    assert (sharded.root / place["file"]).read_bytes() == b"new"


def test_a_head_stays_beside_its_embedding_when_others_are_added(sharded: Zoo) -> None:
    head = make_head("k-task-000", "classification", ("no", "yes"), [(np.eye(2, 8), np.zeros(2))])
    zoo = keep_head(sharded, LORA.name, head)
    place = zoo.registry.entry("k-task-000", LORA.name).head
    assert Named(zoo.registry).digest(place["file"]) == place["sha256"]
    later = grown(zoo.folder, lora("k-another", 9))
    kept = later.head(later.registry.entry("k-task-000", LORA.name))
    assert kept is not None
    assert kept.label_names == ("no", "yes")
    gone = later.registry.with_entry(
        replace(later.registry.entry("k-task-000", LORA.name), head={}),
        later.registry.tasks["k-task-000"],
        later.registry.spaces[LORA.name],
    )
    assert place["file"] in Named(later.registry).without(Named(gone))
