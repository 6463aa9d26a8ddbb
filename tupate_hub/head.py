"""Head: the layers that make a task's answers of what the tuned model gives, and what the answers are called.

`docs/registry.md` specifies the file. A head belongs to one set of tuned parameters: with others its answers mean
nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tupate_hub.arrays import Array, Float32Array
from tupate_hub.errors import FormatError
from tupate_hub.storage.safetensors import TensorFile, parse_tensorfile
from tupate_hub.storage.strangers_json import parse_json

SCHEMA = "tupate-hub-head/1"
#: The head in its own form, in a folder with the parameters that it belongs to.
FILENAME = "head.safetensors"

#: Heads that read each token's state; the others read that of the first token.
OF_TOKENS = frozenset({"extractive_qa", "token_classification"})
#: Kinds whose outputs have names of their own.
NAMED = frozenset({"classification", "multi_label", "token_classification"})
ACTIVATIONS = frozenset({"tanh", "relu", "gelu"})
_MOST_LAYERS = 4
_MOST_ITEMS = 100_000


@dataclass(frozen=True)
class Linear:
    """A linear layer: weight (outputs, inputs) and bias (outputs,)."""

    weight: Float32Array
    bias: Float32Array


@dataclass(frozen=True)
class Head:
    """A task's head.

    Attributes
    ----------
    task, kind : str
        The task's name and its kind, as `TaskData` has them.
    label_names : tuple of str
        The names of classes, labels or tags, in the order of the outputs; () where there are none.
    layers : tuple of Linear
        Linear layers, with `activation` between them. The last has as many outputs as there are labels: 1 for amounts
        and for choices (each choice is a row of the batch), 2 for spans (start and end).
    pooled : bool
        Whether the first layer reads the base model's own pooler, and not the states themselves.
    facts : mapping
        JSON values: `metric`, `max_length` (tokens), `pairs` (true where it reads pairs of texts), `choices` (how
        many), `scores`, `fitted` (how, where it was not tuned with the parameters).
    """

    task: str
    kind: str
    label_names: tuple[str, ...]
    layers: tuple[Linear, ...]
    activation: str = "tanh"
    pooled: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """How many numbers of the model's each answer reads."""
        return int(self.layers[0].weight.shape[1])

    @property
    def outputs(self) -> int:
        """How many numbers it gives."""
        return len(self.layers[-1].bias)

    def to_bytes(self) -> bytes:
        """The head's safetensors file: in float16 where that holds its numbers to 1 part in 1,000, else in float32."""
        tensors: dict[str, Array] = {}
        for number, layer in enumerate(self.layers):
            tensors |= {f"{number}.weight": layer.weight, f"{number}.bias": layer.bias}
        dtype = "float16" if all(_fits_float16(array) for array in tensors.values()) else "float32"
        metadata = {
            "schema": SCHEMA,
            "task": self.task,
            "kind": self.kind,
            "label_names": _json(list(self.label_names)),
            "activation": self.activation,
            "pooled": _json(self.pooled),
            **{name: _json(value) for name, value in self.facts.items()},
        }
        return TensorFile({name: array.astype(dtype) for name, array in tensors.items()}, metadata).to_bytes()


def make_head(
    task: str,
    kind: str,
    label_names: Sequence[str],
    layers: Sequence[tuple[Array, Array]],
    *,
    activation: str = "tanh",
    pooled: bool = False,
    facts: Mapping[str, Any] | None = None,
    where: str = "A head",
) -> Head:
    """A head of float32 layers, checked.

    Raises
    ------
    FormatError
        When the layers do not fit together or with the labels, or a number is not finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # infinity and NaN are refused below
        made = tuple(Linear(np.asarray(w, dtype=np.float32), np.asarray(b, dtype=np.float32)) for w, b in layers)
    if not 1 <= len(made) <= _MOST_LAYERS or activation not in ACTIVATIONS:
        raise FormatError(f"{where} has {len(made)} layers with {activation!r} between them: that is no known head.")
    width = made[0].weight.shape[-1]
    for layer in made:
        if layer.weight.ndim != 2 or layer.weight.shape[1] != width or layer.bias.shape != layer.weight.shape[:1]:
            raise FormatError(f"{where} has layers that do not fit together.")
        if not layer.bias.size or not (np.isfinite(layer.weight).all() and np.isfinite(layer.bias).all()):
            raise FormatError(f"{where} is empty, or holds NaN or infinity.")
        width = len(layer.bias)
    if label_names and width != len(label_names):
        raise FormatError(f"{where} has {width} outputs and {len(label_names)} names for them.")
    return Head(task, kind, tuple(label_names), made, activation, pooled, dict(facts or {}))


def parse_head(data: bytes, where: str, task: str | None = None) -> Head:
    """Read a head from the bytes of its file: that of `task`, where one is named.

    Raises
    ------
    FormatError
        For a truncated or foreign file, one whose layers do not fit together, or that of another task.
    """
    file = parse_tensorfile(data, where)
    meta = dict(file.metadata)
    if meta.pop("schema", None) != SCHEMA:
        raise FormatError(f"{where} is not a {SCHEMA} file.")
    try:
        named, kind, activation = meta.pop("task"), meta.pop("kind"), meta.pop("activation")
        facts = {name: parse_json(value, _MOST_ITEMS) for name, value in meta.items()}
        names, pooled = facts.pop("label_names"), facts.pop("pooled")
    except KeyError as error:
        raise FormatError(f"{where} has a header without {error}.") from error
    except ValueError as error:
        raise FormatError(f"{where} has a header whose facts are not JSON, or have too much in them.") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or not isinstance(pooled, bool):
        raise FormatError(f"{where} has a header whose labels are no list of text.")
    if task not in (None, named):
        raise FormatError(f"{where} is the head of {named!r}; the registry says {task!r}.", hint="tupate-hub verify")
    count = len(file.tensors) // 2
    wanted = {f"{number}.{part}" for number in range(count) for part in ("weight", "bias")}
    if wanted != file.tensors.keys():
        raise FormatError(f"{where} holds {sorted(file.tensors)[:4]}: these are no layers of a head.")
    layers = [(file.tensors[f"{number}.weight"], file.tensors[f"{number}.bias"]) for number in range(count)]
    return make_head(named, kind, names, layers, activation=activation, pooled=pooled, facts=facts, where=where)


def _fits_float16(array: Array) -> bool:
    with np.errstate(over="ignore"):
        rounded = array.astype(np.float16).astype(np.float32)
    return bool(np.allclose(rounded, array, rtol=1e-3, atol=1e-5))


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
