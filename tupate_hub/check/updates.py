"""Update: how large one block's change is, and how many directions it really has, from r x r products."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from tupate_hub.arrays import Float64Array
from tupate_hub.compare.similarity import get_similarity
from tupate_hub.embedding import Block

#: The part of the squared norm that a smaller rank has to keep.
SHARE = 0.99
_PROBES = 4
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
        return self.norm / float(np.sqrt(self.shape[0] * self.shape[1]))

    @cached_property
    def rank_needed(self) -> int:
        """The smallest rank that keeps `SHARE` of the squared norm; 0 of an update that is zero."""
        squares = np.cumsum(self.values**2)
        return int(np.searchsorted(squares, SHARE * squares[-1]) + 1) if self.norm > 0 else 0

    @cached_property
    def effective_rank(self) -> float:
        """exp of the entropy of the singular values as shares (Roy and Vetterli, EUSIPCO 2007); 0 where it is zero."""
        total = float(self.values.sum())
        if not total > 0:
            return 0.0
        shares = self.values[self.values > 0] / total
        return float(np.exp(-(shares * np.log(shares)).sum()))


def measure(blocks: Iterable[Block]) -> tuple[Update, ...]:
    """The update of each block."""
    features = get_similarity("update").features
    found = []
    by_rank: dict[int, list[int]] = {}
    for at, block in enumerate(blocks):
        factors = features(block, None)
        a, bt = factors.a.astype(np.float64), factors.bt.astype(np.float64)
        found.append((block, (bt.shape[1], a.shape[1]), a @ a.T, bt @ bt.T))
        by_rank.setdefault(len(a), []).append(at)
    values: dict[int, Float64Array] = {}
    for places in by_rank.values():
        spectra = _spectra(np.stack([found[at][2] for at in places]), np.stack([found[at][3] for at in places]))
        values.update(zip(places, spectra, strict=True))
    return tuple(
        Update(block, shape, float(np.sqrt((values[at] ** 2).sum())), values[at])
        for at, (block, shape, _, _) in enumerate(found)
    )


def _spectra(of_a: Float64Array, of_b: Float64Array) -> Float64Array:
    """Singular values of B·A from A·Aᵀ and Bᵀ·B, each of shape (n, r, r): with A·Aᵀ = L·Lᵀ, roots of those of Lᵀ·Bᵀ·B·L.

    Both are brought to trace r first, so that the squares of numbers as large as float32's stay within float64's.
    """
    rank = of_a.shape[1]
    sizes = [np.trace(one, axis1=1, axis2=2)[:, None, None] / rank for one in (of_a, of_b)]
    unit_a, unit_b = (
        np.divide(one, size, out=np.zeros_like(one), where=size > 0)
        for one, size in zip((of_a, of_b), sizes, strict=True)
    )
    lower = np.linalg.cholesky(unit_a + _ROUNDING * rank * np.eye(rank))
    squares = np.linalg.eigvalsh(lower.transpose(0, 2, 1) @ unit_b @ lower)[:, ::-1]
    found: Float64Array = np.sqrt(np.maximum(squares, 0)) * np.sqrt(sizes[0][:, :, 0]) * np.sqrt(sizes[1][:, :, 0])
    return found * (sizes[0][:, :, 0] > 0)


def sketch(updates: Sequence[Update]) -> Float64Array:
    """A few random projections xᵀ·(s·B·A)·y of each update, of shape (updates, 4): equal where the updates are."""
    features = get_similarity("update").features
    rows = []
    for update in updates:
        factors = features(update.block, None)
        rows.append(((factors.a @ _probes(update.shape[1])) * (factors.bt @ _probes(update.shape[0]))).sum(axis=0))
    return np.asarray(rows, dtype=np.float64).reshape(len(updates), _PROBES)


@cache
def _probes(width: int) -> Float64Array:
    """Random vectors, of shape (width, 4), the same ones each time."""
    return np.random.default_rng(width).standard_normal((width, _PROBES))
