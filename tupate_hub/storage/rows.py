"""Rows: the objects of a registry's JSON, read and checked field by field. `docs/registry.md` specifies them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tupate_hub.entry import KEPT, Entry, Repeat
from tupate_hub.errors import RegistryError
from tupate_hub.storage.strangers_json import parse_json
from tupate_hub.task import Task

T = TypeVar("T")
#: How a file of a registry is read: its path, bytes and sha256, to what it holds.
Reader = Callable[[str, int, str], bytes]

_PLAIN_NAME = re.compile(r"[\w.+@-]+")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def parse_text(text: str | bytes, where: str, most_items: int) -> Any:
    """The value of a JSON text of a registry.

    Raises
    ------
    RegistryError
        When it is not JSON, names a field twice, or has more than `most_items` values.
    """
    try:
        text = (text.encode() if isinstance(text, str) else text).decode("utf-8-sig")
        data = parse_json(text, most_items, _distinct, _no_constant)
        if "\\u" in text:
            json.dumps(data, ensure_ascii=False).encode()  # a lone surrogate can be neither shown nor written
    except ValueError as error:
        raise RegistryError(
            f"{where} is not JSON: {error}.", hint="restore it, or leave out `location` for the bundled zoo"
        ) from error
    return data


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"{twice!r} stands twice in one object")
    return fields


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


class Check:
    """Looks fields up and says, where one is wrong, which entry and which field of which file."""

    def __init__(self, where: str) -> None:
        self.where = where

    def that(self, holds: bool, entry: str, complaint: str) -> None:
        """Raise a RegistryError where something does not hold."""
        if not holds:
            raise self.wrong(entry, complaint)

    def wrong(self, entry: str, complaint: str) -> RegistryError:
        """The error that says what is wrong with an entry."""
        return RegistryError(f"{self.where}: {entry}: {complaint}.", hint="docs/registry.md lists the fields")

    def typed(self, data: Any, entry: str, name: str, kind: type[T], default: T | None = None) -> T:
        """A field of an object, of a kind; the default where it is missing, without which it must be there."""
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
        """A list of text, which a field must be."""
        self.that(all(isinstance(value, str) for value in values), entry, f"field {name!r} must be a list of text")
        return tuple(values)

    def placed(self, entry: str, data: Any) -> None:
        """Check an object that names a file: `file`, `bytes` and `sha256`."""
        self.require_placed(entry, self.fields(data, entry, PLACE))

    def require_placed(self, entry: str, fields: Mapping[str, Any]) -> None:
        """Check `file`, `bytes` and `sha256`: a path that stays inside the zoo, a size, a digest."""
        if not all(map(is_plain_name, fields["file"].split("/"))):
            raise self.wrong(entry, f"its file {fields['file']!r} leaves the zoo")
        self.that(fields["bytes"] >= 0, entry, "field 'bytes' is negative")
        self.that(bool(_DIGEST.fullmatch(fields["sha256"])), entry, "field 'sha256' must be 64 hexadecimal digits")


_TYPE_NAMES: Mapping[type, str] = {int: "a whole number", str: "text", dict: "an object", list: "a list"}

#: Fields by their kind and what stands for a missing one; where that is None, it must be there.
_TASK: Mapping[str, tuple[type, Any]] = {
    "title": (str, None),
    "aliases": (list, []),
    **{name: (str, "") for name in ("kind", "task_class", "metric", "dataset", "licence")},
}
PLACE: Mapping[str, tuple[type, Any]] = {"file": (str, None), "bytes": (int, None), "sha256": (str, None)}
_ABOUT: Mapping[str, tuple[type, Any]] = {
    "source": (dict, {}),
    "scores": (dict, {}),
    "flags": (list, []),
    "repeats": (list, []),
    "strength": (dict, {}),
    "head": (dict, {}),
    "kept": (str, KEPT[0]),
}
_ENTRY: Mapping[str, tuple[type, Any]] = {"task": (str, None), "space": (str, None), **PLACE, **_ABOUT}
#: One of whose numbers there is no file.
_WITHOUT_FILE: Mapping[str, tuple[type, Any]] = {
    **_ENTRY,
    "file": (str, ""),
    "bytes": (int, 0),
    "sha256": (str, ""),
}
_REPEAT: Mapping[str, tuple[type, Any]] = {
    **PLACE,
    "seed": (int, None),
    "init_seed": (int, None),
    "scores": (dict, {}),
}


def read_task(check: Check, name: str, data: Any) -> Task:
    """The task that an object describes."""
    where = f"task {name!r}"
    check.that(is_plain_name(name), where, "its name must be plain: letters, digits, '.', '_' and '-'")
    fields = check.fields(data, where, _TASK)
    fields["aliases"] = check.texts(where, "aliases", fields["aliases"])
    size = data.get("train_size")
    return Task(name, train_size=None if size is None else check.typed(data, where, "train_size", int), **fields)


def read_entry(check: Check, number: int, data: Any) -> Entry:
    """The embedding that an object describes; whether its task and space exist is its reader's to ask."""
    where = f"embedding {number}"
    where = f"{where} ({check.typed(data, where, 'task', str)})"
    kept = data.get("kept", KEPT[0])
    fields = check.fields(data, where, _ENTRY if kept == KEPT[0] else _WITHOUT_FILE)
    if fields["kept"] == KEPT[0]:
        check.require_placed(where, fields)
    else:
        _require_no_file(check, where, fields)
    fields["flags"] = check.texts(where, "flags", fields["flags"])
    if fields["head"]:
        check.placed(f"{where}, head", fields["head"])
    rows = enumerate(fields["repeats"])
    fields["repeats"] = tuple(_repeat(check, f"{where}, repeat {number}", row) for number, row in rows)
    return Entry(**fields)


def _require_no_file(check: Check, where: str, fields: Mapping[str, Any]) -> None:
    """Check an entry that says that its numbers are not here."""
    kept = fields["kept"]
    check.that(kept in KEPT, where, f"field 'kept' must be one of {', '.join(KEPT)}, not {kept!r}")
    check.that(not fields["file"] and not fields["bytes"], where, f"it has a file, and {kept!r} alone is kept")
    for beside in ("repeats", "head"):
        check.that(not fields[beside], where, f"it has {beside}, and {kept!r} alone is kept")
    known = bool(_DIGEST.fullmatch(fields["sha256"]))
    check.that(known or kept != "sketch", where, "field 'sha256' must be 64 hexadecimal digits")
    check.that(known or not fields["sha256"], where, "field 'sha256' must be 64 hexadecimal digits, or be left out")


def _repeat(check: Check, where: str, data: Any) -> Repeat:
    fields = check.fields(data, where, _REPEAT)
    check.require_placed(where, fields)
    return Repeat(**fields)


def is_plain_name(part: str) -> bool:
    """Whether a part of a path is a plain name."""
    return bool(_PLAIN_NAME.fullmatch(part)) and part not in (".", "..") and part.isprintable()
