"""The file `registry.json`: read and checked, field by field. `docs/registry.md` specifies it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any, TypeVar

from tupate_hub.errors import RegistryError
from tupate_hub.registry import SCHEMA, Entry, Registry, SpaceEntry, Task, clash

T = TypeVar("T")


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
        raise RegistryError(
            f"{where} is not JSON: {error}.", hint="restore it, or leave out --registry for the bundled zoo"
        ) from error
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
    if clashing := clash(tasks):
        raise RegistryError(f"{where}: {clashing}.", hint="give each alias to one task")
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
    moments = check.typed(fields, where, "moments", dict, {})
    if moments:
        _placed(check, f"{where}, moments", moments)
    return SpaceEntry(
        name=name,
        base=check.typed(fields, where, "base", str),
        method=check.typed(fields, where, "method", str),
        base_sha256=check.typed(fields, where, "base_sha256", str, ""),
        settings=check.typed(fields, where, "settings", dict, {}),
        index=index,
        moments=moments,
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
    return (
        part not in ("", ".", "..") and all(char.isalnum() or char in "._+@-" for char in part) and part.isprintable()
    )
