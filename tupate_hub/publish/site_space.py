"""A space as the page shows it: how its tasks compare, what each block adds, where they lie on map and heatmap."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np

from tupate_hub.arrays import Array, Float64Array
from tupate_hub.compare.kernel import kernel, pack_comparable
from tupate_hub.compare.noise import noise_level
from tupate_hub.compare.pair_index import PairIndex
from tupate_hub.compare.ranking import ROUNDING, percentiles
from tupate_hub.embedding import TaskEmbedding
from tupate_hub.publish.layout import seriate
from tupate_hub.publish.sample import Sample
from tupate_hub.publish.site_map import places
from tupate_hub.registry import SpaceEntry

#: The similarity that the page shows, and by which it ranks what is dropped on it.
SHOWN = "update"
#: Up to so many tasks the page has every pair; of a larger space the nearest neighbours of each task.
MOST_PAIRED = 1000
NEAREST = 50
#: What each block adds is known of every pair where that makes at most so many numbers.
MOST_PARTS = 600_000
#: Seriation takes time with the cube of the tasks, and a heatmap of more of them shows nothing.
MOST_IN_HEATMAP = 400
_ONE = 2**23 - 1
_PART = 2**15 - 1


@dataclass(frozen=True)
class ShownSpace:
    """A space with its index and, where they are shipped, its embeddings in the index's order."""

    entry: SpaceEntry
    index: PairIndex
    embeddings: tuple[TaskEmbedding, ...]


def shown_space(sample: Sample, entry: SpaceEntry, shipped: bool) -> ShownSpace:
    """Read what the page needs of a space; its embeddings only where they are `shipped`. Errors as `Zoo.pair_index`."""
    index = sample.index(entry.name, SHOWN)
    if not shipped:
        return ShownSpace(entry, index, ())
    held = {one.task: one for one in sample.zoo.load_space(entry.name)}
    return ShownSpace(entry, index, tuple(held[task] for task in index.tasks))


def comparisons(sample: Sample, space: ShownSpace) -> dict[str, Any]:
    """All that the page says of a space's pairs, as JSON values; numbers in base64, little-endian.

    `compared` are the tasks in the order of all the numbers. `pairs` are the cosines above the diagonal, row by row, as
    in the packed index: the low byte, then the high two, of the whole number nearest to c (2^23 - 1). A space of more
    than `MOST_PAIRED` tasks has `near` instead: of each task the nearest ones, their scores and percentiles. `parts` is
    what each block adds to each pair, times 2^15 - 1; `squares` and `changes` are those of the index; `map` the places
    of the tasks; `order` the rows of the heatmap.
    """
    index = space.index
    count = len(index.tasks)
    kinds = [sample.registry.tasks[task].kind for task in index.tasks]
    noise = noise_level(index.pairs, kinds) if count > 1 else None
    document: dict[str, Any] = {
        "compared": list(index.tasks),
        "leftOut": sample.left_out(index),
        "noise": None if noise is None else {"median": noise.median, "upper": noise.upper, "pairs": noise.pairs},
        "pairs": None,
        "near": None,
        "order": None,
    }
    if count <= MOST_PAIRED:
        scores = index.scores()
        document |= {
            "pairs": packed_numbers(_fixed(index.pairs)),
            "map": packed_numbers(places(scores, noise).astype("<f4")),
        }
        if 1 < count <= MOST_IN_HEATMAP:
            document["order"] = seriate(scores)
    else:
        document |= {"near": _nearest(index), "map": packed_numbers(places(index.scores(), noise).astype("<f4"))}
    return {**document, **_sizes(index), **_blocks(space)}


def _fixed(pairs: Array) -> Array:
    """Cosines in three bytes each, of shape (pairs, 3)."""
    fixed = np.rint(pairs.astype(np.float64).clip(-1, 1) * _ONE).astype("<i4")
    return np.asarray(fixed.view(np.uint8).reshape(-1, 4)[:, :3])


def _nearest(index: PairIndex) -> dict[str, Any]:
    """The nearest neighbours of each task of a large space: `rows`, `scores`, `percentiles`, each (tasks, NEAREST)."""
    count = len(index.tasks)
    rows, scores = np.zeros((count, NEAREST), dtype="<u4"), np.zeros((count, NEAREST), dtype="<f4")
    for at in range(count):
        row = index.row(at)
        row[at] = -np.inf
        rows[at] = np.lexsort((np.arange(count), -row))[:NEAREST]
        scores[at] = row[rows[at]]
    shares = percentiles(scores.astype(np.float64).ravel(), index.pairs, ROUNDING).astype("<f4")
    return {
        "count": NEAREST,
        "rows": packed_numbers(rows),
        "scores": packed_numbers(scores),
        "percentiles": packed_numbers(shares),
    }


def _sizes(index: PairIndex) -> dict[str, Any]:
    """How large the updates are, where the index says so: for the notes of a ranking."""
    if index.sizes is None or len(index.tasks) > MOST_PAIRED:
        return {"sizeBlocks": 0, "squares": None, "changes": None}
    return {
        "sizeBlocks": len(index.sizes.blocks),
        "squares": packed_numbers(index.sizes.squares.astype("<f4")),
        "changes": packed_numbers(index.sizes.changes.astype("<f4")),
    }


def _blocks(space: ShownSpace) -> dict[str, Any]:
    """The names of the blocks and what each adds to each pair, where that is not too much."""
    if not space.embeddings:
        return {"blocks": [], "parts": None}
    packed = pack_comparable(space.embeddings, SHOWN)
    count = len(packed.tasks)
    if packed.tasks != space.index.tasks or len(packed.blocks) * count * (count - 1) // 2 > MOST_PARTS:
        return {"blocks": list(packed.blocks), "parts": None}
    above = np.triu_indices(count, 1)
    parts: Float64Array = kernel(packed, packed).contributions()[:, above[0], above[1]].T
    return {"blocks": list(packed.blocks), "parts": packed_numbers(np.rint(parts.clip(-1, 1) * _PART).astype("<i2"))}


def packed_numbers(numbers: Array) -> str:
    """An array's bytes in base64."""
    return base64.b64encode(np.ascontiguousarray(numbers).tobytes()).decode()
