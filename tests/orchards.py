"""Model repositories of strangers on the loopback Hub: adapters of PEFT and AdapterHub, good, bad and hostile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from builders import BASE, lora
from loopback import LoopbackHub

from tupate_hub.export import export
from tupate_hub.storage.safetensors import TensorFile


def peft_files(seed: int, task: str = "", base: str = BASE, scale: float = 2.0, **card: Any) -> dict[str, bytes]:
    """A LoRA as PEFT leaves it, with its card, and what training leaves beside it; the task is the card's dataset."""
    files = dict(export(lora("exported", seed, scale=scale), "peft", bare=True))
    config = json.loads(files["adapter_config.json"])
    files["adapter_config.json"] = json.dumps({**config, "base_model_name_or_path": base}).encode()
    facts = {"library_name": "peft", "base_model": base, "datasets": [task] if task else [], **card}
    return {**files, "README.md": front_matter(facts), "training_args.bin": b"\x80\x04", "optimizer.pt": b"\x80\x04"}


def adapterhub_files(seed: int, name: str, base: str = BASE, width: int = 6, **card: Any) -> dict[str, bytes]:
    """A bottleneck adapter as AdapterHub publishes it: its card names no base model."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for layer in range(2):
        place = f"bert.encoder.layer.{layer}.output.adapters.{name}"
        shapes = {"adapter_down.0.weight": (2, width), "adapter_down.0.bias": (2,)}
        shapes |= {"adapter_up.weight": (width, 2), "adapter_up.bias": (width,)}
        for part, shape in shapes.items():
            tensors[f"{place}.{part}"] = rng.standard_normal(shape).astype(np.float32)
    settings = {"mh_adapter": False, "output_adapter": True, "reduction_factor": 16, "non_linearity": "relu"}
    config = {"config": settings, "hidden_size": width, "model_name": base, "name": name, "model_type": "bert"}
    return {
        "README.md": front_matter({"tags": ["bert", "adapter-transformers"], **card}),
        "adapter_config.json": json.dumps(config).encode(),
        "adapter.safetensors": TensorFile(tensors, {}).to_bytes(),
        "head_config.json": b"{}",
        "pytorch_model_head.bin": b"\x80\x04",
    }


def front_matter(facts: dict[str, Any]) -> bytes:
    lines = []
    for name, value in facts.items():
        if isinstance(value, list):
            lines += [f"{name}:", *(f"- {one}" for one in value)] if value else []
        else:
            lines.append(f"{name}: {value}")
    return "\n".join(["---", *lines, "---", "# A card", ""]).encode()


def plant(hub: LoopbackHub, name: str, files: dict[str, bytes], downloads: int = 0, **options: Any) -> str:
    """Put a model repository on the Hub; returns its commit."""
    commit = hub.store.put("models", name, files, **options)
    hub.store.repository("models", name).downloads = downloads
    return commit


def fetched(hub: LoopbackHub) -> list[str]:
    """The files of models that were fetched, as `OWNER/NAME/FILE`; the library goes straight to the storage."""
    found = []
    for one in hub.seen:
        parts = one.path.strip("/").split("/")
        if one.method == "GET" and one.status in (200, 206):
            if parts[0] == "storage":
                found.append("/".join(parts[3:]))
            elif len(parts) > 4 and parts[2] == "resolve":
                found.append("/".join((*parts[:2], *parts[4:])))
    return found


def written(root: Path) -> dict[str, bytes]:
    """Every file below a registry's folder."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def hub_cache() -> Path:
    """The Hub's own cache, as the library of this process has it."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)
