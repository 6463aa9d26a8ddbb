"""Ranking: the ordered neighbours of a task, with what a reader needs to judge a score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

#: Neighbours whose scores are closer than this are called tied: float16 files do not carry the difference.
TIE = 1e-4


@dataclass(frozen=True)
class Neighbor:
    """One task of a ranking. `percentile` is the share, in per cent, of all pairs of the space with a lower score.

    `notes` are among `same data`, `weak`, `tie`. `contributions` maps blocks to what they add to the score.
    """

    rank: int
    task: str
    score: float
    percentile: float | None
    kind: str = ""
    train_size: int | None = None
    notes: tuple[str, ...] = ()
    contributions: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Ranking:
    """Neighbours of `query` in `space` under `similarity`, best first."""

    query: str
    space: str
    similarity: str
    centred: bool
    neighbors: tuple[Neighbor, ...]

    def __iter__(self) -> Iterator[Neighbor]:
        return iter(self.neighbors)

    def __len__(self) -> int:
        return len(self.neighbors)


def order(scores: NDArray[np.float64], names: Sequence[str]) -> list[int]:
    """Indices from the highest score to the lowest; equal scores in order of their names."""
    return sorted(range(len(names)), key=lambda index: (-scores[index], names[index]))


def percentiles(scores: NDArray[np.float64], pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Per cent of `pairs`, of any shape, that lie below each score; ties count half. Shape of `scores`."""
    ordered = np.sort(pairs, axis=None)
    below = np.searchsorted(ordered, scores, side="left")
    upto = np.searchsorted(ordered, scores, side="right")
    return np.asarray(50.0 * (below + upto) / max(1, len(ordered)))


def off_diagonal(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The entries above the diagonal of an (n, n) matrix: each pair once."""
    return matrix[np.triu_indices(len(matrix), k=1)]


def tied(scores: Sequence[float]) -> list[bool]:
    """Which of the ordered scores lie within `TIE` of the one before or after."""
    gaps = [abs(first - second) < TIE for first, second in zip(scores, scores[1:], strict=False)]
    return [before or after for before, after in zip([False, *gaps], [*gaps, False], strict=True)][: len(scores)]
