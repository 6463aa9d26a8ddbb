"""By gain: the neighbours of a query ordered by what starting from them is expected to bring, and what that is worth.

`similar` is affinity alone. Which source helps depends on its strength as well, which measured transfer has put into
the registry; what the first pick gained on targets that the fit had not seen is the forecast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tupate_hub.compare.noise import NoiseLevel
from tupate_hub.compare.ranking import Neighbor, Ranking
from tupate_hub.compare.similarity import DEFAULT
from tupate_hub.errors import FormatError, TupateHubError
from tupate_hub.evaluation.forecast import Expected, Forecast
from tupate_hub.evaluation.gain import GainModel
from tupate_hub.registry import SpaceEntry

if TYPE_CHECKING:
    from tupate_hub.zoo import Zoo

#: Neighbours that no one should start from, whatever they promise.
UNFIT = frozenset({"same data", "weak", "diverged"})


@dataclass(frozen=True)
class Prospect:
    """A neighbour with its strength, its expected effect in standard deviations of the sources, and its forecast.

    `strength` and `error` are 0 and None where nothing was measured; `expected` is None where the space has no
    forecast.
    """

    neighbor: Neighbor
    strength: float
    error: float | None
    effect: float
    expected: Expected | None


@dataclass(frozen=True)
class Prospects:
    """Neighbours in the order of their expected effect and gain, the forecast behind it and how sure rankings are.

    `ranking` has the same neighbours, with their ranks by gain. `first` is the first of all, kept or not, that is
    neither the task itself nor a poor run; None where all are.
    """

    ranking: Ranking
    prospects: tuple[Prospect, ...]
    first: Prospect | None
    forecast: Forecast | None
    noise: NoiseLevel | None

    @property
    def start(self) -> Prospect | None:
        """The first, or None where starting from nothing is the better advice: its forecast is not above zero."""
        if self.first is None or (self.first.expected is not None and self.first.expected.points <= 0):
            return None
        return self.first


def rank_by_gain(
    zoo: Zoo, ranking: Ranking, k: int | None = None, examples: int | None = None, kind: str | None = None
) -> Prospects:
    """Order a ranking of a whole space by expected gain.

    Parameters
    ----------
    ranking : Ranking
        All neighbours of a query by plain `update`, as `Zoo.similar` gives them without `k`.
    k : int, optional
        How many to keep.
    examples : int, optional
        How many examples the user has: the forecast of the regime nearest to it is taken.
    kind : str, optional
        The target's kind. Default: that of the task that was asked for, where it is one of the registry.

    Raises
    ------
    TupateHubError
        For a similarity that no gain was fitted for, or a space in which no transfer was measured.
    """
    space = _measured_space(zoo, ranking)
    model, noise = read_gain(space), ranking.noise
    forecast = nearest(read_forecasts(space), examples)
    strengths = {entry.task: entry.strength for entry in zoo.registry.in_space(space.name)}
    neighbors = ranking.neighbors
    values = [_number(strengths[neighbor.task], "value") or 0.0 for neighbor in neighbors]
    if kind is None:
        kind = "" if ranking.itself is None else zoo.registry.tasks[ranking.itself].kind
    effects = model.expected(
        [neighbor.score for neighbor in neighbors], values, kind, [neighbor.kind for neighbor in neighbors]
    )
    order = sorted(range(len(neighbors)), key=lambda at: (-effects[at], neighbors[at].task))
    expected: Sequence[Expected | None] = [None] * len(order)
    if forecast is not None and noise is not None:
        expected = forecast.of([(noise.excess(neighbors[at].score), values[at]) for at in order])
    prospects = [
        Prospect(
            replace(neighbors[at], rank=rank),
            values[at],
            _number(strengths[neighbors[at].task], "error"),
            float(effects[at]),
            promised,
        )
        for rank, (at, promised) in enumerate(zip(order, expected, strict=True), start=1)
    ]
    first = next((one for one in prospects if not UNFIT & set(one.neighbor.notes)), None)
    shown = tuple(prospects[:k])
    return Prospects(replace(ranking, neighbors=tuple(one.neighbor for one in shown)), shown, first, forecast, noise)


def _measured_space(zoo: Zoo, ranking: Ranking) -> SpaceEntry:
    """The space of a ranking that can be ordered by gain."""
    space = zoo.registry.space(ranking.space)
    if ranking.similarity != DEFAULT or ranking.centred or ranking.fused:
        raise TupateHubError(
            f"A ranking by gain is fitted for {DEFAULT!r} alone.", hint=f"leave the similarity at {DEFAULT!r}"
        )
    if not space.gain:
        raise TupateHubError(
            f"No transfer was measured in the space {space.name!r}: gains are not known.",
            hint="rank by similarity, or take the bundled zoo's default space",
        )
    return space


def read_gain(space: SpaceEntry) -> GainModel:
    """The weights that a registry records for a space, with what kinds add where it says so.

    Raises
    ------
    FormatError
        When they are not numbers.
    """
    numbers = {name: _number(space.gain, name) for name in ("affinity", "strength", "targets")}
    if None in numbers.values():
        raise FormatError(f"Space {space.name!r} of the registry has a gain without its numbers.")
    weights = float(numbers["affinity"] or 0), float(numbers["strength"] or 0), int(numbers["targets"] or 0)
    return GainModel(*weights, kinds=_read_kinds(space))


def _read_kinds(space: SpaceEntry) -> dict[str, dict[str, float]]:
    kinds = space.gain.get("kinds", {})
    nested = isinstance(kinds, dict) and all(isinstance(added, dict) for added in kinds.values())
    if not nested or any(_number(added, name) is None for added in kinds.values() for name in added):
        raise FormatError(f"Space {space.name!r} of the registry has kinds in its gain that are not numbers by kind.")
    return {of_target: {name: float(value) for name, value in added.items()} for of_target, added in kinds.items()}


def read_forecasts(space: SpaceEntry) -> tuple[Forecast, ...]:
    """The forecasts that a registry records for a space; errors as `Forecast.from_dict`."""
    rows = space.gain.get("forecasts", ())
    if not isinstance(rows, (list, tuple)):
        raise FormatError(f"The forecasts of space {space.name!r} are not a list.")
    return tuple(Forecast.from_dict(row, f"Space {space.name!r}") for row in rows)


def nearest(forecasts: Sequence[Forecast], examples: int | None = None) -> Forecast | None:
    """The forecast of the longest runs of the regime whose number of examples is nearest, in proportion."""
    if not forecasts:
        return None

    def distance(forecast: Forecast) -> tuple[float, int]:
        ratio = 1.0 if examples is None else max(forecast.examples, 1) / max(examples, 1)
        return max(ratio, 1 / ratio), -forecast.steps

    return min(forecasts, key=distance)


def _number(fields: Mapping[str, Any], name: str) -> float | None:
    value = fields.get(name)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
