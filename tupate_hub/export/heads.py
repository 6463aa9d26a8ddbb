"""Heads in the files of the libraries: `head_config.json` of the `adapters` library, saved modules of PEFT's.

The `adapters` library's flexible heads have any layers, on the first token's state or on the base model's pooler: every
head is written as it is. The classes of transformers have layers of their own:

- of tokens and spans one linear layer: exact;
- of texts two, with an activation between them (BERT: the pooler and `classifier`). A head of two layers fits exactly.
  One of a single layer gets a first layer that does nothing but pass the state on: through tanh at 2^-12 of its size,
  where tanh(x) = x to 1 part in 500,000 for states up to 10, which the second layer undoes; through ReLU shifted by
  64, beyond any state, which the second layer's bias undoes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tupate_hub.arrays import Float32Array
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.export.origin import fact, model_type, refusal
from tupate_hub.export.readme import as_json, choices_of
from tupate_hub.head import OF_TOKENS, Head, Linear
from tupate_hub.storage.safetensors import TensorFile

_BARE = "`form='peft'` `bare=True`"
_SMALL = np.float32(2.0**-12)
_SHIFT = np.float32(64.0)

_TYPES: Mapping[str, str] = {
    "classification": "classification",
    "regression": "classification",
    "multi_label": "multilabel_classification",
    "multiple_choice": "multiple_choice",
    "token_classification": "tagging",
    "extractive_qa": "question_answering",
}
#: The library's class of model, which it compares with the one that a head is loaded into.
_CLASSES: Mapping[str, str] = {
    "bert": "BertAdapterModel",
    "roberta": "RobertaAdapterModel",
    "xlm-roberta": "XLMRobertaAdapterModel",
    "distilbert": "DistilBertAdapterModel",
}


@dataclass(frozen=True)
class _OfTexts:
    """Where a model type's class for texts has its first and second layer, and what stands between them."""

    first: str
    second: str
    activation: str
    pooler: bool = False


#: Of sequence classification; and, where they differ, of multiple choice.
_OF_TEXTS: Mapping[str, _OfTexts] = {
    "bert": _OfTexts("bert.pooler.dense", "classifier", "tanh", pooler=True),
    "roberta": _OfTexts("classifier.dense", "classifier.out_proj", "tanh"),
    "xlm-roberta": _OfTexts("classifier.dense", "classifier.out_proj", "tanh"),
    "distilbert": _OfTexts("pre_classifier", "classifier", "relu"),
}
_OF_CHOICES: Mapping[str, _OfTexts] = {
    **_OF_TEXTS,
    "roberta": _OfTexts("roberta.pooler.dense", "classifier", "tanh", pooler=True),
    "xlm-roberta": _OfTexts("roberta.pooler.dense", "classifier", "tanh", pooler=True),
}


def as_flexible_head(embedding: TaskEmbedding, head: Head, name: str) -> dict[str, bytes]:
    """The head's files of the `adapters` library (1.3), under the adapter's `name`."""
    config: dict[str, Any] = {
        "head_type": _TYPES[head.kind],
        "layers": len(head.layers),
        "activation_function": head.activation,
        "dropout_prob": None,
    }
    if head.kind == "multiple_choice":
        config |= {"num_choices": choices_of(head), "use_pooler": head.pooled}
    else:
        config |= {"num_labels": head.outputs}
        if head.kind not in OF_TOKENS:
            config |= {"use_pooler": head.pooled, "bias": True}
    outputs = config.get("num_labels") or config["num_choices"]
    names = head.label_names or [f"LABEL_{number}" for number in range(outputs)]
    config["label2id"] = {label: number for number, label in enumerate(names)}
    outer = {
        "config": config,
        "hidden_size": head.width,
        "model_class": _CLASSES.get(model_type(embedding)) or head.facts.get("model_class") or "AutoAdapterModel",
        "model_name": embedding.space.base,
        "model_type": fact(embedding, "architecture", "model_type"),
        "name": name,
        "version": "adapters.1.3.0",
    }
    tensors: dict[str, Float32Array] = {}
    for number, layer in enumerate(head.layers):  # in the library's sequence dropout, linear, activation
        tensors |= {
            f"heads.{name}.{3 * number + 1}.weight": layer.weight,
            f"heads.{name}.{3 * number + 1}.bias": layer.bias,
        }
    return {
        "head_config.json": as_json(outer),
        "model_head.safetensors": TensorFile(tensors, {"format": "pt"}).to_bytes(),
    }


def as_saved_modules(embedding: TaskEmbedding, head: Head, form: str) -> tuple[dict[str, Float32Array], list[str]]:
    """The head as modules of transformers' class for the kind of task: tensors by name, and the modules' names.

    Raises
    ------
    FormatError
        When the class has no place for such a head, or the model type is not known.
    """
    places = (_OF_CHOICES if head.kind == "multiple_choice" else _OF_TEXTS).get(model_type(embedding))
    if places is None:
        raise refusal(embedding, form, "where transformers has the head of its base model is not known", _BARE)
    if head.kind in OF_TOKENS:
        if len(head.layers) > 1:
            raise refusal(embedding, form, "its head has two layers, the class of transformers has one", _BARE)
        module = "qa_outputs" if head.kind == "extractive_qa" else "classifier"
        return _tensors({module: head.layers[0]}), [module]
    if head.pooled:
        if not places.pooler or len(head.layers) > 1:
            raise refusal(embedding, form, "its head reads a pooler, which this class of transformers lacks", _BARE)
        return _tensors({places.second: head.layers[0]}), ["classifier"]
    layers = head.layers if len(head.layers) > 1 else _bridged(head.layers[0], places.activation)
    if len(layers) > 2 or (len(head.layers) > 1 and head.activation != places.activation):
        raise refusal(
            embedding, form, f"the class of transformers has two layers with {places.activation} between", _BARE
        )
    modules = sorted({"pooler" if ".pooler." in places.first else places.first.partition(".")[0], "classifier"})
    return _tensors({places.first: layers[0], places.second: layers[1]}), modules


def _bridged(layer: Linear, activation: str) -> tuple[Linear, Linear]:
    """A single layer behind one that passes the state on through the activation."""
    width = layer.weight.shape[1]
    identity = np.eye(width, dtype=np.float32)
    if activation == "tanh":
        first = Linear(_SMALL * identity, np.zeros(width, dtype=np.float32))
        return first, Linear(layer.weight / _SMALL, layer.bias)
    first = Linear(identity, np.full(width, _SHIFT))
    shifted = layer.bias - _SHIFT * layer.weight.sum(axis=1, dtype=np.float64)
    return first, Linear(layer.weight, shifted.astype(np.float32))


def _tensors(layers: Mapping[str, Linear]) -> dict[str, Float32Array]:
    return {f"{module}.{part}": getattr(layer, part) for module, layer in layers.items() for part in ("weight", "bias")}
