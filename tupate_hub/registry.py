"""Registry: the index of a zoo: its tasks, spaces and embeddings. Immutable; read by `registryfile`."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from tupate_hub.errors import RegistryError, UnknownName
from tupate_hub.space import Space

SCHEMA = 1
FILENAME = "registry.json"


@dataclass(frozen=True)
class Task:
    """What is known of a task, whoever tuned on it. `train_size` is the published one, `dataset` an id on the Hub."""

    name: str
    title: str
    aliases: tuple[str, ...] = ()
    kind: str = ""
    task_class: str = ""
    train_size: int | None = None
    metric: str = ""
    dataset: str = ""
    licence: str = ""


@dataclass(frozen=True)
class SpaceEntry:
    """A space of the zoo. `base_sha256` is that of the base model's weights.

    `index` maps a similarity to its file, `moments` is the file of the base model's statistics; each of them an object
    of `file`, `bytes` and `sha256`. `gain` is what measured transfer says of the space (`evaluation.gain`): the weights
    of similarity and strength in a ranking by gain, and `forecasts`, one a regime; empty where nothing was measured.
    `subspaces` maps the name of an intrinsic subspace to its file, with its `dim` and the number of its `tasks`.
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


@dataclass(frozen=True)
class Repeat:
    """Another run of an entry's task in its space: it is measured, never ranked.

    `seed` is that of the order of the examples, `init_seed` that of the initial parameters.
    """

    file: str
    bytes: int
    sha256: str
    seed: int
    init_seed: int
    scores: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One embedding: the file that holds it, relative to the registry, and what was measured of it.

    `repeats` are other runs of the same task in the same space. `strength` is how much better than other sources the
    task makes targets, as measured transfer has it: `value`, `error`, `targets`; empty where nothing is known. `head`
    is the file of the task's head (`file`, `bytes`, `sha256`) with its `scores`; empty where none was kept.
    """

    task: str
    space: str
    file: str
    bytes: int
    sha256: str
    source: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    repeats: tuple[Repeat, ...] = ()
    strength: Mapping[str, Any] = field(default_factory=dict)
    head: Mapping[str, Any] = field(default_factory=dict)

    def runs(self) -> tuple[Entry, ...]:
        """The entry's own run and its repeats, each as an entry that has no repeats; the head is the first one's."""
        alone = replace(self, repeats=(), head={})
        return replace(self, repeats=()), *(
            replace(alone, file=repeat.file, bytes=repeat.bytes, sha256=repeat.sha256, scores=repeat.scores)
            for repeat in self.repeats
        )


@dataclass(frozen=True)
class Registry:
    """Tasks, spaces and embeddings by name; `default_space` is the one that commands use unless told otherwise."""

    tasks: Mapping[str, Task] = field(default_factory=dict)
    spaces: Mapping[str, SpaceEntry] = field(default_factory=dict)
    entries: tuple[Entry, ...] = ()
    default_space: str = ""

    @cached_property
    def spelled(self) -> dict[str, str]:
        """Every name and alias, folded, with the name of its task."""
        spelled = {}
        for task in self.tasks.values():
            spelled.update({fold(alias): task.name for alias in task.aliases})
        spelled.update({fold(name): name for name in self.tasks})
        return spelled

    def task(self, name: str) -> Task:
        """The task of that name or alias; case, `-`, `_` and blanks do not matter.

        Raises
        ------
        UnknownName
            With the nearest names.
        """
        spelled = self.spelled.get(fold(name))
        if spelled is None:
            raise UnknownName(f"Unknown task {name!r}.", hint=_did_you_mean(fold(name), self.spelled))
        return self.tasks[spelled]

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

    def in_space(self, space: str) -> tuple[Entry, ...]:
        """The embeddings of a space, in order of their tasks."""
        return tuple(entry for entry in self.entries if entry.space == space)

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

    def entry(self, task: str, space: str) -> Entry:
        """The embedding of a task, by its name, in a space.

        Raises
        ------
        UnknownName
            Listing the spaces that have the task.
        """
        for entry in self.entries:
            if entry.task == task and entry.space == space:
                return entry
        has = [entry.space for entry in self.entries if entry.task == task]
        hint = "it is elsewhere: " + ", or ".join(f"`space={name!r}`" for name in has) if has else "tupate-hub list"
        raise UnknownName(f"Task {task!r} has no embedding in space {space!r}.", hint=hint)

    def find(self, task: str, space: str | None = None) -> Entry:
        """The embedding of a task, by name or alias: in a space, else in the default space, else where it alone is.

        Raises
        ------
        UnknownName
            For an unknown task or space, or a task that is not in the space; listing the spaces that have it.
        """
        name = self.task(task).name
        has = [entry.space for entry in self.entries if entry.task == name]
        elsewhere = space is None and self.default_space not in has and len(has) == 1
        return self.entry(name, has[0] if elsewhere else self.space(space).name)

    def files(self) -> Iterator[tuple[str, int, str]]:
        """Every file that the registry names, once: its path, bytes and sha256.

        Embeddings with their repeats come first, then heads, then the indexes, statistics and subspaces of the spaces.
        A path that is named with two contents comes with each of them.
        """
        named = [(run.file, run.bytes, run.sha256) for entry in self.entries for run in entry.runs()]
        heads = [entry.head for entry in self.entries if entry.head]
        named += [(place["file"], place["bytes"], place["sha256"]) for place in heads]
        for space in self.spaces.values():
            places = [*space.index.values(), *([space.moments] if space.moments else []), *space.subspaces.values()]
            named += [(place["file"], place["bytes"], place["sha256"]) for place in places]
        yield from dict.fromkeys(named)

    def to_json(self) -> str:
        """The text of `registry.json`, sorted and one field a line, so that changes show in a diff."""
        return json.dumps(
            {
                "schema": SCHEMA,
                "default_space": self.default_space,
                "tasks": {name: _without_name(task) for name, task in self.tasks.items()},
                "spaces": {name: _without_name(space) for name, space in self.spaces.items()},
                "embeddings": [_row(entry) for entry in sorted(self.entries, key=lambda e: (e.space, e.task))],
            },
            indent=1,
            sort_keys=True,
            ensure_ascii=False,
        ) + "\n"  # fmt: skip

    def with_entry(self, entry: Entry, task: Task, space: SpaceEntry) -> Registry:
        """A registry that also has this embedding, in place of another of its task and space.

        Raises
        ------
        RegistryError
            When an alias of the task is a name or alias of another task.
        """
        if clashing := clash({**self.tasks, task.name: task}):
            raise RegistryError(f"Cannot add {task.name!r}: {clashing}.", hint="give each alias to one task")
        others = tuple(listed for listed in self.entries if (listed.task, listed.space) != (entry.task, entry.space))
        return replace(
            self,
            tasks=dict(sorted({**self.tasks, task.name: task}.items())),
            spaces=dict(sorted({**self.spaces, space.name: space}.items())),
            entries=tuple(sorted((*others, entry), key=lambda listed: (listed.space, listed.task))),
            default_space=self.default_space or space.name,
        )


def fold(name: str) -> str:
    """A name as it is compared with others: without case, `-`, `_` and blanks."""
    return name.casefold().replace("-", "").replace("_", "").replace(" ", "")


def _did_you_mean(wanted: str, spelled: Mapping[str, str]) -> str:
    near = difflib.get_close_matches(wanted, spelled, n=3, cutoff=0.6)
    names = dict.fromkeys(spelled[name] for name in near)
    return f"did you mean {' or '.join(names)}?" if names else "tupate-hub list"


def _without_name(item: Task | SpaceEntry) -> dict[str, Any]:
    fields = asdict(item)
    del fields["name"]
    return {field: value for field, value in fields.items() if value or field not in ("gain", "subspaces")}


def _row(entry: Entry) -> dict[str, Any]:
    """An entry's fields; most have no repeats, strength or head and do not mention them."""
    fields = asdict(entry)
    return {name: value for name, value in fields.items() if value or name not in ("repeats", "strength", "head")}


def placed(file: str, data: bytes) -> dict[str, Any]:
    """How a registry names a file beside the embeddings: `file`, `bytes` and `sha256` of its content."""
    return {"file": file, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def clash(tasks: Mapping[str, Task]) -> str:
    """What is wrong where two tasks answer to one name, as spelled after folding; empty where none do."""
    owners: dict[str, str] = {}
    for task in tasks.values():
        for spelled in (task.name, *task.aliases):
            owner = owners.setdefault(fold(spelled), task.name)
            if owner != task.name:
                return f"task {task.name!r}: {spelled!r} in its name or aliases is also a name of task {owner!r}"
    return ""
