"""What the numbers show: blocks that do nothing, twice the same, too large, too small, of fewer directions than r."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from statistics import median

import numpy as np

from tupate_hub.arrays import Array
from tupate_hub.check.evidence import Evidence
from tupate_hub.check.rule import ISSUES, Found, Rule
from tupate_hub.check.updates import Fingerprint, Update

#: A block of less than this share of the middle norm of its kind is next to nothing.
_NEAR_ZERO = 1e-3
_FEWEST = 4
#: bfloat16 has eight significant bits: half of the last, beside a weight of 0.005, as those of GPT-3 are
#: (Hu et al. 2021, table 7: a norm of 61.95 of 12288 x 12288).
_FAINT = 0.005 * 2.0**-9
#: Ten times the size of all-MiniLM-L6-v2's weights, 0.04 to 0.10.
_LARGE = 1.0
_LARGEST_HALF = 65504.0
_SMALLEST_HALF = 2.0**-25
#: Of larger factors too few numbers can be lost.
_SMALL = 100 * _SMALLEST_HALF
_SAME = 5e-3
_ROUNDING = 1e-5


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
    for alike in evidence.by_kind.values():
        norms = [update.norm for update in alike if update.norm > 0]
        middle = median(norms) if len(norms) >= _FEWEST else 0.0
        if middle < np.inf:
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
    for alike in evidence.by_kind.values():
        ordered = sorted((update for update in alike if update.norm > 0), key=lambda update: update.norm)
        for first, second in zip(ordered, ordered[1:], strict=False):
            if second.norm - first.norm <= _ROUNDING * second.norm and _same_numbers(first, second):
                twins += [first.name, second.name]
    if twins:
        names = tuple(dict.fromkeys(twins))
        yield Found(f"{len(names)} of {len(evidence.updates)} blocks", names)


def gaps(evidence: Evidence) -> Iterator[Found]:
    """Layers without an update between layers that have one."""
    named = evidence.config.get("layers_to_transform") is not None or evidence.config.get("layers_pattern")
    if named or evidence.adapter is None:
        return
    for kind, alike in evidence.by_kind.items():
        layers = (evidence.layers[update.name].rpartition(".")[2] for update in alike if update.block.form == "lowrank")
        there = {int(layer) for layer in layers if layer.isdecimal() and len(layer) < 6}
        if len(there) < 2:
            continue
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
    large = [key for key, most in evidence.largest.items() if _LARGEST_HALF < most < np.inf]
    if large:
        yield Found(f"{len(large)} of {len(evidence.tensors)} tensors", tuple(large))


def too_small_for_half(evidence: Evidence) -> Iterator[Found]:
    """Factors most of whose numbers float16 rounds to zero."""
    small = [
        key
        for keys in evidence.halves.values()
        for key in keys.values()
        if 0 < evidence.largest.get(key, 0.0) < _SMALL * math.sqrt(evidence.tensors[key].size)
        and _mostly_lost(evidence.tensors[key])
    ]
    if small:
        yield Found(f"{len(small)} of {len(evidence.tensors)} tensors", tuple(small))


def same_update(prints: Sequence[Fingerprint]) -> Iterator[tuple[str, Found]]:
    """Adapters that make the same change as an earlier one of the list."""
    for later, earlier in _parallel(prints):
        if abs(later.norm / earlier.norm - 1) <= _SAME:
            yield later.path, Found(earlier.path)


def same_direction(prints: Sequence[Fingerprint]) -> Iterator[tuple[str, Found]]:
    """Adapters that make the change of an earlier one at another strength."""
    for later, earlier in _parallel(prints):
        factor = later.norm / earlier.norm
        if abs(factor - 1) > _SAME:
            yield later.path, Found(f"{factor:.3g} times {earlier.path}")


def _parallel(prints: Sequence[Fingerprint]) -> Iterator[tuple[Fingerprint, Fingerprint]]:
    """Each whose update points the way of an earlier one's, with the earliest of those."""
    seen: dict[str, list[Fingerprint]] = {}
    for later in prints:
        alike = seen.setdefault(later.places, [])
        for earlier in alike:
            apart = np.linalg.norm(later.direction - earlier.direction)
            if apart <= _SAME * np.linalg.norm(earlier.direction):
                yield later, earlier
                break
        else:
            alike.append(later)


def _same_numbers(first: Update, second: Update) -> bool:
    parts = zip(first.block.parts.values(), second.block.parts.values(), strict=True)
    return first.block.scale == second.block.scale and all(np.array_equal(one, other) for one, other in parts)


def _of_weights(updates: Iterable[Update]) -> list[Update]:
    return [update for update in updates if update.block.form == "lowrank"]


def _rms(updates: Sequence[Update]) -> float:
    count = sum(update.shape[0] * update.shape[1] for update in updates)
    return math.hypot(*(update.norm for update in updates)) / math.sqrt(count) if count else 0.0


def _mostly_lost(array: Array) -> bool:
    sizes = np.abs(array[array != 0])
    return bool(np.mean(sizes < _SMALLEST_HALF) > 0.5) if sizes.size else False


NUMBERS: tuple[Rule, ...] = (
    Rule(
        "all-zero",
        "error",
        "Every update is zero: the model with it is the base model.",
        "Train it: B starts at zero. If it was trained, it was saved before, or from the wrong object.",
        f"{ISSUES}/huggingface/peft/issues/1402",
        all_zero,
    ),
    Rule(
        "zero-blocks",
        "warning",
        "Some updates are zero while others are not.",
        "Look whether those layers were frozen, or gathered when it was saved.",
        f"{ISSUES}/huggingface/peft/issues/1402",
        some_zero,
    ),
    Rule(
        "too-large",
        "error",
        "Updates are larger than the weights of any trained model (a root mean square above 1): it diverged, or its "
        "scale is wrong.",
        "Take an earlier checkpoint, or train again with a smaller learning rate; check alpha.",
        "docs/check.md, measured",
        larger_than_weights,
    ),
    Rule(
        "too-small",
        "warning",
        "The updates are so small that weights in bfloat16 round them away: it was hardly trained.",
        "Train longer or with a larger learning rate; check alpha; do not merge it in sixteen bits.",
        f"{ISSUES}/unslothai/unsloth/issues/3091",
        faint,
    ),
    Rule(
        "near-zero-blocks",
        "warning",
        "Some updates are less than a thousandth of the middle one of their kind: those layers are dead.",
        "Look whether their gradients arrived; leave the layers out with layers_to_transform.",
        "docs/check.md, measured",
        near_zero,
    ),
    Rule(
        "duplicated-blocks",
        "warning",
        "Blocks of one kind hold the same numbers, which no training makes.",
        "Check the script that saved or converted it: one layer was written over another.",
        "docs/check.md",
        duplicated,
    ),
    Rule(
        "layer-gaps",
        "note",
        "Layers between others have no update, and the configuration does not say so.",
        "Right where the base model's layers differ in kind; else look for layers lost in saving.",
        "docs/check.md",
        gaps,
    ),
    Rule(
        "float16-overflow",
        "warning",
        "Numbers exceed 65504, float16's largest: in half precision they are infinite.",
        "Load it in bfloat16 or float32.",
        "IEEE 754-2019, binary16",
        too_large_for_half,
    ),
    Rule(
        "float16-underflow",
        "warning",
        "Most numbers of a factor are below 3e-8, which float16 rounds to zero.",
        "Load it in bfloat16 or float32, or multiply B and divide alpha by the same number.",
        "IEEE 754-2019, binary16",
        too_small_for_half,
    ),
    Rule(
        "unused-rank",
        "note",
        "At most half of the rank is used.",
        "A smaller rank does as much: cut it, or train with that r.",
        "https://arxiv.org/abs/2106.09685, section 7.2",
        unused_rank,
    ),
    Rule(
        "same-update",
        "warning",
        "It makes the same change as another of these adapters.",
        "Keep one; check that the right file was copied under this name.",
        "docs/check.md",
        among=same_update,
        needs="others",
    ),
    Rule(
        "same-direction",
        "warning",
        "It is another of these adapters at another strength: one of the two may have lost its alpha.",
        "Compare their alpha and rank.",
        f"{ISSUES}/huggingface/diffusers/pull/14409",
        among=same_direction,
        needs="others",
    ),
)
