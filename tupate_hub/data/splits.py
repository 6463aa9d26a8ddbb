"""Cut: examples into parts to train on, to choose by and to be scored on; seeded, stratified, copies kept together."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

from tupate_hub.data.examples import input_of

E = TypeVar("E", bound=Mapping[str, Any])

_SHARE = 0.1
_FEW = 5
MOST_HELD_OUT = 1000


def cut_splits(kind: str, splits: Mapping[str, Sequence[E]], seed: int) -> tuple[Sequence[E], Sequence[E], Sequence[E]]:
    """Examples to train on, to choose the checkpoint by and to be scored on.

    One split is cut by 80, 10 and 10 %. Otherwise test is scored on and validation chooses; where one of them is
    missing, the other is scored on and a tenth of train chooses. What is cut off is at most 1,000 examples, and no more
    than that chooses.
    """
    if len(splits) == 1:
        (examples,) = splits.values()
        size = _size(examples)
        kept, held, scored = ([examples[at] for at in part] for part in cut(kind, examples, (size, size), seed))
        return kept, held, scored
    train, validation = splits["train"], splits.get("validation")
    if "test" in splits and validation is not None:
        return train, [validation[at] for at in limited(kind, validation, MOST_HELD_OUT, seed)], splits["test"]
    kept, held = ([train[at] for at in part] for part in cut(kind, train, (_size(train),), seed))
    return kept, held, splits["test"] if validation is None else validation


def _size(examples: Sequence[Any]) -> int:
    """A tenth; of few examples a fifth, as far as that is five."""
    rows = len(examples)
    return min(MOST_HELD_OUT, max(1, round(_SHARE * rows), min(_FEW, rows // 5)))


def cut(kind: str, examples: Sequence[Mapping[str, Any]], sizes: Sequence[int], seed: int) -> list[list[int]]:
    """Indices of the training examples, then of parts of about the given sizes, each in the examples' order.

    Examples with the same input, or questions on the same context, go to one part, so that a part may be a little
    larger than asked; where that leaves a part without examples, only equal questions stay together.
    """
    parts = _cut(_groups([_origin(kind, example) for example in examples]), kind, examples, sizes, seed)
    if all(parts):
        return parts
    return _cut(_groups([input_of(kind, example) for example in examples]), kind, examples, sizes, seed)


def limited(kind: str, examples: Sequence[Mapping[str, Any]], most: int, seed: int) -> list[int]:
    """Indices of at most so many examples, in their order, with each class's share kept."""
    if len(examples) <= most:
        return list(range(len(examples)))
    return sorted(_spread([_stratum(kind, example) for example in examples], seed)[:most])


def _groups(keys: Sequence[Hashable]) -> list[list[int]]:
    groups: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    return list(groups.values())


def _cut(
    groups: Sequence[list[int]], kind: str, examples: Sequence[Mapping[str, Any]], sizes: Sequence[int], seed: int
) -> list[list[int]]:
    order = _spread([_stratum(kind, examples[group[0]]) for group in groups], seed)
    modest = [index for index in order if len(groups[index]) <= max(1, *sizes)]
    rest = {index for index in order if len(groups[index]) > max(1, *sizes)}
    parts = []
    for size in sizes:
        part: list[int] = []
        while modest and len(part) < size:
            part += groups[modest.pop()]
        parts.append(sorted(part))
    return [sorted(row for index in (*modest, *rest) for row in groups[index]), *parts]


def _spread(strata: Sequence[int], seed: int) -> list[int]:
    """Indices in an order of which every stretch has about the same share of each stratum; the first are in train."""
    rng = random.Random(f"tupate-hub cut:{seed}")
    members: defaultdict[int, list[int]] = defaultdict(list)
    for index, stratum in enumerate(strata):
        members[stratum].append(index)
    places = []
    for stratum in sorted(members):
        rng.shuffle(members[stratum])
        count = len(members[stratum])
        places += [((rank + 0.5) / count, rng.random(), index) for rank, index in enumerate(members[stratum])]
    return [index for _, _, index in sorted(places)]


def _stratum(kind: str, example: Mapping[str, Any]) -> int:
    if kind == "extractive_qa":
        return int(bool(example["answers"]["text"]))
    return int(example["label"]) if kind in ("classification", "multiple_choice") else 0


def _origin(kind: str, example: Mapping[str, Any]) -> Hashable:
    return example["context"] if kind == "extractive_qa" else input_of(kind, example)
