"""Notes: what a reader of a ranking should know of a neighbour before trusting its score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tupate_hub.compare.magnitude import DIVERGED, Magnitude
from tupate_hub.compare.noise import NoiseLevel
from tupate_hub.registry import Entry
from tupate_hub.search.comparison import Comparison
from tupate_hub.search.resolve import Query

if TYPE_CHECKING:
    from tupate_hub.zoo import Zoo

#: Two seeds of one task from one start reach .68 to .75 (docs/evaluation.md), checkpoints of one run .95 and more.
#: `tupate` has no such line: a start that all runs share lies in every score.
NEAR_DUPLICATE: Mapping[str, float] = {"update": 0.9, "effect": 0.9}
#: A smaller share of a side's squared norm in blocks that both have is noted.
FEW_SHARED = 0.5


def notes_on(
    zoo: Zoo,
    query: Query,
    entry: Entry,
    row: int,
    comparison: Comparison,
    noise: NoiseLevel | None,
    similarity: str,
    tie: bool,
) -> tuple[str, ...]:
    """The notes on the entry of a row of a comparison, in a fixed order; `Neighbor` lists them."""
    score, changes, coverage = comparison.scores[row], comparison.changes, comparison.coverage
    return told(
        float(score) if comparison.cosines else None,
        similarity,
        noise,
        same_data=same_data(zoo, query, entry),
        diverged=changes is not None and not changes[row] <= DIVERGED,
        weak="weak" in entry.flags,
        shared=None if coverage is None else (float(coverage[0][row]), float(coverage[1][row])),
        tie=tie,
    )


def told(
    score: float | None,
    similarity: str,
    noise: NoiseLevel | None,
    *,
    same_data: bool,
    diverged: bool,
    weak: bool,
    shared: tuple[float, float] | None,
    tie: bool,
) -> tuple[str, ...]:
    """The notes that follow from what is known of a neighbour; `score` is None where it is no cosine."""
    holds = {
        "same data": same_data,
        "near-duplicate": score is not None and score >= NEAR_DUPLICATE.get(similarity, np.inf),
        "diverged": diverged,
        "weak": weak,
        "few shared blocks": shared is not None and min(shared) < FEW_SHARED,
        "within noise": noise is not None and score is not None and noise.covers(score),
        "tie": tie,
    }
    return tuple(note for note, true in holds.items() if true)


def notes_on_query(query: Query, comparison: Comparison) -> tuple[str, ...]:
    """What a reader should know of the query itself: `diverged`."""
    change = None
    if query.embedding is not None:
        change = Magnitude.of(query.embedding.blocks, spectrum=False).output_change
    elif comparison.changes is not None and query.name in comparison.tasks:
        change = comparison.changes[comparison.tasks.index(query.name)]
    return ("diverged",) if change is not None and not change <= DIVERGED else ()


def same_data(zoo: Zoo, query: Query, entry: Entry) -> bool:
    """Whether the entry was tuned on the query's data, or is the very file: by digests, or by dataset id on the Hub."""
    source: Mapping[str, object] = {}
    dataset = ""
    if query.held:
        source = zoo.registry.entry(query.name, query.space.name).source
        dataset = zoo.registry.tasks[query.name].dataset
    else:
        source = outside_source(query)
    digests = ("sha256", "data_sha256")
    return bool(
        any(source.get(name) and source.get(name) == entry.source.get(name) for name in digests)
        or (dataset and dataset == zoo.registry.tasks[entry.task].dataset)
    )


def outside_source(query: Query) -> Mapping[str, object]:
    """The digests of the file and of the data that an embedding from elsewhere was made of."""
    if query.embedding is None:
        return {}
    facts = query.embedding.facts
    return {"sha256": _digest(facts, "source"), "data_sha256": _digest(facts, "data")}


def same_run(query: Query, entry: Entry) -> bool:
    """Whether an entry was made of the very file that is asked about, or is the very run of this project."""
    if query.embedding is None:
        return False
    groups = [query.embedding.facts.get(name) for name in ("source", "training")]
    said = {name: value for group in groups if isinstance(group, dict) for name, value in group.items()}
    if said.get("sha256"):
        return bool(said["sha256"] == entry.source.get("sha256"))
    if query.embedding.task != entry.task or not {"seconds", "seed"} <= said.keys() & entry.source.keys():
        return False
    return all(entry.source[name] == said[name] for name in said.keys() & entry.source.keys())


def _digest(facts: Mapping[str, Any], name: str) -> object:
    part = facts.get(name)
    return part.get("sha256") if isinstance(part, dict) else None
