"""Adapters and base models on disk, sound until a test damages them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from tupate_hub.check.basemodel import BaseModel, read_base
from tupate_hub.check.checking import Checked, Place, check_adapters

WIDTH, RANK, LAYERS, VOCABULARY = 16, 4, 5, 30
PREFIX = "base_model.model.model.layers"
CONFIG = {
    "peft_type": "LORA",
    "base_model_name_or_path": "acme/tiny",
    "r": RANK,
    "lora_alpha": 8,
    "target_modules": ["q_proj", "v_proj"],
    "task_type": "CAUSAL_LM",
}
BASE_CONFIG = {
    "model_type": "llama",
    "hidden_size": WIDTH,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "num_hidden_layers": LAYERS,
    "vocab_size": VOCABULARY,
}
OUT = {"q_proj": WIDTH, "v_proj": WIDTH // 2}
Tensors = dict[str, np.ndarray]


def keys(layer: int, place: str = "q_proj") -> tuple[str, str]:
    """The keys of A and B of a place."""
    module = f"{PREFIX}.{layer}.self_attn.{place}"
    return f"{module}.lora_A.weight", f"{module}.lora_B.weight"


def factors(rank: int = RANK, size: float = 0.03, seed: int = 0) -> Tensors:
    """A sound LoRA on the query and value weights of a small Llama; its values have every direction that they may."""
    rng = np.random.default_rng(seed)
    found: Tensors = {}
    for layer in range(LAYERS):
        for place, out in OUT.items():
            a, b = keys(layer, place)
            found[a] = (rng.standard_normal((rank, WIDTH)) * size).astype(np.float32)
            found[b] = (rng.standard_normal((out, rank)) * size).astype(np.float32)
    return found


def write(folder: Path, tensors: Mapping[str, np.ndarray] | None = None, **config: Any) -> Path:
    """A PEFT folder; `config` changes its configuration, None takes a field away."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_model.safetensors").write_bytes(save(dict(factors() if tensors is None else tensors)))
    fields = {name: value for name, value in {**CONFIG, **config}.items() if value is not None}
    (folder / "adapter_config.json").write_text(json.dumps(fields), encoding="utf-8")
    return folder


def weights(size: float = 0.05) -> Tensors:
    """The weights of the base model that `factors` are for."""
    rng = np.random.default_rng(9)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, WIDTH)}
    for layer in range(LAYERS):
        for place, out in OUT.items():
            shapes[f"model.layers.{layer}.self_attn.{place}.weight"] = (out, WIDTH)
    return {name: (rng.standard_normal(shape) * size).astype(np.float32) for name, shape in shapes.items()}


def write_base(folder: Path, tensors: Mapping[str, np.ndarray] | None = None, **config: Any) -> Path:
    """A base model's folder; without tensors its configuration alone."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**BASE_CONFIG, **config}), encoding="utf-8")
    if tensors is not None:
        (folder / "model.safetensors").write_bytes(save(dict(tensors)))
    return folder


def check(*paths: Path, base: Path | BaseModel | None = None) -> tuple[Checked, ...]:
    """These adapters, checked."""
    against = read_base(base) if isinstance(base, Path) else base
    return check_adapters([Place(str(path), path) for path in paths], against)


def rules(*paths: Path, base: Path | BaseModel | None = None) -> set[str]:
    """The rules that apply to the last of these adapters."""
    return {finding.rule.id for finding in check(*paths, base=base)[-1].findings}


def detail(path: Path, rule: str, base: Path | BaseModel | None = None) -> str:
    """What is told of the one finding of that rule."""
    (one,) = check(path, base=base)
    (found,) = [finding.found.text for finding in one.findings if finding.rule.id == rule]
    return found
