"""Model: the base model with a method's parameters and a head for the task's kind; its state and its predictions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tupate_hub.errors import FormatError
from tupate_hub.training.dataset import Example, TaskData
from tupate_hub.training.features import Feature, collate, predict_spans
from tupate_hub.training.methods import Method

#: The adapter's and the head's name inside the model, the same for every task.
NAME = "task"

_INPUTS = ("input_ids", "token_type_ids", "attention_mask")


def base_sha256(base: Path) -> str:
    """sha256 of the base model's `model.safetensors`, as hexadecimal digits.

    Raises
    ------
    FormatError
        When the folder has no such file.
    """
    digest = hashlib.sha256()
    try:
        with (base / "model.safetensors").open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise FormatError(f"{base} has no model.safetensors.", hint="give the folder of a base model") from error
    return digest.hexdigest()


def load_tokenizer(base: Path) -> Any:
    """The base model's tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(base), local_files_only=True)


def build_model(base: Path, data: TaskData, method: Method, init_seed: int) -> Any:
    """The base model with the method's parameters and a linear head for the task's kind, ready to be tuned.

    Every task's parameters start from the same values (`init_seed`), so that embeddings of one space share their
    origin. Dropout is off: attention without it runs in one fused kernel, and short runs do not overfit.
    """
    from adapters import AutoAdapterModel

    model = AutoAdapterModel.from_pretrained(
        str(base), local_files_only=True, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    torch.manual_seed(init_seed)
    model.add_adapter(NAME, method.config(**method.settings))
    torch.manual_seed(init_seed)
    if data.kind == "extractive_qa":
        model.add_qa_head(NAME, num_labels=2, layers=1)
    elif data.kind == "multiple_choice":
        model.add_multiple_choice_head(NAME, num_choices=data.num_labels, layers=1)
    else:
        model.add_classification_head(NAME, num_labels=data.num_labels, layers=1)
    model.train_adapter(NAME)
    model.set_active_adapters(NAME)
    return model


def architecture(model: Any) -> dict[str, Any]:
    """What an exporter has to know of the base model: its type, width and depth."""
    config = model.config
    return {name: getattr(config, name) for name in ("model_type", "hidden_size", "num_hidden_layers")}


def tuned_state(model: Any) -> dict[str, torch.Tensor]:
    """Copies of the parameters that tuning changes, by name."""
    return {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}


def is_head(name: str) -> bool:
    """Whether a parameter belongs to the task's head and not to the method."""
    return name.startswith("heads.")


def round_to_float16(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state in the precision in which the zoo stores it, as float32."""
    return {name: value.to(torch.float16).to(torch.float32) for name, value in state.items()}


def predict(
    model: Any, data: TaskData, examples: Sequence[Example], features: Sequence[Feature], pad_id: int
) -> list[Any]:
    """Predicted label of each example: a class, a number, a choice or an answer text. In float32, without dropout."""
    order = sorted(range(len(features)), key=lambda index: features[index].length)
    size = 16 if data.kind in ("extractive_qa", "multiple_choice") else 64
    outputs: dict[int, Any] = {}
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            batch = collate([features[index] for index in chosen], pad_id)
            output = model(**{name: batch[name] for name in _INPUTS})
            outputs.update(zip(chosen, _values(output, data.kind), strict=True))
    model.train()
    values = [outputs[index] for index in range(len(features))]
    if data.kind == "extractive_qa":
        return list(predict_spans(features, values, examples, no_answer=data.metric == "squad_v2_f1"))
    if data.kind == "regression":
        return [float(row[0]) for row in values]
    return [int(np.argmax(row)) for row in values]


def _values(output: Any, kind: str) -> list[Any]:
    if kind == "extractive_qa":
        return list(zip(output.start_logits.float().numpy(), output.end_logits.float().numpy(), strict=True))
    return list(output.logits.float().numpy())
