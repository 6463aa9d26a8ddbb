"""A large registry on the Hub: what one question about it fetches, and the next one does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import LORA
from large import grown, loras, many
from loopback import LoopbackHub, User
from published import NAME, publish

from tupate_hub import Zoo
from tupate_hub.registry import MOST_TOGETHER

#: What the issue of large registries allows.
MOST_REQUESTS, MOST_BYTES = 8, 40_000_000


def asked(hub: LoopbackHub) -> list[str]:
    """The kinds of files that were asked for."""
    return [Path(one.path).name if "registry" in one.path else Path(one.path).parent.name for one in hub.seen]


def test_a_question_fetches_a_shard_of_each_kind_and_the_nearest_once(
    hub: LoopbackHub, sharded: Zoo, invoke: Callable[..., Any]
) -> None:
    publish(hub, sharded.root)
    for question in (["similar", "k-task-006"], ["similar", "K TASK 000"], ["show", "k-task-006"]):
        first = invoke(*question, "--registry", NAME)
        assert first.code == 0
        assert len(hub.seen) <= MOST_REQUESTS
        hub.seen.clear()
        assert invoke(*question, "--registry", NAME) == first
        assert not [one for one in hub.seen if question[0] == "similar"]
        hub.seen.clear()


def test_it_asks_for_nothing_else(hub: LoopbackHub, sharded: Zoo, invoke: Callable[..., Any]) -> None:
    publish(hub, sharded.root)
    assert invoke("similar", "k-task-006", "--registry", NAME).code == 0
    fetched = [one.path for one in hub.seen if "/resolve/" in one.path]
    folders = [Path(path).parent.name for path in fetched[1:3]]
    assert (fetched[0].endswith("registry.json"), folders) == (True, ["names", "entries"])
    assert [Path(path).name for path in fetched[3:]] == ["nearest-update.safetensors"]


def test_a_typo_and_a_page_of_the_list(hub: LoopbackHub, sharded: Zoo, invoke: Callable[..., Any]) -> None:
    publish(hub, sharded.root)
    typo = invoke("similar", "k-task-0006", "--registry", NAME)
    assert (typo.code, "did you mean k-task-006" in typo.err) == (2, True)
    assert len(hub.seen) == 2
    hub.seen.clear()
    page = invoke("list", "--limit", 2, "--page", 3, "--registry", NAME, "--json")
    local = invoke("list", "--registry", sharded.root, "--json").json()
    assert page.json() == local[4:6]
    assert len(hub.seen) <= 4


def test_some_thousand_sketches(hub: LoopbackHub, tmp_path: Path, invoke: Callable[..., Any]) -> None:
    """With the real size of shards; the sketches alone are kept, so that there is nothing else to fetch."""
    zoo = many(tmp_path / "zoo", MOST_TOGETHER + 1)
    assert zoo.registry.shelves is not None
    assert len(zoo.registry.shelves.entries.shards) > 2
    publish(hub, zoo.root)
    first = invoke("similar", "ACME/task_000600", "--registry", NAME, "--json")
    assert len(first.json()["neighbors"]) == 10
    assert len(hub.seen) <= MOST_REQUESTS
    assert sum(one.sent for one in hub.seen) < MOST_BYTES
    hub.seen.clear()
    assert invoke("similar", "ACME/task_000600", "--registry", NAME, "--json") == first
    assert hub.seen == []


@pytest.mark.parametrize("shown", ["--dry-run", None])
def test_it_is_pushed_as_it_is(
    shown: str | None, hub: LoopbackHub, sharded: Zoo, invoke: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.store.users["hf_token"] = User("acme")
    monkeypatch.setenv("HF_TOKEN", "hf_token")
    options = [shown] if shown else []
    pushed = invoke("push", NAME, "--registry", sharded.root, "--json", *options)
    assert pushed.code == 0, pushed.err
    added = {one["file"] for one in pushed.json()["added"]}
    assert {file for file, _, _ in sharded.registry.files()} <= added
    if shown is None:
        there = Zoo.open(NAME)
        assert there.verify() == []
        assert there.registry.shelves == sharded.registry.shelves
        monkeypatch.setenv("TUPATE_HUB_CACHE", str(sharded.root / "cache"))
        hub.seen.clear()
        again = invoke("push", NAME, "--registry", sharded.root, "--json")
        assert (again.json()["added"], again.json()["changed"], again.json()["removed"]) == ([], [], [])
        assert not [one for one in hub.seen if "/entries/" in one.path or "/names/" in one.path]


def test_two_large_ones_become_one_on_the_hub(
    hub: LoopbackHub, sharded: Zoo, tmp_path: Path, invoke: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only the Hub had stays; shards, sketches and nearest embeddings are those of both."""
    hub.store.users["hf_token"] = User("acme")
    monkeypatch.setenv("HF_TOKEN", "hf_token")
    assert invoke("push", NAME, "--registry", sharded.root).code == 0
    other = grown(tmp_path / "other", *list(loras(20))[8:], keep="sketch")
    pushed = invoke("push", NAME, "--registry", other.root)
    assert pushed.code == 0, pushed.err
    there = Zoo.open(f"{NAME}@main")
    entries = there.registry.in_space(LORA.name)
    assert [entry.kept for entry in entries].count("embedding") == 12
    assert len(entries) == 20
    assert there.verify() == []
    assert len(there.similar("k-task-018", 5).neighbors) == 5
    assert there.registry.shelves is not None
