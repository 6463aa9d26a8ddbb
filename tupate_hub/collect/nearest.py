"""Nearest: the files by which the neighbours of a large space are found, made and kept up to date in its folder.

A space has them from `LEAST` embeddings on, or where it keeps an embedding's sketch without its weights. An addition
sketches what is new and writes the last part of the sketches anew, and the space's one file of nearest embeddings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from tupate_hub.collect.keep import held
from tupate_hub.collect.origins import OTHER, Side
from tupate_hub.collect.shelf import Shelf
from tupate_hub.collect.spread import spread_of
from tupate_hub.compare.nearest import ORIGINS, Nearest, Row, Spread, origin
from tupate_hub.compare.nearest_change import changed
from tupate_hub.compare.similarity import DEFAULT
from tupate_hub.compare.sketch import Sketch, Sketcher
from tupate_hub.compare.sketch_part import MOST, SketchPart
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.errors import WorkFailed
from tupate_hub.hub.checked import remember
from tupate_hub.registry import Entry, Registry, Task
from tupate_hub.search.nearest_files import open_nearest, open_parts
from tupate_hub.zoo import Zoo

#: A smaller space is compared with as a whole, which takes no longer.
LEAST = 2000
_WAITING = 16


class KnownSketches:
    """Sketches by the digest of what they were made of: those of embeddings that pass by on their way into a registry.

    Of a space that is small, and stays so, none are made.
    """

    def __init__(self, registry: Registry) -> None:
        self.found: dict[str, Sketch] = {}
        self._registry = registry
        self._sketchers: dict[str, Sketcher] = {}
        self._counts: dict[str, int] = {}
        self._waiting: dict[str, list[tuple[str, TaskEmbedding]]] = {}

    def add(self, sha256: str, sketch: Sketch) -> None:
        """Know a sketch that was made elsewhere."""
        self.found[sha256] = sketch

    def note(self, entry: Entry, embedding: TaskEmbedding, made: Sketch | None = None) -> None:
        """Sketch an embedding that is about to be an entry, if its space is large; some are sketched at once.

        Where its sketch was `made` already, that is taken. Of facts alone there is none.
        """
        if not entry.sha256:
            return
        if made is not None:
            self.add(entry.sha256, made)
            return
        space = entry.space
        if space not in self._counts:
            known = space in self._registry.spaces
            self._counts[space] = len(self._registry.in_space(space)) if known else 0
        self._counts[space] += 1
        if entry.file and self._counts[space] < LEAST:
            return
        waiting = self._waiting.setdefault(space, [])
        waiting.append((entry.sha256, embedding))
        if len(waiting) >= _WAITING:
            self._sketch(space)

    def note_all(self, zoo: Zoo) -> None:
        """Know all sketches of a zoo."""
        for space in zoo.registry.spaces.values():
            for part in open_parts(zoo, space, DEFAULT):
                self.found |= {part.digest(row): part.sketch(row, "") for row in range(len(part))}

    def finish(self) -> Mapping[str, Sketch]:
        """All of them."""
        for space in list(self._waiting):
            self._sketch(space)
        return self.found

    def _sketch(self, space: str) -> None:
        waiting = self._waiting.pop(space)
        sketcher = self._sketchers.setdefault(space, Sketcher(DEFAULT))
        sketches = sketcher.sketches(embedding for _, embedding in waiting)
        self.found.update(zip((sha256 for sha256, _ in waiting), sketches, strict=True))


class Holder(Protocol):
    """Where new files of a registry go: a `Shelf`, or the memory of who sends them."""

    root: Path

    def put(self, file: str, data: bytes) -> dict[str, Any]:
        """Take a file; returns `file`, `bytes` and `sha256`, as a registry lists it."""


def with_nearest(
    shelf: Holder,
    zoo: Zoo,
    registry: Registry,
    known: KnownSketches,
    spaces: Iterable[str] | None = None,
    old: Zoo | None = None,
) -> Registry:
    """A registry that is about to be written, with the files of those of its spaces that are large, by default of all.

    `zoo` reads the registry's files; the sketches of the `old` one, by default `zoo` as it was, are used again. What is
    neither there nor `known` is read, and sketched.

    Raises
    ------
    WorkFailed
        When an entry keeps its sketch alone, and that is nowhere.
    FormatError, TupateHubError
        As `Zoo.load` and `Shelf.put`.
    """
    sketches = known.finish()
    entries = dict(registry.spaces)
    for name in list(registry.spaces if spaces is None else spaces):
        place: Mapping[str, Any] = {}
        if _is_large(registry, name):
            making = _Making(shelf, replace(zoo, registry=registry), zoo if old is None else old, name, sketches)
            place = {DEFAULT: making.changed_place() or making.place()}
        entries[name] = replace(entries[name], nearest=place)
    return replace(registry, spaces=entries)


def renewed(
    shelf: Holder,
    registry: Registry,
    zoo: Zoo,
    sides: Mapping[Side, Zoo] = MappingProxyType({}),
    behind: Mapping[str, Side] = MappingProxyType({}),
) -> Registry:
    """A registry made of those of the `sides`, with the files of its large spaces that it lacks, or that are `behind`.

    `zoo` reads its files; the sides' sketches are used again. Errors as `with_nearest`.
    """
    for side in sorted(set(behind.values())):
        known = KnownSketches(registry)
        known.note_all(sides[OTHER[side]])
        names = [name for name, of in behind.items() if of == side]
        registry = with_nearest(shelf, zoo, registry, known, names, sides[side])
    without = [name for name, space in registry.spaces.items() if not space.nearest and _is_large(registry, name)]
    if not without:
        return registry
    known = KnownSketches(registry)
    for one in sides.values():
        known.note_all(one)
    return with_nearest(shelf, replace(zoo, registry=Registry()), registry, known, without)


def _is_large(registry: Registry, space: str) -> bool:
    """Whether the space has such files: of facts alone, however many, there is nothing in them."""
    entries = registry.in_space(space)
    many = len(entries) >= LEAST
    return any(entry.kept == "sketch" or (many and entry.has_file) for entry in entries)


def keep_nearest(zoo: Zoo, spaces: Sequence[str] | None = None) -> Zoo:
    """Make the files of the large spaces of a zoo in a folder, or of some of its spaces."""
    with held(zoo) as zoo:
        shelf = Shelf(zoo.folder, zoo.registry)
        registry = with_nearest(shelf, zoo, zoo.registry, KnownSketches(zoo.registry), spaces)
        return replace(zoo, registry=shelf.write_registry(registry))


@dataclass(frozen=True)
class _Making:
    """The making of one space's files: `zoo` has the registry as it will be, `old` as it was."""

    shelf: Holder
    zoo: Zoo
    old: Zoo
    space: str
    known: Mapping[str, Sketch]

    def place(self) -> dict[str, Any]:
        """How the registry lists them, when they are written."""
        entries = self._listed()
        parts, places, loose = self._parts({entry.sha256 for entry in entries})
        had = {part.digest(row): (at, row) for at, part in enumerate(parts) for row in range(len(part))}
        new = [entry for entry in entries if entry.sha256 not in had]
        for start in range(0, len(new), MOST):
            some = new[start : start + MOST]
            digests = [entry.sha256 for entry in some]
            part = SketchPart.of(self.space, DEFAULT, digests, self._sketches(some, loose))
            places.append(self._put(f"sketches-{DEFAULT}-{len(parts)}", part.to_bytes()))
            had |= {digest: (len(parts), row) for row, digest in enumerate(digests)}
            parts.append(part)
        starts = np.cumsum([0, *map(len, parts)])
        at = [had[entry.sha256] for entry in entries]
        held = Nearest.of(
            self.space,
            DEFAULT,
            [row_of(entry, self.zoo.registry.tasks[entry.task]) for entry in entries],
            (parts[part].sketch(row, entry.task) for entry, (part, row) in zip(entries, at, strict=True)),
            [int(starts[part]) + row for part, row in at],
        )
        held = replace(held, spread=spread_of(self.zoo, entries, held, parts, self._spread()))
        return {**self._put(f"nearest-{DEFAULT}", held.to_bytes()), "tasks": len(entries), "sketches": places}

    def changed_place(self) -> dict[str, Any] | None:
        """The same where the old files, with what has changed since, will do; None where they have to be made anew.

        Of registries in shards those alone are looked at that have changed.
        """
        space = self.old.registry.spaces.get(self.space)
        change = _change(self.old.registry, self.zoo.registry, self.space)
        held = open_nearest(self.old, space, DEFAULT) if space is not None else None
        if space is None or held is None or change is None:
            return None
        put, gone = change
        parts, places = open_parts(self.old, space, DEFAULT), list(space.nearest[DEFAULT]["sketches"])
        total = sum(map(len, parts))
        if 2 * len(held) < total:
            return None
        at = {entry.task: place for entry in put if (place := _old_place(held, entry)) is not None}
        new = [entry for entry in put if entry.task not in at]
        at |= {entry.task: total + number for number, entry in enumerate(new)}
        made = zip((entry.sha256 for entry in new), self._sketches(new, {}), strict=True)
        parts, places = self._appended(parts, places, list(made))
        rows = [row_of(entry, self.zoo.registry.tasks[entry.task]) for entry in put]
        numbers = [at[entry.task] for entry in put]
        held = changed(held, rows, _whole(parts, numbers), numbers, gone)
        listed = self.zoo.registry.in_space(self.space)
        entries = listed if len(listed) == len(held) else self._listed()
        held = replace(held, spread=spread_of(self.zoo, entries, held, parts, held.spread))
        return {**self._put(f"nearest-{DEFAULT}", held.to_bytes()), "tasks": len(held), "sketches": places}

    def _appended(
        self, parts: list[SketchPart], places: list[Mapping[str, Any]], new: Sequence[tuple[str, Sketch]]
    ) -> tuple[list[SketchPart], list[Mapping[str, Any]]]:
        """Parts with more sketches behind the last one, which is written anew where it is not full."""
        if not new:
            return parts, places
        if len(parts[-1]) < MOST:
            last, parts, places = parts[-1], parts[:-1], places[:-1]
            new = [*((last.digest(row), last.sketch(row, "")) for row in range(len(last))), *new]
        for start in range(0, len(new), MOST):
            some = new[start : start + MOST]
            part = SketchPart.of(self.space, DEFAULT, [digest for digest, _ in some], [sketch for _, sketch in some])
            places = [*places, self._put(f"sketches-{DEFAULT}-{len(parts)}", part.to_bytes())]
            parts = [*parts, part]
        return parts, places

    def _listed(self) -> list[Entry]:
        """The space's entries but those of which facts alone are known."""
        return [entry for entry in self.zoo.registry.in_space(self.space) if entry.sha256]

    def _parts(self, live: set[str]) -> tuple[list[SketchPart], list[Mapping[str, Any]], dict[str, Sketch]]:
        """The space's parts that stay as they are, with their places, and the sketches of those that do not.

        The last one does not, where it is not full, and none of them where most of what they hold is of nothing now.
        """
        space = self.old.registry.spaces.get(self.space)
        if space is None or DEFAULT not in space.nearest:
            return [], [], {}
        parts = open_parts(self.old, space, DEFAULT)
        used = sum(part.digest(row) in live for part in parts for row in range(len(part)))
        full = 0 if 2 * used < sum(map(len, parts)) else sum(len(part) >= MOST for part in parts)
        loose = {part.digest(row): part.sketch(row, "") for part in parts[full:] for row in range(len(part))}
        return parts[:full], list(space.nearest[DEFAULT]["sketches"][:full]), loose

    def _sketches(self, entries: Sequence[Entry], loose: Mapping[str, Sketch]) -> list[Sketch]:
        """The sketches of some entries: known ones, or made of the embeddings."""
        unknown = [entry for entry in entries if entry.sha256 not in self.known and entry.sha256 not in loose]
        for entry in unknown:
            if not entry.file:
                raise WorkFailed(f"The sketch of {entry.task!r} in {self.space!r} is missing, and so are its weights.")
        made = Sketcher(DEFAULT).sketches(self.zoo.load(entry) for entry in unknown)
        found = {**loose, **self.known, **{entry.sha256: one for entry, one in zip(unknown, made, strict=True)}}
        return [found[entry.sha256] for entry in entries]

    def _spread(self) -> Spread | None:
        """How the space's pairs scored when that was last looked at."""
        space = self.old.registry.spaces.get(self.space)
        held = open_nearest(self.old, space, DEFAULT) if space is not None else None
        return None if held is None else held.spread

    def _put(self, name: str, data: bytes) -> dict[str, Any]:
        place = self.shelf.put(f"zoo/{self.space}/{name}.safetensors", data)
        remember(self.shelf.root / place["file"], place["sha256"])
        return place


def _old_place(held: Nearest, entry: Entry) -> int | None:
    """Where the sketch of an entry is among the whole ones already."""
    row = held.tasks.find(entry.task)
    return None if row is None or held.row(row).sha256 != entry.sha256 else int(held.places[row])


def _whole(parts: Sequence[SketchPart], places: Iterable[int]) -> Iterator[Sketch]:
    """The sketches at some places among the parts."""
    ends = np.cumsum([len(part) for part in parts])
    for place in places:
        at = int(np.searchsorted(ends, place, side="right"))
        yield parts[at].sketch(place - int(ends[at]) + len(parts[at]), "")


def _change(old: Registry, new: Registry, space: str) -> tuple[list[Entry], list[str]] | None:
    """The entries of a space that are new, or other, or of a task that is, in order; and the tasks that are gone.

    None where the registries are not in shards.
    """
    before, after = old.shelves, new.shelves
    if before is None or after is None:
        return None
    entries, gone = after.entries.since(before.entries)
    names, _ = after.names.since(before.names)
    put = {entry.task: entry for entry in entries if entry.space == space}
    for name in names:
        if (entry := new.get(name.of, space)) is not None:
            put[entry.task] = entry
    lost = [task for where, task in gone if where == space]
    lost += [task for task, entry in put.items() if not entry.sha256]
    return [put[task] for task in sorted(put) if put[task].sha256], lost


def row_of(entry: Entry, task: Task) -> Row:
    """What the file of nearest embeddings says of an entry."""
    said = {**entry.source, "dataset": task.dataset}
    return Row(
        entry.task,
        entry.file,
        entry.bytes,
        entry.sha256,
        task.kind,
        task.train_size,
        "weak" in entry.flags,
        tuple(origin(said.get(name)) for name in ORIGINS),
    )
