"""Heads beside tuned parameters on disk: in our own form, as the `adapters` library saves them, and as PEFT does.

PEFT saves whole modules of transformers' class for the kind of task; which layer comes first, and with what activation
behind it, is that class's own: BERT's pooler (tanh), RoBERTa's `classifier.dense` (tanh), DistilBERT's `pre_classifier`
(ReLU). Where BERT's pooler is not saved it is the base model's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tupate_hub.arrays import Array
from tupate_hub.collect.read_adapter import find_adapter, legacy_reader
from tupate_hub.errors import FormatError
from tupate_hub.head import FILENAME, NAMED, Head, make_head, parse_head
from tupate_hub.readers.source import Legacy, read_bytes, read_config, read_weights

_ADAPTERHUB = ("model_head.safetensors", "pytorch_model_head.bin")
_PEFT = ("adapter_model.safetensors", "adapter_model.bin")
_TYPES = {
    "classification": "classification",
    "multilabel_classification": "multi_label",
    "multiple_choice": "multiple_choice",
    "tagging": "token_classification",
    "question_answering": "extractive_qa",
}
_KINDS = {"SEQ_CLS": "classification", "TOKEN_CLS": "token_classification", "QUESTION_ANS": "extractive_qa"}
#: First and second layer of transformers' classes for texts, with the activation between them.
_PAIRS = (
    (r"(?:bert|roberta)\.pooler\.dense", r"classifier", "tanh"),
    (r"classifier\.dense", r"classifier\.out_proj", "tanh"),
    (r"pre_classifier", r"classifier", "relu"),
)
_KEY = re.compile(r"heads\.[^.]+\.(\d{1,2})\.(weight|bias)")
_PREFIX = re.compile(r"^base_model\.(?:model\.)?|\.modules_to_save(?:\.[^.]+)?(?=\.(?:weight|bias)$)")


def head_of(written: str | Path) -> Head | None:
    """The head of an adapter on disk or of the Hub, as `find_head`; errors as that, and as `find_adapter`."""
    found = find_adapter(written)
    return find_head(found if isinstance(found, Path) else found.folder, legacy=legacy_reader())


def find_head(folder: Path, task: str = "task", legacy: Legacy | None = None) -> Head | None:
    """The head in a folder, None where there is none, or none that can be told.

    Parameters
    ----------
    folder : Path
        The adapter's; of a file the folder that it is in.
    task : str
        What a head is called that does not say its task itself.
    legacy : Legacy, optional
        Reads files that torch wrote before 1.6.

    Raises
    ------
    FormatError
        When its file is damaged, or its layers do not fit together.
    """
    folder = folder if folder.is_dir() else folder.parent
    if (folder / FILENAME).is_file():
        return parse_head(read_bytes(folder / FILENAME), str(folder / FILENAME))
    for name in _ADAPTERHUB:
        if (folder / name).is_file() and (folder / "head_config.json").is_file():
            return _of_adapterhub(folder / name, read_config(folder / "head_config.json"), task, legacy)
    for name in _PEFT:
        if (folder / name).is_file() and (folder / "adapter_config.json").is_file():
            return _of_peft(folder / name, read_config(folder / "adapter_config.json"), task, legacy)
    return None


def _of_adapterhub(path: Path, outer: Mapping[str, Any], task: str, legacy: Legacy | None) -> Head | None:
    """A flexible head; those of other types (language models, dependency parsers) cannot be told here."""
    config = outer.get("config")
    kind = _TYPES.get(str(config.get("head_type"))) if isinstance(config, dict) else None
    if kind is None or not isinstance(config, dict):
        return None
    layers: dict[int, dict[str, Array]] = {}
    for key, array in read_weights(path, legacy).items():
        if match := _KEY.fullmatch(key):
            layers.setdefault(int(match[1]), {})[match[2]] = array
    made = [_layer(layers[number]) for number in sorted(layers)]
    if not made:
        raise FormatError(f"{path} holds no layers of a head.")
    outputs = len(made[-1][1])
    if kind == "classification" and outputs == 1:
        kind = "regression"
    facts = {"choices": config["num_choices"]} if type(config.get("num_choices")) is int else {}
    return make_head(
        task,
        kind,
        _names(config.get("label2id"), outputs) if kind in NAMED else (),
        made,
        activation=str(config.get("activation_function") or "tanh"),
        pooled=config.get("use_pooler") is True,
        facts=facts,
        where=str(path),
    )


def _names(label2id: Any, outputs: int) -> tuple[str, ...]:
    """The labels in the order of their numbers, () where they are not those of the outputs."""
    if not isinstance(label2id, dict) or sorted(map(str, label2id.values())) != sorted(map(str, range(outputs))):
        return ()
    return tuple(sorted(map(str, label2id), key=lambda name: int(label2id[name])))


def _of_peft(path: Path, config: Mapping[str, Any], task: str, legacy: Legacy | None) -> Head | None:
    """Saved modules of a class of transformers."""
    kind = _KINDS.get(str(config.get("task_type")))
    weights = {_PREFIX.sub("", key): array for key, array in read_weights(path, legacy).items()}
    modules: dict[str, dict[str, Array]] = {}
    for key, array in weights.items():
        module, _, part = key.rpartition(".")
        if part in ("weight", "bias"):
            modules.setdefault(module, {})[part] = array
    if kind is None:
        return None
    if kind != "classification":
        only = modules.get("qa_outputs" if kind == "extractive_qa" else "classifier")
        return make_head(task, kind, (), [_layer(only)], where=str(path)) if only else None
    for first, second, activation in _PAIRS:
        below = next((name for name in modules if re.fullmatch(first, name)), None)
        above = next((name for name in modules if re.fullmatch(second, name)), None)
        if below is not None and above is not None:
            made = [_layer(modules[below]), _layer(modules[above])]
            return _of_texts(task, made, activation, False, path)
    if "classifier" in modules and any(key.startswith("bert.") for key in weights):
        return _of_texts(task, [_layer(modules["classifier"])], "tanh", True, path)
    return None


def _of_texts(task: str, layers: list[tuple[Array, Array]], activation: str, pooled: bool, path: Path) -> Head:
    kind = "regression" if len(layers[-1][1]) == 1 else "classification"
    return make_head(task, kind, (), layers, activation=activation, pooled=pooled, where=str(path))


def _layer(parts: Mapping[str, Array]) -> tuple[Array, Array]:
    """Weight and bias, which is zero where the layer has none."""
    weight = np.asarray(parts.get("weight", np.zeros((0, 0))))
    return weight, np.asarray(parts.get("bias", np.zeros(len(weight), dtype=np.float32)))
