"""Trials: sources ordered by how well their models explain a target's few labels, and what that order has brought.

A trial tunes nothing: LogME (You et al. 2021) says how well a linear model on the states of a source's model explains
the labels of the target's examples. `recommend` joins it with the similarity of a run on the same examples, which says
little before the run has learned the task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tupate_hub.arrays import Float64Array
from tupate_hub.errors import FormatError
from tupate_hub.evaluation.converged import Converged

#: Of so many measured targets, those that are nearest, a forecast is the mean.
_NEIGHBOURS = 5
#: What a whole run's similarity counts beside a trial; one that has made a share of its steps counts that share of it.
_WHOLE_RUN = 2.0


def joined(similarities: ArrayLike, evidences: ArrayLike, share: float) -> Float64Array:
    """Scores of sources by both: z(evidence) + 2 `share` z(similarity), of shape (sources,).

    `share` is how much of the space's own steps the run has made whose similarities these are. NaN where either is.
    """
    run, trial = (_standard(np.asarray(values, dtype=np.float64)) for values in (similarities, evidences))
    return np.asarray(trial + _WHOLE_RUN * min(share, 1.0) * run)


def _standard(values: Float64Array) -> Float64Array:
    known = np.isfinite(values)
    if not known.any():
        return values
    spread = float(values[known].std())
    return np.asarray((values - values[known].mean()) / (spread or 1.0))


@dataclass(frozen=True)
class Promise:
    """What a first pick is expected to change, in points: the mean and the range of the most similar cases.

    `helped` says on how many of the `cases` it beat starting from nothing.
    """

    points: float
    low: float
    high: float
    helped: int
    cases: int


@dataclass(frozen=True)
class TrialForecast:
    """What first picks brought on measured targets, by how far their evidence rose above the base model's.

    `rises` are in nats a row, `gains` in points, both by target; `regime`, `examples` and `steps` say how the transfer
    was measured, `converged` what the picks gained over longer runs from nothing, where those were made.
    """

    regime: str
    examples: int
    steps: int
    targets: tuple[str, ...]
    rises: tuple[float, ...]
    gains: tuple[float, ...]
    converged: Converged | None = None

    def promise(self, rise: float, leave_out: str | None = None) -> Promise:
        """The forecast for a pick whose evidence rises so far: of the five measured picks that rose most nearly so."""
        rows = [
            (abs(np.log(max(known, 1e-4)) - np.log(max(rise, 1e-4))), gain)
            for target, known, gain in zip(self.targets, self.rises, self.gains, strict=True)
            if target != leave_out
        ]
        gains = [gain for _, gain in sorted(rows)[:_NEIGHBOURS]]
        return Promise(float(np.mean(gains)), min(gains), max(gains), sum(gain > 0 for gain in gains), len(gains))

    @property
    def error(self) -> float:
        """The root of the mean squared error, in points, each target forecast from the others."""
        errors = [
            self.promise(rise, target).points - gain
            for target, rise, gain in zip(self.targets, self.rises, self.gains, strict=True)
        ]
        return float(np.sqrt(np.mean(np.square(errors))))

    def as_dict(self, digits: int = 4) -> dict[str, Any]:
        """JSON values, as the registry keeps them."""
        rows = zip(self.targets, self.rises, self.gains, strict=True)
        picks = [
            {"target": target, "rise": round(rise, digits), "gain": round(gain, digits)} for target, rise, gain in rows
        ]
        return {
            "regime": self.regime,
            "examples": self.examples,
            "steps": self.steps,
            "picks": picks,
            "converged": None if self.converged is None else self.converged.as_dict(digits),
        }

    @classmethod
    def from_dict(cls, written: object, where: str) -> TrialForecast | None:
        """What a registry records; None where it records nothing, or of too few targets.

        Raises
        ------
        FormatError
            When it is something else.
        """
        if written is None:
            return None
        try:
            rows: Sequence[Mapping[str, Any]] = written["picks"]  # type: ignore[index]
            found = cls(
                str(written["regime"]),  # type: ignore[index]
                int(written["examples"]),  # type: ignore[index]
                int(written["steps"]),  # type: ignore[index]
                tuple(str(row["target"]) for row in rows),
                tuple(float(row["rise"]) for row in rows),
                tuple(float(row["gain"]) for row in rows),
                Converged.from_dict(written.get("converged"), where),  # type: ignore[attr-defined]
            )
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise FormatError(f"{where} has a forecast of trials that cannot be read.") from error
        if not np.isfinite([*found.rises, *found.gains]).all():
            raise FormatError(f"{where} has a forecast of trials with what is not a number.")
        return found if len(found.targets) > _NEIGHBOURS else None
