"""Converged: what a first pick gains over starting from nothing where that has all the steps that it can use.

At equal steps much of a gain may be speed alone: this is what is left of it when time costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from tupate_hub.errors import FormatError
from tupate_hub.evaluation.metrics import POINTS, bootstrap_interval

_FEWEST_TARGETS = 4


@dataclass(frozen=True)
class FromNothing:
    """Scores of targets from nothing after so many steps, as fractions."""

    steps: int
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Converged:
    """First picks against runs from nothing of `steps` steps, on so many `targets`.

    `helped` is the share of targets on which the pick was ahead, `gained` the mean difference in points with its 95 %
    interval over targets.
    """

    steps: int
    targets: int
    helped: float
    gained: float
    gained_low: float
    gained_high: float

    @property
    def in_words(self) -> str:
        """What the picks were compared with, and how that came out: the end of a sentence."""
        return (
            f"{self.steps} steps from nothing, such a first pick was ahead on {self.helped:.0%} of {self.targets} "
            f"targets, by {self.gained:+.1f} points on average ({self.gained_low:+.1f} to {self.gained_high:+.1f})"
        )

    def as_dict(self, digits: int = 4) -> dict[str, Any]:
        """JSON values, rounded to what they are worth."""
        return {name: round(value, digits) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: object, where: str) -> Converged | None:
        """What `as_dict` wrote; None for None, where nothing of the kind was measured.

        Raises
        ------
        FormatError
            When a field is missing or is not a finite number.
        """
        if data is None:
            return None
        try:
            numbers = {one.name: float(data[one.name]) for one in fields(cls)}  # type: ignore[index]
            if not np.isfinite(list(numbers.values())).all():
                raise ValueError("a number is not finite")
            return cls(int(numbers.pop("steps")), int(numbers.pop("targets")), **numbers)
        except (LookupError, TypeError, ValueError) as error:
            raise FormatError(f"{where} is not a comparison with converged runs: {error!r}.") from error


def against_converged(picks: Mapping[str, float], nothing: FromNothing) -> Converged | None:
    """Compare first picks, whose scores are fractions by target; None where fewer than four targets have both."""
    both = sorted(picks.keys() & nothing.scores.keys())
    if len(both) < _FEWEST_TARGETS:
        return None
    gains = POINTS * np.array([picks[target] - nothing.scores[target] for target in both])
    low, high = bootstrap_interval(gains)
    return Converged(nothing.steps, len(both), float((gains > 0).mean()), float(gains.mean()), low, high)
