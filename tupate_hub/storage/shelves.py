"""Shelves: the rows of a registry too large for one file: its embeddings, and the names that its tasks answer to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tupate_hub.entry import Entry
from tupate_hub.errors import RegistryError
from tupate_hub.storage.rows import Check, Reader, read_entry, read_task
from tupate_hub.storage.shards import Key, Kind, Shard, Shards, read_manifest, shards_of
from tupate_hub.task import Task, clashing, fold


@dataclass(frozen=True)
class Name:
    """A name as it is compared, and the task that is called so: itself, or its own name where this is an alias."""

    spelled: str
    task: Task | str

    @property
    def of(self) -> str:
        """The name of its task."""
        return self.task if isinstance(self.task, str) else self.task.name


@dataclass(frozen=True)
class Shelves:
    """A registry's embeddings, in order of space and task, and its names, in order of their spelling."""

    names: Shards[Name]
    entries: Shards[Entry]

    @property
    def tasks(self) -> ShelvedTasks:
        """The tasks by name."""
        return ShelvedTasks(self.names)

    def with_entries(self, entries: Iterable[Entry], tasks: Mapping[str, Task], spaces: Collection[str]) -> Shelves:
        """Shelves that also have these embeddings, of these spaces, and these tasks as they are here.

        Raises
        ------
        RegistryError
            When an alias of a task is a name or alias of another one.
        """
        gone: set[Key] = set()
        put: dict[str, Name] = {}
        for task in tasks.values():
            if (old := self.tasks.get(task.name)) == task:
                continue
            if old is not None:
                gone |= {(fold(alias),) for alias in old.aliases}
            for name in _names(task):
                held = put.get(name.spelled) or self.names.get((name.spelled,))
                if held is not None and held.of != task.name:
                    raise RegistryError(
                        f"{clashing(task.name, name.spelled, held.of)}.",
                        hint="give each alias to one task",
                    )
                put[name.spelled] = name
        drop = [key for key in gone if key[0] not in put]
        kept = replace(self.entries, kind=_kind_of_entries(frozenset(spaces)))
        return Shelves(self.names.changed(put.values(), drop), kept.changed(entries))

    def files(self) -> Iterator[tuple[str, int, str]]:
        """The path, bytes and sha256 of each shard."""
        yield from (shard.place for shards in (self.names, self.entries) for shard in shards.shards)

    def unwritten(self) -> dict[str, bytes]:
        """The bytes of the shards that no file has yet, by their paths."""
        listed = [*self.names.shards, *self.entries.shards]
        return {shard.file: shard.data for shard in listed if shard.data is not None}

    def written(self) -> Iterator[Shard]:
        """The shards that a file has."""
        yield from (shard for shard in (*self.names.shards, *self.entries.shards) if shard.data is None)

    def manifest(self) -> dict[str, Any]:
        """What `registry.json` says of them."""
        return {"entries": self.entries.manifest(), "names": self.names.manifest()}


@dataclass(frozen=True)
class ShelvedTasks(Mapping[str, Task]):
    """The tasks of shelves by name, each read when it is asked for."""

    names: Shards[Name]

    def __getitem__(self, name: str) -> Task:
        """A task.

        Raises
        ------
        RegistryError
            When there is none of the name: an embedding that is listed has one.
        """
        found = self._found(name)
        if found is None:
            raise RegistryError(f"Task {name!r} is not among the names of the registry.", hint="tupate-hub verify")
        return found

    def _found(self, name: str) -> Task | None:
        row = self.names.get((fold(name),))
        return row.task if row is not None and isinstance(row.task, Task) and row.task.name == name else None

    def get(self, name: str, default: Any = None) -> Any:
        """A task, or the default."""
        found = self._found(name)
        return default if found is None else found

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._found(name) is not None

    def __iter__(self) -> Iterator[str]:
        return (row.task.name for row in self.names.rows() if isinstance(row.task, Task))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def called(self, spelled: str) -> str | None:
        """The name of the task that a folded name or alias means."""
        row = self.names.get((spelled,))
        return None if row is None else row.of

    def near(self, spelled: str) -> dict[str, str]:
        """Names and aliases beside a folded one, with the names of their tasks."""
        return {row.spelled: row.of for row in self.names.near((spelled,))}


def shelves_of(tasks: Mapping[str, Task], entries: Iterable[Entry], spaces: Collection[str]) -> Shelves:
    """The rows of a registry that is held in memory, in shards that are not written yet."""
    names = [name for task in tasks.values() for name in _names(task)]
    return Shelves(shards_of(_kind_of_names(), names), shards_of(_kind_of_entries(frozenset(spaces)), entries))


def read_shelves(check: Check, data: Any, spaces: frozenset[str], read: Reader | None) -> Shelves:
    """The shelves that a `registry.json` lists.

    Raises
    ------
    RegistryError
        When it does not list them as it should.
    """
    listed = check.typed(data, "the top level", "shards", dict)
    where = check.where.removesuffix("registry.json")
    names, entries = (check.typed(listed, "shards", name, list) for name in ("names", "entries"))
    return Shelves(
        read_manifest(check, _kind_of_names(), names, read, where),
        read_manifest(check, _kind_of_entries(spaces), entries, read, where),
    )


def _names(task: Task) -> list[Name]:
    """A task's name and aliases; an alias that is spelled as the name is not told apart from it."""
    own = fold(task.name)
    aliases = dict.fromkeys(spelled for alias in task.aliases if (spelled := fold(alias)) != own)
    return [Name(own, task), *(Name(spelled, task.name) for spelled in aliases)]


def _kind_of_names() -> Kind[Name]:
    return Kind("names", 1, lambda name: (name.spelled,), _read_name, _write_name)


def _kind_of_entries(spaces: frozenset[str]) -> Kind[Entry]:
    """Embeddings; read ones must be in one of the spaces."""

    def read(check: Check, number: int, data: Any) -> Entry:
        entry = read_entry(check, number, data)
        if entry.space not in spaces:
            raise check.wrong(
                f"embedding {number} ({entry.task})", f"its space {entry.space!r} is not among the spaces"
            )
        return entry

    return Kind("entries", 2, lambda entry: (entry.space, entry.task), read, Entry.to_fields)


def _read_name(check: Check, number: int, data: Any) -> Name:
    where = f"name {number}"
    if isinstance(data, dict) and "alias" in data:
        return Name(*(check.typed(data, where, field, str) for field in ("alias", "task")))
    task = read_task(check, check.typed(data, where, "name", str), data)
    return Name(fold(task.name), task)


def _write_name(name: Name) -> dict[str, Any]:
    if isinstance(name.task, str):
        return {"alias": name.spelled, "task": name.task}
    return {"name": name.task.name, **{field: value for field, value in name.task.to_fields().items() if value}}
