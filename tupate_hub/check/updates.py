"""Update: how large one block's change is, and how many directions it really has, from r x r products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import sha256

import numpy as np

from tupate_hub.arrays import Float32Array, Float64Array
from tupate_hub.compare.lowrank import Factors
from tupate_hub.compare.magnitude import effective_rank
from tupate_hub.compare.similarity import get_similarity
from tupate_hub.embedding import Block

#: The part of the squared norm that a smaller rank has to keep.
SHARE = 0.99
_PROBES = 4
#: Sums of squares that float32 keeps with all of its digits.
_SMALLEST, _LARGEST = 1e-25, 1e30
#: Of rounding: beside this share of the mean direction one is taken to be none.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Update:
    """The change s·B·A of one block: its Frobenius norm and its singular values, largest first, of shape (r,)."""

    block: Block
    shape: tuple[int, int]
    norm: float
    values: Float64Array

    @property
    def name(self) -> str:
        """The block's name."""
        return self.block.name

    @property
    def rms(self) -> float:
        """The root of the mean of its squared numbers."""
        return self.norm / math.sqrt(self.shape[0] * self.shape[1])

    @cached_property
    def rank_needed(self) -> int:
        """The smallest rank that keeps `SHARE` of the squared norm; 0 of what is zero, or too large to measure."""
        if not 0 < self.norm < math.inf:
            return 0
        kept = 0.0
        for rank, value in enumerate(self.values.tolist()):
            if kept >= SHARE:
                return rank
            kept += (value / self.norm) ** 2
        return len(self.values)

    @cached_property
    def effective_rank(self) -> float:
        """As `magnitude.effective_rank` has it."""
        return effective_rank(self.values)


def measure(blocks: Sequence[Block]) -> tuple[Update, ...]:
    """The update of each block."""
    shapes: list[tuple[int, int]] = []
    alike: dict[int, list[tuple[int, Float64Array, Float64Array]]] = {}
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):  # seen, and done again with more room
        for at, block in enumerate(blocks):
            factors = _factors(block)
            shapes.append((factors.bt.shape[1], factors.a.shape[1]))
            alike.setdefault(len(factors.a), []).append((at, _squares(factors.a), _squares(factors.bt)))
    values: dict[int, Float64Array] = {}
    for members in alike.values():
        places, of_a, of_b = zip(*members, strict=True)
        for at, row in zip(places, _spectra(np.stack(of_a), np.stack(of_b)), strict=True):
            values[at] = row * _scale(blocks[at])
    norms = [math.hypot(*values[at].tolist()) for at in range(len(blocks))]
    return tuple(Update(block, shapes[at], norms[at], values[at]) for at, block in enumerate(blocks))


def _factors(block: Block) -> Factors:
    """The factors of an update; those of a LoRA without its scale, with which float32 may have no room for them."""
    if block.form == "lowrank":
        return Factors(block.parts["A"], block.parts["B"].T)
    with np.errstate(over="ignore"):
        return get_similarity("update").features(block, None)


def _scale(block: Block) -> float:
    """By what the values of `_factors` are still to be multiplied."""
    return abs(block.scale) if block.form == "lowrank" else 1.0


def _squares(factor: Float32Array) -> Float64Array:
    """The inner products of a factor's rows, of shape (r, r); in float64 where float32 has no room for them."""
    product = factor @ factor.T
    if not _SMALLEST < product.trace() < _LARGEST:
        wide = factor.astype(np.float64)
        product = wide @ wide.T
    return np.asarray(product, dtype=np.float64)


def _spectra(of_a: Float64Array, of_b: Float64Array) -> Float64Array:
    """Singular values of B·A from A·Aᵀ and Bᵀ·B, each of shape (n, r, r).

    With A·Aᵀ = R·Rᵀ they are the roots of the eigenvalues of Rᵀ·Bᵀ·B·R. Both are brought to trace r first, so that
    the squares of numbers as large as float32's stay within float64's.
    """
    rank = of_a.shape[1]
    endless = np.array([not np.isfinite(one.sum() + other.sum()) for one, other in zip(of_a, of_b, strict=True)])
    of_a, of_b = (np.where(endless[:, None, None], 0, one) for one in (of_a, of_b))
    sizes = [np.trace(one, axis1=1, axis2=2)[:, None, None] / rank for one in (of_a, of_b)]
    unit_a, unit_b = (
        np.divide(one, size, out=np.zeros_like(one), where=size > 0)
        for one, size in zip((of_a, of_b), sizes, strict=True)
    )
    roots = _roots(unit_a)
    squares = np.linalg.eigvalsh(roots.transpose(0, 2, 1) @ unit_b @ roots)[:, ::-1]
    found: Float64Array = np.sqrt(np.maximum(squares, 0)) * np.sqrt(sizes[0][:, :, 0]) * np.sqrt(sizes[1][:, :, 0])
    found[sizes[0][:, 0, 0] == 0] = 0
    found[endless] = np.inf
    return found


def _roots(squares: Float64Array) -> Float64Array:
    """Of each S of shape (n, r, r), symmetric and without negative eigenvalues, an R with S = R·Rᵀ."""
    rank = squares.shape[1]
    try:
        return np.asarray(np.linalg.cholesky(squares + _ROUNDING * rank * np.eye(rank)))
    except np.linalg.LinAlgError:  # rounded below zero: rows that depend on one another, which this takes longer for
        values, vectors = np.linalg.eigh(squares)
        return np.asarray(vectors * np.sqrt(np.maximum(values, 0))[:, None, :])


@dataclass(frozen=True)
class Fingerprint:
    """What tells whether two adapters make the same change: their places, and random projections of the direction.

    `direction` has shape (blocks, 4): xᵀ·W·y for each block's update W, over the norm of all of them.
    """

    path: str
    places: str
    norm: float
    direction: Float64Array


def fingerprint(path: str, updates: Sequence[Update]) -> Fingerprint | None:
    """The fingerprint of an adapter; None of one that changes nothing, or is too large to be measured."""
    norm = math.hypot(*(update.norm for update in updates))
    if not 0 < norm < np.inf:
        return None
    rows = []
    for update in updates:
        factors, scale = _factors(update.block), math.copysign(_scale(update.block), update.block.scale)
        sides = factors.a @ _probes(update.shape[1]), factors.bt @ _probes(update.shape[0])
        rows.append(scale * (sides[0] * sides[1]).sum(axis=0))
    places = sha256("\n".join(f"{update.name} {update.shape}" for update in updates).encode("utf-8", "replace"))
    return Fingerprint(path, places.hexdigest(), norm, np.asarray(rows, dtype=np.float64) / norm)


@cache
def _probes(width: int) -> Float64Array:
    """Random vectors, of shape (width, 4), the same ones each time."""
    return np.random.default_rng(width).standard_normal((width, _PROBES))
