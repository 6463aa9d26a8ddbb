"""Prefixes: the keys and values that are put before those of a layer's attention, from flat or reparametrised form."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from tupate_hub.arrays import Array, Float32Array
from tupate_hub.embedding import Block, make_block
from tupate_hub.readers.source import Source, floats

_MOST_LAYERS = 1000
_MOST_FLAT = 8_000_000


def prefix_blocks(source: Source, rows: Float32Array, layers: Sequence[int], place: str) -> list[Block]:
    """The blocks `<place>layer.<i>.keys` and `.values`, each of shape (n, width), of a flat prefix.

    `rows` has shape (n, len(layers) * 2 * width): for each position, keys and values of the first of `layers`, then of
    the next, and so on (Li and Liang 2021; the order of PEFT 0.21 and adapters 1.3 alike).

    Raises
    ------
    FormatError
        When the width does not divide by the layers.
    """
    count = len(layers)
    if rows.ndim != 2 or 0 in rows.shape or not 0 < count <= _MOST_LAYERS or rows.shape[1] % (2 * count):
        raise source.refuse(f"holds a prefix of shape {rows.shape}, which does not divide into {count} layers.")
    halves = rows.reshape(len(rows), count, 2, -1)
    return [
        make_block(f"{place}layer.{layer}.{kind}", {"rows": halves[:, index, half]}, 1.0, source.where)
        for index, layer in enumerate(layers)
        for half, kind in enumerate(("keys", "values"))
    ]


def flatten_prefix(source: Source, parts: Mapping[str, Array], activation: str) -> Float32Array:
    """A reparametrised prefix through its own two-layer network: of shape (n, layers * 2 * width).

    `parts` are `wte.weight` (n, d) and `control_trans.{0,2}.{weight,bias}` (adapters 1.3, PrefixTuning.eject).

    Raises
    ------
    FormatError
        For a missing part, shapes that do not fit, an unknown activation, or a prefix much larger than its file.
    """
    names = ("wte.weight", *(f"control_trans.{index}.{kind}" for index in (0, 2) for kind in ("weight", "bias")))
    missing = [name for name in names if name not in parts]
    if missing:
        raise source.refuse(f"holds a prefix without its {missing[0]!r}.")
    table, first, first_bias, second, second_bias = (floats(source, name, parts[name]) for name in names)
    shapes = [array.shape for array in (table, first, first_bias, second, second_bias)]
    if [len(shape) for shape in shapes] != [2, 2, 1, 2, 1]:
        raise source.refuse(f"holds a prefix whose shapes do not fit together: {shapes}.")
    hidden, out = first.shape[0], second.shape[0]
    if first.shape[1] != table.shape[1] or first_bias.shape != (hidden,) or second.shape[1] != hidden:
        raise source.refuse(f"holds a prefix whose shapes do not fit together: {shapes}.")
    if second_bias.shape != (out,) or len(table) * max(out, hidden) > max(_MOST_FLAT, second.size):
        raise source.refuse(f"holds a prefix whose shapes do not fit together: {shapes}.")
    if activation not in _ACTIVATIONS:
        known = ", ".join(_ACTIVATIONS)
        raise source.refuse(f"holds a prefix with the activation {activation[:40]!r}, which is not read.", known)
    with np.errstate(all="ignore"):  # make_block refuses what is not finite
        inner = _ACTIVATIONS[activation](table @ first.T + first_bias)
        return np.asarray(inner @ second.T + second_bias, dtype=np.float32)


def _gelu(x: Float32Array) -> Float32Array:
    # NumPy has no erf: Abramowitz and Stegun, 7.1.26, within 1.5e-7, for x >= 0; erf is odd.
    z = np.abs(x.astype(np.float64)) / math.sqrt(2)
    t = 1 / (1 + 0.3275911 * z)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    erf = np.sign(x) * (1 - series * np.exp(-z * z))
    return np.asarray(0.5 * x * (1 + erf), dtype=np.float32)


def _gelu_new(x: Float32Array) -> Float32Array:
    return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))), dtype=np.float32)


def _swish(x: Float32Array) -> Float32Array:
    return np.asarray(x / (1 + np.exp(-x)), dtype=np.float32)


_ACTIVATIONS: Mapping[str, Callable[[Float32Array], Float32Array]] = MappingProxyType(
    {
        "tanh": np.tanh,
        "relu": lambda x: np.maximum(x, np.float32(0)),
        "gelu": _gelu,
        "gelu_new": _gelu_new,
        "swish": _swish,
        "silu": _swish,
        "sigmoid": lambda x: np.asarray(1 / (1 + np.exp(-x)), dtype=np.float32),
        "linear": lambda x: x,
    }
)
