"""Killed at any change of the disk, a registry in shards stays whole, and the same command again does what it was to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import LORA, lora, peft
from dying import again_without_torch, can_fork, deaths
from large import grown, loras
from orchards import written

from tupate_hub import Zoo
from tupate_hub.collect.keep import keep_pair_index

pytestmark = [
    pytest.mark.skipif(not can_fork, reason="needs fork"),
    pytest.mark.skipif(again_without_torch, reason="done in the first environment"),
]


@pytest.fixture(autouse=True)
def _shards_alone(small_shards: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No files of nearest embeddings, which take longer to make than all the rest."""
    monkeypatch.setattr("tupate_hub.collect.nearest.LEAST", 1000)


def digests(folder: Path) -> dict[str, str]:
    return {entry.task: entry.sha256 for entry in Zoo.open(folder).registry.entries}


def unnamed(folder: Path) -> set[str]:
    """Files of embeddings, sketches and shards that the registry does not name."""
    named = {file for file, _, _ in Zoo.open(folder).registry.files()}
    return {name for name in written(folder) if name.endswith((".safetensors", ".json")) and "/" in name} - named


def killed_everywhere(
    start: Path, tmp_path: Path, work: Callable[[Path], object], again: Callable[[Path], object]
) -> int:
    """Kill the work on a copy at each change, look at it, and do it again; returns how many points there are."""
    clean = Path(shutil.copytree(start, tmp_path / "clean"))
    work(clean)
    before, expected, points = digests(start), digests(clean), 0

    def work_at(point: int) -> Callable[[], object]:
        folder = Path(shutil.copytree(start, tmp_path / f"at{point}"))
        return lambda: work(folder)

    for point in deaths(work_at):
        folder = tmp_path / f"at{point}"
        assert Zoo.open(folder).verify() == [], f"damaged by a death at point {point}"
        assert digests(folder) in (before, expected)
        again(folder)
        assert digests(folder) == expected
        keep_pair_index(Zoo.open(folder), LORA.name)  # whoever writes next takes away what nothing names
        assert Zoo.open(folder).verify() == []
        assert unnamed(folder) == set(), f"left by a death at point {point}"
        points = point
        shutil.rmtree(folder)
    return points


def test_adding_and_replacing(tmp_path: Path) -> None:
    start = grown(tmp_path / "start", *loras(7)).root

    def work(folder: Path) -> None:
        grown(folder, lora("k-task-0005", 77), lora("k-task-000", 78), force=True)

    assert killed_everywhere(start, tmp_path, work, work) > 12


def test_crossing_from_one_file_to_shards(tmp_path: Path, invoke: Callable[..., Any]) -> None:
    start = grown(tmp_path / "start", *loras(4)).root
    adapter = peft(tmp_path / "k-task-0005")

    def work(folder: Path) -> None:
        assert invoke("add", adapter, "--registry", folder).code == 0

    def again(folder: Path) -> None:
        assert invoke("add", adapter, "--registry", folder).code in (0, 2)

    assert killed_everywhere(start, tmp_path, work, again) > 10


def test_merging(tmp_path: Path, invoke: Callable[..., Any]) -> None:
    """Two small ones, of which a large one is made."""
    one, other = (grown(tmp_path / name, *list(loras(6))[part]).root for name, part in _SIDES.items())

    def work_at(point: int) -> Callable[[], object]:
        return lambda: invoke("merge", one, other, "--to", tmp_path / f"at{point}")

    points = 0
    for point in deaths(work_at):
        folder = tmp_path / f"at{point}"
        if not (folder / "registry.json").exists():
            assert invoke("merge", one, other, "--to", folder).code == 0
        merged = Zoo.open(folder)
        assert merged.verify() == []
        assert digests(folder) == {**digests(one), **digests(other)}
        assert merged.registry.shelves is not None
        points = point
        shutil.rmtree(folder)
    assert points > 20


_SIDES = {"one": slice(4), "other": slice(3, 6)}
