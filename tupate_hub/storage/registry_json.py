"""The file `registry.json`: read and checked, field by field. `docs/registry.md` specifies it."""

from __future__ import annotations

from typing import Any

from tupate_hub.errors import RegistryError
from tupate_hub.registry import SCHEMA, SHARDED, Registry, SpaceEntry
from tupate_hub.storage.rows import Check, Reader, is_plain_name, parse_text, read_entry, read_task
from tupate_hub.task import clash

#: Some 100,000 embeddings.
_MOST_ITEMS = 4_000_000


def parse_registry(text: str | bytes, where: str, read: Reader | None = None) -> Registry:
    """Read and check the text of a `registry.json`.

    `read` reads the other files of the registry, for one whose rows are in shards. Those are read, and checked, when
    a row of theirs is asked for.

    Raises
    ------
    RegistryError
        Naming the entry and the field that are wrong, or the newer schema.
    """
    data = parse_text(text, where, _MOST_ITEMS)
    check = Check(where)
    check.that(isinstance(data, dict), "the top level", "must be an object")
    schema = check.typed(data, "the top level", "schema", int)
    check.that(schema >= 1, "the top level", f"there is no schema {schema}")
    if schema > SHARDED:
        raise RegistryError(
            f"{where} has schema {schema}; this version of tupate-hub reads up to {SHARDED}.",
            hint="pip install --upgrade tupate-hub",
        )
    spaces = {
        name: _space(check, name, fields) for name, fields in check.typed(data, "the top level", "spaces", dict).items()
    }
    default = check.typed(data, "the top level", "default_space", str)
    check.that(not spaces or default in spaces, "the top level", f"default_space {default!r} is not among its spaces")
    if schema == SCHEMA:
        return _together(check, data, spaces, default)
    from tupate_hub.storage.shelves import read_shelves

    shelves = read_shelves(check, data, frozenset(spaces), read)
    return Registry(shelves.tasks, spaces, shelves.entries.rows(), default)


def _together(check: Check, data: Any, spaces: dict[str, SpaceEntry], default: str) -> Registry:
    """A registry all of whose rows are in `registry.json`."""
    tasks = {
        name: read_task(check, name, fields)
        for name, fields in check.typed(data, "the top level", "tasks", dict).items()
    }
    rows = check.typed(data, "the top level", "embeddings", list)
    entries = [read_entry(check, number, fields) for number, fields in enumerate(rows)]
    for number, entry in enumerate(entries):
        for noun, name, known in (("task", entry.task, tasks), ("space", entry.space, spaces)):
            if name not in known:
                raise check.wrong(f"embedding {number} ({entry.task})", f"its {noun} {name!r} is not among the {noun}s")
    check.that(
        len({(entry.task, entry.space) for entry in entries}) == len(entries),
        "embeddings",
        "two of them have the same task and space",
    )
    if clashing := clash(tasks):
        raise RegistryError(f"{check.where}: {clashing}.", hint="give each alias to one task")
    return Registry(tasks, spaces, tuple(sorted(entries, key=lambda entry: (entry.space, entry.task))), default)


def _space(check: Check, name: str, fields: Any) -> SpaceEntry:
    where = f"space {name!r}"
    check.that(all(is_plain_name(part) for part in name.split("/")), where, "its name must be plain")
    index = check.typed(fields, where, "index", dict, {})
    for similarity, place in index.items():
        check.placed(f"{where}, index {similarity!r}", place)
    moments = check.typed(fields, where, "moments", dict, {})
    if moments:
        check.placed(f"{where}, moments", moments)
    subspaces = check.typed(fields, where, "subspaces", dict, {})
    for called, place in subspaces.items():
        check.that(is_plain_name(called), where, f"the name of its subspace {called!r} must be plain")
        check.placed(f"{where}, subspace {called!r}", place)
        for count in ("dim", "tasks"):
            check.that(
                check.typed(place, f"{where}, subspace {called!r}", count, int) > 0, where, f"{count} must be above 0"
            )
    nearest = check.typed(fields, where, "nearest", dict, {})
    for similarity, place in nearest.items():
        told = f"{where}, nearest {similarity!r}"
        check.placed(told, place)
        check.that(check.typed(place, told, "tasks", int) > 0, told, "tasks must be above 0")
        for part in check.typed(place, told, "sketches", list):
            check.placed(f"{told}, sketches", part)
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
        nearest=nearest,
    )
