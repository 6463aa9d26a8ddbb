"""Killed at any change of the disk: the registry stays whole, and the same command again does what it was to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import BASE, LORA, lora, peft, zoo_of
from dying import again_without_torch, can_fork, deaths
from loopback import LoopbackHub
from orchards import peft_files, plant, written

from tupate_hub import Zoo
from tupate_hub.collect.keep import keep_pair_index

pytestmark = [
    pytest.mark.skipif(not can_fork, reason="needs fork"),
    pytest.mark.skipif(again_without_torch, reason="done in the first environment"),
]

Invoke = Callable[..., Any]


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A registry of three tasks, with a packed index."""
    zoo = zoo_of(tmp_path / "start", lora("imdb", 1), lora("sst2", 2), lora("rte", 3))
    keep_pair_index(zoo, LORA.name)
    return tmp_path / "start"


def digests(folder: Path) -> dict[str, str]:
    return {entry.task: entry.sha256 for entry in Zoo.open(folder).registry.entries}


def unnamed(folder: Path) -> set[str]:
    """Files of embeddings and indexes that the registry does not name."""
    named = {file for file, _, _ in Zoo.open(folder).registry.files()}
    return {name for name in written(folder) if name.endswith(".safetensors")} - named


def killed_everywhere(
    invoke: Invoke, tmp_path: Path, start: Path | None, *command: Any, again: tuple[int, ...] = (0,)
) -> int:
    """Kill a command on a copy of a registry at each change, look at it, and give the command again.

    Returns
    -------
    How many points there are.
    """
    clean = copied(start, tmp_path / "clean")
    assert invoke(*command, "--registry", clean).code == 0
    expected, before, points = digests(clean), digests(start) if start else {}, 0

    def work_at(point: int) -> Callable[[], object]:
        folder = copied(start, tmp_path / f"at{point}")
        return lambda: invoke(*command, "--registry", folder)

    for point in deaths(work_at):
        folder = tmp_path / f"at{point}"
        if (folder / "registry.json").exists():
            assert Zoo.open(folder).verify() == [], f"damaged by a death at point {point}"
            assert digests(folder) in (before, expected) or before.items() <= digests(folder).items()
        else:
            assert start is None
        result = invoke(*command, "--registry", folder)
        assert result.code in again, f"after a death at point {point}: {result.err}"
        assert Zoo.open(folder).verify() == []
        assert digests(folder) == expected
        keep_pair_index(Zoo.open(folder), LORA.name)  # whoever writes next takes away what nothing names
        assert unnamed(folder) == unnamed(clean) == set()
        points = point
        shutil.rmtree(folder)
    return points


def copied(start: Path | None, folder: Path) -> Path:
    if start is not None:
        shutil.copytree(start, folder)
    return folder


def test_adding(invoke: Invoke, tmp_path: Path, start: Path) -> None:
    """Killed behind the last rename, the same command says that the task is there."""
    adapter = peft(tmp_path / "reviews")
    assert killed_everywhere(invoke, tmp_path, start, "add", adapter, again=(0, 2)) > 5


def test_adding_to_nothing(invoke: Invoke, tmp_path: Path) -> None:
    adapter = peft(tmp_path / "reviews")
    assert killed_everywhere(invoke, tmp_path, None, "add", adapter, again=(0, 2)) > 5


def test_replacing(invoke: Invoke, tmp_path: Path, start: Path) -> None:
    adapter = peft(tmp_path / "reviews", scale=5.0)
    assert killed_everywhere(invoke, tmp_path, start, "add", adapter, "--task", "sst2", "--force") > 8


def test_replacing_what_replaced_another(invoke: Invoke, tmp_path: Path, start: Path) -> None:
    one, other = peft(tmp_path / "one", scale=5.0), peft(tmp_path / "other", scale=7.0)
    assert invoke("add", one, "--task", "sst2", "--force", "--registry", start).code == 0
    assert killed_everywhere(invoke, tmp_path, start, "add", other, "--task", "sst2", "--force") > 8


def test_importing_and_importing_again(
    hub: LoopbackHub, invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        plant(hub, f"a/task{number}-lora", peft_files(number, f"acme/task{number}"))
    command = ("import", "--library", "peft", "--base", BASE)
    assert killed_everywhere(invoke, tmp_path, None, *command) > 8
    mine = tmp_path / "clean"
    plant(hub, "a/task1-lora", peft_files(11, "acme/task1"))
    plant(hub, "a/task3-lora", peft_files(3, "acme/task3"))
    start = Path(shutil.move(mine, tmp_path / "mine"))
    (tmp_path / "again").mkdir()
    assert killed_everywhere(invoke, tmp_path / "again", start, *command) > 8


def test_keeping_an_index_anew(invoke: Invoke, tmp_path: Path, start: Path) -> None:
    """A new embedding, then a new index in the place of the old one."""
    assert invoke("add", peft(tmp_path / "reviews"), "--registry", start).code == 0
    expected = digests(start)

    def work_at(point: int) -> Callable[[], object]:
        folder = copied(start, tmp_path / f"at{point}")
        return lambda: keep_pair_index(Zoo.open(folder), LORA.name)

    for point in deaths(work_at):
        folder = tmp_path / f"at{point}"
        assert Zoo.open(folder).verify() == []
        keep_pair_index(Zoo.open(folder), LORA.name)
        assert Zoo.open(folder).verify() == []
        assert digests(folder) == expected
        assert unnamed(folder) == set()
        assert "update" in Zoo.open(folder).registry.space(LORA.name).index


def test_merging(invoke: Invoke, tmp_path: Path, start: Path) -> None:
    other = tmp_path / "other"
    keep_pair_index(zoo_of(other, lora("trec", 4), lora("squad", 5)), LORA.name)

    def work_at(point: int) -> Callable[[], object]:
        return lambda: invoke("merge", start, other, "--to", tmp_path / f"at{point}")

    points = 0
    for point in deaths(work_at):
        folder = tmp_path / f"at{point}"
        if not (folder / "registry.json").exists():
            assert invoke("merge", start, other, "--to", folder).code == 0
        assert Zoo.open(folder).verify() == []
        assert digests(folder) == {**digests(start), **digests(other)}
        points = point
    assert points > 10


def test_links_lead_nowhere(invoke: Invoke, tmp_path: Path, start: Path) -> None:
    """What is written stays in the registry's folder, also where a folder in it is a link."""
    outside = tmp_path / "outside"
    shutil.move(start / "zoo", outside)
    (start / "zoo").symlink_to(outside, target_is_directory=True)
    before = written(outside)
    result = invoke("add", peft(tmp_path / "reviews"), "--registry", start)
    assert (result.code, "leads out of the " in result.err) == (2, True)
    assert written(outside) == before
