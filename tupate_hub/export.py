"""Export: an embedding as a folder that the `adapters` library or PEFT loads."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import FormatError, UnknownName
from tupate_hub.tensorfile import TensorFile

#: Under which attribute the models with a task head keep their encoder, by model type.
_BACKBONE = {"bert": "bert", "roberta": "roberta", "distilbert": "distilbert"}
#: The model class that a PEFT folder is for, by the task's kind.
_HEADED = {
    "classification": "AutoModelForSequenceClassification",
    "regression": "AutoModelForSequenceClassification",
    "extractive_qa": "AutoModelForQuestionAnswering",
    "multiple_choice": "AutoModelForMultipleChoice",
    "token_classification": "AutoModelForTokenClassification",
}
_ATTENTION = {"query": "q", "key": "k", "value": "v"}

Files = dict[str, bytes]


def as_embedding(embedding: TaskEmbedding, bare: bool = False) -> Files:
    """The embedding's own file, in float32."""
    return {f"{embedding.task}.safetensors": embedding.to_bytes("float32")}


def as_peft(embedding: TaskEmbedding, bare: bool = False) -> Files:
    """A PEFT adapter folder (peft 0.17 to 0.21), for any model class with a head.

    With `bare`, for a model without a head (`AutoModel`), whose modules have no prefix.

    Raises
    ------
    FormatError
        When PEFT has no counterpart of the method, or the base's model type is not known.
    """
    _require_lora(embedding, "peft")
    prefix = "base_model.model." + ("" if bare else _backbone(embedding) + ".")
    tensors = {}
    for block in embedding.blocks:
        tensors[f"{prefix}{block.name}.lora_A.weight"] = block.parts["A"]
        tensors[f"{prefix}{block.name}.lora_B.weight"] = block.parts["B"]
    ranks = {block.name: len(block.parts["A"]) for block in embedding.blocks}
    alphas = {block.name: block.scale * ranks[block.name] for block in embedding.blocks}
    rank, alpha = next(iter(ranks.values())), next(iter(alphas.values()))
    config = {
        "peft_type": "LORA",
        "task_type": None,  # with one, PEFT demands the head's weights, which are not here
        "base_model_name_or_path": embedding.space.base,
        "r": rank,
        "lora_alpha": _whole(alpha),
        "rank_pattern": {name: value for name, value in ranks.items() if value != rank},
        "alpha_pattern": {name: _whole(value) for name, value in alphas.items() if value != alpha},
        "target_modules": _target_modules(embedding),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    return {
        "adapter_config.json": _text(config),
        "adapter_model.safetensors": TensorFile(tensors, {"format": "pt"}).to_bytes(),
        "README.md": _readme(embedding, "peft", bare),
    }


def as_adapters(embedding: TaskEmbedding, bare: bool = False) -> Files:
    """An adapter folder of the `adapters` library (1.3), in safetensors: load with `use_safetensors=True`.

    `bare` makes no difference: the library finds its modules with and without a head.

    Raises
    ------
    FormatError
        When the method is not exported, its blocks have several ranks, or the base's model type is not known.
    """
    _require_lora(embedding, "adapters")
    ranks = {len(block.parts["A"]) for block in embedding.blocks}
    scales = {block.scale for block in embedding.blocks}
    targets = {block.name.rpartition(".")[2] for block in embedding.blocks}
    if len(ranks) > 1 or len(scales) > 1 or not targets <= set(_ATTENTION):
        raise FormatError(
            f"The adapters library holds LoRA of one rank on attention only; {embedding.task!r} is not such.",
            hint=f"tupate-hub pull {embedding.task} --as peft",
        )
    rank, scale, name = ranks.pop(), scales.pop(), embedding.task
    tensors = {}
    for block in embedding.blocks:
        tensors[f"{_backbone(embedding)}.{block.name}.loras.{name}.lora_A"] = block.parts["A"]
        tensors[f"{_backbone(embedding)}.{block.name}.loras.{name}.lora_B"] = block.parts["B"]
    config = {
        "architecture": "lora",
        "alpha": _whole(scale * rank),
        "r": rank,
        "attn_matrices": sorted(_ATTENTION[target] for target in targets),
        "composition_mode": "add",
        "dropout": 0.0,
        "init_weights": "lora",
        "selfattn_lora": True,
        "intermediate_lora": False,
        "output_lora": False,
        "use_gating": False,
    }
    architecture = _architecture(embedding)
    outer = {
        "config": config,
        "hidden_size": architecture.get("hidden_size"),
        "model_class": "AutoAdapterModel",
        "model_name": embedding.space.base,
        "model_type": architecture.get("model_type"),
        "name": name,
        "version": "adapters.1.3.0",
    }
    return {
        "adapter_config.json": _text(outer),
        "adapter.safetensors": TensorFile(tensors, {"format": "pt"}).to_bytes(),
        "README.md": _readme(embedding, "adapters", bare),
    }


EXPORTS: Mapping[str, Callable[[TaskEmbedding, bool], Files]] = {
    "embedding": as_embedding,
    "peft": as_peft,
    "adapters": as_adapters,
}


def export(embedding: TaskEmbedding, form: str, *, bare: bool = False) -> Files:
    """The files of a folder in the named form.

    Raises
    ------
    UnknownName
        Listing the known forms.
    FormatError
        When the form has no place for the method.
    """
    if form not in EXPORTS:
        raise UnknownName(f"Unknown form {form!r}.", hint="known: " + ", ".join(EXPORTS))
    return EXPORTS[form](embedding, bare)


def _require_lora(embedding: TaskEmbedding, form: str) -> None:
    if embedding.space.method != "lora" or any(block.form != "lowrank" for block in embedding.blocks):
        raise FormatError(
            f"{embedding.space.method} cannot be written in the form {form!r} yet.",
            hint=f"tupate-hub pull {embedding.task} --as embedding",
        )


def _backbone(embedding: TaskEmbedding) -> str:
    model_type = _architecture(embedding).get("model_type")
    if not isinstance(model_type, str) or model_type not in _BACKBONE:
        raise FormatError(
            f"The model type of {embedding.space.base} is not known to the exporter: {model_type!r}.",
            hint="for a model without a head: --as peft --bare",
        )
    return _BACKBONE[model_type]


def _architecture(embedding: TaskEmbedding) -> Mapping[str, Any]:
    found = embedding.facts.get("architecture")
    return found if isinstance(found, dict) else {}


def _target_modules(embedding: TaskEmbedding) -> list[str]:
    """The last parts of the blocks' names where every layer has them, as people write it; else the whole names.

    PEFT adapts every module whose name ends so: a short name would also adapt layers that the embedding lacks.
    """
    names = {block.name for block in embedding.blocks}
    targets = {name.rpartition(".")[2] for name in names}
    count = len(names) // len(targets)
    everywhere = {f"encoder.layer.{layer}.attention.self.{target}" for layer in range(count) for target in targets}
    return sorted(
        targets if names == everywhere and count == _architecture(embedding).get("num_hidden_layers") else names
    )


def _whole(number: float) -> int | float:
    nearest = round(number)
    return nearest if math.isclose(number, nearest, rel_tol=1e-9) else number


def _text(config: Mapping[str, Any]) -> bytes:
    return (json.dumps(config, indent=2, sort_keys=True) + "\n").encode()


def _readme(embedding: TaskEmbedding, form: str, bare: bool) -> bytes:
    base, task = embedding.space.base, embedding.task
    if form == "peft":
        auto = (
            "AutoModel"
            if bare
            else _HEADED.get(str(embedding.facts.get("task_kind")), "AutoModelForSequenceClassification")
        )
        code = (
            f"from transformers import {auto}\nfrom peft import PeftModel\n\n"
            f'model = PeftModel.from_pretrained({auto}.from_pretrained("{base}"), "PATH")'
        )
    else:
        code = (
            "from adapters import AutoAdapterModel\n\n"
            f'model = AutoAdapterModel.from_pretrained("{base}")\n'
            'model.load_adapter("PATH", use_safetensors=True, set_active=True)'
        )
    return (
        f"# {task}: {embedding.space.method} on {base}\n\n"
        "Exported by tupate-hub. The task head is not included: it starts anew.\n\n"
        f"```python\n{code}\n```\n"
    ).encode()
