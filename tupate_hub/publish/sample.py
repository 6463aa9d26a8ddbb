"""Sample: what cards, pictures and pages show of a registry: all of a small space, of a large one its best and some."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tupate_hub.compare.bits import cosines
from tupate_hub.compare.pair_index import PairIndex
from tupate_hub.compare.similarity import DEFAULT
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
        return sketched_index(self.whole, space, [entry.task for entry in self.registry.in_space(space)])


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
            totals[space] = _total(entries)
            entries = _chosen(entries)
        shown += entries
    tasks = {entry.task: registry.tasks[entry.task] for entry in shown}
    shown.sort(key=lambda entry: (entry.space, entry.task))
    some = Registry(dict(sorted(tasks.items())), registry.spaces, tuple(shown), registry.default_space)
    return Sample(replace(zoo, registry=some), zoo, totals)


def _total(entries: Sequence[Entry]) -> Total:
    size, licences = 0, set()
    for entry in entries:
        size += entry.bytes
        licences.add(hub_licence(entry))
    return Total(len(entries), size, frozenset(licences))


def _chosen(entries: Sequence[Entry]) -> list[Entry]:
    """The entries of a large space that are shown; those of which facts alone are known have no place among them."""
    scored = ((number(entry.scores.get("primary")), entry) for entry in entries if entry.sha256)
    ranked = ((score, entry.task, entry) for score, entry in scored if score is not None)
    best = [entry for _, _, entry in heapq.nsmallest(MOST_BEST, ranked, key=lambda one: (-one[0], one[1]))]
    step = -(-len(entries) // (MOST_SHOWN - len(best)))
    chosen = {entry.task: entry for entry in (*best, *entries[::step]) if entry.sha256}
    return list(chosen.values())


def sketched_index(zoo: Zoo, space: str, tasks: Sequence[str]) -> PairIndex:
    """How some tasks of a large space compare by `update`, as their sketches estimate it.

    Raises
    ------
    FormatError, NotAvailableOffline
        When a file of the space is damaged, or cannot be had.
    """
    entry = zoo.registry.space(space)
    nearest = open_nearest(zoo, entry, DEFAULT)
    found = {task: None if nearest is None else nearest.tasks.find(task) for task in tasks}
    rows = np.array([row for row in found.values() if row is not None], dtype=np.intp)
    known = tuple(task for task, row in found.items() if row is not None)
    if nearest is None or not known:
        return PairIndex(space, DEFAULT, (), (), np.zeros(0), np.zeros(0, dtype=np.float32))
    bits = whole_bits(open_parts(zoo, entry, DEFAULT), nearest.places_of(rows))
    pairs = [cosines(bits[at], bits[at + 1 :]) for at in range(len(bits) - 1)]
    digests = tuple(nearest.row(int(row)).sha256 for row in rows)
    norms = nearest.norms[rows].astype(np.float64)
    scores = np.concatenate(pairs).astype(np.float32) if pairs else np.zeros(0, dtype=np.float32)
    return PairIndex(space, DEFAULT, known, digests, norms, scores)
