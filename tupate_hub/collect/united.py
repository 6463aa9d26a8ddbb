"""United: what two registries say of one task, one embedding or one space, made one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tupate_hub.entry import KEPT, Entry
from tupate_hub.registry import SpaceEntry
from tupate_hub.task import Task


def is_same(one: Entry, other: Entry) -> bool:
    """Whether two entries are of one content, as far as is known: one without weights is told by where it was read."""
    if one.sha256 == other.sha256 or not (one.sha256 and other.sha256):
        return True
    read = one.source.get("sha256")
    return not (one.has_file and other.has_file) and read is not None and read == other.source.get("sha256")


def united_task(first: Task, second: Task) -> Task:
    """One task of two: the first side's facts, the second's where the first has none, the aliases of both."""
    described = second if first.title == first.name else first  # `add` gives a task its name for a title
    return Task(
        name=first.name,
        title=described.title,
        aliases=tuple(dict.fromkeys((*first.aliases, *second.aliases))),
        kind=first.kind or second.kind,
        task_class=first.task_class or second.task_class,
        train_size=second.train_size if first.train_size is None else first.train_size,
        metric=first.metric or second.metric,
        dataset=first.dataset or second.dataset,
        licence=first.licence or second.licence,
    )


def united_entry(first: Entry, second: Entry) -> Entry:
    """The first side's run of a task, its head, and the repeats of both sides, each content once.

    Where the second side keeps more of the same, its weights or a sketch, that stands. What has no weights of its own
    has no repeats.
    """
    if is_same(first, second) and KEPT.index(second.kept) < KEPT.index(first.kept):
        return second
    if not first.has_file:
        return first
    repeats = {repeat.sha256: repeat for repeat in (*second.repeats, *first.repeats) if repeat.sha256 != first.sha256}
    ordered = sorted(repeats.values(), key=lambda repeat: (repeat.seed, repeat.init_seed, repeat.sha256))
    head = first.head or (second.head if second.sha256 == first.sha256 else {})
    return replace(first, repeats=tuple(ordered), head=head)


def united_space(first: SpaceEntry, second: SpaceEntry, covers: tuple[bool, bool]) -> SpaceEntry:
    """One space of two, without files of nearest embeddings. A side's packed indexes stay where it `covers` both."""
    moments = first.moments or second.moments
    index: dict[str, Mapping[str, Any]] = {}
    for side, whole in zip((second, first), reversed(covers), strict=True):
        if whole and side.moments.get("sha256") == moments.get("sha256"):
            index.update(side.index)
    return replace(
        first,
        base_sha256=first.base_sha256 or second.base_sha256,
        settings=first.settings or second.settings,
        index=index,
        moments=moments,
        subspaces={**second.subspaces, **first.subspaces},
        nearest={},
    )
