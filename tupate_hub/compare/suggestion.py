"""Suggestion: which of several updates to add up, and with which weights, from their inner products alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tupate_hub.arrays import Float64Array
from tupate_hub.compare.interference import Interference, Products, equal_shares, interference

#: From this cosine on two updates are one and the same, a copy or another checkpoint of one run.
REPEATS = 0.9
#: From this cosine down they cancel more of one another than they leave.
CONTRADICTS = -0.5
#: Where an update that survives whole acts, the others may put in at most so much beside it, by its own norm.
MOST_DISTURBED = 1.0


@dataclass(frozen=True)
class Drop:
    """An update that is left out, and because of which other one.

    `why` is `repeats` or `contradicts` (`value` is the cosine), `disturbs` (how much the other is disturbed with it, by
    the other's own norm) or `covered` (how much of it survives without it, most of that by the other).
    """

    update: int
    why: str
    other: int
    value: float


@dataclass(frozen=True)
class Suggestion:
    """Which updates to add up, in their order, the weights of all, 0 for those left out, and what that does to them.

    With a single one left there is no merge to be advised. `smaller` are groups of fewer, down to two, the largest
    first: the fewer are merged, the more of each survives a mean.
    """

    chosen: tuple[int, ...]
    weights: Float64Array
    dropped: tuple[Drop, ...]
    found: Interference
    smaller: tuple[Group, ...] = ()


@dataclass(frozen=True)
class Group:
    """Some of the updates, and the least that survives of one of them in their mean."""

    chosen: tuple[int, ...]
    survives: float


def suggest(known: Products) -> Suggestion:
    """Leave out, one by one, what repeats, contradicts, drowns or covers another; the rest gets its `equal_shares`.

    Of two that repeat or contradict one another the first stays. Of those that disturb one another beyond
    `MOST_DISTURBED`, the one goes without which the worst is least disturbed.
    """
    chosen = list(range(known.count))
    dropped: list[Drop] = []
    while len(chosen) > 1:
        weights = equal_shares(known, chosen)
        found = interference(known, weights)
        drop = _alike(found, chosen) or _disturbs(known, found, chosen) or _covered(known, found, chosen)
        if drop is None:
            break
        dropped.append(drop)
        chosen.remove(drop.update)
    weights = equal_shares(known, chosen)
    return Suggestion(
        tuple(chosen), weights, tuple(dropped), interference(known, weights), tuple(_smaller(known, chosen))
    )


def _smaller(known: Products, chosen: list[int]) -> Iterator[Group]:
    """Groups each of one less than the one before, without the one whose absence helps the worst off most."""
    left = list(chosen)
    while len(left) > 2:
        found = {update: _least(known, [one for one in left if one != update]) for update in left}
        left.remove(max(left, key=found.__getitem__))
        yield Group(tuple(left), _least(known, left))


def _least(known: Products, chosen: list[int]) -> float:
    """The least that survives of one of them in their mean."""
    weights = np.zeros(known.count)
    weights[chosen] = 1 / len(chosen)
    return float(interference(known, weights).survives[chosen].min())


def _alike(found: Interference, chosen: list[int]) -> Drop | None:
    """One that is the same as an earlier one, or its opposite."""
    for at, later in enumerate(chosen):
        for earlier in chosen[:at]:
            cosine = float(found.cosines[earlier, later])
            if cosine >= REPEATS or cosine <= CONTRADICTS:
                return Drop(later, "repeats" if cosine > 0 else "contradicts", earlier, cosine)
    return None


def _covered(known: Products, found: Interference, chosen: list[int]) -> Drop | None:
    """One that the others bring along whole, so that there is nothing to add."""
    for update in chosen:
        if found.weights[update] == 0:
            brought = found.weights * known.summed[1][update]
            return Drop(update, "covered", int(np.argmax(brought)), float(found.survives[update]))
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
    return float(interference(known, equal_shares(known, rest)).disturbed[rest].max())
