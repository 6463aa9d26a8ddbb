"""Signs: how often the entries of several updates contradict one another, and what their sum loses by it.

Entries are not a property of the factors' products: rows of the updates have to be formed. A block of few entries is
formed whole, of another so many rows are drawn, and the rest is an estimate with a standard error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tupate_hub.arrays import Float32Array, Float64Array
from tupate_hub.compare.similarity import DEFAULT, get_similarity
from tupate_hub.embedding import TaskEmbedding, shared_names
from tupate_hub.errors import TupateHubError

#: A block with no more entries is looked at whole; of a larger one as many rows as have this many entries.
MOST_ENTRIES = 1 << 18


@dataclass(frozen=True)
class Signs:
    """How the entries of n updates agree.

    `opposite`, of shape (n, n), is the share of the entries of blocks which both have that have opposite signs, half
    by chance, and `error` its standard error; NaN where no such entries are. `cancelled` is the share of the weighed
    updates' summed magnitudes that is lost in their sum: 1 - sum |sum_i x_i| / sum sum_i |x_i|. `looked_at` is the
    share of all entries that was looked at, 1 where nothing is estimated.
    """

    opposite: Float64Array
    error: Float64Array
    cancelled: float
    looked_at: float


def sign_conflicts(
    embeddings: Sequence[TaskEmbedding],
    weights: Sequence[float] | Float64Array,
    *,
    blocks: Sequence[str] | None = None,
    most: int = MOST_ENTRIES,
    seed: int = 0,
) -> Signs:
    """The conflicts of embeddings whose updates `interference.products` accepts, in their sum with these weights.

    Parameters
    ----------
    blocks : sequence of str, optional
        Those to look at; all by default.
    most : int
        How many entries of a block are looked at.
    seed : int
        Draws the rows.
    """
    if most < 1:
        raise TupateHubError(f"{most} entries of a block cannot be looked at.", hint="look at one or more")
    count, rng = len(embeddings), np.random.default_rng(seed)
    shares = np.asarray(weights, dtype=np.float32)
    clashes, entries, variance = (np.zeros((count, count)) for _ in range(3))
    kept = whole = 0.0
    seen = total = 0
    for name in shared_names(embeddings) if blocks is None else blocks:
        owners = [at for at, one in enumerate(embeddings) if name in one.by_name]
        rows, size, held = _rows(embeddings, owners, name, most, rng)
        seen, total = seen + rows.shape[1] * rows.shape[2], total + size
        grows = size / (rows.shape[1] * rows.shape[2])
        weighed = shares[owners, None, None] * rows
        kept += grows * float(np.abs(weighed.sum(axis=0)).sum(dtype=np.float64))
        whole += grows * float(np.abs(weighed).sum(dtype=np.float64))
        found, counted = _clashes(rows)
        pairs = np.ix_(owners, owners)
        clashes[pairs] += grows * found.sum(axis=0)
        entries[pairs] += grows * counted.sum(axis=0)
        variance[pairs] += _variance(found, counted, held)
    with np.errstate(divide="ignore", invalid="ignore"):
        opposite, error = clashes / entries, np.sqrt(variance) / entries
    return Signs(opposite, error, 1 - kept / whole if whole else 0.0, seen / total if total else 1.0)


def _rows(
    embeddings: Sequence[TaskEmbedding], owners: Sequence[int], name: str, most: int, rng: np.random.Generator
) -> tuple[Float32Array, int, int]:
    """Rows of the updates of a block, (owners, rows, in), how many entries the block has, and how many rows."""
    factors = [get_similarity(DEFAULT).features(embeddings[at].by_name[name], None) for at in owners]
    inner, outer = factors[0].a.shape[1], factors[0].bt.shape[1]
    drawn = outer
    if inner * outer > most:
        drawn = min(outer, max(2, math.ceil(most / inner)))
    chosen = np.arange(outer) if drawn == outer else np.sort(rng.choice(outer, drawn, replace=False))
    return np.stack([one.bt[:, chosen].T @ one.a for one in factors]), inner * outer, outer


def _clashes(rows: Float32Array) -> tuple[Float64Array, Float64Array]:
    """How many entries of each row have opposite signs in two updates, and how many have signs, (rows, owners, owners).

    From products of the signs, of which each sum is a whole number that float32 holds.
    """
    signs = np.sign(rows).transpose(1, 0, 2)
    agreeing = np.matmul(signs, signs.transpose(0, 2, 1)).astype(np.float64)
    there = np.abs(signs)
    counted = np.matmul(there, there.transpose(0, 2, 1)).astype(np.float64)
    return (counted - agreeing) / 2, counted


def _variance(found: Float64Array, counted: Float64Array, rows: int) -> Float64Array | float:
    """Those of the estimated numbers of clashes in a block of so many rows, from those drawn without replacement."""
    drawn = len(found)
    if drawn == rows or drawn < 2:
        return 0.0
    shares = found.sum(axis=0) / np.maximum(1, counted.sum(axis=0))  # of the ratio, as entries may be 0
    apart = np.square(found - counted * shares).sum(axis=0)
    return np.asarray(rows**2 * (1 - drawn / rows) * apart / (drawn - 1) / drawn)
