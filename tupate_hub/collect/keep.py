"""Keep: what a registry has beside its embeddings: statistics, indexes, heads, intrinsic subspaces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from tupate_hub.collect.shelf import Shelf
from tupate_hub.compare.input_covariance import InputCovariance
from tupate_hub.compare.similarity import DEFAULT, get_similarity
from tupate_hub.errors import TargetExists
from tupate_hub.head import Head
from tupate_hub.registry import FILENAME, SpaceEntry
from tupate_hub.space import Space
from tupate_hub.storage.atomic import alone
from tupate_hub.subspace.subspace import Subspace
from tupate_hub.zoo import Zoo


def keep_input_covariance(zoo: Zoo, space: str, covariance: InputCovariance) -> Zoo:
    """Keep a base model's statistics with a space of a zoo; indexes made with other ones are no longer listed."""
    with held(zoo) as zoo:
        entry, shelf = zoo.registry.space(space), Shelf(zoo.folder, zoo.registry)
        place = shelf.put(f"zoo/{entry.name}/moments.safetensors", covariance.to_bytes())
        index = {name: at for name, at in entry.index.items() if not get_similarity(name).needs_input_covariance}
        return _with_space(zoo, replace(entry, index=index, moments=place), shelf)


def keep_pair_index(zoo: Zoo, space: str, similarity: str = DEFAULT) -> Zoo:
    """Keep the kernel of a space of a zoo, so that a question about its tasks needs no embeddings."""
    with held(zoo) as zoo:
        entry, shelf = zoo.registry.space(space), Shelf(zoo.folder, zoo.registry)
        data = zoo.pair_index(space, similarity).to_bytes()
        place = shelf.put(f"zoo/{entry.name}/index-{similarity}.safetensors", data)
        return _with_space(zoo, replace(entry, index={**entry.index, similarity: place}), shelf)


def keep_head(zoo: Zoo, space: str, head: Head) -> Zoo:
    """Keep the head of a task's embedding in a space of a zoo; it takes the place of another."""
    with held(zoo) as zoo:
        entry, shelf = zoo.registry.entry(head.task, space), Shelf(zoo.folder, zoo.registry)
        place = shelf.put(f"zoo/{space}/heads/{head.task}.safetensors", head.to_bytes())
        kept = replace(entry, head={**place, "scores": head.facts.get("scores", {})})
        registry = zoo.registry.with_entry(kept, zoo.registry.tasks[kept.task], zoo.registry.space(space))
        return replace(zoo, registry=shelf.write_registry(registry))


def keep_subspace(zoo: Zoo, subspace: Subspace, *, force: bool = False) -> tuple[Zoo, str]:
    """Keep an intrinsic subspace with its space in a zoo, which gets the space where it lacks it; its file comes too.

    Raises
    ------
    TargetExists
        When the space has a subspace of that name, without `force`.
    """
    with held(zoo) as zoo:
        entry = space_entry(zoo.registry.spaces, subspace.space)
        if subspace.name in entry.subspaces and not force:
            raise TargetExists(
                f"{entry.name!r} has a subspace {subspace.name!r} already.", hint="replace it with `force=True`"
            )
        shelf = Shelf(zoo.folder, zoo.registry)
        place = shelf.put(f"zoo/{entry.name}/{subspace.name}.safetensors", subspace.to_bytes())
        place |= {"dim": subspace.dim, "tasks": len(subspace.tasks)}
        registry = zoo.registry if zoo.registry.spaces else replace(zoo.registry, default_space=entry.name)
        entry = replace(entry, subspaces={**entry.subspaces, subspace.name: place})
        return _with_space(replace(zoo, registry=registry), entry, shelf), place["file"]


@contextmanager
def held(zoo: Zoo) -> Iterator[Zoo]:
    """The zoo as it is in its folder by now, which no other process adds to meanwhile."""
    with alone(zoo.folder):
        written = (zoo.folder / FILENAME).exists()
        yield replace(zoo, registry=Zoo.open(zoo.folder).registry) if written else zoo


def _with_space(zoo: Zoo, entry: SpaceEntry, shelf: Shelf) -> Zoo:
    """The zoo with a space's new entry, written to its folder."""
    spaces = {**zoo.registry.spaces, entry.name: entry}
    return replace(zoo, registry=shelf.write_registry(replace(zoo.registry, spaces=spaces)))


def space_entry(spaces: Mapping[str, SpaceEntry], space: Space) -> SpaceEntry:
    """The space's entry; two bases whose last names agree get spaces of different names."""
    for entry in spaces.values():
        if entry.space == space:
            return entry
    name, base = space.name, space.base.replace("/", "--")
    while name in spaces:
        name, base = f"{base}/{space.method}", f"{base}-"
    return SpaceEntry(name, space.base, space.method)
