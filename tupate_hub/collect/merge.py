"""Merge: two registries made one. What both have with different content is decided by the user or refused.

The smaller side's rows are put into the larger one: of registries in shards only those are read by which they differ,
but for the paths of files, and a few at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tupate_hub.collect.nearest import renewed
from tupate_hub.collect.origins import Origin, Placing, Side
from tupate_hub.collect.shelf import Shelf
from tupate_hub.collect.united import is_same, united_entry, united_space, united_task
from tupate_hub.errors import RegistryError, TargetExists
from tupate_hub.registry import FILENAME, Entry, Registry, SpaceEntry, Task, placed
from tupate_hub.storage.atomic import told_in_one_sentence
from tupate_hub.zoo import Zoo

#: So many files are fetched from the Hub before the first of them is written.
_AHEAD = 64


@dataclass(frozen=True)
class Merged:
    """A registry made of two.

    `files` maps every file that it names to where its bytes are, but for shards that are not written yet; `conflicts`
    names what both sides had with other content and `prefer` decided. `counts` says how many embeddings are from `ours`
    alone, from `theirs` alone, and in `both`. `behind` are large spaces whose files of nearest embeddings are still
    those of the side that is named, and have to be brought up to date (`nearest.renewed`).
    """

    registry: Registry
    files: Mapping[str, Origin]
    conflicts: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    behind: Mapping[str, Side] = field(default_factory=dict)


def merge(ours: Registry, theirs: Registry, prefer: Side | None = None) -> Merged:
    """Merge two registries; reads no file.

    Aliases of a task and repeats of its run are united, and facts that one side lacks are taken from the other; where
    both state a fact, the preferred side's stands, else ours. Spaces are the same if base model and method are,
    whatever their names. The packed index of a space is kept where it covers the merged space, and left out otherwise;
    the files of its nearest embeddings stay to be brought up to date.

    Parameters
    ----------
    ours, theirs : Registry
        The two sides.
    prefer : {"ours", "theirs"}, optional
        Whose embedding is taken where both have a task in a space with different content.

    Raises
    ------
    RegistryError
        When both have a task in a space with different content and `prefer` is not given, or one name means two tasks.
    """
    if theirs == ours or not (theirs.entries or theirs.tasks or theirs.spaces):
        return _alone(ours, len(theirs.entries))
    two = _Two(ours, theirs, prefer or "ours")
    conflicts = (*two.conflicts(), *_space_conflicts(two.ours, two.theirs))
    if conflicts and prefer is None:
        more = f" and {len(conflicts) - 5} more" if len(conflicts) > 5 else ""
        raise RegistryError(
            f"Both registries have, with different content: {', '.join(conflicts[:5])}{more}.",
            hint="say whose to take: `prefer='ours'`, or `prefer='theirs'`",
        )
    registry, files = two.registry()
    return Merged(registry, files, conflicts, two.counts(), two.behind)


def _alone(ours: Registry, both: int) -> Merged:
    """Merged with nothing, or with the same: a registry in shards is not read for that."""
    files = {file: Origin("ours", file, size, sha256) for file, size, sha256 in ours.files()}
    return Merged(ours, files, (), {"ours": len(ours.entries) - both, "theirs": 0, "both": both})


def merge_zoos(
    ours: Zoo,
    theirs: Zoo,
    target: Path,
    prefer: Side | None = None,
    each: Callable[[list[str]], Iterable[str]] = iter,
) -> Merged:
    """Merge two zoos into a folder that has no registry: files first, each checked and whole, `registry.json` last.

    Interrupted, it leaves files that nothing names, and a second run goes on from there. Packed indexes that no longer
    cover their space are made anew. `each` may wrap the names of the files, for a progress bar.

    Raises
    ------
    TargetExists
        When `target` holds a registry, or another file where one has to go.
    FormatError
        When a file of either zoo is damaged.
    RegistryError
        As `merge`.
    """  # fmt: skip
    for zoo in (ours, theirs):
        prefetch_rows(zoo)
    merged = merge(ours.registry, theirs.registry, prefer)
    return replace(merged, registry=write_merged(merged, ours, theirs, target, each))


def write_merged(
    merged: Merged, ours: Zoo, theirs: Zoo, target: Path, each: Callable[[list[str]], Iterable[str]] = iter
) -> Registry:
    """Write what `merge` made of two zoos' registries into a folder; arguments and errors as `merge_zoos`.

    Returns
    -------
    The registry as it was written, with packed indexes of the merged spaces.
    """
    with told_in_one_sentence(target):
        if (target / FILENAME).exists():
            raise TargetExists(f"{target} holds a registry already.", hint="give a new folder: `target=DIR`")
    sides: dict[Side, Zoo] = {"ours": ours, "theirs": theirs}
    shelf = Shelf(target, Registry())

    def keep(name: str) -> None:
        origin = merged.files[name]
        shelf.keep(name, sides[origin.side].read_file(origin.file, origin.bytes, origin.sha256))

    nearest = {place["file"] for name in merged.behind for place in merged.registry.spaces[name].nearest_places()}
    names = [name for name in merged.files if name not in nearest]
    for number, name in enumerate(each(names)):
        if number % _AHEAD == 0:
            _prefetch(sides, [merged.files[one] for one in names[number : number + _AHEAD]])
        keep(name)
    registry = _reindexed(Zoo(target, merged.registry), ours.registry, theirs.registry, shelf)
    registry = renewed(shelf, registry, Zoo(target, registry), sides, merged.behind)
    for place in (place for name in merged.behind for place in registry.spaces[name].nearest_places()):
        if place["file"] in nearest and place["sha256"] == merged.files[place["file"]].sha256:
            keep(place["file"])
    return shelf.write_registry(registry)


def prefetch_rows(zoo: Zoo) -> None:
    """Fetch all shards of a large registry on the Hub, several at once, before its rows are gone through."""
    if zoo.remote is not None and (shelves := zoo.registry.shelves) is not None:
        zoo.remote.prefetch(shelves.files())


def _prefetch(sides: Mapping[Side, Zoo], origins: Sequence[Origin]) -> None:
    """Fetch what lies on the Hub of some files, several at once."""
    for side, zoo in sides.items():
        if zoo.remote is not None:
            zoo.remote.prefetch((one.file, one.bytes, one.sha256) for one in origins if one.side == side)


# --- the rows of both ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pair:
    """A row of the smaller side, the larger side's of its name, and what is made of them."""

    row: Entry
    held: Entry | None
    united: Entry

    @property
    def changes(self) -> bool:
        """Whether the larger side has to have it otherwise."""
        return self.united != self.held


class _Two:
    """Two registries in which a space has one name, and the rows by which they differ."""

    def __init__(self, ours: Registry, their_own: Registry, prefer: Side) -> None:
        theirs = _with_our_names(ours, their_own)
        self.ours, self.theirs = ours, theirs
        self.large: Side = "ours" if len(ours.entries) >= len(theirs.entries) else "theirs"
        self.base, self.other = (ours, theirs) if self.large == "ours" else (theirs, ours)
        if theirs.entries == ours.entries and theirs.tasks == ours.tasks:  # which may be read from nearer by
            self.other = replace(theirs, tasks=ours.tasks, entries=ours.entries)
        self._base_is_first = prefer == self.large
        self._renamed = self.large == "theirs" and theirs is not their_own
        self.behind: dict[str, Side] = {}

    @cached_property
    def pairs(self) -> list[_Pair]:
        """The rows of the smaller side that the larger one has not, or has otherwise."""
        held = ((row, self.base.get(row.task, row.space)) for row in self._unlike())
        return [_Pair(row, mine, self._united(united_entry, mine, row)) for row, mine in held]

    def _unlike(self) -> Iterator[Entry]:
        base, other = self.base.shelves, self.other.shelves
        if base is not None and other is not None:
            return other.entries.unlike(base.entries)
        return (row for row in self.other.entries if self.base.get(row.task, row.space) != row)

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """The smaller side's tasks that the larger one has not, or has otherwise, made one with it."""
        base, other = self.base.shelves, self.other.shelves
        if base is not None and other is not None:
            names = other.names.unlike(base.names)
            unlike = [name.task for name in names if isinstance(name.task, Task)]
        else:
            unlike = [task for task in self.other.tasks.values() if self.base.tasks.get(task.name) != task]
        return {task.name: self._united(united_task, self.base.tasks.get(task.name), task) for task in unlike}

    def _united(self, united: Callable[[Any, Any], Any], mine: Any, row: Any) -> Any:
        """Two made one, or the one that there is."""
        if mine is None:
            return row
        return united(mine, row) if self._base_is_first else united(row, mine)

    def conflicts(self) -> Iterator[str]:
        """The embeddings that both have with other content; of which one side has facts alone, it has none."""
        for pair in self.pairs:
            if pair.held is not None and not is_same(pair.row, pair.held):
                yield f"{pair.row.task} in {pair.row.space}"

    def counts(self) -> dict[str, int]:
        """How many embeddings one side has alone, and how many both have."""
        new = sum(pair.held is None for pair in self.pairs)
        both = len(self.other.entries) - new
        alone = {self.large: len(self.base.entries) - both}
        return {"ours": alone.get("ours", new), "theirs": alone.get("theirs", new), "both": both}

    # --- what is made of them --------------------------------------------------------------------------------------

    def registry(self) -> tuple[Registry, dict[str, Origin]]:
        """The registry of both, with a path of its own for every content, and where each comes from."""
        placing = Placing(self.large, self._taken())
        entries = self._entries(placing)
        spaces = {name: self._placed(space, placing) for name, space in sorted(self._spaces().items())}
        try:
            made = self.base.with_rows(entries, self.tasks, spaces)
        except RegistryError as error:
            said = f"The registries do not fit together: {error.message}"
            raise RegistryError(said, hint="give each alias to one task") from error
        for shard in made.shelves.written() if made.shelves is not None else ():
            placing.place(*shard.place)
        return replace(made, default_space=self.ours.default_space or self.theirs.default_space), placing.files

    def _taken(self) -> set[tuple[str, str]]:
        """Path and sha256 of what comes from the smaller side: all that ours has, or what theirs alone has."""
        if self.large == "theirs":
            return {(file, sha256) for file, _, sha256 in self.ours.files()}
        rows = [(pair.row, pair.held) for pair in self.pairs]
        theirs = {(file, sha256) for row, _ in rows for file, _, sha256 in row.files()}
        ours = {(file, sha256) for _, held in rows if held is not None for file, _, sha256 in held.files()}
        beside = [{(file, sha256) for file, _, sha256 in side.files_beside()} for side in (self.theirs, self.ours)]
        return (theirs | beside[0]) - (ours | beside[1])

    def _entries(self, placing: Placing) -> list[Entry]:
        """The rows that the larger side has not as they are to be."""
        changing = [pair for pair in self.pairs if pair.changes]
        changed = {(pair.row.space, pair.row.task) for pair in changing}
        stay = (entry for entry in self.base.entries if (entry.space, entry.task) not in changed)
        moved = [placed for entry in stay if (placed := placing.entry(entry)) != entry]
        return [*moved, *(placing.entry(pair.united) for pair in changing)]

    def _spaces(self) -> dict[str, SpaceEntry]:
        """The spaces of both, by name, with the packed indexes of whichever side has all of their embeddings."""
        base, other = self.base.spaces, self.other.spaces
        new = Counter(pair.row.space for pair in self.pairs if pair.held is None)
        unlike_base = {one.row.space for one in self.pairs if one.held is None or one.held.sha256 != one.united.sha256}
        unlike_other = {pair.row.space for pair in self.pairs if pair.row.sha256 != pair.united.sha256}
        found = {**other, **base}
        for name in base.keys() & other.keys():
            size = len(self.base.in_space(name)) + new[name]
            covers = name not in unlike_base, name not in unlike_other and len(self.other.in_space(name)) == size
            if self._base_is_first:
                found[name] = united_space(base[name], other[name], covers)
            else:
                found[name] = united_space(other[name], base[name], covers[::-1])
        return found

    def _placed(self, space: SpaceEntry, placing: Placing) -> SpaceEntry:
        """A space with the paths of its files: those of its nearest embeddings are the larger side's, if it has it."""
        held = self.base.spaces.get(space.name)
        if held is None:
            return placing.space(replace(space, nearest={}) if self._says_more_than(self.other) else space)
        nearest = {} if self._renamed else held.nearest
        placed = placing.space(replace(space, nearest=nearest))
        if placed.nearest != nearest:
            return replace(placed, nearest={})
        changed = any(pair.changes for pair in self.pairs if pair.row.space == space.name)
        if nearest and (changed or self._says_more_than(self.base)):
            self.behind[space.name] = self.large
        return placed

    def _says_more_than(self, side: Registry) -> bool:
        """Whether something is known of a side's tasks now that it did not know."""
        return any(side.tasks.get(name) not in (None, task) for name, task in self.tasks.items())


# --- what does not agree ---------------------------------------------------------------------------------------


def _with_our_names(ours: Registry, theirs: Registry) -> Registry:
    """Their registry with our names for the spaces that both have."""
    names = {entry.space: name for name, entry in ours.spaces.items()}
    renamed = {name: names.get(entry.space, name) for name, entry in theirs.spaces.items()}
    if len(set(renamed.values())) < len(renamed):
        raise RegistryError(
            "One registry has two spaces of one base model and method.", hint="see which: tupate-hub spaces"
        )
    for name, new in renamed.items():
        if new in ours.spaces and ours.spaces[new].space != theirs.spaces[name].space:
            our_space, their_space = ours.spaces[new], theirs.spaces[name]
            raise RegistryError(
                f"Space {new!r} is {our_space.method} on {our_space.base} in one registry, "
                f"{their_space.method} on {their_space.base} in the other.",
                hint="rename the space in one registry.json: its key, and `space` of its embeddings",
            )
    if all(name == new for name, new in renamed.items()):
        return theirs
    return replace(
        theirs,
        spaces={renamed[name]: replace(entry, name=renamed[name]) for name, entry in theirs.spaces.items()},
        entries=tuple(replace(entry, space=renamed[entry.space]) for entry in theirs.entries),
        default_space=renamed.get(theirs.default_space, theirs.default_space),
    )


def _space_conflicts(ours: Registry, theirs: Registry) -> list[str]:
    conflicts = []
    for name in sorted(ours.spaces.keys() & theirs.spaces.keys()):
        our_space, their_space = ours.spaces[name], theirs.spaces[name]
        if our_space.base_sha256 and their_space.base_sha256 and our_space.base_sha256 != their_space.base_sha256:
            conflicts.append(f"the base model's weights of {name}")
        if our_space.moments and their_space.moments and our_space.moments["sha256"] != their_space.moments["sha256"]:
            conflicts.append(f"the base model's statistics of {name}")
    return conflicts


# --- packed indexes --------------------------------------------------------------------------------------------


def _reindexed(zoo: Zoo, ours: Registry, theirs: Registry, shelf: Shelf) -> Registry:
    """The registry of a merged zoo with an index, written to its folder, for each similarity that a side had one of."""
    from tupate_hub.compare.similarity import available

    sides = (ours, _with_our_names(ours, theirs))
    taken = {file for file, _, _ in zoo.registry.files()}
    spaces = {}
    for name, space in zoo.registry.spaces.items():
        had = {similarity for side in sides if name in side.spaces for similarity in side.spaces[name].index}
        index = dict(space.index)
        for similarity in available(bool(space.moments)):
            if similarity in had and similarity not in index:
                data = zoo.pair_index(name, similarity).to_bytes()
                index[similarity] = place = index_place(name, similarity, data, taken)
                shelf.keep(place["file"], data)
        spaces[name] = replace(space, index=index)
    return replace(zoo.registry, spaces=spaces)


def index_place(space: str, similarity: str, data: bytes, taken: Collection[str]) -> dict[str, Any]:
    """How a registry names a new packed index: at its usual path, or at one of its own where that is taken."""
    place = placed(f"zoo/{space}/index-{similarity}.safetensors", data)
    if place["file"] in taken:
        place["file"] = f"zoo/{space}/index-{similarity}-{place['sha256'][:12]}.safetensors"
    return place
