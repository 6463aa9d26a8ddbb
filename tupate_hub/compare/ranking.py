"""Ranking: the ordered neighbours of a task, with what a reader needs to judge a score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tupate_hub.arrays import Float64Array, FloatArray
from tupate_hub.compare.noise import NoiseLevel
from tupate_hub.notebook import data_frame, html_table

#: Neighbours whose scores are closer than this are called tied: float16 files do not carry the difference.
TIE = 1e-4
#: One pair computed in two ways, from an index and from the embeddings, differs by less: float32's rounding.
ROUNDING = 1e-5


@dataclass(frozen=True)
class Neighbor:
    """One task of a ranking. `percentile` is the share, in per cent, of all pairs of the space with a lower score.

    `notes` are among `same data`, `near-duplicate`, `diverged`, `weak`, `few shared blocks`, `within noise`, `tie`.
    `shared` are the shares of the query's and the task's squared norm that lie in blocks which both have. `interval` is
    the score's 90 % bootstrap interval over blocks, `contributions` what each block adds to it: both only where asked.
    """

    rank: int
    task: str
    score: float
    percentile: float | None
    kind: str = ""
    train_size: int | None = None
    notes: tuple[str, ...] = ()
    shared: tuple[float, float] | None = None
    interval: tuple[float, float] | None = None
    contributions: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Approximation:
    """How the neighbours were found in a large space: by the sketches of its `embeddings`.

    The best `compared` of them have exact scores, the others estimates. Percentiles and noise are those of `pairs`
    pairs that stand for all.
    """

    embeddings: int
    compared: int
    pairs: int


@dataclass(frozen=True)
class Ranking:
    """Neighbours of `query` in `space` under `similarity`, best first.

    `noise` is how unrelated tasks of the space score, None where it holds too few to tell. `left_out` are the tasks of
    the space that do not compare with the query, each with the reason. `from_index` says whether the scores were read
    from the registry's index, its publisher's word, and not computed from the embeddings. `notes` are on the query:
    `diverged`, or nothing. `itself` is the task of the space that is the query, and so no neighbour.
    `approximation` says how a large space was searched, None where everything was compared.
    """

    query: str
    space: str
    similarity: str
    centred: bool
    neighbors: tuple[Neighbor, ...]
    fused: str | None = None
    noise: NoiseLevel | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    from_index: bool = False
    notes: tuple[str, ...] = ()
    itself: str | None = None
    approximation: Approximation | None = None

    def __iter__(self) -> Iterator[Neighbor]:
        return iter(self.neighbors)

    def __len__(self) -> int:
        return len(self.neighbors)

    def rows(self) -> list[dict[str, Any]]:
        """A row for each neighbour: rank, task, score, percentile, kind, train size and note."""
        return [
            {
                "rank": one.rank,
                "task": one.task,
                "score": one.score,
                "percentile": one.percentile,
                "kind": one.kind,
                "train size": one.train_size,
                "note": ", ".join(one.notes),
            }
            for one in self.neighbors
        ]

    def to_pandas(self) -> Any:
        """The rows as a `pandas.DataFrame`; a TupateHubError where pandas is not installed."""
        return data_frame(self.rows())

    def _repr_html_(self) -> str:
        return html_table(self.rows(), f"{self.query} in {self.space}: {self.similarity}")


def order(scores: Float64Array, names: Sequence[str]) -> list[int]:
    """Indices from the highest score to the lowest; equal scores in order of their names."""
    return sorted(range(len(names)), key=lambda index: (-scores[index], names[index]))


def percentiles(scores: Float64Array, pairs: FloatArray, tolerance: float = 0.0) -> Float64Array:
    """Per cent of `pairs`, of any shape, that lie below each score; ties, up to `tolerance`, count half.

    Shape of `scores`.
    """
    ordered = np.sort(pairs, axis=None)
    low, high = ((scores + side * tolerance).astype(ordered.dtype) for side in (-1, 1))
    below = np.searchsorted(ordered, low, side="left")
    upto = np.searchsorted(ordered, high, side="right")
    return np.asarray(50.0 * (below + upto) / max(1, len(ordered)))


def tied(scores: Sequence[float]) -> list[bool]:
    """Which of the ordered scores lie within `TIE` of the one before or after."""
    gaps = [abs(first - second) < TIE for first, second in zip(scores, scores[1:], strict=False)]
    return [before or after for before, after in zip([False, *gaps], [*gaps, False], strict=True)][: len(scores)]


def reciprocal_rank_fusion(scores: Float64Array, names: Sequence[str], constant: float = 60.0) -> Float64Array:
    """Merge several rankings of the same items: RRF(i) = sum over rankings of 1 / (constant + rank of i).

    Cormack, Clarke and Buettcher, SIGIR 2009; Vu et al. 2020 merge their component rankings so.

    Parameters
    ----------
    scores : array of shape (rankings, items)
        Higher is better in each row; equal scores rank in order of their names.

    Returns
    -------
    Fused scores of shape (items,).
    """
    fused = np.zeros(scores.shape[1])
    for row in scores:
        for rank, item in enumerate(order(row, names), 1):
            fused[item] += 1 / (constant + rank)
    return fused
