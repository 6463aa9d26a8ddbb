"""Record: a finished run as a TaskEmbedding whose header tells everything about it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tupate_hub.embedding import TaskEmbedding, make_block, order_blocks
from tupate_hub.space import Space
from tupate_hub.training.model import NAME
from tupate_hub.training.tuner import Floats

_LORA = re.compile(rf"^[a-z]+\.(?P<block>.+)\.loras\.{NAME}\.lora_(?P<part>[AB])$")
_TRAINING = (
    "steps", "best_step", "held_out_score", "final_loss", "examples_seen", "train_examples", "validation_examples",
    "seconds", "threads",
)  # fmt: skip


def to_embedding(tensors: Mapping[str, Floats], facts: Mapping[str, Any], base: str) -> TaskEmbedding:
    """An embedding of a run's tensors, as the `adapters` library names them, and the run's facts.

    `base` is the base model's id on the Hub.
    """
    parts: dict[str, dict[str, Floats]] = {}
    for name, array in tensors.items():
        match = _LORA.match(name)
        if match is None:
            raise ValueError(f"no LoRA parameter: {name}")
        parts.setdefault(match["block"], {})[match["part"]] = array
    settings = facts["settings"]
    scale = settings["alpha"] / settings["r"]
    blocks = order_blocks(make_block(name, part, scale) for name, part in parts.items())
    regime, data = facts["regime"], facts["data"]
    header = {
        "task_kind": facts["kind"],
        "base_sha256": facts["base_sha256"],
        "architecture": facts["architecture"],
        "settings": {**settings, "init_seed": regime["init_seed"]},
        "training": {**regime, **{name: facts[name] for name in _TRAINING}},
        "scores": {
            **facts["scores"],
            "metric": facts["metric"],
            "baseline": facts["baseline"],
            "baseline_rule": facts["baseline_rule"],
        },
        "data": {
            "name": data["original_dataset"],
            "class": data["class"],
            "original_train_size": data["original_train_size"],
            "licence": data["licence"],
            "source": data["source"],
            "sha256": facts["data_sha256"],
        },
        "licence": "Apache-2.0",
        "software": facts["versions"],
        "source": {"kind": "trained", "by": "scripts/train_zoo.py"},
    }
    return TaskEmbedding(facts["task"], Space(base, facts["method"]), blocks, header)
