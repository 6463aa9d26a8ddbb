"""Killed at any change of the disk, a push leaves the Hub and the cache whole, and the next one does what it was to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import lora, zoo_of
from dying import can_fork, deaths
from loopback import LoopbackHub, User
from orchards import written

from tupate_hub import Zoo
from tupate_hub.hub.cache import cache_root

pytestmark = pytest.mark.skipif(not can_fork, reason="needs fork")


def on_the_hub(name: str) -> set[str]:
    zoo = Zoo.open(f"hf://datasets/{name}")
    assert zoo.verify() == []
    return {entry.task for entry in zoo.registry.entries}


def test_pushing(hub: LoopbackHub, invoke: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.store.users["hf_token"] = User("acme")
    monkeypatch.setenv("HF_TOKEN", "hf_token")
    first = zoo_of(tmp_path / "first", lora("imdb", 1), lora("sst2", 2))
    second = zoo_of(tmp_path / "second", lora("rte", 3), lora("trec", 4))
    ours, points = written(tmp_path / "second"), 0

    def work_at(point: int) -> Callable[[], object]:
        monkeypatch.setenv("TUPATE_HUB_CACHE", str(tmp_path / f"cache{point}"))
        assert invoke("push", f"acme/zoo{point}", "--registry", first.root).code == 0
        return lambda: invoke("push", f"acme/zoo{point}", "--registry", second.root)

    for point in deaths(work_at):
        assert on_the_hub(f"acme/zoo{point}") in ({"imdb", "sst2"}, {"imdb", "sst2", "rte", "trec"})
        assert invoke("push", f"acme/zoo{point}", "--registry", second.root).code == 0
        assert on_the_hub(f"acme/zoo{point}") == {"imdb", "sst2", "rte", "trec"}
        assert written(tmp_path / "second") == ours
        assert cache_root().is_dir()
        points = point
    assert points > 3
