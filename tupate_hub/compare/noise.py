"""Noise: how pairs of unrelated tasks score in a space, as a scale for all other scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tupate_hub.arrays import FloatArray

#: Of a larger space the pairs are not looked at: there would be millions.
MOST_TASKS = 2000
#: Fewer pairs of different kinds than this say nothing about the space.
_FEWEST_PAIRS = 20


@dataclass(frozen=True)
class NoiseLevel:
    """Scores of pairs of tasks of different kinds (a tagger and a regression): their median and 95 % quantile.

    Such tasks share the base model and the procedure, and seldom more. `pairs` is their number.
    """

    median: float
    upper: float
    pairs: int

    def covers(self, score: float) -> bool:
        """Whether unrelated tasks score as high as that."""
        return score <= self.upper

    def excess(self, score: float) -> float:
        """How far a score stands out: 0 at the median of unrelated pairs, 1 at their upper end, log2 above (bits).

        A score of twice the distance counts 1.58, of ten times 3.46: a few tasks of a zoo are copies of each other,
        and their cosines are many times the noise.
        """
        distance = (score - self.median) / max(self.upper - self.median, 1e-9)
        return float(np.log2(1 + max(distance, 0.0)))


def noise_level(pairs: FloatArray, kinds: Sequence[str]) -> NoiseLevel | None:
    """The noise level of a space, or None where it holds too few pairs of different kinds, or too many tasks.

    Parameters
    ----------
    pairs : array
        Scores of all pairs of tasks, each once, as `off_diagonal` gives them: of shape (tasks (tasks - 1) / 2,).
    kinds : sequence of str
        The tasks' kinds, "" where unknown: such a task takes no part.
    """
    if len(kinds) > MOST_TASKS:
        return None
    number = {kind: place for place, kind in enumerate(sorted({*kinds} - {""}))}
    codes = np.array([number.get(kind, -1) for kind in kinds])
    first, second = (codes[side] for side in np.triu_indices(len(codes), k=1))
    values = pairs[(first != second) & (first >= 0) & (second >= 0)]
    if len(values) < _FEWEST_PAIRS:
        return None
    ordered = np.sort(values)
    return NoiseLevel(_quantile(ordered, 0.5), _quantile(ordered, 0.95), len(ordered))


def _quantile(ordered: FloatArray, share: float) -> float:
    """By linear interpolation; np.quantile would import numpy.ma, a tenth of a cold question's time."""
    at = share * (len(ordered) - 1)
    below = int(at)
    above = min(below + 1, len(ordered) - 1)
    return float(ordered[below] + (at - below) * (ordered[above] - ordered[below]))
