"""LogME: how well a Bayesian linear model explains labels from features (You et al. 2021, arXiv:2102.11005)."""

from __future__ import annotations

import numpy as np

from tupate_hub.arrays import Float64Array, FloatArray

#: Where the ratio of noise to signal is searched, in units of the largest squared singular value.
_RANGE = (1e-12, 1e6)
_POINTS, _ZOOMS = 61, 5


def log_evidence(features: FloatArray, targets: FloatArray) -> float:
    """Greatest log evidence of a column of targets, per row, averaged over the columns.

    The model is y = F w + noise with w ~ N(0, I / a) and noise ~ N(0, 1 / b). The paper climbs to the best a and b by
    fixed-point steps. For a given ratio t = a / b the best b has a closed form, n / e(t) with
    e(t) = yᵀ(I + FFᵀ / t)⁻¹y, so that one number is left to search, on a grid that is narrowed around its best point.

    Parameters
    ----------
    features : array of shape (rows, width)
        F. No column of ones is added, as in the paper.
    targets : array of shape (rows, columns)
        One-hot classes, or numbers.

    Returns
    -------
    Nats per row; higher is better. Infinite where a target is 0 in all rows.
    """
    left, values, _ = np.linalg.svd(np.asarray(features, dtype=np.float64), full_matrices=False)
    squares = values**2
    if not squares[0]:
        squares[0] = np.finfo(np.float64).tiny
    y = np.asarray(targets, dtype=np.float64)
    inside = (left.T @ y) ** 2  # (rank, columns)
    outside = np.maximum((y**2).sum(axis=0) - inside.sum(axis=0), 0.0)
    best = [_best(squares, inside[:, column], outside[column], len(y)) for column in range(y.shape[1])]
    return float(np.mean(best) / len(y))


def _best(squares: Float64Array, inside: Float64Array, outside: float, rows: int) -> float:
    """The greatest log evidence of one column over all ratios."""
    low, high = np.log(_RANGE) + np.log(squares[0])
    for _ in range(_ZOOMS):
        grid = np.linspace(low, high, _POINTS)
        values = _profile(np.exp(grid), squares, inside, outside, rows)
        at = int(np.argmax(values))
        low, high = grid[max(at - 1, 0)], grid[min(at + 1, _POINTS - 1)]
    return float(values[at])


def _profile(
    ratios: Float64Array, squares: Float64Array, inside: Float64Array, outside: float, rows: int
) -> Float64Array:
    """Log evidence of one column at each ratio, with the best noise for it."""
    shrunk = ratios[:, None] / (ratios[:, None] + squares)  # (ratios, rank)
    energy = shrunk @ inside + outside
    with np.errstate(divide="ignore"):
        fit = -rows / 2 * (np.log(2 * np.pi * energy / rows) + 1)
    return np.asarray(fit + np.log(shrunk).sum(axis=1) / 2)
