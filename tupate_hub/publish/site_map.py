"""The page's map: places for the tasks of a space, near neighbours beside each other. Arrays in, arrays out."""

from __future__ import annotations

import numpy as np

from tupate_hub.arrays import Float64Array
from tupate_hub.compare.noise import NoiseLevel
from tupate_hub.publish.layout import coordinates

#: Above so many tasks the map is the plane of largest distances alone: every step looks at all pairs.
MOST_DRAWN_TOGETHER = 500
_NEIGHBOURS = 4
_STEPS = 240


def places(scores: Float64Array, noise: NoiseLevel | None) -> Float64Array:
    """A place for each task, of shape (tasks, 2), inside [-1, 1].

    Classical scaling puts unrelated tasks, whose cosines are all near zero, on one heap. Its places are the start
    here: each task then is drawn to its nearest neighbours, by how far their scores stand out of the noise, and all
    tasks push one another away (Fruchterman and Reingold 1991). What is near is similar; how far apart the rest lies
    says little.

    Parameters
    ----------
    scores : array of shape (tasks, tasks)
        Cosines.
    noise : NoiseLevel or None
        Scores up to its upper end draw little.
    """
    points, _ = coordinates(scores, 2)
    if 2 < len(points) <= MOST_DRAWN_TOGETHER:
        points = _drawn_together(_spread(points), _pull(scores, noise))
    return _boxed(points)


def _pull(scores: Float64Array, noise: NoiseLevel | None) -> Float64Array:
    """How strongly each two tasks are drawn to each other, symmetric, of shape (tasks, tasks)."""
    count = len(scores)
    beside = np.where(np.eye(count, dtype=bool), -np.inf, scores)
    least = np.sort(beside, axis=1)[:, -min(_NEIGHBOURS, count - 1)]
    near = (beside >= least[:, None]) | (beside >= least[None, :])
    start = noise.median if noise is not None else 0.0
    unit = max(noise.upper - noise.median, 1e-6) if noise is not None else max(float(scores.std()), 1e-6)
    with np.errstate(invalid="ignore"):
        strength = np.log2(1 + np.maximum((scores - start) / unit, 0))
    return np.where(near & ~np.eye(count, dtype=bool), 0.15 + strength, 0.0)


def _spread(points: Float64Array) -> Float64Array:
    """The places by their ranks in each direction, so that the heap in the middle starts apart."""
    ranks = np.argsort(np.argsort(points, axis=0, kind="stable"), axis=0, kind="stable")
    mixed = points / max(float(np.abs(points).max()), 1e-12) + 2 * ranks / max(1, len(points) - 1) - 1
    return np.asarray(mixed / 2)


def _drawn_together(points: Float64Array, pull: Float64Array) -> Float64Array:
    count = len(points)
    ideal = 1.6 / np.sqrt(count)
    for step in range(_STEPS):
        apart = points[:, None, :] - points[None, :, :]
        distance = np.sqrt((apart**2).sum(axis=-1)) + 1e-3
        away = ideal**2 / distance**2
        toward = np.minimum(pull, 2.5) * distance / ideal / 3
        force = ((away - toward)[:, :, None] * apart).sum(axis=1) - 0.6 * points
        length = np.sqrt((force**2).sum(axis=1, keepdims=True)) + 1e-12
        points = points + force / length * np.minimum(length, 0.12 * (1 - step / _STEPS) + 0.002)
    return points


def _boxed(points: Float64Array) -> Float64Array:
    """The places turned so that they are widest from left to right, and in the middle of the box."""
    if len(points) < 2:
        return np.zeros_like(points)
    points = points - points.mean(axis=0)
    axes = np.linalg.svd(points, full_matrices=False)[2]
    points = points @ (axes * np.where(axes[np.arange(2), np.abs(axes).argmax(axis=1)] < 0, -1, 1)[:, None]).T
    low, high = points.min(axis=0), points.max(axis=0)
    return np.asarray((points - (low + high) / 2) / max(float((high - low).max()) / 2, 1e-12))
