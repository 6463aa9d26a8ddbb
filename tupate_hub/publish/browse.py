"""The browsable table: one JSON line for each embedding, for the Hub's dataset viewer and `datasets.load_dataset`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tupate_hub.arrays import Float64Array
from tupate_hub.compare.pair_index import PairIndex
from tupate_hub.compare.ranking import order
from tupate_hub.publish.layout import coordinates
from tupate_hub.registry import Entry, Registry

FILE = "zoo/embeddings.jsonl"
NEIGHBORS = 5
COORDINATES = 8

_MOST_WHOLE = 2**63 - 1  # what a column of the viewer holds


def space_files(registry: Registry) -> dict[str, str]:
    """The table of each space that has embeddings, where there are two or more, by the name of its split.

    The Hub's viewer offers a split for each; a split's name has letters, digits and underscores alone.
    """
    spaces = [space for space in registry.spaces if registry.in_space(space)]
    found: dict[str, str] = {}
    for space in spaces if len(spaces) > 1 else ():
        name = re.sub(r"[^A-Za-z0-9]+", "_", space).strip("_") or "space"
        same = sum(split == name or re.fullmatch(rf"{name}_\d+", split) is not None for split in found)
        found[f"{name}_{same + 1}" if same else name] = f"zoo/{space}/{FILE.rpartition('/')[2]}"
    return found


def browse_tables(registry: Registry, indexes: Mapping[str, PairIndex]) -> dict[str, str]:
    """The table of the registry, and one of each space where there are several, by their paths; see `browse_table`."""
    whole = browse_table(registry, indexes)
    lines: dict[str, list[str]] = {}
    for line in whole.splitlines(keepends=True):
        lines.setdefault(json.loads(line)["space"], []).append(line)
    parts = {f"zoo/{space}/{FILE.rpartition('/')[2]}": "".join(own) for space, own in lines.items()}
    return {FILE: whole, **(parts if len(parts) > 1 else {})}


def browse_table(registry: Registry, indexes: Mapping[str, PairIndex]) -> str:
    """The table of a registry as JSON lines, every row with the same columns of the same types.

    Columns: `task`, `title`, `space`, `base`, `method`, `kind`, `task_class`, `dataset`, `data_licence`, `train_size`,
    `metric`, `score`, `baseline`, `weak`, `vector` (8 coordinates: classical scaling of the space's cosines),
    `neighbors` (at most five, each with `task` and `score`), `file`, `bytes`, `sha256`, and `source` and `scores` as
    JSON text, because registries differ in what they say there. A number that is not known is null.

    Parameters
    ----------
    registry : Registry
        Whose embeddings are listed, in its order.
    indexes : mapping of str to PairIndex
        For each space with embeddings its index. What it leaves out has neither place nor neighbours.
    """
    rows = (row for space in registry.spaces for row in _rows(registry, space, indexes))
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def nearest(scores: Float64Array, row: int, tasks: tuple[str, ...], count: int = NEIGHBORS) -> list[int]:
    """The rows of the highest scores of a row beside itself, best first; equal ones in order of their names."""
    rounded = np.round(scores[row], 6)
    if len(tasks) > 10 * count:  # names decide only among those that can still be among the best
        least = np.partition(rounded, -(count + 1))[-(count + 1)]
        candidates = np.flatnonzero(rounded >= least)
    else:
        candidates = np.arange(len(tasks))
    ordered = order(rounded[candidates], [tasks[at] for at in candidates])
    return [int(candidates[at]) for at in ordered if candidates[at] != row][:count]


def number(value: Any) -> float | None:
    """A figure from a registry as a finite float; None for what is not a number or not finite."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        figure = float(value)
    except OverflowError:
        return None
    return figure if math.isfinite(figure) else None


def _rows(registry: Registry, space: str, indexes: Mapping[str, PairIndex]) -> Iterator[dict[str, Any]]:
    entries = registry.in_space(space)
    if not entries:
        return
    index = indexes[space]
    scores = index.scores()
    points, _ = coordinates(scores, COORDINATES)
    place = {task: at for at, task in enumerate(index.tasks)}
    for entry in entries:
        at = place.get(entry.task)
        if at is None:
            yield _row(registry, entry, [0.0] * COORDINATES, [])
            continue
        neighbors = [
            {"task": index.tasks[other], "score": round(float(scores[at, other]), 4)}
            for other in nearest(scores, at, index.tasks)
        ]
        vector = [round(float(value), 4) + 0.0 for value in points[at]]  # + 0.0: no minus zero
        yield _row(registry, entry, vector, neighbors)


def _row(registry: Registry, entry: Entry, vector: list[float], neighbors: list[dict[str, Any]]) -> dict[str, Any]:
    task, space = registry.tasks[entry.task], registry.spaces[entry.space]
    return {
        "task": task.name,
        "title": task.title,
        "space": space.name,
        "base": space.base,
        "method": space.method,
        "kind": task.kind,
        "task_class": task.task_class,
        "dataset": task.dataset,
        "data_licence": task.licence,
        "train_size": None if task.train_size is None or abs(task.train_size) > _MOST_WHOLE else task.train_size,
        "metric": task.metric,
        "score": number(entry.scores.get("primary")),
        "baseline": number(entry.scores.get("baseline")),
        "weak": "weak" in entry.flags,
        "vector": vector,
        "neighbors": neighbors,
        "file": entry.file,
        "bytes": min(entry.bytes, _MOST_WHOLE),
        "sha256": entry.sha256,
        "source": json.dumps(entry.source, sort_keys=True, ensure_ascii=False),
        "scores": json.dumps(entry.scores, sort_keys=True, ensure_ascii=False),
    }
