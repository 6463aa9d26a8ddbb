"""Registry: `registry.json`, the index of a zoo: its tasks, spaces and embeddings. Validated on load, immutable.

`docs/registry.md` specifies the file.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, TypeVar

from tupate_hub.errors import RegistryError, UnknownName
from tupate_hub.space import Space

SCHEMA = 1
FILENAME = "registry.json"
FLAGS = frozenset({"weak"})

T = TypeVar("T")


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
    """A space of the zoo. `base_sha256` is that of the base model's weights; `index` maps a similarity to its file."""

    name: str
    base: str
    method: str
    base_sha256: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    index: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def space(self) -> Space:
        """The space itself."""
        return Space(self.base, self.method)


@dataclass(frozen=True)
class Entry:
    """One embedding: the file that holds it, relative to the registry, and what was measured of it."""

    task: str
    space: str
    file: str
    bytes: int
    sha256: str
    source: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Registry:
    """Tasks, spaces and embeddings by name; `default_space` is the one that commands use unless told otherwise."""

    tasks: Mapping[str, Task] = field(default_factory=dict)
    spaces: Mapping[str, SpaceEntry] = field(default_factory=dict)
    entries: tuple[Entry, ...] = ()
    default_space: str = ""

    @cached_property
    def _aliases(self) -> dict[str, str]:
        spelled = {}
        for task in self.tasks.values():
            spelled.update({_fold(alias): task.name for alias in task.aliases})
        spelled.update({_fold(name): name for name in self.tasks})
        return spelled

    def task(self, name: str) -> Task:
        """The task of that name or alias; case, `-`, `_` and blanks do not matter.

        Raises
        ------
        UnknownName
            With the nearest names.
        """
        found = self._aliases.get(_fold(name))
        if found is None:
            raise UnknownName(f"Unknown task {name!r}.", hint=_did_you_mean(_fold(name), self._aliases))
        return self.tasks[found]

    def space(self, name: str | None = None) -> SpaceEntry:
        """The space of that name, the default one without a name.

        Raises
        ------
        UnknownName
            Listing the spaces.
        """
        wanted = name or self.default_space
        if wanted not in self.spaces:
            known = ", ".join(self.spaces) or "none, the registry is empty"
            raise UnknownName(f"Unknown space {wanted!r}.", hint=f"known: {known}")
        return self.spaces[wanted]

    def in_space(self, space: str) -> tuple[Entry, ...]:
        """The embeddings of a space, in order of their tasks."""
        return tuple(entry for entry in self.entries if entry.space == space)

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
        hint = f"it is in: {', '.join(has)}" if has else "tupate-hub list"
        raise UnknownName(f"Task {task!r} has no embedding in space {space!r}.", hint=hint)

    def to_json(self) -> str:
        """The text of `registry.json`, sorted and one field a line, so that changes show in a diff."""
        return json.dumps(
            {
                "schema": SCHEMA,
                "default_space": self.default_space,
                "tasks": {name: _without_name(task) for name, task in self.tasks.items()},
                "spaces": {name: _without_name(space) for name, space in self.spaces.items()},
                "embeddings": [asdict(entry) for entry in sorted(self.entries, key=lambda e: (e.space, e.task))],
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
        if clash := _clash({**self.tasks, task.name: task}):
            raise RegistryError(f"Cannot add {task.name!r}: {clash}.", hint="give each alias to one task")
        others = tuple(one for one in self.entries if (one.task, one.space) != (entry.task, entry.space))
        return replace(
            self,
            tasks=dict(sorted({**self.tasks, task.name: task}.items())),
            spaces=dict(sorted({**self.spaces, space.name: space}.items())),
            entries=tuple(sorted((*others, entry), key=lambda one: (one.space, one.task))),
            default_space=self.default_space or space.name,
        )


def parse_registry(text: str | bytes, where: str) -> Registry:
    """Read and check the text of a `registry.json`.

    Raises
    ------
    RegistryError
        Naming the entry and the field that are wrong, or the newer schema.
    """
    try:
        data = json.loads(text, object_pairs_hook=_distinct, parse_constant=_no_constant)
        json.dumps(data, ensure_ascii=False).encode()  # a lone surrogate can be neither shown nor written
    except (ValueError, RecursionError) as error:
        raise RegistryError(f"{where} is not JSON: {error}.", hint="restore it, or leave out --registry for the bundled zoo") from error
    check = _Check(where)
    check.that(isinstance(data, dict), "the top level", "must be an object")
    schema = check.typed(data, "the top level", "schema", int)
    check.that(schema >= 1, "the top level", f"schema {schema} is none")
    if schema > SCHEMA:
        raise RegistryError(
            f"{where} has schema {schema}; this version of tupate-hub reads up to {SCHEMA}.",
            hint="pip install --upgrade tupate-hub",
        )
    tasks = {
        name: _task(check, name, fields) for name, fields in check.typed(data, "the top level", "tasks", dict).items()
    }
    spaces = {
        name: _space(check, name, fields) for name, fields in check.typed(data, "the top level", "spaces", dict).items()
    }
    rows = check.typed(data, "the top level", "embeddings", list)
    entries = tuple(_entry(check, number, fields, tasks, spaces) for number, fields in enumerate(rows))
    default = check.typed(data, "the top level", "default_space", str)
    check.that(not spaces or default in spaces, "the top level", f"default_space {default!r} is no space of it")
    check.that(
        len({(entry.task, entry.space) for entry in entries}) == len(entries),
        "embeddings",
        "two of them have the same task and space",
    )
    if clash := _clash(tasks):
        raise RegistryError(f"{where}: {clash}.", hint="give each alias to one task")
    return Registry(tasks, spaces, tuple(sorted(entries, key=lambda one: (one.space, one.task))), default)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name!r} stands twice in one object")
        found[name] = value
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _clash(tasks: Mapping[str, Task]) -> str:
    """What is wrong where two tasks answer to one name, as spelled after folding; empty where none do."""
    owners: dict[str, str] = {}
    for task in tasks.values():
        for spelled in (task.name, *task.aliases):
            owner = owners.setdefault(_fold(spelled), task.name)
            if owner != task.name:
                return f"task {task.name!r}: {spelled!r} in its name or aliases is also a name of task {owner!r}"
    return ""


class _Check:
    """Looks fields up and says, where one is wrong, which entry and which field of which file."""

    def __init__(self, where: str) -> None:
        self.where = where

    def that(self, holds: bool, entry: str, complaint: str) -> None:
        if not holds:
            raise RegistryError(f"{self.where}: {entry}: {complaint}.", hint="docs/registry.md lists the fields")

    def typed(self, data: Any, entry: str, name: str, kind: type[T], default: T | None = None) -> T:
        self.that(isinstance(data, dict), entry, "must be an object")
        value = data.get(name, default)
        self.that(value is not None, entry, f"field {name!r} is missing")
        right = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
        self.that(right, entry, f"field {name!r} must be {_TYPE_NAMES[kind]}, not {type(value).__name__}")
        if not isinstance(value, kind):  # unreachable, but tells mypy what `that` made sure of
            raise RegistryError(f"{self.where}: {entry}: {name}")
        return value

    def texts(self, data: Any, entry: str, name: str) -> tuple[str, ...]:
        values = self.typed(data, entry, name, list, [])
        self.that(all(isinstance(value, str) for value in values), entry, f"field {name!r} must be a list of text")
        return tuple(values)


_TYPE_NAMES: Mapping[type, str] = {int: "a whole number", str: "text", dict: "an object", list: "a list"}


def _task(check: _Check, name: str, fields: Any) -> Task:
    where = f"task {name!r}"
    check.that(_is_plain_name(name), where, "its name must be plain: letters, digits, '.', '_' and '-'")
    size = fields.get("train_size") if isinstance(fields, dict) else None
    text: Callable[[str, str | None], str] = lambda field_name, default: check.typed(  # noqa: E731
        fields, where, field_name, str, default
    )
    return Task(
        name=name,
        title=text("title", None),
        aliases=check.texts(fields, where, "aliases"),
        kind=text("kind", ""),
        task_class=text("task_class", ""),
        train_size=None if size is None else check.typed(fields, where, "train_size", int),
        metric=text("metric", ""),
        dataset=text("dataset", ""),
        licence=text("licence", ""),
    )


def _space(check: _Check, name: str, fields: Any) -> SpaceEntry:
    where = f"space {name!r}"
    check.that(all(_is_plain_name(part) for part in name.split("/")), where, "its name must be plain")
    index = check.typed(fields, where, "index", dict, {})
    for similarity, place in index.items():
        _placed(check, f"{where}, index {similarity!r}", place)
    return SpaceEntry(
        name=name,
        base=check.typed(fields, where, "base", str),
        method=check.typed(fields, where, "method", str),
        base_sha256=check.typed(fields, where, "base_sha256", str, ""),
        settings=check.typed(fields, where, "settings", dict, {}),
        index=index,
    )


def _entry(
    check: _Check, number: int, fields: Any, tasks: Mapping[str, Task], spaces: Mapping[str, SpaceEntry]
) -> Entry:
    where = f"embedding {number}"
    task = check.typed(fields, where, "task", str)
    where = f"{where} ({task})"
    space = check.typed(fields, where, "space", str)
    check.that(task in tasks, where, f"its task {task!r} is not among the tasks")
    check.that(space in spaces, where, f"its space {space!r} is not among the spaces")
    _placed(check, where, fields)
    flags = check.texts(fields, where, "flags")
    return Entry(
        task=task,
        space=space,
        file=fields["file"],
        bytes=fields["bytes"],
        sha256=fields["sha256"],
        source=check.typed(fields, where, "source", dict, {}),
        scores=check.typed(fields, where, "scores", dict, {}),
        flags=flags,
    )


def _placed(check: _Check, where: str, fields: Any) -> None:
    """Check `file`, `bytes` and `sha256`: a path that stays inside the zoo, a size, a digest."""
    path = check.typed(fields, where, "file", str)
    parts = PurePosixPath(path).parts
    inside = bool(parts) and not path.startswith("/") and "\\" not in path and ":" not in path
    check.that(inside and all(_is_plain_name(part) for part in parts), where, f"its file {path!r} leaves the zoo")
    check.that(check.typed(fields, where, "bytes", int) >= 0, where, "field 'bytes' is negative")
    digest = check.typed(fields, where, "sha256", str)
    right = len(digest) == 64 and set(digest) <= set("0123456789abcdef")
    check.that(right, where, "field 'sha256' must be 64 hexadecimal digits")


def _is_plain_name(part: str) -> bool:
    return part not in ("", ".", "..") and all(char.isalnum() or char in "._+@-" for char in part) and part.isprintable()


def _fold(name: str) -> str:
    return "".join(char for char in name.casefold() if char not in "-_ ")


def _did_you_mean(wanted: str, spelled: Mapping[str, str]) -> str:
    near = difflib.get_close_matches(wanted, spelled, n=3, cutoff=0.6)
    names = dict.fromkeys(spelled[name] for name in near)
    return f"did you mean {' or '.join(names)}?" if names else "tupate-hub list"


def _without_name(item: Task | SpaceEntry) -> dict[str, Any]:
    fields = asdict(item)
    del fields["name"]
    return fields
