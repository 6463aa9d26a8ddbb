"""Registries whose rows are in shards, grown by additions as users' are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from builders import LORA, lora, prompt

from tupate_hub import Zoo
from tupate_hub.collect.add import add_embeddings, open_or_start
from tupate_hub.collect.nearest import KnownSketches, with_nearest
from tupate_hub.collect.shelf import Shelf
from tupate_hub.compare.sketch import ENTRIES, Sketch
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.registry import Entry, Registry, SpaceEntry, Task


def grown(root: Path, *embeddings: TaskEmbedding, keep: str = "embedding", force: bool = False) -> Zoo:
    """A registry with these embeddings in it, opened as it lies in its folder."""
    _, became = add_embeddings(
        open_or_start(root), ((Path(one.task), one) for one in embeddings), keep=keep, force=force
    )
    became.require_all()
    return Zoo.open(root)


def loras(count: int) -> Iterable[TaskEmbedding]:
    """LoRA whose names are spread over the alphabet, every fifth of some data of its own."""
    for number in range(count):
        task = f"{'krbxwe'[number % 6]}-task-{number:03}"
        source = {"kind": "hub", "repo": f"acme/{task}", "revision": "a" * 40, "sha256": f"{number:064x}"}
        yield lora(task, number, source={**source, "dataset": f"acme/data{number // 5}"})


def mixed(root: Path) -> Zoo:
    """A registry of two spaces, twelve LoRA and four prompts, in shards."""
    return grown(root, *loras(12), *(prompt(f"k-task-{number:03}", number) for number in (0, 6, 100, 101)))


def many(root: Path, count: int) -> Zoo:
    """A registry of so many sketches of random bits, which take no time to make, and no weights."""
    rng = np.random.default_rng(0)
    rows, shelf = [], Shelf(root, Registry())
    space = SpaceEntry(LORA.name, LORA.base, LORA.method)
    known = KnownSketches(Registry())
    for number in range(count):
        task, digest = f"task-{number:06}", hashlib.sha256(b"%d" % number).hexdigest()
        about = Task(task, f"Task {number}", (f"acme/{task}",), "classification", dataset=f"acme/data{number // 7}")
        source = {"kind": "hub", "repo": f"acme/{task}", "revision": digest[:40], "sha256": digest[::-1]}
        rows.append((Entry(task, LORA.name, "", 0, digest, source=source, kept="sketch"), about, space))
        known.add(digest, Sketch(task, rng.integers(0, 256, ENTRIES // 8, dtype=np.uint8), 1.0, 0.1))
    registry = with_nearest(shelf, Zoo(root, Registry()), Registry().with_entries(rows), known)
    shelf.write_registry(registry)
    return Zoo.open(root)


def shards(root: Path, kind: str) -> list[dict[str, Any]]:
    """What `registry.json` says of the shards of a kind."""
    listed: list[dict[str, Any]] = json.loads((root / "registry.json").read_text())["shards"][kind]
    return listed


def damage(root: Path, kind: str, number: int, how: Callable[[list[dict[str, Any]]], object], **said: Any) -> None:
    """Change the rows of a shard, and tell the registry the new digest, as a hostile author would; and what is `said`."""
    path = root / "registry.json"
    registry = json.loads(path.read_text())
    place = registry["shards"][kind][number]
    rows = json.loads((root / place["file"]).read_text())
    how(rows)
    data = json.dumps(rows).encode()
    (root / place["file"]).write_bytes(data)
    place.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), **said)
    path.write_text(json.dumps(registry))
