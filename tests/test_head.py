"""Heads: written and read, hostile files refused, listed and checked with their embedding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tupate_hub import Zoo
from tupate_hub.collect.merge import merge, merge_zoos
from tupate_hub.errors import FormatError, RegistryError
from tupate_hub.head import Head, make_head, parse_head
from tupate_hub.registry import FILENAME, placed
from tupate_hub.storage.registry_json import parse_registry
from tupate_hub.storage.safetensors import TensorFile

DRAW = np.random.default_rng(5)


def toy_head(task: str = "sst2", outputs: int = 2, names: tuple[str, ...] = ("no", "yes"), **more: Any) -> Head:
    layer = DRAW.normal(size=(outputs, 8)), DRAW.normal(size=outputs)
    return make_head(task, "classification", names, [layer], **more)


def with_head(zoo: Zoo, head: Head) -> Zoo:
    """The zoo, in its folder, with a head of one of its tasks."""
    entry = zoo.registry.find(head.task)
    data = head.to_bytes()
    place = placed(f"zoo/{entry.space}/heads/{head.task}.safetensors", data)
    path = zoo.folder / place["file"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    entries = tuple(replace(one, head=place) if one == entry else one for one in zoo.registry.entries)
    registry = replace(zoo.registry, entries=entries)
    (zoo.folder / FILENAME).write_text(registry.to_json(), encoding="utf-8")
    return Zoo.open(zoo.folder)


def test_a_head_comes_back_as_it_was_written() -> None:
    head = toy_head(facts={"metric": "accuracy", "max_length": 128, "scores": {"primary": 0.9}}, pooled=True)
    read = parse_head(head.to_bytes(), "x")
    assert replace(read, layers=()) == replace(head, layers=())
    for layer, other in zip(read.layers, head.layers, strict=True):
        np.testing.assert_allclose(layer.weight, other.weight, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(layer.bias, other.bias, rtol=1e-3, atol=1e-5)
    assert head.to_bytes() == head.to_bytes()
    assert (read.width, read.outputs) == (8, 2)


def test_numbers_beyond_float16_are_kept() -> None:
    """Amounts such as the prices of houses."""
    head = make_head("price", "regression", (), [(np.full((1, 4), 3.5), np.array([250_000.0]))])
    assert parse_head(head.to_bytes(), "x").layers[0].bias[0] == 250_000.0


@pytest.mark.parametrize(
    ("layers", "names", "said"),
    [
        ([(np.ones((2, 3)), np.ones(3))], ("a", "b"), "do not fit together"),
        ([(np.ones((2, 3)), np.ones(2)), (np.ones((2, 3)), np.ones(2))], ("a", "b"), "do not fit together"),
        ([(np.ones((2, 3)), np.ones(2))], ("a", "b", "c"), "2 outputs and 3 names"),
        ([(np.full((2, 3), np.nan), np.ones(2))], ("a", "b"), "NaN"),
        ([(np.ones((0, 3)), np.ones(0))], (), "empty"),
        ([], (), "0 layers"),
    ],
)
def test_what_is_no_head_is_refused(layers: Any, names: tuple[str, ...], said: str) -> None:
    with pytest.raises(FormatError, match=said):
        make_head("x", "classification", names, layers)


@pytest.mark.parametrize(
    ("changes", "tensors"),
    [
        ({"schema": "tupate-hub-head/2"}, {}),
        ({"label_names": "[1, 2]"}, {}),
        ({"label_names": "["}, {}),
        ({"pooled": "3"}, {}),
        ({"activation": "sin"}, {}),
        ({}, {"1.weight": np.ones((2, 2), dtype=np.float32)}),
        ({}, {"x": np.ones(2, dtype=np.float32), "y": np.ones(2, dtype=np.float32)}),
    ],
)
def test_hostile_files_are_refused_in_a_sentence(changes: dict[str, str], tensors: dict[str, Any]) -> None:
    metadata = {
        "schema": "tupate-hub-head/1", "task": "x", "kind": "classification", "label_names": '["a", "b"]',
        "activation": "tanh", "pooled": "false", **changes,
    }  # fmt: skip
    layers = {"0.weight": np.ones((2, 3), dtype=np.float32), "0.bias": np.ones(2, dtype=np.float32)}
    with pytest.raises(FormatError, match=r"^the file"):
        parse_head(TensorFile({**layers, **tensors}, metadata).to_bytes(), "the file")


def test_a_head_without_a_field_is_refused() -> None:
    with pytest.raises(FormatError, match="task"):
        parse_head(TensorFile({"0.bias": np.ones(2)}, {"schema": "tupate-hub-head/1"}).to_bytes(), "x")


def test_a_registry_lists_a_head_and_reads_it(toy_zoo: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    task = zoo.registry.entries[0].task
    zoo = with_head(zoo, toy_head(task))
    entry = zoo.registry.find(task)
    head = zoo.head(entry)
    assert head is not None
    assert head.label_names == ("no", "yes")
    assert entry.head["file"] in {file for file, _, _ in zoo.registry.files()}
    assert zoo.head(next(one for one in zoo.registry.entries if one.task != task)) is None
    assert zoo.verify() == []


def test_verify_finds_a_damaged_head_and_one_of_another_task(toy_zoo: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    first, second = (zoo.registry.in_space(zoo.registry.default_space)[at].task for at in (0, 1))
    zoo = with_head(zoo, toy_head(first))
    path = zoo.folder / zoo.registry.find(first).head["file"]
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert any("another content" in problem for problem in zoo.verify())
    entries = tuple(
        replace(one, head=placed(path.relative_to(zoo.folder).as_posix(), path.read_bytes()))
        if one.task == first
        else one
        for one in zoo.registry.entries
    )
    path.write_bytes(toy_head(second).to_bytes())
    entries = tuple(
        replace(one, head=placed(one.head["file"], path.read_bytes())) if one.head else one for one in entries
    )
    other = replace(zoo, registry=replace(zoo.registry, entries=entries))
    assert any(f"the head of {second!r}" in problem for problem in other.verify())


def test_where_a_head_lies_is_checked(toy_zoo: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    zoo = with_head(zoo, toy_head(zoo.registry.entries[0].task))
    text = zoo.registry.to_json()
    with pytest.raises(RegistryError, match="head: its file"):
        parse_registry(text.replace("/heads/", "/../"), "x")


def test_a_merged_registry_has_the_heads_of_both(toy_zoo: Path, tmp_path: Path) -> None:
    zoo = Zoo.open(toy_zoo)
    task = zoo.registry.entries[0].task
    bare = zoo.registry
    zoo = with_head(zoo, toy_head(task))
    for ours, theirs in ((zoo.registry, bare), (bare, zoo.registry)):
        assert merge(ours, theirs).registry.find(task).head == zoo.registry.find(task).head
    merged = merge_zoos(zoo, zoo, tmp_path / "merged")
    written = Zoo.open(tmp_path / "merged")
    assert merged.registry.find(task).head
    assert written.verify() == []
