"""Verify finds sketches that are another's, and nearest embeddings that say something else than the registry."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import LORA

from tupate_hub import Zoo
from tupate_hub.compare.nearest import Nearest, nearest_of
from tupate_hub.compare.sketch_part import SketchPart, sketch_part_of
from tupate_hub.storage.safetensors import read_tensorfile


def rewritten(root: Path, place: dict[str, object], data: bytes, path: Path, registry: dict[str, object]) -> None:
    """Put other bytes in the place of a listed file, and tell the registry their digest."""
    (root / str(place["file"])).write_bytes(data)
    place.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    path.write_text(json.dumps(registry))


def with_nearest(zoo: Zoo, change: Callable[[Nearest], Nearest]) -> Zoo:
    path = zoo.root / "registry.json"
    registry = json.loads(path.read_text())
    place = registry["spaces"][LORA.name]["nearest"]["update"]
    held = nearest_of(read_tensorfile(zoo.root / place["file"]), "nearest")
    rewritten(zoo.root, place, change(held).to_bytes(), path, registry)
    return Zoo.open(zoo.root)


def with_sketches(zoo: Zoo, change: Callable[[SketchPart], SketchPart]) -> Zoo:
    path = zoo.root / "registry.json"
    registry = json.loads(path.read_text())
    place = registry["spaces"][LORA.name]["nearest"]["update"]["sketches"][0]
    held = sketch_part_of(read_tensorfile(zoo.root / place["file"]), "sketches")
    rewritten(zoo.root, place, change(held).to_bytes(), path, registry)
    return Zoo.open(zoo.root)


def test_what_is_right_is_found_right(sharded: Zoo) -> None:
    assert sharded.verify() == []


def test_a_sketch_of_something_else_is_found(sharded: Zoo) -> None:
    def turned(part: SketchPart) -> SketchPart:
        bits = part.bits.copy()
        bits[3] = ~bits[3]
        return replace(part, bits=bits)

    problems = with_sketches(sharded, turned).verify()
    assert any("is not that of its embedding" in problem for problem in problems)
    assert any("has another sketch of" in problem for problem in problems)


def test_an_embedding_without_a_sketch_is_found(sharded: Zoo) -> None:
    problems = with_sketches(sharded, lambda part: replace(part, digests=np.roll(part.digests, 1, axis=1))).verify()
    assert sum("has no sketch" in problem for problem in problems) == 12


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda held: replace(held, digests=np.roll(held.digests, 1, axis=0)), "says something else of b-task-002"),
        (lambda held: replace(held, marks=held.marks | 1), "says something else of b-task-002"),
        (lambda held: replace(held, coarse=~held.coarse), "has another sketch of b-task-002"),
        (lambda held: replace(held, places=held.places[::-1].copy()), "has another sketch of"),
    ],
)
def test_nearest_embeddings_that_say_something_else(
    sharded: Zoo, change: Callable[[Nearest], Nearest], said: str
) -> None:
    problems = with_nearest(sharded, change).verify()
    assert any(said in problem for problem in problems), problems
    assert all("nearest-update" in problem for problem in problems)


def test_nearest_embeddings_of_fewer_entries(sharded: Zoo) -> None:
    path = sharded.root / "registry.json"
    registry = json.loads(path.read_text())
    shard = next(one for one in registry["shards"]["entries"] if one["first"][0] == LORA.name)
    registry["shards"]["entries"].remove(shard)
    path.write_text(json.dumps(registry))
    problems = Zoo.open(sharded.root).verify()
    assert any("nearest-update" in problem for problem in problems)
