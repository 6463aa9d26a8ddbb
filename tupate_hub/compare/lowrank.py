"""Algebra of low-rank updates W = B·A on their factors alone: nothing of the size of W is ever formed.

A has shape (r, in), B (out, r). (B, A) and (B R, R^-1 A) are the same update for any invertible R of shape
(r, r), so only what depends on the product has a meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tupate_hub.arrays import Float32Array, Float64Array, IndexArray


@dataclass(frozen=True)
class Factors:
    """One update B·A by its factors: `a` of shape (r, in), `bt`, the transpose of B, of shape (r, out).

    A plain vector v is the update of rank one with a = v and bt = [[1]].
    """

    a: Float32Array
    bt: Float32Array

    @staticmethod
    def of_vector(vector: Float32Array) -> Factors:
        """A vector of shape (d,) as a rank-one update."""
        return Factors(vector[None, :], np.ones((1, 1), dtype=np.float32))


def directions(a: Float64Array, bt: Float64Array) -> tuple[Float64Array, Float64Array, Float64Array]:
    """What an update B·A reads, (in, k), its singular values, (k,), and what it moves, (out, k).

    From two QR decompositions of its factors, as `Factors` has them, and the SVD of an r x r matrix.
    """
    qa, ra = np.linalg.qr(a.T)
    qb, rb = np.linalg.qr(bt.T)
    u, strengths, vt = np.linalg.svd(rb @ ra.T, full_matrices=False)
    return qa @ vt.T, strengths, qb @ u


@dataclass(frozen=True)
class Stack:
    """The factors of many updates of one place, one below the other, in one piece of memory.

    `a` has shape (R, in) and `bt` (R, out), R the sum of the ranks; update i holds rows starts[i]:starts[i + 1].
    `owners` are the indices, in some list of embeddings, of those that have this place.
    """

    a: Float32Array
    bt: Float32Array
    starts: IndexArray
    owners: IndexArray

    @cached_property
    def uniform_rank(self) -> int:
        """The rank of every update, or 0 where they differ."""
        ranks = np.diff(np.append(self.starts, len(self.a)))
        return int(ranks[0]) if len(ranks) and (ranks == ranks[0]).all() else 0


def stack(updates: Sequence[Factors], owners: Sequence[int]) -> Stack:
    """Stack updates that share their outer shape (in, out); their ranks may differ."""
    ranks = [len(update.a) for update in updates]
    return Stack(
        _one_below_the_other([update.a for update in updates]),
        _one_below_the_other([update.bt for update in updates]),
        np.concatenate([[0], np.cumsum(ranks)[:-1]]).astype(np.intp),
        np.asarray(owners, dtype=np.intp),
    )


def _one_below_the_other(matrices: Sequence[Float32Array]) -> Float32Array:
    """In C order, however they lie in memory: joined first and turned then, B's transposes take twice as long."""
    joined = np.empty((sum(map(len, matrices)), matrices[0].shape[1]), dtype=np.float32)
    np.concatenate(matrices, out=joined, casting="same_kind")
    return joined


def inner(x: Factors, y: Factors) -> float:
    """<B A, B' A'> = sum((Bᵀ B') ∘ (A A'ᵀ)), the Frobenius inner product of two updates, from r x r' matrices."""
    return float(np.sum((x.bt @ y.bt.T).astype(np.float64) * (x.a @ y.a.T)))


def stacked_inner(x: Stack, y: Stack) -> Float64Array:
    """Inner products of all updates of two stacks of one place, of shape (len(x.starts), len(y.starts)).

    One matrix product a side and a sum over rank-by-rank tiles; `y` is read once and taken in slices, so the memory
    beyond the stacks stays below some 64 MB.
    """
    rows = max(1, 4_000_000 // max(1, len(x.a)))
    bounds = [0]
    for start, stop in zip(y.starts, [*y.starts[1:], len(y.a)], strict=True):
        if stop - bounds[-1] > rows and start > bounds[-1]:
            bounds.append(int(start))
    bounds.append(len(y.a))
    tiles = []
    for first, last in zip(bounds, bounds[1:], strict=False):
        inside = (y.starts >= first) & (y.starts < last)
        product = _times_transposed(y.a[first:last], x.a)
        product *= _times_transposed(y.bt[first:last], x.bt)
        tiles.append(_tile_sums(product, y.starts[inside] - first, y.uniform_rank, x))
    return np.asarray(np.concatenate(tiles).T)


#: A product with at most this many columns is made in panels of rows that stay in the cache of one core: BLAS
#: otherwise copies and spreads a matrix that is read only once (measured: 1.1 x a plain read against 5 x).
_NARROW, _PANEL = 32, 128


def _times_transposed(tall: Float32Array, short: Float32Array) -> Float32Array:
    """`tall @ short.T`, at the speed of reading `tall` where `short` has few rows."""
    if len(short) > _NARROW:
        return np.asarray(tall @ short.T)
    product = np.empty((len(tall), len(short)), dtype=np.float32)
    for start in range(0, len(tall), _PANEL):
        np.matmul(tall[start : start + _PANEL], short.T, out=product[start : start + _PANEL])
    return product


def _tile_sums(product: Float32Array, starts: IndexArray, rank: int, x: Stack) -> Float64Array:
    if rank and x.uniform_rank:
        tiles = product.reshape(len(starts), rank, len(x.starts), x.uniform_rank)
        return np.asarray(tiles.sum(axis=(1, 3), dtype=np.float64))
    rows = np.add.reduceat(product, starts, axis=0, dtype=np.float64)
    return np.asarray(np.add.reduceat(rows, x.starts, axis=1))


def stacked_squares(x: Stack) -> Float64Array:
    """Squared Frobenius norm of each update of a stack, of shape (len(x.starts),)."""
    edges = [*x.starts, len(x.a)]
    if x.uniform_rank:
        a = x.a.reshape(len(x.starts), x.uniform_rank, -1)
        bt = x.bt.reshape(len(x.starts), x.uniform_rank, -1)
        tiles = np.matmul(a, a.transpose(0, 2, 1)) * np.matmul(bt, bt.transpose(0, 2, 1))
        return np.asarray(tiles.sum(axis=(1, 2), dtype=np.float64))
    pieces = [Factors(x.a[first:last], x.bt[first:last]) for first, last in zip(edges, edges[1:], strict=False)]
    return np.array([inner(piece, piece) for piece in pieces])
