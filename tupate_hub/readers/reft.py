"""LoReFT (Wu et al. 2024), as the `adapters` library saves it: x + Rᵀ(W x + b - R x) at the first or last positions.

Facts from adapters 1.3.0, adapters/methods/reft.py; R, of orthonormal rows, is saved as torch parametrises it
(torch.nn.utils.parametrizations, `_Orthogonal`, householder with a base).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tupate_hub.arrays import Array, Float32Array
from tupate_hub.embedding import make_block
from tupate_hub.readers.names import block_name
from tupate_hub.readers.source import Findings, Source, floats

_MOST_RANK = 512
_ORIGINAL, _BASE = "projection.parametrizations.weight.original", "projection.parametrizations.weight.0.base"


def read_loreft(
    source: Source, config: Mapping[str, Any], modules: Mapping[str, Mapping[str, Array]], findings: Findings
) -> str:
    """Each intervention as a bottleneck without an activation: down W - R, up Rᵀ.

    Raises
    ------
    FormatError
        For the variants without orthogonality: a file does not say which of two it is; and for malformed units.
    """
    if config.get("orthogonality") is not True:
        raise source.refuse(
            "is a ReFT without orthogonality, which may be NoReFT or DiReFT: the library does not save which, and their"
            " updates differ."
        )
    if config.get("non_linearity") is not None:
        raise source.refuse("is a ReFT with an activation, whose update is no product of two matrices.")
    tied = config.get("tied_weights") is True
    counts = {place: int(source.number(f"{place}_positions", 0, config)) for place in ("prefix", "suffix")}
    used = {"units.0": "both", "units.1": ""} if tied else {"units.0": "prefix", "units.1": "suffix"}
    for module, parts in modules.items():
        units: dict[str, dict[str, Array]] = {}
        for rest, array in parts.items():
            unit = ".".join(rest.split(".", 2)[:2])
            units.setdefault(unit, {})[rest.removeprefix(f"{unit}.")] = array
        for unit, tensors in units.items():
            place = used.get(unit, "")
            if not place or counts.get(place, 1) <= 0:
                findings.left_out["units that act nowhere"] += 1
                continue
            name = f"{block_name(module).removesuffix('.reft_layer')}.{place}"
            findings.blocks.append(make_block(name, _unit(source, module, tensors), 1.0, source.where))
    findings.settings |= {"tied_weights": tied, **{f"{place}_positions": count for place, count in counts.items()}}
    findings.notes.append(f"It acts on the first {counts['prefix']} and the last {counts['suffix']} tokens only.")
    return "loreft"


def _unit(source: Source, module: str, tensors: Mapping[str, Array]) -> dict[str, Float32Array]:
    names = ("learned_source.weight", "learned_source.bias", _ORIGINAL, _BASE)
    missing = next((name for name in names if name not in tensors), None)
    if missing is not None:
        raise source.refuse(f"holds a LoReFT without its {missing!r}: {module!r}.")
    learned, bias, original, base = (floats(source, module, tensors[name]) for name in names)
    fits = learned.ndim == 2 and learned.shape == original.shape and 0 < len(learned) < learned.shape[1]
    if (
        not fits
        or len(learned) > _MOST_RANK
        or bias.shape != learned.shape[:1]
        or base.shape != (learned.shape[1],) * 2
    ):
        raise source.refuse(
            f"holds a LoReFT whose shapes do not fit: {module!r} has {learned.shape}, {original.shape}."
        )
    with np.errstate(over="ignore", invalid="ignore"):  # make_block refuses what is not finite
        rows = (base @ _householder(original.T)).T
        down = learned - rows
    return {"down": down, "down_bias": bias, "up": rows.T, "up_bias": np.zeros(learned.shape[1], dtype=np.float32)}


def _householder(x: Float32Array) -> Float32Array:
    """The (n, k) matrix of orthonormal columns that torch makes of its parameter: H_1 ... H_k, its first k columns.

    H_i = I - tau_i v_i v_iᵀ, v_i the i-th column below the diagonal with a 1 on it; the diagonal of x gives the signs.
    """
    n, k = x.shape
    v = np.tril(x, -1) + np.eye(n, k, dtype=np.float32)
    tau = 2 / (v * v).sum(axis=0)
    q = np.eye(n, k, dtype=np.float32)
    for i in reversed(range(k)):
        q -= tau[i] * np.outer(v[:, i], v[:, i] @ q)
    return q * np.trunc(np.diagonal(x))
