"""Products: updates that are made of small factors by an element-wise or a Kronecker product, as ordinary pairs B·A.

    LoHa  (A1 B1) ∘ (A2 B2) = [A1 ⊙ A2] [B1 ⊙ B2], with Khatri-Rao products of rows and of columns: rank r²
    LoKr  W1 ⊗ W2 = (U1 ⊗ U2) (V1 ⊗ V2) for W1 = U1 V1 and W2 = U2 V2: the product of both ranks

Both are exact (Hyeon-Woo et al. 2022, proposition 1; the mixed-product property). A pair is larger than the tensors
that it is made of, so all pairs of a file together may hold `_MOST_MADE` numbers, or `_MOST_TIMES` those of the file.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tupate_hub.arrays import Array, Float32Array
from tupate_hub.errors import FormatError
from tupate_hub.readers.source import Source

Parts = Mapping[str, Float32Array]
Pair = tuple[Float32Array, Float32Array]

_MOST_MADE = 64_000_000
_MOST_TIMES = 8

#: The names of the tensors in LyCORIS and in PEFT.
LOHA = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2")
LOKR = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")


class Room:
    """How many numbers may still be made of a file's."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.left = max(_MOST_MADE, _MOST_TIMES * sum(array.size for array in source.tensors.values()))

    def take(self, module: str, numbers: int) -> None:
        """Count numbers that are about to be made.

        Raises
        ------
        FormatError
            When they are too many.
        """
        self.left -= numbers
        if self.left < 0:
            raise self.source.refuse(
                f"holds products of small factors that have too many numbers as pairs B·A, from {module!r} on.",
                hint=f"extract a LoRA of it: at most {_MOST_MADE} numbers, or {_MOST_TIMES} times the file's, are made",
            )


def loha_pair(source: Source, module: str, parts: Parts, room: Room) -> Pair:
    """A (r², in) and B (out, r²) of a LoHa; where r² is beyond both widths the update itself, beside an identity.

    Raises
    ------
    FormatError
        When a factor is missing, or shapes do not fit.
    """
    first = _factored(source, module, parts, "hada_w1", "hada_t1", room)
    second = _factored(source, module, parts, "hada_w2", "hada_t2", room)
    (v1, u1), (v2, u2) = first, second
    if len(u1) != len(u2) or v1.shape[1] != v2.shape[1]:
        raise _misfit(source, module, parts)
    out, inner, rank = len(u1), v1.shape[1], len(v1) * len(v2)
    if rank > min(out, inner):
        room.take(module, 2 * out * inner + min(out, inner) ** 2)
        with np.errstate(over="ignore", invalid="ignore"):  # make_block refuses what is not finite
            whole = u1 @ v1
            whole *= u2 @ v2
        return _with_identity(whole)
    room.take(module, rank * (out + inner))
    with np.errstate(over="ignore", invalid="ignore"):
        a = (v1[:, None, :] * v2[None, :, :]).reshape(rank, inner)
        return a, (u1[:, :, None] * u2[:, None, :]).reshape(out, rank)


def lokr_pair(source: Source, module: str, parts: Parts, room: Room) -> Pair:
    """A (r1·r2, in) and B (out, r1·r2) of a LoKr.

    Raises
    ------
    FormatError
        When a factor is missing, shapes do not fit, or the pair has too many numbers.
    """
    v1, u1 = _whole_or_factored(source, module, parts, "lokr_w1", "", room)
    v2, u2 = _whole_or_factored(source, module, parts, "lokr_w2", "lokr_t2", room)
    room.take(module, v1.size * v2.size + u1.size * u2.size)
    with np.errstate(over="ignore", invalid="ignore"):  # make_block refuses what is not finite
        return np.kron(v1, v2), np.kron(u1, u2)


def lokr_rank(parts: Parts) -> int | None:
    """The rank that the factors of a LoKr show, None where both matrices are whole."""
    rows = next((parts[name] for name in ("lokr_w1_b", "lokr_w2_b") if name in parts), None)
    return None if rows is None else len(rows)


def _whole_or_factored(source: Source, module: str, parts: Parts, name: str, core: str, room: Room) -> Pair:
    """V and U with W = U V: the factors where they are stored, else W beside an identity on its narrower side."""
    if name not in parts:
        return _factored(source, module, parts, name, core, room)
    whole = parts[name]
    if whole.ndim not in (2, 3, 4, 5) or 0 in whole.shape:
        raise _misfit(source, module, parts)
    matrix = whole.reshape(len(whole), -1)
    room.take(module, min(matrix.shape) ** 2)
    return _with_identity(matrix)


def _factored(source: Source, module: str, parts: Parts, name: str, core: str, room: Room) -> Pair:
    """V (r, in) and U (out, r) of `<name>_a` (out, r) and `<name>_b` (r, in).

    With a core t (r, r, k, ...), as of convolutions, U is `<name>_a` transposed and V sums the core over `<name>_b`
    (FedPara's proposition 3; peft/tuners/loha/layer.py and lycoris/functional/general.py, `rebuild_tucker`).
    """
    u, v = parts.get(f"{name}_a"), parts.get(f"{name}_b")
    if u is None or v is None:
        raise source.refuse(f"holds no {name}_{'a' if u is None else 'b'} for {module!r}.")
    if core in parts:
        t = parts[core]
        if u.ndim != 2 or v.ndim != 2 or t.ndim not in (3, 4, 5) or t.shape[:2] != (len(u), len(v)) or 0 in t.shape:
            raise _misfit(source, module, parts)
        room.take(module, v.shape[1] * (t.size // len(v)))
        with np.errstate(over="ignore", invalid="ignore"):  # make_block refuses what is not finite
            v = np.tensordot(v, t.reshape(*t.shape[:2], -1), axes=(0, 1)).swapaxes(0, 1).reshape(len(t), -1)
        u = u.T
    if u.ndim != 2 or v.ndim != 2 or u.shape[1] != len(v) or 0 in u.shape or 0 in v.shape:
        raise _misfit(source, module, parts)
    return v, u


def _with_identity(matrix: Float32Array) -> Pair:
    """The matrix as a product of itself and an identity of its narrower side: V, U."""
    rows, columns = matrix.shape
    eye = np.eye(min(rows, columns), dtype=np.float32)
    return (matrix, eye) if rows <= columns else (eye, matrix)


def _misfit(source: Source, module: str, parts: Mapping[str, Array]) -> FormatError:
    shapes = ", ".join(f"{name} {parts[name].shape}" for name in sorted(parts))
    return source.refuse(f"holds factors that do not fit together: {module[:200]!r} has {shapes[:300]}.")
