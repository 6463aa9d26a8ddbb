"""Registry: the index of a zoo: its tasks, spaces and embeddings. Immutable; read by `storage.registry_json`."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

from tupate_hub.entry import Entry, Repeat
from tupate_hub.errors import RegistryError, UnknownName
from tupate_hub.space import Space
from tupate_hub.task import Task, clash, did_you_mean, fold, spellings

if TYPE_CHECKING:
    from tupate_hub.storage.shards import Rows
    from tupate_hub.storage.shelves import Shelves

__all__ = [
    "FILENAME",
    "SCHEMA",
    "SHARDED",
    "Entry",
    "Registry",
    "Repeat",
    "SpaceEntry",
    "Task",
    "clash",
    "fold",
    "placed",
]

SCHEMA = 1
#: The schema of a registry whose rows are in shards.
SHARDED = 2
#: Up to so many embeddings are listed in `registry.json` itself.
MOST_TOGETHER = 4000
FILENAME = "registry.json"
#: Fields that most spaces do not have and do not mention.
_SELDOM = ("gain", "subspaces", "nearest")


@dataclass(frozen=True)
class SpaceEntry:
    """A space of the zoo. `base_sha256` is that of the base model's weights.

    `index` maps a similarity to its file, `moments` is the file of the base model's statistics; each of them an object
    of `file`, `bytes` and `sha256`. `gain` is what measured transfer says of the space (`evaluation.gain`): the weights
    of similarity and strength in a ranking by gain, and `forecasts`, one a regime; empty where nothing was measured.
    `subspaces` maps the name of an intrinsic subspace to its file, with its `dim` and the number of its `tasks`.
    `nearest` maps a similarity to the file by which the neighbours of a large space are found, with the number of its
    `tasks` and the files of their `sketches`; empty for a small space.
    """

    name: str
    base: str
    method: str
    base_sha256: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    index: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    moments: Mapping[str, Any] = field(default_factory=dict)
    gain: Mapping[str, Any] = field(default_factory=dict)
    subspaces: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    nearest: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def space(self) -> Space:
        """The space itself."""
        return Space(self.base, self.method)

    def subspace(self, name: str | None = None) -> Mapping[str, Any]:
        """Where a subspace is: the one of that name or number of dimensions, of most dimensions without a name.

        Raises
        ------
        UnknownName
            Listing those that there are.
        """
        if name is None and self.subspaces:
            return max(self.subspaces.values(), key=lambda place: int(place["dim"]))
        for called, place in self.subspaces.items():
            if name in (called, str(place["dim"])):
                return place
        known = ", ".join(self.subspaces)
        raise UnknownName(
            f"Space {self.name!r} has no intrinsic subspace{'' if name is None else f' {name!r}'}.",
            hint=f"known: {known}" if known else f"find one: tupate-hub subspace fit, with `space={self.name!r}`",
        )

    def is_called(self, name: str) -> bool:
        """Whether a user may mean this space by a name: its own, or its beginning or end: `gpt2`, `lora`."""
        return name == self.name or self.name.endswith(f"/{name}") or self.name.startswith(f"{name}/")

    def to_fields(self) -> dict[str, Any]:
        """The fields of its object in a registry, which stands under its name; those that say nothing are left out."""
        fields = asdict(self)
        del fields["name"]
        return {name: value for name, value in fields.items() if value or name not in _SELDOM}

    def places(self) -> Iterator[Mapping[str, Any]]:
        """The objects that name its files."""
        yield from (*self.index.values(), *([self.moments] if self.moments else []), *self.subspaces.values())
        yield from self.nearest_places()

    def nearest_places(self) -> Iterator[Mapping[str, Any]]:
        """Those of them that name the files of its nearest embeddings, and of their sketches."""
        for place in self.nearest.values():
            yield from (place, *place["sketches"])


@dataclass(frozen=True)
class Registry:
    """Tasks, spaces and embeddings by name; `default_space` is the one that commands use unless told otherwise.

    A large one has its rows in shards (`Shelves`): `tasks` and `entries` then read them as they are asked for, one
    shard for one name, and not before.
    """

    tasks: Mapping[str, Task] = field(default_factory=dict)
    spaces: Mapping[str, SpaceEntry] = field(default_factory=dict)
    entries: tuple[Entry, ...] | Rows[Entry] = ()
    default_space: str = ""

    @property
    def shelves(self) -> Shelves | None:
        """The shards that its rows are in; None of a registry that is held as a whole."""
        if isinstance(self.entries, tuple):
            return None
        from tupate_hub.storage.shelves import ShelvedTasks, Shelves

        tasks = self.tasks
        return Shelves(tasks.names, self.entries.shards) if isinstance(tasks, ShelvedTasks) else None

    def shelved(self) -> Registry:
        """The registry as it is written: itself, or in shards where it is large."""
        if len(self.entries) <= MOST_TOGETHER or self.shelves is not None:
            return self
        from tupate_hub.storage.shelves import shelves_of

        return self._on(shelves_of(self.tasks, self.entries, self.spaces))

    def _on(self, shelves: Shelves) -> Registry:
        return replace(self, tasks=shelves.tasks, entries=shelves.entries.rows())

    # --- questions -------------------------------------------------------------------------------------------------

    @cached_property
    def spelled(self) -> Mapping[str, str]:
        """Every name and alias, folded, with the name of its task."""
        return spellings(self.tasks.values())

    def called(self, name: str) -> str | None:
        """The name of the task that a name or alias means, None where it is unknown; see `task`."""
        shelves = self.shelves
        return self.spelled.get(fold(name)) if shelves is None else shelves.tasks.called(fold(name))

    def task(self, name: str) -> Task:
        """The task of that name or alias; case, `-`, `_` and blanks do not matter.

        Raises
        ------
        UnknownName
            With the nearest names.
        """
        called, shelves = self.called(name), self.shelves
        if called is None:
            near = self.spelled if shelves is None else shelves.tasks.near(fold(name))
            raise UnknownName(f"Unknown task {name!r}.", hint=did_you_mean(fold(name), near))
        return self.tasks[called]

    def space(self, name: str | None = None) -> SpaceEntry:
        """The space of that name, the default one without a name.

        The base model or the method alone is enough, `gpt2` or `lora`, where one space alone has it.

        Raises
        ------
        UnknownName
            Listing the spaces.
        """
        wanted = name or self.default_space
        if wanted in self.spaces:
            return self.spaces[wanted]
        endings = [entry for entry in self.spaces.values() if entry.is_called(wanted)]
        if len(endings) != 1:
            known = ", ".join(self.spaces) or "none, the registry is empty"
            raise UnknownName(f"Unknown space {wanted!r}.", hint=f"known: {known}")
        return endings[0]

    def in_space(self, space: str) -> Sequence[Entry]:
        """The embeddings of a space, in order of their tasks."""
        if isinstance(self.entries, tuple):
            return self._of_space.get(space, ())
        return self.entries.shards.beginning((space,))

    @cached_property
    def _of_space(self) -> dict[str, tuple[Entry, ...]]:
        found: dict[str, list[Entry]] = {}
        for entry in self.entries:
            found.setdefault(entry.space, []).append(entry)
        return {space: tuple(entries) for space, entries in found.items()}

    @cached_property
    def _placed(self) -> dict[tuple[str, str], Entry]:
        return {(entry.space, entry.task): entry for entry in self.entries}

    def rows(self, entries: Iterable[Entry] | None = None) -> list[dict[str, Any]]:
        """A row for each embedding, or some: task, space, kind, train size, metric, score, baseline and note."""
        return [
            {
                "task": entry.task,
                "space": entry.space,
                "kind": task.kind,
                "train size": task.train_size,
                "metric": task.metric or None,
                "score": entry.scores.get("primary"),
                "baseline": entry.scores.get("baseline"),
                "note": ", ".join(entry.flags),
            }
            for entry in (self.entries if entries is None else entries)
            for task in [self.tasks[entry.task]]
        ]

    def get(self, task: str, space: str) -> Entry | None:
        """The embedding of a task, by its name, in a space, None where there is none."""
        if isinstance(self.entries, tuple):
            return self._placed.get((space, task))
        return self.entries.shards.get((space, task))

    def entry(self, task: str, space: str) -> Entry:
        """The embedding of a task, by its name, in a space.

        Raises
        ------
        UnknownName
            Listing the spaces that have the task.
        """
        found = self.get(task, space)
        if found is None:
            has = self._having(task)
            hint = "it is elsewhere: " + ", or ".join(f"`space={name!r}`" for name in has) if has else "tupate-hub list"
            raise UnknownName(f"Task {task!r} has no embedding in space {space!r}.", hint=hint)
        return found

    def _having(self, task: str) -> list[str]:
        """The spaces that have a task."""
        return [space for space in sorted(self.spaces) if self.get(task, space) is not None]

    def find(self, task: str, space: str | None = None) -> Entry:
        """The embedding of a task, by name or alias: in a space, else in the default space, else where it alone is.

        Raises
        ------
        UnknownName
            For an unknown task or space, or a task that is not in the space; listing the spaces that have it.
        """
        name = self.task(task).name
        if space is None and self.get(name, self.default_space) is None:
            has = self._having(name)
            space = has[0] if len(has) == 1 else None
        return self.entry(name, self.space(space).name)

    # --- files -----------------------------------------------------------------------------------------------------

    def files(self) -> Iterator[tuple[str, int, str]]:
        """Every file that the registry names, once: its path, bytes and sha256.

        Embeddings with their repeats and heads come first, then the files that belong to a space, then its shards. A
        path that is named with two contents comes with each of them.
        """
        named = (file for entry in self.entries for file in entry.files())
        yield from dict.fromkeys(chain(named, self.files_beside()))

    def files_beside(self) -> Iterator[tuple[str, int, str]]:
        """Those of them that hold no embedding."""
        for space in self.spaces.values():
            yield from ((place["file"], place["bytes"], place["sha256"]) for place in space.places())
        if (shelves := self.shelves) is not None:
            yield from shelves.files()

    def unwritten(self) -> dict[str, bytes]:
        """The bytes of its shards that no file has yet, by their paths: they are written before `registry.json`."""
        return {} if self.shelves is None else self.shelves.unwritten()

    def to_json(self) -> str:
        """The text of `registry.json`, sorted and one field a line, so that changes show in a diff."""
        shelves = self.shelves
        if shelves is None:
            entries = sorted(self.entries, key=lambda entry: (entry.space, entry.task))
            rows: dict[str, Any] = {
                "schema": SCHEMA,
                "tasks": {name: task.to_fields() for name, task in self.tasks.items()},
                "embeddings": [entry.to_fields() for entry in entries],
            }
        else:
            rows = {"schema": SHARDED, "shards": shelves.manifest()}
        spaces = {name: space.to_fields() for name, space in self.spaces.items()}
        text = {**rows, "default_space": self.default_space, "spaces": spaces}
        return json.dumps(text, indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    # --- changes ---------------------------------------------------------------------------------------------------

    def with_entry(self, entry: Entry, task: Task, space: SpaceEntry) -> Registry:
        """A registry that also has this embedding, in place of another of its task and space.

        Raises
        ------
        RegistryError
            When an alias of the task is a name or alias of another task.
        """
        return self.with_entries([(entry, task, space)])

    def with_entries(self, new: Sequence[tuple[Entry, Task, SpaceEntry]]) -> Registry:
        """A registry that also has these embeddings, with their tasks and spaces; errors as `with_entry`."""
        tasks = {task.name: task for _, task, _ in new}
        spaces = dict(sorted({**self.spaces, **{space.name: space for _, _, space in new}}.items()))
        added = {(entry.space, entry.task): entry for entry, _, _ in new}
        counts = Counter(space for space, _ in added)
        default = self.default_space or min(counts, key=lambda space: (-counts[space], space), default="")
        try:
            changed = self.with_rows(added.values(), tasks, spaces)
        except RegistryError as error:
            names = ", ".join(repr(task.name) for _, task, _ in new[:1])
            raise RegistryError(f"Cannot add {names}: {error.message}", hint=error.hint) from error
        return replace(changed, default_space=default)

    def with_rows(
        self, entries: Iterable[Entry], tasks: Mapping[str, Task], spaces: Mapping[str, SpaceEntry]
    ) -> Registry:
        """A registry of these spaces that also has these embeddings and tasks, in place of others of their names.

        Raises
        ------
        RegistryError
            When an alias of a task is a name or alias of another one.
        """
        changed = replace(self, spaces=spaces)
        if (shelves := self.shelves) is not None:
            return changed._on(shelves.with_entries(entries, tasks, spaces))
        tasks = {**self.tasks, **tasks}
        if clashing := clash(tasks):
            raise RegistryError(f"{clashing}.", hint="give each alias to one task")
        put = {(entry.space, entry.task): entry for entry in entries}
        rows = tuple(entry for _, entry in sorted({**self._placed, **put}.items()))
        return replace(changed, tasks=dict(sorted(tasks.items())), entries=rows)


def placed(file: str, data: bytes) -> dict[str, Any]:
    """How a registry names a file beside the embeddings: `file`, `bytes` and `sha256` of its content."""
    return {"file": file, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
