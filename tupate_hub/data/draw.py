"""Draw: some of what comes along, when nobody knows how much will."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")


class Draw(Generic[T]):
    """At most `most` things out of a stream, each with the same chance, and always the same ones of one stream.

    Algorithm R of Vitter (1985, Random sampling with a reservoir).
    """

    def __init__(self, most: int) -> None:
        self.most, self.seen = most, 0
        self._kept: list[tuple[int, T]] = []
        self._random = random.Random("tupate-hub rows")

    def add(self, thing: T) -> None:
        """Look at the next thing."""
        self.seen += 1
        if len(self._kept) < self.most:
            self._kept.append((self.seen, thing))
            return
        place = int(self._random.random() * self.seen)
        if place < self.most:
            self._kept[place] = (self.seen, thing)

    def kept(self) -> list[T]:
        """What was drawn, in the order in which it came."""
        return [thing for _, thing in sorted(self._kept, key=lambda pair: pair[0])]

    def map(self, change: Callable[[T], U]) -> Draw[U]:
        """The same with each thing changed."""
        other: Draw[U] = Draw(self.most)
        other.seen = self.seen
        other._kept = [(number, change(thing)) for number, thing in self._kept]
        return other
