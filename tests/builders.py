"""Embeddings and zoos made from seeds, small enough for a property test."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tupate_hub.compare.input_covariance import InputCovariance
from tupate_hub.compare.pair_index import build_pair_index
from tupate_hub.embedding import Block, TaskEmbedding, make_block, order_blocks, parse_embedding
from tupate_hub.export import export
from tupate_hub.registry import FILENAME, Entry, Registry, SpaceEntry, Task
from tupate_hub.space import Space
from tupate_hub.zoo import Zoo

BASE = "acme/tiny-bert"
LORA = Space(BASE, "lora")
PROMPT = Space(BASE, "prompt")

#: The toy zoo's tasks: (name, aliases, kind, dataset, LoRA rank). imdb and sst2 stand on one dataset; rte is weak.
TASKS = (
    ("imdb", ("stanfordnlp/imdb",), "classification", "acme/reviews", 4),
    ("mnli", ("glue/mnli", "multi_nli"), "classification", "nyu-mll/multi_nli", 2),
    ("rte", ("glue/rte",), "classification", "acme/rte", 3),
    ("snli", (), "classification", "stanfordnlp/snli", 2),
    ("squad", ("rajpurkar/squad",), "qa", "rajpurkar/squad", 4),
    ("sst2", ("sst-2", "glue/sst2"), "classification", "acme/reviews", 1),
)


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Standard normal numbers in float32."""
    return rng.standard_normal(shape).astype(np.float32)


def lora_block(
    rng: np.random.Generator, name: str, rank: int = 2, inner: int = 6, outer: int = 5, scale: float = 2.0
) -> Block:
    """A LoRA block of random factors."""
    return make_block(name, {"A": normal(rng, rank, inner), "B": normal(rng, outer, rank)}, scale)


def lora(task: str, seed: int, rank: int = 2, layers: int = 2, scale: float = 2.0, **facts: Any) -> TaskEmbedding:
    """A LoRA embedding: a query and a value block a layer."""
    rng = np.random.default_rng(seed)
    names = [f"layer.{number}.{place}" for number in range(layers) for place in ("query", "value")]
    return TaskEmbedding(task, LORA, order_blocks(lora_block(rng, name, rank, scale=scale) for name in names), facts)


def bottleneck(task: str, seed: int, hidden: int = 3, width: int = 5, layers: int = 2) -> TaskEmbedding:
    """An embedding of bottleneck adapters with biases."""
    rng = np.random.default_rng(seed)
    blocks = []
    for number in range(layers):
        parts = {
            "down": normal(rng, hidden, width),
            "down_bias": normal(rng, hidden),
            "up": normal(rng, width, hidden),
            "up_bias": normal(rng, width),
        }
        blocks.append(make_block(f"layer.{number}.adapter", parts, 1.5))
    return TaskEmbedding(task, Space(BASE, "bottleneck"), order_blocks(blocks))


def prompt(task: str, seed: int, rows: int = 4, width: int = 6, **facts: Any) -> TaskEmbedding:
    """A prompt of `rows` vectors."""
    rng = np.random.default_rng(seed)
    return TaskEmbedding(task, PROMPT, (make_block("prompt", {"rows": normal(rng, rows, width)}),), facts)


def single(task: str, part: str, values: np.ndarray, method: str = "bitfit", scale: float = 1.0) -> TaskEmbedding:
    """An embedding of one block with one part."""
    return TaskEmbedding(task, Space(BASE, method), (make_block("only", {part: values}, scale),))


def dense(one: TaskEmbedding) -> dict[str, np.ndarray]:
    """The update of each LoRA block in full, s B A, in float64: what the factors stand for."""
    return {
        block.name: block.scale * block.parts["B"].astype(np.float64) @ block.parts["A"].astype(np.float64)
        for block in one.blocks
    }


def each_block(one: TaskEmbedding, change: Callable[[Block], Block]) -> TaskEmbedding:
    """The embedding with every block changed."""
    return replace(one, blocks=tuple(change(block) for block in one.blocks))


def cosine(x: np.ndarray, y: np.ndarray) -> float:
    return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


def place(root: Path, file: str, data: bytes) -> dict[str, Any]:
    """Write a file of a zoo and say what its registry has to: file, bytes, sha256."""
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return {"file": file, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def build_toy_zoo(root: Path) -> Path:
    """Write six tasks in two spaces with their `update` indexes; returns `root`."""
    tasks, entries, spaces = {}, [], {}
    for seed, (name, aliases, kind, dataset, _) in enumerate(TASKS):
        size = 1000 * (seed + 1)
        tasks[name] = Task(name, name.upper(), aliases, kind, kind, size, "accuracy", dataset, "cc-by-4.0")
    for space in (LORA, PROMPT):
        made = []
        for seed, (name, *_, rank) in enumerate(TASKS):
            facts = {"licence": "cc-by-4.0", "data": {"sha256": f"{seed:064x}"}}
            one = lora(name, seed, rank, **facts) if space == LORA else prompt(name, 100 + seed, **facts)
            data = one.to_bytes()
            made.append(parse_embedding(data, name))
            flags = ("weak",) if name == "rte" else ()
            source = {"kind": "trained", "data_sha256": f"{seed:064x}", "steps": 10, "seconds": 1.0, "seed": 0}
            scores = {"metric": "accuracy", "primary": 0.5 + seed / 20, "baseline": 0.5}
            kept = place(root, f"zoo/{space.name}/{name}.safetensors", data)
            entries.append(Entry(name, space.name, **kept, source=source, scores=scores, flags=flags))
        digests = [entry.sha256 for entry in entries if entry.space == space.name]
        index = build_pair_index(space.name, "update", made, digests).to_bytes()
        stored = {"update": place(root, f"zoo/{space.name}/index-update.safetensors", index)}
        spaces[space.name] = SpaceEntry(space.name, BASE, space.method, "0" * 64, {}, stored)
    registry = Registry(tasks, spaces, tuple(entries), LORA.name)
    (root / FILENAME).write_text(registry.to_json(), encoding="utf-8")
    return root


def zoo_of(root: Path, *embeddings: TaskEmbedding, index: bool = False, **tasks: Task) -> Zoo:
    """A zoo of these embeddings, with `update` indexes if `index`; `tasks` describe some of them."""
    registry = Registry()
    for one in embeddings:
        space = SpaceEntry(one.space.name, one.space.base, one.space.method)
        kept = place(root, f"zoo/{one.space.name}/{one.task}.safetensors", one.to_bytes())
        registry = registry.with_entry(
            Entry(one.task, one.space.name, **kept), tasks.get(one.task, Task(one.task, one.task)), space
        )
    if index:
        spaces = {}
        for name, space in registry.spaces.items():
            read = [parse_embedding(one.to_bytes(), one.task) for one in embeddings if one.space.name == name]
            mine = sorted(read, key=lambda one: one.task)
            digests = [entry.sha256 for entry in registry.in_space(name)]
            data = build_pair_index(name, "update", mine, digests).to_bytes()
            stored = place(root, f"zoo/{name}/index-update.safetensors", data)
            spaces[name] = replace(space, index={"update": stored})
        registry = replace(registry, spaces=spaces)
    root.mkdir(parents=True, exist_ok=True)
    (root / FILENAME).write_text(registry.to_json(), encoding="utf-8")
    return Zoo(root, registry)


# --- statistics of a base model's inputs --------------------------------------------------------------------------

INNER = 6
NAMES = [f"layer.{number}.{place}" for number in range(2) for place in ("query", "value")]
PLACE = {name: f"{name.rpartition('.')[0]}.query" for name in NAMES}


def covariance(seed: int, width: int = INNER) -> np.ndarray:
    x = normal(np.random.default_rng(seed), 20, width) * np.geomspace(0.1, 3, width).astype(np.float32)
    return np.asarray(x.T @ x / 20, dtype=np.float32)


def input_covariance(**changed: Any) -> InputCovariance:
    inputs = {"layer.0.query": covariance(0), "layer.1.query": covariance(1)}
    return InputCovariance(
        **{"base": BASE, "base_sha256": "ab" * 32, "tokens": 20, "inputs": inputs, "place": PLACE, **changed}
    )


def peft(folder: Path, scale: float = 2.0, **config: Any) -> Path:
    """A LoRA folder as PEFT writes it; `config` changes its configuration, None takes a field away."""
    folder.mkdir(parents=True)
    for name, data in export(lora("exported", 7, scale=scale), "peft", bare=True).items():
        (folder / name).write_bytes(data)
    path = folder / "adapter_config.json"
    changed = {**json.loads(path.read_text()), **config}
    path.write_text(json.dumps({name: value for name, value in changed.items() if value is not None}))
    return folder
