"""Sample: what cards, pictures and pages show of a registry: all of a small space, of a large one its best and some."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tupate_hub.arrays import IndexArray
from tupate_hub.compare.bits import Bits, cosines
from tupate_hub.compare.nearest import Nearest
from tupate_hub.compare.pair_index import PairIndex
from tupate_hub.compare.similarity import DEFAULT
from tupate_hub.errors import FormatError
from tupate_hub.publish.browse import number
from tupate_hub.publish.frontmatter import hub_licence
from tupate_hub.publish.total import Total
from tupate_hub.registry import Entry, Registry
from tupate_hub.search.nearest_files import open_nearest, open_parts, whole_bits

if TYPE_CHECKING:
    from tupate_hub.zoo import Zoo

#: So many embeddings are shown of a space that has files of nearest embeddings, and the best-scored of them.
MOST_SHOWN = 1000
MOST_BEST = 100


@dataclass(frozen=True)
class Sample:
    """A zoo whose large spaces have nothing but what is shown of them, in `zoo`, beside `whole`, as it is.

    `totals` are of the large spaces.
    """

    zoo: Zoo
    whole: Zoo
    totals: Mapping[str, Total]

    @property
    def registry(self) -> Registry:
        """What is shown."""
        return self.zoo.registry

    def index(self, space: str, similarity: str) -> PairIndex:
        """How what is shown of a space compares: of a large one as sketches estimate it. Errors as `Zoo.pair_index`."""
        if space not in self.totals:
            return self.zoo.pair_index(space, similarity)
        return sketched_index(self.whole, space, self._shown(space))

    def bits(self, space: str) -> Bits | None:
        """The sketches of what is shown of a large space, in the order of its index; None of a small one."""
        return _sketched(self.whole, space, self._shown(space))[2] if space in self.totals else None

    def left_out(self, index: PairIndex) -> dict[str, str]:
        """What a small space has beside an index, for it does not compare, each with the reason."""
        return {} if index.space in self.totals else self.zoo.left_out(index.space, index)

    def spaces(self) -> list[str]:
        """The spaces of which there is something to show: more than facts."""
        return [name for name in self.registry.spaces if name in self.totals or self.zoo.kept(name)]

    def total(self, space: str) -> int:
        """How many embeddings a space has."""
        return self.totals[space].embeddings if space in self.totals else len(self.registry.in_space(space))

    def _shown(self, space: str) -> list[str]:
        return [entry.task for entry in self.registry.in_space(space)]


def sample_of(zoo: Zoo) -> Sample:
    """What is shown of a zoo: the best-scored embeddings of a large space, and others evenly over its names."""
    registry = zoo.registry
    large = [space.name for space in registry.spaces.values() if space.nearest]
    if not large:
        return Sample(zoo, zoo, {})
    totals: dict[str, Total] = {}
    shown: list[Entry] = []
    for space in registry.spaces:
        entries = registry.in_space(space)
        if space in large:
            entries, totals[space] = _looked_through(entries)
        shown += entries
    tasks = {entry.task: registry.tasks[entry.task] for entry in shown}
    shown.sort(key=lambda entry: (entry.space, entry.task))
    some = Registry(dict(sorted(tasks.items())), registry.spaces, tuple(shown), registry.default_space)
    return Sample(replace(zoo, registry=some), zoo, totals)


def _looked_through(entries: Sequence[Entry]) -> tuple[list[Entry], Total]:
    """The entries of a large space that are shown, and what all of them are, in one pass.

    Those of which facts alone are known have no place among what is shown.
    """
    step = -(-len(entries) // (MOST_SHOWN - MOST_BEST))
    best: list[tuple[float, str, Entry]] = []
    chosen: dict[str, Entry] = {}
    size, licences = 0, set()
    for at, entry in enumerate(entries):
        size += entry.bytes
        licences.add(hub_licence(entry))
        if not entry.sha256:
            continue
        if at % step == 0:
            chosen[entry.task] = entry
        if (score := number(entry.scores.get("primary"))) is not None:
            best.append((-score, entry.task, entry))
            if len(best) > 10 * MOST_BEST:
                best = heapq.nsmallest(MOST_BEST, best)
    chosen |= {task: entry for _, task, entry in heapq.nsmallest(MOST_BEST, best)}
    return list(chosen.values()), Total(len(entries), size, frozenset(licences))


def sketched_index(zoo: Zoo, space: str, tasks: Sequence[str]) -> PairIndex:
    """How some tasks of a large space compare by `update`, as their sketches estimate it.

    Raises
    ------
    FormatError, NotAvailableOffline
        When a file of the space is damaged, or cannot be had.
    """
    held, rows, bits = _sketched(zoo, space, tasks)
    pairs = [cosines(bits[at], bits[at + 1 :]) for at in range(len(bits) - 1)]
    scores = np.concatenate(pairs).astype(np.float32) if pairs else np.zeros(0, dtype=np.float32)
    known = tuple(held.tasks[int(row)] for row in rows)
    digests = tuple(held.row(int(row)).sha256 for row in rows)
    return PairIndex(space, DEFAULT, known, digests, held.norms[rows].astype(np.float64), scores)


def _sketched(zoo: Zoo, space: str, tasks: Sequence[str]) -> tuple[Nearest, IndexArray, Bits]:
    """The nearest embeddings of a large space, the rows of some tasks there, and the bits of their sketches."""
    entry = zoo.registry.space(space)
    held = open_nearest(zoo, entry, DEFAULT)
    if held is None:
        raise FormatError(f"Space {space!r} lists no nearest embeddings.", hint="tupate-hub verify")
    found = [row for task in tasks if (row := held.tasks.find(task)) is not None]
    rows = np.array(found, dtype=np.intp)
    return held, rows, whole_bits(open_parts(zoo, entry, DEFAULT), held.places_of(rows))
