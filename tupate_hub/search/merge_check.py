"""Merge check: what would several adapters do to one another in one, and that one, as a folder to load.

`collect.merge` makes one registry of two; here the updates themselves are added up.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tupate_hub.arrays import Float64Array
from tupate_hub.compare.blend import blend
from tupate_hub.compare.interference import Interference, Products, equal_shares, interference, products
from tupate_hub.compare.signs import Signs, sign_conflicts
from tupate_hub.compare.suggestion import Drop, Suggestion, suggest
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import SpaceMismatch, TupateHubError, UnknownName
from tupate_hub.export import export
from tupate_hub.export.origin import require_complete
from tupate_hub.registry import Registry
from tupate_hub.search.resolve import read_query
from tupate_hub.space import Space
from tupate_hub.tasknames import dashed

if TYPE_CHECKING:
    from tupate_hub.zoo import Zoo

#: The weights that have a name; numbers are the other way to give them.
WEIGHTS = ("mean", "whole", "suggested")
_LONGEST_NAME = 120
#: So many of the smallest groups are told.
_MOST_GROUPS = 2


@dataclass(frozen=True)
class MergeCheck:
    """Adapters of one space, what their weighted sum does to them, and which sum would be better.

    `names` tells them apart: what was written stands for tasks of one name. `signs` and `found` are those of the
    weights in `found`; `known` gives those of others and of each layer.
    """

    space: Space
    names: tuple[str, ...]
    embeddings: tuple[TaskEmbedding, ...]
    known: Products
    found: Interference
    signs: Signs
    suggestion: Suggestion

    def by_layer(self) -> dict[str, tuple[Interference, Signs]]:
        """The same of each layer alone, with the same weights."""
        weights = self.found.weights
        return {
            layer: (interference(part, weights), sign_conflicts(self.embeddings, weights, blocks=part.blocks))
            for layer, part in self.known.by_layer().items()
        }

    def merged(self, rank: int | None = None) -> TaskEmbedding:
        """The weighted sum as one embedding; its fact `blend` says what was added up, and what the rank keeps of it.

        Raises
        ------
        TupateHubError
            For a rank below 1, or above that of the whole sum.
        """
        most = _ranks(self.embeddings)
        if rank is not None and most and rank > most:
            raise TupateHubError(
                f"The sum has rank {most} at most: a rank of {rank} would add nothing.", hint=f"`rank={most}`"
            )
        weights = [float(weight) for weight in self.found.weights]
        parts = [(one, weight) for one, weight in zip(self.embeddings, weights, strict=True) if weight]
        if not parts:
            raise TupateHubError("All weights are 0: there is nothing to write.", hint="`weights='mean'`")
        name = "+".join(filter(None, (dashed(one.task) for one, _ in parts)))  # may be a stranger's text
        fits = 0 < len(name.encode()) <= _LONGEST_NAME
        found = blend([one for one, _ in parts], [weight for _, weight in parts], rank)
        return replace(found, task=name if fits else f"merge-of-{len(parts)}")


def merge_check(
    zoo: Zoo,
    asked: Sequence[str],
    *,
    space: str | None = None,
    base: str | None = None,
    weights: str | Sequence[float] = "mean",
) -> MergeCheck:
    """Check the merge of tasks of the zoo and adapters on disk or on the Hub, two or more.

    Parameters
    ----------
    space : str, optional
        Where the zoo's tasks are taken from; by default the space of the adapters that are no tasks, else the default
        one.
    base : str, optional
        The base model of adapters that name none.
    weights : str or sequence of float
        `mean`, 1 / n each; `whole`, with which every update survives whole (`interference.equal_shares`);
        `suggested`; or a number for each.

    Raises
    ------
    UnknownName
        For a task that the zoo does not have, or weights of another name.
    SpaceMismatch
        When they are of different base models or methods, or their shapes differ.
    FormatError
        When one cannot be read, is all zero, or is of a method whose updates do not add up.
    """
    if len(asked) < 2:
        raise TupateHubError("A merge is of two adapters or more.", hint="name two or more")
    embeddings = _embeddings(zoo, asked, space, base)
    names = _apart([embedding.task for embedding in embeddings], asked)
    first = embeddings[0].space
    for name, other in zip(names, embeddings, strict=True):
        if other.space != first:
            raise SpaceMismatch(
                f"{names[0]} is {first}, {name} is {other.space}: their updates do not add up.",
                hint="merge adapters of one base model and one method",
            )
    blend(embeddings[:1], rank=1)  # refuses a method that has no sums, before anything is measured
    known = products([replace(one, task=name) for one, name in zip(embeddings, names, strict=True)])
    suggestion = suggest(known)
    chosen = _weights(weights, known, suggestion)
    return MergeCheck(
        first,
        names,
        tuple(embeddings),
        known,
        interference(known, chosen),
        sign_conflicts(embeddings, chosen),
        suggestion,
    )


def merged_files(
    check: MergeCheck, merged: TaskEmbedding, form: str = "peft", *, bare: bool = False
) -> dict[str, bytes]:
    """The files of a folder with the weighted sum `check.merged()`, for the library that `form` names, see `export`.

    Raises
    ------
    FormatError
        When the form has no place for the method, or a part of one of the adapters was left out when it was read.
    """
    for embedding in check.embeddings:
        require_complete(embedding, form)
    return export(merged, form, bare=bare)


def sentences(check: MergeCheck) -> list[str]:
    """What the figures say, in words, and the suggestion with its reasons."""
    found, names, signs = check.found, check.names, check.signs
    survives = [float(value) for value in found.survives]
    low, high = min(range(len(names)), key=survives.__getitem__), max(range(len(names)), key=survives.__getitem__)
    looked = "every entry" if signs.looked_at == 1 else f"rows drawn with {signs.looked_at:.1%} of the entries"
    told = [
        f"With these weights {survives[low]:.0%} ({names[low]}) to {survives[high]:.0%} ({names[high]}) of an update "
        f"survives; {signs.cancelled:.0%} of the magnitudes cancel ({looked})."
    ]
    worst = max(range(len(names)), key=lambda at: float(found.disturbed[at]))
    told.append(
        f"{names[worst]} is disturbed most: where it acts, the others put in {found.disturbed[worst]:.0%} of its norm."
    )
    return [*told, *_advice(check)]


def _advice(check: MergeCheck) -> list[str]:
    advice, names = check.suggestion, check.names
    told = [f"Left out of the suggestion: {_reason(drop, names)}." for drop in advice.dropped]
    if len(advice.chosen) < 2:
        return [*told, f"Suggested: do not merge these; {names[advice.chosen[0]]} alone is left."]
    weights = ", ".join(f"{names[at]} {advice.weights[at]:.2f}" for at in advice.chosen)
    fewer = [
        f"The {len(group.chosen)} that keep most of one another: {', '.join(names[at] for at in group.chosen)}; "
        f"{group.survives:.0%} or more of each survives their mean."
        for group in advice.smaller[-_MOST_GROUPS:]
    ]
    return [
        *told,
        *fewer,
        f"Suggested weights: {weights}. Each of these updates then survives whole; what is added to it has at most "
        f"{advice.found.distance[list(advice.chosen)].max():.2f} times its norm.",
    ]


def _reason(drop: Drop, names: Sequence[str]) -> str:
    one, other = names[drop.update], names[drop.other]
    if drop.why == "repeats":
        return f"{one}, which repeats {other} (cosine {drop.value:.3f})"
    if drop.why == "contradicts":
        return f"{one}, which contradicts {other} (cosine {drop.value:.3f})"
    if drop.why == "covered":
        return f"{one}, of which {drop.value:.0%} is in the sum without it, most of that by {other}"
    return f"{one}, which puts in {drop.value:.1f} times the norm of {other} where that acts"


def _embeddings(zoo: Zoo, asked: Sequence[str], space: str | None, base: str | None) -> list[TaskEmbedding]:
    """What is asked for: first what is read from elsewhere, which says in which space the tasks are looked for."""
    tasks = {at: task for at, written in enumerate(asked) if (task := _task(zoo.registry, written)) is not None}
    found = {at: read_query(written, base, check=False) for at, written in enumerate(asked) if at not in tasks}
    if tasks and space is None and found:
        beside = next(iter(found.values())).space
        space = next((entry.name for entry in zoo.registry.spaces.values() if entry.space == beside), None)
    for at, task in tasks.items():
        found[at] = zoo.embedding(task, space)
        space = space or zoo.registry.find(task, space).space  # those that follow are to be of the first one's
    return [found[at] for at in range(len(asked))]


def _task(registry: Registry, written: str) -> str | None:
    """The zoo's task of that name, None for a path or a repository."""
    try:
        return registry.task(written).name
    except UnknownName:
        if not any(mark in written for mark in "/\\.") and not os.path.exists(written):  # noqa: PTH110 - as in resolve
            raise
        return None


def _apart(tasks: Sequence[str], asked: Sequence[str]) -> tuple[str, ...]:
    """Names that no two share: many strangers' folders are called `adapter`."""
    seen: Counter[str] = Counter()
    apart = []
    for task, written in zip(tasks, asked, strict=True):
        name = written if tasks.count(task) > 1 else task
        seen[name] += 1
        apart.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(apart)


def _weights(written: str | Sequence[float], known: Products, suggestion: Suggestion) -> Float64Array:
    if not isinstance(written, str):
        return np.asarray(written, dtype=np.float64)
    if written not in WEIGHTS:
        raise UnknownName(
            f"Unknown weights {written!r}.", hint=f"known: {', '.join(WEIGHTS)}, or numbers with commas between them"
        )
    if written == "suggested":
        if len(suggestion.chosen) < 2:
            raise TupateHubError("These are better not merged: no two of them are left.", hint="`weights='mean'`")
        return suggestion.weights
    return equal_shares(known) if written == "whole" else np.full(known.count, 1 / known.count)


def _ranks(embeddings: Sequence[TaskEmbedding]) -> int:
    """The largest rank that a block of the sum can have, 0 without LoRA blocks."""
    totals: Counter[str] = Counter()
    most: dict[str, int] = {}
    for embedding in embeddings:
        for block in embedding.blocks:
            if block.form == "lowrank":
                totals[block.name] += len(block.parts["A"])
                most[block.name] = min(block.parts["A"].shape[1], block.parts["B"].shape[0])
    return max((min(total, most[name]) for name, total in totals.items()), default=0)


def error_of(kept: float) -> float:
    """The relative error of a truncated sum, by norm, from the share of its squared norm that is kept."""
    return math.sqrt(max(0.0, 1 - kept))
