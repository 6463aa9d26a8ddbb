"""Choice: which way of comparing is chosen on half of the targets, and what that is worth on the other half."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tupate_hub.arrays import Float64Array, IndexArray
from tupate_hub.evaluation.evaluate import evaluate
from tupate_hub.evaluation.truth import Truth


@dataclass(frozen=True)
class Choice:
    """The candidate that was best on the targets `chosen_on`, and how it did on those `judged_on`.

    `value` is its mean there, `default` that of the default, `best_there` the candidate that one would have chosen with
    hindsight.
    """

    chosen_on: tuple[str, ...]
    judged_on: tuple[str, ...]
    chosen: str
    value: float
    default: float
    best_there: str
    best_value: float

    def as_dict(self, digits: int = 4) -> dict[str, Any]:
        """JSON values."""
        found: dict[str, Any] = {}
        for name, value in asdict(self).items():
            found[name] = round(value, digits) if isinstance(value, float) else value
            if isinstance(value, tuple):
                found[name] = list(value)
        return found


def chosen_by_halves(
    truth: Truth, candidates: Mapping[str, Float64Array], default: str, metric: str = "ndcg_rank"
) -> tuple[Choice, Choice]:
    """The choice on either half of the targets, every second one by name, judged on the other.

    Parameters
    ----------
    candidates : mapping of str to array
        Scores of shape (targets, sources), by the candidate's name; they must know every cell of the truth.
    default : str
        The name of one of them.
    """
    order = np.argsort(truth.targets)
    values = {name: evaluate(scores, truth, name).values[metric] for name, scores in candidates.items()}
    halves = order[::2], order[1::2]
    first, second = (_choice(truth, values, default, here, there) for here, there in (halves, halves[::-1]))
    return first, second


def _choice(
    truth: Truth, values: Mapping[str, Float64Array], default: str, here: IndexArray, there: IndexArray
) -> Choice:
    def best(rows: IndexArray) -> str:
        return max(values, key=lambda name: float(np.nanmean(values[name][rows])))

    chosen, hindsight = best(here), best(there)
    means = {name: float(np.nanmean(values[name][there])) for name in (chosen, default, hindsight)}
    return Choice(
        tuple(truth.targets[row] for row in here),
        tuple(truth.targets[row] for row in there),
        chosen,
        means[chosen],
        means[default],
        hindsight,
        means[hindsight],
    )
