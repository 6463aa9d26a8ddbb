"""Layout: where the tasks of a space go in a picture, as an order and as points of a plane. Arrays in, arrays out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

#: Points are placed by the eigenvectors of at most so many tasks; the others are projected onto them.
MOST_LANDMARKS = 1000


def coordinates(scores: Doubles, count: int) -> tuple[Doubles, Doubles]:
    """Classical multidimensional scaling of a matrix of cosines: distances come near sqrt(2 - 2 score).

    The eigenvectors of the doubly centred matrix, times the square roots of their eigenvalues (Torgerson 1952). Above
    `MOST_LANDMARKS` tasks, evenly spread ones are scaled and the others projected (de Silva and Tenenbaum 2004). In
    each coordinate the largest value is positive, so that a rerun does not mirror the picture.

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
    whole = values[values > 0].sum()
    for at, column in enumerate(np.argsort(-values, kind="stable")[:count]):
        if values[column] <= 1e-9 * len(chosen):
            break
        axis = centred @ vectors[:, column] / np.sqrt(values[column])
        points[:, at] = axis if axis[_largest(axis)] > 0 else -axis
        shares[at] = values[column] / whole
    return points, shares


def _largest(axis: Doubles) -> int:
    return int(np.argmax(np.round(np.abs(axis), 6)))


def seriate(scores: Doubles) -> list[int]:
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


def _joined(left: list[int], right: list[int], scores: Doubles) -> list[int]:
    """The two branches in the one of four orientations whose touching ends are most similar."""
    turned = [(one, other) for one in (left, left[::-1]) for other in (right, right[::-1])]
    one, other = max(turned, key=lambda pair: scores[pair[0][-1], pair[1][0]])
    return one + other
