"""Truncation: a matrix as the low-rank update nearest to it, by a randomised range finder.

Halko, Martinsson and Tropp 2011, algorithms 4.4 and 5.1: the matrix is applied to a few random vectors, orthonormalised
between the powers, and the singular value decomposition is that of the small matrix in the range so found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tupate_hub.arrays import Float32Array

#: Random vectors beyond the rank, and powers: the error is then within some percent of the least one there is.
_MORE, _POWERS = 10, 2


@dataclass(frozen=True)
class Truncated:
    """B·A, `a` of shape (r, in) and `b` (out, r), of equal sizes; with the squares of its norm and of the whole's."""

    a: Float32Array
    b: Float32Array
    kept_square: float
    square: float


def truncate(matrix: Float32Array, rank: int, rng: np.random.Generator) -> Truncated:
    """The best update of that rank, or of the narrower side's where that is less; exact where the matrix is small.

    Parameters
    ----------
    matrix : array of shape (out, in)
        Finite numbers.
    rank : int
        At least 1.
    rng : numpy.random.Generator
        Of the random vectors.
    """
    rank = min(rank, *matrix.shape)
    square = float(np.linalg.norm(matrix)) ** 2
    if min(matrix.shape) <= 2 * (rank + _MORE):
        u, values, vt = np.linalg.svd(matrix, full_matrices=False)
    else:
        q = _range(matrix, rank + _MORE, rng)
        inner, values, vt = np.linalg.svd(q.T @ matrix, full_matrices=False)
        u = q @ inner[:, :rank]
    kept = values[:rank]
    root = np.sqrt(kept)
    a, b = root[:, None] * vt[:rank], u[:, :rank] * root
    kept_square = float(np.sum(np.square(kept, dtype=np.float64)))
    return Truncated(a.astype(np.float32), b.astype(np.float32), min(kept_square, square), square)


def _range(matrix: Float32Array, count: int, rng: np.random.Generator) -> Float32Array:
    """Orthonormal columns, (out, count), of a space that holds most of the matrix's range."""
    q, _ = np.linalg.qr(matrix @ rng.standard_normal((matrix.shape[1], count), dtype=np.float32))
    for _ in range(_POWERS):
        inner, _ = np.linalg.qr(matrix.T @ q)
        q, _ = np.linalg.qr(matrix @ inner)
    return q
