"""Record: a finished run as a TaskEmbedding whose header tells everything about it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tupate_hub.arrays import Float32Array
from tupate_hub.embedding import Adapter, Block, TaskEmbedding, make_block
from tupate_hub.readers.adapterhub import read_adapterhub
from tupate_hub.readers.names import block_name
from tupate_hub.readers.source import Findings, Source
from tupate_hub.space import Space
from tupate_hub.training.multihead import ATTRIBUTE

#: Every layer knows the one pool of prefixes; torch names its parameters by the first.
_PREFIX_POOL = re.compile(r".*\.prefix_tuning\.pool\.")
_TRAINING = (
    "steps", "best_step", "held_out_score", "final_loss", "examples_seen", "train_examples", "validation_examples",
    "seconds", "threads",
)  # fmt: skip


def to_embedding(tensors: Mapping[str, Float32Array], facts: Mapping[str, Any], base: str) -> TaskEmbedding:
    """An embedding of a run's tensors, as the `adapters` library names them, and the run's facts.

    `base` is the base model's id on the Hub.
    """
    adapter = read_tensors(tensors, facts)
    regime, data = facts["regime"], facts["data"]
    header = {
        "task_kind": facts["kind"],
        "base_sha256": facts["base_sha256"],
        "architecture": facts["architecture"],
        "settings": {**adapter.settings, **facts["settings"], "init_seed": regime["init_seed"]},
        "training": {**regime, **{name: facts[name] for name in _TRAINING}},
        "scores": {
            **facts["scores"],
            "metric": facts["metric"],
            "baseline": facts["baseline"],
            "baseline_rule": facts["baseline_rule"],
        },
        "data": {
            "name": data.get("original_dataset", facts["task"]),
            "class": data.get("class", ""),
            "original_train_size": data.get("original_train_size"),
            "licence": data.get("licence", ""),
            "source": data.get("source", ""),
            "sha256": facts["data_sha256"],
        },
        "licence": "Apache-2.0",
        "software": facts["versions"],
        "source": {"kind": "trained", "by": "scripts/zoo/train_zoo.py"},
    }
    return TaskEmbedding(facts["task"], Space(base, facts["method"]), adapter.blocks, header)


def read_tensors(tensors: Mapping[str, Float32Array], facts: Mapping[str, Any]) -> Adapter:
    """The run's own parameters, read as a stranger's file of them would be."""
    named = {_PREFIX_POOL.sub("prefix_tuning.", name): array for name, array in tensors.items()}
    source = Source(Path(facts["task"]), Path(facts["task"]), facts["saved_config"], named)
    if not facts["saved_config"]:
        found = Findings()
        found.blocks += _OWN[facts["method"]](tensors, facts["architecture"])
        return found.adapter(source, facts["method"])
    adapter = read_adapterhub(source)
    if adapter.left_out:
        raise ValueError(f"parameters that are no part of {facts['method']}: {dict(adapter.left_out)}")
    return adapter


def _biases(tensors: Mapping[str, Float32Array], architecture: Mapping[str, Any]) -> Iterator[Block]:
    for name, difference in tensors.items():
        yield make_block(block_name(name), {"bias": difference})


def _multihead(tensors: Mapping[str, Float32Array], architecture: Mapping[str, Any]) -> Iterator[Block]:
    """One block a head: positions may change places, and a ReLU's input and output may trade a positive factor."""
    heads = architecture["num_attention_heads"]
    for name, keys in tensors.items():
        module, _, part = name.rpartition(".")
        if part == "keys":
            values = tensors[f"{module}.values"]
            halves = zip(np.split(keys, heads, axis=1), np.split(values, heads, axis=1), strict=True)
            attention = block_name(module).removesuffix(f".{ATTRIBUTE}")
            for head, (key, value) in enumerate(halves):
                yield make_block(f"{attention}.head.{head}", {"A": key, "B": value.T})


_OWN: Mapping[str, Callable[[Mapping[str, Float32Array], Mapping[str, Any]], Iterator[Block]]] = {
    "bitfit": _biases,
    "multihead-parallel": _multihead,
}
