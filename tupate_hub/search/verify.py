"""Verify: whether everything that a registry names is there, is what it should be, and follows from its embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from tupate_hub.compare.pair_index import PairIndex
from tupate_hub.compare.similarity import DEFAULT
from tupate_hub.errors import RegistryError
from tupate_hub.hub.outages import Outages
from tupate_hub.registry import Entry, SpaceEntry
from tupate_hub.search.verify_nearest import PassingSketches, nearest_problems

if TYPE_CHECKING:
    from tupate_hub.zoo import Zoo


def verify(zoo: Zoo, each: Callable[[Iterator[Entry]], Iterator[Entry]]) -> list[str]:
    """A sentence for each that is wrong, and errors, as `Zoo.verify`."""
    problems: list[str] = []
    outages = Outages()
    sketches = PassingSketches(zoo)
    for entry in each(iter(zoo.registry.entries)):
        problems += _misnamed(zoo, entry)
        for at, run in enumerate(entry.runs()):
            with outages.beside(problems):
                embedding = zoo.load(run)
                zoo.head(run)
                if not at:
                    sketches.note(entry, embedding)
    with outages.beside(problems):
        problems += sketches.finish()
    outages.require_none(problems)
    whole = not problems
    for space in zoo.registry.spaces.values():
        computed: dict[str, PairIndex] = {}
        for similarity in space.nearest:
            with outages.beside(problems):
                problems += nearest_problems(zoo, space, similarity)
        if whole and not space.nearest and zoo.kept(space.name):
            with outages.beside(problems):
                computed[DEFAULT] = zoo.computed_index(space.name, DEFAULT)
                problems += _without_company(zoo, space, computed[DEFAULT])
        for similarity in space.index:
            with outages.beside(problems):
                problems += _index(zoo, space, similarity, whole, computed.get(similarity))
        for name in space.subspaces:
            with outages.beside(problems):
                zoo.subspace(space.name, name)
        with outages.beside(problems):
            zoo.input_covariance(space.name)
    outages.require_none(problems)
    return problems


def _misnamed(zoo: Zoo, entry: Entry) -> list[str]:
    """What is wrong with the name and the aliases of an entry's task, of which another task could have one."""
    try:
        task = zoo.registry.tasks[entry.task]
        meant = {name: zoo.registry.called(name) for name in (task.name, *task.aliases)}
    except RegistryError as error:
        return [error.message]
    return [
        f"{name!r} is a name of task {task.name!r} and means {of!r}." for name, of in meant.items() if of != task.name
    ]


def _without_company(zoo: Zoo, space: SpaceEntry, index: PairIndex) -> list[str]:
    left_out = zoo.left_out(space.name, index)
    return [f"{task} in {space.name} compares with no other: {why}." for task, why in left_out.items()]


def _index(zoo: Zoo, space: SpaceEntry, similarity: str, whole: bool, computed: PairIndex | None) -> list[str]:
    """What is wrong with an index; it is `computed` again where all embeddings are `whole`, if it is not yet."""
    file = space.index[similarity]["file"]
    stored = zoo.stored_index(space.name, similarity)
    if stored is None:
        return [f"{file} was made from other embeddings than the registry lists."]
    if not whole:
        return []
    said = stored.difference(computed if computed is not None else zoo.computed_index(space.name, similarity))
    return [f"{file} {said}."] if said else []
