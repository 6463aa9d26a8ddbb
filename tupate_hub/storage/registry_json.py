"""The file `registry.json`: read and checked, field by field. `docs/registry.md` specifies it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, TypeVar

from tupate_hub.errors import RegistryError
from tupate_hub.registry import SCHEMA, Entry, Registry, Repeat, SpaceEntry, Task, clash
from tupate_hub.storage.strangers_json import parse_json

T = TypeVar("T")

_PLAIN_NAME = re.compile(r"[\w.+@-]+")
_DIGEST = re.compile(r"[0-9a-f]{64}")
#: Some 100,000 embeddings.
_MOST_ITEMS = 4_000_000


def parse_registry(text: str | bytes, where: str) -> Registry:
    """Read and check the text of a `registry.json`.

    Raises
    ------
    RegistryError
        Naming the entry and the field that are wrong, or the newer schema.
    """
    try:
        text = (text.encode() if isinstance(text, str) else text).decode("utf-8-sig")
        data = parse_json(text, _MOST_ITEMS, _distinct, _no_constant)
        if "\\u" in text:
            json.dumps(data, ensure_ascii=False).encode()  # a lone surrogate can be neither shown nor written
    except ValueError as error:
        raise RegistryError(
            f"{where} is not JSON: {error}.", hint="restore it, or leave out `location` for the bundled zoo"
        ) from error
    check = _Check(where)
    check.that(isinstance(data, dict), "the top level", "must be an object")
    schema = check.typed(data, "the top level", "schema", int)
    check.that(schema >= 1, "the top level", f"there is no schema {schema}")
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
    check.that(not spaces or default in spaces, "the top level", f"default_space {default!r} is not among its spaces")
    check.that(
        len({(entry.task, entry.space) for entry in entries}) == len(entries),
        "embeddings",
        "two of them have the same task and space",
    )
    if clashing := clash(tasks):
        raise RegistryError(f"{where}: {clashing}.", hint="give each alias to one task")
    return Registry(tasks, spaces, tuple(sorted(entries, key=lambda entry: (entry.space, entry.task))), default)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"{twice!r} stands twice in one object")
    return fields


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


class _Check:
    """Looks fields up and says, where one is wrong, which entry and which field of which file."""

    def __init__(self, where: str) -> None:
        self.where = where

    def that(self, holds: bool, entry: str, complaint: str) -> None:
        if not holds:
            raise self.wrong(entry, complaint)

    def wrong(self, entry: str, complaint: str) -> RegistryError:
        return RegistryError(f"{self.where}: {entry}: {complaint}.", hint="docs/registry.md lists the fields")

    def typed(self, data: Any, entry: str, name: str, kind: type[T], default: T | None = None) -> T:
        value = data.get(name, default) if isinstance(data, dict) else None
        if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
            return value
        self.that(isinstance(data, dict), entry, "must be an object")
        self.that(value is not None, entry, f"field {name!r} is missing")
        raise self.wrong(entry, f"field {name!r} must be {_TYPE_NAMES[kind]}, not {type(value).__name__}")

    def fields(self, data: Any, entry: str, kinds: Mapping[str, tuple[type, Any]]) -> dict[str, Any]:
        """The fields of an object, each of its kind; a registry of 1,000 embeddings has 16,000 of them to look at."""
        self.that(isinstance(data, dict), entry, "must be an object")
        values = {name: data.get(name, default) for name, (_, default) in kinds.items()}
        for name, (kind, default) in kinds.items():
            if type(values[name]) is not kind:
                self.typed(data, entry, name, kind, default)
        return values

    def texts(self, entry: str, name: str, values: list[Any]) -> tuple[str, ...]:
        self.that(all(isinstance(value, str) for value in values), entry, f"field {name!r} must be a list of text")
        return tuple(values)


_TYPE_NAMES: Mapping[type, str] = {int: "a whole number", str: "text", dict: "an object", list: "a list"}

#: Fields by their kind and what stands for a missing one; where that is None, it must be there.
_TASK: Mapping[str, tuple[type, Any]] = {
    "title": (str, None),
    "aliases": (list, []),
    **{name: (str, "") for name in ("kind", "task_class", "metric", "dataset", "licence")},
}
_PLACE: Mapping[str, tuple[type, Any]] = {"file": (str, None), "bytes": (int, None), "sha256": (str, None)}
_ENTRY: Mapping[str, tuple[type, Any]] = {
    "task": (str, None),
    "space": (str, None),
    **_PLACE,
    "source": (dict, {}),
    "scores": (dict, {}),
    "flags": (list, []),
    "repeats": (list, []),
    "strength": (dict, {}),
    "head": (dict, {}),
}
_REPEAT: Mapping[str, tuple[type, Any]] = {
    **_PLACE,
    "seed": (int, None),
    "init_seed": (int, None),
    "scores": (dict, {}),
}


def _task(check: _Check, name: str, data: Any) -> Task:
    where = f"task {name!r}"
    check.that(_is_plain_name(name), where, "its name must be plain: letters, digits, '.', '_' and '-'")
    fields = check.fields(data, where, _TASK)
    fields["aliases"] = check.texts(where, "aliases", fields["aliases"])
    size = data.get("train_size")
    return Task(name, train_size=None if size is None else check.typed(data, where, "train_size", int), **fields)


def _space(check: _Check, name: str, fields: Any) -> SpaceEntry:
    where = f"space {name!r}"
    check.that(all(_is_plain_name(part) for part in name.split("/")), where, "its name must be plain")
    index = check.typed(fields, where, "index", dict, {})
    for similarity, place in index.items():
        _placed(check, f"{where}, index {similarity!r}", place)
    moments = check.typed(fields, where, "moments", dict, {})
    if moments:
        _placed(check, f"{where}, moments", moments)
    subspaces = check.typed(fields, where, "subspaces", dict, {})
    for called, place in subspaces.items():
        check.that(_is_plain_name(called), where, f"the name of its subspace {called!r} must be plain")
        _placed(check, f"{where}, subspace {called!r}", place)
        for count in ("dim", "tasks"):
            check.that(
                check.typed(place, f"{where}, subspace {called!r}", count, int) > 0, where, f"{count} must be above 0"
            )
    return SpaceEntry(
        name=name,
        base=check.typed(fields, where, "base", str),
        method=check.typed(fields, where, "method", str),
        base_sha256=check.typed(fields, where, "base_sha256", str, ""),
        settings=check.typed(fields, where, "settings", dict, {}),
        index=index,
        moments=moments,
        gain=check.typed(fields, where, "gain", dict, {}),
        subspaces=subspaces,
    )


def _entry(check: _Check, number: int, data: Any, tasks: Mapping[str, Task], spaces: Mapping[str, SpaceEntry]) -> Entry:
    where = f"embedding {number}"
    where = f"{where} ({check.typed(data, where, 'task', str)})"
    fields = check.fields(data, where, _ENTRY)
    for name, known in (("task", tasks), ("space", spaces)):
        if fields[name] not in known:
            raise check.wrong(where, f"its {name} {fields[name]!r} is not among the {name}s")
    _require_placed(check, where, fields)
    fields["flags"] = check.texts(where, "flags", fields["flags"])
    if fields["head"]:
        _placed(check, f"{where}, head", fields["head"])
    rows = enumerate(fields["repeats"])
    fields["repeats"] = tuple(_repeat(check, f"{where}, repeat {number}", row) for number, row in rows)
    return Entry(**fields)


def _repeat(check: _Check, where: str, data: Any) -> Repeat:
    fields = check.fields(data, where, _REPEAT)
    _require_placed(check, where, fields)
    return Repeat(**fields)


def _placed(check: _Check, where: str, data: Any) -> None:
    _require_placed(check, where, check.fields(data, where, _PLACE))


def _require_placed(check: _Check, where: str, fields: Mapping[str, Any]) -> None:
    """Check `file`, `bytes` and `sha256`: a path that stays inside the zoo, a size, a digest."""
    if not all(map(_is_plain_name, fields["file"].split("/"))):
        raise check.wrong(where, f"its file {fields['file']!r} leaves the zoo")
    check.that(fields["bytes"] >= 0, where, "field 'bytes' is negative")
    check.that(bool(_DIGEST.fullmatch(fields["sha256"])), where, "field 'sha256' must be 64 hexadecimal digits")


def _is_plain_name(part: str) -> bool:
    return bool(_PLAIN_NAME.fullmatch(part)) and part not in (".", "..") and part.isprintable()
