"""Recommendation: what to start from, how that came about, and what is expected of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tupate_hub.compare.ranking import Neighbor, Ranking
from tupate_hub.evaluation.trial import Promise, TrialForecast
from tupate_hub.search.by_gain import UNFIT, Prospects
from tupate_hub.training.trial import Trial

#: So many rankings in a row have to agree.
PATIENCE = 3


@dataclass(frozen=True)
class Look:
    """One ranking on the way: after so many steps and seconds, at that loss."""

    step: int
    loss: float
    seconds: float
    ranking: Ranking

    def first(self, k: int) -> tuple[str, ...]:
        """The first k tasks."""
        return tuple(neighbor.task for neighbor in self.ranking.neighbors[:k])


@dataclass(frozen=True)
class TriedSource:
    """A source by run and trial: its neighbour, ranked by both, and how far its evidence rises above the base model's.

    `promise` is what measured first picks with such a rise have brought, None where no transfer was measured.
    """

    neighbor: Neighbor
    rise: float
    promise: Promise | None


@dataclass(frozen=True)
class Recommendation:
    """What to start from: the last ranking, what it promises, and how it came about.

    `tried` are all sources by the run's similarity and the trial together, empty where there was no trial; `trial` and
    `forecast` are what they stand on. `prospects` are the first k of the last ranking by expected gain, None where no
    transfer was measured in the space. `steps` is what a whole run would have made. `stable` says whether the last
    `PATIENCE` rankings have the same task first and the same k tasks; `agreement` is the mean share of the last
    ranking's first k that the `PATIENCE` before it, as far as there are any, have among theirs; `since` the step from
    which on the same task was first. These are of rankings by similarity, and say nothing about the benefit.
    """

    looks: tuple[Look, ...]
    k: int
    steps: int
    prospects: Prospects | None = None
    tried: tuple[TriedSource, ...] = ()
    trial: Trial | None = None
    forecast: TrialForecast | None = None

    @property
    def start(self) -> Neighbor | None:
        """What to start from; None where starting from nothing is expected to do as well.

        The first that is fit by run and trial together, unless it explains the labels no better than the base model, or
        such picks have not helped. Without a trial by expected gain where that is known. Else the first of the ranking
        that is neither the task itself nor a poor run; the very first if all are.
        """
        if self.tried:
            first = next((one for one in self.tried if not UNFIT & set(one.neighbor.notes)), None)
            if first is None or first.rise <= 0 or (first.promise is not None and first.promise.points <= 0):
                return None
            return first.neighbor
        if self.prospects is not None:
            return None if self.prospects.start is None else self.prospects.start.neighbor
        return next(
            (neighbor for neighbor in self.ranking.neighbors if not UNFIT & set(neighbor.notes)),
            self.ranking.neighbors[0],
        )

    @property
    def ranking(self) -> Ranking:
        """The last ranking."""
        return self.looks[-1].ranking

    @property
    def stable(self) -> bool:
        """Whether the answer no longer changed."""
        return is_stable(self.looks, self.k)

    @property
    def agreement(self) -> float:
        """From 0 to 1; 0 where there was one ranking alone."""
        last = set(self.looks[-1].first(self.k))
        before = self.looks[-1 - PATIENCE : -1]
        shares = [len(last & set(look.first(self.k))) / len(last) for look in before]
        return sum(shares) / len(shares) if shares else 0.0

    @property
    def since(self) -> int:
        """Step of the first of the last rankings that have the same task first."""
        best = self.looks[-1].first(1)
        since = self.looks[-1].step
        for look in reversed(self.looks):
            if look.first(1) != best:
                break
            since = look.step
        return since

    @property
    def close(self) -> tuple[str, ...]:
        """Tasks after the first whose interval over blocks holds the first one's score, or more."""
        best, *others = self.ranking.neighbors[: self.k]
        return tuple(
            neighbor.task for neighbor in others if neighbor.interval is not None and neighbor.interval[1] >= best.score
        )


def is_stable(looks: Sequence[Look], k: int) -> bool:
    """Whether the last `PATIENCE` rankings put the same task first and the same tasks among the first k."""
    recent = looks[-PATIENCE:]
    answers = {(look.first(1), frozenset(look.first(k))) for look in recent}
    return len(recent) == PATIENCE and len(answers) == 1


def parts_that_agree(neighbor: Neighbor, most: int = 3) -> list[tuple[str, float]]:
    """The blocks that contribute most to a score, best first."""
    return sorted(neighbor.contributions.items(), key=lambda item: -item[1])[:most]
