"""Layout: where the tasks of a space go in a picture, as an order and as points of a plane. Arrays in, arrays out."""

from __future__ import annotations

import numpy as np

from tupate_hub.arrays import Float64Array

#: Points are placed by the eigenvectors of at most so many tasks; the others are projected onto them.
MOST_LANDMARKS = 1000


def coordinates(scores: Float64Array, count: int) -> tuple[Float64Array, Float64Array]:
    """Classical multidimensional scaling of a matrix of cosines: distances come near sqrt(2 - 2 score).

    The eigenvectors of the doubly centred matrix, times the square roots of their eigenvalues (Torgerson 1952). Above
    `MOST_LANDMARKS` tasks, evenly spread ones are scaled and the others projected (de Silva and Tenenbaum 2004). In
    each coordinate the largest value is positive, so that neither a rerun nor another machine mirrors the picture.

    Parameters
    ----------
    scores : array of shape (tasks, tasks)
    count : int
        How many coordinates; those that the tasks do not have are zero.

    Returns
    -------
    Points of shape (tasks, count), and the share of the squared distances that each coordinate carries, (count,).
    """
    total = len(scores)
    points, shares = np.zeros((total, count)), np.zeros(count)
    if total < 2:
        return points, shares
    chosen = np.arange(0, total, -(-total // MOST_LANDMARKS))
    square = scores[np.ix_(chosen, chosen)]
    across = scores[:, chosen]
    centred = across - across.mean(axis=1, keepdims=True) - square.mean(axis=0) + square.mean()
    values, vectors = np.linalg.eigh((centred[chosen] + centred[chosen].T) / 2)
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = min(count, int((values > 1e-9 * len(chosen)).sum()))
    points[:, :kept] = centred @ _settled(values, vectors, kept) / np.sqrt(values[:kept])
    shares[:kept] = values[:kept] / values[values > 0].sum()
    return points, shares


def _settled(values: Float64Array, vectors: Float64Array, count: int) -> Float64Array:
    """The first eigenvectors, with what the solver leaves open settled by the tasks and not by rounding.

    Open are the sign, and where eigenvalues are equal the basis of their space. From what is left of that space, each
    vector in turn is the one nearest to the task that lies furthest in it, and positive there.

    Parameters
    ----------
    values : array of shape (tasks,)
        In falling order; those that differ by less than 1e-9 of the first are taken for equal.
    vectors : array of shape (tasks, tasks)
        A column for each value.
    count : int
        How many are asked for.

    Returns
    -------
    Array of shape (tasks, count).
    """
    group = np.concatenate([[0], np.cumsum(-np.diff(values) > 1e-9 * values[0])])
    chosen = np.empty((len(values), count))
    for number in range(group[count - 1] + 1 if count else 0):
        left = vectors[:, group == number]
        for at in np.flatnonzero(group[:count] == number):
            task = int(np.argmax(np.round((left**2).sum(axis=1), 6)))
            weights = left[task] / np.linalg.norm(left[task])
            chosen[:, at] = left @ weights
            left = left - np.outer(chosen[:, at], weights)
    return chosen


def seriate(scores: Float64Array) -> list[int]:
    """An order in which similar tasks stand together: the leaves of an average-linkage tree.

    Where two branches meet, they are turned so that the tasks that touch are as similar as can be.

    Parameters
    ----------
    scores : array of shape (tasks, tasks)
        Symmetric; the time grows with the cube of the number of tasks.
    """
    rounded = np.round(scores, 6)
    branches: list[list[int]] = [[task] for task in range(len(scores))]
    linkage = rounded.copy()
    np.fill_diagonal(linkage, -np.inf)
    while len(branches) > 1:
        first, second = sorted(divmod(int(np.argmax(linkage)), len(branches)))
        left, right = branches[first], branches[second]
        weights = len(left), len(right)
        merged = np.round(np.average(linkage[[first, second]], axis=0, weights=weights), 6)
        linkage[first], linkage[:, first] = merged, merged
        linkage[first, first] = -np.inf
        linkage = np.delete(np.delete(linkage, second, axis=0), second, axis=1)
        branches[first] = _joined(left, right, rounded)
        del branches[second]
    return branches[0] if branches else []


def _joined(left: list[int], right: list[int], scores: Float64Array) -> list[int]:
    """The two branches in the one of four orientations whose touching ends are most similar."""
    turned = [(one, other) for one in (left, left[::-1]) for other in (right, right[::-1])]
    one, other = max(turned, key=lambda pair: scores[pair[0][-1], pair[1][0]])
    return one + other
