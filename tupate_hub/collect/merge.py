"""Merge: two registries made one. What both have with different content is decided by the user or refused."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from tupate_hub.collect.nearest import renewed
from tupate_hub.collect.shelf import Shelf
from tupate_hub.entry import KEPT
from tupate_hub.errors import RegistryError, TargetExists
from tupate_hub.registry import FILENAME, Entry, Registry, SpaceEntry, Task, placed
from tupate_hub.storage.atomic import told_in_one_sentence
from tupate_hub.task import clash
from tupate_hub.zoo import Zoo

Side = Literal["ours", "theirs"]


@dataclass(frozen=True)
class Origin:
    """Where a file of the merged registry comes from: its side, and its path there, size and sha256."""

    side: Side
    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Merged:
    """A registry made of two.

    `files` maps every file that it names to where its bytes are; `conflicts` names what both sides had with other
    content and `prefer` decided. `counts` says how many embeddings are from `ours` alone, from `theirs` alone, and in
    `both`.
    """

    registry: Registry
    files: Mapping[str, Origin]
    conflicts: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


def merge(ours: Registry, theirs: Registry, prefer: Side | None = None) -> Merged:
    """Merge two registries; reads no file.

    Aliases of a task and repeats of its run are united, and facts that one side lacks are taken from the other; where
    both state a fact, the preferred side's stands, else ours. Spaces are the same if base model and method are,
    whatever their names. The packed index of a space is kept where it covers the merged space, and left out otherwise.

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
    if same_rows := theirs.entries == ours.entries and theirs.tasks == ours.tasks:
        theirs = replace(theirs, tasks=ours.tasks, entries=ours.entries)  # which may be read from nearer by
    theirs = _with_our_names(ours, theirs)
    conflicts = [*_entry_conflicts(ours, theirs), *_space_conflicts(ours, theirs)]
    if conflicts and prefer is None:
        more = f" and {len(conflicts) - 5} more" if len(conflicts) > 5 else ""
        raise RegistryError(
            f"Both registries have, with different content: {', '.join(conflicts[:5])}{more}.",
            hint="say whose to take: `prefer='ours'`, or `prefer='theirs'`",
        )
    first, second = (theirs, ours) if prefer == "theirs" else (ours, theirs)
    shared = first.tasks.keys() & second.tasks.keys()
    tasks = {**second.tasks, **first.tasks, **{name: _task(first.tasks[name], second.tasks[name]) for name in shared}}
    if clashing := clash(tasks):
        raise RegistryError(f"The registries do not fit together: {clashing}.", hint="give each alias to one task")
    chosen = {(entry.space, entry.task): entry for entry in second.entries}
    for entry in first.entries:
        chosen[entry.space, entry.task] = _entry(entry, chosen.get((entry.space, entry.task), entry))
    entries = tuple(chosen[key] for key in sorted(chosen))
    shared = first.spaces.keys() & second.spaces.keys()
    spaces = {**second.spaces, **first.spaces, **{name: _space(name, first, second, entries) for name in shared}}
    default = ours.default_space or theirs.default_space
    registry = Registry(dict(sorted(tasks.items())), dict(sorted(spaces.items())), entries, default)
    placed, files = _placed(registry, ours, theirs)
    if same_rows and ours.shelves is not None:
        placed = replace(placed, tasks=ours.tasks, entries=ours.entries)
        files |= {file: Origin("ours", file, size, sha256) for file, size, sha256 in ours.shelves.files()}
    return Merged(placed, files, tuple(conflicts), _counts(ours, theirs))


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
    sides, shelf = {"ours": ours, "theirs": theirs}, Shelf(target, Registry())
    for name in each(list(merged.files)):
        origin = merged.files[name]
        shelf.keep(name, sides[origin.side].read_file(origin.file, origin.bytes, origin.sha256))
    registry = _reindexed(Zoo(target, merged.registry), ours.registry, theirs.registry, shelf)
    return shelf.write_registry(renewed(shelf, registry, Zoo(target, registry), (ours, theirs)))


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


def _entry_conflicts(ours: Registry, theirs: Registry) -> list[str]:
    """The embeddings that both have with other content; of which one side has facts alone, it has none."""
    known = {(entry.task, entry.space): entry for entry in ours.entries}
    return [
        f"{entry.task} in {entry.space}"
        for entry in theirs.entries
        if not _is_same(entry, known.get((entry.task, entry.space), entry))
    ]


def _is_same(one: Entry, other: Entry) -> bool:
    """Whether two entries are of one content, as far as is known: one without weights is told by where it was read."""
    if one.sha256 == other.sha256 or not (one.sha256 and other.sha256):
        return True
    read = one.source.get("sha256")
    return not (one.has_file and other.has_file) and read is not None and read == other.source.get("sha256")


def _space_conflicts(ours: Registry, theirs: Registry) -> list[str]:
    conflicts = []
    for name in sorted(ours.spaces.keys() & theirs.spaces.keys()):
        our_space, their_space = ours.spaces[name], theirs.spaces[name]
        if our_space.base_sha256 and their_space.base_sha256 and our_space.base_sha256 != their_space.base_sha256:
            conflicts.append(f"the base model's weights of {name}")
        if our_space.moments and their_space.moments and our_space.moments["sha256"] != their_space.moments["sha256"]:
            conflicts.append(f"the base model's statistics of {name}")
    return conflicts


def _counts(ours: Registry, theirs: Registry) -> dict[str, int]:
    our_keys, their_keys = ({(entry.task, entry.space) for entry in side.entries} for side in (ours, theirs))
    return {
        "ours": len(our_keys - their_keys),
        "theirs": len(their_keys - our_keys),
        "both": len(our_keys & their_keys),
    }


# --- what is united --------------------------------------------------------------------------------------------


def _task(first: Task, second: Task) -> Task:
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


def _entry(first: Entry, second: Entry) -> Entry:
    """The first side's run of a task, its head, and the repeats of both sides, each content once.

    Where the second side keeps more of the same, its weights or a sketch, that stands.
    """
    if _is_same(first, second) and KEPT.index(second.kept) < KEPT.index(first.kept):
        return second
    repeats = {repeat.sha256: repeat for repeat in (*second.repeats, *first.repeats) if repeat.sha256 != first.sha256}
    ordered = sorted(repeats.values(), key=lambda repeat: (repeat.seed, repeat.init_seed, repeat.sha256))
    head = first.head or (second.head if second.sha256 == first.sha256 else {})
    return replace(first, repeats=tuple(ordered), head=head)


def _space(name: str, first: Registry, second: Registry, entries: Sequence[Entry]) -> SpaceEntry:
    """One space of two. An index stays where all embeddings of the merged space are those of its side."""
    first_space, second_space = first.spaces[name], second.spaces[name]
    moments = first_space.moments or second_space.moments
    content = [(entry.task, entry.sha256) for entry in entries if entry.space == name]
    index: dict[str, Mapping[str, Any]] = {}
    nearest: Mapping[str, Mapping[str, Any]] = {}
    for side in (second, first):
        whole = [(entry.task, entry.sha256) for entry in side.in_space(name)] == content
        if whole and side.spaces[name].moments.get("sha256") == moments.get("sha256"):
            index.update(side.spaces[name].index)
            nearest = side.spaces[name].nearest or nearest
    return replace(
        first_space,
        base_sha256=first_space.base_sha256 or second_space.base_sha256,
        settings=first_space.settings or second_space.settings,
        index=index,
        moments=moments,
        subspaces={**second_space.subspaces, **first_space.subspaces},
        nearest=nearest,
    )


# --- files -----------------------------------------------------------------------------------------------------


def _placed(registry: Registry, ours: Registry, theirs: Registry) -> tuple[Registry, dict[str, Origin]]:
    """The registry with a path of its own for every content, and where each comes from."""
    origins: dict[tuple[str, str], Side] = {}
    origins.update({(file, sha256): "theirs" for file, _, sha256 in theirs.files()})
    origins.update({(file, sha256): "ours" for file, _, sha256 in ours.files()})
    files: dict[str, Origin] = {FILENAME: Origin("ours", FILENAME, 0, "")}  # a path that no other file may take

    def put(file: str, size: int, sha256: str) -> str:
        path = file
        while path in files and files[path].sha256 != sha256:
            path = str(PurePosixPath(path).with_stem(f"{PurePosixPath(path).stem}-{sha256[:12]}"))
        files[path] = Origin(origins[file, sha256], file, size, sha256)
        return path

    def moved(place: Mapping[str, Any]) -> dict[str, Any]:
        return {**place, "file": put(place["file"], place["bytes"], place["sha256"])}

    entries = tuple(
        replace(
            entry,
            file=put(entry.file, entry.bytes, entry.sha256) if entry.has_file else "",
            repeats=tuple(
                replace(repeat, file=put(repeat.file, repeat.bytes, repeat.sha256)) for repeat in entry.repeats
            ),
            head=moved(entry.head) if entry.head else {},
        )
        for entry in registry.entries
    )
    spaces = {
        name: replace(
            space,
            index={similarity: moved(place) for similarity, place in space.index.items()},
            moments=moved(space.moments) if space.moments else {},
            subspaces={called: moved(place) for called, place in space.subspaces.items()},
            nearest={
                similarity: {**moved(place), "sketches": [moved(part) for part in place["sketches"]]}
                for similarity, place in space.nearest.items()
            },
        )
        for name, space in registry.spaces.items()
    }
    del files[FILENAME]
    return replace(registry, entries=entries, spaces=spaces), files


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
