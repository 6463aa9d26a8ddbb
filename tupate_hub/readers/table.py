"""Table: the ways in which libraries leave tuned parameters, a row each, in the order in which they are tried."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tupate_hub.embedding import Adapter
from tupate_hub.readers.adapterhub import read_adapterhub
from tupate_hub.readers.bitfit import read_biases, read_checkpoint
from tupate_hub.readers.diffusion import is_diffusion, read_diffusion
from tupate_hub.readers.formats.gguffile import is_adapter
from tupate_hub.readers.gguf import read_gguf
from tupate_hub.readers.mlx import read_mlx
from tupate_hub.readers.numbered import is_numbered, read_numbered
from tupate_hub.readers.peft import read_peft
from tupate_hub.readers.prompts import read_prompt
from tupate_hub.readers.source import Source


@dataclass(frozen=True)
class Layout:
    """How one library leaves tuned parameters.

    `weights` are the names of the weights file, best first; `config` tells the layout's own `adapter_config.json`, and
    is None where there is none; `keys` looks at a safetensors header, where the file's name does not say enough, and
    `start` at the first bytes of another file.
    `whole` is False where the reader takes what it needs from the file by itself; `metadata` is True where it needs
    what the weights file says beside its tensors.
    """

    name: str
    weights: tuple[str, ...]
    read: Callable[[Source], Adapter]
    summary: str
    config: Callable[[Mapping[str, Any]], bool] | None = None
    keys: Callable[[tuple[str, ...]], bool] | None = None
    start: Callable[[bytes], bool] | None = None
    whole: bool = True
    metadata: bool = False


def _all_biases(keys: tuple[str, ...]) -> bool:
    return bool(keys) and all(key.endswith("bias") for key in keys)


def _mlx_keys(keys: tuple[str, ...]) -> bool:
    return any(key.endswith(".lora_a") for key in keys)


def _read_unnamed(source: Source) -> Adapter:
    """A file of arrays that neither its name nor a configuration explains: its keys have to."""
    keys = tuple(source.tensors)
    if len(keys) > 1 and _all_biases(keys):
        return read_biases(source)
    return read_mlx(source) if _mlx_keys(keys) else read_prompt(source)


LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "peft",
        ("adapter_model.safetensors", "adapter_model.bin"),
        read_peft,
        "PEFT: adapter_config.json with a peft_type",
        config=lambda config: "peft_type" in config,
    ),
    Layout(
        "adapterhub",
        ("adapter.safetensors", "pytorch_adapter.bin"),
        read_adapterhub,
        "AdapterHub: adapter_config.json with an adapter's config inside",
        config=lambda config: isinstance(config.get("config"), dict),
    ),
    Layout(
        "mlx",
        ("adapters.safetensors", "*_adapters.safetensors", "adapters.npz"),
        read_mlx,
        "MLX: adapter_config.json with lora_parameters or a fine_tune_type",
        config=lambda config: "lora_parameters" in config or "fine_tune_type" in config,
    ),
    Layout("mlx-bare", ("adapters.npz",), read_mlx, "MLX: arrays called *.lora_a and *.lora_b, no configuration"),
    Layout(
        "mlx-bare",
        ("adapters.safetensors", "*_adapters.safetensors"),
        read_mlx,
        "MLX: arrays called *.lora_a and *.lora_b, no configuration",
        keys=_mlx_keys,
    ),
    Layout(
        "array",
        ("task_prompt", "*.npy", "*.npz", "*prompt*.pt", "*prompt*.pth", "*prompt*.bin"),
        _read_unnamed,
        "a bare array: a soft prompt (tokens, width) or a plain vector",
    ),
    Layout("gguf", ("*.gguf",), read_gguf, "GGUF: a LoRA as llama.cpp loads it", start=is_adapter, metadata=True),
    Layout(
        "diffusion",
        ("*.safetensors",),
        read_diffusion,
        "a diffusion model's LoRA: keys of sd-scripts, LyCORIS or diffusers",
        keys=is_diffusion,
        metadata=True,
    ),
    Layout("numbered", ("*.safetensors",), read_numbered, "LoRA as w_a_000, w_b_000, ...: no places", keys=is_numbered),
    Layout("biases", ("*.safetensors",), read_biases, "BitFit: every tensor is called *.bias", keys=_all_biases),
    Layout(
        "checkpoint",
        ("model.safetensors",),
        read_checkpoint,
        "a whole model's checkpoint, read as BitFit against its base model",
        whole=False,
    ),
)
