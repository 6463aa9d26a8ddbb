"""Suggestion: which of several updates to add up, and with which weights, from their inner products alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tupate_hub.arrays import Float64Array
from tupate_hub.compare.interference import Interference, Products, equal_shares, interference

#: From this cosine on two updates are one and the same, a copy or another checkpoint of one run.
REPEATS = 0.9
#: Where an update acts, the others may put in at most so much beside it, by its own norm there.
MOST_DISTURBED = 1.0


@dataclass(frozen=True)
class Drop:
    """An update that is left out, and because of which other one.

    `why` is `repeats` (`value` is the cosine), `contradicts` (the cosine), or `disturbs` (how much the other is
    disturbed with it, by the norm of the other's own share).
    """

    update: int
    why: str
    other: int
    value: float


@dataclass(frozen=True)
class Suggestion:
    """Which updates to add up, in their order, the weights of all, 0 for those left out, and what that does to them.

    With a single one left there is no merge to be advised.
    """

    chosen: tuple[int, ...]
    weights: Float64Array
    dropped: tuple[Drop, ...]
    found: Interference


def suggest(known: Products) -> Suggestion:
    """Leave out, one by one, what repeats, contradicts or drowns another; the rest gets weights by `equal_shares`.

    Of two that repeat one another the first stays. Of those that disturb one another beyond `MOST_DISTURBED`, the one
    goes without which the worst is least disturbed.
    """
    chosen = list(range(known.count))
    dropped: list[Drop] = []
    while len(chosen) > 1:
        weights = equal_shares(known, chosen)
        found = interference(known, weights)
        drop = _repeats(found, chosen) or _contradicts(found, chosen) or _disturbs(known, found, chosen)
        if drop is None:
            break
        dropped.append(drop)
        chosen.remove(drop.update)
    weights = equal_shares(known, chosen)
    return Suggestion(tuple(chosen), weights, tuple(dropped), interference(known, weights))


def _repeats(found: Interference, chosen: list[int]) -> Drop | None:
    for at, later in enumerate(chosen):
        for earlier in chosen[:at]:
            if (cosine := found.cosines[earlier, later]) >= REPEATS:
                return Drop(later, "repeats", earlier, float(cosine))
    return None


def _contradicts(found: Interference, chosen: list[int]) -> Drop | None:
    """One that would have to be taken away, and not added, for every update to survive whole."""
    for update in chosen:
        if found.weights[update] == 0:
            others = [one for one in chosen if one != update]
            other = min(others, key=lambda one: found.cosines[update, one])
            return Drop(update, "contradicts", other, float(found.cosines[update, other]))
    return None


def _disturbs(known: Products, found: Interference, chosen: list[int]) -> Drop | None:
    worst = max(chosen, key=lambda one: found.disturbed[one])
    if found.disturbed[worst] <= MOST_DISTURBED:
        return None
    left = {update: _worst_without(known, chosen, update) for update in chosen}
    # of two either is enough: the one that disturbs goes, not the one that suffers
    update = min(chosen, key=lambda one: (round(left[one], 9), one == worst))
    return Drop(update, "disturbs", worst, float(found.disturbed[worst]))


def _worst_without(known: Products, chosen: list[int], update: int) -> float:
    rest = [one for one in chosen if one != update]
    disturbed = interference(known, equal_shares(known, rest)).disturbed[rest]
    return float(np.max(disturbed, initial=0.0, where=np.isfinite(disturbed)))
