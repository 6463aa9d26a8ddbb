"""Killed at any change of the disk while a run is delivered, the registry stays whole, and delivery goes through again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import lora, zoo_of
from dying import can_fork, deaths

from tupate_hub import Zoo
from tupate_hub.collect.add import open_or_start
from tupate_hub.training.delivery import deliver

pytestmark = pytest.mark.skipif(not can_fork, reason="needs fork")

BASE_ID, BY = "acme/toy-bert", {"by": "a test"}


def test_a_run_is_delivered_in_the_place_of_another(tuned: Any, tmp_path: Path) -> None:
    zoo_of(tmp_path / "start", lora("imdb", 1), lora("sst2", 2))
    result = tuned("toy_classes")
    other = replace(result, tensors={name: 2 * array for name, array in result.tensors.items()})
    deliver(open_or_start(tmp_path / "start"), other, BASE_ID, BY)

    def work_at(point: int) -> Callable[[], object]:
        folder = Path(shutil.copytree(tmp_path / "start", tmp_path / f"at{point}"))
        return lambda: deliver(open_or_start(folder), result, BASE_ID, BY)

    points = 0
    for point in deaths(work_at):
        folder = tmp_path / f"at{point}"
        assert Zoo.open(folder).verify() == []
        assert len(Zoo.open(folder).registry.entries) == 3
        found = deliver(open_or_start(folder), result, BASE_ID, BY)
        assert found.adapter is not None and found.adapter.is_dir()
        zoo = Zoo.open(folder)
        assert zoo.verify() == []
        assert sorted(entry.task for entry in zoo.registry.entries) == ["imdb", "sst2", "toy_classes"]
        points = point
    assert points > 20
