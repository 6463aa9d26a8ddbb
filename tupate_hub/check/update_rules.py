"""What the numbers show: blocks that do nothing, twice the same, too large, too small, of fewer directions than r."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from tupate_hub.arrays import Array
from tupate_hub.check.evidence import Evidence
from tupate_hub.check.rule import Found
from tupate_hub.check.updates import Update, sketch
from tupate_hub.embedding import kind_of, layer_of

#: A block of less than this share of the middle norm of its kind is next to nothing.
_NEAR_ZERO = 1e-3
_FEWEST = 4
#: bfloat16 has eight significant bits: beside a weight of 0.005, a small one, a change of half of the last is lost.
_FAINT = 0.005 * 2.0**-9
#: Weights of trained models have root mean squares of some 0.01 to 0.2.
_LARGE = 1.0
_LARGEST_HALF = 65504.0
_SMALLEST_HALF = 2.0**-25
_SAME = 5e-3


def all_zero(evidence: Evidence) -> Iterator[Found]:
    """Every update is zero, though its scale is not."""
    if evidence.updates and evidence.norm == 0 and any(update.block.scale for update in evidence.updates):
        yield Found(f"{len(evidence.updates)} of {len(evidence.updates)} blocks")


def some_zero(evidence: Evidence) -> Iterator[Found]:
    """Some updates are zero and others are not."""
    idle = [update.name for update in evidence.updates if update.norm == 0 and update.block.scale]
    if idle and evidence.norm > 0:
        yield Found(f"{len(idle)} of {len(evidence.updates)} blocks", tuple(idle))


def near_zero(evidence: Evidence) -> Iterator[Found]:
    """Updates far smaller than those of their kind in other layers."""
    faint = []
    for alike in _by_kind(evidence.updates).values():
        norms = [update.norm for update in alike if update.norm > 0]
        if len(norms) >= _FEWEST:
            middle = float(np.median(norms))
            faint += [update.name for update in alike if 0 < update.norm < _NEAR_ZERO * middle]
    if faint:
        yield Found(f"{len(faint)} of {len(evidence.updates)} blocks", tuple(faint))


def faint(evidence: Evidence) -> Iterator[Found]:
    """Changes of weights that are too small to be kept beside them in sixteen bits."""
    changes = _of_weights(evidence.updates)
    size = _rms(changes)
    if changes and 0 < size < _FAINT:
        yield Found(f"{size:.1e} a weight")


def larger_than_weights(evidence: Evidence) -> Iterator[Found]:
    """Changes larger than the weights of any trained model."""
    large = [update for update in _of_weights(evidence.updates) if update.rms > _LARGE]
    if large:
        most = max(update.rms for update in large)
        yield Found(
            f"{len(large)} of {len(evidence.updates)} blocks, up to {most:.3g} a weight",
            tuple(update.name for update in large),
        )


def duplicated(evidence: Evidence) -> Iterator[Found]:
    """Blocks of one kind with the same numbers."""
    twins: list[str] = []
    for alike in _by_kind(evidence.updates).values():
        ordered = sorted((update for update in alike if update.norm > 0), key=lambda update: update.norm)
        for first, second in zip(ordered, ordered[1:], strict=False):
            if second.norm - first.norm <= 1e-9 * second.norm and _same_numbers(first, second):
                twins += [first.name, second.name]
    if twins:
        names = tuple(dict.fromkeys(twins))
        yield Found(f"{len(names)} of {len(evidence.updates)} blocks", names)


def gaps(evidence: Evidence) -> Iterator[Found]:
    """Layers without an update between layers that have one."""
    if evidence.config.get("layers_to_transform") is not None or evidence.config.get("layers_pattern"):
        return
    numbers: dict[str, set[int]] = {}
    for update in evidence.updates:
        match = re.search(r"\.(\d{1,5})$", layer_of(update.name))
        if match and update.block.form == "lowrank":
            numbers.setdefault(kind_of(update.name), set()).add(int(match[1]))
    for kind, there in sorted(numbers.items()):
        missing = set(range(min(there), max(there))) - there if max(there) < 10_000 else set()
        if missing and len(missing) < len(there):
            yield Found(kind, tuple(f"layer {number}" for number in sorted(missing)))


def unused_rank(evidence: Evidence) -> Iterator[Found]:
    """A rank of which at most a half is used."""
    used = [update for update in evidence.updates if update.block.form == "lowrank" and update.norm > 0]
    if not used:
        return
    rank, needed = max(len(update.values) for update in used), max(update.rank_needed for update in used)
    if rank >= 4 and needed <= rank // 2:
        yield Found(f"rank {needed} keeps 99 % of each update's squared norm, of rank {rank}")


def too_large_for_half(evidence: Evidence) -> Iterator[Found]:
    """Numbers beyond float16's largest."""
    large = [key for key, limits in evidence.ranges.items() if _LARGEST_HALF < max(map(abs, limits)) < np.inf]
    if large:
        yield Found(f"{len(large)} of {len(evidence.tensors)} tensors", tuple(large))


def too_small_for_half(evidence: Evidence) -> Iterator[Found]:
    """Factors most of whose numbers float16 rounds to zero."""
    small = [
        key
        for keys in evidence.halves.values()
        for key in keys.values()
        if 0 < max(map(abs, evidence.ranges.get(key, (0.0, 0.0)))) < 1e3 * _SMALLEST_HALF
        and _mostly_lost(evidence.tensors[key])
    ]
    if small:
        yield Found(f"{len(small)} of {len(evidence.tensors)} tensors", tuple(small))


def same_update(evidences: Sequence[Evidence]) -> Iterator[tuple[int, Found]]:
    """Adapters that make the same change as an earlier one of the list."""
    for at, earlier, factor in _parallel(evidences):
        if abs(factor - 1) <= _SAME:
            yield at, Found(evidences[earlier].path)


def same_direction(evidences: Sequence[Evidence]) -> Iterator[tuple[int, Found]]:
    """Adapters that make the change of an earlier one at another strength."""
    for at, earlier, factor in _parallel(evidences):
        if abs(factor - 1) > _SAME:
            yield at, Found(f"{factor:.3g} times {evidences[earlier].path}")


def _parallel(evidences: Sequence[Evidence]) -> Iterator[tuple[int, int, float]]:
    """Pairs of adapters whose updates point the same way: the later, the earliest, and the first's size in the other's."""
    seen: dict[tuple[str, ...], list[tuple[int, Array, float]]] = {}
    for at, evidence in enumerate(evidences):
        if not evidence.norm > 0 or not np.isfinite(evidence.norm):
            continue
        shapes = tuple(f"{update.name} {update.shape}" for update in evidence.updates)
        direction = sketch(evidence.updates) / evidence.norm
        alike = seen.setdefault(shapes, [])
        for earlier, other, norm in alike:
            if np.linalg.norm(direction - other) <= _SAME * np.linalg.norm(other):
                yield at, earlier, evidence.norm / norm
                break
        else:
            alike.append((at, direction, evidence.norm))


def _by_kind(updates: Iterable[Update]) -> dict[tuple[str, str], list[Update]]:
    """Updates that stand in the same place of different layers."""
    found: dict[tuple[str, str], list[Update]] = {}
    for update in updates:
        shapes = " ".join(str(part.shape) for part in update.block.parts.values())
        found.setdefault((kind_of(update.name), shapes), []).append(update)
    return found


def _same_numbers(first: Update, second: Update) -> bool:
    parts = zip(first.block.parts.values(), second.block.parts.values(), strict=True)
    return first.block.scale == second.block.scale and all(np.array_equal(one, other) for one, other in parts)


def _of_weights(updates: Iterable[Update]) -> list[Update]:
    return [update for update in updates if update.block.form == "lowrank"]


def _rms(updates: Sequence[Update]) -> float:
    count = sum(update.shape[0] * update.shape[1] for update in updates)
    return float(np.sqrt(sum(update.norm**2 for update in updates) / count)) if count else 0.0


def _mostly_lost(array: Array) -> bool:
    sizes = np.abs(array[array != 0])
    return bool(np.mean(sizes < _SMALLEST_HALF) > 0.5) if sizes.size else False
