"""Split: which tasks a subspace is found over, and which it is to be tried on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tupate_hub.errors import FormatError
from tupate_hub.registry import Registry

ALL = "all"


@dataclass(frozen=True)
class Split:
    """Tasks by their names in a registry; `name` is that of the file it was read from."""

    seen: tuple[str, ...]
    unseen: tuple[str, ...] = ()
    name: str = ""


def read_split(written: str, registry: Registry, space: str) -> Split:
    """The split that a user writes: `all`, names separated by commas, or a JSON file with `seen` and `unseen`.

    Raises
    ------
    FormatError
        When the file is none, a task stands in both parts or twice, or there are fewer than two tasks.
    UnknownName
        For a task that the registry does not have, or not in the space.
    """
    seen: Sequence[str]
    unseen: Sequence[str] = ()
    name = ""
    if written == ALL:
        seen = [entry.task for entry in registry.in_space(space)]
    elif written.endswith(".json"):
        name = Path(written).stem
        seen, unseen = _read(Path(written))
    else:
        seen = [part.strip() for part in written.split(",") if part.strip()]
    split = Split(_names(seen, registry, space), _names(unseen, registry, space), name)
    if both := set(split.seen) & set(split.unseen):
        raise FormatError(f"{min(both)!r} is among the tasks to find the subspace over and among the unseen ones.")
    if len(split.seen) < 2:
        raise FormatError(f"{len(split.seen)} tasks span no subspace.", hint="`tasks='all'`, or `tasks=sst2,trec,...`")
    return split


def _names(tasks: Sequence[str], registry: Registry, space: str) -> tuple[str, ...]:
    names = tuple(registry.entry(registry.task(task).name, space).task for task in tasks)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise FormatError(f"{twice!r} stands twice among the tasks.")
    return names


def _read(path: Path) -> tuple[list[str], list[str]]:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        parts = [fields["seen"], fields.get("unseen", [])]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError(f"{path} is not a JSON object with the lists `seen` and `unseen`.") from error
    if not all(isinstance(part, list) and all(isinstance(name, str) for name in part) for part in parts):
        raise FormatError(f"{path}: `seen` and `unseen` must be lists of tasks.")
    return parts[0], parts[1]
