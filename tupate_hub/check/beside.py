"""Beside: an update beside the weight that it changes: how large it is, and how far it points the same way.

Both are measured on the weight's first rows, so that no more than half a megabyte of each is read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tupate_hub.check.basemodel import BaseModel
from tupate_hub.check.updates import Update


@dataclass(frozen=True)
class Beside:
    """`ratio`, the update's root mean square over the weight's, and `cosine`, that between the two.

    `chance` is the standard deviation of the cosine of two random matrices of that shape.
    """

    ratio: float
    cosine: float
    chance: float


def beside(base: BaseModel, updates: Iterable[Update]) -> dict[str, Beside]:
    """Each LoRA update beside its weight, by name.

    Those whose weight is not on this disk, or of another shape, are missing.

    Raises
    ------
    FormatError
        When a file of the base model is malformed.
    """
    wanted = {one.name: one for one in updates if one.block.form == "lowrank" and base.shape(one.name) == one.shape}
    found = {}
    for name, rows in base.first_rows(wanted):
        parts, transposed = wanted[name].block.parts, base.is_transposed(name)
        outer, inner = (parts["A"].T, parts["B"].T) if transposed else (parts["B"], parts["A"])
        with np.errstate(over="ignore", invalid="ignore"):
            change = (outer[: len(rows)] @ inner).astype(np.float64)
            size = math.sqrt(np.vdot(rows, rows) / rows.size)
            norms = float(np.linalg.norm(rows) * np.linalg.norm(change))
            cosine = (
                math.copysign(1.0, wanted[name].block.scale) * float(np.vdot(rows, change)) / norms if norms else 0.0
            )
        if 0 < size < math.inf and math.isfinite(cosine):
            found[name] = Beside(wanted[name].rms / size, cosine, 1 / math.sqrt(rows.size))
    return found
